//! Which timers are due in a given second? RocketMQ's file `timerwheel`.
//!
//! A ring of 1,209,600 slots, one a second for two weeks; the slot of a second is its number modulo that. It holds the
//! ends of a chain in the timer log:
//!
//! | bytes | field |
//! |---|---|
//! | 0–7 | the second, since 1970: a slot with another one than the one that is looked for is empty |
//! | 8–15 | position of the first entry, −1 for none |
//! | 16–23 | position of the last entry, from which each leads to the one before |
//! | 24–27 | entries, each that cancels one counted as −1 |
//! | 28–31 | 0 |
//!
//! The file is derived: it is made again from the timer log, or from the timers' topic.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{Access, Disk, Durable, EntryKind, MappedFile, NewFile};
use crate::types::{to_u64, to_usize};

/// Seconds that the wheel has.
pub(super) const SECONDS: i64 = 7 * 86_400 * 2;
const SLOT_LEN: u64 = 32;
/// Bytes of the file.
pub(super) const LEN: u64 = SECONDS.unsigned_abs() * SLOT_LEN;
/// Bytes that get blocks together: half an hour of slots.
const STEP: u64 = 64 << 10;

/// What a second has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slot {
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) count: i32,
}

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    disk: Arc<dyn Disk>,
    map: Arc<MappedFile>,
    /// Which steps of the file are known to have blocks.
    allocated: Vec<bool>,
    /// Which steps are known to have nothing in them, of this round or another.
    empty: Vec<bool>,
}

impl Wheel {
    /// Opens the file if it is there and whole.
    pub(super) fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Option<Self>> {
        let found = disk.metadata(path)?;
        if found.is_none_or(|found| found.kind != EntryKind::File || found.len != LEN) {
            return Ok(None);
        }
        let map = disk.map(path, 0..LEN, Access::Random)?;
        let steps = to_usize(LEN.div_ceil(STEP));
        let (allocated, empty) = (vec![false; steps], vec![false; steps]);
        Ok(Some(Self { disk: Arc::clone(disk), map, allocated, empty }))
    }

    /// Makes an empty wheel in place of whatever stands there.
    pub(super) fn create(disk: &Arc<dyn Disk>, path: &Path, temp_dir: &Path) -> Result<Self> {
        match disk.metadata(path)?.map(|found| found.kind) {
            None => {}
            Some(EntryKind::File) => disk.remove_file(path)?,
            Some(_) => return Err(Error::corrupt(path, 0, "is not a regular file")),
        }
        NewFile { path, temp_dir, len: LEN, first_blocks: 0, durable: Durable::No }.create(disk.as_ref())?;
        let made = Self::open(disk, path)?;
        let mut made = made.ok_or_else(|| Error::corrupt(path, 0, "has not the length of a wheel"))?;
        made.empty.fill(true);
        Ok(made)
    }

    /// Returns what a second has.
    pub(super) fn get(&self, second: i64) -> Slot {
        let at = place(second);
        let cell = |offset| self.map.load_u64(at.saturating_add(offset)).unwrap_or(0);
        if cell(0).cast_signed() != second {
            return Slot::default();
        }
        let position = |offset| u64::try_from(cell(offset).cast_signed()).ok();
        let count = i32::try_from((cell(24).cast_signed()) >> 32).unwrap_or(0);
        let slot = Slot { first: position(8), last: position(16), count };
        // Bytes that nobody wrote are no slot of the second 0.
        let blank = Slot { first: Some(0), last: Some(0), count: 0 };
        if slot == blank { Slot::default() } else { slot }
    }

    /// Says what a second has.
    pub(super) fn put(&mut self, second: i64, slot: Slot) -> Result<()> {
        let at = place(second);
        self.allocate(to_u64(at))?;
        let position = |value: Option<u64>| value.unwrap_or(u64::MAX);
        let count = i64::from(slot.count) << 32;
        let cells =
            [second.cast_unsigned(), position(slot.first), position(slot.last), count.cast_unsigned()];
        for (offset, cell) in (0..).step_by(8).zip(cells) {
            self.map.store_u64(at.saturating_add(offset), cell)?;
        }
        Ok(())
    }

