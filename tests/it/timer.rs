//! Does a message with a time of its own come at that time, to the millisecond, whatever happens in between?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pocketmq::testing::TestStore;
use pocketmq::{
    Background, Consumer, Error, Filter, FlushPolicy, Message, MessageQueue, MessageView, QueueOffset,
    RecallHandle, SendReceipt, Store, TopicConfig,
};

pub(crate) const TIMERS: &str = "rmq_sys_wheel_timer";
const START: u64 = 1_700_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

pub(crate) fn after(body: impl ToString, time: Duration) -> Message {
    Message::new("orders", body.to_string()).tag("t").key("k").property("n", "v").delay(time)
}

pub(crate) fn send(store: &Store, message: Message) -> SendReceipt {
    store.producer("shop").unwrap().send(message).unwrap()
}

pub(crate) fn consumer(store: &Store) -> Consumer {
    store.consumer("billing").subscribe("orders", "*").build().unwrap()
}

/// Acknowledges everything that is there and returns the bodies.
pub(crate) fn drain(consumer: &Consumer) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(delivery) = consumer.try_recv().unwrap() {
        bodies.push(delivery.body_str().unwrap().into_owned());
        delivery.ack().unwrap();
    }
    bodies
}

/// One queue, so that the order of deliveries is the order in it.
pub(crate) fn one_queue(store: TestStore) -> TestStore {
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    store
}

/// Returns what lies in the timers' queue.
fn waiting(store: &Store) -> Vec<MessageView> {
    let queue = MessageQueue::new(TIMERS.try_into().unwrap(), store.brokers()[0].name().clone(), 0);
    let mut all = Vec::new();
    let mut next = QueueOffset::ZERO;
    loop {
        let pulled = store.pull(&queue, &Filter::all(), next, 32).unwrap();
        if pulled.messages.is_empty() {
            return all;
        }
        next = pulled.next_offset;
        all.extend(pulled.messages);
    }
}

fn pending(store: &Store) -> u64 {
    store.brokers()[0].pending_timers()
}

#[test]
fn e5_a_message_lies_in_the_timers_topic_as_rocketmq_has_it_and_comes_at_its_millisecond() {
    let store = TestStore::new();
    let receipt = send(&store, after("remind", millis(3_068)));
    assert_eq!(receipt.queue().topic().as_str(), "orders");
    let view = waiting(&store).remove(0);
    assert_eq!((view.message_id(), view.queue_offset()), (receipt.message_id(), receipt.queue_offset()));
    assert_eq!(view.property("TIMER_DELIVER_MS"), Some("1700000003068"));
    assert_eq!(view.property("TIMER_OUT_MS"), Some("1700000003000"));
    assert_eq!(view.property("REAL_TOPIC"), Some("orders"));
    assert_eq!(view.property("REAL_QID"), Some(receipt.queue().queue_id().to_string().as_str()));
    assert_eq!(pending(&store), 1);
    let consumer = consumer(&store);
    store.advance(millis(3_067)).unwrap();
    assert!(drain(&consumer).is_empty());
    assert_eq!(pending(&store), 1);
    store.advance(millis(1)).unwrap();
    let came = consumer.recv().unwrap();
    assert_eq!((came.topic(), came.tag(), came.property("n")), ("orders", "t", Some("v")));
    assert_eq!((came.message_id(), came.queue()), (receipt.message_id(), receipt.queue()));
    assert_eq!((came.born_millis(), came.reconsume_times()), (view.born_millis(), 0));
    // As RocketMQ leaves it: the delivered message still says how it was delayed, and when it had its turn.
    assert_eq!(
        (came.property("TIMER_OUT_MS"), came.property("REAL_TOPIC")),
        (Some("1700000003000"), Some("orders"))
    );
    assert_eq!(came.property("TIMER_DEQUEUE_MS"), Some("1700000003068"));
    assert!(came.property("TIMER_ENQUEUE_MS").is_some());
    assert_eq!(came.properties().iter().filter(|(name, _)| *name == "__CRC32#").count(), 1);
    came.ack().unwrap();
    store.advance(30 * DAY).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(pending(&store), 0);
}

