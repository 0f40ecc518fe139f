//! Does a producer store what it was given, where it was told to, or nothing at all?

mod asynchronous;
#[cfg(feature = "async")]
mod futures;
mod retries;
mod settings;
mod transactions;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::config::{AutoCreate, FlushPolicy, Permission, TopicConfig};
use crate::store::{Store, StoreBuilder};
use crate::testing::TestStore;
use crate::types::{BrokerName, QueueOffset, TopicName};

fn store() -> TestStore {
    TestStore::builder(|builder| builder.brokers(["broker-a", "broker-b"]).free_space_min(0))
}

fn producer(store: &Store) -> Producer {
    store.producer("shop").unwrap()
}

fn queue(topic: &str, broker: &str, id: u32) -> MessageQueue {
    MessageQueue::new(TopicName::new(topic).unwrap(), BrokerName::new(broker).unwrap(), id)
}

/// Returns how many messages a topic has.
fn count(store: &Store, topic: &str) -> u64 {
    let queues = store.queues(topic).unwrap_or_default();
    queues.iter().filter_map(|queue| store.queue_offsets(queue)).map(|range| range.end.get()).sum()
}

#[test]
fn handles_are_shared_between_threads() {
    const fn check<T: Clone + Send + Sync + fmt::Debug + 'static>() {}
    check::<Producer>();
    check::<Store>();
    check::<SendReceipt>();
}

#[test]
fn f20_messages_go_to_every_queue_of_every_broker_in_turn() {
    let store = store();
    for n in 0..16 {
        producer(&store).send(Message::new("orders", format!("{n}"))).unwrap();
    }
    for queue in store.queues("orders").unwrap() {
        assert_eq!(store.queue_offsets(&queue).unwrap().end, QueueOffset::new(2), "{queue}");
    }
}

#[test]
fn f18_a_receipt_leads_to_the_message_by_every_way() {
    let store = store();
    let message = Message::new("orders", "hello").tag("created").key("a").key("b").flag(7);
    let receipt = producer(&store).send(message.property("n", "v")).unwrap();
    assert_eq!((receipt.status(), receipt.durability()), (SendStatus::SendOk, Durability::Stored));
    assert_eq!(receipt.key(), "a b");
    let found = [
        store.message(receipt.message_id()).unwrap().unwrap(),
        store.message(receipt.offset_id()).unwrap().unwrap(),
        store.message_at(receipt.queue(), receipt.queue_offset()).unwrap().unwrap(),
        store.query_by_key("orders", "b").fetch().unwrap().remove(0),
        store.query_by_key("orders", receipt.message_id().to_string()).fetch().unwrap().remove(0),
    ];
    for found in found {
        assert_eq!(found.message_id(), receipt.message_id());
        assert_eq!(found.offset_id(), receipt.offset_id());
        assert_eq!(found.physical_offset(), receipt.physical_offset());
        assert_eq!((found.tag(), found.flag(), found.property("n")), ("created", 7, Some("v")));
    }
}

#[test]
fn offset_ids_of_two_brokers_differ_and_lead_to_their_own_messages() {
    let store = store();
    let producer = producer(&store);
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let receipts = ["broker-a", "broker-b"]
        .map(|broker| producer.send_to(&queue("orders", broker, 0), Message::new("orders", broker)).unwrap());
    assert_eq!(receipts[0].physical_offset(), receipts[1].physical_offset());
    for (receipt, broker) in receipts.iter().zip(["broker-a", "broker-b"]) {
        assert_eq!(store.message(receipt.offset_id()).unwrap().unwrap().body_str().unwrap(), broker);
    }
}

#[test]
fn under_sync_flush_a_receipt_says_that_the_message_is_flushed_unless_it_does_not_wait() {
    let store = TestStore::builder(|builder| builder.flush(FlushPolicy::Sync).free_space_min(0));
    let producer = producer(&store);
    let receipt = producer.send(Message::new("orders", "x")).unwrap();
    assert_eq!((receipt.status(), receipt.durability()), (SendStatus::SendOk, Durability::Flushed));
    let receipt = producer.send(Message::new("orders", "x").no_wait()).unwrap();
    assert_eq!((receipt.status(), receipt.durability()), (SendStatus::SendOk, Durability::Stored));
}

