//! Is what was sent or handled already kept from coming twice, for as long as was asked?

use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Consumer, Durability, Error, FlushPolicy, Message, Producer, QueueOffset, SameBy, Store, TopicConfig,
};

const MINUTE: Duration = Duration::from_secs(60);

fn sender(store: &Store) -> Producer {
    store.producer_builder("shop").deduplicate(MINUTE).build().unwrap()
}

fn order(key: &str) -> Message {
    Message::new("orders", format!("order {key}")).key(key)
}

fn consumer(store: &Store, by: SameBy) -> Consumer {
    store.consumer("billing").subscribe("orders", "*").deduplicate(by, MINUTE).build().unwrap()
}

fn drain(consumer: &Consumer) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(delivery) = consumer.try_recv().unwrap() {
        bodies.push(delivery.body_str().unwrap().into_owned());
        delivery.ack().unwrap();
    }
    bodies.sort();
    bodies
}

fn count(store: &Store) -> u64 {
    let queues = store.queues("orders").unwrap();
    let ranges = queues.iter().filter_map(|queue| store.queue_offsets(queue));
    ranges.map(|range| range.end.get() - range.start.get()).sum()
}

#[test]
fn v11_an_equal_key_inside_the_window_returns_the_first_receipt() {
    let store = TestStore::new();
    let producer = sender(&store);
    let first = producer.send(order("a")).unwrap();
    let other = producer.send(order("b")).unwrap();
    let again = producer.send(order("a")).unwrap();
    assert_eq!((again.message_id(), again.offset_id()), (first.message_id(), first.offset_id()));
    assert_eq!((again.queue(), again.queue_offset()), (first.queue(), first.queue_offset()));
    assert_ne!(other.message_id(), first.message_id());
    assert_eq!(count(&store), 2);
    // Other keys, other topics and messages without a key are others.
    producer.send(Message::new("orders", "x").key("a").key("b")).unwrap();
    producer.send(Message::new("others", "x").key("a")).unwrap();
    producer.send(Message::new("orders", "x")).unwrap();
    producer.send(Message::new("orders", "x")).unwrap();
    assert_eq!(count(&store), 5);
    store.advance(MINUTE + Duration::from_millis(1)).unwrap();
    assert_ne!(producer.send(order("a")).unwrap().message_id(), first.message_id());
}

#[test]
fn v11_the_window_of_a_producer_survives_what_its_messages_survive() {
    for policy in [FlushPolicy::Async, FlushPolicy::Sync] {
        let store = TestStore::builder(move |builder| builder.flush(policy));
        let first = sender(&store).send(order("a")).unwrap();
        let delayed = sender(&store).send(order("later").delay_level(18)).unwrap();
        let store = store.kill_process().unwrap();
        // Sent by a producer that remembers nothing.
        let again = sender(&store).send(order("a")).unwrap();
        assert_eq!((again.message_id(), again.queue()), (first.message_id(), first.queue()));
        let again = sender(&store).send(order("later").delay_level(18)).unwrap();
        assert_eq!((again.message_id(), again.queue()), (delayed.message_id(), delayed.queue()));
        assert_eq!(count(&store), 1);
    }
}

#[test]
fn v11_a_send_that_finds_an_unflushed_one_waits_for_its_flush() {
    let store = TestStore::builder(|builder| builder.flush(FlushPolicy::Sync));
    let producer = sender(&store);
    let first = producer.send(order("a").no_wait()).unwrap();
    assert_eq!(first.durability(), Durability::Stored);
    let again = producer.send(order("a")).unwrap();
    assert_eq!((again.message_id(), again.durability()), (first.message_id(), Durability::Flushed));
    assert_eq!(count(&store), 1);
}

#[test]
fn v11_two_threads_that_send_the_same_at_once_send_it_once() {
    let store = TestStore::new();
    let producer = sender(&store);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..100 {
                    producer.send(order(&n.to_string())).unwrap();
                }
            });
        }
    });
    assert_eq!(count(&store), 100);
}

