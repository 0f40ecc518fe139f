//! okaywal 0.3.1: a write-ahead log with group commit, always durable.

use std::sync::Arc;

use anyhow::Result;
use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use crate::contender::{Can, Contender, Load, Log, Place, Writer};

pub const CONTENDER: Contender = Contender {
    name: "okaywal 0.3.1",
    open,
    can: Can { relaxed: false, durable: true, batch: true, keys: false, read: false, reopen: true },
    about: "every commit syncs, so it runs under sync flush only; segments of 64 MiB are dropped at each checkpoint",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let log = Configuration::default_for(&place.dir)
        .preallocate_bytes(64 << 20)
        .checkpoint_after_bytes(48 << 20)
        .open(Forgets)?;
    Ok(Box::new(Opened { log }))
}

/// A manager that reads what it finds and keeps nothing.
#[derive(Debug)]
struct Forgets;

impl LogManager for Forgets {
    fn recover(&mut self, entry: &mut Entry<'_>) -> std::io::Result<()> {
        entry.read_all_chunks().map(drop)
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> std::io::Result<()> {
        Ok(())
    }
}

struct Opened {
    log: WriteAheadLog,
}

impl Log for Opened {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Commits { log: self.log.clone(), load: Arc::clone(load) }))
    }
}

struct Commits {
    log: WriteAheadLog,
    load: Arc<Load>,
}

impl Commits {
    fn commit(&self, count: usize) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        for _ in 0..count {
            entry.write_chunk(&self.load.body)?;
        }
        entry.commit()?;
        Ok(())
    }
}

impl Writer for Commits {
    fn append(&mut self, _: u64) -> Result<()> {
        self.commit(1)
    }

    fn append_batch(&mut self, _: u64) -> Result<()> {
        self.commit(self.load.batch)
    }
}
