//! How is a queue brought back to what the log says?

use super::queue::{BLOCK, ConsumeQueue, State};
use super::unit::{UNIT_LEN, Unit};
use crate::error::Result;
use crate::sync::Ordering;
use crate::types::{PhysicalOffset, QueueOffset, to_usize};

/// What [`ConsumeQueue::confirm`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// The unit stood there already.
    Same,
    /// Another one stood there.
    Replaced,
    /// It was the next one, and has been appended.
    Appended,
    /// Units before it are missing; nothing was changed.
    Gap,
}

impl ConsumeQueue {
    /// Sees to it that a unit stands at its place. For recovery, and for mending what is visible already.
    pub(crate) fn confirm(&self, at: QueueOffset, unit: Unit) -> Result<Confirmed> {
        let max = self.max_offset();
        if at < max {
            if at.get().saturating_mul(UNIT_LEN) < self.state.lock().first {
                // It was given up with the file in which it stood.
                return Ok(Confirmed::Same);
            }
            if self.get(at)? == Some(unit) {
                return Ok(Confirmed::Same);
            }
            let byte = at.get().saturating_mul(UNIT_LEN);
            let window = self.window(byte)?;
            window.map.put(to_usize(byte.saturating_sub(window.start)), &unit.encode())?;
            self.mark_dirty(byte);
            return Ok(Confirmed::Replaced);
        }
        if at > max {
            if !self.has_no_units() {
                return Ok(Confirmed::Gap);
            }
            self.start_at(at)?;
        }
        self.append(at, unit)?;
        Ok(Confirmed::Appended)
    }

    fn has_no_units(&self) -> bool {
        let first = self.state.lock().first;
        self.max.load(Ordering::Relaxed) == first / UNIT_LEN
    }

    /// Makes an empty queue one whose first message has a number above 0: the places before it in its file are filled.
    fn start_at(&self, at: QueueOffset) -> Result<()> {
        self.clear()?;
        let target = at.get().saturating_mul(UNIT_LEN);
        let start = self.file_of(target);
        {
            let mut state = self.state.lock();
            (state.first, state.end, state.ready_end) = (start, start, start);
        }
        self.max.store(start / UNIT_LEN, Ordering::Release);
        while self.max_offset() < at {
            let count = at.since(self.max_offset()).min(1_000);
            let blanks = vec![Unit::BLANK; to_usize(count)];
            self.append_run(self.max_offset(), &blanks)?;
        }
        self.min.store(at.get(), Ordering::Release);
        Ok(())
    }

    /// Keeps only the units of records before `limit`, and makes everything behind them zeros. Returns how many went.
    pub(crate) fn cut_from(&self, limit: PhysicalOffset) -> Result<u64> {
        let max = self.max_offset();
        let keeps =
            |unit: Option<Unit>| unit.is_some_and(|unit| unit.is_blank() || unit.physical_offset < limit);
        let last_stays = match max.get().checked_sub(1).map(QueueOffset::new) {
            Some(last) if max.get().saturating_mul(UNIT_LEN) > self.state.lock().first => {
                keeps(self.get(last)?)
            }
            _ => true,
        };
        if last_stays && !self.suspect.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let first = self.state.lock().first / UNIT_LEN;
        let kept = if last_stays { max } else { self.partition(first, |unit| Ok(keeps(unit)))? };
        self.cut_at(kept.get().saturating_mul(UNIT_LEN))?;
        Ok(max.since(kept))
    }

    /// Has the next cut clear everything behind the last unit, whatever seems to be there.
    pub(crate) fn distrust_tail(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// Removes a file, which may be missing already.
    pub(super) fn remove_file(&self, start: u64) -> Result<()> {
        let path = self.path(start);
        match self.shared.disk.metadata(&path)? {
            Some(_) => self.shared.disk.remove_file(&path),
            None => Ok(()),
        }
    }

    /// Drops every byte from a place on.
    fn cut_at(&self, byte: u64) -> Result<()> {
        let disk = self.shared.disk.as_ref();
        let size = self.shared.options.file_size;
        let mut state = self.state.lock();
        let taken = [state.tail.take(), state.read.take()];
        self.shared.maps.give_back(taken.iter().flatten().count());
        self.max.store(byte / UNIT_LEN, Ordering::Release);
        self.min.fetch_min(byte / UNIT_LEN, Ordering::AcqRel);
        let file_start = self.file_of(byte);
        let mut beyond = if byte == file_start && byte > state.first {
            file_start
        } else {
            file_start.saturating_add(size)
        };
        let keep_end = beyond;
        while beyond < state.end {
            self.remove_file(beyond)?;
            beyond = beyond.saturating_add(size);
        }
        state.end = keep_end.min(state.end);
        state.ready_end = byte;
        if file_start < state.end {
            let inside = byte.saturating_sub(file_start);
            disk.punch(&self.path(file_start), inside..size)?;
            state.ready_end = file_start.saturating_add(inside.next_multiple_of(BLOCK).min(size));
        }
        self.suspect.store(false, Ordering::Relaxed);
        self.mark_dirty(byte.saturating_sub(1));
        Ok(())
    }

    /// Removes all units and files: the queue is as if it had never been.
    pub(crate) fn clear(&self) -> Result<()> {
        let mut state = self.state.lock();
        let taken = [state.tail.take(), state.read.take()];
        self.shared.maps.give_back(taken.iter().flatten().count());
        let mut start = state.first;
        while start < state.end {
            self.remove_file(start)?;
            start = start.saturating_add(self.shared.options.file_size);
        }
        *state = State::default();
        self.min.store(0, Ordering::Release);
        self.max.store(0, Ordering::Release);
        self.suspect.store(false, Ordering::Relaxed);
        self.mark_dirty(0);
        Ok(())
    }
}
