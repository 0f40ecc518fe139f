//! Can one failure, at whatever step it comes, do harm that lasts?

use super::damage::copy_of;
use super::disk::{POLICIES, commit, committed, open_faulty, open_sound, position_key, send_many};
use super::*;
use crate::error::Error;
use crate::storage::faulty::Operation;
use crate::types::GroupName;

pub(super) const OPERATIONS: [Operation; 9] = [
    Operation::MapSync,
    Operation::FileSync,
    Operation::DirSync,
    Operation::FilesystemSync,
    Operation::Allocate,
    Operation::Create,
    Operation::Rename,
    Operation::Remove,
    Operation::Map,
];

/// Makes a folder as a kill leaves it, with queues and positions that are not on disk.
fn killed() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let mut taken = Vec::new();
    send_many(&broker, &mut taken, 120);
    broker.flush().unwrap();
    send_many(&broker, &mut taken, 120);
    commit(&broker, 77);
    broker.kill();
    (dir, taken)
}

#[test]
fn e8_an_opening_that_fails_at_any_step_loses_nothing_for_the_next_one() {
    let (dir, taken) = killed();
    for operation in OPERATIONS {
        for earlier in 0.. {
            let copy = copy_of(dir.path());
            let disk = crate::storage::faulty::FaultyDisk::new(Arc::new(RealDisk));
            disk.faults().fail_after(operation, earlier);
            let faults = Arc::clone(disk.faults());
            let options =
                BrokerOptions { disk: Arc::new(disk), ..options(copy.path(), config(FlushPolicy::Async)) };
            let opened = Broker::open(options);
            let what = format!("{operation:?} {earlier}");
            let asked = faults.count(operation);
            if let Ok(broker) = opened {
                assert_eq!(committed(&broker), 77, "{what}");
                broker.kill();
            } else {
                assert!(copy.path().join("abort").exists(), "{what}");
            }
            let broker = open_sound(copy.path(), FlushPolicy::Async);
            assert_eq!(broker.recovery().last_stop, LastStop::Crash, "{what}");
            assert!(!broker.recovery().foreign, "{what}");
            assert_eq!(bodies(&broker, "orders", 1), taken, "{what}");
            assert_eq!(committed(&broker), 77, "{what}");
            broker.kill();
            if asked <= earlier {
                break;
            }
        }
    }
}

#[test]
fn d4_a_full_disk_at_opening_takes_nothing_away() {
    let (dir, taken) = killed();
    let disk = crate::storage::faulty::FaultyDisk::new(Arc::new(RealDisk));
    let faults = Arc::clone(disk.faults());
    faults.fill_within("");
    let options = BrokerOptions { disk: Arc::new(disk), ..options(dir.path(), config(FlushPolicy::Async)) };
    assert!(matches!(Broker::open(options.clone()), Err(Error::StoreFull(_))));
    assert!(dir.path().join("abort").exists());
    faults.heal();
    let broker = Broker::open(options).unwrap();
    assert_found(&broker, &taken);
    assert_eq!(committed(&broker), 77);
}

#[test]
fn d5_an_opening_whose_sync_of_the_log_fails_leaves_the_rewriting_to_the_next_one() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, faults) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 30);
        broker.flush().unwrap();
        let durable = broker.log_range().1.get();
        faults.fail_within(Operation::MapSync, "commitlog/");
        let _ = super::try_put(&broker, "orders", 1, b"message 30", "key-30");
        taken.push("message 30".to_owned());
        let end = broker.log_range().1.get();
        assert!(broker.close().is_err());
        drop(broker);
        for _ in 0..2 {
            let disk = crate::storage::faulty::FaultyDisk::new(Arc::new(RealDisk));
            disk.faults().fail_within(Operation::MapSync, "commitlog/");
            let options = BrokerOptions { disk: Arc::new(disk), ..options(dir.path(), config(flush)) };
            assert!(Broker::open(options).is_err());
            assert!(dir.path().join("abort").exists());
        }
        let broker = open_sound(dir.path(), flush);
        assert_eq!(broker.recovery().rewritten_bytes, end - durable);
        assert_found(&broker, &taken);
    }
}

fn put_batch(broker: &Broker, count: usize, taken: &mut Vec<String>) {
    let topic = broker.topic("orders").unwrap();
    let bodies: Vec<_> = (taken.len()..taken.len() + count).map(|n| format!("message {n}")).collect();
    let properties: Vec<_> =
        (taken.len()..taken.len() + count).map(|n| format!("KEYS\u{1}key-{n}\u{2}")).collect();
    let messages: Vec<_> = bodies
        .iter()
        .zip(&properties)
        .map(|(body, properties)| PutMessage {
            flag: 0,
            sys_flag: SysFlag::NONE,
            now_millis: None,
            born_millis: 1,
            born_host: "127.0.0.1:0".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: PhysicalOffset::ZERO,
            body: body.as_bytes(),
            properties: properties.as_bytes(),
            index_texts: IndexTexts::of(Properties::new(properties.as_bytes())),
            tags_code: 0,
        })
        .collect();
    broker.put_batch(&topic, 1, &messages, WaitForFlush::Yes).unwrap();
    taken.extend(bodies);
}

