//! Does a consumer get every message once, in order, and only those that it wants?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use pocketmq::testing::TestStore;
use pocketmq::{
    Consumer, Error, Filter, Message, MessageQueue, PullStatus, QueueOffset, StartFrom, Store, TopicConfig,
};

fn store_with(topic: &str, queues: u32) -> TestStore {
    let store = TestStore::new();
    store.create_topic(topic, TopicConfig::queues(queues)).unwrap();
    store
}

fn send(store: &Store, topic: &'static str, tag: &'static str, count: usize) {
    let producer = store.producer("senders").unwrap();
    for n in 0..count {
        producer.send(Message::new(topic, format!("{tag}-{n}")).tag(tag)).unwrap();
    }
}

fn consumer(store: &Store, group: &str, topic: &str, tags: &str) -> Consumer {
    store.consumer(group).subscribe(topic, tags).build().unwrap()
}

/// Acknowledges everything that is there and returns the bodies.
fn drain(consumer: &Consumer) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(delivery) = consumer.try_recv().unwrap() {
        bodies.push(delivery.body_str().unwrap().into_owned());
        delivery.ack().unwrap();
    }
    bodies
}

fn only_queue(store: &Store, topic: &str) -> MessageQueue {
    store.queues(topic).unwrap().into_iter().next().unwrap()
}

#[test]
fn v2_what_was_sent_is_there_at_once_and_each_message_once() {
    let store = store_with("orders", 4);
    send(&store, "orders", "created", 100);
    let consumer = consumer(&store, "billing", "orders", "*");
    let mut bodies = drain(&consumer);
    bodies.sort();
    let mut expected: Vec<_> = (0..100).map(|n| format!("created-{n}")).collect();
    expected.sort();
    assert_eq!(bodies, expected);
    assert!(consumer.try_recv().unwrap().is_none());
    for queue in store.queues("orders").unwrap() {
        let end = store.queue_offsets(&queue).unwrap().end;
        assert_eq!(consumer.committed(&queue).unwrap(), Some(end), "T-A1: {queue}");
    }
}

#[test]
fn v3_one_queue_is_consumed_in_order() {
    let store = store_with("orders", 1);
    send(&store, "orders", "created", 200);
    let bodies = drain(&consumer(&store, "billing", "orders", "*"));
    assert_eq!(bodies, (0..200).map(|n| format!("created-{n}")).collect::<Vec<_>>(), "T-F4");
}

#[test]
fn v10_tag_filters_are_exact_and_what_is_filtered_out_counts_as_consumed() {
    let store = store_with("orders", 1);
    for tag in ["Aa", "BB", "other"] {
        send(&store, "orders", tag, 10);
    }
    let queue = only_queue(&store, "orders");
    let counts = [("BB", 10), ("Aa || BB", 20), ("BB||noExist", 10), ("*", 30), ("", 30), ("nothing", 0)];
    for (number, (tags, count)) in counts.into_iter().enumerate() {
        let consumer = consumer(&store, &format!("group-{number}"), "orders", tags);
        let bodies = drain(&consumer);
        assert_eq!(bodies.len(), count, "T-E1, T-E4, T-E6: {tags:?} gave {bodies:?}");
        assert_eq!(consumer.committed(&queue).unwrap(), Some(QueueOffset::new(30)), "F82: {tags:?}");
    }
}

#[test]
fn a_message_without_a_tag_matches_only_the_star() {
    let store = store_with("orders", 1);
    store.producer("senders").unwrap().send(Message::new("orders", "plain")).unwrap();
    assert_eq!(drain(&consumer(&store, "all", "orders", "*")), ["plain"]);
    assert!(drain(&consumer(&store, "tagged", "orders", "created")).is_empty());
}

