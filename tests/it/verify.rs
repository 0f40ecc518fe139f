//! Does a verification find everything that is wrong, nothing that is not, and change nothing?

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pocketmq::testing::TestStore;
use pocketmq::{Error, FileSizes, LastStop, Message, TopicConfig, VerifyReport, verify};

const SIZES: FileSizes =
    FileSizes { commit_log: 65_536, consume_queue_units: 50, index_slots: 16, index_entries: 128 };

fn filled() -> TestStore {
    let store = TestStore::builder(|builder| builder.file_sizes(SIZES).free_space_min(0));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    for number in 0..500_u32 {
        let body = format!("{number} {}", "x".repeat(number as usize % 300));
        producer.send(Message::new("orders", body).key(format!("key-{number}"))).unwrap();
    }
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    consumer.try_recv().unwrap().unwrap().ack().unwrap();
    drop(consumer);
    store
}

fn check(dir: &Path) -> VerifyReport {
    verify(dir, |_| ()).unwrap()
}

/// Every file with its content.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}

fn flip(path: &Path, position: usize) {
    let mut content = fs::read(path).unwrap();
    content[position] ^= 1;
    fs::write(path, content).unwrap();
}

#[test]
fn a_sound_folder_is_sound_after_a_clean_stop_after_a_crash_and_as_a_snapshot() {
    let store = filled();
    let place = store.path().with_file_name("copy");
    store.snapshot(&place).unwrap();
    let copy = check(&place);
    assert!(copy.is_sound() && copy.brokers[0].warnings.is_empty(), "{copy}");
    assert_eq!((copy.brokers[0].records, copy.brokers[0].last_stop), (500, LastStop::Clean));
    let folder = store.kill_into_folder();
    let before = everything(&folder.path());
    let crashed = check(&folder.path());
    assert!(crashed.is_sound(), "{crashed}");
    assert_eq!((crashed.brokers[0].records, crashed.brokers[0].last_stop), (500, LastStop::Crash));
    assert!(before == everything(&folder.path()), "something was changed");
    let store = folder.open().unwrap();
    store.close().unwrap();
    let clean = check(&store.path());
    assert!(clean.is_sound() && clean.brokers[0].pending_units == 0, "{clean}");
    assert_eq!(clean.brokers[0].end, store.brokers()[0].log_range().end);
}

#[test]
fn damage_in_the_log_is_found_wherever_it_is_and_nothing_is_changed() {
    let store = filled();
    store.close().unwrap();
    let broker = store.path().join("broker-a");
    // A body in the first file, which an opening after a clean stop does not read.
    flip(&broker.join("commitlog/00000000000000000000"), 1_000);
    let before = everything(&store.path());
    let report = check(&store.path());
    assert!(!report.is_sound(), "{report}");
    assert_eq!(report.brokers[0].lost.len(), 1, "{report}");
    assert_eq!(report.brokers[0].records, 499, "only one message is lost: {report}");
    assert!(before == everything(&store.path()), "something was changed");
}

#[test]
fn c21_queues_that_say_something_else_than_the_log_are_found() {
    let store = filled();
    store.close().unwrap();
    let queue = store.path().join("broker-a/consumequeue/orders/0");
    // The tag of one unit, and a whole file in the middle.
    flip(&queue.join("00000000000000000000"), 20 * 7 + 19);
    let report = check(&store.path());
    assert_eq!((report.brokers[0].faults, report.brokers[0].lost.len()), (1, 0), "{report}");
    assert!(report.to_string().contains("lists another message at 7"), "{report}");
    let mut content = fs::read(queue.join("00000000000000003000")).unwrap();
    content.fill(0);
    fs::write(queue.join("00000000000000003000"), content).unwrap();
    let report = check(&store.path());
    assert_eq!(report.brokers[0].faults, 51, "{report}");
    assert!(!report.is_sound());
}

#[test]
fn c27_keys_that_the_index_lists_wrongly_or_not_at_all_are_found() {
    let store = filled();
    store.close().unwrap();
    let index = store.path().join("broker-a/index");
    let mut files: Vec<_> = fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (first, second) = (&files[0], &files[1]);
    // 40 bytes of header, 16 slots, entries of 20 bytes that begin with the hash of the key; number 0 is none.
    let entry = |number: usize| 40 + 16 * 4 + number * 20;
    let before = fs::read(second).unwrap();
    flip(second, entry(30));
    let report = check(&store.path());
    assert!(report.brokers[0].faults >= 1 && report.to_string().contains("keys"), "{report}");
    assert!(report.brokers[0].lost.is_empty());
    fs::write(second, before).unwrap();
    assert!(check(&store.path()).is_sound());
    // A whole file of it: every message in it lacks its keys.
    fs::remove_file(second).unwrap();
    let report = check(&store.path());
    assert!(report.brokers[0].faults > 10, "{report}");
    assert!(first.exists());
}

#[test]
fn a_verification_says_how_far_it_has_come_and_refuses_what_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(verify(dir.path(), |_| ()), Err(Error::InvalidConfig { field: "dir", .. })));
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    let store = TestStore::builder(|builder| builder.free_space_min(0).max_message_size(16 << 20));
    let producer = store.producer("shop").unwrap();
    for _ in 0..20 {
        producer.send(Message::new("orders", vec![7; 10 << 20])).unwrap();
    }
    store.close().unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&told);
    let report = verify(store.path(), move |progress| {
        assert!(progress.done_bytes <= progress.total_bytes);
        counted.fetch_add(1, Ordering::Relaxed);
    });
    assert!(report.unwrap().is_sound());
    assert!(told.load(Ordering::Relaxed) >= 2);
}
