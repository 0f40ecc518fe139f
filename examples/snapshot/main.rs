//! How is a store copied while it is used? Producers send, snapshots are taken, and every copy is opened and counted.
//!
//! ```sh
//! cargo run --release --example snapshot
//! ```
#![allow(clippy::print_stdout, reason = "a program speaks to whoever runs it")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pocketmq::{Message, Result, Store};

/// Copies that are taken.
const COPIES: usize = 5;
/// Messages that are sent between two of them, at least.
const MESSAGES: u64 = 20_000;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("data"))?;
    let (acked, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let producers = [0, 1].map(|_| threads.spawn(|| send(&store, &acked, &stop)));
        let taken = (0..COPIES).try_for_each(|number| {
            let before = wait_for(&acked, MESSAGES);
            take(&store, &dir.path().join(format!("copy-{number}")), before)
        });
        stop.store(true, Ordering::Relaxed);
        for producer in producers {
            producer.join().map_err(|_| "a producer panicked")??;
        }
        taken
    })?;
    store.close()?;
    Ok(())
}

fn send(store: &Store, acked: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let producer = store.producer("shop")?;
    while !stop.load(Ordering::Relaxed) {
        producer.send(Message::new("orders", "paid").key("order-42"))?;
        acked.fetch_add(1, Ordering::Release);
    }
    Ok(())
}

/// Waits until so many more messages are acknowledged, and returns how many there are.
fn wait_for(acked: &AtomicU64, more: u64) -> u64 {
    let wanted = acked.load(Ordering::Acquire) + more;
    while acked.load(Ordering::Acquire) < wanted {
        std::thread::yield_now();
    }
    acked.load(Ordering::Acquire)
}

/// Takes a copy, opens it, and checks that everything that had been acknowledged is in it.
fn take(
    store: &Store,
    place: &Path,
    acked_before: u64,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let report = store.snapshot(place)?;
    let copy = Store::open(place)?;
    let mut count = 0;
    for queue in copy.queues("orders")? {
        count += copy.queue_offsets(&queue).map_or(0, |places| places.end.since(places.start));
    }
    copy.close()?;
    println!("acked_before={acked_before} in_the_copy={count} {report}");
    if count < acked_before {
        return Err(format!("{} acknowledged messages are missing", acked_before - count).into());
    }
    Ok(())
}
