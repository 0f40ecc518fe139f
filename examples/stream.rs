//! How do async tasks consume, without a runtime of the library's own?
//!
//! A stream of messages, up to eight of them under way at once, on the smallest executor there is. Under another runtime
//! the lines are the same.
//!
//! `cargo run --example stream --features async`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::RefCell;
use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use pocketmq::{Delivery, Message, Result, Store};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let producer = store.producer("shop")?;

    println!("1. A hundred orders.");
    for number in 0..100 {
        producer.send(Message::new("orders", format!("order-{number:02}")))?;
    }

    println!("2. One task takes them, eight at a time.");
    let consumer = store.consumer("search").subscribe("orders", "*").build()?;
    let seen = RefCell::new(BTreeSet::new());
    let hundred = consumer.stream().take(100);
    let reading = hundred.try_for_each_concurrent(8, |message| index(message, &seen));
    futures::executor::block_on(reading)?;

    println!("3. Each was indexed once, and nothing is left.");
    assert_eq!(seen.borrow().len(), 100);
    assert!(consumer.try_recv()?.is_none());
    Ok(store.close()?)
}

/// Indexes one order: what an application would await here.
async fn index(message: Delivery, seen: &RefCell<BTreeSet<String>>) -> Result<()> {
    let order = message.body_str()?.into_owned();
    assert!(seen.borrow_mut().insert(order), "each order comes once");
    message.ack()
}
