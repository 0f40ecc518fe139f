//! How is one queue written, read and mended?

use std::path::PathBuf;
use std::sync::Arc;

use super::Shared;
use super::files::{self, FoundFile};
use super::unit::{UNIT_BYTES, UNIT_LEN, Unit};
use super::windows::{OVERLAP, WINDOW, Window};
use crate::error::{Error, Result};
use crate::storage::{Access, file_name};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::types::{QueueOffset, TopicName, to_u64, to_usize};

/// The first step in which a file gets its blocks, and the unit of all.
pub(super) const BLOCK: u64 = 4_096;
/// What `dirty_from` holds when nothing is.
const CLEAN: u64 = u64::MAX;

/// The files of a queue, and the windows into them that are mapped.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The window in which the next unit goes.
    pub(super) tail: Option<Window>,
    /// The window that was read last, if it is another one.
    pub(super) read: Option<Window>,
    /// Bytes of the queue before this have real blocks, in the last file.
    pub(super) ready_end: u64,
    /// Where the first file starts and the last one ends; equal if there is none.
    pub(super) first: u64,
    pub(super) end: u64,
}

/// One queue of one topic.
#[derive(Debug)]
pub(crate) struct ConsumeQueue {
    pub(super) shared: Arc<Shared>,
    topic: TopicName,
    queue_id: u32,
    /// Used since the clock hand last passed.
    pub(super) used: AtomicBool,
    /// Something stands behind the last unit that is no unit: it must be removed before the first append.
    pub(super) suspect: AtomicBool,
    pub(super) min: AtomicU64,
    /// One past the last unit that readers may see.
    pub(super) max: AtomicU64,
    /// The first byte that is not synced.
    dirty_from: AtomicU64,
    pub(super) state: Mutex<State>,
}

