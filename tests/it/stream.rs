//! Does a stream bring every message to a task, wake it, and end with the store?

use std::time::Duration;

use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt};
use pocketmq::testing::TestStore;
use pocketmq::{Error, Message, Store, TopicConfig};

fn store(dir: &tempfile::TempDir) -> Store {
    let store = Store::builder(dir.path()).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    store
}

fn send(store: &Store, count: usize) {
    let producer = store.producer("senders").unwrap();
    for n in 0..count {
        producer.send(Message::new("orders", n.to_string())).unwrap();
    }
}

#[test]
fn a_task_that_waits_is_woken_by_a_message_and_by_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            block_on(async {
                let mut count = 0;
                let mut stream = consumer.stream();
                while let Some(message) = stream.next().await {
                    message.unwrap().ack().unwrap();
                    count += 1;
                    if count == 500 {
                        store.close().unwrap();
                    }
                }
                count
            })
        });
        send(&store, 500);
        assert_eq!(reading.join().unwrap(), 500);
    });
    assert!(matches!(block_on(consumer.recv_async()), Err(Error::Closed)));
}

#[test]
fn several_messages_may_be_under_way_in_one_task() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    send(&store, 100);
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let first_hundred = consumer.stream().take(100);
    block_on(first_hundred.try_for_each_concurrent(8, |message| async move { message.ack() })).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    for queue in store.queues("orders").unwrap() {
        let end = store.queue_offsets(&queue).unwrap().end;
        assert_eq!(consumer.committed(&queue).unwrap(), Some(end));
    }
}

#[test]
fn an_orderly_queue_that_rests_wakes_the_task_at_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    send(&store, 1);
    let builder = store.consumer("billing").subscribe("orders", "*").orderly();
    let consumer = builder.suspend_time(Duration::from_millis(10)).build().unwrap();
    let attempts = block_on(async {
        drop(consumer.recv_async().await.unwrap());
        let again = consumer.recv_async().await.unwrap();
        again.attempt()
    });
    assert_eq!(attempts, 2);
}

#[test]
fn in_a_store_that_is_driven_by_hand_a_stream_ends_with_what_is_there() {
    let store = TestStore::new();
    send(&store, 3);
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let bodies: Vec<_> = block_on(consumer.stream().map(|message| message.unwrap().ack()).collect());
    assert_eq!(bodies.len(), 3);
    assert!(matches!(block_on(consumer.recv_async()), Err(Error::Timeout)));
}
