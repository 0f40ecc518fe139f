//! How much memory does the store ask for: for a message, and for a queue that is idle? A test of its own, because it
//! counts the allocations of its thread.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing)]

use pocketmq::{Background, Message, Store, TopicConfig};

#[test]
fn sending_under_async_flush_allocates_nothing_per_message() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).background(Background::Manual).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("shop").unwrap();
    let message = Message::new("orders", vec![7; 1_024]).tag("created").key("order-42");
    // The first messages make the queues and the thread's buffer.
    for _ in 0..100 {
        producer.send(&message).unwrap();
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            std::hint::black_box(producer.send(&message).unwrap());
        }
    });
    // What remains are steps: blocks for the log and for the queues, a few in a thousand messages.
    assert!(counted.count_total < 50, "{} allocations in 1,000 sends", counted.count_total);
}

#[test]
fn an_idle_queue_holds_at_most_three_hundred_bytes() {
    const TOPICS: usize = 10;
    const QUEUES: u32 = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).background(Background::Manual).open().unwrap();
    let producer = store.producer("shop").unwrap();
    let queues = (0..TOPICS).flat_map(|n| {
        let name = format!("topic-{n}");
        store.create_topic(&name, TopicConfig::queues(QUEUES)).unwrap();
        store.queues(&name).unwrap()
    });
    let queues: Vec<_> = queues.collect();
    let messages: Vec<_> = (0..TOPICS).map(|n| Message::new(format!("topic-{n}"), "hello")).collect();
    // The routes and the thread's buffer are made once, whatever the number of queues.
    for (queue, message) in queues.iter().step_by(1_000).zip(&messages) {
        producer.send_to(queue, message).unwrap();
    }
    let counted = allocation_counter::measure(|| {
        for (n, queue) in queues.iter().enumerate().filter(|(n, _)| n % 1_000 != 0) {
            producer.send_to(queue, &messages[n / 1_000]).unwrap();
        }
    });
    let each = counted.bytes_current / i64::try_from(queues.len()).unwrap();
    println!("an idle queue holds {each} bytes of memory");
    assert!(each <= 300, "{each} bytes");
}
