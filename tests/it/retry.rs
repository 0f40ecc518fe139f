//! Does a message that could not be handled come back as RocketMQ brings it back, and end among the dead letters?

use std::sync::Arc;
use std::time::Duration;

use crate::golden::Golden;
use pocketmq::testing::TestStore;
use pocketmq::{
    Background, Error, Filter, FlushPolicy, ManualClock, Message, MessageQueue, MessageView, SentBack, Store,
    TopicConfig,
};

const LADDER: [u64; 16] =
    [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];

fn send(store: &Store, body: &'static str) -> pocketmq::SendReceipt {
    let message = Message::new("orders", body).tag("t").key("k").property("n", "v").flag(7);
    store.producer("shop").unwrap().send(message).unwrap()
}

fn queue_of(store: &Store, topic: &str) -> MessageQueue {
    store.queues(topic).unwrap().remove(0)
}

/// Returns everything in the first queue of a topic.
fn all(store: &Store, topic: &str) -> Vec<MessageView> {
    let queue = queue_of(store, topic);
    let Some(range) = store.queue_offsets(&queue) else { return Vec::new() };
    store.pull(&queue, &Filter::all(), range.start, 100).unwrap().messages
}

fn one_queue() -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    store
}

#[test]
fn v8_f102_f103_i15_a_failed_message_climbs_the_ladder_and_ends_in_the_dead_letters() {
    let store = one_queue();
    let sent = send(&store, "poison");
    let mut message = all(&store, "orders").remove(0);
    let mut queue = queue_of(&store, "orders");
    for (times, wait) in LADDER.into_iter().enumerate() {
        let reason = format!("attempt {} failed", times + 1);
        let level = times as u32 + 3;
        assert_eq!(store.send_back("billing", &queue, &message, &reason).unwrap(), SentBack::Retry { level });
        store.advance(Duration::from_secs(wait) - Duration::from_millis(1)).unwrap();
        assert_eq!(all(&store, "%RETRY%billing").len(), times, "never early");
        store.advance(Duration::from_millis(1)).unwrap();
        message = all(&store, "%RETRY%billing").pop().unwrap();
        queue = queue_of(&store, "%RETRY%billing");
        assert_eq!(message.queue_offset().get(), times as u64);
        assert_eq!(message.reconsume_times(), times as u32 + 1);
        assert_eq!(message.message_id(), sent.message_id());
        assert_eq!(message.original_topic(), "orders");
        assert_eq!(message.failure_reason(), Some(reason.as_str()));
        assert_eq!(message.property("ORIGIN_MESSAGE_ID"), Some(sent.offset_id().to_string().as_str()));
        assert_eq!(message.property("DELAY"), Some(level.to_string().as_str()));
        assert_eq!((message.property("WAIT"), message.property("n")), (Some("false"), Some("v")));
        assert_eq!((message.tag(), message.flag(), message.body_str().unwrap().as_ref()), ("t", 7, "poison"));
        assert_eq!(message.properties().iter().filter(|(name, _)| *name == "__CRC32#").count(), 1);
    }
    assert!(store.queues("%DLQ%billing").is_err(), "no dead letter before the last retry");
    let result = store.send_back("billing", &queue, &message, "gave up").unwrap();
    assert_eq!(result, SentBack::DeadLetters);
    store.advance(Duration::from_secs(86_400)).unwrap();
    assert_eq!(all(&store, "%RETRY%billing").len(), 16);
    let letters = store.dead_letters("billing").unwrap().list(10).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reconsume_times(), letters[0].message_id()), (17, sent.message_id()));
    assert_eq!((letters[0].failure_reason(), letters[0].original_topic()), (Some("gave up"), "orders"));
    assert_eq!(letters[0].property("DELAY"), Some("0"));
    assert_eq!(store.topic("%DLQ%billing"), Some(TopicConfig::queues(1)));
}

#[test]
fn d14_the_copy_is_stored_when_the_call_returns() {
    for policy in [FlushPolicy::Async, FlushPolicy::Sync] {
        let store = TestStore::builder(move |builder| builder.flush(policy));
        store.create_topic("orders", TopicConfig::queues(1)).unwrap();
        send(&store, "one");
        let message = all(&store, "orders").remove(0);
        store.send_back("billing", &queue_of(&store, "orders"), &message, "no").unwrap();
        drop(message);
        let store = store.kill_process().unwrap();
        store.advance(Duration::from_secs(10)).unwrap();
        let came = all(&store, "%RETRY%billing");
        assert_eq!((came.len(), came[0].failure_reason()), (1, Some("no")));
    }
}

#[test]
fn a_message_is_sent_back_for_its_own_queue_only_and_for_a_group() {
    let store = one_queue();
    store.create_topic("other", TopicConfig::queues(1)).unwrap();
    send(&store, "one");
    let message = all(&store, "orders").remove(0);
    let error = store.send_back("billing", &queue_of(&store, "other"), &message, "").unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "queue", .. }), "{error}");
    assert!(store.send_back("%RETRY%x", &queue_of(&store, "orders"), &message, "").is_err());
    assert!(store.queues("%RETRY%billing").is_err());
}

