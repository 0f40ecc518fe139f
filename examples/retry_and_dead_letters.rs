//! What happens to a message that cannot be handled? It comes back later and later, then it lies among the dead letters,
//! with the reason, until somebody gives it back.
//!
//! `cargo run --example retry_and_dead_letters`: on a clock that is moved by hand, so that hours take no time.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{Message, Result, RetryPolicy};

fn main() -> Result<()> {
    let store = TestStore::new();
    let receipt = store.producer("shop")?.send(Message::new("orders", "pay 5 EUR").key("order-42"))?;

    // Twice more, after 10 s and 30 s: the beginning of RocketMQ's ladder, which goes on to 16 times and 2 h.
    let quick = RetryPolicy::new().max_retries(2);
    let billing = store.consumer("billing").subscribe("orders", "*").retry_policy(quick.clone()).build()?;

    for (attempt, wait) in [(1, 10), (2, 30), (3, 0)] {
        let message = billing.recv()?;
        // The same message each time: its id, its topic and its key, and how often it was tried.
        assert_eq!((message.attempt(), message.message_id()), (attempt, receipt.message_id()));
        println!("attempt {attempt} of {} fails", message.body_str()?);
        // Dropped without ack(): a failed attempt. A copy waits on disk, so a crash now changes nothing.
        drop(message);
        assert!(billing.try_recv()?.is_none());
        store.advance(Duration::from_secs(wait))?;
    }

    // A third failure is one too many.
    let letters = store.dead_letters("billing")?;
    let dead = letters.list(10)?;
    assert_eq!(dead.len(), 1);
    for letter in &dead {
        println!(
            "dead: {} of {} after {} attempts",
            letter.body_str()?,
            letter.original_topic(),
            letter.reconsume_times()
        );
    }

    // The fault is mended: back to the group, and to no other one.
    for redriven in letters.redrive(10)? {
        redriven.result?;
        println!("redriven: {}", redriven.message_id);
    }
    let message = billing.recv()?;
    assert_eq!((message.attempt(), message.message_id()), (1, receipt.message_id()));
    message.ack()?;
    assert_eq!(letters.count()?, 0);

    // Some failures are known to be final: no use in trying again.
    store.producer("shop")?.send(Message::new("orders", "pay -1 EUR").key("order-43"))?;
    billing.recv()?.dead_letter("a negative amount")?;
    let reasons: Vec<_> =
        letters.list(10)?.iter().map(|letter| letter.failure_reason().map(str::to_owned)).collect();
    assert_eq!(reasons, [Some("a negative amount".to_owned())]);
    println!("dead at once: {reasons:?}");
    Ok(())
}
