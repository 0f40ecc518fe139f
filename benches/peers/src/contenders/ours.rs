//! Ourselves, twice: with every default, and as close to a peer as the settings allow.
//!
//! *Like for like* checks the body only, as RocketMQ does by default and most peers do not even do, and uses larger log
//! files, as peers do. Unique ids and the index cannot be switched off, so they stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pocketmq::{
    FileSizes, Filter, FlushPolicy, Message, Producer, PullStatus, QueueOffset, RecordChecksum, Store,
    StoreBuilder, TopicConfig,
};

use crate::contender::{Can, Contender, DEFAULTS, LIKE, Load, Log, Place, Tally, Writer};
use crate::job::{Flush, Outcome};

pub const TOPIC: &str = "bench";
const EVERYTHING: Can =
    Can { relaxed: true, durable: true, batch: true, keys: true, read: true, reopen: true };

pub const WITH_DEFAULTS: Contender = Contender {
    name: DEFAULTS,
    open: |place| open(builder(place)),
    can: EVERYTHING,
    about: "queue units, unique ids, key index, checksum of the whole record, log files of 64 MiB",
};

pub const LIKE_FOR_LIKE: Contender = Contender {
    name: LIKE,
    open: |place| open(like_for_like(place)),
    can: EVERYTHING,
    about: "checksum of the body only, log files of 256 MiB; queue units, unique ids and key index cannot be switched off",
};

pub fn is_ours(name: &str) -> bool {
    [DEFAULTS, LIKE].contains(&name)
}

pub fn builder(place: &Place) -> StoreBuilder {
    let flush = match place.flush {
        Flush::Async => FlushPolicy::Async,
        Flush::Sync => FlushPolicy::Sync,
    };
    let builder = Store::builder(&place.dir).flush(flush);
    if place.checkpoints { builder.offset_persist_interval(Duration::from_millis(200)) } else { builder }
}

pub fn like_for_like(place: &Place) -> StoreBuilder {
    let sizes = FileSizes { commit_log: 256 << 20, ..FileSizes::default() };
    builder(place).record_checksum(RecordChecksum::BodyOnly).file_sizes(sizes)
}

fn open(builder: StoreBuilder) -> Result<Box<dyn Log>> {
    let store = builder.open()?;
    if store.topic(TOPIC).is_none() {
        store.create_topic(TOPIC, TopicConfig::queues(4))?;
    }
    Ok(Box::new(Ours { store }))
}

/// Opens the store alone, and says what it found.
pub fn reopen(place: &Place, name: &str) -> Result<Outcome> {
    let builder = if name == LIKE { like_for_like(place) } else { builder(place) };
    let started = Instant::now();
    let store = builder.open()?;
    let took = started.elapsed();
    let report = store.recovery().first().context("a report of the opening")?;
    let outcome = Outcome::default()
        .set("seconds", took.as_secs_f64())
        .set("verified_bytes", report.end.since(report.scanned_from) as f64)
        .set("records", report.records as f64)
        .set("rewritten_bytes", report.rewritten_bytes as f64)
        .set("units_rebuilt", report.units_rebuilt as f64);
    std::mem::forget(store);
    Ok(outcome)
}

struct Ours {
    store: Store,
}

impl Log for Ours {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        let message = |key: Option<&str>| {
            let message = Message::new(TOPIC, load.body.clone());
            key.map_or(message.clone(), |key| message.key(key))
        };
        let count = load.keys.len().max(load.batch) as u64;
        Ok(Box::new(OurWriter {
            producer: self.store.producer("bench")?,
            messages: (0..count).map(|n| message(load.key(n))).collect(),
            batch: load.batch,
        }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let filter = Filter::all();
        for queue in self.store.queues(TOPIC)? {
            let mut at = QueueOffset::ZERO;
            loop {
                let page = self.store.pull(&queue, &filter, at, 256)?;
                page.messages.iter().for_each(|message| read.body(message.raw_body()));
                if page.status == PullStatus::NoNewMessage {
                    break;
                }
                at = page.next_offset;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        // The flusher's turn has come and gone: the log is flushed, but no checkpoint is written, as `Store::flush` would.
        std::thread::sleep(Duration::from_millis(1_200));
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

struct OurWriter {
    producer: Producer,
    /// Prepared, as an application has them that sends what it was given.
    messages: Vec<Message>,
    batch: usize,
}

impl Writer for OurWriter {
    #[inline]
    fn append(&mut self, n: u64) -> Result<()> {
        let message = &self.messages[n as usize % self.messages.len()];
        let receipt = self.producer.send(message)?;
        std::hint::black_box(&receipt);
        Ok(())
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        let from = n as usize % self.messages.len();
        let batch = self.messages.get(from..from + self.batch).unwrap_or(&self.messages[..self.batch]);
        let receipt = self.producer.send_batch(batch)?;
        ensure!(receipt.batch().len() == self.batch, "a batch of another size");
        Ok(())
    }
}
