//! Do hooks see everything, are bodies compressed as told, batches split as they must be, and wrong settings refused?

use super::*;
use crate::config::{FileSizes, TopicKind};
use crate::message::CompressionType;
use crate::sync::Mutex;

#[test]
fn a_setting_out_of_its_range_is_refused_by_name() {
    let store = store();
    let builder = || store.producer_builder("shop");
    let wrong = [
        ("send_timeout", builder().send_timeout(Duration::ZERO)),
        ("send_timeout", builder().send_timeout(Duration::from_secs(3_601))),
        ("retries", builder().retries(17)),
        ("in_flight_max", builder().in_flight_max(0)),
        ("in_flight_max", builder().in_flight_max(65_536)),
        ("compress_level", builder().compress_level(10)),
    ];
    for (named, builder) in wrong {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { field, .. } if field == named), "{named}: {error}");
    }
    builder().retries(16).in_flight_max(1).send_timeout(Duration::from_millis(1)).build().unwrap();
}

/// Writes down what it sees.
#[derive(Default)]
struct Witness(Mutex<Vec<String>>);

impl SendMessageHook for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn before(&self, context: &SendContext<'_>) {
        let SendContext { group, messages, queue, mode, .. } = context;
        self.0.lock().push(format!("before {group} {} {queue} {mode:?}", messages.len()));
    }

    fn after(&self, context: &SendContext<'_>, result: Result<&SendReceipt, &Error>) {
        let told = result.map_or_else(ToString::to_string, |receipt| receipt.queue_offset().to_string());
        self.0.lock().push(format!("after {} {told}", context.messages.len()));
    }
}

struct NoSecrets;

impl CheckForbiddenHook for NoSecrets {
    fn name(&self) -> &str {
        "no-secrets"
    }

    fn check(&self, context: &SendContext<'_>) -> Result<(), String> {
        let secret = context.messages.iter().any(|message| message.body() == b"secret");
        if secret { Err("it is a secret".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn e31_send_hooks_see_each_message_and_batch_of_every_kind_and_what_became_of_it() {
    let store = store();
    let witness = Arc::new(Witness::default());
    let producer = store.producer_builder("shop").send_hook(Arc::clone(&witness)).build().unwrap();
    let (to, message) = (queue("orders", "broker-b", 1), || Message::new("orders", "x"));
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    producer.send_to(&to, message()).unwrap();
    producer.send_async_to(&to, message()).wait().unwrap();
    producer.send_oneway_to(&to, message()).unwrap();
    producer.send_batch_to(&to, [message(), message()]).unwrap();
    let expected = [
        "before shop 1 orders@broker-b:1 Sync",
        "after 1 0",
        "before shop 1 orders@broker-b:1 Async",
        "after 1 1",
        "before shop 1 orders@broker-b:1 OneWay",
        "after 1 2",
        "before shop 2 orders@broker-b:1 Sync",
        "after 2 3",
    ];
    assert_eq!(*witness.0.lock(), expected);
}

#[test]
fn e31_a_hook_can_forbid_a_message_and_then_nothing_is_stored_and_no_other_hook_is_asked() {
    let store = store();
    let witness = Arc::new(Witness::default());
    let builder = store.producer_builder("shop").forbidden_hook(NoSecrets).send_hook(Arc::clone(&witness));
    assert!(format!("{builder:?}").contains("no-secrets"));
    let producer = builder.build().unwrap();
    let secret = || Message::new("orders", "secret");
    let errors = [
        producer.send(secret()).unwrap_err(),
        producer.send_async(secret()).wait().unwrap_err(),
        producer.send_oneway(secret()).unwrap_err(),
        producer.send_batch([Message::new("orders", "x"), secret()]).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.to_string(), "the message is forbidden by hook no-secrets: it is a secret");
        assert_eq!(error.outcome(), crate::error::Outcome::NotStored);
    }
    assert!(witness.0.lock().is_empty());
    producer.send(Message::new("orders", "x")).unwrap();
    assert_eq!(count(&store, "orders"), 1);
}

#[test]
fn a_hook_that_panics_holds_no_lock() {
    struct Panicking;
    impl SendMessageHook for Panicking {
        fn name(&self) -> &str {
            "panicking"
        }
        fn before(&self, _: &SendContext<'_>) {
            panic!("the hook's own");
        }
    }
    let store = store();
    let panicking = store.producer_builder("shop").send_hook(Panicking).build().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| panicking.send(Message::new("orders", "x")))).is_err());
    producer(&store).send(Message::new("orders", "x")).unwrap();
    assert_eq!(count(&store, "orders"), 1);
}

