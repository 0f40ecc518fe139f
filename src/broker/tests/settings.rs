//! What happens when the settings files, or our own notes, are broken, old, or somebody else's?

use std::fs;
use std::path::Path;

use super::damage::{copy_of, edit, folder};
use super::*;
use crate::config::OnMissingOffsets;
use crate::error::Error;
use crate::types::GroupName;

const OFFSETS: &str = "config/consumerOffset.json";
const TOPICS: &str = "config/topics.json";

fn key(group: &str, queue_id: u32) -> PositionKey {
    PositionKey { topic: TopicName::new("orders").unwrap(), group: GroupName::new(group).unwrap(), queue_id }
}

fn position(broker: &Broker, group: &str) -> Option<u64> {
    broker.positions().get(&key(group, 1)).map(|position| position.get().get())
}

/// A folder with 20 messages and a group that has consumed 12, closed cleanly.
fn consumed() -> tempfile::TempDir {
    let (dir, _, _) = folder(true, 20);
    let broker = open(dir.path());
    let position = broker.positions().position(&key("billing", 1), QueueOffset::ZERO).unwrap();
    broker.positions().commit(&position, QueueOffset::new(12)).unwrap();
    broker.close().unwrap();
    dir
}

fn open_choosing(dir: &Path, choice: OnMissingOffsets) -> crate::error::Result<Arc<Broker>> {
    Broker::open(options(dir, StoreConfig { on_missing_offsets: choice, ..config(FlushPolicy::Async) }))
}

fn replace(path: &Path, text: &str) {
    edit(path, |bytes| *bytes = text.as_bytes().to_vec());
}

#[test]
fn d10_a_committed_position_survives_a_kill_at_once() {
    let dir = consumed();
    let broker = open(dir.path());
    let held = broker.positions().get(&key("billing", 1)).unwrap();
    broker.positions().commit(&held, QueueOffset::new(17)).unwrap();
    broker.kill();
    drop(broker);
    assert_eq!(position(&open(dir.path()), "billing"), Some(17));
}

#[test]
fn c36_d11_broken_positions_are_refused_with_the_files_name_and_never_reset_silently() {
    let dir = consumed();
    let good = fs::read(dir.path().join(OFFSETS)).unwrap();
    fs::remove_file(dir.path().join(format!("{OFFSETS}.bak"))).unwrap();
    for len in (0..good.len()).step_by(7) {
        let copy = copy_of(dir.path());
        edit(&copy.path().join(OFFSETS), |bytes| bytes.truncate(len));
        let error = open_choosing(copy.path(), OnMissingOffsets::Refuse).unwrap_err();
        assert!(matches!(error, Error::OffsetsUnreadable(_)), "{len}: {error}");
        assert!(error.to_string().contains("consumerOffset.json"), "{error}");
    }
    fs::remove_file(dir.path().join(OFFSETS)).unwrap();
    assert!(matches!(open_choosing(dir.path(), OnMissingOffsets::Refuse), Err(Error::OffsetsUnreadable(_))));
    for (choice, at) in [(OnMissingOffsets::Earliest, 0), (OnMissingOffsets::Latest, 20)] {
        let copy = copy_of(dir.path());
        let broker = open_choosing(copy.path(), choice).unwrap();
        assert_eq!(position(&broker, "billing"), Some(at), "{choice:?}");
        broker.close().unwrap();
        assert_eq!(position(&open(copy.path()), "billing"), Some(at), "the choice is written down");
    }
}

#[test]
fn d11_a_broken_file_with_a_backup_goes_back_to_the_older_positions() {
    let dir = consumed();
    let backup = r#"{"offsetTable":{"orders@billing":{"1":5}}}"#;
    let path = dir.path().join(format!("{OFFSETS}.bak"));
    if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    RealDisk.write_new(&path, backup.as_bytes()).unwrap();
    replace(&dir.path().join(OFFSETS), "{\"offsetTable\":");
    let broker = open(dir.path());
    assert_eq!(position(&broker, "billing"), Some(5));
    assert!(broker.recovery().warnings.iter().any(|warning| warning.contains("backup")));
}

