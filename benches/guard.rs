//! Has a send, a receive or a lookup become dearer? Counted, not timed: instructions, system calls and allocations.
//!
//! On: fixed inputs in a store in a temporary folder, everything at its default but the flush policy of the durable case;
//! what is counted is the calling thread's share, after a warm-up. Instructions are those of callgrind, which depend on
//! neither the load nor the clock of the machine (it has no AVX-512, so checksums count for more than they cost). Durability:
//! `append` means stored, `durable` flushed. Every count is compared with `benches/guard.txt`: more than 5 % up fails and
//! says by how much.
//!
//! Run: `cargo bench --all-features --bench guard`, with valgrind installed; `cargo bench --bench guard -- --write` notes new figures, to be
//! committed with the change that explains them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, and says what it counted"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use pocketmq::{Filter, FlushPolicy, Message, QueueOffset, SendReceipt, Store, TopicConfig};

/// How much dearer a figure may be than the committed one, in percent.
const SLACK_PERCENT: f64 = 5.0;
/// And by how much at least before it counts: whether a thread must be woken depends on the scheduler, and a call that
/// is made for every message is a whole one.
const SLACK_FLOOR: f64 = 0.5;
/// Operations before the count begins.
const WARM_UP: u64 = 256;

/// What is counted of one kind of operation.
struct Case {
    name: &'static str,
    /// How many operations are counted.
    count: u64,
    /// How many messages one operation is about.
    messages: u64,
    /// Makes the store and returns the operation.
    operation: fn(total: u64) -> Box<dyn FnMut()>,
}

const CASES: [Case; 9] = [
    Case { name: "append_100_b", count: 8_000, messages: 1, operation: |_| append(FlushPolicy::Async, 100) },
    Case {
        name: "append_1_kib",
        count: 8_000,
        messages: 1,
        operation: |_| append(FlushPolicy::Async, 1_024),
    },
    Case { name: "append_keyed_1_kib", count: 8_000, messages: 1, operation: |_| append_keyed() },
    Case { name: "append_ticket_100_b", count: 8_000, messages: 1, operation: |_| append_ticket() },
    Case { name: "durable_1_kib", count: 400, messages: 1, operation: |_| append(FlushPolicy::Sync, 1_024) },
    Case { name: "receive_and_ack_1_kib", count: 8_000, messages: 1, operation: receive },
    Case { name: "pull_1_kib", count: 400, messages: 32, operation: pull },
    Case { name: "lookup_by_key", count: 1_000, messages: 1, operation: |_| by_key() },
    Case { name: "lookup_by_id", count: 1_000, messages: 1, operation: |_| by_id() },
];

fn store(flush: FlushPolicy, queues: u32) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).flush(flush).open().unwrap();
    store.create_topic("guard", TopicConfig::queues(queues)).unwrap();
    (dir, store)
}

fn message(size: usize) -> Message {
    Message::new("guard", vec![7; size])
}

fn append(flush: FlushPolicy, size: usize) -> Box<dyn FnMut()> {
    let (dir, store) = store(flush, 4);
    let (producer, message) = (store.producer("guard").unwrap(), message(size));
    Box::new(move || {
        std::hint::black_box((producer.send(&message).unwrap(), &dir, &store));
    })
}

fn append_keyed() -> Box<dyn FnMut()> {
    let (dir, store) = store(FlushPolicy::Async, 4);
    let producer = store.producer("guard").unwrap();
    let message = message(1_024).tag("created").key("order-42").property("currency", "EUR");
    Box::new(move || {
        std::hint::black_box((producer.send(&message).unwrap(), &dir, &store));
    })
}

fn append_ticket() -> Box<dyn FnMut()> {
    let (dir, store) = store(FlushPolicy::Async, 4);
    let (producer, message) = (store.producer("guard").unwrap(), message(100));
    Box::new(move || {
        std::hint::black_box((producer.send_async(&message).wait().unwrap(), &dir, &store));
    })
}

