//! Does anything that was acknowledged get lost when the process is killed, again and again?
//!
//! A child process sends and consumes as fast as it can and says on its standard output what was acknowledged. The
//! parent kills it with SIGKILL at a random moment, opens the folder, and compares (contract D1, D9, D10). Both flush
//! policies, several kills each on the same folder, so that every recovery stands on the one before; and both again
//! with a small log whose oldest files go all the time: then a message may be gone only if it was consumed (D16). A plain
//! program instead of a test harness, because the child is the same program.
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

use pocketmq::{
    FileSizes, Filter, FlushPolicy, Limit, Limits, Message, Overflow, PullStatus, QueueOffset, Retention,
    Store, TopicConfig,
};

const CHILD: &str = "POCKETMQ_CRASH_CHILD";
const POLICY: &str = "POCKETMQ_CRASH_POLICY";
/// Says that the child consumes, transforms and produces.
const PIPELINE: &str = "POCKETMQ_CRASH_PIPELINE";
const KILLS: u32 = 12;
const QUEUES: u32 = 3;
const SENDERS: u64 = 2;

/// Bytes of a file of the log.
const FILE: u64 = 256 << 10;
/// Bytes of the log where it is kept small.
const LOG_MAX: u64 = 4 * FILE;

/// How the store of a loop is opened.
#[derive(Debug, Clone, Copy)]
struct Mode {
    flush: FlushPolicy,
    /// Whether the log is kept small.
    small: bool,
}

impl Mode {
    const ALL: [Self; 4] = [
        Self { flush: FlushPolicy::Async, small: false },
        Self { flush: FlushPolicy::Sync, small: false },
        Self { flush: FlushPolicy::Async, small: true },
        Self { flush: FlushPolicy::Sync, small: true },
    ];

    fn name(self) -> String {
        format!("{self:?}")
    }
}

fn main() {
    match std::env::var(CHILD) {
        Ok(dir) if std::env::var(PIPELINE).is_ok() => pipeline(Path::new(&dir)),
        Ok(dir) => child(Path::new(&dir)),
        Err(_) => {
            Mode::ALL.into_iter().for_each(kill_loop);
            Mode::ALL.into_iter().filter(|mode| !mode.small).for_each(pipeline_loop);
        }
    }
}

fn open(dir: &Path, mode: Mode) -> Store {
    let sizes =
        FileSizes { commit_log: FILE, consume_queue_units: 500, index_slots: 500, index_entries: 2_000 };
    let mut builder = Store::builder(dir).flush(mode.flush).file_sizes(sizes);
    if mode.small {
        // The sender waits for the consumer where the log is full, which makes a pass of retention with each file.
        let limit = Limit::new().bytes(LOG_MAX).overflow(Overflow::Block).wait(Duration::from_secs(60));
        builder =
            builder.retention(Retention::new().max_bytes(LOG_MAX / 2)).limits(Limits::new().store(limit));
    }
    builder.open().expect("the store opens after every kill")
}

