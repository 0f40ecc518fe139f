//! Does the door open to what is there, refuse what it cannot open, and close for everybody?

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::broker::{LastStop, PullStatus};
use crate::clock::{Clock, ManualClock};
use crate::config::{FileSizes, Permission};
use crate::filter::Filter;
use crate::message::Message;
use crate::testing::TestStore;
use crate::types::BrokerName;

const SIZES: FileSizes =
    FileSizes { commit_log: 65_536, consume_queue_units: 100, index_slots: 16, index_entries: 64 };

fn builder(dir: &Path) -> StoreBuilder {
    Store::builder(dir)
        .background(Background::Manual)
        .clock(Arc::new(ManualClock::new(1_700_000_000_000)))
        .file_sizes(SIZES)
        .free_space_min(0)
}

fn open(dir: &Path, brokers: &[&str]) -> Result<Store> {
    builder(dir).brokers(brokers.iter().copied()).open()
}

fn names(store: &Store) -> Vec<String> {
    store.brokers().iter().map(|broker| broker.name().to_string()).collect()
}

fn send(store: &Store, body: &str) -> crate::producer::SendReceipt {
    store.producer("shop").unwrap().send(Message::new("orders", body).key("key")).unwrap()
}

/// Returns the name of the setting that an opening refuses, and why.
fn refused(result: Result<Store>) -> (&'static str, String) {
    match result {
        Err(Error::InvalidConfig { field, reason }) => (field, reason.to_string()),
        other => panic!("{other:?}"),
    }
}

/// Returns every file below a folder with its content, and its folders.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
            found.push((path, Vec::new()));
        } else {
            let content = std::fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}

#[test]
fn a_new_store_has_one_broker_in_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    let store = open(&root, &[]).unwrap();
    assert_eq!(names(&store), ["broker-a"]);
    assert!(root.join("broker-a/commitlog").is_dir());
    assert_eq!(store.recovery()[0].last_stop, LastStop::New);
    let receipt = send(&store, "hello");
    store.close().unwrap();
    let store = open(&root, &[]).unwrap();
    assert_eq!(store.recovery()[0].last_stop, LastStop::Clean);
    assert_eq!(store.message(receipt.message_id()).unwrap().unwrap().body_str().unwrap(), "hello");
}

#[test]
fn a_folder_with_a_commit_log_is_one_broker_where_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &["x"]).unwrap().close().unwrap();
    let broker = dir.path().join("x");
    let store = open(&broker, &[]).unwrap();
    assert_eq!(names(&store), ["x"]);
    assert_eq!(store.brokers()[0].dir(), broker);
    assert!(!broker.join("broker-a").exists());
    drop(store);
    assert_eq!(refused(open(&broker, &["y"])).0, "brokers");
    assert_eq!(refused(open(&broker, &["x", "y"])).0, "brokers");
    open(&broker, &["x"]).unwrap();
}

#[test]
fn every_folder_with_a_commit_log_is_a_broker_and_none_may_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &["b", "a"]).unwrap().close().unwrap();
    std::fs::create_dir(dir.path().join("notes")).unwrap();
    assert_eq!(names(&open(dir.path(), &[]).unwrap()), ["a", "b"]);
    let (field, reason) = refused(open(dir.path(), &["a"]));
    assert!(field == "brokers" && reason.contains("broker b"), "{reason}");
    let store = open(dir.path(), &["a", "b", "c"]).unwrap();
    assert_eq!(names(&store), ["a", "b", "c"]);
}

#[test]
fn the_hosts_of_shards_differ_and_stay_when_others_are_added() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = |store: &Store| -> Vec<String> {
        store.cluster().brokers().iter().map(|broker| broker.host().to_string()).collect()
    };
    let store = open(dir.path(), &["m", "z"]).unwrap();
    assert_eq!(hosts(&store), ["127.0.0.1:10911", "127.0.0.1:10921"]);
    store.close().unwrap();
    drop(store);
    let store = open(dir.path(), &["a", "m", "z"]).unwrap();
    assert_eq!(hosts(&store), ["127.0.0.1:10931", "127.0.0.1:10911", "127.0.0.1:10921"]);
}

