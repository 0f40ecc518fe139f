//! How does a message come later: after a delay level, after any time, at a time of day? And how is it taken back?
//!
//! `cargo run --example delay`. It moves the clock by hand: no real time passes.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{Message, RecallHandle, Result};

fn main() -> Result<()> {
    let store = TestStore::new();
    let producer = store.producer("shop")?;

    // 1. RocketMQ's delay levels: 1 s, 5 s, 10 s, 30 s and so on; level 2 is 5 s.
    producer.send(Message::new("reminders", "level 2").delay_level(2))?;
    // 2. Any time, to the millisecond.
    producer.send(Message::new("reminders", "1,234 ms").delay(Duration::from_millis(1_234)))?;
    // 3. In a month: the message comes round every two days, so that the log before it may go.
    producer.send(Message::new("reminders", "a month").delay(Duration::from_secs(30 * 86_400)))?;
    // 4. A message that is not wanted any more is taken back by its handle, which may be kept as a text.
    let receipt = producer.send(Message::new("reminders", "never").delay(Duration::from_secs(3)))?;
    let kept = receipt.recall_handle().map(|handle| handle.to_string()).unwrap_or_default();
    assert_eq!(producer.recall(kept.parse::<RecallHandle>()?)?, receipt.message_id());
    drop(producer);

    // The process dies and comes back: what waits is on disk.
    let mut store = store.kill_process()?;
    let mut came = Vec::new();
    for (step, until) in [(1_233, "1,233 ms"), (1, "1,234 ms"), (3_765, "4,999 ms"), (1, "5 s")] {
        store.advance(Duration::from_millis(step))?;
        came.extend(arrived(&store, until)?);
    }
    assert_eq!(came, ["1,234 ms", "level 2"]);

    // A month with a kill a day.
    for _ in 0..30 {
        store.advance(Duration::from_secs(86_400))?;
        store = store.kill_process()?;
        came.extend(arrived(&store, "some days")?);
    }
    assert_eq!(came, ["1,234 ms", "level 2", "a month"]);
    println!("everything came once, at its time; what was taken back did not");
    Ok(())
}

/// Acknowledges what is there.
fn arrived(store: &TestStore, when: &str) -> Result<Vec<String>> {
    let consumer = store.consumer("reminded").subscribe("reminders", "*").build()?;
    let mut bodies = Vec::new();
    while let Some(message) = consumer.try_recv()? {
        println!("after {when}: {}", message.body_str()?);
        bodies.push(message.body_str()?.into_owned());
        message.ack()?;
    }
    Ok(bodies)
}