#[test]
fn without_its_feature_a_compression_is_refused_when_the_producer_is_built() {
    let store = store();
    let types = [
        (CompressionType::Zlib, cfg!(feature = "zlib")),
        (CompressionType::Lz4, cfg!(feature = "lz4")),
        (CompressionType::Zstd, cfg!(feature = "zstd")),
    ];
    for (kind, built) in types {
        let made = store.producer_builder("shop").compression(kind).build();
        assert_eq!(made.is_ok(), built, "{kind:?}");
        if let Err(error) = made {
            assert!(matches!(error, Error::InvalidConfig { field: "compression", .. }), "{error}");
        }
    }
}

#[cfg(all(feature = "zlib", feature = "lz4", feature = "zstd"))]
#[test]
fn f27_a_large_body_is_stored_compressed_and_read_as_it_was_and_a_small_one_and_a_batch_are_not() {
    let store = store();
    let text = "a line that comes again and again\n".repeat(1_000);
    for (kind, bits) in
        [(CompressionType::Zlib, 0x301), (CompressionType::Lz4, 0x101), (CompressionType::Zstd, 0x201)]
    {
        let producer = store.producer_builder("shop").compression(kind).compress_over(5_000).build().unwrap();
        let message = Message::new("orders", text.clone());
        let receipts = [producer.send(&message).unwrap(), producer.send_async(&message).wait().unwrap()];
        assert_eq!(message.body(), text.as_bytes(), "the sender's message is as it was");
        for receipt in receipts {
            let found = store.message(receipt.message_id()).unwrap().unwrap();
            assert_eq!((found.sys_flag() & 0x701, found.is_compressed()), (bits, true));
            assert!(found.raw_body().len() < 2_000);
            assert_eq!(found.body_str().unwrap(), text);
        }
        let plain = [
            producer.send(Message::new("orders", vec![b'x'; 4_999])).unwrap(),
            producer.send_batch([message]).unwrap(),
        ];
        for receipt in plain {
            let found = store.message(receipt.message_id()).unwrap().unwrap();
            assert_eq!((found.sys_flag(), found.is_compressed()), (0, false));
        }
    }
}

#[test]
fn batches_are_split_where_the_next_message_does_not_fit_or_does_not_belong() {
    let store = TestStore::builder(|builder| {
        let sizes = FileSizes { commit_log: 64 << 10, ..FileSizes::default() };
        builder.file_sizes(sizes).free_space_min(0)
    });
    let producer = producer(&store);
    let bodies = (0..200).map(|n| Message::new("orders", vec![n as u8; 1_000]).order_key("k"));
    let receipts: Vec<_> = producer.send_batches(bodies).map(|receipt| receipt.unwrap()).collect();
    let sizes: Vec<_> = receipts.iter().map(|receipt| receipt.batch().len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 200);
    assert!(sizes.len() <= 5 && sizes[..4].iter().all(|size| *size >= 45), "{sizes:?}");
    // One queue, one behind the other.
    let starts: Vec<_> = receipts.iter().map(|receipt| receipt.queue_offset().get()).collect();
    let expected = sizes.iter().scan(0, |at, size| Some(std::mem::replace(at, *at + *size as u64)));
    assert_eq!(starts, expected.collect::<Vec<_>>());

    let message = |topic: &'static str| Message::new(topic, "x");
    let delayed = [message("c"), message("c").delay_level(1), message("c")];
    let receipts: Vec<_> = producer.send_batches(&delayed).map(|receipt| receipt.unwrap()).collect();
    assert_eq!(receipts.iter().map(|receipt| receipt.batch().len()).collect::<Vec<_>>(), [1, 0, 1]);
    let mixed = [
        message("a"),
        message("a"),
        message("b"),
        message("b").order_key("k"),
        message("b").order_key("l"),
        message("b").order_key("l").no_wait(),
        message("a"),
    ];
    let sizes: Vec<_> = producer.send_batches(&mixed).map(|receipt| receipt.unwrap().batch().len()).collect();
    assert_eq!(sizes, [2, 1, 1, 1, 1, 1]);
}

