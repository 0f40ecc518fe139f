//! Does an operator get true answers, and do the things that are done by hand what they say, and nothing else?

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use pocketmq::testing::TestStore;
use pocketmq::{
    Background, Error, LagState, LagThreshold, Message, MessageQueue, QueueOffset, Store, TopicConfig,
    TrackState,
};

fn filled(count: u32) -> TestStore {
    let store = TestStore::builder(|builder| builder.brokers(["a", "b"]));
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    send(&store, 0..count);
    store
}

/// Sends one message a second, to each queue in turn.
fn send(store: &TestStore, numbers: std::ops::Range<u32>) {
    let producer = store.producer("shop").unwrap();
    let queues = store.queues("orders").unwrap();
    for number in numbers {
        let message =
            Message::new("orders", number.to_string()).tag(if number % 2 == 0 { "even" } else { "odd" });
        producer.send_to(&queues[number as usize % queues.len()], message).unwrap();
        store.advance(Duration::from_secs(1)).unwrap();
    }
}

fn consume(store: &TestStore, group: &str, count: usize) -> usize {
    let consumer = store.consumer(group).subscribe("orders", "*").build().unwrap();
    let mut consumed = 0;
    while consumed < count
        && let Some(message) = consumer.try_recv().unwrap()
    {
        message.ack().unwrap();
        consumed += 1;
    }
    consumed
}

fn refused<T: std::fmt::Debug>(result: pocketmq::Result<T>) -> (&'static str, String) {
    match result {
        Err(Error::InvalidArgument { field, reason }) => (field, reason.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn e13_topics_and_queues_say_what_is_in_them() {
    let store = filled(40);
    store.create_topic("empty", TopicConfig::queues(3)).unwrap();
    let admin = store.admin();
    let names: Vec<_> = admin.topics().unwrap().iter().map(|topic| topic.topic.to_string()).collect();
    assert_eq!(names, ["empty", "orders"]);
    let orders = admin.topic("orders").unwrap();
    assert_eq!((orders.messages(), orders.queues.len(), orders.config.read_queues), (40, 4, 2));
    let sizes: Vec<_> = orders.queues.iter().map(|queue| queue.messages()).collect();
    assert_eq!(sizes, [10; 4]);
    let last = orders.queues.iter().map(|queue| queue.last_stored.unwrap()).max().unwrap();
    assert_eq!(last, UNIX_EPOCH + Duration::from_millis(1_700_000_000_000) + Duration::from_secs(39));
    let empty = admin.topic("empty").unwrap();
    assert!(empty.queues.len() == 6 && empty.queues.iter().all(|queue| queue.last_stored.is_none()));
    assert!(matches!(admin.topic("other"), Err(Error::TopicNotFound(_))));
    assert_eq!(refused(admin.topic("or/ders")).0, "topic");
}

#[test]
fn e15_lag_counts_messages_and_their_age_in_every_queue() {
    let store = filled(40);
    let admin = store.admin();
    assert!(admin.lag("billing").unwrap().queues.is_empty(), "nobody knows this group");
    assert_eq!(consume(&store, "billing", 4), 4);
    let lag = admin.lag("billing").unwrap();
    assert_eq!(lag.messages(), 36);
    assert_eq!(lag.queues.len(), 4);
    // Each queue gave one of its ten; the oldest that waits is the fifth of all, of 40 seconds.
    assert!(lag.queues.iter().all(|queue| queue.messages == 9), "{lag:?}");
    assert_eq!(lag.age(), Duration::from_secs(36));
    assert_eq!(consume(&store, "billing", 100), 36);
    let lag = admin.lag("billing").unwrap();
    assert_eq!((lag.messages(), lag.age()), (0, Duration::ZERO));
}

#[test]
fn e15_a_backlog_is_told_once_when_it_grows_too_large_and_once_when_it_is_gone() {
    let store = filled(0);
    consume(&store, "billing", 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let watch = |threshold: LagThreshold| {
        let seen = Arc::clone(&told);
        store
            .admin()
            .watch_lag("billing", threshold.every(Duration::from_secs(1)), move |alarm| {
                seen.lock().unwrap().push((alarm.state, alarm.lag.messages()));
            })
            .unwrap()
    };
    let by_count = watch(LagThreshold::new().messages(5));
    send(&store, 0..10);
    assert_eq!(*told.lock().unwrap(), [(LagState::Behind, 6)]);
    consume(&store, "billing", 7);
    store.advance(Duration::from_secs(2)).unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&(LagState::CaughtUp, 3)));
    drop(by_count);
    send(&store, 10..30);
    assert_eq!(told.lock().unwrap().len(), 2, "a watch that was dropped says nothing");
    consume(&store, "billing", 100);
    let _by_age = watch(LagThreshold::new().age(Duration::from_secs(60)));
    send(&store, 30..31);
    store.advance(Duration::from_secs(50)).unwrap();
    assert_eq!(told.lock().unwrap().len(), 2);
    store.advance(Duration::from_secs(20)).unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&(LagState::Behind, 1)));
    let admin = store.admin();
    assert_eq!(refused(admin.watch_lag("billing", LagThreshold::new(), |_| ())).0, "threshold");
    let never = LagThreshold::new().messages(1).every(Duration::ZERO);
    assert_eq!(refused(admin.watch_lag("billing", never, |_| ())).0, "every");
}