/// Sends and consumes until it is killed.
fn child(dir: &Path) {
    let name = std::env::var(POLICY).unwrap();
    let store = open(dir, Mode::ALL.into_iter().find(|mode| mode.name() == name).unwrap());
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

/// Sends on what it receives, in one step with the acknowledgement, until it is killed.
fn pipeline(dir: &Path) {
    let name = std::env::var(POLICY).unwrap();
    let store = open(dir, Mode::ALL.into_iter().find(|mode| mode.name() == name).unwrap());
    let consumer = store.consumer("readers").subscribe("orders", "*").orderly().build().unwrap();
    let producer = store.producer("senders").unwrap();
    loop {
        let order = consumer.recv().unwrap();
        let line = format!("{} {}", order.queue_id(), order.queue_offset());
        if order.queue_offset().get() % 7 == 3 {
            // Of some nothing is made; that stays as it is too.
            order.ack().unwrap();
        } else {
            producer.send_and_ack(Message::new("invoices", line.clone()), order).unwrap();
        }
        // Long lines: the pipe holds few of them, so that the parent is never far behind.
        say(&format!("done {line:>250}"));
    }
}

/// Kills a pipeline again and again: each order becomes one invoice, in order, and none becomes two (contract D10).
fn pipeline_loop(mode: Mode) {
    const ORDERS: u64 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), mode);
    for topic in ["orders", "invoices"] {
        store.create_topic(topic, TopicConfig::queues(1)).unwrap();
    }
    let producer = store.producer("senders").unwrap();
    let orders: Vec<_> = (0..ORDERS).map(|n| Message::new("orders", n.to_string())).collect();
    for batch in orders.chunks(100) {
        producer.send_batch(batch).unwrap();
    }
    drop(producer);
    store.close().unwrap();
    let mut made = 0;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, dir.path())
            .env(POLICY, mode.name())
            .env(PIPELINE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut done = 0;
        let enough = 50 + (u64::from(round) * 7_919) % 900;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let words = line.unwrap();
            done = words.rsplit(' ').next().and_then(|word| word.parse().ok()).map_or(done, |n: u64| n + 1);
            if done == made + enough {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success(), "the child ended by itself");
        let store = open(dir.path(), mode);
        let queue = store.queues("orders").unwrap().remove(0);
        let committed = store.committed("readers", &queue).unwrap().unwrap().get();
        assert!(committed >= done, "{done} were done, the group is at {committed}");
        let queue = store.queues("invoices").unwrap().remove(0);
        let mut invoices = Vec::new();
        let mut at = QueueOffset::ZERO;
        loop {
            let page = store.pull(&queue, &Filter::all(), at, 256).unwrap();
            if page.status == PullStatus::NoNewMessage {
                break;
            }
            invoices.extend(page.messages.iter().map(|message| message.body_str().unwrap().into_owned()));
            at = page.next_offset;
        }
        let expected: Vec<_> = (0..committed).filter(|n| n % 7 != 3).map(|n| format!("0 {n}")).collect();
        assert_eq!(invoices, expected, "an invoice for each order before {committed}, and none for another");
        store.close().unwrap();
        made = committed;
    }
    println!("pipeline, {mode:?}: {KILLS} kills, {made} orders, none twice");
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
    /// What the consumer was about to acknowledge: it may have been killed before it could say so.
    handed_out: Option<(u32, u64)>,
    /// What was handed out when a child was killed, one each time.
    cut_short: BTreeSet<(u32, u64)>,
}

fn kill_loop(mode: Mode) {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..KILLS {
        let lines = 300 + (u64::from(round) * 7_919) % 4_000;
        let before = said.done.clone();
        let first_got = run_and_kill(dir.path(), mode, lines, &mut said);
        for (queue, offset) in first_got {
            // Everything up to the first gap in what was done is committed, and must not come back.
            let committed = (0_u64..).find(|n| !before.contains(&(queue, *n))).unwrap();
            assert!(offset >= committed, "queue {queue} gave {offset} again, committed was {committed}");
        }
        check(dir.path(), mode, &said);
    }
    println!("kill loop, {mode:?}: {KILLS} kills, {} messages acknowledged, 0 lost", said.sent.len());
}

/// Runs a child until it has said so many lines, and kills it. Returns the first offset that it consumed of each queue.
fn run_and_kill(dir: &Path, mode: Mode, lines: u64, said: &mut Said) -> HashMap<u32, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, dir)
        .env(POLICY, mode.name())
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
    said.cut_short.extend(said.handed_out.take());
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
            said.handed_out = Some((queue, offset));
        }
        _ => {
            said.done.insert((queue, offset));
            said.handed_out = None;
        }
    }
}

/// Opens the folder and compares it with what was said.
fn check(dir: &Path, mode: Mode, said: &Said) {
    let store = open(dir, mode);
    let mut found = BTreeMap::new();
    let mut starts = HashMap::new();
    for queue in store.queues("orders").unwrap() {
        let mut at = store.queue_offsets(&queue).map_or(QueueOffset::ZERO, |range| range.start);
        starts.insert(queue.queue_id(), at.get());
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
    let is_gone = |(queue, offset): &(u32, u64)| mode.small && *offset < starts[queue];
    for (place, body) in &said.sent {
        if is_gone(place) {
            let consumed = said.done.contains(place) || said.cut_short.contains(place);
            assert!(consumed, "message {place:?} is gone, and nobody has consumed it");
            continue;
        }
        assert_eq!(
            found.get(place),
            Some(body),
            "message {place:?} was acknowledged; {:?}",
            store.recovery()
        );
    }
    if mode.small {
        let log = store.brokers()[0].log_range();
        // Two senders that come to the end of a file at the same moment may take one file more.
        assert!(log.end.since(log.start) <= LOG_MAX + FILE, "{log:?}");
    }
    for (_, sample) in said.sent.iter().filter(|(place, _)| !is_gone(place)).step_by(97) {
        let key = sample.rsplit_once('-').unwrap().0;
        let hits = store.query_by_key("orders", key).fetch().unwrap();
        assert!(hits.iter().any(|hit| hit.body_str().unwrap() == sample.as_str()), "key {key}");
    }
    store.close().unwrap();
}