/// A store of so many messages in as many queues.
fn filled(count: u64, queues: u32) -> (tempfile::TempDir, Store, Vec<SendReceipt>) {
    let (dir, store) = store(FlushPolicy::Async, queues);
    let producer = store.producer("guard").unwrap();
    let send = |n| producer.send(message(1_024).tag("created").key(format!("key-{n}"))).unwrap();
    let receipts = (0..count).map(send).collect();
    // The first lookup lets the index catch up.
    store.query_by_key("guard", "key-0").fetch().unwrap();
    (dir, store, receipts)
}

fn receive(total: u64) -> Box<dyn FnMut()> {
    let (dir, store, _) = filled(total, 4);
    let consumer = store.consumer("guard").subscribe("guard", "*").build().unwrap();
    Box::new(move || {
        let delivery = consumer.recv().unwrap();
        std::hint::black_box((delivery.raw_body(), &dir, &store));
        delivery.ack().unwrap();
    })
}

fn pull(total: u64) -> Box<dyn FnMut()> {
    let (dir, store, _) = filled(total, 1);
    let (queue, filter) = (store.queues("guard").unwrap().remove(0), Filter::all());
    let mut at = QueueOffset::ZERO;
    Box::new(move || {
        let page = store.pull(&queue, &filter, at, 32).unwrap();
        assert_eq!(page.messages.len(), 32);
        page.messages
            .iter()
            .for_each(|message| assert_eq!(std::hint::black_box((message.raw_body(), &dir)).0.len(), 1_024));
        at = page.next_offset;
    })
}

fn by_key() -> Box<dyn FnMut()> {
    let (dir, store, receipts) = filled(4_096, 4);
    let mut n = 0;
    Box::new(move || {
        n = (n + 1_009) % receipts.len();
        let found = store.query_by_key("guard", format!("key-{n}")).limit(1).fetch().unwrap();
        assert_eq!(std::hint::black_box((found.len(), &dir)).0, 1);
    })
}

fn by_id() -> Box<dyn FnMut()> {
    let (dir, store, receipts) = filled(4_096, 4);
    let mut n = 0;
    Box::new(move || {
        n = (n + 1_009) % receipts.len();
        let found = store.message(receipts.get(n).unwrap().message_id()).unwrap();
        assert!(std::hint::black_box((found, &dir)).0.is_some());
    })
}

/// What callgrind counts is this function and all that it calls.
#[inline(never)]
fn measured(count: u64, operation: &mut dyn FnMut()) {
    (0..count).for_each(|_| operation());
}

