//! How fast are messages read: pulled in pages without a copy, and received and acknowledged one by one?
//!
//! On: 100,000 messages of 128 B and of 1 KiB in one queue, written just before, so they are in the page cache. What is
//! isolated: the reader's side; nobody writes meanwhile. Every byte of every body is read. Run:
//! `cargo bench --bench consume`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pocketmq::{Filter, Message, PullStatus, QueueOffset, Store, TopicConfig};

const COUNT: u64 = 100_000;

fn filled(size: usize) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_topic("bench", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("bench").unwrap();
    let message = Message::new("bench", vec![7; size]).tag("created");
    (0..COUNT).for_each(|_| drop(producer.send(&message).unwrap()));
    (dir, store)
}

fn sum(body: &[u8]) -> u64 {
    body.iter().map(|byte| u64::from(*byte)).sum()
}

fn pull_all(store: &Store) -> u64 {
    let queue = store.queues("bench").unwrap().remove(0);
    let filter = Filter::all();
    let (mut at, mut total) = (QueueOffset::ZERO, 0);
    loop {
        let page = store.pull(&queue, &filter, at, 256).unwrap();
        if page.status == PullStatus::NoNewMessage {
            return total;
        }
        total += page.messages.iter().map(|message| sum(message.raw_body())).sum::<u64>();
        at = page.next_offset;
    }
}

fn consume(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("consume/100,000 messages");
    group.throughput(Throughput::Elements(COUNT));
    for size in [128_usize, 1_024] {
        let (_dir, store) = filled(size);
        group.bench_with_input(BenchmarkId::new("pull", size), &store, |bencher, store| {
            bencher.iter(|| black_box(pull_all(store)));
        });
        let mut groups = 0;
        group.bench_function(BenchmarkId::new("receive and acknowledge", size), |bencher| {
            bencher.iter_batched(
                || {
                    groups += 1;
                    store.consumer(format!("group-{groups}")).subscribe("bench", "*").build().unwrap()
                },
                |consumer| {
                    while let Some(delivery) = consumer.try_recv().unwrap() {
                        black_box(sum(delivery.raw_body()));
                        delivery.ack().unwrap();
                    }
                },
                BatchSize::PerIteration,
            );
        });
        store.close().unwrap();
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = consume
}
criterion_main!(benches);
