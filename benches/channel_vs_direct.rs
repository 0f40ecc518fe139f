//! What does a send cost that is queued for another thread, against one in the caller's own?
//!
//! On: a store in a temporary folder, one topic of four queues, bodies of 128 bytes, everything at its default. *Direct* is
//! `Producer::send`. *Ticket* is `send_async`, which appends in the caller's thread too. *Callback* appends there as well
//! and hands the answer to the producer's callback thread through its bounded channel. *Queued* is the design that was not
//! taken: the message goes through a bounded channel to a thread that sends it (the last of each round is waited for, so that all are stored);
//! *queued, answered* sends the receipt back through a second one, which is what a caller who wants it has to wait for.
//! Durability: `async` means stored; under `sync` the group compares one blocking sender with one that keeps 64 tickets open.
//! Run: `cargo bench --bench channel_vs_direct`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise"
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Sender, bounded};
use pocketmq::{FileSizes, FlushPolicy, Message, Producer, SendReceipt, Store, TopicConfig, WhenBusy};

/// The bound of every channel, as the producer's own has it by default.
const BOUND: usize = 1_024;
/// Tickets that one thread keeps open.
const OPEN: usize = 64;

fn store(flush: FlushPolicy) -> (tempfile::TempDir, Store, Producer) {
    let dir = tempfile::tempdir().unwrap();
    let sizes = FileSizes { commit_log: 256 << 20, ..FileSizes::default() };
    let store = Store::builder(dir.path()).flush(flush).file_sizes(sizes).open().unwrap();
    store.create_topic("bench", TopicConfig::queues(4)).unwrap();
    let producer = store.producer_builder("bench").when_busy(WhenBusy::Wait).build().unwrap();
    (dir, store, producer)
}

fn message() -> Message {
    Message::new("bench", vec![7; 128])
}

/// A message for the sending thread, and where the receipt goes, if anywhere.
type Job = (Message, Option<Sender<SendReceipt>>);

/// Starts the thread of the design that was not taken; it ends with its channel.
fn sending_thread(producer: &Producer) -> Sender<Job> {
    let (jobs, queue) = bounded::<Job>(BOUND);
    let producer = producer.clone();
    std::thread::spawn(move || {
        for (message, answer) in queue {
            let receipt = producer.send(message).unwrap();
            if let Some(answer) = answer {
                answer.send(receipt).unwrap();
            }
        }
    });
    jobs
}

fn stored(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel_vs_direct/async/128 B");
    group.throughput(Throughput::Elements(1));
    let (_dir, store, producer) = store(FlushPolicy::Async);
    let shared = message();
    group.bench_function("direct", |bencher| bencher.iter(|| producer.send(&shared).unwrap()));
    group.bench_function("ticket", |bencher| bencher.iter(|| producer.send_async(&shared).wait().unwrap()));
    group.bench_function("callback", |bencher| {
        bencher.iter_custom(|count| {
            let started = Instant::now();
            (1..count).for_each(|_| producer.send_then(&shared, |answer| drop(answer.unwrap())).unwrap());
            let (done, told) = bounded(1);
            producer.send_then(&shared, move |answer| done.send(answer.unwrap()).unwrap()).unwrap();
            told.recv().unwrap();
            started.elapsed()
        });
    });
    let jobs = sending_thread(&producer);
    group.bench_function("queued", |bencher| {
        bencher.iter_custom(|count| {
            let started = Instant::now();
            (1..count).for_each(|_| jobs.send((shared.clone(), None)).unwrap());
            let (answer, receipt) = bounded(1);
            jobs.send((shared.clone(), Some(answer))).unwrap();
            receipt.recv().unwrap();
            started.elapsed()
        });
    });
    let (answer, receipts) = bounded(1);
    group.bench_function("queued, answered", |bencher| {
        bencher.iter(|| {
            jobs.send((shared.clone(), Some(answer.clone()))).unwrap();
            receipts.recv().unwrap()
        });
    });
    group.finish();
    drop(jobs);
    store.close().unwrap();
}

fn flushed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("channel_vs_direct/sync/128 B");
    group.throughput(Throughput::Elements(1));
    let (_dir, store, producer) = store(FlushPolicy::Sync);
    let shared = message();
    group.bench_function("direct", |bencher| bencher.iter(|| producer.send(&shared).unwrap()));
    group.bench_function("64 tickets", |bencher| {
        bencher.iter_custom(|count| {
            let started = Instant::now();
            let mut open = VecDeque::with_capacity(OPEN);
            for _ in 0..count {
                if open.len() == OPEN {
                    let oldest: pocketmq::SendTicket = open.pop_front().unwrap();
                    oldest.wait().unwrap();
                }
                open.push_back(producer.send_async(&shared));
            }
            open.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
            started.elapsed()
        });
    });
    group.finish();
    store.close().unwrap();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = stored, flushed
}
criterion_main!(benches);