#[test]
fn c37_what_rocketmq_writes_is_read_and_members_that_we_do_not_know_are_kept() {
    let dir = consumed();
    let theirs = "\u{feff}{\"dataVersion\":{\"counter\":7},\r\n\"pullOffsetTable\":{\"orders@billing\":{0:3}},\
        \"offsetTable\":{\"orders@billing\":{0:1,1:9},\"orders@late@broadcast\":{1:4},\"bad name@x\":{0:1}}}";
    replace(&dir.path().join(OFFSETS), theirs);
    let broker = open(dir.path());
    assert!(broker.recovery().foreign, "another broker wrote here");
    assert_eq!(position(&broker, "billing"), Some(9), "the JSON wins");
    broker.close().unwrap();
    let text = fs::read_to_string(dir.path().join(OFFSETS)).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["pullOffsetTable"]["orders@billing"]["0"], 3);
    assert_eq!(value["dataVersion"]["counter"], 7);
    assert_eq!(value["offsetTable"]["orders@late@broadcast"]["1"], 4);
    assert_eq!(value["offsetTable"]["bad name@x"]["0"], 1);
    assert_eq!(value["offsetTable"]["orders@billing"]["1"], 9);
}

#[test]
fn c37_c38_other_json_is_refused_and_never_a_panic() {
    let dir = consumed();
    let backup = dir.path().join(format!("{OFFSETS}.bak"));
    if backup.exists() {
        fs::remove_file(backup).unwrap();
    }
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for text in ["null", "[]", "5", "\"x\"", "{\"a\":1e400}", "{\"a\":}", &deep, "{\"offsetTable\":{{}}}"] {
        let copy = copy_of(dir.path());
        replace(&copy.path().join(OFFSETS), text);
        assert!(
            matches!(open_choosing(copy.path(), OnMissingOffsets::Refuse), Err(Error::OffsetsUnreadable(_))),
            "{:.40}",
            text
        );
    }
    for text in [
        "{}",
        "{\"offsetTable\":5}",
        "{\"offsetTable\":{\"orders@billing\":{\"1\":-1,\"x\":3,\"2\":\"many\"}}}",
    ] {
        let copy = copy_of(dir.path());
        replace(&copy.path().join(OFFSETS), text);
        assert_eq!(position(&open(copy.path()), "billing"), None, "{text}");
    }
}

#[test]
fn c40_a_position_beyond_the_end_is_brought_back_with_a_warning() {
    let dir = consumed();
    replace(
        &dir.path().join(OFFSETS),
        r#"{"offsetTable":{"orders@billing":{"1":900},"gone@billing":{"0":5}}}"#,
    );
    let broker = open(dir.path());
    assert_eq!(position(&broker, "billing"), Some(20));
    assert!(broker.recovery().warnings.iter().any(|warning| warning.contains("was at 900")));
    broker.kill();
    drop(broker);
    assert_eq!(position(&open(dir.path()), "billing"), Some(20), "lowered before the first append");
}

