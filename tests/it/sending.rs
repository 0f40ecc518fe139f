//! Do messages arrive that were sent in every way RocketMQ's own tests send them?

use pocketmq::testing::TestStore;
use pocketmq::{
    Error, FlushPolicy, LastStop, Message, MessageQueue, Producer, PullStatus, QueueOffset, SendStatus,
    Store, TopicConfig,
};

/// Three brokers with eight queues each, as RocketMQ's integration tests have them.
fn cluster() -> TestStore {
    let store = TestStore::builder(|builder| builder.brokers(["broker-a", "broker-b", "broker-c"]));
    store.create_topic("orders", TopicConfig::queues(8)).unwrap();
    store
}

fn producer(store: &Store) -> Producer {
    store.producer("shop").unwrap()
}

fn message(n: impl ToString) -> Message {
    Message::new("orders", n.to_string())
}

/// Queue 0 of the first and of the second broker.
fn first_queues(store: &Store) -> [MessageQueue; 2] {
    let queues = store.queues("orders").unwrap();
    [queues[0].clone(), queues[8].clone()]
}

fn end(store: &Store, queue: &MessageQueue) -> u64 {
    store.queue_offsets(queue).map_or(0, |range| range.end.get())
}

/// Consumes everything there is and returns the bodies, sorted.
fn consume_all(store: &Store, filter: &str) -> Vec<String> {
    let consumer = store.consumer("billing").subscribe("orders", filter).build().unwrap();
    let mut bodies = Vec::new();
    while let Some(delivery) = consumer.try_recv().unwrap() {
        assert_eq!(delivery.property("POP_CK"), None);
        bodies.push(delivery.body_str().unwrap().into_owned());
        delivery.ack().unwrap();
    }
    bodies.sort();
    bodies
}

fn sorted(bodies: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    let mut bodies: Vec<_> = bodies.into_iter().map(|body| body.to_string()).collect();
    bodies.sort();
    bodies
}

fn send_to_every_queue(store: &Store, round: u64) {
    let (queues, producer) = (store.queues("orders").unwrap(), producer(store));
    assert_eq!(queues.len(), 24);
    for queue in &queues {
        for n in 0..10 {
            assert_eq!(producer.send_to(queue, message(n)).unwrap().status(), SendStatus::SendOk);
        }
    }
    assert_eq!(consume_all(store, "*").len(), 240);
    for queue in &queues {
        let committed = store.committed("billing", queue).unwrap().unwrap().get();
        assert_eq!((committed, end(store, queue)), (10 * round, 10 * round), "{queue}");
    }
}

#[test]
fn t_a1_ten_messages_to_each_of_24_queues_are_consumed_and_positions_are_the_ends() {
    send_to_every_queue(&cluster(), 1);
}

#[test]
fn t_a2_the_same_holds_after_all_brokers_were_opened_again() {
    let store = cluster();
    send_to_every_queue(&store, 1);
    let store = store.reopen().unwrap();
    send_to_every_queue(&store, 2);
    let store = store.kill_process().unwrap();
    send_to_every_queue(&store, 3);
}

#[test]
fn t_a4_t_a5_asynchronous_messages_land_in_the_queue_that_was_named_or_selected() {
    let store = cluster();
    let producer = producer(&store);
    for (round, queue) in first_queues(&store).iter().enumerate() {
        for n in 0..20 {
            producer.send_async_to(queue, message(n)).wait().unwrap();
            let place = 8 * round;
            producer.send_async_with(message(n), move |_, _| Some(place)).wait().unwrap();
            producer.send_to_then(queue, message(n), |_| ()).unwrap();
            producer.send_with_then(message(n), move |_, _| Some(place), |_| ()).unwrap();
        }
        assert_eq!(end(&store, queue), 80);
    }
    assert_eq!(consume_all(&store, "*").len(), 160);
}

#[test]
fn t_a6_nobody_need_care_what_became_of_an_asynchronous_message() {
    let store = cluster();
    drop(producer(&store).send_async(message("dropped ticket")));
    producer(&store).send_then(message("callback that does nothing"), |_| ()).unwrap();
    assert_eq!(consume_all(&store, "*").len(), 2);
}

#[test]
fn t_a11_t_a12_one_way_messages_land_in_the_queue_that_was_named_or_selected() {
    let store = cluster();
    let producer = producer(&store);
    for (round, queue) in first_queues(&store).iter().enumerate() {
        for n in 0..20 {
            producer.send_oneway_to(queue, message(n)).unwrap();
            producer.send_oneway_with(message(n), |_, _| Some(8 * round)).unwrap();
        }
        assert_eq!(end(&store, queue), 40);
    }
}

#[test]
fn t_a15_a_pull_from_within_batches_gets_the_rest_of_them() {
    let store = cluster();
    let [queue, _] = first_queues(&store);
    for round in 0..10 {
        let batch = (0..10).map(|n| message(10 * round + n));
        let receipt = producer(&store).send_batch_to(&queue, batch).unwrap();
        assert_eq!((receipt.queue_offset().get(), receipt.batch().len()), (10 * round, 10));
    }
    let pulled = store.pull(&queue, &"*".into(), QueueOffset::new(5), 100).unwrap();
    assert_eq!((pulled.status, pulled.messages.len()), (PullStatus::Found, 95));
}

#[test]
fn t_a20_user_properties_reach_the_consumer_as_they_were_set() {
    for value in ["value", "a longer one: 值, with = and blanks"] {
        let store = cluster();
        producer(&store).send(message("x").property("name", value)).unwrap();
        let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
        let delivery = consumer.recv().unwrap();
        assert_eq!(delivery.property("name"), Some(value));
        delivery.ack().unwrap();
    }
}

