//! Does a store in memory do what one on disk does, and leave nothing behind?

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pocketmq::testing::TestStore;
use pocketmq::{
    Error, FileSizes, Filter, FlushPolicy, Health, LastStop, ManualClock, Message, QueueOffset, Store,
    StoreBuilder, TopicConfig,
};

const SIZES: FileSizes =
    FileSizes { commit_log: 65_536, consume_queue_units: 100, index_slots: 16, index_entries: 64 };

fn small(builder: StoreBuilder) -> StoreBuilder {
    builder.file_sizes(SIZES).free_space_min(0)
}

/// Does a bit of everything over many files of each kind, and tells everything that can be seen from outside.
fn everything_that_can_be_seen(store: &TestStore) -> Vec<String> {
    let mut seen = Vec::new();
    store.create_topic("orders", TopicConfig::queues(3)).unwrap();
    store.create_topic("single", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    // Which queue is the first one's turn is left to chance, so each is named.
    let queues = store.queues("orders").unwrap();
    for number in 0..1_000_u32 {
        let body = format!("{number} {}", "x".repeat(number as usize % 500));
        let message = Message::new("orders", body).tag(if number % 3 == 0 { "paid" } else { "new" });
        let queue = &queues[number as usize % queues.len()];
        let receipt = producer.send_to(queue, message.key(format!("key-{}", number % 50))).unwrap();
        seen.push(format!("{} {} {}", receipt.queue(), receipt.queue_offset(), receipt.physical_offset()));
        if number % 100 == 0 {
            store.advance(Duration::from_secs(1)).unwrap();
        }
    }
    let batch = (0..20).map(|number| Message::new("single", number.to_string()));
    seen.push(producer.send_batch(batch).unwrap().physical_offset().to_string());
    let consumer = store.consumer("billing").subscribe("orders", "paid").build().unwrap();
    while let Some(message) = consumer.try_recv().unwrap() {
        seen.push(format!("got {} {}", message.queue_offset(), message.body_str().unwrap()));
        message.ack().unwrap();
    }
    for message in store.query_by_key("orders", "key-7").fetch().unwrap() {
        seen.push(format!("found {}", message.body_str().unwrap()));
    }
    for queue in store.queues("orders").unwrap() {
        let pulled = store.pull(&queue, &Filter::all(), QueueOffset::new(10), 5).unwrap();
        seen.push(format!("{:?} {:?}", pulled.status, pulled.next_offset));
        seen.push(format!("{:?} {:?}", store.queue_offsets(&queue), store.committed("billing", &queue)));
        seen.push(format!("{:?}", store.offset_at(&queue, SystemTime::UNIX_EPOCH)));
    }
    store.flush().unwrap();
    store.delete_topic("orders").unwrap();
    seen.push(format!("{:?} {:?}", store.topics(), store.health()));
    seen
}

#[test]
fn e41_a_store_in_memory_does_what_one_on_disk_does() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let disk = TestStore::builder(move |builder| small(builder).flush(flush));
        let memory = TestStore::builder(move |builder| small(builder).flush(flush).in_memory());
        // Names of messages and moments differ between any two stores; everything here must not.
        assert_eq!(everything_that_can_be_seen(&memory), everything_that_can_be_seen(&disk));
        assert!(!memory.path().exists());
        assert!(disk.path().exists());
    }
}

#[test]
fn e41_every_opening_in_memory_is_a_new_empty_store_of_its_own() {
    let open = || Store::builder("/nowhere/at/all").in_memory().open().unwrap();
    let (one, other) = (open(), open());
    one.producer("shop").unwrap().send(Message::new("orders", "hello")).unwrap();
    assert_eq!(one.topics().len(), 1);
    assert!(other.topics().is_empty());
    assert_eq!(other.recovery()[0].last_stop, LastStop::New);
    one.close().unwrap();
    assert!(open().topics().is_empty());
    assert!(!Path::new("/nowhere").exists());
    assert!(matches!(one.producer("shop"), Err(Error::Closed)));
}

#[test]
fn e41_the_memory_has_a_limit_and_a_full_one_refuses_and_keeps_what_is_there() {
    let memory = TestStore::builder(|builder| builder.file_sizes(SIZES).memory_max(2 << 20));
    let producer = memory.producer("shop").unwrap();
    let mut sent = 0;
    let error = loop {
        match producer.send(Message::new("orders", vec![7; 10_000])) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000);
    };
    assert!(matches!(error, Error::StoreFull(_)), "{error}");
    assert!(sent > 100, "{sent}");
    let consumer = memory.consumer("billing").subscribe("orders", "*").build().unwrap();
    for _ in 0..sent {
        consumer.try_recv().unwrap().unwrap().ack().unwrap();
    }
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(memory.health(), Health::Ok);
}

#[test]
fn e41_what_makes_no_sense_in_memory_is_refused_by_name() {
    let refused = |builder: StoreBuilder| match builder.open() {
        Err(Error::InvalidConfig { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let memory = || Store::builder("x").in_memory();
    assert_eq!(refused(memory().commit_log_dir("y")), "commit_log_dir");
    assert_eq!(refused(memory().broker_conf("y")), "broker_conf");
    assert_eq!(refused(memory().memory_max(1 << 20)), "memory_max");
    assert!(matches!(memory().open_read_only(), Err(Error::InvalidConfig { field: "in_memory", .. })));
}

#[test]
fn e41_a_store_in_memory_with_threads_closes_and_gives_its_memory_back() {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let store = Store::builder("x").in_memory().clock(clock).open().unwrap();
    let producer = store.producer("shop").unwrap();
    for _ in 0..100 {
        producer.send(Message::new("orders", "hello")).unwrap();
    }
    drop(store);
    producer.send(Message::new("orders", "hello")).unwrap();
}
