//! fjall 3.1.13: a log-structured store of keys and values. A message is a value under its number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "fjall 3.1.13",
    open,
    can: Can { relaxed: true, durable: true, batch: true, keys: true, read: true, reopen: true },
    about: "a key-value store: messages under their number, keys in a second keyspace; durable by a sync after each insert",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let db = Database::builder(&place.dir).open()?;
    let messages = db.keyspace("messages", KeyspaceCreateOptions::default)?;
    let keys = db.keyspace("keys", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall(Arc::new(Shared {
        db,
        messages,
        keys,
        next: AtomicU64::new(0),
        sync: place.flush == Flush::Sync,
    }))))
}

struct Shared {
    db: Database,
    messages: Keyspace,
    keys: Keyspace,
    next: AtomicU64,
    sync: bool,
}

struct Fjall(Arc<Shared>);

impl Log for Fjall {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Inserts { shared: Arc::clone(&self.0), load: Arc::clone(load) }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        for entry in self.0.messages.iter() {
            read.body(&entry.value()?);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.db.persist(PersistMode::SyncData)?)
    }
}

struct Inserts {
    shared: Arc<Shared>,
    load: Arc<Load>,
}

impl Inserts {
    fn persist(&self) -> Result<()> {
        if self.shared.sync {
            self.shared.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Writer for Inserts {
    fn append(&mut self, n: u64) -> Result<()> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        match self.load.key(n) {
            None => self.shared.messages.insert(number, &self.load.body)?,
            Some(key) => {
                let mut batch = self.shared.db.batch();
                batch.insert(&self.shared.messages, number, self.load.body.as_slice());
                batch.insert(&self.shared.keys, [key.as_bytes(), &number].concat(), []);
                batch.commit()?;
            }
        }
        self.persist()
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        let mut batch = self.shared.db.batch();
        for n in n..n + self.load.batch as u64 {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            batch.insert(&self.shared.messages, number, self.load.body.as_slice());
            if let Some(key) = self.load.key(n) {
                batch.insert(&self.shared.keys, [key.as_bytes(), &number].concat(), []);
            }
        }
        batch.commit()?;
        self.persist()
    }
}
