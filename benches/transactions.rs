//! How many transactions can be made in a second, against plain sends, and how many checks?
//!
//! On: a store in a temporary folder, one topic of four queues, everything at its default, bodies of 128 bytes. What is
//! isolated: the sender's side, from the call to the receipt or the decision; a transaction is a half message and, when
//! it is committed, a message and an op message, so three records to one of a plain send. A check is the re-opening of an
//! undecided half message by a listener that commits it, from the step that finds it due to its message in the topic.
//! Durability: `async` means stored, `sync` means flushed (a transaction is flushed twice). Run:
//! `cargo bench --bench transactions`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pocketmq::{
    Background, FileSizes, FlushPolicy, LocalTransactionState, ManualClock, Message, MessageView, Store,
    StoreBuilder, TopicConfig, TransactionProducer,
};

fn open(
    builder: impl FnOnce(StoreBuilder) -> StoreBuilder,
) -> (tempfile::TempDir, Store, TransactionProducer) {
    let dir = tempfile::tempdir().unwrap();
    let sizes = FileSizes { commit_log: 256 << 20, ..FileSizes::default() };
    let store = builder(Store::builder(dir.path()).file_sizes(sizes)).open().unwrap();
    store.create_topic("bench", TopicConfig::queues(4)).unwrap();
    let producer =
        store.transaction_producer("bench", |_: &MessageView| LocalTransactionState::Commit).unwrap();
    (dir, store, producer)
}

fn message() -> Message {
    Message::new("bench", vec![7; 128])
}

fn against_plain_sends(criterion: &mut Criterion) {
    for (name, flush) in [("async", FlushPolicy::Async), ("sync", FlushPolicy::Sync)] {
        let mut group = criterion.benchmark_group(format!("transactions/{name}/one thread"));
        group.throughput(Throughput::Elements(1));
        let (_dir, store, producer) = open(|builder| builder.flush(flush));
        let message = message();
        group.bench_function("plain send", |bencher| {
            bencher.iter(|| producer.producer().send(&message).unwrap());
        });
        group.bench_function("committed", |bencher| {
            bencher.iter(|| producer.begin(&message).unwrap().commit().unwrap());
        });
        group.bench_function("rolled back", |bencher| {
            bencher.iter(|| producer.begin(&message).unwrap().rollback().unwrap());
        });
        group.finish();
        store.close().unwrap();
    }
}

fn by_threads(criterion: &mut Criterion) {
    for (name, flush) in [("async", FlushPolicy::Async), ("sync", FlushPolicy::Sync)] {
        let mut group = criterion.benchmark_group(format!("transactions/{name}/committed by 16 threads"));
        group.throughput(Throughput::Elements(1));
        let (_dir, store, producer) = open(|builder| builder.flush(flush));
        group.bench_function("committed", |bencher| {
            bencher.iter_custom(|count| commit_from(&producer, 16, count.div_ceil(16)));
        });
        group.finish();
        store.close().unwrap();
    }
}

/// Makes `count` transactions from each of so many threads and returns how long all of it took.
fn commit_from(producer: &TransactionProducer, threads: u64, count: u64) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..count).for_each(|_| producer.begin(message()).unwrap().commit().unwrap()));
        }
    });
    started.elapsed()
}

fn checks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transactions/async/checked");
    group.throughput(Throughput::Elements(1));
    group.bench_function("commit by check", |bencher| bencher.iter_custom(check));
    group.finish();
}

/// Leaves `count` transactions undecided, lets them become due, and returns how long it takes to check all of them.
fn check(count: u64) -> Duration {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let hands = Arc::<ManualClock>::clone(&clock);
    let (_dir, store, producer) = open(|builder| builder.clock(hands).background(Background::Manual));
    let mut took = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let some = left.min(1_000);
        (0..some).for_each(|_| drop(producer.begin(message()).unwrap()));
        clock.advance(Duration::from_secs(6));
        let started = Instant::now();
        store.step().unwrap();
        took += started.elapsed();
        left -= some;
    }
    assert!(store.admin().half_messages(1).unwrap().is_empty());
    store.close().unwrap();
    took
}

criterion_group!(benches, against_plain_sends, by_threads, checks);
criterion_main!(benches);