#[test]
fn a_topic_of_the_old_brokers_is_used_where_it_is_until_it_is_made_on_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &["a"]).unwrap();
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(dir.path(), &["a", "b"]).unwrap();
    let _ = (0..4).map(|_| send(&store, "x")).collect::<Vec<_>>();
    assert_eq!(store.queues("orders").unwrap().len(), 2);
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    assert_eq!(store.queues("orders").unwrap().len(), 4);
    store.delete_topic("orders").unwrap();
    assert!(matches!(store.queues("orders"), Err(Error::TopicNotFound(_))));
    assert_eq!(store.topic("orders"), None);
}

#[test]
fn if_one_broker_cannot_be_opened_the_others_are_closed_again() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &["a", "b"]).unwrap().close().unwrap();
    let lock = dir.path().join("b/lock");
    let held = crate::storage::RealDisk.lock(&lock).unwrap();
    assert!(matches!(open(dir.path(), &[]), Err(Error::Locked(_))));
    assert!(!dir.path().join("a/abort").exists());
    drop(held);
    let store = open(dir.path(), &[]).unwrap();
    assert!(store.recovery().iter().all(|report| report.last_stop == LastStop::Clean));
}

#[test]
fn names_that_no_broker_may_have_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in ["", ".", "..", "a/b", "/", "a b", "é"] {
        assert_eq!(refused(open(dir.path(), &[wrong])).0, "brokers", "{wrong:?}");
    }
    assert_eq!(refused(open(dir.path(), &["a", "a"])).0, "brokers");
    assert!(everything(dir.path()).is_empty());
}

#[test]
fn b4_a_root_that_is_no_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(refused(open(Path::new(""), &[])).0, "dir");
    let file = dir.path().join("file");
    std::fs::File::create(&file).unwrap();
    assert_eq!(refused(open(&file, &[])).0, "dir");
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
    assert_eq!(refused(open(&dangling, &[])).0, "dir");
    assert_eq!(refused(open(&file.join("below"), &[])).0, "dir");
    for beyond in [dir.path().join("x".repeat(300)), "x/".repeat(3_000).into()] {
        let error = open(&beyond, &[]).unwrap_err();
        assert!(matches!(error, Error::Io(_)), "{error}");
    }
}

#[test]
fn b4_a_root_may_be_missing_a_link_or_no_utf_8() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    send(&open(&deep, &[]).unwrap(), "x");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&deep, &link).unwrap();
    let store = open(&link, &[]).unwrap();
    assert_eq!(store.query_by_key("orders", "key").fetch().unwrap().len(), 1);
    drop(store);
    let strange = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    send(&open(&strange, &[]).unwrap(), "x");
    let store = open(&strange, &[]).unwrap();
    assert_eq!(store.query_by_key("orders", "key").fetch().unwrap().len(), 1);
}

#[test]
fn b4_a_root_that_may_not_be_written_is_a_clean_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write everywhere.
    if std::fs::File::create(locked.join("probe")).is_err() {
        assert!(matches!(open(&locked, &[]), Err(Error::Io(_))));
    }
    assert!(open(Path::new("/proc/self/none"), &[]).is_err());
}

#[test]
fn b4_a_root_deleted_while_open_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    let store = open(&root, &[]).unwrap();
    send(&store, "x");
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(store.query_by_key("orders", "key").fetch().unwrap().len(), 1);
    assert!(store.close().is_err());
    assert!(matches!(store.flush(), Err(Error::Closed)));
}

#[test]
fn b5_brokers_in_one_folder_or_in_one_another_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &["a"]).unwrap().close().unwrap();
    std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("b"), &link).unwrap();
    assert_eq!(refused(open(dir.path(), &[])).0, "dir");
    std::fs::remove_file(&link).unwrap();
    assert_eq!(names(&open(dir.path(), &[]).unwrap()), ["a"]);
    std::fs::create_dir(dir.path().join("commitlog")).unwrap();
    let (field, reason) = refused(open(dir.path(), &[]));
    assert!(field == "dir" && reason.contains("move one away"), "{reason}");
}

#[test]
fn b5_a_log_folder_that_lies_in_a_broker_or_holds_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    // Each broker's log gets a folder of its own: here the one in which it lies anyway.
    builder(&root).brokers(["a", "b"]).commit_log_dir(&root).open().unwrap().close().unwrap();
    assert!(root.join("b/commitlog").is_dir());
    let single = dir.path().join("single");
    open(&single, &["x"]).unwrap().close().unwrap();
    let broker = single.join("x");
    for log in [broker.clone(), broker.join("consumequeue"), single.clone()] {
        assert_eq!(refused(builder(&broker).commit_log_dir(&log).open()).0, "dir", "{}", log.display());
    }
}