#[test]
fn t_a22_synchronous_asynchronous_and_one_way_messages_are_all_consumed() {
    let store = cluster();
    let producer = producer(&store);
    let mut tickets = Vec::new();
    for n in 0..10 {
        producer.send(message(n)).unwrap();
        tickets.push(producer.send_async(message(10 + n)));
        producer.send_oneway(message(20 + n)).unwrap();
    }
    tickets.into_iter().for_each(|ticket| assert_eq!(ticket.wait().unwrap().status(), SendStatus::SendOk));
    assert_eq!(consume_all(&store, "*"), sorted(0..30));
}

#[test]
fn t_a23_t_a32_batches_of_ten_are_consumed_however_they_are_sent() {
    let store = cluster();
    let producer = producer(&store);
    let batch = |from: u32| (from..from + 10).map(message);
    producer.send_batch(batch(0)).unwrap();
    producer.send_batch_to(&first_queues(&store)[1], batch(10)).unwrap();
    assert_eq!(producer.send_batch_async(batch(20)).wait().unwrap().batch().len(), 10);
    producer.send_batch_then(batch(30), |answer| assert_eq!(answer.unwrap().batch().len(), 10)).unwrap();
    for receipt in producer.send_batches(batch(40)) {
        assert_eq!(receipt.unwrap().batch().len(), 10);
    }
    store.step().unwrap();
    assert_eq!(consume_all(&store, "*"), sorted(0..50));
}

#[test]
fn t_a28_a_chinese_tag_can_be_sent_filtered_and_received() {
    let store = cluster();
    producer(&store).send(message("wanted").tag("中国")).unwrap();
    producer(&store).send(message("not wanted").tag("中")).unwrap();
    assert_eq!(consume_all(&store, "中国"), ["wanted"]);
}

#[test]
fn t_a21_any_number_of_producers_may_belong_to_a_group_where_rocketmq_refuses_a_second_of_one_instance() {
    let store = cluster();
    let (first, second) = (store.producer("shop").unwrap(), store.producer("shop").unwrap());
    first.send(message("first")).unwrap();
    second.send(message("second")).unwrap();
    drop(first);
    second.send(message("third")).unwrap();
    let mut all = consume_all(&store, "*");
    all.sort();
    assert_eq!(all, ["first", "second", "third"]);
}

#[test]
fn t_a30_t_a33_names_and_sizes_outside_the_limits_are_refused_by_every_way_to_send() {
    let store = cluster();
    let producer = producer(&store);
    let many = (0..129).fold(message("x"), |message, n| message.property(format!("n{n}"), "v"));
    let wrong = [
        message(""),
        many,
        message("x").tag("nul\0"),
        message("x").property("UNIQ_KEY", "v"),
        message("x").property(" ", "v"),
        Message::new("", "x"),
        Message::new("no such / topic", "x"),
        Message::new("t".repeat(128), "x"),
        Message::new("SCHEDULE_TOPIC_XXXX", "x"),
        Message::new("RMQ_SYS_TRANS_HALF_TOPIC", "x"),
        Message::new("SELF_TEST_TOPIC", "x"),
        Message::new("OFFSET_MOVED_EVENT", "x"),
    ];
    for message in &wrong {
        let answers = [
            producer.send(message).map(drop),
            producer.send_async(message).wait().map(drop),
            producer.send_oneway(message),
            producer.send_batch([message]).map(drop),
            producer.send_batches([message]).try_for_each(|receipt| receipt.map(drop)),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(Error::InvalidArgument { .. })), "{message:?}: {answer:?}");
        }
    }
    assert!(consume_all(&store, "*").is_empty());
    assert_eq!(store.topics().len(), 1);
}

#[test]
fn f148_three_keys_of_five_messages_are_each_consumed_in_order() {
    let store = cluster();
    let producer = producer(&store);
    for n in 0..5 {
        for key in ["15103111039", "15103111065", "15103117235"] {
            producer.send_async(message(n).key(key).order_key(key)).wait().unwrap();
        }
    }
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let mut seen = std::collections::HashMap::<String, Vec<String>>::new();
    while let Some(delivery) = consumer.try_recv().unwrap() {
        let key = delivery.order_key().unwrap().to_owned();
        seen.entry(key).or_default().push(delivery.body_str().unwrap().into_owned());
        delivery.ack().unwrap();
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.values().all(|bodies| *bodies == ["0", "1", "2", "3", "4"]), "{seen:?}");
}

#[test]
fn a19_what_was_sent_before_the_last_handle_was_dropped_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let producer = producer(&store);
    for n in 0..10 {
        drop(producer.send_async(message(n)));
        producer.send_oneway(message(10 + n)).unwrap();
        producer.send_then(message(20 + n), |_| ()).unwrap();
    }
    drop((store, producer));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.recovery()[0].last_stop, LastStop::Clean);
    assert_eq!(consume_all(&store, "*"), sorted(0..30));
    store.close().unwrap();
    store.close().unwrap();
}

#[test]
fn a_callback_is_called_also_when_its_producer_is_gone() {
    for policy in [FlushPolicy::Async, FlushPolicy::Sync] {
        let store = TestStore::builder(move |builder| builder.flush(policy));
        let producer = store.producer("shop").unwrap();
        let (told, outcomes) = std::sync::mpsc::channel();
        producer.send_then(message(1), move |outcome| told.send(outcome.is_ok()).unwrap()).unwrap();
        drop(producer);
        store.step().unwrap();
        store.step().unwrap();
        assert_eq!(outcomes.iter().collect::<Vec<_>>(), [true], "{policy:?}");
    }
}
