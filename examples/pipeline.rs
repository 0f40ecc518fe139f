//! How does consume-transform-produce repeat nothing, however often its process is killed?
//!
//! A child turns each order into an invoice, and sends it and acknowledges the order in one step: one broker, one log, so a
//! crash leaves both or neither. Its parent kills it again and again, in the end does the rest itself, and counts.
//!
//! `cargo run --example pipeline`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pocketmq::{Filter, Message, PullStatus, QueueOffset, Store, TopicConfig};

const ORDERS: usize = 20_000;
const KILLS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    if let Some(dir) = arguments.next() {
        return child(Path::new(&dir));
    }
    let dir = tempfile::tempdir()?;
    println!("1. {ORDERS} orders.");
    let store = Store::open(dir.path())?;
    store.create_topic("orders", TopicConfig::queues(2))?;
    store.create_topic("invoices", TopicConfig::queues(2))?;
    let producer = store.producer("shop")?;
    for number in 0..ORDERS {
        producer.send(Message::new("orders", number.to_string()))?;
    }
    drop(producer);
    store.close()?;

    println!("2. A process that makes an invoice of each, killed {KILLS} times.");
    for kill in 1..=KILLS {
        println!("   kill {kill}: it had said that {} were done", run_and_kill(dir.path(), kill * 400)?);
    }

    println!("3. The rest, without a kill.");
    let store = Store::open(dir.path())?;
    make_invoices(&store, |_| Ok(()))?;
    let (invoices, twice) = count(&store)?;
    println!("orders={ORDERS} invoices={invoices} lost={} twice={twice}", ORDERS - (invoices - twice));
    assert_eq!((invoices, twice), (ORDERS, 0));
    Ok(store.close()?)
}

/// Makes an invoice of every order that is left.
fn make_invoices(store: &Store, mut done: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let consumer = store.consumer("billing").subscribe("orders", "*").orderly().build()?;
    let producer = store.producer("billing")?;
    let mut count = 0;
    while let Some(order) = consumer.recv_timeout(Duration::from_millis(200))? {
        let invoice = Message::new("invoices", format!("for order {}", order.body_str()?));
        // Not two steps: a kill between them would make the invoice again.
        producer.send_and_ack(invoice, order)?;
        count += 1;
        done(count)?;
    }
    Ok(())
}

fn child(dir: &Path) -> Result<()> {
    let store = Store::open(dir)?;
    // Long lines: the pipe holds few of them, so that the parent is never far behind.
    make_invoices(&store, |count| Ok(writeln!(std::io::stdout().lock(), "{count:>250}")?))
}

/// Runs the child until it has made so many invoices, kills it, and returns how many it said it had made.
fn run_and_kill(dir: &Path, enough: usize) -> Result<usize> {
    let mut child = Command::new(std::env::current_exe()?).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut count = 0;
    for line in BufReader::new(child.stdout.take().ok_or("the child has no output")?).lines() {
        count = line?.trim().parse().unwrap_or(count);
        if count == enough {
            child.kill()?;
        }
    }
    if child.wait()?.success() {
        return Err("the child was done before it could be killed".into());
    }
    Ok(count)
}

/// Counts the invoices, and those that are there a second time.
fn count(store: &Store) -> Result<(usize, usize)> {
    let mut seen = std::collections::HashSet::new();
    let mut count = 0;
    for queue in store.queues("invoices")? {
        let mut at = QueueOffset::ZERO;
        loop {
            let page = store.pull(&queue, &Filter::all(), at, 256)?;
            if page.status == PullStatus::NoNewMessage {
                break;
            }
            for invoice in &page.messages {
                count += 1;
                seen.insert(invoice.body_str()?.into_owned());
            }
            at = page.next_offset;
        }
    }
    Ok((count, count - seen.len()))
}
