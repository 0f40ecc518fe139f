//! What does an opening leave alone? A folder it must refuse, a folder it only reads, and what was settled before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::damage::{OnFolder, copy_of, edit, folder, log_file};
use super::*;
use crate::error::{Error, Outcome};
use crate::storage::{PrivateDisk, file_name};

/// Every file with its bytes and the time of its last change.
type Files = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

fn files(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                let modified = entry.metadata().unwrap().modified().unwrap();
                files.insert(entry.path(), (fs::read(entry.path()).unwrap(), modified));
            }
        }
    }
    files
}

fn try_open(dir: &Path) -> Result<Arc<Broker>> {
    Broker::open(options(dir, config(FlushPolicy::Async)))
}

fn write(dir: &Path, path: &str, content: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn b2_log_files_of_two_sizes_are_refused_and_nothing_is_touched() {
    let (dir, _, _) = folder(true, 20);
    write(dir.path(), &format!("commitlog/{}", file_name(16_384)), &"\0".repeat(8_192));
    let before = files(dir.path());
    let error = try_open(dir.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Corrupt(_)), "{text}");
    assert!(text.contains("8192") && text.contains("16384") && text.contains(&file_name(16_384)), "{text}");
    assert!(files(dir.path()) == before);
}

#[test]
fn b2_queue_files_of_two_sizes_are_refused_and_nothing_is_touched() {
    let (dir, _, _) = folder(true, 120);
    write(dir.path(), &format!("consumequeue/orders/3/{}", file_name(0)), &"\0".repeat(400));
    write(dir.path(), &format!("consumequeue/orders/3/{}", file_name(400)), &"\0".repeat(400));
    let before = files(dir.path());
    let error = try_open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("400") && error.contains("1000"), "{error}");
    assert!(error.contains("consumequeue/orders"), "{error}");
    assert!(files(dir.path()) == before);
}

#[test]
fn b13_what_cannot_be_carried_is_refused_by_name_and_nothing_is_touched() {
    let cases: [(&str, OnFolder); 15] = [
        ("rocksdbstore", |dir| write(dir, "rocksdbstore/000012.sst", "x")),
        ("rocksdbstore", |dir| write(dir, "rocksdbstore/000003.log", "x")),
        ("RocksDB (consumequeue)", |dir| write(dir, "consumequeue/000012.sst", "x")),
        ("config/topics", |dir| write(dir, "config/topics/000004.log", "x")),
        ("BatchCQ", |dir| write(dir, "batchconsumequeue/orders/0/00000000000000000000", "x")),
        ("BatchCQ", |dir| {
            let topic = r#""orders":{"topicName":"orders","attributes":{"queue.type":"BatchCQ"}}"#;
            write(dir, "config/topics.json", &format!("{{\"topicConfigTable\":{{{topic}}}}}"));
        }),
        ("COMPACTION", |dir| {
            let topic = r#""orders":{"topicName":"orders","attributes":{"cleanup.policy":"COMPACTION"}}"#;
            write(dir, "config/topics.json", &format!("{{\"topicConfigTable\":{{{topic}}}}}"));
        }),
        ("COMPACTION", |dir| write(dir, "compaction/compactionLog/orders/0/00000000000000000000", "x")),
        ("topicQueueMapping.json", |dir| {
            let table = r#"{"topicQueueMappingInfoMap":{"orders":{"totalQueues":4}}}"#;
            write(dir, "config/topicQueueMapping.json", table);
        }),
        ("DLedger", |dir| write(dir, "dledger-n0/data/00000000000000000000", "x")),
        ("storePathCommitLog", |dir| write(dir, "broker.conf", "storePathCommitLog=/a,/b\n")),
        ("storeType=defaultRocksDB", |dir| write(dir, "broker.conf", "storeType=defaultRocksDB\n")),
        ("duplicationEnable", |dir| write(dir, "broker.conf", "duplicationEnable=true\n")),
        ("enableDLegerCommitLog", |dir| write(dir, "broker.conf", "enableDLegerCommitLog = true\n")),
        ("enableControllerMode", |dir| write(dir, "broker.conf", "enableControllerMode=TRUE\n")),
    ];
    let (dir, _, _) = folder(true, 20);
    for (feature, change) in cases {
        let copy = copy_of(dir.path());
        // As another broker leaves it.
        fs::remove_dir_all(copy.path().join("pocketmq")).unwrap();
        change(copy.path());
        let before = files(copy.path());
        let error = try_open(copy.path()).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{feature}: {error}");
        assert!(error.to_string().contains(feature), "{feature}: {error}");
        let after = files(copy.path());
        assert!(before.keys().eq(after.keys()), "{feature}");
        assert!(before == after && !copy.path().join("pocketmq").exists(), "{feature}");
    }
}

