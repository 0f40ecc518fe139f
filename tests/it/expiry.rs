//! Does a message that has expired go to the dead letters of its groups instead of to their handlers?

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    ConsumeStatus, Error, FileSizes, Filter, Message, QueueOffset, Retention, Store, TopicConfig,
};

const MINUTE: Duration = Duration::from_secs(60);

fn one_queue() -> TestStore {
    let store = TestStore::new();
    store.create_topic("codes", TopicConfig::queues(1)).unwrap();
    store
}

fn send(store: &Store, body: &'static str, expires_in: Option<Duration>) {
    let message = Message::new("codes", body).key(body).tag("t");
    let message = match expires_in {
        Some(time) => message.expires_in(time),
        None => message,
    };
    store.producer("shop").unwrap().send(message).unwrap();
}

/// Returns body and reason of each dead letter.
fn letters(store: &Store, group: &str) -> Vec<(String, Option<String>)> {
    let list = store.dead_letters(group).unwrap().list(100).unwrap();
    list.iter()
        .map(|letter| (letter.body_str().unwrap().into_owned(), letter.failure_reason().map(str::to_owned)))
        .collect()
}

fn expired(body: &str) -> (String, Option<String>) {
    (body.to_owned(), Some("expired".to_owned()))
}

fn committed(store: &Store, group: &str) -> u64 {
    let queue = store.queues("codes").unwrap().remove(0);
    store.committed(group, &queue).unwrap().unwrap_or(QueueOffset::ZERO).get()
}

#[test]
fn an_expired_message_goes_to_the_dead_letters_of_each_group_and_the_position_passes_it() {
    let store = one_queue();
    send(&store, "one", Some(MINUTE));
    send(&store, "two", None);
    send(&store, "three", Some(MINUTE * 2));
    let early = store.consumer("early").subscribe("codes", "*").build().unwrap();
    store.advance(MINUTE - Duration::from_millis(1)).unwrap();
    let delivery = early.recv().unwrap();
    assert_eq!(delivery.body_str().unwrap(), "one");
    let born = delivery.born_time();
    assert_eq!(delivery.expires_at(), Some(born + MINUTE));
    delivery.ack().unwrap();

    store.advance(Duration::from_millis(1)).unwrap();
    let late = store.consumer("late").subscribe("codes", "*").build().unwrap();
    let two = late.recv().unwrap();
    assert_eq!((two.body_str().unwrap().as_ref(), two.expires_at()), ("two", None));
    assert_eq!(letters(&store, "late"), [expired("one")]);
    two.ack().unwrap();
    let three = late.recv().unwrap();
    assert_eq!((three.body_str().unwrap().as_ref(), committed(&store, "late")), ("three", 2));
    three.ack().unwrap();
    assert!(letters(&store, "early").is_empty(), "it got the message in time");
    // What was prefetched by a consumer that waits expires as well.
    store.advance(MINUTE).unwrap();
    assert_eq!(early.recv().unwrap().body_str().unwrap(), "two");
    assert!(early.try_recv().unwrap().is_none());
    assert_eq!(letters(&store, "early"), [expired("three")]);
    let letter = store.dead_letters("late").unwrap().list(1).unwrap().remove(0);
    assert_eq!((letter.original_topic(), letter.topic(), letter.tag()), ("codes", "%DLQ%late", "t"));
}

#[test]
fn a_message_expires_while_it_waits_for_another_attempt_or_in_a_delay_level() {
    let store = one_queue();
    send(&store, "failed", Some(MINUTE));
    let consumer = store.consumer("login").subscribe("codes", "*").build().unwrap();
    drop(consumer.recv().unwrap());
    store.advance(Duration::from_secs(10)).unwrap();
    let again = consumer.recv().unwrap();
    assert_eq!((again.body_str().unwrap().as_ref(), again.attempt()), ("failed", 2));
    drop(again);
    store.advance(MINUTE).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(letters(&store, "login"), [expired("failed")]);

    let delayed = Message::new("codes", "delayed").delay_level(5).expires_in(MINUTE / 2);
    store.producer("shop").unwrap().send(delayed).unwrap();
    store.advance(MINUTE).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(letters(&store, "login"), [expired("failed"), expired("delayed")]);
}

#[test]
fn an_orderly_group_goes_on_behind_what_has_expired() {
    let store = one_queue();
    for body in ["a", "b", "c", "d"] {
        send(&store, body, (body != "c").then_some(MINUTE));
    }
    store.advance(MINUTE).unwrap();
    send(&store, "e", Some(MINUTE));
    let consumer = store.consumer("login").subscribe("codes", "*").orderly().build().unwrap();
    for body in ["c", "e"] {
        let delivery = consumer.recv().unwrap();
        assert_eq!(delivery.body_str().unwrap(), body);
        delivery.ack().unwrap();
    }
    assert_eq!(letters(&store, "login"), ["a", "b", "d"].map(expired));
    assert_eq!(committed(&store, "login"), 5);
}

