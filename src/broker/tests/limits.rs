//! Does a store take what it may and no more, and make room as it was told to?

use std::time::Duration;

use proptest::prelude::*;

use super::disk::{commit, position_key};
use super::*;
use crate::config::{Limit, Limits, Overflow, Retention};
use crate::error::{Error, Outcome, Result};
use crate::types::GroupName;

/// Bytes of a record of [`send`].
const RECORD: u64 = 144;

fn limited(limits: Limits) -> StoreConfig {
    StoreConfig { limits, retention: Retention::forever(), ..config(FlushPolicy::Async) }
}

fn open_limited(dir: &Path, limits: Limits) -> Arc<Broker> {
    Broker::open(options(dir, limited(limits))).unwrap()
}

fn send(broker: &Broker, topic: &str, queue_id: u32) -> Result<Stored> {
    try_put(broker, topic, queue_id, b"0123456789", "k")
}

fn send_many(broker: &Broker, topic: &str, queue_id: u32, count: u64) {
    for _ in 0..count {
        send(broker, topic, queue_id).unwrap();
    }
}

fn range(broker: &Broker, topic: &str, queue_id: u32) -> (u64, u64) {
    let name = TopicName::new(topic).unwrap();
    let (min, max) = broker.queue_range(&name, queue_id).unwrap_or_default();
    (min.get(), max.get())
}

#[track_caller]
fn assert_busy(result: &Result<Stored>, text: &str) {
    let error = result.as_ref().unwrap_err();
    assert!(matches!(error, Error::StoreBusy(_)), "{error}");
    assert!(error.is_retryable() && error.outcome() == Outcome::NotStored);
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn a_full_queue_refuses_until_the_slowest_group_moves_on_and_others_go_on() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::new().queue("orders", Limit::new().count(5));
        let broker = Broker::open(options(dir.path(), StoreConfig { flush, ..limited(limits) })).unwrap();
        commit(&broker, 0);
        send_many(&broker, "orders", 1, 5);
        let end = broker.log_range().1;
        for _ in 0..3 {
            assert_busy(&send(&broker, "orders", 1), "5 messages wait in queue 1 of orders, and 5 may");
        }
        assert_eq!((broker.log_range().1, range(&broker, "orders", 1)), (end, (0, 5)), "nothing is stored");
        send_many(&broker, "orders", 2, 5);
        send_many(&broker, "other", 1, 20);

        commit(&broker, 2);
        send_many(&broker, "orders", 1, 2);
        assert_busy(&send(&broker, "orders", 1), "5 messages wait");
        // A second group that has consumed nothing yet.
        let slow = PositionKey { group: GroupName::new("slow").unwrap(), ..position_key() };
        commit(&broker, 7);
        let position = broker.positions().position(&slow, QueueOffset::new(3)).unwrap();
        send(&broker, "orders", 1).unwrap();
        assert_busy(&send(&broker, "orders", 1), "5 messages wait");
        broker.positions().commit(&position, QueueOffset::new(8)).unwrap();
        send_many(&broker, "orders", 1, 4);
        assert_busy(&send(&broker, "orders", 1), "5 messages wait");
    }
}

#[test]
fn a_topic_is_limited_over_its_queues_and_a_store_over_its_topics() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::new().topic("orders", Limit::new().count(6)).store(Limit::new().count(10));
    let broker = open_limited(dir.path(), limits);
    for queue in 0..3 {
        send_many(&broker, "orders", queue, 2);
    }
    assert_busy(&send(&broker, "orders", 3), "6 messages wait in topic orders, and 6 may");
    send_many(&broker, "other", 0, 4);
    assert_busy(&send(&broker, "third", 0), "10 messages wait in the store, and 10 may");
    // What was taken once must be able to go on.
    for topic in ["%RETRY%readers", "%DLQ%readers", "SCHEDULE_TOPIC_XXXX"] {
        send_many(&broker, topic, 0, 20);
    }
    broker.delete_topic(&TopicName::new("other").unwrap()).unwrap();
    send_many(&broker, "third", 0, 4);
    assert_busy(&send(&broker, "third", 0), "the store");
    drop(broker);
}