#[test]
fn a_commit_log_on_another_disk_is_found_again_without_being_told() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = builder(dir.path()).commit_log_dir(other.path().join("logs")).open().unwrap();
    send(&store, "hello");
    store.close().unwrap();
    drop(store);
    assert!(other.path().join("logs/broker-a/commitlog").is_dir());
    assert!(!dir.path().join("broker-a/commitlog").exists());
    let store = open(dir.path(), &[]).unwrap();
    assert_eq!(store.query_by_key("orders", "key").fetch().unwrap().len(), 1);
}

#[test]
fn a_read_only_opening_shows_everything_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &["a", "b"]).unwrap();
    let receipts: Vec<_> = (0..20).map(|n| send(&store, &format!("{n}"))).collect();
    store.commit_offset("billing", receipts[0].queue(), QueueOffset::new(1)).unwrap();
    store.kill();
    drop(store);
    let before = everything(dir.path());
    let store = builder(dir.path()).open_read_only().unwrap();
    for (n, receipt) in receipts.iter().enumerate() {
        let found = store.message(receipt.message_id()).unwrap().unwrap();
        assert_eq!(found.body_str().unwrap(), n.to_string());
    }
    assert_eq!(store.committed("billing", receipts[0].queue()).unwrap(), Some(QueueOffset::new(1)));
    let producer = store.producer("shop").unwrap();
    let refusals = [
        producer.send(Message::new("orders", "x")).map(drop),
        producer.send(Message::new("new", "x")).map(drop),
        store.create_topic("new", TopicConfig::queues(1)),
        store.delete_topic("orders"),
        store.commit_offset("billing", receipts[0].queue(), QueueOffset::ZERO),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(Error::Unsupported(_))), "{refusal:?}");
    }
    store.close().unwrap();
    drop(store);
    assert_eq!(everything(dir.path()), before);
}

#[test]
fn a_read_only_opening_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(refused(builder(dir.path()).open_read_only()).0, "dir");
    assert_eq!(refused(builder(&dir.path().join("missing")).open_read_only()).0, "dir");
    assert!(everything(dir.path()).is_empty());
}

#[test]
fn a19_every_handle_says_that_the_store_is_closed() {
    let store = TestStore::builder(|builder| builder.free_space_min(0));
    let other = store.store().clone();
    let (receipt, group) = (send(&store, "x"), "billing");
    let view = store.message(receipt.message_id()).unwrap().unwrap();
    let broker = store.brokers().remove(0);
    store.close().unwrap();
    let queue = receipt.queue();
    let closed = [
        other.message(receipt.message_id()).map(drop),
        other.message_at(queue, QueueOffset::ZERO).map(drop),
        other.offset_at(queue, UNIX_EPOCH).map(drop),
        other.pull(queue, &Filter::all(), QueueOffset::ZERO, 1).map(drop),
        other.query_by_key("orders", "key").fetch().map(drop),
        other.queues("orders").map(drop),
        other.committed(group, queue).map(drop),
        other.commit_offset(group, queue, QueueOffset::ZERO),
        other.create_topic("new", TopicConfig::queues(1)),
        other.delete_topic("orders"),
        other.flush(),
        other.step(),
        broker.message_in(queue.topic(), 0, QueueOffset::ZERO).map(drop),
    ];
    for (n, result) in closed.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Closed)), "{n}: {result:?}");
    }
    assert_eq!(other.health(), Health::Closed);
    assert_eq!(view.body_str().unwrap(), "x");
    other.close().unwrap();
    other.close_timeout(Duration::from_secs(1)).unwrap();
}

#[test]
fn the_last_handle_closes_and_none_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &["a", "b"]).unwrap();
    let producer = store.producer("shop").unwrap();
    drop(store);
    producer.send(Message::new("orders", "x")).unwrap();
    assert!(matches!(open(dir.path(), &[]), Err(Error::Locked(_))));
    drop(producer);
    let store = open(dir.path(), &[]).unwrap();
    assert!(store.recovery().iter().all(|report| report.last_stop == LastStop::Clean));
}

