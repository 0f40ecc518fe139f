//! What is left of a snapshot that fails at some step, and of a store that was copied at that moment?

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::super::tests::{assert_found, config, fill, open, options, put};
use super::*;
use crate::broker::PositionKey;
use crate::config::FlushPolicy;
use crate::storage::RealDisk;
use crate::storage::faulty::{FaultyDisk, Operation};
use crate::sync::Mutex;
use crate::types::{GroupName, QueueOffset, TopicName};

/// A broker with files of every kind, on a disk that fails when told.
fn broker(dir: &Path) -> (Arc<Broker>, Arc<FaultyDisk>, Vec<String>) {
    let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk)));
    let mut options = options(&dir.join("store"), config(FlushPolicy::Async));
    options.disk = disk.clone();
    let broker = Broker::open(options).unwrap();
    let expected = fill(&broker, 300);
    (broker, disk, expected)
}

fn snapshot(broker: &Broker, dir: &Path) -> Result<BrokerSnapshot> {
    RealDisk.create_dir_all(dir).unwrap();
    broker.snapshot(&SnapshotPlace { disk: broker.disk(), dir, final_dir: dir })
}

#[test]
fn a_snapshot_that_fails_at_any_step_leaves_no_log_and_the_store_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, disk, mut expected) = broker(dir.path());
    let place = |number: u64| dir.path().join(format!("copy-{number}"));
    let mut number = 0;
    let mut failed = BTreeSet::new();
    for operation in [
        Operation::FileSync,
        Operation::DirSync,
        Operation::Allocate,
        Operation::Create,
        Operation::Copy,
        Operation::Rename,
        Operation::Map,
    ] {
        for earlier in 0.. {
            number += 1;
            disk.faults().fail_nth_within(operation, &format!("copy-{number}"), earlier);
            let result = snapshot(&broker, &place(number));
            disk.faults().heal();
            if result.is_ok() {
                break;
            }
            failed.insert(format!("{operation:?}"));
            let is_broker = place(number).join("commitlog").exists();
            // The last step of all is to get the new name to disk.
            assert!(!is_broker || operation == Operation::DirSync, "{operation:?} after {earlier}");
            expected.push(format!("message {}", expected.len()));
            let (key, body) = (format!("key-{}", expected.len() - 1), expected.last().unwrap());
            put(&broker, "orders", 1, body.as_bytes(), &key);
        }
    }
    assert_eq!(failed.len(), 7, "{failed:?}");
    assert_eq!(broker.health(), crate::broker::Health::Ok);
    assert_found(&broker, &expected);
    snapshot(&broker, &dir.path().join("last")).unwrap();
    assert_found(&open(&dir.path().join("last")), &expected);
}

#[test]
fn d4_a_snapshot_that_does_not_fit_says_so_and_takes_no_room_that_the_store_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk)));
    let mut config = config(FlushPolicy::Async);
    config.free_space_min = Some(1 << 20);
    let mut options = options(&dir.path().join("store"), config);
    options.disk = disk.clone();
    let broker = Broker::open(options).unwrap();
    fill(&broker, 300);
    for room in [0, 20_000, 1 << 20] {
        disk.faults().set_room(Some(room));
        let error = snapshot(&broker, &dir.path().join(format!("copy-{room}"))).unwrap_err();
        assert!(matches!(error, Error::StoreFull(_)), "{error}");
    }
    disk.faults().set_room(Some(2 << 20));
    snapshot(&broker, &dir.path().join("copy")).unwrap();
    assert!(disk.free_bytes(dir.path()).unwrap() >= 1 << 20);
}

#[test]
fn where_files_cannot_have_two_names_they_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, disk, expected) = broker(dir.path());
    disk.faults().fail_within(Operation::Link, "copy");
    let report = snapshot(&broker, &dir.path().join("copy")).unwrap();
    disk.faults().heal();
    assert_eq!((report.linked_files, report.linked_bytes), (0, 0));
    let linked = snapshot(&broker, &dir.path().join("linked")).unwrap();
    assert!(linked.linked_files > 5);
    assert_eq!(linked.linked_files + linked.copied_files, report.copied_files);
    assert_eq!(linked.linked_bytes + linked.copied_bytes, report.copied_bytes);
    drop(broker);
    for copy in ["copy", "linked"] {
        let copy = open(&dir.path().join(copy));
        assert_eq!(copy.recovery().units_rebuilt, 0, "{}", copy.recovery());
        assert_found(&copy, &expected);
    }
}