#[test]
fn d10_what_was_acknowledged_does_not_come_back_after_a_kill_and_the_rest_does() {
    let store = store_with("orders", 1);
    send(&store, "orders", "created", 20);
    let reader = consumer(&store, "billing", "orders", "*");
    for _ in 0..12 {
        reader.recv().unwrap().ack().unwrap();
    }
    // The 13th is skipped, the 14th acknowledged: the position stays before the 13th.
    let skipped = reader.recv().unwrap();
    reader.recv().unwrap().ack().unwrap();
    std::mem::forget(skipped);
    drop(reader);
    let store = store.kill_process().unwrap();
    let bodies = drain(&consumer(&store, "billing", "orders", "*"));
    assert_eq!(bodies, (12..20).map(|n| format!("created-{n}")).collect::<Vec<_>>(), "T-F3, T-F7");
    let store = store.reopen().unwrap();
    assert!(drain(&consumer(&store, "billing", "orders", "*")).is_empty());
}

#[test]
fn a_dropped_delivery_comes_back_after_ten_seconds_and_counts_its_attempts() {
    let store = store_with("orders", 1);
    send(&store, "orders", "created", 2);
    let reader = consumer(&store, "billing", "orders", "*");
    drop(reader.recv().unwrap());
    let second = reader.recv().unwrap();
    assert_eq!(second.body_str().unwrap(), "created-1");
    second.ack().unwrap();
    let queue = only_queue(&store, "orders");
    assert_eq!(reader.committed(&queue).unwrap(), Some(QueueOffset::new(2)), "D14: its copy is stored");
    assert!(matches!(reader.recv(), Err(Error::Timeout)));
    store.advance(Duration::from_secs(9)).unwrap();
    assert!(reader.recv_timeout(Duration::from_secs(1)).unwrap().is_none());
    store.advance(Duration::from_secs(1)).unwrap();
    let again = reader.recv().unwrap();
    assert_eq!((again.attempt(), again.body_str().unwrap().as_ref()), (2, "created-0"));
    drop(again);
    store.advance(Duration::from_secs(30)).unwrap();
    let third = reader.recv().unwrap();
    assert_eq!(third.attempt(), 3);
    third.ack().unwrap();
    assert_eq!(reader.committed(&queue).unwrap(), Some(QueueOffset::new(2)));
}

#[test]
fn v9_a_group_starts_where_its_builder_says_and_only_once() {
    let store = store_with("orders", 1);
    send(&store, "orders", "old", 3);
    store.advance(Duration::from_secs(60)).unwrap();
    let middle = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_030_000);
    send(&store, "orders", "new", 2);
    let starts = [(StartFrom::Earliest, 5), (StartFrom::Latest, 0), (StartFrom::Time(middle), 2)];
    let build = |number: usize| {
        let group = format!("group-{number}");
        store.consumer(group).subscribe("orders", "*").start_from(starts[number].0).build().unwrap()
    };
    for (number, (start, count)) in starts.into_iter().enumerate() {
        assert_eq!(drain(&build(number)).len(), count, "F100: {start:?}");
    }
    // The groups have positions now, and start_from counts no more.
    send(&store, "orders", "later", 1);
    for (number, (start, _)) in starts.into_iter().enumerate() {
        assert_eq!(drain(&build(number)), ["later-0"], "{start:?}");
    }
}

#[test]
fn v9_nothing_that_is_sent_after_build_is_skipped_even_by_a_kill_in_between() {
    let store = store_with("orders", 2);
    send(&store, "orders", "old", 4);
    drop(store.consumer("cache").subscribe("orders", "*").start_from(StartFrom::Latest).build().unwrap());
    send(&store, "orders", "new", 4);
    let store = store.kill_process().unwrap();
    let reader =
        store.consumer("cache").subscribe("orders", "*").start_from(StartFrom::Latest).build().unwrap();
    assert_eq!(drain(&reader).len(), 4);
}

#[test]
fn a_topic_that_is_made_after_build_is_read_from_its_first_message() {
    let store = TestStore::new();
    let reader =
        store.consumer("billing").subscribe("later", "*").start_from(StartFrom::Latest).build().unwrap();
    assert!(reader.try_recv().unwrap().is_none());
    send(&store, "later", "created", 3);
    assert_eq!(drain(&reader).len(), 3);
    store.update_topic("later", TopicConfig::queues(9)).unwrap();
    send(&store, "later", "more", 20);
    assert_eq!(drain(&reader).len(), 20);
}

