//! commitlog 0.2.0: a segmented log with checksums and an index by offset. Its `flush` never syncs.

use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};

pub const CONTENDER: Contender = Contender {
    name: "commitlog 0.2.0",
    open,
    can: Can { relaxed: true, durable: false, batch: true, keys: false, read: true, reopen: true },
    about: "one writer; its flush never syncs, so it is never durable; reads into buffers that it copies",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let mut options = LogOptions::new(&place.dir);
    options.segment_max_bytes(256 << 20).message_max_bytes(4 << 20);
    Ok(Box::new(Opened { log: Arc::new(Mutex::new(CommitLog::new(options)?)) }))
}

struct Opened {
    log: Arc<Mutex<CommitLog>>,
}

impl Log for Opened {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Appends { log: Arc::clone(&self.log), load: Arc::clone(load) }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let log = self.log.lock().map_err(|_| anyhow!("a writer panicked"))?;
        let mut at = 0;
        while at < log.next_offset() {
            let page = log.read(at, ReadLimit::max_bytes(1 << 20))?;
            page.iter().for_each(|message| read.body(message.payload()));
            at += page.len() as u64;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.log.lock().map_err(|_| anyhow!("a writer panicked"))?.flush()?)
    }
}

struct Appends {
    log: Arc<Mutex<CommitLog>>,
    load: Arc<Load>,
}

impl Writer for Appends {
    fn append(&mut self, _: u64) -> Result<()> {
        let mut log = self.log.lock().map_err(|_| anyhow!("a writer panicked"))?;
        std::hint::black_box(log.append_msg(&self.load.body)?);
        Ok(())
    }

    fn append_batch(&mut self, _: u64) -> Result<()> {
        let mut batch = MessageBuf::default();
        for body in self.load.bodies() {
            batch.push(body).map_err(|error| anyhow!("{error:?}"))?;
        }
        self.log.lock().map_err(|_| anyhow!("a writer panicked"))?.append(&mut batch)?;
        Ok(())
    }
}