#[test]
fn c36_c41_topics_fall_back_to_their_backup_and_refuse_only_the_bad_entry() {
    let (dir, _, bodies) = folder(true, 20);
    let text = r#"{"dataVersion":{"counter":3},"extra":[1],"topicConfigTable":{
        "orders":{"topicName":"orders","readQueueNums":9,"writeQueueNums":8,"perm":4,"order":true,"mine":"kept"},
        "no good/../x":{"perm":6}}}"#;
    let path = dir.path().join(TOPICS);
    replace(&path, text);
    let broker = open(dir.path());
    let config = broker.topic("orders").unwrap().config();
    assert_eq!((config.read_queues, config.write_queues, config.permission.bits()), (9, 8, 4));
    assert!(broker.topic("no good/../x").is_none());
    assert!(broker.recovery().warnings.iter().any(|warning| warning.contains("no good")));
    assert_eq!(super::bodies(&broker, "orders", 1), bodies);
    broker.set_topic(&TopicName::new("new").unwrap(), TopicConfig::queues(1)).unwrap();
    broker.close().unwrap();
    let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!((&value["extra"][0], &value["dataVersion"]["counter"]), (&1.into(), &4.into()));
    let table = &value["topicConfigTable"];
    assert_eq!((&table["orders"]["mine"], &table["orders"]["order"]), (&"kept".into(), &true.into()));
    assert_eq!(table["no good/../x"]["perm"], 6, "the entry stays in the file");
    replace(&path, "{");
    assert!(open(dir.path()).topic("orders").is_some(), "the backup has it");
}

#[test]
fn d18_a_topic_that_is_missing_from_the_file_is_restored_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    put(&broker, "orders", 6, b"hello", "k");
    broker.kill();
    drop(broker);
    let broker = open(dir.path());
    assert!(broker.topic("orders").unwrap().config().write_queues >= 7);
    assert_eq!(super::bodies(&broker, "orders", 6), ["hello"]);
    broker.close().unwrap();
    assert!(fs::read_to_string(dir.path().join(TOPICS)).unwrap().contains("\"orders\""));
}

#[test]
fn d20_a_deleted_topic_stays_deleted_and_starts_empty_when_it_is_made_again() {
    let (dir, _, _) = folder(true, 20);
    let name = TopicName::new("orders").unwrap();
    let broker = open(dir.path());
    broker.delete_topic(&name).unwrap();
    broker.kill();
    drop(broker);
    fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    let broker = open(dir.path());
    assert!(broker.topic("orders").is_none(), "a rebuild does not bring it back");
    assert!(broker.query_by_key(&name, "key-3", 0..=i64::MAX, 9).unwrap().is_empty());
    assert_eq!(put(&broker, "orders", 1, b"anew", "k").queue_offset, QueueOffset::ZERO);
    broker.heal_queue(&name, 1).unwrap();
    assert_eq!(super::bodies(&broker, "orders", 1), ["anew"]);
    broker.kill();
    drop(broker);
    fs::remove_file(dir.path().join("pocketmq/owner")).unwrap();
    let broker = open(dir.path());
    assert!(broker.recovery().foreign);
    assert_eq!(super::bodies(&broker, "orders", 1), ["anew"]);
}

#[test]
fn c32_a_checkpoint_of_any_kind_does_no_harm() {
    let (dir, _, bodies) = folder(true, 20);
    let changes: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes.fill(0),
        |bytes| bytes.fill(0xFF),
        |bytes| bytes[..24].fill(0x7F),
        Vec::clear,
        |bytes| bytes.truncate(4_095),
        |bytes| bytes.resize(8_192, 0),
    ];
    for change in changes {
        for owner in [true, false] {
            let copy = copy_of(dir.path());
            edit(&copy.path().join("checkpoint"), change);
            if !owner {
                fs::remove_file(copy.path().join("pocketmq/owner")).unwrap();
            }
            assert_eq!(super::bodies(&open(copy.path()), "orders", 1), bodies);
            assert_eq!(fs::metadata(copy.path().join("checkpoint")).unwrap().len(), 4_096);
        }
    }
    fs::remove_file(dir.path().join("checkpoint")).unwrap();
    fs::create_dir(dir.path().join("checkpoint")).unwrap();
    assert!(
        Broker::open(options(dir.path(), config(FlushPolicy::Async))).is_err(),
        "a folder in its place is an error"
    );
}

#[test]
fn design_11_a_lock_that_another_broker_touched_makes_the_json_win() {
    let dir = consumed();
    let lock = fs::File::options().write(true).open(dir.path().join("lock")).unwrap();
    lock.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let broker = open(dir.path());
    assert!(broker.recovery().foreign);
    assert_eq!((broker.recovery().records, position(&broker, "billing")), (20, Some(12)));
    broker.close().unwrap();
    assert!(!open(dir.path()).recovery().foreign, "it is ours again");
}