#[test]
fn after_close_every_handle_says_closed() {
    let store = store_with("orders", 1);
    send(&store, "orders", "created", 2);
    let reader = consumer(&store, "billing", "orders", "*");
    let delivery = reader.recv().unwrap();
    store.close().unwrap();
    assert!(matches!(delivery.ack(), Err(Error::Closed)), "A19");
    assert!(matches!(reader.try_recv(), Err(Error::Closed)));
    assert!(matches!(
        store.producer("senders").map(|producer| producer.send(Message::new("orders", "x"))),
        Err(Error::Closed) | Ok(Err(Error::Closed))
    ));
}

#[test]
fn a21_a_pull_corrects_offsets_as_rocketmq_does() {
    let store = store_with("orders", 2);
    let queue = only_queue(&store, "orders");
    let pull = |offset, count| store.pull(&queue, &Filter::all(), QueueOffset::new(offset), count).unwrap();
    assert_eq!((pull(0, 32).status, pull(0, 32).next_offset.get()), (PullStatus::NoNewMessage, 0));
    assert_eq!((pull(7, 32).status, pull(7, 32).next_offset.get()), (PullStatus::OffsetIllegal, 0));
    let producer = store.producer("senders").unwrap();
    for n in 0..10 {
        producer.send_to(&queue, Message::new("orders", format!("{n}"))).unwrap();
    }
    for (offset, count, status, messages, next) in [
        (0, 0, PullStatus::Found, 1, 1),
        (0, 4, PullStatus::Found, 4, 4),
        (0, usize::MAX, PullStatus::Found, 10, 10),
        (10, 32, PullStatus::NoNewMessage, 0, 10),
        (11, 32, PullStatus::OffsetIllegal, 0, 10),
        (i64::MAX.unsigned_abs(), 32, PullStatus::OffsetIllegal, 0, 10),
        (u64::MAX, 32, PullStatus::OffsetIllegal, 0, 10),
    ] {
        let pulled = pull(offset, count);
        assert_eq!(
            (pulled.status, pulled.messages.len(), pulled.next_offset.get()),
            (status, messages, next),
            "{offset}"
        );
        assert_eq!((pulled.min_offset.get(), pulled.max_offset.get()), (0, 10));
    }
    let filtered = store.pull(&queue, &Filter::from("none"), QueueOffset::ZERO, 32).unwrap();
    assert_eq!((filtered.status, filtered.next_offset.get()), (PullStatus::NoMatchedMessage, 10));
}

#[test]
fn a22_an_offset_is_found_by_time_at_both_ends_and_between() {
    let store = store_with("orders", 1);
    let queue = only_queue(&store, "orders");
    let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + millis);
    assert_eq!(store.offset_at(&queue, at(0)).unwrap(), QueueOffset::ZERO);
    for _ in 0..5 {
        send(&store, "orders", "twin", 2);
        store.advance(Duration::from_secs(10)).unwrap();
    }
    for (millis, offset) in
        [(0, 0), (1, 2), (10_000, 2), (10_001, 4), (40_000, 8), (40_001, 10), (99_000, 10)]
    {
        assert_eq!(store.offset_at(&queue, at(millis)).unwrap().get(), offset, "{millis}");
    }
    assert_eq!(store.offset_at(&queue, SystemTime::UNIX_EPOCH).unwrap(), QueueOffset::ZERO);
}

#[test]
fn a_waiting_consumer_is_woken_by_a_message_and_by_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (consumer, received) = (consumer.clone(), Arc::clone(&received));
            scope.spawn(move || {
                loop {
                    match consumer.recv() {
                        Ok(delivery) => {
                            delivery.ack().unwrap();
                            received.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            assert!(matches!(error, Error::Closed), "{error}");
                            return;
                        }
                    }
                }
            });
        }
        let producer = store.producer("senders").unwrap();
        for n in 0..500 {
            producer.send(Message::new("orders", format!("{n}"))).unwrap();
        }
        while received.load(Ordering::SeqCst) < 500 {
            std::thread::yield_now();
        }
        store.close().unwrap();
    });
    assert_eq!(received.load(Ordering::SeqCst), 500);
}