impl ConsumeQueue {
    pub(super) fn empty(shared: &Arc<Shared>, topic: TopicName, queue_id: u32) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            topic,
            queue_id,
            used: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            min: AtomicU64::new(0),
            max: AtomicU64::new(0),
            dirty_from: AtomicU64::new(CLEAN),
            state: Mutex::default(),
        })
    }

    /// Finds out what a queue on disk holds, without touching it.
    pub(super) fn open(
        shared: &Arc<Shared>,
        topic: TopicName,
        queue_id: u32,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Self>> {
        let queue = Self::empty(shared, topic, queue_id);
        let dir = queue.dir();
        let size = shared.options.file_size;
        let mut found = files::files_in(shared.disk.as_ref(), &dir, warnings)?;
        // What a crash leaves of a new last file is as good as no file.
        while found.last().is_some_and(|last| last.len < size) {
            found.pop();
        }
        check_lengths(&found, size, &dir)?;
        let end = found.last().map_or(0, |last| last.start.saturating_add(size));
        let row = row_len(&found, size);
        found.truncate(row);
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(queue) };
        let units = queue.count_units(last.start)?;
        let inside = units.saturating_mul(UNIT_LEN);
        let max = last.start.saturating_add(inside);
        // Blocks count from the start of the file, and that is rarely a multiple of a block in the queue.
        let ready_end = last.start.saturating_add(inside.next_multiple_of(BLOCK).min(size));
        {
            let mut state = queue.state.lock();
            (state.first, state.end) = (first.start, end);
            state.ready_end = ready_end;
        }
        if end > last.start.saturating_add(size) {
            warnings.push(format!("a file is missing in the middle of {}", dir.display()));
            queue.suspect.store(true, Ordering::Relaxed);
        }
        queue.min.store(first.start / UNIT_LEN, Ordering::Relaxed);
        queue.max.store(max / UNIT_LEN, Ordering::Release);
        Ok(queue)
    }

    /// Returns the topic.
    pub(crate) const fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Returns the number of the queue.
    pub(crate) const fn queue_id(&self) -> u32 {
        self.queue_id
    }

    /// Returns the first offset that exists.
    pub(crate) fn min_offset(&self) -> QueueOffset {
        QueueOffset::new(self.min.load(Ordering::Acquire))
    }

    /// Returns the offset that the next unit will get.
    pub(crate) fn max_offset(&self) -> QueueOffset {
        // Ordering: partner of the store in `Tail::publish`; every unit before it is written.
        QueueOffset::new(self.max.load(Ordering::Acquire))
    }

    pub(super) fn dir(&self) -> PathBuf {
        files::dir_of(&self.shared.options.dir, &self.topic, self.queue_id)
    }

    pub(super) fn path(&self, file_start: u64) -> PathBuf {
        self.dir().join(file_name(file_start))
    }

    /// Returns where the file starts in which a byte of the queue lies.
    pub(super) fn file_of(&self, byte: u64) -> u64 {
        byte.checked_rem(self.shared.options.file_size).map_or(0, |inside| byte.saturating_sub(inside))
    }

    /// Counts the units at the beginning of a file, and notes whether anything stands behind them.
    fn count_units(&self, file_start: u64) -> Result<u64> {
        let path = self.path(file_start);
        let total = self.shared.options.file_size / UNIT_LEN;
        let block_units = BLOCK / UNIT_LEN;
        let read = |unit: u64, count: u64| {
            let len = to_usize(count.saturating_mul(UNIT_LEN));
            self.shared.disk.read_at(&path, unit.saturating_mul(UNIT_LEN), len)
        };
        let (mut low, mut high) = (0, total);
        let first = read(0, block_units)?;
        let leading = leading_units(&first);
        if leading < block_units {
            (low, high) = (leading, leading);
        }
        while low < high {
            let middle = low.midpoint(high);
            if Unit::decode(&read(middle, 1)?).is_some() {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        let behind = read(low, block_units)?;
        self.suspect.store(behind.iter().any(|byte| *byte != 0), Ordering::Relaxed);
        Ok(low)
    }

    /// Maps the window in which a byte of the queue lies; `last` is the one that it takes the place of.
    pub(super) fn map(&self, byte: u64, last: Option<&Window>) -> Result<Window> {
        let size = self.shared.options.file_size;
        let file_start = self.file_of(byte);
        let inside = byte.saturating_sub(file_start);
        let from = inside / WINDOW * WINDOW;
        let span = last.map_or(WINDOW, |last| last.next_span(byte));
        let to = from.saturating_add(span).saturating_add(OVERLAP).min(size);
        self.shared.maps.take_one();
        let map = self.shared.disk.map(&self.path(file_start), from..to, Access::Random);
        if map.is_err() {
            self.shared.maps.give_back(1);
        }
        Ok(Window { start: file_start.saturating_add(from), span, map: map? })
    }

    /// Returns the window in which a unit lies that can be read.
    pub(super) fn window(&self, byte: u64) -> Result<Window> {
        let mut state = self.state.lock();
        self.used.store(true, Ordering::Relaxed);
        let State { tail, read, .. } = &*state;
        if let Some(window) = [tail, read].into_iter().flatten().find(|window| window.covers(byte)) {
            return Ok(window.clone());
        }
        let window = self.map(byte, state.read.as_ref())?;
        if state.read.replace(window.clone()).is_some() {
            self.shared.maps.give_back(1);
        }
        Ok(window)
    }

    /// Gives up the maps, unless they have been used since the last time or are in use.
    pub(super) fn give_up_maps(&self) {
        if self.used.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(mut state) = self.state.try_lock() {
            let taken = [state.tail.take(), state.read.take()];
            self.shared.maps.give_back(taken.iter().flatten().count());
        }
    }

    /// Returns the unit at a place, `None` if there is none.
    pub(crate) fn get(&self, at: QueueOffset) -> Result<Option<Unit>> {
        let mut units = Vec::with_capacity(1);
        self.read_raw(at, 1, &mut |unit| units.push(unit))?;
        Ok(units.pop().flatten())
    }

    /// Adds up to `count_max` units from a place on, those that readers may see. A place whose unit is damaged gives a
    /// unit that no record can match.
    pub(crate) fn read(&self, from: QueueOffset, count_max: usize, out: &mut Vec<Unit>) -> Result<()> {
        self.read_raw(from, count_max, &mut |unit| out.push(unit.unwrap_or(Unit::BLANK)))
    }

    fn read_raw(
        &self,
        from: QueueOffset,
        count_max: usize,
        each: &mut dyn FnMut(Option<Unit>),
    ) -> Result<()> {
        let first = self.state.lock().first;
        let mut byte = from.get().saturating_mul(UNIT_LEN);
        if byte < first {
            return Ok(());
        }
        let wanted = to_u64(count_max).saturating_mul(UNIT_LEN);
        let end = byte.saturating_add(wanted).min(self.max_offset().get().saturating_mul(UNIT_LEN));
        while byte < end {
            let window = match self.window(byte) {
                Ok(window) => window,
                // The file was dropped after the look at `first`.
                Err(_) if byte < self.state.lock().first => return Ok(()),
                Err(error) => return Err(error),
            };
            let stop = end
                .min(window.start.saturating_add(window.span))
                .min(self.file_of(byte).saturating_add(self.shared.options.file_size));
            let whole = stop.saturating_sub(byte).next_multiple_of(UNIT_LEN);
            let position = to_usize(byte.saturating_sub(window.start));
            let bytes =
                window.map.bytes(position..position.saturating_add(to_usize(whole))).unwrap_or_default();
            if bytes.is_empty() {
                return Err(Error::corrupt(window.map.path(), byte, "a unit lies outside the mapped window"));
            }
            bytes.chunks_exact(UNIT_BYTES).for_each(|bytes| each(Unit::decode(bytes)));
            byte = byte.saturating_add(whole);
        }
        Ok(())
    }

    /// Returns the last unit and its place.
    pub(crate) fn last(&self) -> Result<Option<(QueueOffset, Unit)>> {
        let Some(last) = self.max_offset().get().checked_sub(1) else { return Ok(None) };
        let at = QueueOffset::new(last);
        Ok(self.get(at)?.filter(|unit| !unit.is_blank()).map(|unit| (at, unit)))
    }

    /// Returns the first place whose unit the predicate accepts, the end if it accepts none. The predicate must accept
    /// everything behind what it accepts.
    pub(crate) fn first_at_or_after(
        &self,
        mut accepts: impl FnMut(Unit) -> Result<bool>,
    ) -> Result<QueueOffset> {
        self.partition(self.min_offset().get(), |unit| {
            unit.map_or(Ok(true), &mut accepts).map(|accepted| !accepted)
        })
    }

    /// Returns the first place from `low` on whose unit the predicate does not accept.
    pub(super) fn partition(
        &self,
        low: u64,
        mut accepts: impl FnMut(Option<Unit>) -> Result<bool>,
    ) -> Result<QueueOffset> {
        let (mut low, mut high) = (low, self.max_offset().get());
        while low < high {
            let middle = low.midpoint(high);
            if accepts(self.get(QueueOffset::new(middle))?)? {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(QueueOffset::new(low))
    }

    /// Tells whether units are not synced yet.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_from.load(Ordering::Relaxed) != CLEAN
    }

    pub(super) fn take_dirty(&self) -> u64 {
        self.dirty_from.swap(CLEAN, Ordering::AcqRel)
    }

    pub(super) fn mark_dirty(&self, from: u64) {
        if self.dirty_from.load(Ordering::Relaxed) > from {
            self.dirty_from.fetch_min(from, Ordering::AcqRel);
        }
    }

    /// Gets the changed files of this queue to disk, and their names.
    pub(super) fn sync(&self) -> Result<()> {
        let from = self.take_dirty();
        let disk = self.shared.disk.as_ref();
        let (first, end) = {
            let state = self.state.lock();
            (state.first, state.end)
        };
        let mut start = self.file_of(from).max(first);
        let written = self.max_offset().get().saturating_mul(UNIT_LEN).max(from);
        while start < end && start <= written {
            disk.sync_file(&self.path(start))?;
            start = start.saturating_add(self.shared.options.file_size);
        }
        let dir = self.dir();
        if disk.metadata(&dir)?.is_some() {
            disk.sync_dir(&dir)?;
            disk.sync_dir(&self.shared.options.dir.join(self.topic.as_str()))?;
        }
        Ok(())
    }
}

/// Checks that the files of a queue have one length.
fn check_lengths(found: &[FoundFile], size: u64, dir: &std::path::Path) -> Result<()> {
    let Some(wrong) = found.iter().find(|file| file.len != size) else { return Ok(()) };
    let what = format!("has {} bytes where the queue's files have {size}", wrong.len);
    Err(Error::corrupt(&dir.join(file_name(wrong.start)), wrong.len.min(size), what))
}

/// Returns how many files from the first one on follow each other without a hole.
fn row_len(found: &[FoundFile], size: u64) -> usize {
    let aligned = found.first().is_some_and(|first| first.start.is_multiple_of(size));
    let pairs = found.iter().zip(found.iter().skip(1));
    let following = pairs.take_while(|(file, next)| next.start == file.start.saturating_add(size)).count();
    if aligned { following.saturating_add(1) } else { 0 }
}

/// Counts the units at the beginning of some bytes.
fn leading_units(bytes: &[u8]) -> u64 {
    to_u64(bytes.chunks_exact(UNIT_BYTES).take_while(|unit| Unit::decode(unit).is_some()).count())
}