#[test]
fn d6_a_message_whose_queue_cannot_be_written_is_stored_and_seen_as_soon_as_it_can() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, faults) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 40);
        // The units of a batch go into two files, of which the second one cannot be mapped.
        faults.fail_within(Operation::Map, "consumequeue");
        put_batch(&broker, 20, &mut taken);
        assert!(bodies(&broker, "orders", 1).len() < taken.len());
        assert!(matches!(broker.health(), Health::Degraded(_)), "{:?}", broker.health());
        faults.heal();
        broker.flush().unwrap();
        assert_found(&broker, &taken);
        assert_eq!(broker.health(), Health::Ok);
        send_many(&broker, &mut taken, 3);
        assert_found(&broker, &taken);
        broker.kill();
        drop(broker);
        assert_found(&open_sound(dir.path(), flush), &taken);
    }
}

#[test]
fn d10_positions_whose_file_could_not_be_synced_are_written_anew_each_in_its_own_cell() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
    let mut taken = Vec::new();
    send_many(&broker, &mut taken, 60);
    let keys: Vec<_> = (0..40_u64)
        .map(|n| PositionKey { group: GroupName::new(&format!("group{n}")).unwrap(), ..position_key() })
        .collect();
    let commit_all = |base: u64| {
        for (n, key) in keys.iter().enumerate() {
            let position = broker.positions().position(key, QueueOffset::ZERO).unwrap();
            broker.positions().commit(&position, QueueOffset::new(base + n as u64)).unwrap();
        }
    };
    commit_all(0);
    broker.flush().unwrap();
    commit_all(10);
    faults.fail_within(Operation::MapSync, "pocketmq/positions");
    for _ in 0..3 {
        assert!(matches!(broker.flush(), Err(Error::OffsetNotPersisted(_))));
        commit_all(15);
    }
    let copy = copy_of(dir.path());
    let check = |broker: &Broker, base: u64| {
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(broker.positions().get(key).unwrap().get().get(), base + n as u64);
        }
    };
    check(&open_sound(copy.path(), FlushPolicy::Async), 15);
    faults.heal();
    faults.take_asked();
    broker.flush().unwrap();
    let renamed = |(asked, path): &(Operation, std::path::PathBuf)| {
        *asked == Operation::Rename && path.ends_with("pocketmq/positions")
    };
    assert!(faults.take_asked().iter().any(renamed), "the old file's pages are not believed");
    commit_all(20);
    broker.kill();
    drop(broker);
    check(&open_sound(dir.path(), FlushPolicy::Async), 20);
}

#[test]
fn d10_a_file_of_positions_that_grew_is_the_one_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
    let mut taken = Vec::new();
    send_many(&broker, &mut taken, 9);
    faults.fail_once_within(Operation::DirSync, "pocketmq");
    let keys: Vec<_> = (0..1_800)
        .map(|n| PositionKey { group: GroupName::new(&format!("group{n}")).unwrap(), ..position_key() })
        .collect();
    let mut refused = 0;
    for key in &keys {
        refused += usize::from(broker.positions().position(key, QueueOffset::ZERO).is_err());
    }
    assert_eq!(refused, 1, "the growing was told to have failed");
    for key in &keys {
        let position = broker.positions().position(key, QueueOffset::ZERO).unwrap();
        broker.positions().commit(&position, QueueOffset::new(8)).unwrap();
    }
    broker.kill();
    drop(broker);
    let broker = open_sound(dir.path(), FlushPolicy::Async);
    assert!(keys.iter().all(|key| broker.positions().get(key).unwrap().get().get() == 8));
}

#[test]
fn d1_what_threads_were_told_is_stored_survives_a_kill_in_the_middle() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { background: Background::Threads, ..config(flush) };
        let broker = Broker::open(options(dir.path(), config)).unwrap();
        put(&broker, "orders", 0, b"first", "k");
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let broker = Arc::clone(&broker);
                std::thread::spawn(move || {
                    let mut acked = Vec::new();
                    for n in 0..100_000 {
                        let body = format!("{sender}-{n}");
                        match super::try_put(&broker, "orders", sender, body.as_bytes(), "k") {
                            Ok(_) => acked.push(body),
                            Err(_) => break,
                        }
                    }
                    acked
                })
            })
            .collect();
        while broker.log_range().1.get() < 60_000 {
            std::thread::yield_now();
        }
        broker.kill();
        let acked: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        drop(broker);
        let broker = open_sound(dir.path(), flush);
        for (queue_id, acked) in acked.iter().enumerate() {
            let mut found = bodies(&broker, "orders", queue_id as u32);
            found.retain(|body| body != "first");
            assert!(found.starts_with(acked), "{} of {}", found.len(), acked.len());
            assert!(found.len() <= acked.len() + 1, "one that was under way at most");
        }
    }
}
