//! Is the copy of a store that is in use whole, and is the store none the worse for it?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Error, FileSizes, Filter, FlushPolicy, LastStop, Message, QueueOffset, Retention, Store, StoreBuilder,
    TopicConfig,
};
use serde_json::Value;

use crate::golden::listing;

/// Sizes at which a few messages fill files of every kind.
const SMALL: FileSizes =
    FileSizes { commit_log: 65_536, consume_queue_units: 50, index_slots: 16, index_entries: 128 };

/// Nothing expires: the messages of a test are years old to a copy that goes by the system's clock.
fn small(builder: StoreBuilder) -> StoreBuilder {
    builder.file_sizes(SMALL).free_space_min(0).retention(Retention::forever())
}

/// Everything that a store says, but for where it lies.
fn content(store: &Store) -> Vec<Value> {
    listing(store)
}

fn send(store: &Store, count: u32) {
    let producer = store.producer("shop").unwrap();
    for number in 0..count {
        let message = Message::new("orders", format!("{number} {}", "x".repeat(number as usize % 300)));
        producer.send(message.tag("paid").key(format!("key-{}", number % 10))).unwrap();
    }
}

fn consume(store: &Store, count: u32) {
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    for _ in 0..count {
        consumer.try_recv().unwrap().unwrap().ack().unwrap();
    }
}

/// A store in which everything is in use, and a place for its copy.
fn store_in_use(
    settings: impl Fn(StoreBuilder) -> StoreBuilder + Send + Sync + 'static,
) -> (TestStore, Place) {
    let store = TestStore::builder(settings);
    send(&store, 1_000);
    consume(&store, 700);
    store.create_topic("gone", TopicConfig::queues(2)).unwrap();
    store.producer("shop").unwrap().send(Message::new("gone", "x")).unwrap();
    store.delete_topic("gone").unwrap();
    store.create_topic("empty", TopicConfig::queues(3)).unwrap();
    (store, Place::new())
}

/// A folder that is to be made in one that goes with it.
struct Place {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("copy"), dir }
    }
}

impl std::ops::Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_opens_at_once_as_a_store_that_was_closed_cleanly_and_says_the_same() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let (store, place) = store_in_use(move |builder| small(builder).flush(flush).brokers(["a", "b"]));
        let before = content(&store);
        let report = store.snapshot(&place).unwrap();
        assert_eq!(report.brokers.len(), 2);
        for (copy, original) in report.brokers.iter().zip(store.brokers()) {
            assert_eq!(copy.start..copy.end, original.log_range());
            assert!(copy.linked_files > 3 && copy.linked_bytes > copy.copied_bytes / 2, "{report}");
        }
        send(&store, 100);
        consume(&store, 50);
        let copy = small(Store::builder(&*place)).open().unwrap();
        for recovery in copy.recovery() {
            assert_eq!(recovery.last_stop, LastStop::Clean);
            assert!(
                !recovery.foreign && recovery.warnings.is_empty() && recovery.lost.is_empty(),
                "{recovery}"
            );
            assert_eq!((recovery.units_rebuilt, recovery.cut_bytes, recovery.rewritten_bytes), (0, 0, 0));
            let last_message = recovery.end.since(recovery.index_from);
            assert!(last_message < 1_000, "the index goes on with the last message: {recovery}");
        }
        assert_eq!(content(&copy), before);
        copy.close().unwrap();
    }
}

#[test]
fn what_is_done_to_a_snapshot_does_not_reach_the_store_and_the_other_way_round() {
    let (store, place) = store_in_use(small);
    store.snapshot(&place).unwrap();
    let before = content(&store);
    let copy = small(Store::builder(&*place)).open().unwrap();
    let copied = content(&copy);
    send(&copy, 2_000);
    consume(&copy, 500);
    copy.delete_topic("orders").unwrap();
    copy.close().unwrap();
    assert_eq!(content(&store), before);
    // Nor does a second opening that trusts nothing, and reads and mends everything.
    let other = place.with_file_name("other");
    store.snapshot(&other).unwrap();
    send(&store, 2_000);
    store.delete_topic("orders").unwrap();
    std::fs::remove_dir_all(other.join("broker-a/pocketmq")).unwrap();
    std::fs::remove_dir_all(other.join("broker-a/consumequeue")).unwrap();
    let copy = small(Store::builder(&other)).open().unwrap();
    assert!(copy.recovery()[0].foreign);
    // Without our own folder, deleted topics come back: that is what a RocketMQ broker would see.
    copy.delete_topic("gone").unwrap();
    assert_eq!(content(&copy), copied);
    let store = store.kill_process().unwrap();
    assert!(store.recovery()[0].lost.is_empty());
}

