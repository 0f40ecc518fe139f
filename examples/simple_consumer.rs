//! How do many workers share one queue, with nothing to divide? Each message is leased until it is acknowledged.
//!
//! Whoever asks gets what nobody has. A worker that is slow asks for more time; one that dies says nothing, and what it had
//! comes again when its time is over. Leases and receipts survive a restart.
//!
//! `cargo run --example simple_consumer`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use pocketmq::{Message, Receipt, SimpleConsumer, Store, TopicConfig};

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let receipt = first_day(dir.path())?;
    Ok(second_day(dir.path(), &receipt)?)
}

fn worker(store: &Store) -> pocketmq::Result<SimpleConsumer> {
    store.consumer("resizers").subscribe("pictures", "*").await_duration(Duration::from_secs(10)).simple()
}

/// Three workers, and what one of them still has in the evening.
fn first_day(dir: &std::path::Path) -> pocketmq::Result<String> {
    let store = Store::open(dir)?;
    store.create_topic("pictures", TopicConfig::queues(1))?;
    let producer = store.producer("uploads")?;
    for name in ["cat.png", "dog.png", "owl.png", "fox.png"] {
        producer.send(Message::new("pictures", name))?;
    }

    println!("1. Three workers on one queue: each gets what the others do not have.");
    let (anna, ben, carl) = (worker(&store)?, worker(&store)?, worker(&store)?);
    let mut slow = anna.receive(1, SHORT)?.remove(0);
    let dies = ben.receive(1, SHORT)?.remove(0);
    let quick = carl.receive(2, LONG)?;
    println!("   anna: {}, ben: {}, carl: {} more", slow.body_str()?, dies.body_str()?, quick.len());

    println!("2. Anna needs longer and says so. Ben dies and says nothing. Carl is done with one.");
    slow.change_invisible(LONG)?;
    let lost = dies.receipt().clone();
    drop(dies);
    let mut quick = quick.into_iter();
    quick.next().map_or(Ok(()), |lease| lease.ack())?;

    println!("3. When Ben's time is over, his picture comes again; his receipt is worth nothing now.");
    let again = carl.receive(1, LONG)?.remove(0);
    println!("   carl: {} (attempt {})", again.body_str()?, again.attempt());
    assert_eq!((again.body_str()?.as_ref(), again.attempt()), ("dog.png", 2));
    assert!(carl.ack(&lost).is_err());
    again.ack()?;
    slow.ack()?;

    println!("4. Evening. One picture is still leased; its receipt is kept as a text.");
    let receipt = quick.next().map(|lease| lease.receipt().to_string()).unwrap_or_default();
    drop((anna, ben, carl));
    store.close()?;
    Ok(receipt)
}

/// The lease is still there, and nobody else gets the message.
fn second_day(dir: &std::path::Path, receipt: &str) -> pocketmq::Result<()> {
    println!("5. Morning. Nobody else gets that picture, and the receipt is good: once.");
    let store = Store::open(dir)?;
    let consumer = worker(&store)?;
    assert!(consumer.try_receive(10, LONG)?.is_empty());
    let receipt: Receipt = receipt.parse()?;
    consumer.ack(&receipt)?;
    let twice = consumer.ack(&receipt);
    println!("   a second time: {}", twice.as_ref().map_or_else(ToString::to_string, |()| String::new()));
    assert!(twice.is_err());

    let queue = store.queues("pictures")?.remove(0);
    println!("6. All four are handled: the group is at {:?}.", store.committed("resizers", &queue)?);
    assert_eq!(store.committed("resizers", &queue)?.map(pocketmq::QueueOffset::get), Some(4));
    drop(consumer);
    store.close()
}