#[test]
fn v11_what_a_group_has_handled_is_not_handed_out_again() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    for key in ["a", "b", "a", "c", "b"] {
        producer.send(order(key)).unwrap();
        // One after the other: two that are under way at once are both handed out.
        store.step().unwrap();
    }
    let members = consumer(&store, SameBy::Key);
    assert_eq!(drain(&members), ["order a", "order b", "order c"]);
    let lag = store.admin().lag("billing").unwrap();
    assert_eq!(lag.messages(), 0, "what is passed over counts as consumed");
    store.advance(MINUTE + Duration::from_millis(1)).unwrap();
    producer.send(order("a")).unwrap();
    assert_eq!(drain(&members), ["order a"]);
}

#[test]
fn v11_what_a_group_has_handled_survives_a_kill_and_a_position_that_went_back() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    for key in ["a", "b", "c"] {
        producer.send(order(key)).unwrap();
    }
    assert_eq!(drain(&consumer(&store, SameBy::MessageId)).len(), 3);
    let store = store.kill_process().unwrap();
    let queue = store.queues("orders").unwrap().remove(0);
    store.admin().reset_to_offset("billing", &queue, QueueOffset::ZERO).unwrap();
    store.producer("shop").unwrap().send(order("d")).unwrap();
    let members = consumer(&store, SameBy::MessageId);
    assert_eq!(drain(&members), ["order d"]);
    // Another group has handled nothing.
    let others = store.consumer("others").subscribe("orders", "*").build().unwrap();
    assert_eq!(drain(&others).len(), 4);
}

#[test]
fn v11_a_message_that_failed_was_not_handled_and_comes_back() {
    let store = TestStore::new();
    store.producer("shop").unwrap().send(order("a")).unwrap();
    let members = consumer(&store, SameBy::MessageId);
    drop(members.try_recv().unwrap().unwrap());
    store.advance(Duration::from_secs(10)).unwrap();
    assert_eq!(drain(&members), ["order a"]);
}

#[test]
fn members_of_one_group_agree_on_it_and_a_window_of_nothing_is_refused() {
    let store = TestStore::new();
    let _first = consumer(&store, SameBy::Key);
    let error = store.consumer("billing").subscribe("orders", "*").build().unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { field: "deduplicate", .. }), "{error}");
    for window in [Duration::ZERO, Duration::MAX] {
        let builder = store.consumer("other").subscribe("orders", "*");
        let error = builder.deduplicate(SameBy::Key, window).build().unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { field: "deduplicate", .. }), "{error}");
        assert!(store.producer_builder("p").deduplicate(window).build().is_err());
    }
}

#[test]
fn a_file_of_handled_messages_that_is_damaged_repeats_messages_and_does_no_harm() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    producer.send(order("a")).unwrap();
    assert_eq!(drain(&consumer(&store, SameBy::Key)).len(), 1);
    for damage in [&b""[..], b"short", &[0xFF; 64]] {
        let path = store.brokers()[0].dir().join("pocketmq/handled-billing");
        let mut bytes = std::fs::read(&path).unwrap();
        if damage.len() < 64 {
            bytes = damage.to_vec();
        } else {
            bytes[..64].copy_from_slice(damage);
        }
        std::fs::write(&path, bytes).unwrap();
        let queue = store.queues("orders").unwrap().remove(0);
        store.admin().reset_to_offset("billing", &queue, QueueOffset::ZERO).unwrap();
        assert_eq!(drain(&consumer(&store, SameBy::Key)).len(), 1, "{} bytes", damage.len());
    }
}

#[test]
fn v11_what_a_group_has_handled_is_in_a_snapshot_too() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    for key in ["a", "b"] {
        producer.send(order(key)).unwrap();
    }
    assert_eq!(drain(&consumer(&store, SameBy::Key)).len(), 2);
    let dir = tempfile::tempdir().unwrap();
    store.snapshot(dir.path().join("copy")).unwrap();
    let copy = pocketmq::Store::builder(dir.path().join("copy"));
    let copy = copy.clock(store.clock().clone()).background(pocketmq::Background::Manual).open().unwrap();
    let queue = copy.queues("orders").unwrap().remove(0);
    copy.admin().reset_to_offset("billing", &queue, QueueOffset::ZERO).unwrap();
    copy.producer("shop").unwrap().send(order("c")).unwrap();
    assert_eq!(drain(&consumer(&copy, SameBy::Key)), ["order c"]);
}
