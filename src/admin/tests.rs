//! Does a snapshot stand under its name complete, or not at all?

use std::path::Path;
use std::sync::Arc;

use crate::broker::UNFINISHED;
use crate::config::{Background, FileSizes};
use crate::error::Error;
use crate::message::Message;
use crate::storage::RealDisk;
use crate::storage::faulty::{FaultyDisk, Operation};
use crate::store::{Store, StoreBuilder};

const SIZES: FileSizes =
    FileSizes { commit_log: 16_384, consume_queue_units: 50, index_slots: 16, index_entries: 64 };

fn builder(dir: &Path) -> StoreBuilder {
    Store::builder(dir).file_sizes(SIZES).free_space_min(0).background(Background::Manual)
}

fn store(dir: &Path) -> (Store, Arc<FaultyDisk>) {
    let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk)));
    let store = Store::open_with(builder(&dir.join("store")), disk.clone()).unwrap();
    let producer = store.producer("shop").unwrap();
    for number in 0..200 {
        producer.send(Message::new("orders", format!("message {number}")).key("key")).unwrap();
    }
    (store, disk)
}

fn is_refused(dir: &Path) -> bool {
    match builder(dir).open() {
        Err(Error::InvalidConfig { field: "dir", reason }) => reason.to_string().contains("not finished"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_that_fails_anywhere_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = store(dir.path());
    let (place, work) = (dir.path().join("copy"), dir.path().join("copy.unfinished"));
    for operation in
        [Operation::Create, Operation::Copy, Operation::FileSync, Operation::DirSync, Operation::Rename]
    {
        for earlier in 0.. {
            disk.faults().fail_nth_within(operation, "copy", earlier);
            let result = store.snapshot(&place);
            disk.faults().heal();
            if result.is_ok() {
                std::fs::remove_dir_all(&place).unwrap();
                break;
            }
            assert!(!place.exists() && !work.exists(), "{operation:?} after {earlier}");
        }
    }
    // The name of the whole folder is not on disk: nobody can promise that it will be there.
    disk.faults().fail_nth_within(Operation::Remove, UNFINISHED, 0);
    assert!(store.snapshot(&place).is_err());
    assert!(!place.exists() && !work.exists());
}

#[test]
fn what_a_crash_leaves_of_a_snapshot_does_not_open_and_does_not_stop_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let (place, work) = (dir.path().join("copy"), dir.path().join("copy.unfinished"));
    // As the first steps make it.
    std::fs::create_dir_all(work.join("broker-a/commitlog.unfinished")).unwrap();
    std::fs::create_dir_all(work.join("broker-a/pocketmq")).unwrap();
    std::fs::write(work.join(UNFINISHED), "lock").unwrap();
    assert!(is_refused(&work));
    assert!(is_refused(&work.join("broker-a")));
    store.snapshot(&place).unwrap();
    assert!(!work.exists());
    // One that has its name and not lost its mark yet.
    std::fs::write(place.join(UNFINISHED), "lock").unwrap();
    assert!(is_refused(&place) && is_refused(&place.join("broker-a")));
    std::fs::remove_file(place.join(UNFINISHED)).unwrap();
    builder(&place).open().unwrap().close().unwrap();
}

#[test]
fn two_snapshots_are_not_made_in_one_place() {
    use crate::storage::Disk;
    let dir = tempfile::tempdir().unwrap();
    let (store, disk) = store(dir.path());
    let (place, work) = (dir.path().join("copy"), dir.path().join("copy.unfinished"));
    std::fs::create_dir(&work).unwrap();
    let other = disk.lock(&work.join(UNFINISHED)).unwrap();
    assert!(matches!(store.snapshot(&place), Err(Error::Locked(_))));
    assert!(work.exists());
    drop(other);
    store.snapshot(&place).unwrap();
}