#[test]
fn e5_a_whole_second_lies_in_the_second_before_it_as_in_rocketmq() {
    let store = TestStore::new();
    send(&store, Message::new("orders", "x").deliver_at(at(START + 4_000)));
    assert_eq!(waiting(&store)[0].property("TIMER_OUT_MS"), Some("1700000003000"));
    let consumer = consumer(&store);
    store.advance(millis(3_999)).unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(millis(1)).unwrap();
    assert_eq!(drain(&consumer), ["x"]);
}

#[test]
fn a15_a_time_is_anything_up_to_a_hundred_years_and_what_has_passed_is_now() {
    let store = one_queue(TestStore::new());
    let producer = store.producer("shop").unwrap();
    for time in [at(START - 20_000), UNIX_EPOCH, UNIX_EPOCH - Duration::from_secs(1), at(START)] {
        let receipt = producer.send(Message::new("orders", "now").deliver_at(time)).unwrap();
        assert_eq!(receipt.recall_handle(), None);
    }
    producer.send(after("now", Duration::ZERO)).unwrap();
    let consumer = consumer(&store);
    assert_eq!(drain(&consumer), vec!["now"; 5]);
    let long = Duration::from_secs(36_500 * 86_400);
    for time in [long + millis(1), Duration::from_secs(36_525 * 86_400), Duration::MAX] {
        let error = producer.send(after("never", time)).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "delay", .. }), "{error}");
    }
    let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
    let error = producer.send(Message::new("orders", "never").deliver_at(far)).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "deliver_at", .. }), "{error}");
    // Rounded up: never early.
    producer.send(after("soon", Duration::from_nanos(1))).unwrap();
    producer.send(after("later", 3 * DAY)).unwrap();
    producer.send(after("much later", long)).unwrap();
    store.step().unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(millis(1)).unwrap();
    assert_eq!(drain(&consumer), ["soon"]);
    store.advance(3 * DAY - millis(2)).unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(millis(1)).unwrap();
    assert_eq!(drain(&consumer), ["later"]);
    store.advance(long).unwrap();
    assert_eq!(drain(&consumer), ["much later"]);
}

#[test]
fn a15_a_delay_level_and_a_time_are_not_both_taken_and_a_batch_takes_neither() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    let error = producer.send(after("x", DAY).delay_level(1)).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "delay", .. }), "{error}");
    let error = producer.send_batch([Message::new("orders", "x"), after("y", DAY)]).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "batch", .. }), "{error}");
    // As many properties as a record holds leave no room for those of a timer.
    let full = after("x", DAY).property("p", "v".repeat(32_600));
    let error = producer.send(full).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "properties", .. }), "{error}");
    assert!(waiting(&store).is_empty());
}

#[test]
fn a_store_that_rocketmq_4_9_is_to_read_takes_no_timer() {
    let store = TestStore::builder(|builder| builder.rocketmq_version(pocketmq::RocketmqVersion::V4_9));
    let error = store.producer("shop").unwrap().send(after("x", millis(1))).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(why) if why.as_str().contains("V5")), "{error}");
    assert!(store.topics().is_empty());
    // What is there already is delivered all the same.
    let store = TestStore::new();
    send(&store, after("old", millis(1_500)));
    let store =
        store.reopen_with(|builder| builder.rocketmq_version(pocketmq::RocketmqVersion::V4_9)).unwrap();
    store.advance(millis(1_500)).unwrap();
    assert_eq!(drain(&consumer(&store)), ["old"]);
}

#[test]
fn t_i5_a_time_beyond_what_the_store_allows_is_refused_sent_in_either_way() {
    let store = TestStore::builder(|builder| builder.timer_delay_max(Duration::from_secs(43_200)));
    let producer = store.producer("shop").unwrap();
    producer.send(Message::new("orders", "in time").deliver_at(at(START + 10_000))).unwrap();
    producer.send_async(Message::new("orders", "async").deliver_at(at(START + 10_000))).wait().unwrap();
    producer.send(Message::new("orders", "past").deliver_at(at(START - 20_000))).unwrap();
    let tomorrow = Message::new("orders", "never").deliver_at(at(START + 86_400_000));
    assert!(producer.send(&tomorrow).is_err());
    assert!(producer.send_async(&tomorrow).wait().is_err());
    let consumer = consumer(&store);
    assert_eq!(drain(&consumer), ["past"]);
    store.advance(millis(10_000)).unwrap();
    let mut bodies = drain(&consumer);
    bodies.sort();
    assert_eq!(bodies, ["async", "in time"]);
    for wrong in [Duration::ZERO, Duration::MAX] {
        let error = Store::builder("never").in_memory().timer_delay_max(wrong).open().unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { field: "timer_delay_max", .. }), "{error}");
    }
}

