//! How does one effect happen once, where every message may come twice?
//!
//! Three answers, from the cheapest to the one that holds in every case: a producer that sends nothing twice, a group that
//! is handed nothing twice, and the application's own table, written in the same transaction as the effect.
//!
//! `cargo run --example dedup`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{Message, QueueOffset, Result, SameBy};

const DAY: Duration = Duration::from_secs(86_400);

fn main() -> Result<()> {
    let store = TestStore::new();

    // 1. The sender does not know what became of a send (a timeout, a crash) and sends again: the log remembers the key.
    let shop = store.producer_builder("shop").deduplicate(DAY).build()?;
    let first = shop.send(Message::new("orders", "5").key("order-42"))?;
    let again = shop.send(Message::new("orders", "5").key("order-42"))?;
    assert_eq!(first.message_id(), again.message_id());
    println!("sent twice, stored once: {first}");

    // 2. The group is sent back to the beginning, or loses a position in a power loss: what it has acknowledged is not
    //    handed out again. Two copies that are under way at once still are, and so is what a power loss took from the file.
    let ledger =
        store.consumer("ledger").subscribe("orders", "*").deduplicate(SameBy::MessageId, DAY).build()?;
    ledger.recv()?.ack()?;
    for queue in store.queues("orders")? {
        store.admin().reset_to_offset("ledger", &queue, QueueOffset::ZERO)?;
    }
    assert!(ledger.try_recv()?.is_none());
    println!("handled once, and sent back: nothing comes");

    // 3. Nothing but the application can tie an effect to the fact that it happened: keep the keys beside the effect and
    //    write both in one transaction. Here the database is two maps that change together.
    let mut database = Database::default();
    let billing = store.consumer("billing").subscribe("orders", "*").build()?;
    for _ in 0..3 {
        while let Some(message) = billing.try_recv()? {
            let amount = message.body_str()?.parse().unwrap_or(0);
            for key in message.keys() {
                database.charge_once(key, amount);
            }
            message.ack()?;
        }
        // As a crash before the acknowledgement would: everything comes again.
        for queue in store.queues("orders")? {
            store.admin().reset_to_offset("billing", &queue, QueueOffset::ZERO)?;
        }
    }
    assert_eq!(database.balance.get("account"), Some(&5));
    println!("delivered three times, charged once: {:?}", database.balance);
    Ok(())
}

/// What the application keeps: the effect, and the keys of the messages that had it.
#[derive(Default)]
struct Database {
    balance: HashMap<&'static str, i64>,
    charged: HashSet<String>,
}

impl Database {
    /// One transaction: the key and the effect, or neither.
    fn charge_once(&mut self, key: &str, amount: i64) {
        if self.charged.insert(key.to_owned()) {
            *self.balance.entry("account").or_default() += amount;
        }
    }
}