#[test]
fn v3_equal_order_keys_go_to_equal_queues() {
    let store = store();
    let producer = producer(&store);
    for key in ["order-42", "customer-20260901", "polygenelubricants"] {
        let send = || producer.send(Message::new("orders", "x").order_key(key)).unwrap().queue().clone();
        let first = send();
        assert!((0..10).all(|_| send() == first));
        let chosen = producer.send_with(Message::new("orders", "x"), Selector::consistent(key)).unwrap();
        assert_eq!(*chosen.queue(), first);
    }
}

#[test]
fn a1_to_a3_a_topic_that_is_no_name_is_refused() {
    let store = store();
    for topic in ["", "  ", ".", "..", "a/b", "a\\b", "a\0b", "a b", "é", "😀", &"x".repeat(128)] {
        let error = producer(&store).send(Message::new(topic.to_owned(), "x")).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "topic", .. }), "{topic:?}: {error}");
    }
    let longest = "x".repeat(127);
    producer(&store).send(Message::new(longest.clone(), "x")).unwrap();
    assert_eq!(store.topics(), [TopicName::new(&longest).unwrap()]);
}

#[test]
fn a5_topics_that_differ_in_case_are_two() {
    let store = store();
    let producer = producer(&store);
    let _ = ["Topic", "topic"].map(|topic| producer.send(Message::new(topic, topic)).unwrap());
    assert_eq!(store.topics().len(), 2);
    assert_eq!((count(&store, "Topic"), count(&store, "topic")), (1, 1));
}

#[test]
fn a6_a_topic_of_rocketmqs_own_takes_no_message() {
    let store = store();
    for topic in
        ["SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC", "rmq_sys_x"]
    {
        let error = producer(&store).send(Message::new(topic, "x")).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "topic", .. }), "{topic}: {error}");
        assert_eq!(error.outcome(), crate::error::Outcome::NotStored);
    }
    assert!(store.topics().is_empty());
}

#[test]
fn a7_a_group_that_rocketmq_keeps_for_itself_is_refused() {
    let store = store();
    for group in ["", "%RETRY%g", "%DLQ%g", "DEFAULT_PRODUCER", "CID_RMQ_SYS_TRANS", "a b", &"g".repeat(121)]
    {
        let error = store.producer(group).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "group", .. }), "{group:?}: {error}");
    }
    assert_eq!(store.producer("g".repeat(120)).unwrap().group().as_str().len(), 120);
}

#[test]
fn a8_to_a12_a_wrong_message_makes_no_topic_and_stores_nothing() {
    let store = store();
    let message = || Message::new("orders", "x");
    let wrong = [
        Message::new("orders", ""),
        Message::new("orders", vec![0; (4 << 20) + 1]),
        message().property("n", "a\u{1}b"),
        message().property("UNIQ_KEY", "v"),
        message().property("n", "v".repeat(32_768)),
        message().tag("a||b"),
        message().key("a\u{2}b"),
    ];
    for message in &wrong {
        assert!(producer(&store).send(message).is_err());
        assert!(producer(&store).send_batch([message]).is_err());
    }
    assert!(store.topics().is_empty());
    producer(&store).send(Message::new("orders", vec![7; 4 << 20])).unwrap();
    assert_eq!(count(&store, "orders"), 1);
}

#[test]
fn t_a19_ten_kilobytes_of_chinese_are_a_property() {
    let store = store();
    let text = "飞机".repeat(1_707);
    let receipt = producer(&store).send(Message::new("orders", "x").property("名", text.clone())).unwrap();
    let found = store.message(receipt.message_id()).unwrap().unwrap();
    assert_eq!(found.property("名"), Some(text.as_str()));
}

#[test]
fn a13_t_a8_a_queue_that_the_topic_does_not_have_is_refused() {
    let store = store();
    store.create_topic("orders", TopicConfig { read_queues: 8, ..TopicConfig::queues(4) }).unwrap();
    for wrong in [
        queue("orders", "broker-a", 4),
        queue("orders", "broker-a", i32::MAX as u32),
        queue("orders", "broker-a", u32::MAX),
        queue("orders", "broker-c", 0),
        queue("payments", "broker-a", 0),
    ] {
        let error = producer(&store).send_to(&wrong, Message::new("orders", "x")).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "queue", .. }), "{wrong}: {error}");
    }
    assert_eq!(count(&store, "orders"), 0);
    assert_eq!(store.topics().len(), 1);
}