#[test]
fn a_log_that_begins_late_and_a_topic_that_was_made_again_are_copied_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, _, _) = broker(dir.path());
    let orders = TopicName::new("orders").unwrap();
    broker.delete_topic(&orders).unwrap();
    let expected = fill(&broker, 40);
    snapshot(&broker, &dir.path().join("copy")).unwrap();
    let copy = open(&dir.path().join("copy"));
    assert_found(&copy, &expected);
    copy.kill();
    drop(copy);
    // Nothing of ours but the table of deleted topics is needed for it.
    std::fs::remove_dir_all(dir.path().join("copy/consumequeue")).unwrap();
    assert_found(&open(&dir.path().join("copy")), &expected);
}

#[test]
fn a_failed_broker_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, disk, _) = broker(dir.path());
    put(&broker, "orders", 1, b"unflushed", "key");
    disk.faults().fail_within(Operation::MapSync, "store/commitlog");
    let error = snapshot(&broker, &dir.path().join("copy")).unwrap_err();
    assert!(matches!(error, Error::FlushFailed { .. }), "{error}");
}

/// Where a group stands that consumes the one queue of the topic.
fn billing() -> PositionKey {
    let (topic, group) = (TopicName::new("orders").unwrap(), GroupName::new("billing").unwrap());
    PositionKey { topic, group, queue_id: 1 }
}

fn consume_up_to(broker: &Broker, place: u64) {
    let position = broker.positions().position(&billing(), QueueOffset::ZERO).unwrap();
    broker.positions().commit(&position, QueueOffset::new(place)).unwrap();
}

/// When the positions are taken and the end is not.
const BEFORE_THE_END: (Operation, &str) = (Operation::MapSync, "store/commitlog");
/// When the end is taken, and nothing of the log is copied.
const BEFORE_THE_LOG: (Operation, &str) = (Operation::Link, "copy");

/// Copies a broker, and does something to it in another thread at some moment.
fn copy_while(
    (broker, disk): (&Arc<Broker>, &FaultyDisk),
    dir: &Path,
    (when, place): (Operation, &'static str),
    work: impl FnOnce(&Broker) + Send + 'static,
) -> Arc<Broker> {
    let (worker, begin) = (Arc::clone(broker), Mutex::new(Some(work)));
    let threads = Arc::new(Mutex::new(Vec::new()));
    let started = Arc::clone(&threads);
    disk.faults().meanwhile(move |operation, path| {
        let is_now = operation == when && path.to_string_lossy().contains(place);
        let Some(work) = begin.lock().take_if(|_| is_now) else { return };
        let (done, end) = crossbeam_channel::bounded(1);
        let worker = Arc::clone(&worker);
        started.lock().push(std::thread::spawn(move || {
            work(&worker);
            let _ = done.send(());
        }));
        // It waits for the snapshot, or is soon done.
        let _ = end.recv_timeout(std::time::Duration::from_millis(300));
    });
    snapshot(broker, dir).unwrap();
    let threads = std::mem::take(&mut *threads.lock());
    assert_eq!(threads.len(), 1);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    open(dir)
}

fn position_and_queue(copy: &Broker) -> (u64, u64, u64) {
    let (min, end) = copy.queue_range(&billing().topic, 1).unwrap_or_default();
    let position = copy.positions().get(&billing()).map(|position| position.get()).unwrap_or_default();
    (position.get(), min.get(), end.get())
}

#[test]
fn a_purge_meanwhile_does_not_let_a_position_of_before_pass_over_messages_of_the_copy() {
    for topic_is_deleted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (broker, disk, _) = broker(dir.path());
        consume_up_to(&broker, 100);
        let orders = billing().topic;
        let copy = copy_while((&broker, &disk), &dir.path().join("copy"), BEFORE_THE_END, move |broker| {
            if topic_is_deleted {
                broker.delete_topic(&orders).unwrap();
            } else {
                broker.purge_topic(&orders).unwrap();
            }
            fill(broker, 5);
        });
        assert_eq!(position_and_queue(&copy), (100, 0, 300));
        assert_eq!(position_and_queue(&broker), (0, 0, 5));
    }
}

#[test]
fn retention_meanwhile_leaves_the_copy_every_message_that_its_positions_have_still_to_come_to() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk)));
    let mut config = config(FlushPolicy::Async);
    config.retention.bytes_max = Some(33_000);
    let mut options = options(&dir.path().join("store"), config);
    options.disk = disk.clone();
    let broker = Broker::open(options).unwrap();
    let expected = fill(&broker, 300);
    consume_up_to(&broker, 100);
    let copy = copy_while((&broker, &disk), &dir.path().join("copy"), BEFORE_THE_LOG, |broker| {
        consume_up_to(broker, 300);
        assert!(broker.retain().unwrap().surplus_files > 0);
    });
    assert_eq!(position_and_queue(&copy), (100, 0, 300));
    assert_found(&copy, &expected);
    assert!(position_and_queue(&broker).1 > 100, "the store itself has let them go");
}
