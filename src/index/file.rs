//! How is one index file read, extended and mended? Its cells are shared with readers, so each is touched as an
//! atomic; an entry is written before the slot that leads to it.

use std::ops::{ControlFlow, Range, RangeInclusive};
use std::sync::Arc;

use super::format::{
    BEGIN_MILLIS, BEGIN_PHYSICAL, END_MILLIS, END_PHYSICAL, Entry, Geometry, NEXT_ENTRY, SLOT_COUNT,
    seconds_since,
};
use crate::error::{Error, Result};
use crate::storage::MappedFile;
use crate::sync::{AtomicBool, Ordering};
use crate::types::{to_u64, to_usize};

#[derive(Debug)]
pub(super) struct IndexFile {
    map: Arc<MappedFile>,
    geometry: Geometry,
    name: u64,
    /// Set by every change and by opening: what another process left in the page cache is not on disk either.
    unsynced: AtomicBool,
}

/// Whether a file that was found can be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Every cross-check holds.
    Good,
    /// The process or the machine died between two stores, or a page of the file is older than another: its entries
    /// must be walked once, and its slots set right.
    Torn,
    /// The header contradicts the entries.
    Damaged(&'static str),
}

/// Two big-endian words in one: the older cells of a file are not aligned for eight bytes.
const fn join(high: u32, low: u32) -> u64 {
    let [a, b, c, d] = high.to_be_bytes();
    let [e, f, g, h] = low.to_be_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl IndexFile {
    pub(super) const fn new(map: Arc<MappedFile>, geometry: Geometry, name: u64) -> Self {
        Self { map, geometry, name, unsynced: AtomicBool::new(true) }
    }

    pub(super) const fn name(&self) -> u64 {
        self.name
    }

    pub(super) fn path(&self) -> &std::path::Path {
        self.map.path()
    }

    fn outside(&self, position: usize) -> Error {
        Error::corrupt(self.map.path(), to_u64(position), "the index file ends before this cell")
    }

    fn word(&self, position: usize) -> Result<u32> {
        self.map.load_u32(position).ok_or_else(|| self.outside(position))
    }

    fn long(&self, position: usize) -> Result<u64> {
        self.map.load_u64(position).ok_or_else(|| self.outside(position))
    }

    fn millis(&self, position: usize) -> Result<i64> {
        Ok(self.long(position)?.cast_signed())
    }

    /// Returns the number of the next entry, as the header has it: it may be out of bounds in a damaged file.
    fn next_stored(&self) -> Result<u32> {
        let next = self.word(NEXT_ENTRY)?;
        Ok(if next.cast_signed() <= 0 { 1 } else { next })
    }

    /// Returns the number of the next entry: 1 in an empty file, the geometry's count in a full one.
    pub(super) fn next(&self) -> Result<u32> {
        Ok(self.next_stored()?.min(self.geometry.entries))
    }

    pub(super) fn is_full(&self) -> Result<bool> {
        Ok(self.next()? >= self.geometry.entries)
    }

    pub(super) fn end_millis(&self) -> Result<i64> {
        self.millis(END_MILLIS)
    }

    pub(super) fn entry(&self, number: u32) -> Result<Entry> {
        let position = self.geometry.entry_position(number);
        Ok(Entry {
            hash: self.word(position)?,
            physical: join(self.word(position + 4)?, self.word(position + 8)?),
            seconds: self.word(position + 12)?,
            older: self.word(position + 16)?,
        })
    }

    pub(super) fn first(&self) -> Result<Option<Entry>> {
        if self.next()? > 1 { self.entry(1).map(Some) } else { Ok(None) }
    }

    pub(super) fn last(&self) -> Result<Option<Entry>> {
        let next = self.next()?;
        if next > 1 { self.entry(next - 1).map(Some) } else { Ok(None) }
    }

    /// Reads the slots of `hashes` and does nothing with them: the cache misses of a whole run overlap here,
    /// instead of following each other in [`put`](Self::put).
    pub(super) fn touch(&self, hashes: impl Iterator<Item = u32>) {
        let seen = hashes.fold(0, |seen, hash| {
            seen ^ self.map.load_u32(self.geometry.slot_position(hash)).unwrap_or_default()
        });
        std::hint::black_box(seen);
    }

    /// Has the pages of allocated entries ready: one call instead of a fault for every two hundred entries.
    pub(super) fn populate(&self, range: Range<u64>) -> Result<()> {
        self.map.populate(to_usize(range.start)..to_usize(range.end))
    }

    /// Takes over the end of the file before, as RocketMQ does: the first entry's seconds count from there.
    pub(super) fn start_after(&self, previous: &Self) -> Result<()> {
        let (physical, millis) = (previous.long(END_PHYSICAL)?, previous.millis(END_MILLIS)?);
        if physical.cast_signed() > 0 {
            self.map.store_u64(BEGIN_PHYSICAL, physical)?;
            self.map.store_u64(END_PHYSICAL, physical)?;
        }
        if millis > 0 {
            self.map.store_u64(BEGIN_MILLIS, millis.cast_unsigned())?;
            self.map.store_u64(END_MILLIS, millis.cast_unsigned())?;
        }
        Ok(())
    }

    /// Appends one entry; the file is not full, and the bytes of the entry lie in allocated blocks.
    ///
    /// Crash: whatever of these stores survives, the file is `Good` or `Torn` at the next opening. A reader that
    /// finds the new slot finds its entry too, because the slot is stored with Release.
    pub(super) fn put(&self, hash: u32, physical: u64, store_millis: i64) -> Result<()> {
        self.unsynced.store(true, Ordering::Relaxed);
        let number = self.next()?;
        let slot = self.geometry.slot_position(hash);
        let newest = self.word(slot)?;
        let older = if newest < number { newest } else { 0 };
        let seconds = seconds_since(self.millis(BEGIN_MILLIS)?, store_millis);
        self.map
            .put(self.geometry.entry_position(number), &Entry { hash, physical, seconds, older }.encode())?;
        if number == 1 {
            self.map.store_u64(BEGIN_PHYSICAL, physical)?;
            self.map.store_u64(BEGIN_MILLIS, store_millis.cast_unsigned())?;
        }
        self.map.store_u32(slot, number)?;
        if older == 0 {
            self.map.store_u32(SLOT_COUNT, self.word(SLOT_COUNT)?.saturating_add(1))?;
        }
        self.map.store_u32(NEXT_ENTRY, number + 1)?;
        self.map.store_u64(END_PHYSICAL, physical)?;
        self.map.store_u64(END_MILLIS, store_millis.cast_unsigned())
    }

    /// Collects the hashes under which the message at `physical` is found here, newest first, and tells whether
    /// the file starts with it, so that the file before may have more of them.
    pub(super) fn trailing(&self, physical: u64, hashes: &mut Vec<u32>) -> Result<bool> {
        for number in (1..self.next()?).rev() {
            let entry = self.entry(number)?;
            if entry.physical != physical {
                return Ok(false);
            }
            hashes.push(entry.hash);
        }
        Ok(true)
    }

    /// Visits the entries with this hash whose time may lie in `times`, newest first.
    ///
    /// A damaged chain ends early: numbers must fall strictly, so it cannot be walked for ever.
    pub(super) fn walk(
        &self,
        hash: u32,
        times: &RangeInclusive<i64>,
        visit: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut number = self.word(self.geometry.slot_position(hash))?;
        // Ordering: the slot was loaded with Acquire before this load, so the count is not older than the slot; an
        // entry that is being put is one above.
        if number > self.next()? || number >= self.geometry.entries {
            return Ok(ControlFlow::Continue(()));
        }
        let begin = self.millis(BEGIN_MILLIS)?;
        while number > 0 {
            let entry = self.entry(number)?;
            if entry.hash == hash
                && may_lie_in(times, begin, number, entry.seconds)
                && visit(entry.physical).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            number = if entry.older < number { entry.older } else { 0 };
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Compares the header with the first entry, the last one and, if `slots` is set, the slots.
    pub(super) fn check(&self, slots: bool) -> Result<Health> {
        let (next, begin) = (self.next_stored()?, self.millis(BEGIN_MILLIS)?);
        if next > self.geometry.entries {
            return Ok(Health::Damaged("the header counts more entries than fit"));
        }
        let used = self.word(SLOT_COUNT)?;
        if used > self.geometry.slots || used.cast_signed() < 0 {
            return Ok(Health::Damaged("the header counts more slots than there are"));
        }
        let mut torn = used >= next;
        if let (Some(first), Some(last)) = (self.first()?, self.last()?) {
            if begin < 0 || self.long(BEGIN_PHYSICAL)? != first.physical || last.physical < first.physical {
                return Ok(Health::Damaged("the header does not begin where the first entry does"));
            }
            let ends_there = self.long(END_PHYSICAL)? == last.physical;
            if ends_there && next > 2 && seconds_since(begin, self.end_millis()?) != last.seconds {
                return Ok(Health::Damaged("the times of the header are not those of the entries"));
            }
            torn |= !ends_there || used == 0;
        }
        if slots && !torn {
            torn = self.has_slot_from(next)?;
        }
        Ok(if torn { Health::Torn } else { Health::Good })
    }

    fn has_slot_from(&self, number: u32) -> Result<bool> {
        for slot in 0..self.geometry.slots {
            if self.word(self.geometry.slot_cell(slot))? >= number {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps the entries before the first one whose message starts at `limit` or later, or that contradicts the
    /// ones before it, and sets slots and header to match.
    pub(super) fn keep_before(&self, limit: u64) -> Result<()> {
        self.unsynced.store(true, Ordering::Relaxed);
        let mut slots = vec![0_u32; to_usize(u64::from(self.geometry.slots))];
        let (mut kept, mut used, mut last) = (0, 0_u32, None::<Entry>);
        for number in 1..self.next()? {
            let entry = self.entry(number)?;
            let cell = entry.hash.checked_rem(self.geometry.slots).unwrap_or(0);
            let Some(slot) = slots.get_mut(to_usize(u64::from(cell))) else { break };
            let contradicts = entry.older != *slot || last.is_some_and(|last| last.physical > entry.physical);
            if contradicts || entry.physical >= limit {
                break;
            }
            used += u32::from(*slot == 0);
            *slot = number;
            (kept, last) = (number, Some(entry));
        }
        for (slot, newest) in (0..).zip(slots) {
            let cell = self.geometry.slot_cell(slot);
            if self.word(cell)? != newest {
                self.map.store_u32(cell, newest)?;
            }
        }
        self.map.store_u32(SLOT_COUNT, used)?;
        self.map.store_u32(NEXT_ENTRY, kept + 1)?;
        self.mend_end(kept, last)
    }

    /// Lets the header end where the last kept entry does. Its time is known to the second only, which is enough:
    /// RocketMQ compares it with the checkpoint and with the times that a query asks for.
    fn mend_end(&self, kept: u32, last: Option<Entry>) -> Result<()> {
        let Some(last) = last else { return Ok(()) };
        if self.long(END_PHYSICAL)? == last.physical
            && (kept < 2 || seconds_since(self.millis(BEGIN_MILLIS)?, self.end_millis()?) == last.seconds)
        {
            return Ok(());
        }
        let seconds = if kept == 1 { 0 } else { i64::from(last.seconds) };
        let millis = self.millis(BEGIN_MILLIS)?.saturating_add(seconds * 1_000);
        self.map.store_u64(END_PHYSICAL, last.physical)?;
        self.map.store_u64(END_MILLIS, millis.cast_unsigned())
    }

    /// Syncs the file if anything changed since the last time.
    ///
    /// After a failure the system calls the pages clean, so trying again would prove nothing: the caller remembers.
    pub(super) fn sync(&self) -> Result<()> {
        // Crash: a change that comes after this line sets the flag again, whether this sync covers it or not.
        if self.unsynced.swap(false, Ordering::AcqRel) { self.map.sync(0..self.map.len()) } else { Ok(()) }
    }
}

/// Tells whether a message with this entry may have been stored in `times`.
///
/// The entry knows whole seconds since `begin`, and 0 also stands for anything earlier, which a clock that was set
/// back writes. The first entry's seconds count from the file before, and its time is `begin` itself.
fn may_lie_in(times: &RangeInclusive<i64>, begin: i64, number: u32, seconds: u32) -> bool {
    if number == 1 {
        return times.contains(&begin);
    }
    let earliest = begin.saturating_add(i64::from(seconds) * 1_000);
    let ends_before = seconds != 0 && *times.end() < earliest;
    let starts_after = seconds != i32::MAX.unsigned_abs() && *times.start() > earliest.saturating_add(999);
    begin <= 0 || !(ends_before || starts_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_may_lie_anywhere_in_its_second() {
        assert!(may_lie_in(&(12_999..=12_999), 10_000, 2, 2));
        assert!(may_lie_in(&(12_000..=12_000), 10_000, 2, 2));
        assert!(!may_lie_in(&(13_000..=99_000), 10_000, 2, 2));
        assert!(!may_lie_in(&(0..=11_999), 10_000, 2, 2));
    }

    #[test]
    fn an_entry_of_second_0_may_be_older_than_the_file() {
        assert!(may_lie_in(&(0..=10), 10_000, 2, 0));
        assert!(!may_lie_in(&(0..=10), 10_000, 1, 0));
        assert!(may_lie_in(&(10_000..=10_000), 10_000, 1, 77));
    }

    #[test]
    fn two_words_make_one_long() {
        assert_eq!(join(0x0102_0304, 0x0506_0708), 0x0102_0304_0506_0708);
    }
}
