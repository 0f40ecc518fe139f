//! khata-rs 0.1.1: a bare log in a mapped file of fixed capacity, with one writer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use khata_rs::Queue;

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "khata-rs 0.1.1",
    open,
    can: Can { relaxed: true, durable: true, batch: false, keys: false, read: true, reopen: true },
    about: "a bare log of fixed capacity: one writer, no queues, no ids, no checksum; several producers share it behind a mutex",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let bytes = place.capacity as usize * (place.size + 32) + (64 << 20);
    let queue = Queue::new(PathBuf::from(&place.dir)).block_size(bytes.next_multiple_of(1 << 20)).build()?;
    // It lives as long as the process: writers and readers borrow it.
    let queue: &'static Queue = Box::leak(Box::new(queue));
    let writer = Arc::new(Mutex::new(queue.writer()?));
    Ok(Box::new(Khata { queue, writer, durable: place.flush == Flush::Sync }))
}

struct Khata {
    queue: &'static Queue,
    writer: Arc<Mutex<khata_rs::Writer<'static>>>,
    durable: bool,
}

impl Log for Khata {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(KhataWriter {
            writer: Arc::clone(&self.writer),
            load: Arc::clone(load),
            durable: self.durable,
        }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let mut reader = self.queue.reader()?;
        reader.rewind()?;
        while let Some(body) = reader.read()? {
            read.body(body);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let writer = self.writer.lock().map_err(|_| anyhow!("a writer panicked"))?;
        Ok(writer.flush()?)
    }
}

struct KhataWriter {
    writer: Arc<Mutex<khata_rs::Writer<'static>>>,
    load: Arc<Load>,
    durable: bool,
}

impl Writer for KhataWriter {
    #[inline]
    fn append(&mut self, _: u64) -> Result<()> {
        let mut writer = self.writer.lock().map_err(|_| anyhow!("a writer panicked"))?;
        std::hint::black_box(writer.write(&self.load.body)?);
        if self.durable {
            writer.flush()?;
        }
        Ok(())
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        self.append_many(n, self.load.batch as u64)
    }

    /// A lone writer takes the mutex once for many: what its one-writer design is for.
    fn append_many(&mut self, from: u64, count: u64) -> Result<()> {
        if Arc::strong_count(&self.writer) > 2 || self.durable {
            return (from..from + count).try_for_each(|n| self.append(n));
        }
        let mut writer = self.writer.lock().map_err(|_| anyhow!("a writer panicked"))?;
        for _ in 0..count {
            std::hint::black_box(writer.write(&self.load.body)?);
        }
        Ok(())
    }
}
