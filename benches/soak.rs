//! Do memory, descriptors and disk stay inside their limits for as long as a store is asked for more than it may hold?
//!
//! Producers that are faster than consumers, limits of every kind, retention that deletes all the time, and snapshots
//! in between. While it runs, memory, descriptors and blocks on disk are compared with what they may be; each refusal
//! must be an error that may be tried again, stored nothing, and says which limit it is. In the end nothing that was
//! acknowledged and may not go is missing, and nothing came twice or out of order. It stops at the first thing that is wrong.
//!
//! Run: `cargo bench --bench soak -- 600` (seconds; 60 unless told otherwise).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a soak stops at the first surprise, and says how it went"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pocketmq::{
    Consumer, Error, FileSizes, Limit, Limits, Message, MessageQueue, Outcome, Overflow, Producer, Retention,
    Store, TopicConfig,
};

const MIB: u64 = 1 << 20;
/// A file of the log.
const FILE: u64 = MIB;
/// What the log of the store may have.
const LOG_MAX: u64 = 10 * MIB;
/// What the log has where everything is consumed.
const LOG_KEPT: u64 = 4 * MIB;
/// Blocks on disk: the log, one more file for each of those who send at once and one made ahead, queues and index.
const DISK_MAX: u64 = LOG_MAX + 6 * FILE + 8 * MIB;
/// Memory that belongs to no file.
const MEMORY_MAX: u64 = 24 * MIB;
/// Descriptors, those that the process begins with among them.
const DESCRIPTORS_MAX: usize = 50;
/// Messages that may wait in a queue of `kept`, in `blocked`, and in `fresh`.
const WAITING_MAX: u64 = 1_000;
const QUEUES: u32 = 2;
/// How much faster than the consumer the producers are at least: it rests so long after each message.
const REST: Duration = Duration::from_micros(300);

/// What happened, for all threads.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    /// Messages that were acknowledged, by queue.
    acked: Mutex<BTreeMap<MessageQueue, u64>>,
    /// Messages that were consumed.
    consumed: AtomicU64,
    /// Refusals, by what they name.
    refused: Mutex<BTreeMap<String, u64>>,
}

