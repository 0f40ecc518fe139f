//! How do the first ten lines look? Send one message, consume it, close; kill it anywhere and run it again.
//!
//! `cargo run --example start -- [DIR]`: without a folder, in one that is removed at the end.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::PathBuf;
use std::time::Duration;

use pocketmq::{Message, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);

    let store = Store::open(&dir)?; // creates the store, or recovers it after a crash
    let producer = store.producer("shop")?;
    let receipt = producer.send(Message::new("orders", "hello").tag("created").key("order-42"))?;
    println!("stored {} in {} at {}", receipt.message_id(), receipt.queue(), receipt.queue_offset());

    let consumer = store.consumer("billing").subscribe("orders", "created || paid").build()?;
    while let Some(message) = consumer.recv_timeout(Duration::from_millis(100))? {
        println!("{} {} (attempt {})", message.tag(), message.body_str()?, message.attempt());
        message.ack()?; // dropping it instead means: try again later
    }
    Ok(store.close()?)
}