#[test]
fn a_store_with_threads_closes_in_time_and_by_its_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let threads = || Store::builder(dir.path()).file_sizes(SIZES).free_space_min(0).open().unwrap();
    let store = threads();
    send(&store, "x");
    store.close_timeout(Duration::from_secs(60)).unwrap();
    drop(store);
    let store = threads();
    assert_eq!(store.recovery()[0].last_stop, LastStop::Clean);
    send(&store, "y");
    drop(store);
    let store = threads();
    assert_eq!(store.recovery()[0].last_stop, LastStop::Clean);
    assert_eq!(store.query_by_key("orders", "key").fetch().unwrap().len(), 2);
}

#[test]
fn f58_f59_a_lookup_by_key_is_newest_first_over_all_brokers_within_window_and_limit() {
    let store = TestStore::builder(|builder| builder.brokers(["a", "b"]).free_space_min(0));
    let start = store.clock().wall_millis();
    for n in 0..40 {
        send(&store, &format!("{n}"));
        store.clock().advance(Duration::from_millis(1));
    }
    let bodies = |query: KeyQuery<'_>| -> Vec<String> {
        let found = query.fetch().unwrap();
        found.iter().map(|message| message.body_str().unwrap().into_owned()).collect()
    };
    let query = || store.query_by_key("orders", "key");
    let expected = |range: std::ops::Range<u32>| range.rev().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(bodies(query()), expected(8..40));
    assert_eq!(bodies(query().limit(100)), expected(0..40));
    assert_eq!(bodies(query().limit(0)), expected(0..0));
    let at = |millis: u64| UNIX_EPOCH + Duration::from_millis(start.unsigned_abs() + millis);
    assert_eq!(bodies(query().since(at(10)).until(at(14))), expected(10..15));
    assert_eq!(bodies(store.query_by_key("nothing", "key")), expected(0..0));
    assert_eq!(bodies(store.query_by_key("orders", "Key")), expected(0..0));
    for (topic, key) in [("or/ders", "key"), ("orders", ""), ("orders", "two words")] {
        let error = store.query_by_key(topic, key).fetch().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
}

#[test]
fn a28_an_id_finds_its_own_message_or_none() {
    let store = TestStore::builder(|builder| builder.free_space_min(0));
    let receipts = [send(&store, "one"), send(&store, "two")];
    let host = store.inner.cluster.brokers()[0].host();
    let id = |host, at| crate::message::ids::offset_id(host, crate::types::PhysicalOffset::new(at));
    let second = receipts[1].physical_offset().get();
    assert_eq!(id(host, second), receipts[1].offset_id());
    let elsewhere = "127.0.0.1:10912".parse().unwrap();
    for (host, at) in
        [(host, second - 1), (host, second + 1), (host, second * 2), (host, 1 << 40), (elsewhere, second)]
    {
        assert!(store.message(id(host, at)).unwrap().is_none(), "{host} {at}");
    }
    let last = id(host, i64::MAX.unsigned_abs());
    assert!(store.message(last).unwrap().is_none());
}

#[test]
fn a28_a_body_that_looks_like_a_record_is_not_found_by_its_place() {
    let store = TestStore::builder(|builder| builder.free_space_min(0));
    let first = store.message(send(&store, "one").message_id()).unwrap().unwrap();
    let mut forged = first.record().bytes().to_vec();
    // The forger knows where the body of the next message will lie, and says so in the record within.
    let probe = send(&store, "two").physical_offset().get();
    let body_at = probe + u64::from(first.stored_size()) + 88;
    forged[28..36].copy_from_slice(&body_at.to_be_bytes());
    let receipt =
        store.producer("shop").unwrap().send(Message::new("orders", forged.clone()).key("key")).unwrap();
    let outer = store.message(receipt.message_id()).unwrap().unwrap();
    let bytes = outer.record().bytes();
    assert_eq!(bytes[88..88 + forged.len()], forged);
    assert_eq!(receipt.physical_offset().get() + 88, body_at);
    let id = crate::message::ids::offset_id(
        store.inner.cluster.brokers()[0].host(),
        crate::types::PhysicalOffset::new(body_at),
    );
    assert!(store.message(id).unwrap().is_none());
}

