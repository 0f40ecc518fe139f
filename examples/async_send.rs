//! How does one thread keep the disk busy? It sends asynchronously, and many messages share each flush.
//!
//! `cargo run --release --example async_send -- [MESSAGES] [DIR]`: sends the same number of messages four times under sync
//! flush (each is on disk when its answer comes) and prints how many a second that makes: one by one, with tickets,
//! with callbacks, in batches. Without a folder, in one that is removed at the end.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(clippy::disallowed_methods, reason = "an example reads the clock of the machine")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

use pocketmq::{Durability, FlushPolicy, Message, Producer, Result, SendTicket, Store, WhenBusy};

/// Tickets that are kept in flight: so many messages share a flush.
const IN_FLIGHT: usize = 64;

/// Sends so many messages and returns how many are on disk.
type Way = fn(&Producer, u32) -> Result<u32>;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let count: u32 = match arguments.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => 5_000,
    };
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);

    let store = Store::builder(dir).flush(FlushPolicy::Sync).open()?;
    let producer = store.producer_builder("shop").when_busy(WhenBusy::Wait).build()?;
    let ways: [(&str, Way); 4] = [
        ("one by one", one_by_one),
        ("with tickets", with_tickets),
        ("with callbacks", with_callbacks),
        ("in batches", in_batches),
    ];
    for (name, way) in ways {
        let started = Instant::now();
        let flushed = way(&producer, count)?;
        let seconds = started.elapsed().as_secs_f64();
        println!("{name}: {flushed} messages on disk, {:.0} a second", f64::from(flushed) / seconds);
        assert_eq!(flushed, count);
    }
    Ok(store.close()?)
}

fn message(n: u32) -> Message {
    Message::new("orders", vec![7; 1_024]).key(format!("order-{n}"))
}

/// Each message waits for a flush of its own.
fn one_by_one(producer: &Producer, count: u32) -> Result<u32> {
    let mut flushed = 0;
    for n in 0..count {
        flushed += u32::from(producer.send(message(n))?.durability() == Durability::Flushed);
    }
    Ok(flushed)
}

/// The thread goes on sending while the oldest tickets are still open; whoever has to wait flushes for all of them.
fn with_tickets(producer: &Producer, count: u32) -> Result<u32> {
    let mut open: VecDeque<SendTicket> = VecDeque::with_capacity(IN_FLIGHT);
    let mut flushed = 0;
    for n in 0..count {
        if open.len() == IN_FLIGHT
            && let Some(oldest) = open.pop_front()
        {
            flushed += u32::from(oldest.wait()?.durability() == Durability::Flushed);
        }
        open.push_back(producer.send_async(message(n)));
    }
    for ticket in open {
        flushed += u32::from(ticket.wait()?.durability() == Durability::Flushed);
    }
    Ok(flushed)
}

/// The answers come in a thread of the producer's. Where too many are open, the sender waits (`WhenBusy::Wait`).
fn with_callbacks(producer: &Producer, count: u32) -> Result<u32> {
    let (sender, answers) = mpsc::channel();
    for n in 0..count {
        let sender = sender.clone();
        // Nobody listens any more where the program gave up.
        producer.send_then(message(n), move |answer| drop(sender.send(answer)))?;
    }
    drop(sender);
    answers.iter().try_fold(0, |flushed, answer: Result<_>| {
        Ok(flushed + u32::from(answer?.durability() == Durability::Flushed))
    })
}

/// All messages of a batch share one append and one flush.
fn in_batches(producer: &Producer, count: u32) -> Result<u32> {
    let mut flushed = 0;
    for receipt in producer.send_batches((0..count).map(message)) {
        let receipt = receipt?;
        assert_eq!(receipt.durability(), Durability::Flushed);
        flushed += u32::try_from(receipt.batch().len()).unwrap_or(u32::MAX);
    }
    Ok(flushed)
}
