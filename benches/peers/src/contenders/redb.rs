//! redb 4.6.0: a copy-on-write B-tree. A message is a value under its number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "redb 4.6.0",
    open,
    can: Can { relaxed: true, durable: true, batch: true, keys: true, read: true, reopen: false },
    about: "a transaction for each append; without a sync a commit does not survive the death of the process",
};

const MESSAGES: TableDefinition<u64, &[u8]> = TableDefinition::new("messages");
const KEYS: TableDefinition<(&str, u64), ()> = TableDefinition::new("keys");

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let db = Database::create(place.dir.join("redb"))?;
    let write = db.begin_write()?;
    let next = write.open_table(MESSAGES)?.last()?.map_or(0, |(number, _)| number.value() + 1);
    write.open_table(KEYS)?;
    write.commit()?;
    let sync = place.flush == Flush::Sync;
    Ok(Box::new(Redb(Arc::new(Shared { db, next: AtomicU64::new(next), sync }))))
}

struct Shared {
    db: Database,
    next: AtomicU64,
    sync: bool,
}

struct Redb(Arc<Shared>);

impl Log for Redb {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Commits { shared: Arc::clone(&self.0), load: Arc::clone(load) }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let table = self.0.db.begin_read()?.open_table(MESSAGES)?;
        for entry in table.iter()? {
            read.body(entry?.1.value());
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.db.begin_write()?.commit()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.flush()
    }
}

struct Commits {
    shared: Arc<Shared>,
    load: Arc<Load>,
}

impl Commits {
    fn commit(&self, n: u64, count: u64) -> Result<()> {
        let mut write = self.shared.db.begin_write()?;
        if !self.shared.sync {
            write.set_durability(Durability::None)?;
        }
        {
            let mut messages = write.open_table(MESSAGES)?;
            let mut keys = write.open_table(KEYS)?;
            for n in n..n + count {
                let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
                messages.insert(number, self.load.body.as_slice())?;
                if let Some(key) = self.load.key(n) {
                    keys.insert((key, number), ())?;
                }
            }
        }
        Ok(write.commit()?)
    }
}

impl Writer for Commits {
    fn append(&mut self, n: u64) -> Result<()> {
        self.commit(n, 1)
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        self.commit(n, self.load.batch as u64)
    }
}
