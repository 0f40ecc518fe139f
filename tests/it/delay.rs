//! Is a delayed message delivered when its time has come, never before, whatever happens in between?

use std::sync::Arc;
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Background, Consumer, Error, Filter, FlushPolicy, Limit, Limits, ManualClock, Message, MessageQueue,
    MessageView, Store, TopicConfig,
};
use serde_json::Value;

use crate::golden::Golden;

const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn delayed(body: &'static str, level: i32) -> Message {
    Message::new("orders", body).tag("t").key("k").property("n", "v").delay_level(level)
}

fn send(store: &Store, message: Message) -> pocketmq::SendReceipt {
    store.producer("shop").unwrap().send(message).unwrap()
}

fn consumer(store: &Store) -> Consumer {
    store.consumer("billing").subscribe("orders", "*").build().unwrap()
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

/// Returns what lies in one level's queue.
fn scheduled(store: &Store, level: u32) -> Vec<MessageView> {
    let broker = store.brokers()[0].name().clone();
    let queue = MessageQueue::new(SCHEDULE.try_into().unwrap(), broker, level - 1);
    let Some(range) = store.queue_offsets(&queue) else { return Vec::new() };
    store.pull(&queue, &Filter::all(), range.start, 1_000).unwrap().messages
}

fn progress(store: &TestStore) -> Value {
    let path = store.brokers()[0].dir().join("config/delayOffset.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn f142_t_i3_a_message_lies_in_its_levels_queue_and_comes_at_its_time() {
    let store = TestStore::new();
    let receipt = send(&store, delayed("remind", 2));
    assert_eq!(receipt.queue().topic().as_str(), "orders");
    let waiting = scheduled(&store, 2);
    assert_eq!((waiting.len(), waiting[0].message_id()), (1, receipt.message_id()));
    assert_eq!(waiting[0].property("DELAY"), Some("2"));
    assert_eq!(waiting[0].property("REAL_TOPIC"), Some("orders"));
    assert_eq!(waiting[0].property("REAL_QID"), Some(receipt.queue().queue_id().to_string().as_str()));
    let consumer = consumer(&store);
    store.advance(Duration::from_millis(4_999)).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    store.advance(Duration::from_millis(1)).unwrap();
    let came = consumer.recv().unwrap();
    assert_eq!((came.topic(), came.tag(), came.property("n")), ("orders", "t", Some("v")));
    assert_eq!((came.message_id(), came.queue()), (receipt.message_id(), receipt.queue()));
    assert_eq!((came.born_millis(), came.reconsume_times()), (waiting[0].born_millis(), 0));
    // As RocketMQ leaves it: the delivered message still says how it was delayed.
    assert_eq!((came.property("DELAY"), came.property("REAL_TOPIC")), (Some("2"), Some("orders")));
    assert_eq!(came.properties().iter().filter(|(name, _)| *name == "__CRC32#").count(), 1);
    came.ack().unwrap();
    store.advance(seconds(86_400)).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
}

#[test]
fn a14_a_level_is_0_to_the_last_and_above_means_the_last() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    let error = producer.send(delayed("never", -1)).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "delay_level", .. }), "{error}");
    send(&store, delayed("now", 0));
    for (level, body) in [(18, "a"), (19, "b"), (i32::MAX, "c")] {
        send(&store, delayed(body, level));
    }
    let consumer = consumer(&store);
    assert_eq!(drain(&consumer), ["now"]);
    let capped: Vec<_> =
        scheduled(&store, 18).iter().map(|view| view.property("DELAY").unwrap().to_owned()).collect();
    assert_eq!(capped, ["18", "18", "18"]);
    store.advance(seconds(7_199)).unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(seconds(1)).unwrap();
    let mut bodies = drain(&consumer);
    bodies.sort();
    assert_eq!(bodies, ["a", "b", "c"]);
}

#[test]
fn a16_a_batch_with_a_delay_is_refused_before_anything_is_stored() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    let error = producer.send_batch([Message::new("orders", "x"), delayed("y", 1)]).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "batch", .. }), "{error}");
    assert!(scheduled(&store, 1).is_empty() && store.topic("orders").is_none());
}