impl Told {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Takes a refusal that says why and may be tried again; stops at any other error.
    fn refuse(&self, error: &Error) {
        let text = error.to_string();
        assert!(matches!(error, Error::StoreBusy(_)), "not a refusal: {text}");
        assert!(error.is_retryable() && error.outcome() == Outcome::NotStored, "{text}");
        let says_why = ["wait in", "the log has", "wait for their flush", "have not run yet"]
            .iter()
            .any(|reason| text.contains(reason));
        assert!(says_why, "it does not say which limit: {text}");
        // Without its numbers.
        let kind: String = text.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        *self.refused.lock().unwrap().entry(kind).or_default() += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn open(dir: &Path) -> Store {
    let sizes =
        FileSizes { commit_log: FILE, consume_queue_units: 2_000, index_slots: 4_000, index_entries: 16_000 };
    let waiting = Limit::new().count(WAITING_MAX);
    let limits = Limits::new()
        .store(Limit::new().bytes(LOG_MAX))
        .queue("kept", waiting)
        .topic("blocked", waiting.overflow(Overflow::Block).wait(Duration::from_millis(5)))
        .topic("fresh", waiting.overflow(Overflow::DeleteOldest));
    let retention = Retention::forever().max_bytes(LOG_KEPT);
    Store::builder(dir).file_sizes(sizes).limits(limits).retention(retention).open().unwrap()
}

fn body(number: u64) -> String {
    format!("{number} {}", "x".repeat(usize::try_from(number % 1_500).unwrap()))
}

/// Sends numbers to one queue: each message says how many were acknowledged there before it.
fn send_numbers(producer: &Producer, queue: &MessageQueue, told: &Told) {
    let mut number = 0;
    while told.goes_on() {
        let message = Message::new(queue.topic().to_string(), body(number)).key(format!("key-{number}"));
        match producer.send_to(queue, message) {
            Ok(_) => number += 1,
            Err(error) => told.refuse(&error),
        }
    }
    told.acked.lock().unwrap().insert(queue.clone(), number);
}

/// Sends what nobody reads, by callbacks of which few may be in flight.
fn send_fresh(store: &Store, told: &Told) {
    let producer = store.producer_builder("fresh").in_flight_max(64).build().unwrap();
    let mut number = 0;
    while told.goes_on() {
        match producer.send_then(Message::new("fresh", body(number)), |_| ()) {
            Ok(()) => number += 1,
            Err(error) => told.refuse(&error),
        }
        // Else the log would be theirs alone.
        std::thread::sleep(Duration::from_micros(20));
    }
}

/// Consumes a topic slowly until everything that was acknowledged has come, each once and in order.
fn consume(consumer: &Consumer, topic: &str, told: &Told) {
    let mut next: BTreeMap<MessageQueue, u64> = BTreeMap::new();
    loop {
        match consumer.recv_timeout(Duration::from_millis(200)).unwrap() {
            Some(message) => {
                let text = message.body_str().unwrap().into_owned();
                let number: u64 = text.split(' ').next().unwrap().parse().unwrap();
                let expected = next.entry(message.queue().clone()).or_default();
                assert_eq!(number, *expected, "{} has lost or repeated a message", message.queue());
                *expected += 1;
                message.ack().unwrap();
                told.consumed.fetch_add(1, Ordering::Relaxed);
                if told.goes_on() {
                    std::thread::sleep(REST);
                }
            }
            None if told.goes_on() => {}
            None => break,
        }
    }
    let acked = told.acked.lock().unwrap();
    for (queue, count) in acked.iter().filter(|(queue, _)| queue.topic().as_str() == topic) {
        assert_eq!(next.get(queue), Some(count), "{queue}");
    }
}

/// Copies the store again and again, and verifies each copy.
fn copy(store: &Store, dir: &Path, told: &Told) -> u64 {
    let mut copies = 0;
    while told.goes_on() {
        let place = dir.join("copy");
        store.snapshot(&place).unwrap();
        let report = pocketmq::verify(&place, |_| ()).unwrap();
        assert!(report.is_sound(), "{report}");
        std::fs::remove_dir_all(&place).unwrap();
        copies += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    copies
}

/// The highest that was seen.
#[derive(Debug, Default)]
struct Peaks {
    memory: u64,
    descriptors: usize,
    disk: u64,
    fresh: u64,
}

impl Peaks {
    fn look(&mut self, store: &Store) {
        self.memory = self.memory.max(memory());
        self.descriptors = self.descriptors.max(std::fs::read_dir("/proc/self/fd").unwrap().count());
        self.disk = self.disk.max(blocks(store.dir()));
        let fresh = store.admin().topic("fresh").map_or(0, |info| info.messages());
        self.fresh = self.fresh.max(fresh);
        assert!(self.memory <= MEMORY_MAX, "memory: {} of at most {MEMORY_MAX} bytes", self.memory);
        assert!(self.descriptors <= DESCRIPTORS_MAX, "{} descriptors", self.descriptors);
        assert!(self.disk <= DISK_MAX, "disk: {} of at most {DISK_MAX} bytes", self.disk);
        assert!(self.fresh <= WAITING_MAX + 1, "{} messages wait in fresh", self.fresh);
    }
}

/// Returns the bytes of memory that belong to no file.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// Returns the bytes of the blocks of everything in a folder. What goes meanwhile does not count.
fn blocks(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => blocks(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}

struct StopOnDrop<'a>(&'a Told);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(60);
    let dir = tempfile::tempdir().unwrap();
    let (store, told) = (open(&dir.path().join("store")), Told::default());
    for topic in ["kept", "blocked", "fresh"] {
        store.create_topic(topic, TopicConfig::queues(QUEUES)).unwrap();
    }
    let mut peaks = Peaks::default();
    let copies = std::thread::scope(|threads| {
        for topic in ["kept", "blocked"] {
            let (store, told) = (&store, &told);
            // Before anything is sent: what its group has not consumed is kept from here on.
            let consumer = store.consumer(topic).subscribe(topic, "*").orderly().build().unwrap();
            threads.spawn(move || {
                let _stopped = StopOnDrop(told);
                consume(&consumer, topic, told);
            });
            for queue in store.queues(topic).unwrap() {
                threads.spawn(move || {
                    let _stopped = StopOnDrop(told);
                    send_numbers(&store.producer("shop").unwrap(), &queue, told);
                });
            }
        }
        threads.spawn(|| {
            let _stopped = StopOnDrop(&told);
            send_fresh(&store, &told);
        });
        let copier = threads.spawn(|| {
            let _stopped = StopOnDrop(&told);
            copy(&store, dir.path(), &told)
        });
        let _stopped = StopOnDrop(&told);
        let started = Instant::now();
        while told.goes_on() && started.elapsed() < Duration::from_secs(seconds) {
            peaks.look(&store);
            std::thread::sleep(Duration::from_millis(100));
        }
        told.stop.store(true, Ordering::Relaxed);
        copier.join().unwrap()
    });
    peaks.look(&store);
    let acked: u64 = told.acked.lock().unwrap().values().sum();
    let (refused, consumed) = (told.refused.into_inner().unwrap(), told.consumed.into_inner());
    let deleted = store.brokers()[0].deletions();
    println!("soak of {seconds} s: acked={acked} consumed={consumed} copies={copies}");
    println!("deleted: {deleted:?}");
    println!("peaks: {peaks:?}");
    refused.iter().for_each(|(kind, count)| println!("refused {count} times: {kind}"));
    // It is a soak only if everything of it happened.
    assert_eq!(acked, consumed);
    assert_eq!(deleted.unconsumed, 0, "what a group had not consumed is gone");
    assert!(acked > 100 * seconds && copies > 0 && deleted.log_files > 0 && deleted.messages > 0);
    for limit in ["queue", "topic blocked", "the log has"] {
        assert!(refused.keys().any(|kind| kind.contains(limit)), "{limit}: never refused");
    }
    store.close().unwrap();
    println!("nothing lost, everything within its limits");
}
