//! How are messages handled by several threads, what becomes of one that fails, and of those that nobody can handle?
//!
//! Two members of one group share 60 orders. Five of them fail at first and come back a second later; one
//! order can never be handled and ends among the dead letters, with the reason.
//!
//! `cargo run --example push_concurrent`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::{HandlerResult, Message, MessageView, RetryPolicy, Store, TopicConfig};

/// What each order's handling was like: who handled it, after how many failures.
type Handled = Arc<Mutex<BTreeMap<String, (&'static str, u32)>>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    // RocketMQ's first retry comes after 10 s. An example has less time.
    let store = Store::builder(dir.path()).delay_levels("1s").open()?;
    store.create_topic("orders", TopicConfig::queues(4))?;

    println!("1. Two members of the group `billing`, each with two threads.");
    let handled = Handled::default();
    let members = ["anna", "bert"].map(|name| {
        let handled = Arc::clone(&handled);
        let builder = store.consumer("billing").subscribe("orders", "*").instance(name);
        let builder = builder.retry_policy(RetryPolicy::new().max_retries(2));
        builder.listen(2, move |message: &MessageView| charge(name, message, &handled))
    });
    let [anna, bert] = members;
    let (anna, bert) = (anna?, bert?);
    println!("   anna reads {:?}", ids(&anna.assignment()?));
    println!("   bert reads {:?}", ids(&bert.assignment()?));

    println!("2. Sixty orders; five of them fail at first, and one always.");
    let producer = store.producer("shop")?;
    for number in 0..60 {
        producer
            .send(Message::new("orders", format!("order-{number:02}")).key(format!("order-{number:02}")))?;
    }

    let letters = store.dead_letters("billing")?;
    while handled.lock().map_or(0, |handled| handled.len()) < 59 || letters.count()? < 1 {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    println!("3. Shutting down: handlers that run are waited for, then the members leave.");
    anna.shutdown(Duration::from_secs(10))?;
    bert.shutdown(Duration::from_secs(10))?;

    let handled = handled.lock().map_err(|_| "a handler panicked")?;
    let retried = handled.values().filter(|(_, failures)| *failures > 0).count();
    let of_anna = handled.values().filter(|(name, _)| *name == "anna").count();
    println!("   anna handled {of_anna}, bert {}; {retried} came back once", handled.len() - of_anna);
    for letter in letters.list(10)? {
        println!(
            "   given up: {} because {:?}",
            letter.body_str()?,
            letter.failure_reason().unwrap_or_default()
        );
    }

    assert_eq!((handled.len(), retried, letters.count()?), (59, 5, 1));
    assert!(!handled.contains_key("order-42"));
    Ok(store.close()?)
}

/// Charges for an order: the error is a failed attempt, and its text stays with the message.
fn charge(name: &'static str, message: &MessageView, handled: &Handled) -> HandlerResult {
    let order = message.body_str()?.into_owned();
    if order == "order-42" {
        return Err("this card is stolen".into());
    }
    if order.ends_with('0') && message.reconsume_times() == 0 && order != "order-00" {
        return Err("the bank does not answer".into());
    }
    let mut handled = handled.lock().map_err(|_| "another handler panicked")?;
    let before = handled.insert(order, (name, message.reconsume_times()));
    assert!(before.is_none(), "each order is handled once");
    Ok(())
}

fn ids(queues: &[pocketmq::MessageQueue]) -> Vec<String> {
    queues.iter().map(ToString::to_string).collect()
}