#[test]
fn t_a4_a_message_goes_to_the_queue_that_was_chosen() {
    let store = store();
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    for broker in ["broker-a", "broker-b"] {
        let to = queue("orders", broker, 3);
        for n in 0..20 {
            let receipt = producer(&store).send_to(&to, Message::new("orders", "x")).unwrap();
            assert_eq!((receipt.queue(), receipt.queue_offset()), (&to, QueueOffset::new(n)));
        }
    }
    assert_eq!(count(&store, "orders"), 40);
}

#[test]
fn t_a5_f34_a_selector_chooses_among_the_sorted_queues() {
    let store = store();
    let receipt = producer(&store)
        .send_with(Message::new("orders", "x"), |queues, message| {
            assert!(queues.is_sorted() && queues.len() == 8);
            assert_eq!(message.body(), b"x");
            Some(5)
        })
        .unwrap();
    assert_eq!(receipt.queue(), &queue("orders", "broker-b", 1));
}

#[test]
fn a17_a_selector_that_chooses_nothing_or_out_of_range_is_an_error() {
    let store = store();
    for choice in [None, Some(8), Some(usize::MAX)] {
        let error = producer(&store).send_with(Message::new("orders", "x"), |_, _| choice).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "selector", .. }), "{error}");
    }
    assert_eq!(count(&store, "orders"), 0);
}

#[test]
fn a17_a_selector_that_panics_holds_no_lock() {
    let store = store();
    let producer = producer(&store);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        producer.send_with(Message::new("orders", "x"), |_, _| panic!("the selector's own"))
    }));
    assert!(panicked.is_err());
    producer.send(Message::new("orders", "x")).unwrap();
    store.update_topic("orders", TopicConfig::queues(8)).unwrap();
    assert_eq!(count(&store, "orders"), 1);
}

#[test]
fn a_selector_may_send_itself() {
    let store = store();
    let producer = producer(&store);
    let select = |_: &[MessageQueue], _: &Message| {
        producer.send(Message::new("audit", "chosen")).unwrap();
        Some(0)
    };
    producer.send_with(Message::new("orders", "x"), select).unwrap();
    assert_eq!((count(&store, "orders"), count(&store, "audit")), (1, 1));
}

#[test]
fn f43_a_topic_that_may_not_be_written_takes_no_message() {
    let store = store();
    store
        .create_topic("orders", TopicConfig { permission: Permission::READ_ONLY, ..TopicConfig::queues(1) })
        .unwrap();
    let error = producer(&store).send(Message::new("orders", "x")).unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { denied: "written", .. }), "{error}");
    let to = queue("orders", "broker-a", 0);
    assert!(producer(&store).send_to(&to, Message::new("orders", "x")).is_err());
    assert!(producer(&store).send_batch([Message::new("orders", "x")]).is_err());
}

#[test]
fn t_a32_without_automatic_topics_an_unknown_one_is_an_error() {
    let store = TestStore::builder(|builder| builder.auto_create_topics(AutoCreate::Off).free_space_min(0));
    let error = producer(&store).send(Message::new("orders", "x")).unwrap_err();
    assert!(matches!(error, Error::TopicNotFound(_)), "{error}");
}

#[test]
fn a_message_to_a_deleted_topic_starts_it_anew() {
    let store = store();
    let producer = producer(&store);
    producer.send(Message::new("orders", "old").order_key("k").key("key")).unwrap();
    store.delete_topic("orders").unwrap();
    assert!(store.query_by_key("orders", "key").fetch().unwrap().is_empty());
    let receipt = producer.send(Message::new("orders", "new").order_key("k")).unwrap();
    assert_eq!(receipt.queue_offset(), QueueOffset::ZERO);
    let found = store.message_at(receipt.queue(), QueueOffset::ZERO).unwrap().unwrap();
    assert_eq!(found.body_str().unwrap(), "new");
}

