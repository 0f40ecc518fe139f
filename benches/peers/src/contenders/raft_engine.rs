//! raft-engine 0.4.2: TiKV's log of Raft entries, with group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
// A message of protobuf's own with a number and bytes in it: on the wire just what a generated entry is.
use protobuf::descriptor::UninterpretedOption as Entry;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "raft-engine 0.4.2",
    open,
    can: Can { relaxed: true, durable: true, batch: true, keys: false, read: true, reopen: true },
    about: "each producer appends to a Raft group of its own; compression off; every index entry stays in memory",
};

/// Entries that one read fetches.
const PAGE: u64 = 256;

#[derive(Clone)]
struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Self::Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let config = Config {
        dir: place.dir.to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize::kb(0),
        ..Config::default()
    };
    let engine = Arc::new(Engine::open(config)?);
    Ok(Box::new(Raft { engine, groups: AtomicU64::new(1), sync: place.flush == Flush::Sync }))
}

struct Raft {
    engine: Arc<Engine>,
    groups: AtomicU64,
    sync: bool,
}

impl Log for Raft {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        let group = self.groups.fetch_add(1, Ordering::Relaxed);
        let mut entry = Entry::new();
        entry.set_string_value(load.body.clone());
        let next = self.engine.last_index(group).map_or(1, |last| last + 1);
        let entries = vec![entry; load.batch];
        Ok(Box::new(Appends {
            engine: Arc::clone(&self.engine),
            batch: LogBatch::with_capacity(load.batch),
            entries,
            group,
            next,
            sync: self.sync,
        }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        for group in self.engine.raft_groups() {
            let (Some(first), Some(last)) = (self.engine.first_index(group), self.engine.last_index(group))
            else {
                continue;
            };
            let mut at = first;
            let mut page = Vec::new();
            while at <= last {
                let end = (at + PAGE).min(last + 1);
                self.engine.fetch_entries_to::<Entries>(group, at, end, None, &mut page)?;
                page.drain(..).for_each(|entry| read.body(entry.get_string_value()));
                at = end;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.engine.sync()?)
    }
}

struct Appends {
    engine: Arc<Engine>,
    batch: LogBatch,
    entries: Vec<Entry>,
    group: u64,
    next: u64,
    sync: bool,
}

impl Appends {
    fn write(&mut self, count: usize) -> Result<()> {
        for entry in self.entries.iter_mut().take(count) {
            entry.set_positive_int_value(self.next);
            self.next += 1;
        }
        self.batch.add_entries::<Entries>(self.group, &self.entries[..count])?;
        self.engine.write(&mut self.batch, self.sync)?;
        Ok(())
    }
}

impl Writer for Appends {
    fn append(&mut self, _: u64) -> Result<()> {
        self.write(1)
    }

    fn append_batch(&mut self, _: u64) -> Result<()> {
        self.write(self.entries.len())
    }
}
