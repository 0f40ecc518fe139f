//! Is a message found again, by key, by id, by place and by time, and nothing else with it?

use std::time::{Duration, SystemTime};

use pocketmq::testing::TestStore;
use pocketmq::{FileSizes, Message, MessageId, QueueOffset, TopicConfig};

fn store() -> TestStore {
    let store = TestStore::builder(|builder| builder.brokers(["broker-a", "broker-b"]));
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    store
}

fn bodies(hits: &[pocketmq::MessageView]) -> Vec<String> {
    hits.iter().map(|hit| hit.body_str().unwrap().into_owned()).collect()
}

#[test]
fn t_j3_twenty_messages_with_one_key_are_all_found_newest_first() {
    let store = store();
    let producer = store.producer("shop").unwrap();
    for n in 0..20 {
        producer
            .send(Message::new("orders", format!("{n}")).key("order-42").key(format!("only-{n}")))
            .unwrap();
        store.advance(Duration::from_secs(2)).unwrap();
    }
    let hits = store.query_by_key("orders", "order-42").limit(20).fetch().unwrap();
    assert_eq!(bodies(&hits), (0..20).rev().map(|n| n.to_string()).collect::<Vec<_>>());
    let newest = store.query_by_key("orders", "order-42").limit(3).fetch().unwrap();
    assert_eq!(bodies(&newest), ["19", "18", "17"]);
    assert_eq!(bodies(&store.query_by_key("orders", "only-7").fetch().unwrap()), ["7"]);
}

#[test]
fn a_lookup_may_be_limited_to_a_time() {
    let store = store();
    let producer = store.producer("shop").unwrap();
    for n in 0..5 {
        producer.send(Message::new("orders", format!("{n}")).key("k")).unwrap();
        store.advance(Duration::from_secs(10)).unwrap();
    }
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
    let hits = store.query_by_key("orders", "k").since(at(10)).until(at(30)).fetch().unwrap();
    assert_eq!(bodies(&hits), ["3", "2", "1"]);
    assert!(store.query_by_key("orders", "k").since(at(41)).fetch().unwrap().is_empty());
}

#[test]
fn t_j5_t_j6_equal_hashes_of_topics_and_keys_are_told_apart() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    for (topic, key) in [("AaTopic", "Aa"), ("BBTopic", "BB"), ("AaAaTopic", "Aa"), ("BBBBTopic", "Aa")] {
        producer.send(Message::new(topic, topic).key(key)).unwrap();
    }
    assert!(store.query_by_key("AaTopic", "BB").fetch().unwrap().is_empty());
    assert_eq!(bodies(&store.query_by_key("AaAaTopic", "Aa").fetch().unwrap()), ["AaAaTopic"]);
    assert!(store.query_by_key("NoSuchTopic", "Aa").fetch().unwrap().is_empty());
}

#[test]
fn a12_many_keys_a_split_key_and_the_smallest_hash_are_found() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    let keys: Vec<String> = (0..1_000).map(|n| format!("key-{n}")).collect();
    producer.send(Message::new("orders", "many").keys(keys)).unwrap();
    producer.send(Message::new("orders", "min").key("polygenelubricants")).unwrap();
    for key in ["key-0", "key-999"] {
        assert_eq!(bodies(&store.query_by_key("orders", key).fetch().unwrap()), ["many"]);
    }
    assert_eq!(bodies(&store.query_by_key("orders", "polygenelubricants").fetch().unwrap()), ["min"]);
}

#[test]
fn t_j9_both_ids_and_the_place_lead_to_the_message() {
    let store = store();
    let producer = store.producer("shop").unwrap();
    let receipts: Vec<_> =
        (0..10).map(|n| producer.send(Message::new("orders", format!("{n}")).flag(n)).unwrap()).collect();
    for (n, receipt) in receipts.iter().enumerate() {
        for id in [receipt.message_id(), receipt.offset_id()] {
            let found = store.message(id).unwrap().expect("a message under its id");
            assert_eq!((found.flag(), found.message_id()), (i32::try_from(n).unwrap(), receipt.message_id()));
        }
        let found = store.message_at(receipt.queue(), receipt.queue_offset()).unwrap().unwrap();
        assert_eq!(found.body_str().unwrap(), n.to_string());
    }
    let queue = receipts[0].queue();
    let end = store.queue_offsets(queue).unwrap().end;
    assert!(store.message_at(queue, end).unwrap().is_none());
    assert!(store.message_at(queue, QueueOffset::MAX).unwrap().is_none());
}

#[test]
fn a28_t_j2_a_text_that_is_no_id_is_an_error_and_an_id_of_nothing_finds_nothing() {
    let store = store();
    let receipt = store.producer("shop").unwrap().send(Message::new("orders", "hello")).unwrap();
    for text in ["", "7F", "zz", &"G".repeat(32), &"0".repeat(33), "7F00000100002A9F00000000000000 0"] {
        assert!(text.parse::<MessageId>().is_err(), "{text:?}");
    }
    let id = receipt.offset_id().to_string();
    let (host, place) = id.split_at(16);
    let place = u64::from_str_radix(place, 16).unwrap();
    for wrong in [place + 1, place + 50, place + 1_000_000, i64::MAX.unsigned_abs(), u64::MAX] {
        let id: MessageId = format!("{host}{wrong:016X}").parse().unwrap();
        assert!(store.message(id).unwrap().is_none(), "{wrong}");
    }
}

#[test]
fn keys_are_found_over_many_index_files_and_after_a_kill() {
    let sizes = FileSizes { commit_log: 65_536, consume_queue_units: 100, index_slots: 8, index_entries: 50 };
    let store = TestStore::builder(move |builder| builder.file_sizes(sizes));
    let producer = store.producer("shop").unwrap();
    for n in 0..300 {
        producer.send(Message::new("orders", format!("{n}")).key(format!("k-{}", n % 30))).unwrap();
        store.advance(Duration::from_millis(700)).unwrap();
    }
    let check = |store: &TestStore| {
        for k in [0, 17, 29] {
            let hits = store.query_by_key("orders", format!("k-{k}")).limit(100).fetch().unwrap();
            assert_eq!(bodies(&hits), (0..10).rev().map(|n| (n * 30 + k).to_string()).collect::<Vec<_>>());
        }
    };
    check(&store);
    drop(producer);
    let store = store.kill_process().unwrap();
    check(&store);
    check(&store.reopen().unwrap());
}