fn five(store: &Store) -> Vec<SendReceipt> {
    let producer = store.producer("shop").unwrap();
    let messages = [
        Message::new("orders", "plain"),
        Message::new("orders", "level").delay_level(2),
        after("millis", millis(1_500)),
        after("seconds", Duration::from_secs(2)),
        Message::new("orders", "at").deliver_at(at(START + 1_000)),
    ];
    messages.into_iter().map(|message| producer.send(message).unwrap()).collect()
}

#[test]
fn t_i8_plain_delayed_and_timed_messages_are_all_received() {
    let store = TestStore::new();
    five(&store);
    store.advance(Duration::from_secs(5)).unwrap();
    let mut bodies = drain(&consumer(&store));
    bodies.sort();
    assert_eq!(bodies, ["at", "level", "millis", "plain", "seconds"]);
}

#[test]
fn t_i9_exactly_timers_have_handles_and_a_recalled_message_is_not_received() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let store = TestStore::builder(move |builder| builder.flush(flush));
        let receipts = five(&store);
        let has: Vec<bool> = receipts.iter().map(|receipt| receipt.recall_handle().is_some()).collect();
        assert_eq!(has, [false, false, true, true, true]);
        let producer = store.producer("shop").unwrap();
        for receipt in &receipts[2..] {
            assert_eq!(producer.recall(receipt.recall_handle()).unwrap(), receipt.message_id());
        }
        let error = producer.recall(receipts[0].recall_handle()).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "recall_handle", .. }), "{error}");
        store.advance(Duration::from_secs(5)).unwrap();
        let mut bodies = drain(&consumer(&store));
        bodies.sort();
        assert_eq!(bodies, ["level", "plain"]);
    }
}

#[test]
fn e6_what_is_due_or_unknown_or_elsewhere_cannot_be_recalled_and_twice_is_once() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    let handle = |receipt: &SendReceipt| receipt.recall_handle().unwrap();
    let never: RecallHandle = {
        let other = TestStore::new();
        handle(&send(&other, after("x", DAY)))
    };
    assert!(matches!(producer.recall(never.clone()), Err(Error::TooLate(_))));
    let kept = send(&store, after("kept", millis(1_999)));
    let gone = send(&store, after("gone", millis(1_999)));
    assert!(matches!(producer.recall(never), Err(Error::TooLate(_))));
    for _ in 0..2 {
        assert_eq!(producer.recall(handle(&gone)).unwrap(), gone.message_id());
    }
    let cancels = waiting(&store).into_iter().filter(|view| view.property("TIMER_DEL_UNIQKEY").is_some());
    let cancels: Vec<MessageView> = cancels.collect();
    assert_eq!(cancels.len(), 1, "the second one has nothing to do");
    let id = gone.message_id().to_string();
    assert_eq!(cancels[0].property("TIMER_DEL_UNIQKEY"), Some(id.as_str()));
    assert_eq!((cancels[0].tag(), cancels[0].body_str().unwrap().as_ref()), ("_RECALL_TAG_", "0"));
    assert_eq!(cancels[0].property("TIMER_OUT_MS"), Some("1700000001000"));
    // In the very second in which it is due, before it is.
    store.advance(millis(1_500)).unwrap();
    let late = send(&store, after("late", millis(400)));
    producer.recall(handle(&late)).unwrap();
    store.advance(millis(499)).unwrap();
    let consumer = consumer(&store);
    assert_eq!(drain(&consumer), ["kept"]);
    let error = producer.recall(handle(&kept)).unwrap_err();
    assert!(matches!(error, Error::TooLate(_)) && !error.is_retryable(), "{error}");
    store.advance(DAY).unwrap();
    assert!(drain(&consumer).is_empty());
    let elsewhere = Store::builder("x").in_memory().brokers(["other"]).background(Background::Manual);
    let elsewhere = elsewhere.open().unwrap();
    let error = elsewhere.producer("shop").unwrap().recall(handle(&kept)).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    store.store().close().unwrap();
    assert!(matches!(producer.recall(handle(&kept)), Err(Error::Closed)));
}