#[test]
fn a21_a_pull_from_outside_the_queue_says_where_to_go_on() {
    let store = TestStore::builder(|builder| builder.free_space_min(0));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let queue = store.queues("orders").unwrap().remove(0);
    let pull =
        |offset: u64, count| store.pull(&queue, &Filter::all(), QueueOffset::new(offset), count).unwrap();
    let empty = pull(0, 32);
    assert_eq!((empty.status, empty.next_offset), (PullStatus::NoNewMessage, QueueOffset::ZERO));
    let _ = (0..10).map(|_| send(&store, "x")).collect::<Vec<_>>();
    for (offset, status, next) in [
        (0, PullStatus::Found, 1),
        (10, PullStatus::NoNewMessage, 10),
        (11, PullStatus::OffsetIllegal, 10),
        (i64::MAX.unsigned_abs(), PullStatus::OffsetIllegal, 10),
        (u64::MAX, PullStatus::OffsetIllegal, 10),
    ] {
        for count in [0, 1] {
            let pulled = pull(offset, count);
            assert_eq!((pulled.status, pulled.next_offset), (status, QueueOffset::new(next)), "{offset}");
        }
    }
    for count in [u32::MAX as usize, usize::MAX] {
        assert_eq!(pull(0, count).messages.len(), 10);
    }
}

#[test]
fn f42_a_pull_of_a_queue_that_cannot_be_read_is_refused() {
    let store = TestStore::builder(|builder| builder.free_space_min(0));
    store.create_topic("orders", TopicConfig { read_queues: 2, ..TopicConfig::queues(4) }).unwrap();
    let queue = |topic: &str, broker: &str, id| {
        MessageQueue::new(TopicName::new(topic).unwrap(), BrokerName::new(broker).unwrap(), id)
    };
    let pull = |queue: &MessageQueue, filter: &str| store.pull(queue, &filter.into(), QueueOffset::ZERO, 1);
    let _ = pull(&queue("orders", "broker-a", 1), "*").unwrap();
    assert!(matches!(pull(&queue("orders", "broker-a", 1), "||"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(pull(&queue("orders", "broker-a", 2), "*"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(pull(&queue("orders", "broker-z", 0), "*"), Err(Error::InvalidArgument { .. })));
    assert!(matches!(pull(&queue("nothing", "broker-a", 0), "*"), Err(Error::TopicNotFound(_))));
    let write_only = TopicConfig { permission: Permission::WRITE_ONLY, ..TopicConfig::queues(4) };
    store.update_topic("orders", write_only).unwrap();
    assert!(matches!(pull(&queue("orders", "broker-a", 1), "*"), Err(Error::PermissionDenied { .. })));
}

#[test]
fn d10_a_position_survives_the_death_of_the_process() {
    let store = TestStore::builder(|builder| builder.free_space_min(0));
    let receipt = send(&store, "x");
    let queue = receipt.queue();
    assert_eq!(store.committed("billing", queue).unwrap(), None);
    let beyond = store.commit_offset("billing", queue, QueueOffset::new(2)).unwrap_err();
    assert!(matches!(beyond, Error::InvalidArgument { field: "offset", .. }), "{beyond}");
    store.commit_offset("billing", queue, QueueOffset::new(1)).unwrap();
    let store = store.kill_process().unwrap();
    assert_eq!(store.committed("billing", queue).unwrap(), Some(QueueOffset::new(1)));
    let held = store.brokers()[0].committed_positions();
    assert_eq!(held.len(), 1);
    assert!(store.committed("%RETRY%g", queue).is_err());
}

#[test]
fn a22_a_place_is_found_by_time() {
    let store = TestStore::builder(|builder| builder.free_space_min(0));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let start = store.clock().wall_millis().unsigned_abs();
    for n in 0..10 {
        send(&store, "x");
        // Two messages each have equal stamps.
        store.clock().advance(Duration::from_millis(10 * (n % 2)));
    }
    let queue = store.queues("orders").unwrap().remove(0);
    let at = |millis: u64| {
        store.offset_at(&queue, UNIX_EPOCH + Duration::from_millis(start + millis)).unwrap().get()
    };
    assert_eq!(store.offset_at(&queue, UNIX_EPOCH).unwrap().get(), 0);
    assert_eq!((at(0), at(10), at(11), at(40), at(41)), (0, 2, 4, 8, 10));
    assert_eq!(store.queue_offsets(&queue).unwrap(), QueueOffset::ZERO..QueueOffset::new(10));
}