#[test]
fn a_snapshot_of_a_snapshot_and_one_that_was_moved_are_as_good() {
    let (store, place) = store_in_use(small);
    let before = content(&store);
    store.snapshot(&place).unwrap();
    let copy = small(Store::builder(&*place)).open().unwrap();
    let (second, moved) = (place.with_file_name("second"), place.with_file_name("moved"));
    copy.snapshot(&second).unwrap();
    copy.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(&second, &moved).unwrap();
    let copy = small(Store::builder(&moved)).open().unwrap();
    assert_eq!(copy.recovery()[0].last_stop, LastStop::Clean);
    assert!(!copy.recovery()[0].foreign);
    assert_eq!(content(&copy), before);
}

#[test]
fn a_place_that_is_taken_or_lies_in_the_store_is_refused_and_left_as_it_is() {
    let (store, place) = store_in_use(small);
    let refused = |dir: &Path| match store.snapshot(dir) {
        Err(Error::InvalidArgument { field: "dir", reason }) => reason.to_string(),
        other => panic!("{}: {other:?}", dir.display()),
    };
    for inside in ["", "copy", "broker-a", "broker-a/copy", "broker-a/commitlog/copy/deep"] {
        assert!(refused(&store.path().join(inside)).contains("store"), "{inside}");
    }
    for nothing in ["", "/"] {
        assert!(refused(Path::new(nothing)).contains("names no folder"), "{nothing}");
    }
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("mine"), "x").unwrap();
    assert!(refused(&place).contains("holds something"));
    assert!(refused(&place.join("mine")).contains("holds something"));
    std::fs::remove_file(place.join("mine")).unwrap();
    let work = place.with_file_name("copy.unfinished");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("mine"), "x").unwrap();
    assert!(refused(&place).contains("in the way"));
    std::fs::remove_dir_all(&work).unwrap();
    store.snapshot(&place).unwrap();
    assert_eq!(names(&place), ["broker-a"]);
    assert_eq!(names(place.dir.path()), ["copy"]);
}

#[test]
fn a_log_on_another_disk_comes_home_into_the_snapshot() {
    let elsewhere = tempfile::tempdir().unwrap();
    let log = elsewhere.path().join("logs");
    let (store, place) = store_in_use(move |builder| small(builder).commit_log_dir(&log));
    let before = content(&store);
    store.snapshot(&place).unwrap();
    drop(store.kill_into_folder());
    drop(elsewhere);
    let copy = small(Store::builder(&*place)).open().unwrap();
    assert_eq!(content(&copy), before);
    let conf = std::fs::read_to_string(place.join("broker-a/broker.conf")).unwrap();
    assert!(!conf.contains("storePathCommitLog"), "{conf}");
    let root = format!("storePathRootDir={}", place.join("broker-a").display());
    assert!(conf.lines().any(|line| line == root), "{conf}");
}

#[test]
fn a_store_in_memory_and_one_that_is_only_read_can_be_written_to_disk() {
    let (store, place) = store_in_use(|builder| small(builder).in_memory());
    let before = content(&store);
    let report = store.snapshot(&place).unwrap();
    assert_eq!(report.brokers[0].linked_files, 0);
    drop(store.kill_into_folder());
    // A crash of the copy, looked at without being mended on disk.
    let copy = small(Store::builder(&*place)).open().unwrap();
    send(&copy, 10);
    drop(copy);
    std::fs::write(place.join("broker-a/abort"), "1").unwrap();
    let read_only = small(Store::builder(&*place)).open_read_only().unwrap();
    let second = place.with_file_name("second");
    let content_of_second = content(&read_only);
    read_only.snapshot(&second).unwrap();
    let copy = small(Store::builder(&second)).open().unwrap();
    assert_eq!(copy.recovery()[0].last_stop, LastStop::Clean);
    assert_eq!(content(&copy), content_of_second);
    assert!(before.len() < content_of_second.len());
}

