//! persistent-queue 0.2.0: a queue over a key-value store, here redb.

use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use persistent_queue::{Builder, Consumer, Durability, Producer, RedbStore};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "persistent-queue 0.2.0",
    open,
    can: Can { relaxed: true, durable: true, batch: false, keys: false, read: true, reopen: false },
    about: "over redb, with its group commit; reading removes; without a sync a push does not survive the process",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let store = RedbStore::open(place.dir.join("queue.redb"))?;
    let durability = match place.flush {
        Flush::Async => Durability::None,
        Flush::Sync => Durability::Group,
    };
    let (producer, consumer) =
        Builder::new(store).capacity(usize::MAX).durability(durability).open().map_err(|e| anyhow!("{e}"))?;
    Ok(Box::new(Queue { producer, consumer: Mutex::new(consumer) }))
}

struct Queue {
    producer: Producer<RedbStore>,
    consumer: Mutex<Consumer<RedbStore>>,
}

impl Log for Queue {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Pushes { producer: self.producer.clone(), load: Arc::clone(load) }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let consumer = self.consumer.lock().map_err(|_| anyhow!("a reader panicked"))?;
        while let Some(item) = consumer.reserve()? {
            read.body(&item);
            item.ack()?;
        }
        Ok(())
    }

    fn consumes(&self) -> bool {
        true
    }
}

struct Pushes {
    producer: Producer<RedbStore>,
    load: Arc<Load>,
}

impl Writer for Pushes {
    fn append(&mut self, _: u64) -> Result<()> {
        self.producer.push(&self.load.body).map_err(|error| anyhow!("{error}"))
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        self.append_many(n, self.load.batch as u64)
    }
}