#[test]
fn b13_the_empty_traces_of_a_feature_that_is_not_used_are_no_reason_to_refuse() {
    let (dir, _, bodies) = folder(true, 20);
    write(dir.path(), "rocksdbstore/000003.log", "");
    write(dir.path(), "rocksdbstore/CURRENT", "MANIFEST-000001\n");
    write(dir.path(), "config/topicQueueMapping.json", r#"{"topicQueueMappingInfoMap":{}}"#);
    fs::create_dir_all(dir.path().join("config/topics")).unwrap();
    fs::create_dir_all(dir.path().join("batchconsumequeue/orders/0")).unwrap();
    fs::create_dir_all(dir.path().join("compaction/compactionLog")).unwrap();
    assert_found(&open(dir.path()), &bodies);
}

#[test]
fn b14_a_folder_that_is_only_read_shows_everything_and_not_a_byte_of_it_changes() {
    let (dir, places, bodies) = folder(false, 300);
    // The last record is torn, so that there is something that a real opening would cut off.
    let (start, size) = places[299];
    let (file, at) = (start / 16_384 * 16_384, start % 16_384);
    edit(&log_file(dir.path(), file as u64), |bytes| bytes[at + size - 1] ^= 1);
    write(dir.path(), "abort", "1");
    let before = files(dir.path());
    let reading = BrokerOptions {
        disk: Arc::new(PrivateDisk::new()),
        ..options(dir.path(), config(FlushPolicy::Async))
    };
    let broker = Broker::open(reading).unwrap();
    assert_found(&broker, &bodies[..299]);
    let name = TopicName::new("orders").unwrap();
    assert!(matches!(broker.set_topic(&name, TopicConfig::queues(1)), Err(Error::Unsupported(_))));
    assert!(matches!(broker.delete_topic(&name), Err(Error::Unsupported(_))));
    let topic = broker.topic("orders").unwrap();
    assert!(broker.put(&topic, 1, &message(b"no"), WaitForFlush::Yes).is_err());
    assert!(files(dir.path()) == before, "while it is open");
    let _ = broker.close();
    drop(broker);
    assert!(files(dir.path()) == before, "after it was closed");
}

#[test]
fn a_log_in_a_folder_of_its_own_is_found_again_through_broker_conf() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log_dir = elsewhere.path().join("disk/log");
    let apart =
        BrokerOptions { log_dir: Some(log_dir.clone()), ..options(dir.path(), config(FlushPolicy::Async)) };
    let broker = Broker::open(apart).unwrap();
    let mut bodies = fill(&broker, 300);
    broker.close().unwrap();
    drop(broker);
    assert!(fs::read_dir(&log_dir).unwrap().count() > 1);
    assert!(!dir.path().join("commitlog").exists());
    for (round, is_kill) in [(0, true), (1, false), (2, false)] {
        let broker = open(dir.path());
        assert_found(&broker, &bodies);
        let body = format!("later {round}");
        put(&broker, "orders", 1, body.as_bytes(), &format!("key-{}", bodies.len()));
        bodies.push(body);
        if is_kill {
            broker.kill();
        } else {
            broker.close().unwrap();
        }
    }
    assert!(!dir.path().join("commitlog").exists());
}