#[test]
fn everything_of_ours_is_in_the_snapshot_or_left_out_on_purpose() {
    let (store, place) = store_in_use(small);
    store.flush().unwrap();
    store.snapshot(&place).unwrap();
    let own = |dir: &Path| names(&dir.join("broker-a/pocketmq"));
    let kept = |name: &String| !name.ends_with(".bak") && !name.ends_with(".tmp");
    let expected: Vec<_> = own(&store.path()).into_iter().filter(kept).collect();
    let mut found: Vec<_> = own(&place).into_iter().filter(kept).collect();
    // A clean stop writes where the queues end; the store has not stopped yet.
    found.retain(|name| name != "queues" || expected.contains(name));
    assert_eq!(found, expected, "say in src/broker/snapshot what becomes of a new file in pocketmq/");
}

#[test]
fn an_empty_store_has_an_empty_snapshot() {
    let (store, place) = (TestStore::new(), Place::new());
    store.snapshot(&place).unwrap();
    let copy = Store::open(&*place).unwrap();
    assert!(copy.topics().is_empty());
    send(&copy, 1);
}

#[test]
fn a19_a_snapshot_of_a_closed_store_is_refused() {
    let (store, place) = store_in_use(small);
    store.close().unwrap();
    assert!(matches!(store.snapshot(&place), Err(Error::Closed)));
    assert!(!place.exists());
}

/// What a producer thread was told: per queue, the number of acknowledged messages.
type Acked = BTreeMap<u32, AtomicU64>;

