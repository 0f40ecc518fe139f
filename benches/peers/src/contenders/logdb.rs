//! logdb 0.6.0: a log behind a ring, which a committer thread writes to files.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use logdb::{Config, DurabilityMode, LogDb};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "logdb 0.6.0",
    open,
    can: Can { relaxed: true, durable: true, batch: true, keys: false, read: true, reopen: true },
    about: "without a sync an append returns when the record is in a ring in memory, before any file has it: a kill loses it",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let durability_mode = match place.flush {
        Flush::Async => DurabilityMode::Batch,
        Flush::Sync => DurabilityMode::Sync,
    };
    let config = Config { data_dir: place.dir.clone(), durability_mode, ..Config::default() };
    Ok(Box::new(Opened { db: Arc::new(LogDb::open(config)?), sync: place.flush == Flush::Sync }))
}

struct Opened {
    db: Arc<LogDb>,
    sync: bool,
}

impl Log for Opened {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Appends { db: Arc::clone(&self.db), load: Arc::clone(load), sync: self.sync }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let end = self.db.producer_cursor();
        for record in self.db.scan(0, end)? {
            read.body(&record?.content);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.drain(Duration::from_secs(30))?;
        Ok(())
    }
}

struct Appends {
    db: Arc<LogDb>,
    load: Arc<Load>,
    sync: bool,
}

impl Writer for Appends {
    fn append(&mut self, _: u64) -> Result<()> {
        std::hint::black_box(self.db.append(&self.load.body)?);
        if self.sync {
            self.db.flush()?;
        }
        Ok(())
    }

    fn append_batch(&mut self, _: u64) -> Result<()> {
        self.db.append_batch(&self.load.bodies())?;
        if self.sync {
            self.db.flush()?;
        }
        Ok(())
    }
}
