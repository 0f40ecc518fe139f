//! How does money get from one bank to another, whatever dies in between, without a coin more or less?
//!
//! First RocketMQ's classic: two transactions, one committed, one rolled back; the consumer gets one message. Then two
//! banks, each with a file of bookings. The sending bank stores a half message, books, and commits; the receiving bank
//! books what it gets. A child process transfers until it is killed: once exactly between the booking and its decision,
//! then again and again at any moment. What is undecided is checked against the bookings, and the sum over both banks
//! must be what it was. Run: `cargo run --release --example bank_transfer`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "an example talks")]

mod ledger;

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ledger::{ACCOUNTS, Bank, Booking, Place};
use pocketmq::{LocalTransactionState, Message, MessageView, Store, TransactionPolicy, TransactionProducer};

/// Kills at a moment that nobody chose.
const KILLS: u64 = 20;
/// What each account of the sending bank has at first: so little that some transfers must be rolled back.
const FIRST: i64 = 50_000;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    match (words.next().as_deref(), words.next(), words.next()) {
        (Some("child"), Some(dir), Some(round)) => child(&Place { dir: dir.into() }, round.parse()?),
        _ => parent(),
    }
}

fn parent() -> Outcome {
    let dir = tempfile::tempdir()?;
    two_transactions(&dir.path().join("two"))?;
    let place = Place { dir: dir.path().to_path_buf() };
    let mut said = Said::default();
    // Round 0 stops between the booking and its decision, and is killed there.
    for round in 0..=KILLS {
        kill_child(&place, round, &mut said)?;
        let resolved = settle(&place, &said)?;
        if round == 0 {
            assert_eq!(resolved, 1, "the transfer that was booked and not decided");
            println!("killed between the booking and the commit: the check committed it, and it arrived");
        }
        said.resolved += resolved;
    }
    let sum = Bank::open(&place.sender(), FIRST)?.sum() + Bank::open(&place.receiver(), 0)?.sum();
    let expected = FIRST * i64::try_from(ACCOUNTS)?;
    println!(
        "crashes={} committed={} rolled_back={} checked={} sum={sum} of {expected}",
        KILLS + 1,
        said.committed.len(),
        said.rolled_back.len(),
        said.resolved,
    );
    assert_eq!(sum, expected);
    assert!(!said.rolled_back.is_empty() && !said.committed.is_empty());
    Ok(())
}

/// The article's two transactions.
fn two_transactions(dir: &std::path::Path) -> Outcome {
    let store = Store::open(dir)?;
    let producer = store.transaction_producer("bank", |_: &MessageView| LocalTransactionState::Unknown)?;
    let consumer = store.consumer("other-bank").subscribe("TopicTransaction", "*").build()?;
    for (tag, state) in
        [("transaction1", LocalTransactionState::Commit), ("transaction2", LocalTransactionState::Rollback)]
    {
        let message = Message::new("TopicTransaction", format!("hello {tag}")).tag(tag).key(tag);
        let receipt = producer.send_in_transaction(message, |_| state)?;
        println!("{receipt}");
    }
    let mut received = Vec::new();
    consumer.drain(|message| received.push(message.tag().to_owned()))?;
    println!("received: {}", received.join(", "));
    assert_eq!(received, ["transaction1"]);
    Ok(store.close()?)
}

/// What the children have said.
#[derive(Default)]
struct Said {
    committed: BTreeSet<String>,
    rolled_back: BTreeSet<String>,
    resolved: usize,
}

fn kill_child(place: &Place, round: u64, said: &mut Said) -> Outcome {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child".into(), place.dir.clone(), PathBuf::from(round.to_string())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let enough = if round == 0 { 1 } else { 50 + (round * 7_919) % 1_500 };
    let mut left = enough;
    while left > 0 {
        let line = lines.next().ok_or("the child has ended by itself")??;
        said.note(&line);
        left -= 1;
    }
    // SIGKILL.
    child.kill()?;
    child.wait()?;
    // What it still said before it died counts; a line that was cut off does not.
    for line in lines.map_while(Result::ok) {
        said.note(&line);
    }
    Ok(())
}