#[test]
fn t_a14_a_batch_has_an_id_of_each_kind_for_each_message() {
    let store = store();
    let batch: Vec<_> =
        (0..100).map(|n| Message::new("orders", format!("body {n}")).key(format!("k{n}"))).collect();
    let receipt = producer(&store).send_batch(&batch).unwrap();
    assert_eq!((receipt.status(), receipt.batch().len()), (SendStatus::SendOk, 100));
    assert_eq!((receipt.message_id(), receipt.offset_id()), receipt.batch()[0]);
    for (n, (message_id, offset_id)) in receipt.batch().iter().enumerate() {
        for id in [message_id, offset_id] {
            let found = store.message(*id).unwrap().unwrap();
            assert_eq!(found.body_str().unwrap(), format!("body {n}"));
            assert_eq!((found.message_id(), found.offset_id()), (*message_id, *offset_id));
        }
    }
}

#[test]
fn t_a15_batches_have_consecutive_places_in_one_queue() {
    let store = store();
    let to = queue("orders", "broker-b", 2);
    for round in 0..10_u64 {
        let batch = (0..10).map(|n| Message::new("orders", format!("{round} {n}")));
        let receipt = producer(&store).send_batch_to(&to, batch).unwrap();
        assert_eq!((receipt.queue(), receipt.queue_offset().get()), (&to, round * 10));
        assert_eq!(receipt.batch().len(), 10);
    }
    let pulled = store.pull(&to, &"*".into(), QueueOffset::new(5), 100).unwrap();
    assert_eq!(pulled.status, crate::broker::PullStatus::Found);
    assert_eq!((pulled.min_offset.get(), pulled.max_offset.get(), pulled.messages.len()), (0, 100, 95));
    let offsets: Vec<_> = pulled.messages.iter().map(|message| message.queue_offset().get()).collect();
    assert_eq!(offsets, (5..100).collect::<Vec<_>>());
}

#[test]
fn t_a17_a_batch_of_one_keeps_everything_about_its_message() {
    let store = store();
    let message = Message::new("orders", "x").tag("t").key("k1").key("k2").flag(123).no_wait();
    let receipt = producer(&store).send_batch([message]).unwrap();
    for id in [receipt.message_id(), receipt.offset_id()] {
        let found = store.message(id).unwrap().unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["k1", "k2"]);
        assert_eq!((found.tag(), found.flag(), found.property("WAIT")), ("t", 123, Some("false")));
    }
}

#[test]
fn a16_a_wrong_batch_stores_nothing() {
    let store = store();
    let message = || Message::new("orders", "x");
    let big = || Message::new("orders", vec![0; 2 << 20]);
    let wrong: [(&str, Vec<Message>); 7] = [
        ("no message", vec![]),
        ("several topics", vec![message(), Message::new("payments", "x")]),
        ("wait for the flush", vec![message(), message().no_wait()]),
        ("several order keys", vec![message().order_key("a"), message().order_key("b")]),
        ("retry topic", vec![Message::new("%RETRY%billing", "x")]),
        ("body", vec![message(), Message::new("orders", "")]),
        ("bytes", vec![big(), big()]),
    ];
    for (named, batch) in wrong {
        let error = producer(&store).send_batch(batch).unwrap_err();
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
    assert_eq!(count(&store, "orders") + count(&store, "payments"), 0);
    producer(&store).send_batch([big(), message()]).unwrap();
    assert_eq!(count(&store, "orders"), 2);
}

#[test]
fn a19_a_send_after_close_is_refused() {
    let store = store();
    let producer = producer(&store);
    producer.send(Message::new("orders", "x")).unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert!(matches!(producer.send(Message::new("orders", "x")), Err(Error::Closed)));
    assert!(matches!(producer.send_batch([Message::new("new", "x")]), Err(Error::Closed)));
    assert!(matches!(store.producer("shop"), Err(Error::Closed)));
}

#[test]
fn threads_that_share_a_producer_lose_nothing() {
    let store = store();
    let producer = producer(&store);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for n in 0..250 {
                    producer.send(Message::new("orders", format!("{thread} {n}"))).unwrap();
                }
            });
        }
    });
    assert_eq!(count(&store, "orders"), 1_000);
}