#[test]
fn bytes_are_those_of_the_records_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::new().queue("orders", Limit::new().bytes(10 * RECORD));
    let broker = open_limited(dir.path(), limits);
    commit(&broker, 0);
    send_many(&broker, "orders", 1, 10);
    assert_eq!(broker.log_range().1.get(), 10 * RECORD, "the size that this test counts on");
    assert_busy(
        &send(&broker, "orders", 1),
        "messages of 1440 bytes wait in queue 1 of orders, and 1440 bytes may",
    );
    commit(&broker, 3);
    send_many(&broker, "orders", 1, 3);
    assert_busy(&send(&broker, "orders", 1), "1440 bytes");
    commit(&broker, 13);
    send_many(&broker, "orders", 1, 10);
    // The group goes back: what it has to consume again counts again.
    commit(&broker, 20);
    commit(&broker, 10);
    assert_busy(&send(&broker, "orders", 1), "1872 bytes");
    let too_large = try_put(&broker, "orders", 1, &[0; 2_000], "k").unwrap_err();
    assert!(matches!(too_large, Error::MessageTooLarge { max: 1_440, .. }), "{too_large}");
    // What is counted is counted again by the next opening.
    broker.close().unwrap();
    drop(broker);
    let limits = Limits::new().queue("orders", Limit::new().bytes(10 * RECORD));
    assert_busy(&send(&open_limited(dir.path(), limits), "orders", 1), "1872 bytes");
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits::new().topic("orders", Limit::new().count(5));
    let broker = open_limited(dir.path(), limits);
    let topic = broker.add_topic(&TopicName::new("orders").unwrap(), TopicConfig::queues(4)).unwrap();
    let batch = |count| broker.put_batch(&topic, 1, &vec![message(b"x"); count], WaitForFlush::Yes);
    batch(3).unwrap();
    let refused = batch(3).unwrap_err();
    assert!(
        refused.to_string().contains("3 messages wait in topic orders, too many for this batch"),
        "{refused}"
    );
    assert!(matches!(batch(6), Err(Error::InvalidArgument { field: "batch", .. })));
    batch(2).unwrap();
    assert_eq!(range(&broker, "orders", 1), (0, 5));
}

#[test]
fn the_oldest_messages_make_room_and_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let limits = || {
        let ring = Limit::new().count(60).overflow(Overflow::DeleteOldest);
        Limits::new().queue("prices", ring)
    };
    let broker = open_limited(dir.path(), limits());
    for n in 0..200 {
        put(&broker, "prices", 1, format!("price {n}").as_bytes(), &format!("key-{n}"));
        assert_eq!(range(&broker, "prices", 1), ((n + 1_u64).saturating_sub(60), n + 1));
    }
    assert_eq!(bodies(&broker, "prices", 1), (140..200).map(|n| format!("price {n}")).collect::<Vec<_>>());
    assert_eq!(broker.deletions().messages, 140);
    let name = TopicName::new("prices").unwrap();
    let by_key = |key: &str| broker.query_by_key(&name, key, 0..=i64::MAX, 8).unwrap().len();
    assert_eq!((by_key("key-139"), by_key("key-140")), (0, 1));
    let report = broker.retain().unwrap();
    assert_eq!(report.queue_files, 2, "{report}");
    broker.flush().unwrap();
    broker.kill();
    drop(broker);
    let broker = open_limited(dir.path(), limits());
    assert_eq!(range(&broker, "prices", 1), (140, 200));
    put(&broker, "prices", 1, b"next", "k");
    assert_eq!(range(&broker, "prices", 1), (141, 201));
}

