//! How does every member get every message, and where does one go on that was away?
//!
//! Two caches of prices, each with a name of its own. Both get all prices; one restarts and goes on where it was; one
//! that comes later starts with what is sent from then on.
//!
//! `cargo run --example broadcast`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use pocketmq::{Consumer, Message, Result, Store};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let producer = store.producer("exchange")?;
    let send = |count: usize| {
        (0..count).try_for_each(|n| producer.send(Message::new("prices", format!("{n}"))).map(drop))
    };

    println!("1. Two caches listen, then ten prices come: each gets all ten.");
    let (berlin, paris) = (cache(&store, "berlin")?, cache(&store, "paris")?);
    send(10)?;
    let both = (seen(&berlin)?, seen(&paris)?);
    println!("   berlin {}, paris {}", both.0, both.1);
    assert_eq!(both, (10, 10));

    println!("2. Berlin is away while five more come, and gets them when it is back.");
    drop(berlin);
    send(5)?;
    let paris_saw = seen(&paris)?;
    let berlin_saw = seen(&cache(&store, "berlin")?)?;
    println!("   berlin {berlin_saw}, paris {paris_saw}");
    assert_eq!((berlin_saw, paris_saw), (5, 5));

    println!("3. Rome is new: it starts with what is sent from now on.");
    let rome = cache(&store, "rome")?;
    send(3)?;
    let rome_saw = seen(&rome)?;
    println!("   rome {rome_saw}");
    assert_eq!(rome_saw, 3);

    println!("4. A price that cannot be handled is dropped: nobody sends it again.");
    send(1)?;
    drop(rome.recv()?);
    assert_eq!(seen(&rome)?, 0);
    Ok(store.close()?)
}

/// A member of the broadcasting group `caches`.
fn cache(store: &Store, name: &str) -> Result<Consumer> {
    store.consumer("caches").subscribe("prices", "*").broadcast(name).build()
}

/// Handles what is there, and says how much it was.
fn seen(cache: &Consumer) -> Result<usize> {
    cache.drain(|_| ())
}
