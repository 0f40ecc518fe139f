//! How does a queue follow the log when the oldest messages go?

use super::queue::ConsumeQueue;
use super::unit::{UNIT_LEN, Unit};
use crate::error::Result;
use crate::sync::Ordering;
use crate::types::{PhysicalOffset, QueueOffset, to_u64};

/// Units that are looked at for one that is not blank.
const LOOKED_AT_MAX: usize = 1_000;

impl ConsumeQueue {
    /// Moves the first offset to the first message that the log still holds; to the end if it holds none. Never moves
    /// it back. Returns how many messages went.
    pub(crate) fn raise_min(&self, log_min: PhysicalOffset) -> Result<u64> {
        Ok(self.raise_min_to(self.first_from(log_min)?))
    }

    /// Returns the place of the first message that lies at this byte of the log or behind it.
    pub(crate) fn first_from(&self, log_min: PhysicalOffset) -> Result<QueueOffset> {
        let first = self.state.lock().first / UNIT_LEN;
        let gone =
            |unit: Option<Unit>| unit.is_some_and(|unit| unit.is_blank() || unit.physical_offset < log_min);
        match self.get(QueueOffset::new(first))? {
            unit if gone(unit) => self.partition(first, |unit| Ok(gone(unit))),
            _ => Ok(QueueOffset::new(first)),
        }
    }

    /// Moves the first offset forward to a place, at most to the end. Returns how many messages went.
    pub(crate) fn raise_min_to(&self, place: QueueOffset) -> u64 {
        let place = place.min(self.max_offset()).get();
        // Ordering: partner of the load in `min_offset`. Two who raise it leave the higher one.
        place.saturating_sub(self.min.fetch_max(place, Ordering::AcqRel))
    }

    /// Removes the files all of whose units lie before the first offset, but never the last one, which keeps the
    /// queue's numbers. One caller at a time. Returns how many went.
    pub(crate) fn drop_files_before_min(&self) -> Result<u64> {
        let size = self.shared.options.file_size;
        let min = self.min_offset().get().saturating_mul(UNIT_LEN);
        let mut dropped = 0_u64;
        loop {
            let (start, next) = {
                let mut state = self.state.lock();
                let (start, next) = (state.first, state.first.saturating_add(size));
                if next >= state.end || next > min {
                    return Ok(dropped);
                }
                let before = |window: &mut super::windows::Window| window.start < next;
                let taken = [state.tail.take_if(before), state.read.take_if(before)];
                self.shared.maps.give_back(taken.iter().flatten().count());
                // Nobody maps it from here on, so it may go without the lock, for which senders wait.
                state.first = next;
                (start, next)
            };
            if let Err(error) = self.remove_file(start) {
                let mut state = self.state.lock();
                if state.first == next {
                    state.first = start;
                }
                return Err(error);
            }
            // Crash: one after the other, so that what a power loss leaves is a row without a hole.
            self.shared.disk.sync_dir(&self.dir())?;
            dropped = dropped.saturating_add(1);
        }
    }

    /// Returns where in the log the first message at or behind a place lies, `None` at the end of the queue.
    pub(crate) fn physical_from(&self, at: QueueOffset) -> Result<Option<PhysicalOffset>> {
        let (mut at, mut count) = (at.max(self.min_offset()), 1);
        let mut units = Vec::new();
        while at < self.max_offset() {
            units.clear();
            self.read(at, count, &mut units)?;
            if let Some(unit) = units.iter().find(|unit| !unit.is_blank()) {
                return Ok(Some(unit.physical_offset));
            }
            // Nothing was read where the files before the first offset have just gone.
            at = at.plus(to_u64(units.len())).max(self.min_offset());
            count = LOOKED_AT_MAX;
        }
        Ok(None)
    }
}
