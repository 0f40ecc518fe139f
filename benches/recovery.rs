//! How long does it take to open a store again, after a clean stop and after a kill?
//!
//! On: 64 MiB and 256 MiB of log in messages of 1 KiB, in the page cache. What is isolated: `Store::open` alone. After a
//! kill everything since the last checkpoint is verified with full checksums, the queue units of it are made again, and
//! what may not have reached the disk is written again and synced; the last part depends on the disk and is part of the
//! figure. Run: `cargo bench --bench recovery`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pocketmq::testing::TestStore;
use pocketmq::{FileSizes, Message, Store};

fn filled(bytes: u64) -> TestStore {
    let sizes = FileSizes { commit_log: 64 << 20, ..FileSizes::default() };
    let store = TestStore::builder(move |builder| builder.file_sizes(sizes));
    let producer = store.producer("bench").unwrap();
    let message = Message::new("bench", vec![7; 1_024]);
    (0..bytes / 1_150).for_each(|_| drop(producer.send(&message).unwrap()));
    store
}

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    for mebibytes in [64_u64, 256] {
        group.throughput(Throughput::Bytes(mebibytes << 20));
        group.bench_function(BenchmarkId::new("after a kill, MiB of log", mebibytes), |bencher| {
            bencher.iter_batched(
                || filled(mebibytes << 20).kill_into_folder(),
                |folder| folder.open().unwrap(),
                BatchSize::PerIteration,
            );
        });
        let dir = tempfile::tempdir().unwrap();
        let sizes = FileSizes { commit_log: 64 << 20, ..FileSizes::default() };
        let store = Store::builder(dir.path()).file_sizes(sizes).open().unwrap();
        let producer = store.producer("bench").unwrap();
        let message = Message::new("bench", vec![7; 1_024]);
        (0..(mebibytes << 20) / 1_150).for_each(|_| drop(producer.send(&message).unwrap()));
        store.close().unwrap();
        group.bench_function(BenchmarkId::new("after a clean stop, MiB of log", mebibytes), |bencher| {
            bencher.iter(|| Store::open(dir.path()).unwrap());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = recovery
}
criterion_main!(benches);