#[test]
fn e15_a_watch_has_a_thread_that_ends_with_it_and_does_not_keep_the_store_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).background(Background::Threads).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    drop(store.consumer("billing").subscribe("orders", "*").build().unwrap());
    let (sender, told) = std::sync::mpsc::channel();
    let threshold = LagThreshold::new().messages(0).every(Duration::from_millis(1));
    let watch = store.admin().watch_lag("billing", threshold, move |alarm| {
        let _ = sender.send(alarm.state);
    });
    store.producer("shop").unwrap().send(Message::new("orders", "hello")).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), LagState::Behind);
    drop(store);
    // The folder is free: nobody holds the store, but for the one look that may be under way.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = Store::open(dir.path()) {
        assert!(matches!(error, Error::Locked(_)) && std::time::Instant::now() < deadline, "{error}");
    }
    drop(watch);
    let end = told.recv_timeout(Duration::from_secs(20)).unwrap_err();
    assert_eq!(end, std::sync::mpsc::RecvTimeoutError::Disconnected, "the function went with its watch");
}

#[test]
fn e13_who_consumes_what_is_listed_and_who_runs() {
    let store = filled(4);
    consume(&store, "billing", 1);
    let _audit = store.consumer("audit").subscribe("orders", "*").build().unwrap();
    let groups = store.admin().consumers_of("orders").unwrap();
    let seen: Vec<_> = groups.iter().map(|group| (group.group.to_string(), group.is_running)).collect();
    assert_eq!(seen, [("audit".to_owned(), true), ("billing".to_owned(), false)]);
    assert!(groups.iter().all(|group| group.topics.iter().any(|topic| topic.as_str() == "orders")));
    assert!(matches!(store.admin().consumers_of("other"), Err(Error::TopicNotFound(_))));
}

#[test]
fn e14_the_way_of_one_message_is_known_for_every_group() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    for body in ["first", "second"] {
        producer.send(Message::new("orders", body)).unwrap();
    }
    let queue = store.queues("orders").unwrap().remove(0);
    let admin = store.admin();
    let states = |offset| -> Vec<(String, TrackState)> {
        let tracks = admin.message_track(&queue, QueueOffset::new(offset)).unwrap();
        tracks.into_iter().map(|track| (track.group.to_string(), track.state)).collect()
    };
    assert!(states(0).is_empty());
    consume(&store, "audit", 1);
    let running = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let named = |audit, billing| vec![("audit".to_owned(), audit), ("billing".to_owned(), billing)];
    assert_eq!(states(0), named(TrackState::Consumed, TrackState::NotConsumed));
    assert_eq!(states(1), named(TrackState::NotRunning, TrackState::NotConsumed));
    running.try_recv().unwrap().unwrap().ack().unwrap();
    assert_eq!(states(0), named(TrackState::Consumed, TrackState::Consumed));
    assert_eq!(refused(admin.message_track(&queue, QueueOffset::new(2))).0, "offset");
}

