//! How fast is appending, beside the fastest peers, in one run?
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` measures one producer appending 1 KiB messages under
//! async flush (nobody syncs inside the timed section but the store's own flusher), each contender several times in
//! turn, and prints the medians. `--write` puts the table into `docs/performance.md`. `--dir DIR` names the disk, `--only TEXT` the
//! contenders whose names contain a text.
//!
//! Two traps are avoided: a virtual machine gives freed memory back to its host and touching it again is slow, so
//! every run first touches and frees as much memory as it will fill; and single figures are noise, so the runs are
//! interleaved and the median counts.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pocketmq::{FileSizes, Message, RecordChecksum, Store, TopicConfig};

const BODY: usize = 1_024;
const COUNT: usize = 400_000;
const ROUNDS: usize = 7;
/// Bytes that are touched and freed before every run: more than any run fills.
const MEMORY: usize = 6 << 30;
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

type Contender = (&'static str, fn(&Path, &[u8]) -> Duration);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let base = arguments
        .iter()
        .position(|argument| argument == "--dir")
        .and_then(|at| arguments.get(at + 1))
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let contenders: [Contender; 4] = [
        ("pocketmq, defaults: queue unit, unique id, key index, whole-record checksum", ours_with_defaults),
        ("pocketmq, body checksum only", ours_with_body_checksum),
        ("khata-rs 0.1.1: a bare log, one writer, no checksum", khata),
        ("commitlog 0.2.0: never syncs", commitlog),
    ];
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    let contenders: Vec<Contender> =
        contenders.into_iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only.as_str()))).collect();
    let body: Vec<u8> = (0..BODY).map(|n| (n * 31 % 251) as u8).collect();
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 1..=ROUNDS {
        for ((name, run), times) in contenders.iter().zip(&mut times) {
            let dir = tempfile::tempdir_in(&base).expect("a folder for the run");
            touch_memory(MEMORY);
            let took = run(dir.path(), &body);
            eprintln!("round {round} of {ROUNDS}: {:>6.0} k/s  {name}", rate(took) / 1e3);
            times.push(took);
        }
    }
    let table = table(&contenders, times);
    print!("{table}");
    if arguments.iter().any(|argument| argument == "--write") {
        write_down(&table);
    }
}

fn rate(took: Duration) -> f64 {
    COUNT as f64 / took.as_secs_f64()
}

/// Touches and frees memory, so that the host has it ready.
fn touch_memory(len: usize) {
    let mut memory = vec![0_u8; len];
    memory.iter_mut().step_by(4_096).for_each(|byte| *byte = 1);
    black_box(&memory);
}

fn ours(dir: &Path, body: &[u8], checksum: RecordChecksum) -> Duration {
    let store = Store::builder(dir)
        .file_sizes(FileSizes { commit_log: 256 << 20, ..FileSizes::default() })
        .record_checksum(checksum)
        .open()
        .expect("a store");
    store.create_topic("bench", TopicConfig::queues(4)).expect("a topic");
    let producer = store.producer("bench").expect("a producer");
    let message = Message::new("bench", body.to_vec());
    let started = Instant::now();
    for _ in 0..COUNT {
        black_box(producer.send(&message).expect("stored"));
    }
    let took = started.elapsed();
    store.close().expect("closed");
    took
}

fn ours_with_defaults(dir: &Path, body: &[u8]) -> Duration {
    ours(dir, body, RecordChecksum::WholeRecord)
}

fn ours_with_body_checksum(dir: &Path, body: &[u8]) -> Duration {
    ours(dir, body, RecordChecksum::BodyOnly)
}

fn khata(dir: &Path, body: &[u8]) -> Duration {
    let queue = khata_rs::Queue::new(dir).block_size(1 << 30).build().expect("a queue");
    let mut writer = queue.writer().expect("a writer");
    let started = Instant::now();
    for _ in 0..COUNT {
        black_box(writer.write(body).expect("stored"));
    }
    started.elapsed()
}

fn commitlog(dir: &Path, body: &[u8]) -> Duration {
    let mut options = commitlog::LogOptions::new(dir);
    options.segment_max_bytes(256 << 20).message_max_bytes(1 << 20);
    let mut log = commitlog::CommitLog::new(options).expect("a log");
    let started = Instant::now();
    for _ in 0..COUNT {
        black_box(log.append_msg(body).expect("stored"));
    }
    started.elapsed()
}

fn table(contenders: &[Contender], times: Vec<Vec<Duration>>) -> String {
    let medians: Vec<Duration> = times
        .into_iter()
        .map(|mut times| {
            times.sort();
            times[times.len() / 2]
        })
        .collect();
    let ours = rate(medians[0]);
    let mut text = String::new();
    let _ = writeln!(text, "Append, 1 KiB bodies, one producer, async flush; medians of {ROUNDS} interleaved runs of {COUNT} messages.\n");
    let _ = writeln!(text, "| contender | messages/s | ns a message | pocketmq with defaults is faster by |\n|---|--:|--:|--:|");
    for ((name, _), took) in contenders.iter().zip(medians) {
        let nanos = took.as_nanos() / COUNT as u128;
        let _ = writeln!(text, "| {name} | {:.0} | {nanos} | {:.2} × |", rate(took), ours / rate(took));
    }
    text
}

/// Replaces the table in the document, between its two marks.
fn write_down(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
    let text = std::fs::read_to_string(&path).expect("docs/performance.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark where the table begins");
    let (_, after) = rest.split_once(END).expect("the mark where the table ends");
    std::fs::write(path, format!("{before}{BEGIN}\n{table}{END}{after}")).expect("docs/performance.md");
}
