//! How long does it take to find a message: by key, by its id, by its place, by time?
//!
//! On: 200,000 messages with one key each in four queues, written just before, the index caught up. What is isolated:
//! one lookup of something that exists, in memory that is warm. Run: `cargo bench --bench lookup`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use pocketmq::{Message, QueueOffset, SendReceipt, Store, TopicConfig};

const COUNT: usize = 200_000;

fn filled() -> (tempfile::TempDir, Store, Vec<SendReceipt>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_topic("bench", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("bench").unwrap();
    let send = |n| producer.send(Message::new("bench", vec![7; 256]).key(format!("key-{n}"))).unwrap();
    let receipts = (0..COUNT).map(send).collect();
    // The first lookup lets the index catch up.
    store.query_by_key("bench", "key-0").fetch().unwrap();
    (dir, store, receipts)
}

fn lookup(criterion: &mut Criterion) {
    let (_dir, store, receipts) = filled();
    let mut group = criterion.benchmark_group("lookup/200,000 messages");
    let mut n = 0;
    let mut next = || {
        n = (n + 7_919) % COUNT;
        n
    };
    group.bench_function("by key", |bencher| {
        bencher.iter(|| {
            let found = store.query_by_key("bench", format!("key-{}", next())).limit(1).fetch().unwrap();
            black_box(found.len())
        });
    });
    group.bench_function("by unique id", |bencher| {
        bencher
            .iter(|| black_box(store.message(receipts.get(next()).unwrap().message_id()).unwrap().is_some()));
    });
    group.bench_function("by offset id", |bencher| {
        bencher
            .iter(|| black_box(store.message(receipts.get(next()).unwrap().offset_id()).unwrap().is_some()));
    });
    let queue = receipts.first().unwrap().queue().clone();
    group.bench_function("by place", |bencher| {
        bencher.iter(|| {
            let at = QueueOffset::new(u64::try_from(next() / 4).unwrap());
            black_box(store.message_at(&queue, at).unwrap().is_some())
        });
    });
    let middle = store.message_at(&queue, QueueOffset::new(20_000)).unwrap().unwrap().store_time();
    group.bench_function("by time", |bencher| {
        bencher.iter(|| black_box(store.offset_at(&queue, middle).unwrap()));
    });
    group.finish();
    store.close().unwrap();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = lookup
}
criterion_main!(benches);