/// Reads a copy from where earlier ones were read: every queue is dense, whole, and at least as long as what was
/// acknowledged before.
fn check_copy(copy: &Store, acked: &BTreeMap<u32, u64>, read: &mut BTreeMap<u32, u64>) {
    for recovery in copy.recovery() {
        assert_eq!(recovery.last_stop, LastStop::Clean);
        assert!(recovery.warnings.is_empty() && recovery.lost.is_empty() && !recovery.foreign, "{recovery}");
        assert_eq!((recovery.units_rebuilt, recovery.cut_bytes), (0, 0), "{recovery}");
    }
    let queues = copy.queues("load").unwrap();
    for queue in &queues {
        let id = queue.queue_id();
        let read = read.entry(id).or_default();
        let mut at = QueueOffset::new(*read);
        let end = copy.queue_offsets(queue).map_or(QueueOffset::ZERO, |range| range.end);
        while at < end {
            let pulled = copy.pull(queue, &Filter::all(), at, 32).unwrap();
            for message in &pulled.messages {
                assert_eq!(message.body_str().unwrap(), format!("{id} {at}"));
                at = at.plus(1);
            }
            assert_eq!(at, pulled.next_offset, "no hole in {queue}");
        }
        *read = end.get().saturating_sub(100);
        assert!(end.get() >= acked[&id], "{queue} ends at {end}: {acked:?}");
        let committed = copy.committed("reader", queue).unwrap().map_or(0, QueueOffset::get);
        assert!(committed <= end.get(), "{queue}: {committed} of {end}");
    }
    let last = copy.queue_offsets(&queues[0]).unwrap().end.get() - 1;
    let found = copy.query_by_key("load", format!("key-0-{last}")).fetch().unwrap();
    assert_eq!(found.len(), 1);
    // A topic that came and went meanwhile is there whole or not at all.
    if copy.topic("churn").is_some() {
        for queue in copy.queues("churn").unwrap() {
            let end = copy.queue_offsets(&queue).map_or(0, |range| range.end.get());
            for at in 0..end {
                let message = copy.message_at(&queue, QueueOffset::new(at)).unwrap().unwrap();
                assert_eq!(message.body_str().unwrap(), at.to_string());
            }
        }
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_snapshot_under_full_load_is_complete_up_to_its_end_every_time() {
    const QUEUES: u32 = 3;
    // A hundred times where time is no matter.
    let times = if std::env::var_os("CI").is_some() { 100 } else { 15 };
    // Every log file is a map, and a process may have 65,530 of them: larger files than elsewhere here.
    let sizes = FileSizes {
        commit_log: 1 << 20,
        consume_queue_units: 1_000,
        index_slots: 1_000,
        index_entries: 20_000,
    };
    let open = |dir: PathBuf| Store::builder(dir).file_sizes(sizes).free_space_min(0).open().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path().join("store"));
    store.create_topic("load", TopicConfig::queues(QUEUES)).unwrap();
    let stop = AtomicBool::new(false);
    let acked: Acked = (0..QUEUES).map(|queue| (queue, AtomicU64::new(0))).collect();
    std::thread::scope(|threads| {
        // Also where a check fails: the others must not go on for ever.
        let _stopped = StopOnDrop(&stop);
        for queue in store.queues("load").unwrap() {
            let (store, stop, acked) = (&store, &stop, &acked[&queue.queue_id()]);
            threads.spawn(move || {
                let producer = store.producer("shop").unwrap();
                for number in 0.. {
                    let id = queue.queue_id();
                    let message =
                        Message::new("load", format!("{id} {number}")).key(format!("key-{id}-{number}"));
                    producer.send_to(&queue, message).unwrap();
                    acked.store(number + 1, Ordering::Release);
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Enough to be in the middle of something always, and the disk stays small.
                    if number % 10 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        threads.spawn(|| {
            let consumer = store.consumer("reader").subscribe("load", "*").build().unwrap();
            while !stop.load(Ordering::Relaxed) {
                if let Some(message) = consumer.recv_timeout(Duration::from_millis(10)).unwrap() {
                    message.ack().unwrap();
                }
            }
        });
        threads.spawn(|| {
            let producer = store.producer("churn").unwrap();
            while !stop.load(Ordering::Relaxed) {
                store.create_topic("churn", TopicConfig::queues(1)).unwrap();
                for number in 0..70 {
                    producer.send(Message::new("churn", number.to_string())).unwrap();
                }
                store.delete_topic("churn").unwrap();
            }
        });
        let mut read = BTreeMap::new();
        for number in 0..times {
            while acked[&0].load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            let before = acked.iter().map(|(queue, count)| (*queue, count.load(Ordering::Acquire))).collect();
            let place = dir.path().join(format!("copy-{number}"));
            store.snapshot(&place).unwrap();
            let copy = open(place.clone());
            check_copy(&copy, &before, &mut read);
            copy.close().unwrap();
            std::fs::remove_dir_all(&place).unwrap();
        }
    });
    let acked = acked.iter().map(|(queue, count)| (*queue, count.load(Ordering::Acquire))).collect();
    store.snapshot(dir.path().join("last")).unwrap();
    check_copy(&open(dir.path().join("last")), &acked, &mut BTreeMap::new());
}

#[test]
fn d13_a_message_that_waits_is_delivered_once_by_the_copy_and_one_that_was_delivered_is_not_again() {
    let (store, place) = store_in_use(small);
    let producer = store.producer("shop").unwrap();
    for (body, level) in [("soon", 1), ("later", 5)] {
        producer.send(Message::new("reminders", body).delay_level(level)).unwrap();
    }
    store.advance(Duration::from_secs(2)).unwrap();
    store.snapshot(&*place).unwrap();
    let clock = store.clock().clone();
    let copy = small(Store::builder(&*place))
        .background(pocketmq::Background::Manual)
        .clock(clock.clone())
        .open()
        .unwrap();
    let bodies = || -> Vec<String> {
        let mut bodies = Vec::new();
        for queue in copy.queues("reminders").unwrap() {
            let pulled = copy.pull(&queue, &Filter::all(), QueueOffset::ZERO, 32).unwrap();
            bodies.extend(pulled.messages.iter().map(|message| message.body_str().unwrap().into_owned()));
        }
        bodies
    };
    copy.step().unwrap();
    assert_eq!(bodies(), ["soon"]);
    clock.advance(Duration::from_secs(3_600));
    copy.step().unwrap();
    let mut all = bodies();
    all.sort();
    assert_eq!(all, ["later", "soon"]);
}