#[test]
fn b1_a_folder_keeps_the_sizes_of_its_files_whatever_the_settings_say() {
    let (dir, _, mut bodies) = folder(true, 120);
    fs::remove_file(dir.path().join("broker.conf")).unwrap();
    let sizes = FileSizes { commit_log: 65_536, consume_queue_units: 7, index_slots: 32, index_entries: 100 };
    let broker =
        Broker::open(options(dir.path(), StoreConfig { sizes, ..config(FlushPolicy::Async) })).unwrap();
    for n in 120..400 {
        let body = format!("message {n}");
        put(&broker, "orders", 1, body.as_bytes(), &format!("key-{n}"));
        bodies.push(body);
    }
    assert_eq!(super::bodies(&broker, "orders", 1), bodies);
    broker.close().unwrap();
    drop(broker);
    for (folder, size) in [("commitlog", 16_384), ("consumequeue/orders/1", 1_000)] {
        let lens: Vec<_> = fs::read_dir(dir.path().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert!(lens.len() > 3 && lens.iter().all(|len| *len == size), "{folder}: {lens:?}");
    }
    let conf = fs::read_to_string(dir.path().join("broker.conf")).unwrap();
    assert!(conf.contains("mappedFileSizeCommitLog=16384\n"), "{conf}");
    assert!(conf.contains("mappedFileSizeConsumeQueue=1000\n"), "{conf}");
    assert_eq!(super::bodies(&open(dir.path()), "orders", 1), bodies);
}

#[test]
fn recovery_twice_gives_the_same() {
    let (dir, places, bodies) = folder(false, 60);
    edit(&log_file(dir.path(), 0), |bytes| bytes[places[41].0 + 90] ^= 1);
    let broker = open(dir.path());
    assert!(broker.recovery().cut_bytes > 0);
    let end = broker.log_range().1;
    assert_found(&broker, &bodies[..41]);
    broker.kill();
    drop(broker);
    let log = fs::read(log_file(dir.path(), 0)).unwrap();
    let broker = open(dir.path());
    assert_eq!((broker.recovery().cut_bytes, broker.log_range().1), (0, end));
    assert!(broker.recovery().lost.is_empty());
    assert_found(&broker, &bodies[..41]);
    assert!(fs::read(log_file(dir.path(), 0)).unwrap() == log);
}

#[test]
fn t_k2_hosts_of_both_address_families_lie_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let name = TopicName::new("orders").unwrap();
    let topic = broker.add_topic(&name, TopicConfig::queues(4)).unwrap();
    let hosts = ["10.1.2.3:4567", "[2001:db8::7]:89", "127.0.0.1:0", "[::1]:65535"];
    for host in hosts {
        let message = PutMessage { born_host: host.parse().unwrap(), ..message(host.as_bytes()) };
        broker.put(&topic, 1, &message, WaitForFlush::Yes).unwrap();
    }
    drop(topic);
    broker.kill();
    drop(broker);
    let broker = open(dir.path());
    assert_eq!(bodies(&broker, "orders", 1), hosts);
    for (at, host) in (0..).zip(hosts) {
        let view = broker.message_in(&name, 1, QueueOffset::new(at)).unwrap().unwrap();
        assert_eq!(view.born_host(), host.parse().unwrap());
        assert_eq!(view.store_host(), broker.host());
        assert_eq!(view.sys_flag() & 0x30, if host.starts_with('[') { 0x10 } else { 0 });
    }
}

#[test]
fn t_k7_a_record_larger_than_a_log_file_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    put(&broker, "orders", 1, b"before", "k");
    let topic = broker.topic("orders").unwrap();
    let end = broker.log_range().1;
    let error = broker.put(&topic, 1, &message(&[7; 16_384]), WaitForFlush::Yes).unwrap_err();
    assert!(matches!(error, Error::MessageTooLarge { max: 16_376, .. }), "{error}");
    assert_eq!((error.outcome(), broker.log_range().1), (Outcome::NotStored, end));
    assert_eq!(put(&broker, "orders", 1, b"after", "k").queue_offset, QueueOffset::new(1));
    drop(topic);
    broker.kill();
    drop(broker);
    assert_eq!(bodies(&open(dir.path()), "orders", 1), ["before", "after"]);
}

#[test]
fn t_k9_a_deleted_topic_takes_only_its_own_queues_along() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let expected = fill(&broker, 60);
    // Names that begin alike, as a removal by prefix would take both.
    for topic in ["order", "orders2"] {
        for queue_id in 0..2 {
            put(&broker, topic, queue_id, b"other", "other");
        }
    }
    assert!(broker.delete_topic(&TopicName::new("order").unwrap()).unwrap());
    let check = |broker: &Broker| {
        assert!(broker.topic("order").is_none());
        assert!(broker.queue_list().iter().all(|(topic, _)| topic.as_str() != "order"));
        assert_found(broker, &expected);
        for queue_id in 0..2 {
            assert_eq!(bodies(broker, "orders2", queue_id), ["other"]);
        }
    };
    check(&broker);
    broker.close().unwrap();
    drop(broker);
    let queues = dir.path().join("consumequeue");
    assert!(!queues.join("order").exists() && queues.join("orders2/1").exists());
    check(&open(dir.path()));
}

#[test]
fn a_store_that_4_9_must_be_able_to_read_takes_no_record_of_the_second_version() {
    use crate::config::RocketmqVersion;
    for (version, len, taken) in [
        (RocketmqVersion::V4_9, 127, true),
        (RocketmqVersion::V4_9, 128, false),
        (RocketmqVersion::V5, 128, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { version, ..config(FlushPolicy::Async) };
        let broker = Broker::open(options(dir.path(), config)).unwrap();
        let name = TopicName::new(&format!("%RETRY%{}", "g".repeat(len - 7))).unwrap();
        let topic = broker.set_topic(&name, TopicConfig::queues(1)).unwrap();
        let stored = broker.put(&topic, 0, &message(b"x"), WaitForFlush::Yes);
        assert_eq!(stored.is_ok(), taken, "{version:?} {len}");
        if let Err(error) = stored {
            assert!(error.to_string().contains("rocketmq_version(V5)"), "{error}");
            assert_eq!(error.outcome(), Outcome::NotStored);
            assert_eq!(broker.log_range().1, PhysicalOffset::ZERO);
        }
    }
}