#[test]
fn e13_browsing_a_topic_moves_nobody() {
    let store = filled(40);
    consume(&store, "billing", 5);
    let before = store.admin().lag("billing").unwrap();
    let bodies = |browse: pocketmq::Browse| -> Vec<u32> {
        let messages = browse.messages().unwrap().map(|message| message.unwrap());
        messages.map(|message| message.body_str().unwrap().parse().unwrap()).collect()
    };
    let admin = store.admin();
    let mut all = bodies(admin.browse("orders").unwrap());
    assert_eq!(all[..3], [0, 4, 8], "one queue after the other");
    all.sort();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    let queue = &store.queues("orders").unwrap()[1];
    let one = admin.browse("orders").unwrap().queue(queue).from(QueueOffset::new(8));
    assert_eq!(bodies(one), [33, 37]);
    let start = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
    let window = admin.browse("orders").unwrap().since(start + Duration::from_secs(10));
    let mut window = bodies(window.until(start + Duration::from_secs(14)).filter("even"));
    window.sort();
    assert_eq!(window, [10, 12]);
    assert_eq!(store.admin().lag("billing").unwrap(), before);
    assert!(matches!(admin.browse("other"), Err(Error::TopicNotFound(_))));
}

#[test]
fn e11_a_group_is_moved_to_a_time_to_a_place_and_to_another_groups_place() {
    let store = filled(40);
    let admin = store.admin();
    assert_eq!(consume(&store, "billing", 40), 40);
    let start = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
    let moved = admin.reset_to_time("billing", "orders", start + Duration::from_secs(30)).unwrap();
    assert_eq!(moved.len(), 4);
    assert!(
        moved.iter().all(|moved| moved.from == Some(QueueOffset::new(10)) && moved.to < moved.from.unwrap())
    );
    assert_eq!(consume(&store, "billing", 40), 10);
    let queue = &store.queues("orders").unwrap()[2];
    let moved = admin.reset_to_offset("billing", queue, QueueOffset::new(3)).unwrap();
    assert_eq!((moved.from, moved.to), (Some(QueueOffset::new(10)), QueueOffset::new(3)));
    assert_eq!(consume(&store, "billing", 40), 7);
    assert_eq!(refused(admin.reset_to_offset("billing", queue, QueueOffset::new(11))).0, "offset");
    let nowhere = MessageQueue::new(queue.topic().clone(), queue.broker().clone(), 9);
    assert_eq!(refused(admin.reset_to_offset("billing", &nowhere, QueueOffset::ZERO)).0, "queue");
    assert_eq!(consume(&store, "audit", 12), 12);
    admin.clone_position("audit", "billing", "orders").unwrap();
    assert_eq!(admin.lag("billing").unwrap().messages(), 28);
    // And it stays so.
    let store = store.kill_process().unwrap();
    assert_eq!(consume(&store, "billing", 40), 28);
}

#[test]
fn e12_what_waits_is_skipped_also_by_a_running_group_which_cannot_be_deleted() {
    let store = filled(40);
    let admin = store.admin();
    consume(&store, "billing", 3);
    admin.skip("billing", "orders").unwrap();
    assert_eq!(admin.lag("billing").unwrap().messages(), 0);
    send(&store, 40..42);
    let running = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let (field, reason) = refused(admin.delete_group("billing"));
    assert!(field == "group" && reason.contains("drop it first"), "{reason}");
    assert_eq!(admin.lag("billing").unwrap().messages(), 2);
    admin.skip("billing", "orders").unwrap();
    assert!(running.try_recv().unwrap().is_none());
    let queue = &store.queues("orders").unwrap()[0];
    admin.reset_to_offset("billing", queue, QueueOffset::ZERO).unwrap();
    assert_eq!(running.try_recv().unwrap().unwrap().body_str().unwrap(), "0");
}

#[test]
fn e35_a_purged_topic_is_empty_goes_on_and_stays_so() {
    let store = filled(40);
    consume(&store, "billing", 5);
    let running = store.consumer("audit").subscribe("orders", "*").build().unwrap();
    running.try_recv().unwrap().unwrap().ack().unwrap();
    store.admin().purge_topic("orders").unwrap();
    assert!(running.try_recv().unwrap().is_none());
    let orders = store.admin().topic("orders").unwrap();
    assert_eq!((orders.messages(), orders.config.read_queues), (0, 2));
    send(&store, 0..8);
    for _ in 0..8 {
        running.try_recv().unwrap().unwrap().ack().unwrap();
    }
    assert!(running.try_recv().unwrap().is_none());
    drop(running);
    let store = store.kill_process().unwrap();
    assert_eq!(store.admin().topic("orders").unwrap().messages(), 8);
    assert_eq!(consume(&store, "billing", 100), 8);
    // Also where the queues are made again from the log.
    store.close().unwrap();
    let folder = store.kill_into_folder();
    for broker in ["a", "b"] {
        std::fs::remove_dir_all(folder.path().join(broker).join("consumequeue")).unwrap();
    }
    let store = folder.open().unwrap();
    assert_eq!(store.admin().topic("orders").unwrap().messages(), 8);
    assert!(matches!(store.admin().purge_topic("other"), Err(Error::TopicNotFound(_))));
    assert_eq!(refused(store.admin().purge_topic("SCHEDULE_TOPIC_XXXX")).0, "topic");
}