#[test]
fn a_listener_is_not_called_for_what_has_expired() {
    let store = one_queue();
    for body in ["a", "b", "c", "d"] {
        send(&store, body, (body < "c").then_some(MINUTE));
    }
    store.advance(MINUTE).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let builder = store.consumer("login").subscribe("codes", "*");
    let worker = builder.listen_batch(1, 10, move |messages, _| {
        let bodies = messages.iter().map(|message| message.body_str().unwrap().into_owned());
        noted.lock().unwrap().extend(bodies);
        ConsumeStatus::Success
    });
    let worker = worker.unwrap();
    store.step().unwrap();
    assert_eq!(*seen.lock().unwrap(), ["c", "d"]);
    assert_eq!(letters(&store, "login"), ["a", "b"].map(expired));
    assert_eq!(committed(&store, "login"), 4);
    drop(worker);
}

#[test]
fn v6_a_broadcast_message_that_has_expired_is_passed_over() {
    let store = one_queue();
    let builder = store.consumer("cache").subscribe("codes", "*").broadcast("worker-1");
    let consumer = builder.build().unwrap();
    send(&store, "a", Some(MINUTE));
    send(&store, "b", None);
    store.advance(MINUTE).unwrap();
    assert_eq!(consumer.recv().unwrap().body_str().unwrap(), "b");
    assert!(letters(&store, "cache").is_empty());
}

#[test]
fn a_dead_letter_does_not_expire_again_when_it_is_given_back() {
    let store = one_queue();
    send(&store, "a", Some(MINUTE));
    store.advance(MINUTE).unwrap();
    let consumer = store.consumer("login").subscribe("codes", "*").build().unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    let store = {
        drop(consumer);
        store.kill_process().unwrap()
    };
    assert_eq!(letters(&store, "login"), [expired("a")]);
    let redriven = store.dead_letters("login").unwrap().redrive(10).unwrap();
    assert!(redriven.iter().all(|letter| letter.result.is_ok()) && redriven.len() == 1);
    let consumer = store.consumer("login").subscribe("codes", "*").build().unwrap();
    let back = consumer.recv().unwrap();
    assert_eq!((back.body_str().unwrap().as_ref(), back.expires_at()), ("a", None));
}

#[test]
fn d14_a_message_whose_dead_letter_finds_no_room_stays_until_there_is_some() {
    let sizes =
        FileSizes { commit_log: 1 << 18, consume_queue_units: 100, index_slots: 100, index_entries: 400 };
    let store = TestStore::builder(move |builder| {
        builder.file_sizes(sizes).memory_max(3 << 20).retention(Retention::forever())
    });
    store.create_topic("codes", TopicConfig::queues(1)).unwrap();
    store.dead_letters("login").unwrap();
    let consumer = store.consumer("login").subscribe("codes", "*").build().unwrap();
    let producer = store.producer("shop").unwrap();
    for _ in 0..100 {
        producer.send(Message::new("junk", vec![0; 5_000])).unwrap();
    }
    send(&store, "a", Some(MINUTE));
    for len in [50_000, 5_000, 10] {
        let refused = (0..10_000).find_map(|_| producer.send(Message::new("junk", vec![0; len])).err());
        assert!(matches!(refused, Some(Error::StoreFull(_))), "{refused:?}");
    }
    store.clock().advance(MINUTE);
    for _ in 0..3 {
        assert!(consumer.try_recv().unwrap().is_none());
        assert_eq!((committed(&store, "login"), letters(&store, "login").len()), (0, 0));
        store.clock().advance(Duration::from_secs(5));
    }
    store.delete_topic("junk").unwrap();
    store.flush().unwrap();
    while store.retain().unwrap().iter().any(|report| report.log_files() > 0) {}
    send(&store, "room", None);
    assert_eq!(consumer.recv().unwrap().body_str().unwrap(), "room");
    store.clock().advance(Duration::from_secs(5));
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(letters(&store, "login"), [expired("a")]);
}

#[test]
fn who_pulls_sees_what_has_expired_and_when() {
    let store = one_queue();
    send(&store, "a", Some(MINUTE));
    store.advance(MINUTE * 5).unwrap();
    let queue = store.queues("codes").unwrap().remove(0);
    let pulled = store.pull(&queue, &Filter::all(), QueueOffset::ZERO, 10).unwrap();
    let message = &pulled.messages[0];
    assert_eq!(message.expires_at(), Some(message.born_time() + MINUTE));
    assert_eq!(message.to_owned().expires_at(), message.expires_at());
    assert_eq!(store.query_by_key("codes", "a").fetch().unwrap().len(), 1);
}

#[test]
fn a_time_that_is_none_and_a_forged_one_are_refused() {
    let store = one_queue();
    let producer = store.producer("shop").unwrap();
    for time in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        let refused = producer.send(Message::new("codes", "a").expires_in(time)).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument { field: "expires_in", .. }), "{refused}");
    }
    let forged = Message::new("codes", "a").property("__POCKETMQ_EXPIRES_IN", "1");
    let refused = producer.send(forged).unwrap_err();
    assert!(refused.to_string().contains("use Message::expires_in"), "{refused}");
    producer.send(Message::new("codes", "a").expires_in(Duration::from_millis(1))).unwrap();
}