impl Said {
    fn note(&mut self, line: &str) {
        // A key without its end would be another transfer's.
        let Some((word, key)) = line.strip_suffix(';').and_then(|line| line.split_once(' ')) else { return };
        match word {
            "committed" => self.committed.insert(key.to_owned()),
            "rolled_back" => self.rolled_back.insert(key.to_owned()),
            _ => false,
        };
    }
}

/// Transfers money until it is killed.
fn child(place: &Place, round: u64) -> Outcome {
    let bank = Arc::new(Bank::open(&place.sender(), FIRST)?);
    let store = Store::open(place.store())?;
    let producer = checked_producer(&store, &bank)?;
    let mut out = std::io::stdout().lock();
    let mut numbers = round.wrapping_mul(2_654_435_761);
    for n in 0_u64.. {
        let key = format!("transfer-{round}-{n}");
        numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, to, amount) = (
            (numbers >> 33) % ACCOUNTS,
            (numbers >> 43) % ACCOUNTS,
            i64::try_from((numbers >> 53) % 100)? + 1,
        );
        let message = Message::new("transfers", format!("{to} {amount}")).key(&key);
        let transaction = producer.begin(message)?;
        if bank.book(&key, Booking { account: from, amount: -amount })? {
            if round == 0 {
                writeln!(out, "booked {key};")?;
                out.flush()?;
                // Here the parent kills: booked, and not decided. It holds the other end of this, and writes nothing.
                std::io::stdin().read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            transaction.commit()?;
            writeln!(out, "committed {key};")?;
        } else {
            transaction.rollback()?;
            writeln!(out, "rolled_back {key};")?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Makes the producer of the sending bank. Checks ask its bookings: the process that began what is not booked is dead,
/// or has had six seconds for a booking that takes microseconds.
fn checked_producer(store: &Store, bank: &Arc<Bank>) -> Outcome<TransactionProducer> {
    let bank = Arc::clone(bank);
    Ok(store.transaction_producer("sender", move |message: &MessageView| match message.keys().next() {
        Some(key) if bank.has(key) => LocalTransactionState::Commit,
        _ => LocalTransactionState::Rollback,
    })?)
}

/// Opens everything after a kill, has what is undecided checked, lets the receiving bank book, and compares. Returns how
/// many were undecided.
fn settle(place: &Place, said: &Said) -> Outcome<usize> {
    let sender = Arc::new(Bank::open(&place.sender(), FIRST)?);
    let receiver = Bank::open(&place.receiver(), 0)?;
    // The one who began them is dead: nothing to wait for.
    let policy = TransactionPolicy::new().immunity(Duration::ZERO);
    let store = Store::builder(place.store()).transactions(policy).open()?;
    let undecided = store.admin().half_messages(usize::MAX)?.len();
    let consumer = store.consumer("receiver").subscribe("transfers", "*").build()?;
    let producer = checked_producer(&store, &sender)?;
    loop {
        let all_decided = store.admin().half_messages(1)?.is_empty();
        while let Some(delivery) = consumer.recv_timeout(Duration::from_millis(20))? {
            let text = delivery.body_str()?.into_owned();
            let (to, amount) = text.split_once(' ').ok_or("not a transfer")?;
            let key = delivery.keys().next().ok_or("no key")?.to_owned();
            receiver.book(&key, Booking { account: to.parse()?, amount: amount.parse()? })?;
            delivery.ack()?;
        }
        if all_decided {
            break;
        }
    }
    // Every transfer that left one bank has reached the other, and no other has.
    assert_eq!(sender.keys(), receiver.keys());
    assert_eq!(sender.sum() + receiver.sum(), sender.first_sum());
    assert!(said.committed.iter().all(|key| receiver.has(key)), "committed, and lost");
    assert!(!said.rolled_back.iter().any(|key| receiver.has(key)), "rolled back, and delivered");
    drop((consumer, producer));
    store.close()?;
    Ok(undecided)
}