#[test]
fn e30_names_with_a_namespace_before_them_are_names_of_their_own() {
    let store = TestStore::new();
    let producer = store.producer("one%shop").unwrap();
    for tenant in ["one", "two"] {
        producer.send(Message::new(format!("{tenant}%orders"), tenant)).unwrap();
    }
    for tenant in ["one", "two"] {
        let consumer = store.consumer(format!("{tenant}%billing"));
        let consumer = consumer.subscribe(&format!("{tenant}%orders"), "*").build().unwrap();
        let delivery = consumer.try_recv().unwrap().unwrap();
        assert_eq!(delivery.body_str().unwrap(), tenant);
        delivery.fail("again").unwrap();
        assert!(consumer.try_recv().unwrap().is_none());
        assert!(store.topic(format!("%RETRY%{tenant}%billing")).is_some());
    }
}

#[test]
fn e35_a_deleted_group_starts_anew_and_its_dead_letters_stay() {
    let store = filled(8);
    consume(&store, "billing", 8);
    let deleted = store.admin().delete_group("billing").unwrap();
    assert!(deleted.positions >= 4, "{deleted:?}");
    assert!(store.admin().groups().unwrap().iter().all(|group| group.group.as_str() != "billing"));
    let store = store.kill_process().unwrap();
    assert_eq!(consume(&store, "billing", 100), 8);
    store.admin().delete_topic("orders").unwrap();
    assert!(store.topic("orders").is_none());
}

#[test]
fn e35_t_k9_only_what_nobody_can_use_is_cleaned() {
    let store = filled(40);
    consume(&store, "billing", 8);
    let kept = store.admin().topics().unwrap();
    let cleaned = store.admin().clean_unused().unwrap();
    assert_eq!(cleaned, pocketmq::Cleaned::default());
    assert_eq!(store.admin().topics().unwrap(), kept);
    // Fewer queues: the second one of each broker has messages still, and stays.
    store.update_topic("orders", TopicConfig::queues(1)).unwrap();
    let cleaned = store.admin().clean_unused().unwrap();
    assert!(cleaned.positions.is_empty(), "{cleaned:?}");
    assert_eq!(store.admin().topic("orders").unwrap().messages(), 40);
}

#[test]
fn e35_t_k9_a_queue_that_its_topic_does_not_have_any_more_is_deleted_with_its_messages() {
    let store = filled(40);
    consume(&store, "billing", 12);
    let admin = store.admin();
    let queues = store.queues("orders").unwrap();
    let last = queues.iter().find(|queue| queue.queue_id() == 1).unwrap();
    let (field, reason) = refused(admin.delete_queue(last));
    assert!(field == "queue" && reason.contains("still has"), "{reason}");
    store.update_topic("orders", TopicConfig::queues(1)).unwrap();
    let before = admin.lag("billing").unwrap().messages();
    assert_eq!(admin.delete_queue(last).unwrap(), 10);
    assert!(admin.topic("orders").unwrap().queues.iter().all(|info| info.queue != *last));
    assert_eq!(
        (admin.topic("orders").unwrap().messages(), before > admin.lag("billing").unwrap().messages()),
        (30, true)
    );
    assert_eq!(store.committed("billing", last).unwrap(), None);
    assert_eq!(admin.delete_queue(last).unwrap(), 0, "again: nothing is left");
    let nowhere = MessageQueue::new(last.topic().clone(), last.broker().clone(), 9);
    assert_eq!(refused(admin.delete_queue(&nowhere)).0, "queue");
    // Whatever happens: after a kill, and where queues are made again from the log.
    let store = store.kill_process().unwrap();
    assert_eq!(store.admin().topic("orders").unwrap().messages(), 30);
    store.close().unwrap();
    let folder = store.kill_into_folder();
    for broker in ["a", "b"] {
        std::fs::remove_dir_all(folder.path().join(broker).join("consumequeue")).unwrap();
    }
    let store = folder.open().unwrap();
    assert_eq!(store.admin().topic("orders").unwrap().messages(), 30);
    // And it goes on with its numbers if it comes back.
    store.update_topic("orders", TopicConfig::queues(2)).unwrap();
    let receipt = store.producer("shop").unwrap().send_to(last, Message::new("orders", "back")).unwrap();
    assert_eq!(receipt.queue_offset(), QueueOffset::new(10));
    assert_eq!(store.admin().topic("orders").unwrap().messages(), 31);
}

