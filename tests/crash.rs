//! Does anything that was acknowledged get lost when the process is killed, again and again?
//!
//! A child process sends and consumes as fast as it can and says on its standard output what was acknowledged. The
//! parent kills it with SIGKILL at a random moment, opens the folder, and compares (contract D1, D9, D10). Both flush
//! policies, several kills each on the same folder, so that every recovery stands on the one before. A plain program
//! instead of a test harness, because the child is the same program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pocketmq::{FileSizes, Filter, FlushPolicy, Message, PullStatus, QueueOffset, Store, TopicConfig};

const CHILD: &str = "POCKETMQ_CRASH_CHILD";
const POLICY: &str = "POCKETMQ_CRASH_POLICY";
const KILLS: u32 = 12;
const QUEUES: u32 = 3;
const SENDERS: u64 = 2;

fn main() {
    match std::env::var(CHILD) {
        Ok(dir) => child(Path::new(&dir)),
        Err(_) => [FlushPolicy::Async, FlushPolicy::Sync].into_iter().for_each(kill_loop),
    }
}

fn open(dir: &Path, policy: FlushPolicy) -> Store {
    let sizes =
        FileSizes { commit_log: 256 << 10, consume_queue_units: 500, index_slots: 500, index_entries: 2_000 };
    Store::builder(dir).flush(policy).file_sizes(sizes).open().expect("the store opens after every kill")
}

/// Sends and consumes until it is killed.
fn child(dir: &Path) {
    let policy =
        if std::env::var(POLICY).unwrap() == "sync" { FlushPolicy::Sync } else { FlushPolicy::Async };
    let store = open(dir, policy);
    if store.topic("orders").is_none() {
        store.create_topic("orders", TopicConfig::queues(QUEUES)).unwrap();
    }
    let start: u64 = store
        .queues("orders")
        .unwrap()
        .iter()
        .map(|queue| store.queue_offsets(queue).map_or(0, |range| range.end.get()))
        .sum();
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let producer = store.producer("senders").unwrap();
            scope.spawn(move || {
                for n in start.. {
                    let body = format!("{sender}-{n}-{}", "x".repeat(usize::try_from(n % 700).unwrap()));
                    let receipt = producer
                        .send(Message::new("orders", body.clone()).key(format!("{sender}-{n}")))
                        .unwrap();
                    say(&format!("sent {} {} {body}", receipt.queue().queue_id(), receipt.queue_offset()));
                }
            });
        }
        let consumer = store.consumer("readers").subscribe("orders", "*").build().unwrap();
        loop {
            if let Some(delivery) = consumer.recv_timeout(Duration::from_secs(1)).unwrap() {
                let line = format!("{} {}", delivery.queue_id(), delivery.queue_offset());
                say(&format!("got {line}"));
                delivery.ack().unwrap();
                say(&format!("done {line}"));
            }
        }
    });
}

/// Writes a line in one piece, so that the parent never reads half of one that was finished.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

/// What the children have said so far.
#[derive(Default)]
struct Said {
    /// Queue and offset of every acknowledged message, with its body.
    sent: BTreeMap<(u32, u64), String>,
    /// Every acknowledged consumption.
    done: BTreeSet<(u32, u64)>,
}

fn kill_loop(policy: FlushPolicy) {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..KILLS {
        let lines = 300 + (u64::from(round) * 7_919) % 4_000;
        let before = said.done.clone();
        let first_got = run_and_kill(dir.path(), policy, lines, &mut said);
        for (queue, offset) in first_got {
            // Everything up to the first gap in what was done is committed, and must not come back.
            let committed = (0_u64..).find(|n| !before.contains(&(queue, *n))).unwrap();
            assert!(offset >= committed, "queue {queue} gave {offset} again, committed was {committed}");
        }
        check(dir.path(), policy, &said);
    }
    println!("kill loop, {policy:?} flush: {KILLS} kills, {} messages acknowledged, 0 lost", said.sent.len());
}

/// Runs a child until it has said so many lines, and kills it. Returns the first offset that it consumed of each queue.
fn run_and_kill(dir: &Path, policy: FlushPolicy, lines: u64, said: &mut Said) -> HashMap<u32, u64> {
    let name = if policy == FlushPolicy::Sync { "sync" } else { "async" };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, dir)
        .env(POLICY, name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut first_got = HashMap::new();
    let mut line = String::new();
    for n in 0.. {
        if n == lines {
            child.kill().unwrap();
        }
        line.clear();
        if reader.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        hear(line.trim_end(), said, &mut first_got);
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child ended by itself");
    first_got
}

fn hear(line: &str, said: &mut Said, first_got: &mut HashMap<u32, u64>) {
    let mut words = line.split(' ');
    let kind = words.next().unwrap();
    let queue: u32 = words.next().unwrap().parse().unwrap();
    let offset: u64 = words.next().unwrap().parse().unwrap();
    match kind {
        "sent" => {
            let body = words.next().unwrap().to_owned();
            let before = said.sent.insert((queue, offset), body);
            assert!(before.is_none(), "two messages got offset {offset} of queue {queue}");
        }
        "got" => {
            first_got.entry(queue).or_insert(offset);
        }
        _ => {
            said.done.insert((queue, offset));
        }
    }
}

/// Opens the folder and compares it with what was said.
fn check(dir: &Path, policy: FlushPolicy, said: &Said) {
    let store = open(dir, policy);
    let mut found = BTreeMap::new();
    for queue in store.queues("orders").unwrap() {
        let mut at = QueueOffset::ZERO;
        loop {
            let pulled = store.pull(&queue, &Filter::all(), at, 32).unwrap();
            if pulled.status == PullStatus::NoNewMessage {
                break;
            }
            for message in &pulled.messages {
                let place = (queue.queue_id(), message.queue_offset().get());
                found.insert(place, message.body_str().unwrap().into_owned());
            }
            at = pulled.next_offset;
        }
    }
    for (place, body) in &said.sent {
        assert_eq!(
            found.get(place),
            Some(body),
            "message {place:?} was acknowledged; {:?}",
            store.recovery()
        );
    }
    for sample in said.sent.values().step_by(97) {
        let key = sample.rsplit_once('-').unwrap().0;
        let hits = store.query_by_key("orders", key).fetch().unwrap();
        assert!(hits.iter().any(|hit| hit.body_str().unwrap() == sample.as_str()), "key {key}");
    }
    store.close().unwrap();
}
