//! Was it us who wrote here last? Only then do our own files count (contract, design point 11).
//!
//! `pocketmq/owner` keeps what only a RocketMQ broker would change: the modification time of `lock`, which every
//! Java broker touches when it starts, and the CRC of `consumerOffset.json`. While that file is being replaced, the
//! record names the old and the new one.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | modification time of `lock`, nanoseconds since 1970 |
//! | 4 | CRC-32 of `consumerOffset.json` before the persist under way |
//! | 4 | CRC-32 of `consumerOffset.json` after it |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::storage::{Disk, TwoSlots};

/// Bytes of the record.
const LEN: usize = 16;
/// The longest `consumerOffset.json` that is read.
const JSON_LEN_MAX: u64 = 64 << 20;

/// The record of who wrote last.
#[derive(Debug)]
pub(crate) struct Owner {
    disk: Arc<dyn Disk>,
    slots: TwoSlots,
    lock: PathBuf,
    offsets: PathBuf,
}

impl Owner {
    pub(crate) fn open(disk: &Arc<dyn Disk>, own: &Path, lock: PathBuf, offsets: PathBuf) -> Result<Self> {
        let slots = TwoSlots::open(disk, &own.join("owner"), own, LEN)?;
        Ok(Self { disk: Arc::clone(disk), slots, lock, offsets })
    }

    /// Tells whether nobody else has written here since we did.
    pub(crate) fn is_us(&self) -> Result<bool> {
        let Some(stored) = self.slots.load() else { return Ok(false) };
        let now = self.record(0, 0)?;
        let crc = self.offsets_crc()?.to_be_bytes();
        let (time, crcs) = stored.split_at_checked(8).unwrap_or_default();
        Ok(now.starts_with(time) && time.len() == 8 && crcs.chunks(4).any(|known| known == crc))
    }

    /// Says that we are, and that the positions on disk are ours. Durable on return.
    pub(crate) fn claim(&self) -> Result<()> {
        let crc = self.offsets_crc()?;
        self.write(crc, crc)
    }

    /// Announces that `consumerOffset.json` is about to have this CRC. Durable on return.
    pub(crate) fn announce(&self, next: u32) -> Result<()> {
        self.write(self.offsets_crc()?, next)
    }

    fn write(&self, old: u32, new: u32) -> Result<()> {
        self.slots.store(&self.record(old, new)?)?;
        self.slots.sync()
    }

    fn record(&self, old: u32, new: u32) -> Result<[u8; LEN]> {
        let modified = self.disk.metadata(&self.lock)?.map_or(0, |found| found.modified_nanos);
        let time = i64::try_from(modified).unwrap_or(0).to_be_bytes();
        let mut record = [0; LEN];
        let fields = time.into_iter().chain(old.to_be_bytes()).chain(new.to_be_bytes());
        record.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        Ok(record)
    }

    fn offsets_crc(&self) -> Result<u32> {
        Ok(self.disk.read(&self.offsets, JSON_LEN_MAX)?.map_or(0, |bytes| crc32fast::hash(&bytes)))
    }
}