#[test]
fn e6_a_recall_survives_kills_and_holds_for_what_comes_round() {
    let mut store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    let far = send(&store, after("far", 9 * DAY));
    let soon = send(&store, after("soon", millis(5_500)));
    send(&store, after("kept", 9 * DAY));
    producer.recall(soon.recall_handle()).unwrap();
    store = store.kill_process().unwrap();
    store.advance(4 * DAY).unwrap();
    // It has come round once or twice.
    store.producer("shop").unwrap().recall(far.recall_handle()).unwrap();
    store = store.kill_process().unwrap();
    for _ in 0..10 {
        store.advance(DAY).unwrap();
        store = store.reopen().unwrap();
    }
    assert_eq!(drain(&consumer(&store)), ["kept"]);
}

#[test]
fn e5_timers_come_in_due_order_at_most_a_thousand_a_step_after_a_long_sleep() {
    for sleep in [DAY / 24, 10 * DAY, 40 * DAY] {
        let mut store = one_queue(TestStore::new());
        // Sent in an order that has nothing to do with when they are due: over 30 days, an hour or one second.
        let span = u64::try_from(sleep.as_millis()).unwrap() * 3 / 4;
        let due = |n: u64| 1 + n * 7_919 % 2_500 * span / 2_500;
        for n in 0..2_500 {
            send(&store, after(due(n), millis(due(n))));
        }
        store = store.kill_process().unwrap();
        store.clock().advance(sleep);
        store = store.kill_process().unwrap();
        let consumer = consumer(&store);
        let mut came = Vec::new();
        loop {
            store.step().unwrap();
            let bodies = drain(&consumer);
            if bodies.is_empty() {
                break;
            }
            assert!(bodies.len() <= 1_000, "{} in one step", bodies.len());
            came.extend(bodies.iter().map(|body| body.parse::<u64>().unwrap()));
        }
        let mut expected: Vec<u64> = (0..2_500).map(due).collect();
        expected.sort_unstable();
        assert!(came == expected, "after {sleep:?}: {} came", came.len());
    }
}

#[test]
fn e5_what_is_due_at_the_same_millisecond_comes_in_the_order_in_which_it_was_sent() {
    let mut store = one_queue(TestStore::new());
    for n in 0..300 {
        send(&store, after(n, millis(1_700)));
        if n == 100 {
            store.step().unwrap();
        }
        if n == 200 {
            store = store.kill_process().unwrap();
        }
    }
    store.advance(millis(1_700)).unwrap();
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(drain(&consumer(&store)), expected);
}

#[test]
fn d13_timers_survive_kills_and_clean_stops_and_come_once() {
    for clean in [false, true] {
        let mut store = one_queue(TestStore::new());
        let again =
            |store: TestStore| if clean { store.reopen().unwrap() } else { store.kill_process().unwrap() };
        // Nothing but the log knows of it yet.
        send(&store, after("a", millis(1_250)));
        store = again(store);
        send(&store, after("b", millis(1_750)));
        store.step().unwrap();
        store = again(store);
        store.advance(millis(1_500)).unwrap();
        // Half of the second is done.
        store = again(store);
        send(&store, after("c", millis(100)));
        store = again(store);
        assert_eq!(drain(&consumer(&store)), ["a"], "clean: {clean}");
        store.advance(millis(100)).unwrap();
        store = again(store);
        store.advance(millis(150)).unwrap();
        store.advance(DAY).unwrap();
        store = again(store);
        store.step().unwrap();
        assert_eq!(drain(&consumer(&store)), ["c", "b"], "clean: {clean}");
    }
}

#[test]
fn e5_a_timer_beyond_a_round_of_the_wheel_comes_at_its_millisecond_through_kills() {
    let mut store = one_queue(TestStore::new());
    let dues = [2 * DAY - millis(1), 2 * DAY, 2 * DAY + DAY / 2, 5 * DAY + millis(7), 30 * DAY + millis(1)];
    for (n, due) in dues.into_iter().enumerate() {
        send(&store, after(n, due));
    }
    let mut now = Duration::ZERO;
    for (n, due) in dues.into_iter().enumerate() {
        while due - now > DAY / 2 {
            now += DAY / 2;
            store.advance(DAY / 2).unwrap();
            store = if n % 2 == 0 { store.kill_process().unwrap() } else { store.reopen().unwrap() };
        }
        store.advance(due - now - millis(1)).unwrap();
        assert!(drain(&consumer(&store)).is_empty(), "{n}");
        store.advance(millis(1)).unwrap();
        assert_eq!(drain(&consumer(&store)), [n.to_string()]);
        now = due;
    }
    let rolled =
        waiting(&store).into_iter().filter_map(|view| Some(view.property("TIMER_ROLL_TIMES")?.to_owned()));
    assert_eq!(rolled.filter_map(|times| times.parse::<u32>().ok()).max(), Some(14));
}