#[test]
fn the_oldest_of_a_topic_go_in_the_order_of_the_log_and_what_groups_lose_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        Limits::new().topic("prices", Limit::new().bytes(6 * RECORD).overflow(Overflow::DeleteOldest));
    let broker = open_limited(dir.path(), limits);
    let topic = TopicName::new("prices").unwrap();
    let key = PositionKey { topic, ..position_key() };
    let position = broker.positions().position(&key, QueueOffset::ZERO).unwrap();
    for _ in 0..3 {
        send(&broker, "prices", 0).unwrap();
        send(&broker, "prices", 1).unwrap();
    }
    let ranges = || [range(&broker, "prices", 0), range(&broker, "prices", 1)];
    broker.positions().commit(&position, QueueOffset::new(1)).unwrap();
    send(&broker, "prices", 1).unwrap();
    assert_eq!(ranges(), [(0, 3), (0, 4)], "one of queue 1 is consumed");
    send(&broker, "prices", 1).unwrap();
    assert_eq!(ranges(), [(1, 3), (0, 5)]);
    send_many(&broker, "prices", 1, 2);
    assert_eq!(ranges(), [(2, 3), (2, 7)]);
    assert_eq!(broker.deletions().messages, 4);
    assert_eq!(broker.deletions().unconsumed, 3, "two of queue 0, and one of the two of queue 1");
}

#[test]
fn a_store_keeps_within_its_bytes_by_letting_go_what_is_consumed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = 3 * 16_384;
    let broker = open_limited(dir.path(), Limits::new().store(Limit::new().bytes(bytes)));
    commit(&broker, 0);
    let mut sent = 0_u64;
    let refused = loop {
        match try_put(&broker, "orders", 1, &[1; 400], "k") {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("the log has 49152 bytes, and 49152 are allowed"), "{refused}");
    assert!(matches!(refused, Error::StoreBusy(_)));
    let end = broker.log_range().1;
    assert!(try_put(&broker, "orders", 1, &[1; 400], "k").is_err());
    assert_eq!((broker.log_range().1, range(&broker, "orders", 1)), (end, (0, sent)));
    // Room for the rest of the last file is not refused.
    commit(&broker, sent / 2);
    for _ in 0..20 {
        try_put(&broker, "orders", 1, &[1; 400], "k").unwrap();
    }
    let (min, max) = range(&broker, "orders", 1);
    assert!(min > 0 && min <= sent / 2 && max == sent + 20);
    for n in max..2_000 {
        commit(&broker, n);
        try_put(&broker, "orders", 1, &[1; 400], "k").unwrap();
        let (from, to) = (broker.log.files().start(), broker.log.files().limit());
        assert!(to - from <= bytes);
    }
}

#[test]
fn a_store_that_deletes_the_oldest_lets_whole_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = 2 * 16_384;
    let oldest = Limit::new().bytes(bytes).count(64).overflow(Overflow::DeleteOldest);
    let broker = open_limited(dir.path(), Limits::new().store(oldest));
    commit(&broker, 0);
    for n in 0..500_u64 {
        let topic = if n % 3 == 0 { "orders" } else { "other" };
        try_put(&broker, topic, 1, &[1; 400], "k").unwrap();
        let waiting = ["orders", "other"].map(|topic| range(&broker, topic, 1)).map(|(min, max)| max - min);
        assert!(waiting.iter().sum::<u64>() <= 64);
        assert!(broker.log.files().limit() - broker.log.files().start() <= bytes);
    }
    assert!(broker.deletions().log_files > 5 && broker.deletions().unconsumed > 0);
}

fn open_with_threads(dir: &Path, limits: Limits) -> Arc<Broker> {
    let config = StoreConfig { background: Background::Threads, ..limited(limits) };
    Broker::open(options(dir, config)).unwrap()
}

#[test]
fn a_send_that_waits_for_room_goes_on_when_a_group_does() {
    let dir = tempfile::tempdir().unwrap();
    let wait = Limit::new().count(5).overflow(Overflow::Block).wait(Duration::from_secs(3_600));
    let broker = open_with_threads(dir.path(), Limits::new().queue("orders", wait));
    commit(&broker, 0);
    send_many(&broker, "orders", 1, 5);
    let sender = {
        let broker = Arc::clone(&broker);
        std::thread::spawn(move || send_many(&broker, "orders", 1, 500))
    };
    for position in 1..=500 {
        // Never more than five wait, so the sender cannot be done before the group is.
        assert!(range(&broker, "orders", 1).1 <= position + 4);
        commit(&broker, position);
    }
    sender.join().unwrap();
    assert_eq!(range(&broker, "orders", 1), (0, 505));
    broker.close().unwrap();
}