#[test]
fn t_i4_messages_of_all_levels_come_each_at_its_own_time_and_in_order() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    for _ in 0..128 {
        send(&store, delayed("b", 2));
        send(&store, delayed("c", 3));
        send(&store, delayed("a", 1));
    }
    let consumer = consumer(&store);
    for (wait, body) in [(1, "a"), (4, "b"), (5, "c")] {
        store.advance(seconds(wait) - Duration::from_millis(1)).unwrap();
        assert!(drain(&consumer).is_empty(), "{body}");
        store.advance(Duration::from_millis(1)).unwrap();
        assert_eq!(drain(&consumer), vec![body; 128]);
    }
}

#[test]
fn d13_what_waits_survives_a_kill_and_a_clean_stop() {
    let mut store = TestStore::new();
    // Nothing but this message says that there is such a topic.
    send(&store, delayed("one", 3));
    store = store.kill_process().unwrap();
    send(&store, delayed("two", 3));
    store = store.reopen().unwrap();
    let consumer = consumer(&store);
    store.advance(seconds(10)).unwrap();
    let mut bodies = drain(&consumer);
    bodies.sort();
    assert_eq!(bodies, ["one", "two"]);
}

#[test]
fn k39_what_was_delivered_before_a_kill_is_not_delivered_again() {
    for clean in [false, true] {
        let mut store = TestStore::new();
        send(&store, delayed("one", 1));
        store.advance(seconds(1)).unwrap();
        send(&store, delayed("two", 1));
        store = if clean { store.reopen().unwrap() } else { store.kill_process().unwrap() };
        store.advance(seconds(1)).unwrap();
        let mut bodies = drain(&consumer(&store));
        bodies.sort();
        assert_eq!(bodies, ["one", "two"], "clean: {clean}");
    }
}

#[test]
fn k39_without_our_own_note_the_json_counts_and_what_followed_it_is_repeated() {
    let store = TestStore::new();
    send(&store, delayed("one", 1));
    store.advance(seconds(1)).unwrap();
    let store = store.reopen().unwrap();
    assert_eq!(progress(&store)["offsetTable"]["1"], 1);
    send(&store, delayed("two", 1));
    store.advance(seconds(1)).unwrap();
    let folder = store.kill_into_folder();
    std::fs::remove_file(folder.path().join("broker-a/pocketmq/delay")).unwrap();
    let store = folder.open().unwrap();
    store.step().unwrap();
    let mut bodies = drain(&consumer(&store));
    bodies.sort();
    assert_eq!(bodies, ["one", "two", "two"]);
}

#[test]
fn k40_a_levels_queue_may_roll_and_still_every_message_comes_once() {
    let sizes = pocketmq::FileSizes { consume_queue_units: 50, ..pocketmq::FileSizes::default() };
    let mut store = TestStore::builder(move |builder| builder.file_sizes(sizes));
    for round in 0..6 {
        for _ in 0..33 {
            send(&store, delayed("x", 1));
        }
        if round % 2 == 0 {
            store.advance(seconds(1)).unwrap();
        }
        store = store.kill_process().unwrap();
    }
    store.advance(seconds(1)).unwrap();
    assert_eq!(drain(&consumer(&store)).len(), 198);
}

#[test]
fn c36_progress_that_cannot_be_read_repeats_messages_and_loses_none() {
    for broken in [&b""[..], b"{\"offsetTable\":{\"1\"", b"[]", b"{\"offsetTable\":{1:-1}}"] {
        let store = TestStore::new();
        send(&store, delayed("one", 1));
        store.advance(seconds(1)).unwrap();
        let folder = store.reopen().unwrap().kill_into_folder();
        let broker = folder.path().join("broker-a");
        std::fs::write(broker.join("config/delayOffset.json"), broken).unwrap();
        std::fs::remove_file(broker.join("pocketmq/delay")).unwrap();
        let store = folder.open().unwrap();
        store.step().unwrap();
        assert_eq!(drain(&consumer(&store)), ["one", "one"], "{broken:?}");
    }
}

#[test]
fn c40_progress_beyond_the_end_of_a_level_is_brought_back_and_reported() {
    let folder = TestStore::new().reopen().unwrap().kill_into_folder();
    let broker = folder.path().join("broker-a");
    // As fastjson writes it.
    std::fs::write(broker.join("config/delayOffset.json"), "{\n\t\"offsetTable\":{1:7,3:0\n\t}\n}").unwrap();
    std::fs::remove_file(broker.join("pocketmq/delay")).unwrap();
    let store = folder.open().unwrap();
    let warnings = &store.recovery()[0].warnings;
    assert!(warnings.iter().any(|warning| warning.contains("delay level 1 was at 7")), "{warnings:?}");
    send(&store, delayed("one", 1));
    store.advance(seconds(1)).unwrap();
    assert_eq!(drain(&consumer(&store)), ["one"]);
}