#[test]
fn e15_counters_are_offsets_and_rates_their_differences() {
    let store = filled(10);
    let before = store.admin().stats().unwrap();
    send(&store, 10..40);
    consume(&store, "billing", 15);
    let after = store.admin().stats().unwrap();
    assert_eq!((after.topics[0].stored, after.topics[0].held), (40, 40));
    assert_eq!(after.brokers.len(), 2);
    assert!(after.brokers.iter().all(|broker| broker.flushed <= broker.log_end && broker.free_bytes > 0));
    let rates = after.since(&before);
    assert_eq!((rates.stored[0].1.count, rates.stored[0].1.over), (30, Duration::from_secs(30)));
    assert!((rates.stored[0].1.per_second() - 1.0).abs() < 1e-9);
    let billing = rates.consumed.iter().find(|(_, topic, _)| topic.as_str() == "orders").unwrap();
    assert_eq!(billing.2.count, 15);
    assert!(rates.bytes_stored.iter().all(|(_, rate)| rate.count > 1_000));
    let store = store.kill_process().unwrap();
    assert_eq!(store.admin().stats().unwrap().topics, after.topics, "a restart loses no count");
    let none = before.since(&after);
    assert_eq!((none.stored[0].1.count, none.stored[0].1.per_second()), (0, 0.0));
}

#[test]
fn a19_after_the_end_every_answer_is_closed_and_a_second_end_does_nothing() {
    let store = filled(4);
    consume(&store, "billing", 2);
    let admin = store.admin();
    let producer = store.producer("shop").unwrap();
    let consumer = store.consumer("audit").subscribe("orders", "*").build().unwrap();
    let queue = store.queues("orders").unwrap().remove(0);
    store.close().unwrap();
    store.close().unwrap();
    let closed = [
        producer.send(Message::new("orders", "late")).err(),
        consumer.try_recv().err(),
        store.producer("other").err(),
        store.consumer("other").subscribe("orders", "*").build().err(),
        admin.topics().err(),
        admin.topic("orders").err(),
        admin.groups().err(),
        admin.consumers_of("orders").err(),
        admin.lag("billing").err(),
        admin.stats().err(),
        admin.browse("orders").err(),
        admin.message_track(&queue, QueueOffset::ZERO).err(),
        admin.reset_to_time("billing", "orders", UNIX_EPOCH).err(),
        admin.reset_to_offset("billing", &queue, QueueOffset::ZERO).err(),
        admin.skip("billing", "orders").err(),
        admin.clone_position("billing", "audit", "orders").err(),
        admin.purge_topic("orders").err(),
        admin.delete_topic("orders").err(),
        admin.delete_queue(&queue).err(),
        admin.delete_group("billing").err(),
        admin.clean_unused().err(),
        admin.watch_lag("billing", LagThreshold::new().messages(1), |_| ()).err(),
    ];
    for (place, error) in closed.into_iter().enumerate() {
        assert!(matches!(error, Some(Error::Closed)), "{place}: {error:?}");
    }
}

#[test]
fn a19_a_store_that_is_dropped_without_a_close_is_flushed_and_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.producer("shop").unwrap().send(Message::new("orders", "hello")).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.recovery()[0].last_stop, pocketmq::LastStop::Clean);
    assert_eq!(store.admin().topic("orders").unwrap().messages(), 1);
}

#[test]
fn what_changes_a_store_is_refused_on_one_that_is_only_read_and_answers_are_not() {
    let store = filled(8);
    consume(&store, "billing", 2);
    let folder = store.kill_into_folder();
    let store = Store::open_read_only(folder.path()).unwrap();
    let admin = store.admin();
    assert_eq!(admin.lag("billing").unwrap().messages(), 6);
    assert_eq!(admin.stats().unwrap().topics[0].stored, 8);
    for result in [
        admin.skip("billing", "orders").err(),
        admin.purge_topic("orders").err(),
        admin.delete_group("billing").err(),
        admin.clean_unused().err(),
    ] {
        assert!(matches!(result, Some(Error::Unsupported(_))), "{result:?}");
    }
}