#[test]
fn t_f5_a_pull_commits_nothing() {
    let store = store_with("orders", 1);
    send(&store, "orders", "created", 20);
    let queue = only_queue(&store, "orders");
    for _ in 0..3 {
        let pulled = store.pull(&queue, &Filter::all(), QueueOffset::ZERO, 32).unwrap();
        assert_eq!(pulled.messages[0].body_str().unwrap(), "created-0");
        assert_eq!(pulled.messages.len(), 20);
    }
    assert_eq!(store.committed("nobody", &queue).unwrap(), None);
}

#[test]
fn one_wanted_message_behind_many_unwanted_ones_is_found_at_once() {
    let store = store_with("orders", 1);
    send(&store, "orders", "noise", 20_000);
    send(&store, "orders", "wanted", 1);
    let reader = consumer(&store, "billing", "orders", "wanted");
    assert_eq!(reader.try_recv().unwrap().expect("it is there").body_str().unwrap(), "wanted-0");
}

#[test]
fn f79_a_thousand_unacknowledged_messages_stop_a_queue_and_an_acknowledgement_wakes_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    send(&store, "orders", "created", 2_000);
    let reader = consumer(&store, "billing", "orders", "*");
    let mut held = Vec::new();
    while let Some(delivery) = reader.try_recv().unwrap() {
        held.push(delivery);
    }
    assert!((1_000..1_100).contains(&held.len()), "{}", held.len());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.recv().unwrap().ack().unwrap());
        held.into_iter().for_each(|delivery| delivery.ack().unwrap());
        waiting.join().unwrap();
    });
    assert!(drain(&reader).len() > 900);
}

#[test]
fn v9_what_is_sent_after_build_to_a_topic_or_queue_that_was_not_there_is_not_skipped_by_a_kill() {
    let store = store_with("orders", 1);
    let latest = |store: &Store| {
        let builder = store.consumer("cache").subscribe("orders", "*").subscribe("later", "*");
        builder.start_from(StartFrom::Latest).build().unwrap()
    };
    drop(latest(&store));
    store.update_topic("orders", TopicConfig::queues(4)).unwrap();
    send(&store, "orders", "created", 8);
    send(&store, "later", "first", 3);
    let store = store.kill_process().unwrap();
    assert_eq!(drain(&latest(&store)).len(), 11);
}

#[test]
fn d10_an_acknowledgement_in_a_deleted_topic_touches_no_other_position() {
    let store = store_with("orders", 1);
    store.create_topic("kept", TopicConfig::queues(4)).unwrap();
    send(&store, "orders", "created", 5);
    send(&store, "kept", "created", 160);
    let reader = consumer(&store, "billing", "orders", "*");
    let kept = consumer(&store, "other", "kept", "*");
    assert_eq!(drain(&kept).len(), 160);
    let held: Vec<_> = (0..3).map(|_| reader.recv().unwrap()).collect();
    store.delete_topic("orders").unwrap();
    held.into_iter().for_each(|delivery| delivery.ack().unwrap());
    assert!(reader.try_recv().unwrap().is_none() || store.topic("orders").is_none());
    drop((reader, kept));
    let store = store.kill_process().unwrap();
    for queue in store.queues("kept").unwrap() {
        assert_eq!(store.committed("other", &queue).unwrap(), Some(QueueOffset::new(40)), "{queue}");
    }
}

#[test]
fn f79_a_limit_for_a_topic_is_divided_among_the_queues_that_the_member_has() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("shop").unwrap();
    for queue in store.queues("orders").unwrap() {
        for n in 0..50 {
            producer.send_to(&queue, Message::new("orders", n.to_string())).unwrap();
        }
    }
    let builder = || store.consumer("billing").subscribe("orders", "*").pull_batch_size(1);
    let consumer = builder().pull_threshold_for_topic(20).build().unwrap();
    let mut in_hand: Vec<_> = consumer.try_iter().map(|delivery| delivery.unwrap()).collect();
    // Looked at before each fetch, so one more of each queue.
    assert_eq!(in_hand.len(), 24);
    in_hand.pop().unwrap().ack().unwrap();
    drop((in_hand, consumer));
    for wrong in [builder().pull_threshold_for_topic(0), builder().pull_threshold_bytes_for_topic(1)] {
        assert!(wrong.build().unwrap_err().to_string().contains("for_topic"));
    }
}