#[test]
fn d17_a_close_that_cannot_write_the_progress_of_the_delays_leaves_abort() {
    let store = TestStore::new();
    send(&store, delayed("one", 1));
    store.advance(seconds(1)).unwrap();
    let broker = store.brokers()[0].dir().to_path_buf();
    // Nothing can be renamed over a folder.
    std::fs::create_dir(broker.join("config/delayOffset.json")).unwrap();
    store.store().close().unwrap_err();
    assert!(broker.join("abort").exists());
    std::fs::remove_dir(broker.join("config/delayOffset.json")).unwrap();
    let store = store.kill_into_folder().open().unwrap();
    store.advance(seconds(10)).unwrap();
    assert_eq!(drain(&consumer(&store)), ["one"]);
    store.store().close().unwrap();
    assert!(!broker.join("abort").exists());
}

#[test]
fn g1_setting_the_clock_back_makes_nothing_early() {
    let store = TestStore::new();
    send(&store, delayed("before", 3));
    store.advance(seconds(1)).unwrap();
    store.clock().set_wall_millis(1_600_000_000_000);
    store.advance(seconds(3_600)).unwrap();
    let consumer = consumer(&store);
    assert_eq!(drain(&consumer), ["before"]);
    // Store times stand still now, an hour behind the time by which messages are due.
    send(&store, delayed("after", 3));
    store.step().unwrap();
    store.advance(Duration::from_millis(9_999)).unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(drain(&consumer), ["after"]);
}

#[test]
fn g2_setting_the_clock_forward_makes_nothing_early_or_late() {
    let store = TestStore::new();
    send(&store, delayed("before", 3));
    store.clock().set_wall_millis(1_700_000_000_000 + 365 * 86_400_000);
    store.step().unwrap();
    let consumer = consumer(&store);
    assert!(drain(&consumer).is_empty());
    send(&store, delayed("after", 3));
    store.step().unwrap();
    store.advance(seconds(5)).unwrap();
    send(&store, delayed("last", 3));
    store.step().unwrap();
    store.advance(Duration::from_millis(4_999)).unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(Duration::from_millis(1)).unwrap();
    let mut bodies = drain(&consumer);
    bodies.sort();
    assert_eq!(bodies, ["after", "before"]);
    store.advance(seconds(5)).unwrap();
    assert_eq!(drain(&consumer), ["last"]);
}

#[test]
fn g4_a_clock_that_was_wrong_at_the_last_run_holds_messages_no_longer_than_their_delay() {
    let store = TestStore::new();
    store.clock().set_wall_millis(1_900_000_000_000);
    let store = store.reopen().unwrap();
    send(&store, delayed("one", 5));
    store.clock().set_wall_millis(1_700_000_000_000);
    let store = store.reopen().unwrap();
    store.step().unwrap();
    let consumer = consumer(&store);
    store.advance(seconds(59)).unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(seconds(1)).unwrap();
    assert_eq!(drain(&consumer), ["one"]);
}

#[test]
fn d20_a_delayed_message_is_gone_with_its_topic() {
    let store = TestStore::new();
    send(&store, delayed("old", 1));
    send(&store, Message::new("other", "kept").delay_level(1));
    store.delete_topic("orders").unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    send(&store, delayed("new", 1));
    store.advance(seconds(1)).unwrap();
    assert_eq!(drain(&consumer(&store)), ["new"]);
    let other = store.consumer("others").subscribe("other", "*").build().unwrap();
    assert_eq!(drain(&other), ["kept"]);
    store.delete_topic("other").unwrap();
    store.advance(seconds(60)).unwrap();
    assert!(store.topic("other").is_none());
}

#[test]
fn d13_under_sync_flush_a_delivered_message_is_seen_when_it_is_flushed() {
    let store = TestStore::builder(|builder| builder.flush(FlushPolicy::Sync));
    send(&store, delayed("one", 1));
    let consumer = consumer(&store);
    store.advance(Duration::from_millis(999)).unwrap();
    assert!(drain(&consumer).is_empty());
    store.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(drain(&consumer), ["one"]);
}