#[test]
fn g1_g2_setting_the_clock_makes_no_timer_early_or_late() {
    for wall in [1_600_000_000_000_i64, START.cast_signed() + 365 * 86_400_000, 0, -1, i64::MAX, i64::MIN] {
        let store = one_queue(TestStore::new());
        send(&store, after("before", millis(10_000)));
        store.clock().set_wall_millis(wall);
        store.step().unwrap();
        send(&store, after("after", millis(10_001)));
        store.clock().advance(millis(9_999));
        store.clock().set_wall_millis(wall);
        store.step().unwrap();
        let consumer = consumer(&store);
        assert!(drain(&consumer).is_empty(), "{wall}");
        store.clock().advance(millis(1));
        store.clock().set_wall_millis(wall);
        store.step().unwrap();
        assert_eq!(drain(&consumer), ["before"], "{wall}");
        store.clock().advance(millis(1));
        store.clock().set_wall_millis(wall);
        store.step().unwrap();
        assert_eq!(drain(&consumer), ["after"], "{wall}");
    }
}

#[test]
fn g3_g4_a_clock_that_jumps_between_two_openings_delivers_by_the_time_of_day_and_never_fails() {
    let mut store = one_queue(TestStore::new());
    send(&store, after("one", millis(60_000)));
    store.step().unwrap();
    for wall in [0, -5_000, i64::MIN, 1_600_000_000_000] {
        store.clock().set_wall_millis(wall);
        store = store.kill_process().unwrap();
        store.step().unwrap();
        assert!(drain(&consumer(&store)).is_empty(), "{wall}");
    }
    store.clock().set_wall_millis(START.cast_signed() + 60_000);
    store = store.reopen().unwrap();
    store.step().unwrap();
    assert_eq!(drain(&consumer(&store)), ["one"]);
    for wall in [i64::MAX, i64::MAX - 1, 9_300_000_000_000_000] {
        store.clock().set_wall_millis(wall);
        store = store.kill_process().unwrap();
        send(&store, after("two", millis(1)));
        store.advance(millis(1)).unwrap();
    }
    assert!(drain(&consumer(&store)).len() <= 3);
}

#[test]
fn g3_after_a_clock_that_was_set_back_while_closed_new_timers_are_not_early_and_old_ones_not_twice() {
    for clean in [false, true] {
        let mut store = one_queue(TestStore::new());
        send(&store, after("had its turn", millis(1_000)));
        send(&store, after("waits", millis(7_200_000)));
        store.advance(millis(3_600_000)).unwrap();
        assert_eq!(drain(&consumer(&store)), ["had its turn"]);
        store.clock().set_wall_millis(START.cast_signed());
        store = if clean { store.reopen().unwrap() } else { store.kill_process().unwrap() };
        send(&store, after("new", millis(1_800_000)));
        store.advance(millis(1_799_999)).unwrap();
        assert!(drain(&consumer(&store)).is_empty());
        store.advance(millis(1)).unwrap();
        assert_eq!(drain(&consumer(&store)), ["new"]);
        store.advance(millis(7_200_000)).unwrap();
        assert_eq!(drain(&consumer(&store)), ["waits"]);
    }
}

#[test]
fn e6_a_topic_whose_name_an_id_begins_with_is_recalled_from_after_a_restart_too() {
    let store = TestStore::new();
    let id = send(&store, after("probe", millis(1))).message_id().to_string();
    let topic = id[..2].to_owned();
    store.create_topic(&topic, TopicConfig::queues(1)).unwrap();
    let receipt = send(&store, Message::new(topic.clone(), "back").delay(millis(60_000)));
    assert!(receipt.message_id().to_string().starts_with(&topic));
    store.producer("shop").unwrap().recall(receipt.recall_handle().unwrap()).unwrap();
    let store = store.kill_process().unwrap();
    store.advance(millis(60_001)).unwrap();
    let consumer = store.consumer("billing").subscribe(&topic, "*").build().unwrap();
    assert!(drain(&consumer).is_empty());
}

