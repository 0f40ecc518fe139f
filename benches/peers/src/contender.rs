//! What must something be able to do to be compared, and who is compared?

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::contenders;
use crate::job::Flush;

/// Where and how a contender is opened.
#[derive(Debug, Clone)]
pub struct Place {
    pub dir: PathBuf,
    pub flush: Flush,
    /// Bytes of a body.
    pub size: usize,
    /// How many messages it must be able to hold.
    pub capacity: u64,
    /// Whether our store is to write its checkpoint often, so that a kill finds a fresh one.
    pub checkpoints: bool,
}

/// What is appended.
#[derive(Debug)]
pub struct Load {
    pub body: Vec<u8>,
    /// Messages of one batch; 1 where they are appended one by one.
    pub batch: usize,
    /// Keys, used in turn; none where messages have no key.
    pub keys: Vec<String>,
}

impl Load {
    pub fn new(size: usize, batch: usize, keyed: bool) -> Self {
        let keys = if keyed { 8_192 } else { 0 };
        Self {
            body: (0..size).map(|n| (n * 31 % 251) as u8).collect(),
            batch: batch.max(1),
            keys: (0..keys).map(|n| format!("order-{n:06}")).collect(),
        }
    }

    pub fn key(&self, n: u64) -> Option<&str> {
        let count = self.keys.len() as u64;
        (count > 0).then(|| self.keys[(n % count) as usize].as_str())
    }

    /// The same body, once for each message of a batch.
    pub fn bodies(&self) -> Vec<&[u8]> {
        vec![self.body.as_slice(); self.batch]
    }
}

/// An open log, queue or database.
pub trait Log: Send + Sync {
    /// A writer for one thread. Where there can be one writer only, all share it behind a mutex.
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>>;

    /// Reads everything from the first message on, and hands each body to `read` (see [`checksum`]).
    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let _ = read;
        bail!("is not read here")
    }

    /// Whether reading takes messages away, so that they can be read once only.
    fn consumes(&self) -> bool {
        false
    }

    /// Does what is done before a kill; see [`crate::job::BeforeKill`].
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Closes it in order.
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Appends for one thread.
pub trait Writer: Send {
    /// Appends message `n`, and returns when it is as durable as was asked for.
    fn append(&mut self, n: u64) -> Result<()>;

    /// Appends a batch whose first message is `n`.
    fn append_batch(&mut self, n: u64) -> Result<()>;

    /// Appends many: a loop of the contender's own, so that no call in it is dynamic.
    fn append_many(&mut self, from: u64, count: u64) -> Result<()> {
        (from..from + count).try_for_each(|n| self.append(n))
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Tally {
    pub messages: u64,
    pub bytes: u64,
    pub sum: u64,
}

impl Tally {
    #[inline]
    pub fn body(&mut self, body: &[u8]) {
        self.messages += 1;
        self.bytes += body.len() as u64;
        self.sum = self.sum.wrapping_add(checksum(body));
    }
}

/// Reads every byte: the sum of all words.
#[inline]
pub fn checksum(body: &[u8]) -> u64 {
    let (words, rest) = body.as_chunks::<8>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// How to open a contender.
pub type Open = fn(&Place) -> Result<Box<dyn Log>>;

/// What a contender can do, and what should be known beside its figures.
#[derive(Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    pub open: Open,
    pub can: Can,
    /// What it does not do, or does otherwise.
    pub about: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Can {
    /// Append without waiting for the disk.
    pub relaxed: bool,
    /// Append durably.
    pub durable: bool,
    /// Append a batch as one.
    pub batch: bool,
    /// Find a message by a key that was stored with it.
    pub keys: bool,
    /// Be read from the start.
    pub read: bool,
    /// Be opened again after a kill, with all that was appended.
    pub reopen: bool,
}

/// Ours with every default.
pub const DEFAULTS: &str = "pocketmq, defaults";
/// Ours as close to a peer as its settings allow.
pub const LIKE: &str = "pocketmq, like for like";
/// Apache RocketMQ's own store.
pub const JAVA: &str = "Apache RocketMQ 5.5.0 (Java)";

/// What is to be known about reading.
pub const WITH_READ: &str = "\
pocketmq is read with `Store::pull` in pages of 256, each message a view into the mapped log. khata-rs hands out views \
too; all others copy each body. Apache RocketMQ reads in Java, warmed up.";

/// Everybody who runs in a process of ours: ourselves first.
pub fn all() -> Vec<Contender> {
    contenders::all()
}

pub fn find(name: &str) -> Result<Contender> {
    match all().into_iter().find(|contender| contender.name == name) {
        Some(contender) => Ok(contender),
        None => bail!("there is no contender {name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_in_the_checksum() {
        let load = Load::new(1_027, 1, true);
        let all = checksum(&load.body);
        for n in 0..load.body.len() {
            let mut other = load.body.clone();
            other[n] ^= 1;
            assert_ne!(checksum(&other), all, "byte {n}");
        }
        assert_eq!(load.key(8_193), Some("order-000001"));
    }
}
