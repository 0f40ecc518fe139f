//! yaque 0.6.6: a queue in segment files, one sender and one receiver, without any sync.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use yaque::{QueueIter, Sender, SenderBuilder};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};

pub const CONTENDER: Contender = Contender {
    name: "yaque 0.6.6",
    open,
    can: Can { relaxed: true, durable: false, batch: true, keys: false, read: true, reopen: false },
    about: "one sender, one receiver, no sync; a lock file keeps it from being opened again after a kill",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let sender = SenderBuilder::new().segment_size(256 << 20).open(&place.dir)?;
    Ok(Box::new(Yaque { dir: place.dir.clone(), sender: Arc::new(Mutex::new(sender)) }))
}

struct Yaque {
    dir: PathBuf,
    sender: Arc<Mutex<Sender>>,
}

impl Log for Yaque {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Sends { sender: Arc::clone(&self.sender), load: Arc::clone(load) }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        for body in QueueIter::open(&self.dir)? {
            read.body(&body?);
        }
        Ok(())
    }
}

struct Sends {
    sender: Arc<Mutex<Sender>>,
    load: Arc<Load>,
}

impl Writer for Sends {
    fn append(&mut self, _: u64) -> Result<()> {
        let mut sender = self.sender.lock().map_err(|_| anyhow!("a sender panicked"))?;
        sender.try_send(&self.load.body).map_err(|error| anyhow!("{error:?}"))
    }

    fn append_batch(&mut self, _: u64) -> Result<()> {
        let mut sender = self.sender.lock().map_err(|_| anyhow!("a sender panicked"))?;
        sender.try_send_batch(self.load.bodies()).map_err(|_| anyhow!("the queue took no batch"))
    }
}