#[test]
fn a_message_for_a_queue_that_the_topic_has_no_more_comes_in_another_one() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(8)).unwrap();
    let queues = store.queues("orders").unwrap();
    let producer = store.producer("shop").unwrap();
    for queue in &queues {
        producer.send_to(queue, delayed("x", 1)).unwrap();
    }
    store.update_topic("orders", TopicConfig::queues(2)).unwrap();
    store.advance(seconds(1)).unwrap();
    assert_eq!(drain(&consumer(&store)).len(), 8);
}

#[test]
fn f65_what_waits_for_its_time_is_not_deleted_however_old_it_is() {
    let sizes = pocketmq::FileSizes { commit_log: 65_536, ..pocketmq::FileSizes::default() };
    let store = TestStore::builder(move |builder| {
        builder.file_sizes(sizes).delay_levels("1s 200h").free_space_min(0)
    });
    send(&store, delayed("late", 2));
    for _ in 0..40 {
        send(&store, Message::new("orders", vec![0; 8_192]));
    }
    let first = store.brokers()[0].log_range().start;
    for _ in 0..4 {
        store.advance(seconds(49 * 3_600)).unwrap();
        store.step().unwrap();
    }
    assert_eq!(store.brokers()[0].log_range().start, first, "a message waits in the first file");
    store.advance(seconds(4 * 3_600)).unwrap();
    let consumer = consumer(&store);
    assert!(std::iter::from_fn(|| consumer.try_recv().unwrap()).any(|came| came.raw_body() == b"late"));
}

#[test]
fn b12_another_table_of_levels_leaves_what_waits_its_time_and_its_level() {
    let store = TestStore::new();
    send(&store, delayed("slow", 3));
    let levels = |text: &'static str| move |builder: pocketmq::StoreBuilder| builder.delay_levels(text);
    let store = store.reopen_with(levels("1s 2s 3s")).unwrap();
    send(&store, delayed("quick", 3));
    send(&store, delayed("capped", 9));
    let consumer = consumer(&store);
    store.advance(seconds(3)).unwrap();
    assert!(drain(&consumer).is_empty(), "a level is a queue, and the one before must go first");
    store.advance(seconds(7)).unwrap();
    let mut bodies = drain(&consumer);
    bodies.sort();
    assert_eq!(bodies, ["capped", "quick", "slow"]);
    drop(consumer);
    // The folder says so from now on, also to RocketMQ.
    let store = store.reopen_with(|builder| builder).unwrap();
    let conf = std::fs::read_to_string(store.brokers()[0].dir().join("broker.conf")).unwrap();
    assert!(conf.contains("messageDelayLevel=1s 2s 3s"), "{conf}");
    send(&store, delayed("third", 3));
    let path = store.path();
    store.close().unwrap();
    let error = Store::builder(path).delay_levels("1s 2s").open().unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { field: "delay_levels", .. }), "{error}");
    assert!(error.to_string().contains("1 messages wait in level 3"), "{error}");
}

#[test]
fn b12_a_shorter_table_forgets_nothing_of_the_levels_that_it_lacks() {
    let store = TestStore::new();
    send(&store, delayed("slow", 3));
    store.advance(seconds(10)).unwrap();
    // Everything was delivered, so that a table without level 3 is taken.
    let levels = |text: &'static str| move |builder: pocketmq::StoreBuilder| builder.delay_levels(text);
    let store = store.reopen_with(levels("1s 5s")).unwrap();
    send(&store, delayed("quick", 1));
    store.advance(seconds(1)).unwrap();
    let store = store.reopen_with(levels("1s 5s")).unwrap();
    assert_eq!(progress(&store)["offsetTable"]["3"], 1);
    let store = store.reopen_with(levels("1s 5s 10s")).unwrap();
    store.advance(seconds(60)).unwrap();
    let mut bodies = drain(&consumer(&store));
    bodies.sort();
    assert_eq!(bodies, ["quick", "slow"], "each came once");
}

#[test]
fn a_topic_without_room_does_not_stop_the_delay_level_of_others() {
    let limits = || Limits::new().topic("orders", Limit::new().count(1));
    let store = TestStore::builder(move |builder| builder.limits(limits()));
    for body in ["one", "two", "three"] {
        send(&store, delayed(body, 1));
    }
    send(&store, Message::new("other", "four").delay_level(1));
    store.advance(seconds(1)).unwrap();
    assert_eq!(drain(&consumer(&store)).len(), 3, "what was taken once goes on");
    let queues = store.queues("other").unwrap();
    let ends = queues.iter().filter_map(|queue| store.queue_offsets(queue)).map(|range| range.end.get());
    assert_eq!(ends.sum::<u64>(), 1);
}

