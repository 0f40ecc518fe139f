//! Does sending allocate? A test of its own, because it counts the allocations of its thread.
#![allow(clippy::unwrap_used)]

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