    fn allocate(&mut self, at: u64) -> Result<()> {
        let step = at / STEP;
        let Some(known) = self.allocated.get_mut(to_usize(step)) else { return Ok(()) };
        if !*known {
            let start = step.saturating_mul(STEP);
            self.disk.allocate(self.map.path(), start..start.saturating_add(STEP).min(LEN))?;
            *known = true;
        }
        if let Some(empty) = self.empty.get_mut(to_usize(step)) {
            *empty = false;
        }
        Ok(())
    }

    /// Returns the first second behind this one that has entries.
    pub(super) fn next_after(&mut self, second: i64) -> Option<i64> {
        let mut at = second.saturating_add(1);
        let end = second.saturating_add(SECONDS);
        while at < end {
            let (step, left) = step_of(at);
            if self.empty.get(step) != Some(&true) {
                let ahead = at..at.saturating_add(left).min(end);
                if let Some(found) = ahead.into_iter().find(|second| self.get(*second).last.is_some()) {
                    return Some(found);
                }
                let whole = i64::try_from(STEP / SLOT_LEN).unwrap_or(0);
                if left == whole && (0..whole).all(|n| self.is_blank(at.saturating_add(n))) {
                    self.empty.iter_mut().skip(step).take(1).for_each(|empty| *empty = true);
                }
            }
            at = at.saturating_add(left);
        }
        None
    }

    /// Tells whether nothing was ever written into the slot of a second.
    fn is_blank(&self, second: i64) -> bool {
        self.map.load_u64(place(second)) == Some(0)
    }

    /// Makes the wheel durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.map.sync(0..self.map.len())
    }
}

/// Returns in which step the slot of a second lies, and how many slots the step has from there on.
fn step_of(second: i64) -> (usize, i64) {
    let slot = second.rem_euclid(SECONDS).unsigned_abs();
    let step = slot.saturating_mul(SLOT_LEN) / STEP;
    let next = step.saturating_add(1).saturating_mul(STEP / SLOT_LEN).min(SECONDS.unsigned_abs());
    (to_usize(step), i64::try_from(next.saturating_sub(slot)).unwrap_or(1))
}

/// Returns where the slot of a second starts.
fn place(second: i64) -> usize {
    let slot = second.rem_euclid(SECONDS).unsigned_abs();
    to_usize(slot.saturating_mul(SLOT_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    #[test]
    fn t_i7_slots_are_put_got_and_there_after_a_reopen_and_a_second_two_weeks_on_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let path = dir.path().join("timerwheel");
        let mut wheel = Wheel::create(&disk, &path, dir.path()).unwrap();
        let slot = Slot { first: Some(0), last: Some(104), count: 2 };
        for second in [1_700_000_000, -5, 0] {
            assert_eq!(wheel.get(second).last, None);
            wheel.put(second, slot).unwrap();
            assert_eq!(wheel.get(second), slot);
            assert_eq!(wheel.get(second + SECONDS), Slot::default());
        }
        wheel.put(1_700_000_100, Slot { count: -1, ..slot }).unwrap();
        wheel.sync().unwrap();
        drop(wheel);
        let mut wheel = Wheel::open(&disk, &path).unwrap().unwrap();
        assert_eq!(wheel.get(1_700_000_000), slot);
        assert_eq!(wheel.get(1_700_000_100).count, -1);
        assert_eq!(wheel.next_after(1_700_000_000), Some(1_700_000_100));
        assert_eq!(wheel.next_after(1_700_000_100), None);
        drop(wheel);
        std::fs::write(&path, b"short").unwrap();
        assert!(Wheel::open(&disk, &path).unwrap().is_none());
        assert_eq!(Wheel::create(&disk, &path, dir.path()).unwrap().get(0), Slot::default());
    }
}
