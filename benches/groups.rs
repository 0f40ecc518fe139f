//! What does a consumer group cost: a message that is pushed to a handler, a queue that changes hands, a member that joins?
//!
//! *push*: 20,000 messages of 1 KiB in four queues are sent and handled, by one member of four threads and by four members,
//! concurrently in batches of 32 and in order one by one; the time is that of both, send and handling. *hand-over*: an orderly
//! queue whose owner is in the middle of a backlog goes to a member that joins; the time is from joining to its first message,
//! and holds the 100 µs for which the owner's handler keeps a message. *join*: the second member of a group takes half of the
//! queues of ten topics and gives them back; before it, the memory is printed that the first one asked for. Durability: async.
//! Run: `cargo bench --bench groups`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::as_conversions,
    reason = "a benchmark stops at the first surprise, and says what it counted"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use pocketmq::{Consumer, Message, MessageView, PushConsumer, Store, TopicConfig};

const MESSAGES: u64 = 20_000;
const TOPICS: u32 = 10;
/// How long the owner of a queue keeps a message in the hand-over.
const WORK: Duration = Duration::from_micros(100);

fn store(queues: u32) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_topic("bench", TopicConfig::queues(queues)).unwrap();
    (dir, store)
}

/// Tells when so many messages have been handled.
struct Counter {
    left: AtomicU64,
    done: Sender<()>,
}

impl Counter {
    fn new() -> (Arc<Self>, Receiver<()>) {
        let (done, told) = bounded(1);
        (Arc::new(Self { left: AtomicU64::new(MESSAGES), done }), told)
    }

    fn handled(&self, count: usize) {
        if self.left.fetch_sub(count as u64, Ordering::Relaxed) == count as u64 {
            self.left.store(MESSAGES, Ordering::Relaxed);
            self.done.send(()).unwrap();
        }
    }
}

fn member(store: &Store, orderly: bool, threads: usize, counter: &Arc<Counter>) -> PushConsumer {
    let counter = Arc::clone(counter);
    let builder = store.consumer("bench").subscribe("bench", "*");
    let (builder, batch) = if orderly { (builder.orderly(), 1) } else { (builder, 32) };
    builder.listen_batch(threads, batch, move |messages, _| counter.handled(messages.len())).unwrap()
}

fn push(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("groups/push, 20,000 messages of 1 KiB");
    group.throughput(Throughput::Elements(MESSAGES));
    for (name, orderly, members, threads) in [
        ("concurrent, 1 member", false, 1, 4),
        ("concurrent, 4 members", false, 4, 1),
        ("in order, 1 member", true, 1, 4),
        ("in order, 4 members", true, 4, 1),
    ] {
        let (_dir, store) = store(4);
        let producer = store.producer("bench").unwrap();
        let message = Message::new("bench", vec![7; 1_024]);
        let (counter, told) = Counter::new();
        let members: Vec<_> = (0..members).map(|_| member(&store, orderly, threads, &counter)).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                (0..MESSAGES).for_each(|_| drop(producer.send(&message).unwrap()));
                told.recv().unwrap();
            });
        });
        drop(members);
        store.close().unwrap();
    }
    group.finish();
}

/// An orderly member whose first message is told of. The name that sorts first gets the queue.
fn owner(store: &Store, number: u64) -> (PushConsumer, Receiver<Instant>) {
    let (first, told) = bounded(1);
    let handler = move |_: &MessageView| {
        let _ = first.try_send(Instant::now());
        std::thread::sleep(WORK);
    };
    let builder = store.consumer("bench").subscribe("bench", "*").orderly();
    (builder.instance(&format!("m{:012}", u64::from(u32::MAX) - number)).listen(1, handler).unwrap(), told)
}

fn hand_over(criterion: &mut Criterion) {
    let (_dir, store) = store(1);
    let producer = store.producer("bench").unwrap();
    let send = |count: u64| {
        (0..count).for_each(|_| drop(producer.send(Message::new("bench", "x")).unwrap()));
    };
    let mut number = 0;
    let (mut current, told) = owner(&store, number);
    send(100);
    told.recv().unwrap();
    criterion.bench_function("groups/hand-over of an orderly queue", |bencher| {
        bencher.iter_custom(|count| {
            (0..count)
                .map(|_| {
                    number += 1;
                    send(50);
                    let begun = Instant::now();
                    let (next, told) = owner(&store, number);
                    let took = told.recv().unwrap().saturating_duration_since(begun);
                    current = next;
                    took
                })
                .sum()
        });
    });
    drop(current);
    store.close().unwrap();
}

fn joined(store: &Store) -> Consumer {
    let all = (0..TOPICS).map(|n| format!("topic-{n}"));
    all.fold(store.consumer("bench"), |builder, topic| builder.subscribe(&topic, "*")).build().unwrap()
}

fn join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("groups/a member joins and leaves");
    for queues in [1_000_u32, 10_000, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for n in 0..TOPICS {
            store.create_topic(format!("topic-{n}"), TopicConfig::queues(queues / TOPICS)).unwrap();
        }
        let mut first = None;
        let counted = allocation_counter::measure(|| first = Some(joined(&store)));
        println!(
            "{queues} queues: {} bytes of memory a queue and group",
            counted.bytes_current / i64::from(queues)
        );
        group.throughput(Throughput::Elements(u64::from(queues)));
        group.bench_function(BenchmarkId::new("queues", queues), |bencher| {
            bencher.iter(|| {
                let second = joined(&store);
                assert_eq!(second.assignment().unwrap().len(), queues as usize / 2);
            });
        });
        drop(first);
        store.close().unwrap();
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = push, hand_over, join
}
criterion_main!(benches);