#[test]
fn b9_a_table_of_levels_that_is_none_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::builder(dir.path()).delay_levels("1s 5x").open().unwrap_err();
    assert!(error.to_string().contains("5x"), "{error}");
}

#[test]
fn threads_deliver_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).delay_levels("0s 1s").open().unwrap();
    let waiting = consumer(&store);
    send(&store, delayed("one", 1));
    let came = waiting.recv_timeout(seconds(60)).unwrap().expect("delivered");
    assert_eq!(came.body_str().unwrap(), "one");
    came.ack().unwrap();
    store.close().unwrap();
}

/// Reads what still waited in a store of another broker, as topic and id: the level's progress is in its JSON.
fn pending(golden: &Golden) -> Vec<(String, String)> {
    let json = std::fs::read_to_string(golden.path("store/config/delayOffset.json")).unwrap();
    // fastjson leaves the quotes out.
    let done = |level: u64| -> u64 {
        let key = format!("{level}:");
        let found = json.split(['{', ',', '\n', '\t', ' ']).find_map(|part| part.strip_prefix(&key));
        found.map_or(0, |number| number.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap())
    };
    let lines = golden.json_lines("listing.jsonl");
    let messages = lines.iter().filter(|line| line["kind"] == "message" && line["topic"] == SCHEDULE);
    let waiting = messages
        .filter(|line| line["queue_offset"].as_u64().unwrap() >= done(line["queue"].as_u64().unwrap() + 1));
    let text = |line: &Value, name: &str| line["properties"][name].as_str().unwrap().to_owned();
    let mut all: Vec<_> = waiting.map(|line| (text(line, "REAL_TOPIC"), text(line, "UNIQ_KEY"))).collect();
    let check = golden.path("store/config/timercheck");
    if check.exists() {
        all.extend(crate::timer_files::timers_of(golden).into_iter().map(|(_, topic, id)| (topic, id)));
    }
    all.sort();
    all
}

fn ids_behind(store: &Store, ends: &[(MessageQueue, pocketmq::QueueOffset)]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for topic in store.topics() {
        if topic.is_system() {
            continue;
        }
        for queue in store.queues(&topic).unwrap_or_default() {
            let Some(range) = store.queue_offsets(&queue) else { continue };
            let known = ends.iter().find(|(known, _)| *known == queue).map(|(_, end)| *end);
            let mut at = known.unwrap_or(range.start);
            while at < range.end {
                let pulled = store.pull(&queue, &Filter::all(), at, 32).unwrap();
                for view in pulled.messages {
                    found.push((topic.to_string(), view.property("UNIQ_KEY").unwrap().to_owned()));
                }
                at = pulled.next_offset;
            }
        }
    }
    found.sort();
    found
}

/// What RocketMQ left waiting comes once each, when its time has come, and in the topic that it is for.
fn check_golden(name: &'static str) {
    let Some(golden) = Golden::unpack(name) else { return };
    let expected = pending(&golden);
    assert!(!expected.is_empty(), "{name} has nothing that waits");
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let open = || {
        let hands: Arc<dyn pocketmq::Clock> = Arc::<ManualClock>::clone(&clock);
        golden.open().clock(hands).background(Background::Manual).open().unwrap()
    };
    let store = open();
    let queues = store.topics().into_iter().flat_map(|topic| store.queues(&topic).unwrap_or_default());
    let ends: Vec<_> = queues
        .filter_map(|queue| {
            let end = store.queue_offsets(&queue)?.end;
            Some((queue, end))
        })
        .collect();
    assert!(ids_behind(&store, &ends).is_empty());
    store.step().unwrap();
    assert_eq!(ids_behind(&store, &ends), expected, "{name}");
    store.close().unwrap();
    let store = open();
    clock.advance(seconds(86_400));
    store.step().unwrap();
    assert_eq!(ids_behind(&store, &ends), expected, "{name}, once each");
    store.close().unwrap();
}

#[test]
fn what_apache_4_9_7_left_waiting_comes_once_each() {
    check_golden("apache-4.9.7-clean");
    check_golden("apache-4.9.7-killed");
}

#[test]
fn what_apache_5_4_0_left_waiting_comes_once_each() {
    check_golden("apache-5.4.0-clean");
    check_golden("apache-5.4.0-killed");
}

#[test]
fn what_apache_5_5_0_left_waiting_comes_once_each() {
    check_golden("apache-5.5.0-killed");
}
