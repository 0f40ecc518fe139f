//! How does no important message get lost when sending it fails, or the program dies in between?
//!
//! The advice: write the message into a table of your own in the same transaction as the business data, send it, mark it
//! as sent when the receipt is there; send again what is not marked. It may arrive twice, so the consumer keeps a table
//! of the keys that it has dealt with. `cargo run --example practice_resend`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pocketmq::{CheckForbiddenHook, Error, Message, Outcome, Producer, SendContext, Store};

/// The application's table of messages, which a real one keeps in its database: by key, with what is left to do.
#[derive(Default)]
struct Outbox {
    unsent: BTreeMap<String, String>,
}

impl Outbox {
    /// Notes a message together with the business data, before anything is sent.
    fn note(&mut self, key: &str, body: &str) {
        self.unsent.insert(key.to_owned(), body.to_owned());
    }

    /// Sends everything that is not known to be sent, and returns how much is left.
    fn send_all(&mut self, producer: &Producer) -> usize {
        self.unsent.retain(|key, body| {
            match producer.send(Message::new("orders", body.clone()).key(key).order_key(key.clone())) {
                // The receipt prints its key: this line finds the message again, here and in the store.
                Ok(receipt) => {
                    println!("sent {receipt}");
                    false
                }
                Err(error) => {
                    let doubt = match error.outcome() {
                        Outcome::MayExist => ", and may be stored all the same",
                        _ => "",
                    };
                    println!("not sent {key}{doubt}: {error}");
                    true
                }
            }
        });
        self.unsent.len()
    }
}

/// Stands for whatever keeps a message from being sent: a full disk, a limit.
#[derive(Default)]
struct Outage(AtomicBool);

impl CheckForbiddenHook for Outage {
    fn name(&self) -> &str {
        "outage"
    }

    fn check(&self, context: &SendContext<'_>) -> Result<(), String> {
        let even = context.messages.iter().any(|message| message.body().ends_with(b"2"));
        if even && self.0.load(Ordering::Relaxed) { Err("not today".to_owned()) } else { Ok(()) }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let outage = Arc::new(Outage(AtomicBool::new(true)));
    let producer = store.producer_builder("shop").forbidden_hook(Arc::clone(&outage)).build()?;

    let mut outbox = Outbox::default();
    for n in 1..=3 {
        outbox.note(&format!("order-{n}"), &format!("order {n}"));
    }
    let left = outbox.send_all(&producer);
    println!("{left} left; the program dies here, or goes on, and tries again later");
    assert_eq!(left, 1);
    outage.0.store(false, Ordering::Relaxed);
    assert_eq!(outbox.send_all(&producer), 0);

    // Somebody is not sure and sends one of them again: a duplicate, and no harm done.
    outbox.note("order-1", "order 1");
    outbox.send_all(&producer);
    assert_eq!(handle_all(&store)?, 3);
    Ok(store.close()?)
}

/// Deals with each key once, however often it arrives.
fn handle_all(store: &Store) -> Result<usize, Error> {
    let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    // A table of the application's too, written in the transaction that deals with the message.
    let mut done = HashSet::new();
    while let Some(message) = consumer.try_recv()? {
        let key = message.keys().next().unwrap_or_default().to_owned();
        if done.insert(key.clone()) {
            println!("dealt with {key}: {}", message.body_str()?);
        } else {
            println!("seen before: {key}");
        }
        message.ack()?;
    }
    Ok(done.len())
}
