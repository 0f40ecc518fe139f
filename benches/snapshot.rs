//! How much slower are appends while a snapshot is made?
//!
//! On: messages of 1 KiB from one thread under async flush, files of 64 MiB. Rounds take turns: one with nothing beside it,
//! one during which another thread makes one snapshot after the other, so that there is always one under way. What is
//! compared is how many messages were sent in equal times. It fails where the second is slower by a fifth or more: the
//! store promises less. Run: `cargo bench --bench snapshot`; the number of rounds may follow, after `--`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, and says what it has found"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pocketmq::{Message, Producer, Store, TopicConfig};

const ROUND: Duration = Duration::from_millis(250);

/// Sends for one round, and returns how many messages that were.
fn send(producer: &Producer, message: &Message) -> u64 {
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < ROUND {
        for _ in 0..64 {
            producer.send(message).unwrap();
        }
        count += 64;
    }
    count
}

fn main() {
    let rounds: u32 = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(8);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    store.create_topic("bench", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("bench").unwrap();
    let message = Message::new("bench", vec![7; 1_024]).key("key");
    // The first files are made, and a snapshot has something to copy.
    send(&producer, &message);
    let (mut alone, mut meanwhile, mut copies) = (0, 0, 0_u32);
    for _ in 0..rounds {
        // What the round before left for the disk does not count here.
        store.flush().unwrap();
        alone += send(&producer, &message);
        store.flush().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let copier = threads.spawn(|| {
                let mut made = 0;
                while !done.load(Ordering::Relaxed) {
                    let place = dir.path().join("copy");
                    store.snapshot(&place).unwrap();
                    std::fs::remove_dir_all(&place).unwrap();
                    made += 1;
                }
                made
            });
            meanwhile += send(&producer, &message);
            done.store(true, Ordering::Relaxed);
            copies += copier.join().unwrap();
        });
    }
    let slower = (alone.saturating_sub(meanwhile) * 1_000).checked_div(alone).unwrap();
    println!("{rounds} rounds, {copies} snapshots: {alone} messages alone, {meanwhile} meanwhile");
    println!("slower by {}.{} %", slower / 10, slower % 10);
    assert!(slower < 200, "appends are slower by a fifth or more");
}
