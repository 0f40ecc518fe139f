//! How does a store keep within its disk and its queues while producers are faster than consumers?
//!
//! Three queues, each full in its own way: one refuses, one lets its senders wait, one keeps the newest messages only. The
//! log goes as its messages are consumed, and nothing goes before. `cargo run --example bounded`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use pocketmq::{
    Error, FileSizes, Limit, Limits, Message, Overflow, Producer, Result, Retention, Store, TopicConfig,
};

const LOG_FILE: u64 = 1 << 20;
const STORE_BYTES: u64 = 8 * LOG_FILE;
const WAITING: u64 = 2_000;
const NEWEST: u64 = 100;
const MESSAGES: u32 = 30_000;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let sizes = FileSizes {
        commit_log: LOG_FILE,
        consume_queue_units: 5_000,
        index_slots: 5_000,
        index_entries: 20_000,
    };
    let store = Store::builder(dir.path())
        .file_sizes(sizes)
        // Refused above this, after everything that is consumed has gone: the limit on the disk.
        .limits(
            Limits::new()
                .store(Limit::new().bytes(STORE_BYTES))
                .topic("orders", Limit::new().count(WAITING))
                .topic("mails", Limit::new().count(WAITING).overflow(Overflow::Block))
                .queue("prices", Limit::new().count(NEWEST).overflow(Overflow::DeleteOldest)),
        )
        // What is consumed goes early, what is not stays: neither of these is the default of RocketMQ.
        .retention(Retention::new().max_bytes(STORE_BYTES / 2).keep_unconsumed())
        .open()?;
    for topic in ["orders", "mails", "prices"] {
        store.create_topic(topic, TopicConfig::queues(1))?;
    }
    fill_and_drain(&store)?;
    pass_through(&store)?;
    keep_newest(&store)?;
    let broker = store.brokers().remove(0);
    for report in store.retain()? {
        println!("retention: {report}");
    }
    let (log, gone) = (broker.log_range(), broker.deletions());
    let bytes = log.end.since(log.start);
    println!("log: {bytes} bytes, after {} bytes in {} files have gone", gone.bytes, gone.log_files);
    assert!(bytes <= STORE_BYTES && gone.log_files > 0);
    store.close()?;
    Ok(())
}

/// Sends until the topic is full, and again when its group has made room. The group is registered from the start: what it
/// has not consumed is not deleted, however old it is and however full the store.
fn fill_and_drain(store: &Store) -> Result<()> {
    let producer = store.producer("shop")?;
    let billing = store.consumer("billing").subscribe("orders", "*").build()?;
    println!("orders: {}", fill(&producer)?);
    let handled = billing.drain(|_| ())?;
    println!("orders: {handled} handled, and there is room again");
    producer.send(Message::new("orders", "one more"))?;
    billing.drain(|_| ())?;
    Ok(())
}

/// Sends until the topic is full, and returns what the refusal says.
fn fill(producer: &Producer) -> Result<Error> {
    let mut sent = 0_u64;
    loop {
        match producer.send(Message::new("orders", vec![b'.'; 200])) {
            Ok(_) => sent = sent.saturating_add(1),
            // Nothing of it is stored, and it may be sent again when there is room.
            Err(error) if error.is_retryable() => {
                assert_eq!(sent, WAITING);
                return Ok(error);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends many times what may wait, with a consumer at the other end: the sender goes as fast as that.
fn pass_through(store: &Store) -> Result<()> {
    let consumer = store.consumer("mailer").subscribe("mails", "*").build()?;
    let producer = store.producer("shop")?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            (0..MESSAGES)
                .try_for_each(|n| producer.send(Message::new("mails", format!("mail {n:0500}"))).map(drop))
        });
        let mut handled = 0_u32;
        while handled < MESSAGES {
            let Some(mail) = consumer.recv_timeout(Duration::from_secs(5))? else { break };
            mail.ack()?;
            handled = handled.saturating_add(1);
        }
        println!("mails: {handled} of {MESSAGES} handled, at most {WAITING} of them waited");
        assert_eq!(handled, MESSAGES);
        sender.join().unwrap_or(Err(Error::Closed))
    })
}

/// Sends prices that nobody reads: only the newest are worth anything.
fn keep_newest(store: &Store) -> Result<()> {
    let producer = store.producer("market")?;
    for n in 0..MESSAGES / 10 {
        producer.send(Message::new("prices", format!("price {n}")).expires_in(Duration::from_secs(60)))?;
    }
    for queue in store.queues("prices")? {
        let kept = store.queue_offsets(&queue).unwrap_or_default();
        println!("prices: {} to {} of {} are kept", kept.start, kept.end, MESSAGES / 10);
        assert_eq!(kept.end.since(kept.start), NEWEST);
    }
    Ok(())
}
