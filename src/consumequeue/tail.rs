//! How does a queue grow? Room is made first, and only then are units written: a full disk is found out in time.

use super::ConsumeQueue;
use super::queue::{BLOCK, State};
use super::unit::{UNIT_LEN, Unit};
use crate::error::{Error, Result};
use crate::storage::{Durable, EntryKind, NewFile};
use crate::sync::{MutexGuard, Ordering};
use crate::types::{QueueOffset, to_u64, to_usize};

/// The largest step in which a file gets its blocks.
const STEP_MAX: u64 = 64 << 10;

/// The end of a queue, locked for its one writer.
#[derive(Debug)]
pub(crate) struct Tail<'a> {
    queue: &'a ConsumeQueue,
    state: MutexGuard<'a, State>,
}

impl ConsumeQueue {
    /// Locks the end of the queue. Whoever reads a unit meanwhile may have to wait.
    pub(crate) fn tail(&self) -> Tail<'_> {
        Tail { queue: self, state: self.state.lock() }
    }

    /// Appends one unit, which readers see when this returns. One writer at a time.
    pub(crate) fn append(&self, at: QueueOffset, unit: Unit) -> Result<()> {
        self.append_run(at, &[unit])
    }

    /// Appends units that follow each other, which readers see all at once. One writer at a time.
    pub(crate) fn append_run(&self, at: QueueOffset, units: &[Unit]) -> Result<()> {
        self.tail().append_run(at, units)
    }
}

impl Tail<'_> {
    /// Has room for `count` more units: blocks, and the next file where this one ends. Cheap when there is room.
    pub(crate) fn prepare(&mut self, count: usize) -> Result<()> {
        let next = self.queue.max.load(Ordering::Relaxed).saturating_mul(UNIT_LEN);
        let needed = next.saturating_add(to_u64(count).saturating_mul(UNIT_LEN));
        let ready = self.state.ready_end;
        if needed > ready {
            self.make_ready(needed)?;
        }
        self.cover(next)?;
        if self.state.ready_end.saturating_sub(ready) >= STEP_MAX {
            // A page that could not be had is asked for again before it is written to.
            self.populate(ready).inspect_err(|_| self.state.ready_end = ready)?;
        }
        Ok(())
    }

    /// Has the pages of a large step ready: one call instead of a fault for every two hundred units.
    fn populate(&self, from: u64) -> Result<()> {
        let Some(tail) = &self.state.tail else { return Ok(()) };
        let within = |byte: u64| to_usize(byte.saturating_sub(tail.start)).min(tail.map.len());
        tail.map.populate(within(from)..within(self.state.ready_end))
    }

    /// Appends units that follow each other, which readers see all at once.
    pub(crate) fn append_run(&mut self, at: QueueOffset, units: &[Unit]) -> Result<()> {
        let queue = self.queue;
        let max = queue.max.load(Ordering::Relaxed);
        if at.get() != max {
            return Err(self.not_next(at, max));
        }
        let from = max.saturating_mul(UNIT_LEN);
        let needed = from.saturating_add(to_u64(units.len()).saturating_mul(UNIT_LEN));
        if needed > self.state.ready_end {
            self.make_ready(needed)?;
        }
        let mut next = at;
        for unit in units {
            self.write(next, unit)?;
            next = next.plus(1);
        }
        self.publish(at, next);
        Ok(())
    }

    /// Writes a unit into the room that was made for it, behind those that readers see.
    #[inline]
    pub(crate) fn write(&mut self, at: QueueOffset, unit: &Unit) -> Result<()> {
        let byte = at.get().saturating_mul(UNIT_LEN);
        self.cover(byte)?;
        let Some(tail) = &self.state.tail else { return Ok(()) };
        tail.map.put(to_usize(byte.saturating_sub(tail.start)), &unit.encode())
    }

    /// Lets readers see, all at once, the units between that have been written.
    #[inline]
    pub(crate) fn publish(&self, from: QueueOffset, to: QueueOffset) {
        let queue = self.queue;
        queue.used.store(true, Ordering::Relaxed);
        // Ordering: partner of the load in `max_offset`.
        queue.max.store(to.get(), Ordering::Release);
        // After the publication: a sync that takes the mark sees how far it has to go.
        queue.mark_dirty(from.get().saturating_mul(UNIT_LEN));
    }

    #[cold]
    fn not_next(&self, at: QueueOffset, max: u64) -> Error {
        let (id, topic) = (self.queue.queue_id(), self.queue.topic());
        let what = format!("unit {at} was to follow unit {max} of queue {id} of {topic}");
        Error::corrupt(&self.queue.dir(), max.saturating_mul(UNIT_LEN), what)
    }

    /// Has the window mapped in which the unit goes that starts at a byte of the queue.
    fn cover(&mut self, byte: u64) -> Result<()> {
        if self.state.tail.as_ref().is_some_and(|tail| tail.covers(byte)) {
            return Ok(());
        }
        let window = self.queue.map(byte, self.state.tail.as_ref())?;
        if self.state.tail.replace(window).is_some() {
            self.queue.shared.maps.give_back(1);
        }
        Ok(())
    }

    /// Puts real blocks behind everything before `needed`, making files on the way.
    fn make_ready(&mut self, needed: u64) -> Result<()> {
        let queue = self.queue;
        let size = queue.shared.options.file_size;
        let state = &mut self.state;
        while state.ready_end < needed {
            if state.ready_end >= state.end {
                let start = state.end;
                queue.make_file(start)?;
                state.end = start.saturating_add(size);
                state.ready_end = start.saturating_add(BLOCK.min(size));
                continue;
            }
            let file_start = queue.file_of(state.ready_end);
            let have = state.ready_end.saturating_sub(file_start);
            let step = have.clamp(BLOCK, STEP_MAX);
            let upto = have.saturating_add(step).next_multiple_of(BLOCK).min(size);
            queue.shared.disk.allocate(&queue.path(file_start), have..upto)?;
            state.ready_end = file_start.saturating_add(upto);
        }
        Ok(())
    }
}

impl ConsumeQueue {
    fn make_file(&self, start: u64) -> Result<()> {
        let disk = self.shared.disk.as_ref();
        let options = &self.shared.options;
        let path = self.path(start);
        let dir = self.dir();
        if disk.metadata(&dir)?.is_none() {
            let topic_dir = options.dir.join(self.topic().as_str());
            disk.create_dir(&topic_dir)?;
            disk.create_dir(&dir)?;
        }
        // What a crash left of a last file, and what does not count as one.
        self.remove_file(start)?;
        let (path, temp_dir, len) = (&path, &options.temp_dir, options.file_size);
        // What a crash left of a file counted as no file when the queue was opened.
        if disk.metadata(path)?.is_some_and(|left| left.kind == EntryKind::File && left.len < len) {
            disk.remove_file(path)?;
        }
        NewFile { path, temp_dir, len, first_blocks: BLOCK, durable: Durable::No }.create(disk)?;
        self.mark_dirty(start);
        Ok(())
    }
}
