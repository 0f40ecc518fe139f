//! Who gets which messages? Tags choose from a topic by one word, SQL by anything that stands in the properties.
//!
//! `cargo run --example filters`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use pocketmq::{Consumer, Filter, Message, Result, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let shop = store.producer("shop")?;

    // One topic, a tag for what happened, properties for everything else.
    for (tag, price, region) in
        [("created", "5", "eu"), ("paid", "5", "eu"), ("created", "120", "us"), ("paid", "120", "us")]
    {
        let body = format!("{tag} {price} {region}");
        shop.send(Message::new("orders", body).tag(tag).property("price", price).property("region", region))?;
    }
    // Without a tag and without a price: only who wants everything gets it.
    shop.send(Message::new("orders", "a note"))?;

    // A filter belongs to a subscription, so each group sees its own part of the topic.
    let paid = store.consumer("ledger").subscribe("orders", "paid").build()?;
    assert_eq!(read(&paid)?, ["paid 120 us", "paid 5 eu"]);

    let either = store.consumer("mailer").subscribe("orders", "created || paid").build()?;
    assert_eq!(read(&either)?.len(), 4);

    let dear = Filter::sql("price > 100 AND region IN ('us', 'ca') AND TAGS = 'created'")?;
    let review = store.consumer("review").subscribe("orders", dear).build()?;
    assert_eq!(read(&review)?, ["created 120 us"]);

    // A property that is missing makes a comparison neither true nor false: ask for it by name.
    let odd = store.consumer("odd").subscribe("orders", Filter::sql("price IS NULL")?).build()?;
    assert_eq!(read(&odd)?, ["a note"]);

    // An expression that cannot be read says where and why.
    if let Err(error) = Filter::sql("price > 'a lot'") {
        println!("{error}");
    }

    Ok(store.close()?)
}

/// Reads everything that is there, sorted: the topic has several queues.
fn read(consumer: &Consumer) -> Result<Vec<String>> {
    let mut bodies = Vec::new();
    while let Some(message) = consumer.try_recv()? {
        println!("{}: {}", consumer.group(), message.body_str()?);
        bodies.push(message.body_str()?.into_owned());
        message.ack()?;
    }
    bodies.sort();
    Ok(bodies)
}