#[test]
fn a_send_that_waits_is_refused_when_its_time_is_up_and_closed_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let wait =
        |wait| Limits::new().queue("orders", Limit::new().count(1).overflow(Overflow::Block).wait(wait));
    let broker = open_with_threads(dir.path(), wait(Duration::from_millis(1)));
    send(&broker, "orders", 1).unwrap();
    assert_busy(&send(&broker, "orders", 1), "1 messages wait");
    broker.close().unwrap();
    drop(broker);
    let broker = open_with_threads(dir.path(), wait(Duration::from_secs(3_600)));
    let sender = {
        let broker = Arc::clone(&broker);
        std::thread::spawn(move || send(&broker, "orders", 1))
    };
    broker.close().unwrap();
    assert!(matches!(sender.join().unwrap(), Err(Error::Closed)));
    drop(broker);
    // A store that is driven by hand does not wait.
    let broker = open_limited(dir.path(), wait(Duration::from_secs(3_600)));
    assert_busy(&send(&broker, "orders", 1), "1 messages wait");
}

#[test]
fn senders_side_by_side_exceed_a_limit_by_one_message_each_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_with_threads(dir.path(), Limits::new().topic("orders", Limit::new().count(100)));
    broker.add_topic(&TopicName::new("orders").unwrap(), TopicConfig::queues(4)).unwrap();
    std::thread::scope(|scope| {
        for id in 0..4 {
            let broker = &broker;
            scope.spawn(move || (0..200).filter(|_| send(broker, "orders", id).is_err()).count());
        }
    });
    let stored: u64 = (0..4).map(|id| range(&broker, "orders", id).1).sum();
    assert!((100..=103).contains(&stored), "{stored}");
    broker.close().unwrap();
}

/// What a random test does.
#[derive(Debug, Clone)]
enum Step {
    Send { queue: u32, len: usize },
    Commit { group: usize, queue: u32, share: f64 },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..2_u32, 1..300_usize).prop_map(|(queue, len)| Step::Send { queue, len }),
        3 => (0..2_usize, 0..2_u32, 0.0..=1.0).prop_map(|(group, queue, share)| Step::Commit { group, queue, share }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_is_refused_is_what_a_count_of_everything_refuses(steps in steps()) {
        let (count, bytes) = (20, 4_000);
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits::new().topic("orders", Limit::new().count(count).bytes(bytes));
        let mut broker = open_limited(dir.path(), limits.clone());
        // The sizes of each queue, and where each of two groups stands, if it does.
        let mut sizes: [Vec<u64>; 2] = Default::default();
        let mut stands: [[Option<u64>; 2]; 2] = Default::default();
        for step in steps {
            match step {
                Step::Send { queue, len } => {
                    let body = vec![1; len];
                    let waiting: Vec<u64> = (0..2).flat_map(|q| {
                        let registered = stands.iter().filter(|group| group.iter().any(Option::is_some));
                        let low = registered.map(|group| group[q].unwrap_or(0)).min().unwrap_or(0);
                        sizes[q][usize::try_from(low).unwrap()..].to_vec()
                    }).collect();
                    let before = broker.log_range().1.get();
                    let sent = try_put(&broker, "orders", queue, &body, "k");
                    let size = RECORD + len as u64 - 10;
                    let fits = (waiting.len() as u64) < count && waiting.iter().sum::<u64>() + size <= bytes;
                    prop_assert_eq!(sent.is_ok(), fits, "{:?}, {} wait", sent, waiting.len());
                    if fits {
                        sizes[queue as usize].push(size);
                    } else {
                        prop_assert_eq!(broker.log_range().1.get(), before);
                    }
                }
                Step::Commit { group, queue, share } => {
                    let key = PositionKey {
                        queue_id: queue,
                        group: GroupName::new(&format!("group-{group}")).unwrap(),
                        ..position_key()
                    };
                    let place = (share * sizes[queue as usize].len() as f64) as u64;
                    let position = broker.positions().position(&key, QueueOffset::ZERO).unwrap();
                    broker.positions().commit(&position, QueueOffset::new(place)).unwrap();
                    stands[group][queue as usize] = Some(place);
                }
                Step::Reopen => {
                    broker.kill();
                    drop(broker);
                    broker = open_limited(dir.path(), limits.clone());
                }
            }
        }
    }
}
