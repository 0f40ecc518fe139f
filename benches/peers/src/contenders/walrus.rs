//! walrus-rust 0.2.0: a write-ahead log of topics, with positions of its readers.

use std::sync::Arc;

use anyhow::Result;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "walrus-rust 0.2.0",
    open,
    can: Can { relaxed: true, durable: true, batch: true, keys: false, read: true, reopen: true },
    about: "syncs every 200 ms or with each append; read one by one, because its batch read skips messages",
};

const TOPIC: &str = "bench";

/// Its folder comes from the environment, which the parent has set (see [`crate::child`]).
fn open(place: &Place) -> Result<Box<dyn Log>> {
    let schedule = match place.flush {
        Flush::Async => FsyncSchedule::Milliseconds(200),
        Flush::Sync => FsyncSchedule::SyncEach,
    };
    let reading = ReadConsistency::AtLeastOnce { persist_every: 100_000 };
    Ok(Box::new(Opened { walrus: Arc::new(Walrus::with_consistency_and_schedule(reading, schedule)?) }))
}

struct Opened {
    walrus: Arc<Walrus>,
}

impl Log for Opened {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Appends { walrus: Arc::clone(&self.walrus), load: Arc::clone(load) }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        while let Some(entry) = self.walrus.read_next(TOPIC, true)? {
            read.body(&entry.data);
        }
        Ok(())
    }

    fn consumes(&self) -> bool {
        true
    }
}

struct Appends {
    walrus: Arc<Walrus>,
    load: Arc<Load>,
}

impl Writer for Appends {
    fn append(&mut self, _: u64) -> Result<()> {
        Ok(self.walrus.append_for_topic(TOPIC, &self.load.body)?)
    }

    fn append_batch(&mut self, _: u64) -> Result<()> {
        Ok(self.walrus.batch_append_for_topic(TOPIC, &self.load.bodies())?)
    }
}
