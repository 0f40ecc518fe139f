//! How does a small record survive a crash in the middle of being written?
//!
//! It has two slots that are written in turn, each with a sequence number and a CRC; the newer one that is whole
//! counts. A file is 8,192 bytes, one page a slot:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | sequence number, from 1 |
//! | n | payload |
//! | 4 | CRC-32 of the two |

use std::path::Path;
use std::sync::Arc;

use super::{Access, Disk, Durable, EntryKind, MappedFile, NewFile};
use crate::error::Result;
use crate::sync::Mutex;

const SLOT: usize = 4_096;
const LEN: u64 = 8_192;

/// A small record in two slots.
#[derive(Debug)]
pub(crate) struct TwoSlots {
    map: Arc<MappedFile>,
    payload_len: usize,
    /// The sequence number of the slot that was written last.
    sequence: Mutex<u64>,
}

impl TwoSlots {
    /// Opens the file, making it where it is missing or has another length.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        temp_dir: &Path,
        payload_len: usize,
    ) -> Result<Self> {
        let found = disk.metadata(path)?;
        if found.is_none_or(|found| found.kind != EntryKind::File || found.len != LEN) {
            if found.is_some_and(|found| found.kind == EntryKind::File) {
                disk.remove_file(path)?;
            }
            NewFile { path, temp_dir, len: LEN, first_blocks: LEN, durable: Durable::Yes }
                .create(disk.as_ref())?;
        }
        disk.allocate(path, 0..LEN)?;
        let map = disk.map(path, 0..LEN, Access::Random)?;
        let slots = Self { map, payload_len: payload_len.min(SLOT - 12), sequence: Mutex::new(0) };
        let newest = slots.newest().map_or(0, |(sequence, _)| sequence);
        *slots.sequence.lock() = newest;
        Ok(slots)
    }

    /// Returns the newer payload that is whole.
    pub(crate) fn load(&self) -> Option<Vec<u8>> {
        self.newest().map(|(_, payload)| payload)
    }

    /// Writes a payload over the older slot. Not synced.
    pub(crate) fn store(&self, payload: &[u8]) -> Result<()> {
        let mut sequence = self.sequence.lock();
        let next = sequence.saturating_add(1);
        let mut slot = next.to_be_bytes().to_vec();
        slot.extend_from_slice(payload);
        slot.resize(self.payload_len.saturating_add(8), 0);
        let crc = crc32fast::hash(&slot);
        slot.extend(crc.to_be_bytes());
        let position = if next.is_multiple_of(2) { 0 } else { SLOT };
        self.map.put(position, &slot)?;
        *sequence = next;
        Ok(())
    }

    /// Makes what was stored durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.map.sync(0..self.map.len())
    }

    fn newest(&self) -> Option<(u64, Vec<u8>)> {
        [0, SLOT].into_iter().filter_map(|position| self.read(position)).max()
    }

    fn read(&self, position: usize) -> Option<(u64, Vec<u8>)> {
        let covered_len = self.payload_len.checked_add(8)?;
        // A copy: the slot may be written again while it is read.
        let slot = self.map.bytes(position..position.checked_add(covered_len)?.checked_add(4)?)?.to_vec();
        let (covered, crc) = slot.split_at_checked(covered_len)?;
        let (sequence, payload) = covered.split_first_chunk()?;
        let whole = crc.first_chunk().is_some_and(|crc| u32::from_be_bytes(*crc) == crc32fast::hash(covered));
        let sequence = u64::from_be_bytes(*sequence);
        (whole && sequence > 0).then(|| (sequence, payload.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::RealDisk;
    use super::*;

    fn open(dir: &Path) -> TwoSlots {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        TwoSlots::open(&disk, &dir.join("record"), dir, 4).unwrap()
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let slots = open(dir.path());
        assert_eq!(slots.load(), None);
        for payload in [b"one.", b"two.", b"six."] {
            slots.store(payload).unwrap();
            assert_eq!(slots.load().unwrap(), payload);
        }
        slots.sync().unwrap();
        drop(slots);
        assert_eq!(open(dir.path()).load().unwrap(), b"six.");
    }

    #[test]
    fn a_torn_slot_falls_back_to_the_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let slots = open(dir.path());
        slots.store(b"one.").unwrap();
        slots.store(b"two.").unwrap();
        slots.map.put(9, b"X").unwrap();
        assert_eq!(slots.load().unwrap(), b"one.");
        drop(slots);
        let again = open(dir.path());
        again.store(b"ten.").unwrap();
        assert_eq!(again.load().unwrap(), b"ten.");
    }
}