#[test]
fn a_batch_that_is_refused_does_not_keep_the_next_ones_from_being_sent() {
    let store = store();
    let producer = producer(&store);
    let to = queue("orders", "broker-a", 2);
    let messages = [
        Message::new("orders", "x"),
        Message::new("payments", "wrong queue"),
        Message::new("orders", vec![0; (4 << 20) + 1]),
        Message::new("orders", "y"),
    ];
    let results: Vec<_> = producer.send_batches_to(&to, &messages).collect();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
    assert_eq!(producer.send_batches_to(&to, Vec::<Message>::new()).count(), 0);
    assert_eq!((count(&store, "orders"), count(&store, "payments")), (2, 0));
}

#[test]
fn f9_a_topic_takes_only_messages_of_its_kind_and_its_kind_survives() {
    let store = store();
    for (topic, kind) in [
        ("normal", TopicKind::Normal),
        ("fifo", TopicKind::Fifo),
        ("delay", TopicKind::Delay),
        ("transaction", TopicKind::Transaction),
        ("any", TopicKind::Any),
    ] {
        store.create_topic(topic, TopicConfig { kind, ..TopicConfig::queues(1) }).unwrap();
    }
    let store = store.reopen().unwrap();
    assert_eq!(store.topic("fifo").unwrap().kind, TopicKind::Fifo);
    let producer = producer(&store);
    let make = |kind, message: Message| match kind {
        "fifo" => message.order_key("k"),
        "delay" => message.delay_level(1).order_key("k"),
        _ => message,
    };
    for topic in ["normal", "fifo", "delay", "transaction", "any"] {
        for kind in ["normal", "fifo", "delay"] {
            let message = make(kind, Message::new(topic.to_owned(), "x"));
            let to = queue(topic, "broker-a", 0);
            let mut answers = vec![
                producer.send(&message).map(drop),
                producer.send_to(&to, &message).map(drop),
                producer.send_with(&message, |_, _| Some(0)).map(drop),
                producer.send_async(&message).wait().map(drop),
                producer.send_oneway(&message),
            ];
            if kind != "delay" {
                answers.push(producer.send_batch([&message]).map(drop));
                answers.push(producer.send_batch_to(&to, [&message]).map(drop));
            }
            for answer in answers {
                assert_eq!(answer.is_ok(), topic == kind || topic == "any", "{topic} {kind}: {answer:?}");
            }
        }
    }
    let error = producer.send(Message::new("fifo", "x")).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("fifo takes messages of the kind FIFO: give it an order key and no delay")
    );
    store.update_topic("fifo", TopicConfig::queues(1)).unwrap();
    producer.send(Message::new("fifo", "x")).unwrap();
}

#[test]
fn e7_a_producer_that_traces_writes_down_where_each_message_went() {
    let store = TestStore::builder(|builder| builder.auto_create_topics(AutoCreate::Off).free_space_min(0));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer_builder("shop").message_trace(MessageTrace::On).build().unwrap();
    let message = Message::new("orders", "hello").tag("paid").key("order-42").key("b");
    let receipt = producer.send(&message).unwrap();
    let trace = store.message_trace(receipt.message_id()).unwrap();
    assert_eq!(trace.len(), 1);
    let found = &trace[0];
    assert_eq!((found.topic.as_str(), found.group.as_str(), found.tag.as_str()), ("orders", "shop", "paid"));
    assert_eq!((found.keys.as_str(), found.body_len, found.success), ("order-42 b", 5, true));
    assert_eq!(found.offset_id, receipt.offset_id().to_string());
    assert_eq!(found.sent_millis, 1_700_000_000_000);
    // By the key of the message too, as RocketMQ's tools look for it; each of a batch; however it was sent.
    assert_eq!(store.query_by_key("RMQ_SYS_TRACE_TOPIC", "order-42").fetch().unwrap().len(), 1);
    let batch = producer.send_batch((0..1_000).map(|n| Message::new("orders", format!("{n}")))).unwrap();
    for (id, offset_id) in batch.batch().iter().step_by(333) {
        let trace = store.message_trace(*id).unwrap();
        assert_eq!((trace.len(), trace[0].offset_id.clone()), (1, offset_id.to_string()));
    }
    let ticket = producer.send_async(&message).wait().unwrap();
    assert_eq!(store.message_trace(ticket.message_id()).unwrap().len(), 1);
    // What was refused has no trace, what nobody traces neither, and a trace none of its own.
    let traces = count(&store, "RMQ_SYS_TRACE_TOPIC");
    assert!(producer.send(Message::new("unknown", "x")).is_err());
    store.producer("shop").unwrap().send(&message).unwrap();
    assert_eq!(count(&store, "RMQ_SYS_TRACE_TOPIC"), traces);
}