#[test]
fn design_9_our_checksum_is_not_demanded_of_what_another_broker_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let plain = StoreConfig { checksum: RecordChecksum::BodyOnly, ..config(FlushPolicy::Async) };
    let broker = Broker::open(options(dir.path(), plain)).unwrap();
    let bodies = fill(&broker, 20);
    broker.close().unwrap();
    // As RocketMQ leaves it: no checksum of the whole record, and the lock touched.
    let lock = fs::File::options().write(true).open(dir.path().join("lock")).unwrap();
    lock.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    for _ in 0..2 {
        let broker = open(dir.path());
        assert_eq!(super::bodies(&broker, "orders", 1)[..20], bodies);
        put(&broker, "orders", 1, b"with checksum", "k");
        broker.close().unwrap();
    }
}

#[test]
fn d20_a_record_of_a_deleted_topic_that_waits_for_its_flush_never_reaches_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(options(dir.path(), config(FlushPolicy::Sync))).unwrap();
    let name = TopicName::new("orders").unwrap();
    let topic = broker.add_topic(&name, TopicConfig::queues(1)).unwrap();
    broker.put(&topic, 0, &message(b"old"), WaitForFlush::No).unwrap();
    broker.delete_topic(&name).unwrap();
    let topic = broker.add_topic(&name, TopicConfig::queues(1)).unwrap();
    assert_eq!(
        broker.put(&topic, 0, &message(b"new"), WaitForFlush::Yes).unwrap().queue_offset,
        QueueOffset::ZERO
    );
    assert_eq!(super::bodies(&broker, "orders", 0), ["new"]);
}

#[test]
fn d20_the_mark_of_a_deletion_does_not_cover_what_is_stored_after_a_power_loss() {
    let (dir, places, _) = folder(false, 20);
    let broker = open(dir.path());
    broker.delete_topic(&TopicName::new("orders").unwrap()).unwrap();
    broker.kill();
    drop(broker);
    // The log loses its unflushed tail, the mark of the deletion was synced.
    edit(&super::damage::log_file(dir.path(), 0), |bytes| bytes[places[5].0..].fill(0));
    fs::remove_file(dir.path().join("pocketmq/watermark")).unwrap();
    let broker = open(dir.path());
    assert_eq!(put(&broker, "orders", 1, b"anew", "key-x").queue_offset, QueueOffset::ZERO);
    broker.kill();
    drop(broker);
    fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    let broker = open(dir.path());
    assert_eq!(super::bodies(&broker, "orders", 1), ["anew"]);
    let name = TopicName::new("orders").unwrap();
    assert_eq!(broker.query_by_key(&name, "key-x", 0..=i64::MAX, 9).unwrap().len(), 1);
}

#[test]
fn d11_positions_behind_a_damaged_entry_come_from_the_json() {
    let dir = consumed();
    let broker = open(dir.path());
    for (group, at) in [("audit", 5), ("mailer", 7)] {
        let held = broker.positions().position(&key(group, 1), QueueOffset::ZERO).unwrap();
        broker.positions().commit(&held, QueueOffset::new(at)).unwrap();
    }
    broker.close().unwrap();
    // The second of three entries loses its name.
    let first_len = 24 + "orders".len() + "billing".len();
    let second = 64 + first_len.next_multiple_of(8);
    edit(&dir.path().join("pocketmq/positions"), |bytes| bytes[second + 26] ^= 1);
    let broker = open(dir.path());
    let found = ["billing", "audit", "mailer"].map(|group| position(&broker, group));
    assert_eq!(found, [Some(12), Some(5), Some(7)]);
    assert!(broker.recovery().warnings.iter().any(|warning| warning.contains("positions is damaged")));
}