#[test]
fn a10_a_message_whose_properties_leave_no_room_for_a_copy_loses_its_own_and_never_stops_its_queue() {
    let store = one_queue();
    // As many as a record holds: nothing can be added.
    let message = Message::new("orders", "x").tag("t").property("n", "v".repeat(32_767 - 72));
    store.producer("shop").unwrap().send(message).unwrap();
    let message = all(&store, "orders").remove(0);
    store.send_back("billing", &queue_of(&store, "orders"), &message, "no").unwrap();
    store.advance(Duration::from_secs(10)).unwrap();
    let copy = all(&store, "%RETRY%billing").remove(0);
    assert_eq!((copy.message_id(), copy.tag(), copy.property("n")), (message.message_id(), "t", None));
    assert_eq!((copy.original_topic(), copy.reconsume_times()), ("orders", 1));
    let reason = copy.failure_reason().unwrap();
    assert!(reason.contains("properties were dropped") && reason.ends_with(": no"), "{reason}");
}

#[test]
fn a_message_whose_properties_are_full_is_sent_back_without_the_reason() {
    let store = one_queue();
    let full = Message::new("orders", "x").property("n", "v".repeat(32_767 - 700));
    store.producer("shop").unwrap().send(full).unwrap();
    let message = all(&store, "orders").remove(0);
    store.send_back("billing", &queue_of(&store, "orders"), &message, &"r".repeat(2_000)).unwrap();
    store.advance(Duration::from_secs(10)).unwrap();
    assert_eq!(all(&store, "%RETRY%billing")[0].failure_reason(), None);
}

fn kill_off(store: &Store, topic: &str) {
    let queue = queue_of(store, topic);
    for message in all(store, topic) {
        // Sent back so often that it is given up, without waiting for each attempt.
        let mut message = message;
        let mut queue = queue.clone();
        while store.send_back("billing", &queue, &message, "broken").unwrap() != SentBack::DeadLetters {
            store.step().unwrap();
            let retry = queue_of(store, "%RETRY%billing");
            message = all(store, "%RETRY%billing").pop().unwrap();
            queue = retry;
        }
    }
}

#[test]
fn f105_dead_letters_are_listed_and_redriven_each_with_a_result() {
    let no_wait = "0s 0s 0s";
    let store = TestStore::builder(move |builder| builder.delay_levels(no_wait));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    for body in ["a", "b", "c"] {
        send(&store, body);
    }
    kill_off(&store, "orders");
    let letters = store.dead_letters("billing").unwrap();
    assert_eq!((letters.count().unwrap(), letters.list(2).unwrap().len()), (3, 2));
    let before = all(&store, "%RETRY%billing").len();
    let redriven = letters.redrive(2).unwrap();
    assert!(redriven.iter().all(|one| one.result.is_ok()) && redriven.len() == 2);
    assert_eq!(letters.count().unwrap(), 1);
    let again = all(&store, "%RETRY%billing").split_off(before);
    assert_eq!(again.iter().map(|view| view.reconsume_times()).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(again[0].message_id(), redriven[0].message_id);
    assert_eq!((again[0].original_topic(), again[0].failure_reason()), ("orders", Some("broken")));
    // Positions survive: what was redriven is not redriven again.
    let store = store.kill_process().unwrap();
    let letters = store.dead_letters("billing").unwrap();
    assert_eq!(letters.redrive(100).unwrap().len(), 1);
    assert_eq!((letters.count().unwrap(), letters.redrive(100).unwrap().len()), (0, 0));
    assert_eq!(all(&store, "orders").len(), 3, "no other group sees any of it again");
}

/// What a group of another broker's had waiting and had given up goes on here.
fn check_golden(name: &'static str) {
    let Some(golden) = Golden::unpack(name) else { return };
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let hands: Arc<dyn pocketmq::Clock> = Arc::<ManualClock>::clone(&clock);
    let store = golden.open().clock(hands).background(Background::Manual).open().unwrap();
    store.step().unwrap();

    // Retries that waited on a delay come to their group, as the messages that they are copies of.
    let lag = store.admin().lag("billing").unwrap();
    assert!(lag.messages() > 0);
    let topics: Vec<_> = lag.queues.iter().map(|lag| lag.queue.topic().clone()).collect();
    let own = topics.iter().filter(|topic| !topic.is_retry() && !topic.is_dead_letters());
    let mut builder = store.consumer("billing");
    for topic in own.collect::<std::collections::BTreeSet<_>>() {
        builder = builder.subscribe(topic.as_str(), "*");
    }
    let billing = builder.build().unwrap();
    let mut retried = 0;
    while let Some(message) = billing.try_recv().unwrap() {
        assert!(!message.topic().starts_with("%RETRY%"), "{}", message.topic());
        retried += usize::from(message.attempt() > 1);
        message.ack().unwrap();
    }
    assert!(retried > 0, "{name}: no retry came");

    let letters = store.dead_letters("mailer").unwrap();
    let dead = letters.list(100).unwrap();
    assert!(!dead.is_empty() && dead.len() as u64 == letters.count().unwrap(), "{name}");
    assert!(dead.iter().all(|letter| letter.original_topic() != letter.topic()));
    let redriven = letters.redrive(100).unwrap();
    assert!(redriven.len() == dead.len() && redriven.iter().all(|one| one.result.is_ok()));
    assert_eq!((letters.count().unwrap(), all(&store, "%RETRY%mailer").len() >= dead.len()), (0, true));
    store.close().unwrap();
}

#[test]
fn retries_and_dead_letters_of_apache_4_9_7_go_on_where_it_left_them() {
    check_golden("apache-4.9.7-clean");
}

#[test]
fn retries_and_dead_letters_of_apache_5_x_go_on_where_it_left_them() {
    check_golden("apache-5.4.0-killed");
    check_golden("apache-5.5.0-killed");
}