/// Runs one case in this process, and prints the allocations that its operations made.
fn run(case: &Case, count: u64) {
    let mut operation = (case.operation)((count + WARM_UP) * case.messages);
    (0..WARM_UP).for_each(|_| operation());
    let counted = allocation_counter::measure(|| measured(count, &mut operation));
    println!("{}", counted.count_total);
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Runs a case in a process of its own, under valgrind where options for it are given; returns what it printed.
fn child(options: &[String], case: &Case, count: u64) -> String {
    let mut command = if options.is_empty() {
        Command::new(this_program())
    } else {
        let mut command = Command::new("valgrind");
        command.args(options).arg(this_program());
        command
    };
    let output = command.args(["--case", case.name, &count.to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} ended with {}:\n{said}", case.name, output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn instructions(case: &Case, dir: &Path) -> f64 {
    let out = dir.join("callgrind");
    let options = ["--tool=callgrind", "--toggle-collect=guard::measured"].map(str::to_owned);
    let file = format!("--callgrind-out-file={}", out.display());
    child(&[&options[..], &[file]].concat(), case, case.count);
    let text = std::fs::read_to_string(&out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    let total: u64 = total.trim().parse().unwrap();
    assert!(total > 0, "callgrind did not meet the function that is measured");
    per_message(total, case, case.count)
}

/// The system calls of the main thread: of a long run, less those of a short one. Without the readings of the clock, which
/// are calls only under valgrind.
fn system_calls(case: &Case, dir: &Path) -> f64 {
    let count = |operations: u64| {
        let out = dir.join("calls");
        let file = format!("--log-file={}", out.display());
        child(&["--tool=none".to_owned(), "--trace-syscalls=yes".to_owned(), file], case, operations);
        let text = String::from_utf8_lossy(&std::fs::read(&out).unwrap()).into_owned();
        let calls = text.match_indices("SYSCALL[").filter(|(at, _)| {
            let call = text.get(at + 8..).and_then(|rest| rest.split_once(']'));
            call.is_some_and(|(ids, rest)| {
                ids.ends_with(",1") && !rest.get(..40).unwrap_or(rest).contains("sys_clock_gettime")
            })
        });
        calls.count() as u64
    };
    let (short, long) = (count(case.count / 4), count(case.count));
    per_message(long.saturating_sub(short), case, case.count - case.count / 4)
}

fn allocations(case: &Case) -> f64 {
    per_message(child(&[], case, case.count).trim().parse().unwrap(), case, case.count)
}

fn per_message(total: u64, case: &Case, operations: u64) -> f64 {
    total as f64 / (operations * case.messages) as f64
}

/// Everything that is counted, by case and kind.
fn count_all() -> BTreeMap<String, f64> {
    let dir = tempfile::tempdir().unwrap();
    let mut figures = BTreeMap::new();
    for case in &CASES {
        figures.insert(format!("{} instructions", case.name), instructions(case, dir.path()));
        figures.insert(format!("{} system_calls", case.name), system_calls(case, dir.path()));
        figures.insert(format!("{} allocations", case.name), allocations(case));
    }
    figures
}

fn figures_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/guard.txt")
}

fn committed() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(figures_path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

fn write(figures: &BTreeMap<String, f64>) {
    let mut text =
        "# Per message, counted by `cargo bench --all-features --bench guard -- --write`: do not edit by hand.\n".to_owned();
    figures.iter().for_each(|(name, figure)| writeln!(text, "{name} {figure:.3}").unwrap());
    std::fs::write(figures_path(), text).unwrap();
}

/// Prints each figure beside the committed one, and returns how many are too high or not committed.
fn compare(figures: &BTreeMap<String, f64>) -> usize {
    let committed = committed();
    let mut bad = 0;
    for (name, figure) in figures {
        let Some(known) = committed.get(name) else {
            bad += 1;
            println!("{name:44} {figure:12.3}   NOT COMMITTED");
            continue;
        };
        let percent = if *known > 0.0 { (figure / known - 1.0) * 100.0 } else { 0.0 };
        let word = match figure - known {
            more if more > SLACK_FLOOR.max(known * SLACK_PERCENT / 100.0) => {
                bad += 1;
                "TOO HIGH"
            }
            less if -less > SLACK_FLOOR.max(known * SLACK_PERCENT / 100.0) => "better: note it with --write",
            _ => "",
        };
        println!("{name:44} {figure:12.3} {known:12.3} {percent:+7.1} %  {word}");
    }
    bad
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [flag, name, count] = args.as_slice()
        && flag == "--case"
    {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        run(case, count.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is missing: install it (Debian: apt-get install valgrind) and run this again");
        return ExitCode::FAILURE;
    }
    let figures = count_all();
    if args.iter().any(|arg| arg == "--write") {
        write(&figures);
    }
    let bad = compare(&figures);
    if bad == 0 {
        return ExitCode::SUCCESS;
    }
    println!(
        "{bad} of {} figures are more than {SLACK_PERCENT} % above those in benches/guard.txt. Make them smaller, or note \
         them with `cargo bench --all-features --bench guard -- --write` and say why in the commit.",
        figures.len()
    );
    ExitCode::FAILURE
}
