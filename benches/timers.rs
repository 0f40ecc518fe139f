//! How many timers come in and go out in a second, how late are they, and what does it cost to open a store in which many wait?
//!
//! On: a store in a temporary folder, everything at its default but 256 MiB log files, bodies of 128 bytes, while 1, 1,000 and
//! 1,000,000 others wait, spread over the hour after next. What is isolated: *in* is the send alone, and then the wheel's part
//! (the steps that take the messages in); *out* is the steps that deliver what is due. *Late* is the time between due and
//! received, by a consumer that waits, of 400 timers within two seconds with the store's own threads. *Send during* is the
//! longest of the sends of another thread while 100,000 overdue ones are delivered. *Open* is `Store::open` after a clean stop,
//! with what it adds to the process's own memory. Durability: `async`. Run: `cargo bench --bench timers`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise, and prints what it found"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use pocketmq::{
    Background, Clock, FileSizes, ManualClock, Message, Producer, Store, StoreBuilder, TopicConfig,
};

const HOUR: Duration = Duration::from_secs(3_600);
/// Timers that are sent and delivered for a figure.
const COUNT: u32 = 50_000;

fn builder(dir: &std::path::Path) -> StoreBuilder {
    Store::builder(dir).file_sizes(FileSizes { commit_log: 256 << 20, ..FileSizes::default() })
}

fn by_hand(dir: &std::path::Path, clock: &Arc<ManualClock>) -> Store {
    let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    builder(dir).clock(hands).background(Background::Manual).open().unwrap()
}

fn send(producer: &Producer, after: Duration) {
    producer.send(Message::new("bench", vec![7; 128]).delay(after)).unwrap();
}

/// Steps until every timer is in the wheel.
fn take_in(store: &Store, sent: u32) {
    for _ in 0..=sent / 10_000 {
        store.step().unwrap();
    }
}

fn rate(count: u32, took: Duration) -> f64 {
    f64::from(count) / took.as_secs_f64()
}

/// Bytes of the process's own memory: what is not a file.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn in_and_out(waiting: u32) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let store = by_hand(dir.path(), &clock);
    store.create_topic("bench", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("bench").unwrap();
    for n in 0..waiting {
        send(&producer, HOUR + HOUR * (n % 3_600) / 3_600);
    }
    take_in(&store, waiting);
    let begun = Instant::now();
    (0..COUNT).for_each(|n| send(&producer, Duration::from_millis(1 + u64::from(n % 10_000))));
    let sent = begun.elapsed();
    take_in(&store, COUNT);
    let taken = begun.elapsed();
    clock.advance(Duration::from_secs(11));
    let begun = Instant::now();
    while store.brokers()[0].pending_timers() > u64::from(waiting) {
        store.step().unwrap();
    }
    let out = begun.elapsed();
    println!(
        "{waiting:>9} waiting: in {:>9.0}/s to the receipt, {:>9.0}/s into the wheel; out {:>9.0}/s",
        rate(COUNT, sent),
        rate(COUNT, taken),
        rate(COUNT, out)
    );
    drop(producer);
    store.close().unwrap();
    drop(store);
    let (before, begun) = (own_memory(), Instant::now());
    let store = by_hand(dir.path(), &clock);
    println!(
        "{waiting:>9} waiting: open after a clean stop {:.1} ms, {} KiB of memory",
        begun.elapsed().as_secs_f64() * 1e3,
        own_memory().saturating_sub(before) >> 10
    );
    assert!(store.brokers()[0].pending_timers() >= u64::from(waiting));
}

fn late() {
    let dir = tempfile::tempdir().unwrap();
    let store = builder(dir.path()).open().unwrap();
    let producer = store.producer("bench").unwrap();
    let consumer = store.consumer("bench").subscribe("bench", "*").build().unwrap();
    send(&producer, HOUR);
    let begun = Instant::now();
    for n in 0..400_u64 {
        let after = Duration::from_micros(50_000 + n * 7_919 % 2_000 * 1_000);
        let due = begun.elapsed() + after;
        producer.send(Message::new("bench", due.as_micros().to_string()).delay(after)).unwrap();
    }
    let mut late: Vec<f64> = Vec::new();
    while late.len() < 400 {
        let message = consumer.recv().unwrap();
        let due: u64 = message.body_str().unwrap().parse().unwrap();
        late.push((begun.elapsed().as_micros() as f64 - due as f64) / 1e3);
        message.ack().unwrap();
    }
    late.sort_by(f64::total_cmp);
    println!(
        "late: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; min {:.2} ms",
        late[200], late[395], late[399], late[0]
    );
    drop(consumer);
    store.close().unwrap();
}

fn send_during() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let store = by_hand(dir.path(), &clock);
    store.create_topic("bench", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("bench").unwrap();
    (0..100_000).for_each(|n| send(&producer, Duration::from_millis(1 + n % 60_000)));
    take_in(&store, 100_000);
    clock.advance(HOUR);
    let mut longest = Duration::ZERO;
    std::thread::scope(|scope| {
        let delivering = scope.spawn(|| {
            while store.brokers()[0].pending_timers() > 0 {
                store.step().unwrap();
            }
        });
        while !delivering.is_finished() {
            let begun = Instant::now();
            producer.send(Message::new("bench", vec![7; 128])).unwrap();
            longest = longest.max(begun.elapsed());
        }
    });
    println!(
        "send during the delivery of 100,000 overdue ones: at most {:.2} ms",
        longest.as_secs_f64() * 1e3
    );
}

fn main() {
    for waiting in [1, 1_000, 1_000_000] {
        in_and_out(waiting);
    }
    late();
    send_during();
}
