//! How long does it take to send a message: by size, by number of threads, in batches, and under both flush policies?
//!
//! On: a store in a temporary folder, one topic of four queues, everything at its default (whole-record checksum,
//! unique ids, key index in the background). What is isolated: the sender's side of `Producer::send`, from the call to
//! the receipt; the background threads run as they do in production, so the memory of new log files is part of it.
//! Durability: `async` means stored, `sync` means flushed. Run: `cargo bench --bench append`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise"
)]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pocketmq::{FileSizes, FlushPolicy, Message, Producer, Store, TopicConfig};

fn store(flush: FlushPolicy) -> (tempfile::TempDir, Store, Producer) {
    let dir = tempfile::tempdir().unwrap();
    let sizes = FileSizes { commit_log: 256 << 20, ..FileSizes::default() };
    let store = Store::builder(dir.path()).flush(flush).file_sizes(sizes).open().unwrap();
    store.create_topic("bench", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("bench").unwrap();
    (dir, store, producer)
}

fn by_size(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append/async/one thread");
    for size in [128_usize, 1_024, 16_384] {
        let (_dir, store, producer) = store(FlushPolicy::Async);
        let message = Message::new("bench", vec![7; size]);
        group.throughput(Throughput::Bytes(u64::try_from(size).unwrap()));
        group.bench_with_input(BenchmarkId::from_parameter(size), &message, |bencher, message| {
            bencher.iter(|| producer.send(message).unwrap());
        });
        store.close().unwrap();
    }
    group.finish();
}

fn by_threads(criterion: &mut Criterion) {
    for (name, flush) in [("async", FlushPolicy::Async), ("sync", FlushPolicy::Sync)] {
        let mut group = criterion.benchmark_group(format!("append/{name}/1 KiB by threads"));
        group.throughput(Throughput::Elements(1));
        for threads in [1_u64, 4, 16] {
            let (_dir, store, producer) = store(flush);
            group.bench_with_input(BenchmarkId::from_parameter(threads), &threads, |bencher, threads| {
                bencher.iter_custom(|count| send_from(&producer, *threads, count.div_ceil(*threads)));
            });
            store.close().unwrap();
        }
        group.finish();
    }
}

/// Sends `count` messages from each of so many threads and returns how long all of it took.
fn send_from(producer: &Producer, threads: u64, count: u64) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let message = Message::new("bench", vec![7; 1_024]);
                (0..count).for_each(|_| drop(producer.send(&message).unwrap()));
            });
        }
    });
    started.elapsed()
}

fn by_batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append/async/batches of 128 B");
    for count in [1_usize, 16, 64] {
        let (_dir, store, producer) = store(FlushPolicy::Async);
        let batch = vec![Message::new("bench", vec![7; 128]); count];
        group.throughput(Throughput::Elements(u64::try_from(count).unwrap()));
        group.bench_with_input(BenchmarkId::from_parameter(count), &batch, |bencher, batch| {
            bencher.iter(|| producer.send_batch(batch).unwrap());
        });
        store.close().unwrap();
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = by_size, by_threads, by_batch
}
criterion_main!(benches);