#[test]
fn g9_delays_of_zero_and_one_millisecond_over_a_restart_come_when_it_is_done() {
    for clean in [false, true] {
        let mut store = one_queue(TestStore::new());
        send(&store, after("zero", Duration::ZERO));
        send(&store, after("one", millis(1)));
        store.clock().advance(millis(1));
        store = if clean { store.reopen().unwrap() } else { store.kill_process().unwrap() };
        store.step().unwrap();
        assert_eq!(drain(&consumer(&store)), ["zero", "one"]);
    }
}

#[test]
fn d20_a_timer_is_gone_with_its_topic() {
    let store = TestStore::new();
    send(&store, after("old", millis(500)));
    send(&store, Message::new("other", "kept").delay(millis(500)));
    store.delete_topic("orders").unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    send(&store, after("new", millis(500)));
    store.advance(millis(500)).unwrap();
    assert_eq!(drain(&consumer(&store)), ["new"]);
    let other = store.consumer("others").subscribe("other", "*").build().unwrap();
    assert_eq!(drain(&other), ["kept"]);
}

#[test]
fn d13_under_sync_flush_and_in_memory_timers_come_at_their_time() {
    let sync = TestStore::builder(|builder| builder.flush(FlushPolicy::Sync));
    send(&sync, after("one", millis(1_000)));
    let waits = consumer(&sync);
    sync.advance(millis(999)).unwrap();
    assert!(drain(&waits).is_empty());
    sync.advance(millis(1)).unwrap();
    assert_eq!(drain(&waits), ["one"]);
    let clock = std::sync::Arc::new(pocketmq::ManualClock::new(START.cast_signed()));
    let hands: std::sync::Arc<dyn pocketmq::Clock> = std::sync::Arc::<pocketmq::ManualClock>::clone(&clock);
    let memory = Store::builder("memory").in_memory().clock(hands).background(Background::Manual);
    let memory = memory.open().unwrap();
    send(&memory, after("two", 3 * DAY));
    memory.step().unwrap();
    for _ in 0..3 {
        clock.advance(DAY);
        memory.step().unwrap();
    }
    assert_eq!(drain(&consumer(&memory)), ["two"]);
}

#[test]
fn v11_a_key_that_waits_for_its_time_is_not_sent_again_and_can_be_recalled() {
    let store = TestStore::new();
    let producer = store.producer_builder("shop").deduplicate(Duration::from_secs(3_600)).build().unwrap();
    let first = producer.send(after("one", millis(9_500))).unwrap();
    drop(producer);
    let producer = store.producer_builder("shop").deduplicate(Duration::from_secs(3_600)).build().unwrap();
    let second = producer.send(after("again", millis(9_500))).unwrap();
    assert_eq!(second.message_id(), first.message_id());
    assert_eq!(second.recall_handle(), first.recall_handle());
    producer.recall(second.recall_handle()).unwrap();
    store.advance(DAY).unwrap();
    assert!(drain(&consumer(&store)).is_empty());
}

#[test]
fn e5_with_threads_a_timer_wakes_the_one_who_delivers() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::builder(dir.path()).flush(flush).open().unwrap();
        let consumer = consumer(&store);
        send(&store, after("later", Duration::from_secs(3_600)));
        for n in 0..20 {
            send(&store, after(n, millis(n)));
            let came = consumer.recv_timeout(Duration::from_secs(20)).unwrap().expect("the timer's message");
            assert_eq!(came.body_str().unwrap(), n.to_string());
            came.ack().unwrap();
        }
        store.close().unwrap();
    }
}

#[test]
fn d13_a_timer_that_acknowledges_another_message_comes_once_and_without_that() {
    let store = one_queue(TestStore::new());
    send(&store, Message::new("orders", "first"));
    let consumer = consumer(&store);
    let first = consumer.recv().unwrap();
    let receipt = store.producer("shop").unwrap().send_and_ack(after("next", millis(1_500)), first).unwrap();
    assert!(receipt.recall_handle().is_some());
    store.advance(millis(1_499)).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    store.advance(millis(1)).unwrap();
    let next = consumer.recv().unwrap();
    assert_eq!((next.body_str().unwrap().as_ref(), next.property("__POCKETMQ_ACK")), ("next", None));
    next.ack().unwrap();
}
