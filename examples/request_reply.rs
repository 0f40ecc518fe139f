//! How does one ask over the queue, and get an answer or an error in time?
//!
//! `cargo run --example request_reply`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use pocketmq::{Error, HandlerResult, Message, MessageView, Result, Store};

fn main() -> Result<()> {
    let store = Store::in_memory()?;

    // One side answers: two handlers that reply to every request they can.
    let replier = store.producer("prices")?;
    let answer = move |request: &MessageView| -> HandlerResult {
        let price = match &*request.body_str()? {
            "apple" => "3",
            "pear" => "4",
            _ => return Ok(()), // no answer: the one who asked learns it by his time-out
        };
        replier.send(request.reply(price)?)?;
        Ok(())
    };
    let worker = store.consumer("prices").subscribe("price-questions", "*").listen(2, answer)?;

    // The other side asks, from any thread, and waits for the answer to its own question.
    let shop = store.producer("shop")?;
    let mut sum = 0;
    for fruit in ["apple", "pear", "apple"] {
        let reply = shop.request(Message::new("price-questions", fruit), Duration::from_secs(10))?;
        let price: u32 = reply.body_str()?.parse().unwrap_or(0);
        println!("{fruit}: {price}");
        sum += price;
    }
    assert_eq!(sum, 10);

    // Where nobody answers there is an error of its own. The question is stored all the same, and may still be handled.
    let unanswered = shop.request(Message::new("price-questions", "moon"), Duration::from_millis(50));
    assert!(matches!(unanswered, Err(Error::RequestTimeout(_))), "{unanswered:?}");
    println!("moon: no answer in time");

    worker.shutdown(Duration::from_secs(10))?;
    store.close()
}
