//! Find by key and time: where in the log are the messages that carry this key?
//!
//! The index is derived from the log. Nothing in it is believed without looking at the message itself: a query yields
//! candidates, and whoever asks compares topic and key. It may fail, be damaged or be missing without any loss; the
//! [`end`](Index::end) says from where on the log must be asked instead, and from where on it is filled again.

mod entries;
mod file;
mod format;
mod load;
mod names;
mod parts;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use self::entries::Entries;
use self::file::IndexFile;
pub(crate) use self::format::{Geometry, KeyHasher, key_hash};
use self::load::mend;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::storage::{Access, Disk, Durable, NewFile};
use crate::sync::{AtomicBool, AtomicI64, AtomicU64, Mutex, Ordering, RwLock};
use crate::types::{PhysicalOffset, to_u64};

/// Messages whose slots are looked at together before the first of them is put.
const RUN_COUNT: usize = 64;
const PAGE_LEN: u64 = 4_096;
/// Real blocks are allocated in steps that double between these two.
const STEP_MIN: u64 = 64 << 10;
const STEP_MAX: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct IndexOptions {
    pub dir: PathBuf,
    /// Where new files are made, on the same file system.
    pub temp_dir: PathBuf,
    pub geometry: Geometry,
    /// Names new files.
    pub clock: Arc<dyn Clock>,
}

/// One key of one message. Those of a message follow each other in the order in which RocketMQ writes them: unique id
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexKey {
    pub physical: PhysicalOffset,
    pub store_millis: i64,
    pub hash: u32,
}

/// All index files of one broker: one writer at a time, any number of readers.
// Lock order: writer, then files.
#[derive(Debug)]
pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    options: IndexOptions,
    /// Oldest first; all but the last one are full.
    files: RwLock<Vec<Arc<IndexFile>>>,
    writer: Mutex<Writer>,
    end: AtomicU64,
    full_end_millis: AtomicI64,
    folder_unsynced: AtomicBool,
    sync_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Writer {
    file: Option<Arc<IndexFile>>,
    /// Number of the next entry.
    next: u32,
    /// Entries below this number lie in allocated blocks.
    room: u32,
    /// Up to this byte of the file, blocks are allocated; entries below `next` have theirs.
    allocated: u64,
    /// Whether the slots may be touched: another broker leaves holes between them.
    slots_allocated: bool,
    step: u64,
    /// The message of the newest entry.
    last_physical: Option<u64>,
}

impl Writer {
    fn at_end_of(files: &[Arc<IndexFile>], geometry: Geometry) -> Result<Self> {
        let file = files.last().map(Arc::clone);
        let next = file.as_ref().map_or(Ok(0), |file| file.next())?;
        let allocated = to_u64(geometry.entry_position(next));
        Ok(Self { file, next, allocated, last_physical: last_physical(files)?, ..Self::default() })
    }
}

/// Returns where the message of the newest entry starts.
fn last_physical(files: &[Arc<IndexFile>]) -> Result<Option<u64>> {
    for file in files.iter().rev() {
        if let Some(last) = file.last()? {
            return Ok(Some(last.physical));
        }
    }
    Ok(None)
}

impl Index {
    /// Returns the byte in the log before which every record is indexed, as far as the caller has said so with
    /// [`advance_to`](Self::advance_to).
    pub(crate) fn end(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.end.load(Ordering::Acquire))
    }

    /// Notes that every record that starts before `end` has been put.
    pub(crate) fn advance_to(&self, end: PhysicalOffset) {
        // Ordering: pairs with the load in `end`; whoever sees the new end sees the entries before it.
        self.end.fetch_max(end.get(), Ordering::AcqRel);
    }

    /// Puts messages in the order of the log, each with all its keys.
    ///
    /// What lies before [`end`](Self::end) or before the newest entry is there already and is passed over; a message
    /// that an earlier call put under some of its keys gets the others. Waits for another writer, and for the disk
    /// when a file must be made or extended.
    ///
    /// # Errors
    ///
    /// [`Error::StoreFull`] before a block is touched that does not exist, and [`Error::Io`]: the messages before the
    /// failing one are in, and calling again with the same run goes on from there.
    pub(crate) fn put_run(&self, run: &[IndexKey]) -> Result<()> {
        let mut writer = self.writer.lock();
        let end = self.end.load(Ordering::Relaxed);
        let (mut ahead, mut touched) = (run, 0_usize);
        for message in run.chunk_by(|key, next| key.physical == next.physical) {
            if touched == 0 {
                let (part, rest) = ahead.split_at(ahead.len().min(RUN_COUNT));
                if let (Some(file), 2..) = (&writer.file, part.len()) {
                    file.touch(part.iter().map(|key| key.hash));
                }
                (ahead, touched) = (rest, part.len());
            }
            touched = touched.saturating_sub(message.len());
            if message.first().is_some_and(|key| key.physical.get() >= end) {
                self.put_message(&mut writer, message)?;
            }
        }
        Ok(())
    }

    fn put_message(&self, writer: &mut Writer, message: &[IndexKey]) -> Result<()> {
        let Some(physical) = message.first().map(|key| key.physical.get()) else { return Ok(()) };
        let missing = match writer.last_physical {
            Some(last) if physical < last => return Ok(()),
            Some(last) if physical == last => self.missing_of(physical, message)?,
            _ => message,
        };
        for key in missing {
            if writer.next >= writer.room {
                self.make_room(writer)?;
            }
            let Some(file) = &writer.file else { return Ok(()) };
            file.put(key.hash, physical, key.store_millis)?;
            writer.next += 1;
            writer.last_physical = Some(physical);
        }
        Ok(())
    }

    /// Returns the keys of the newest message that it has not been put under yet.
    fn missing_of<'a>(&self, physical: u64, message: &'a [IndexKey]) -> Result<&'a [IndexKey]> {
        let mut there = Vec::new();
        for file in self.files.read().iter().rev() {
            if !file.trailing(physical, &mut there)? {
                break;
            }
        }
        there.reverse();
        // A message that another version of the broker put under other keys is put under all of ours: a query
        // yields it once all the same.
        if message.iter().zip(&there).any(|(key, hash)| key.hash != *hash) {
            return Ok(message);
        }
        Ok(message.get(there.len()..).unwrap_or_default())
    }

    /// Allocates the blocks of the next entries, in a new file if the last one is full.
    fn make_room(&self, writer: &mut Writer) -> Result<()> {
        let geometry = self.options.geometry;
        let (file, created) = match &writer.file {
            Some(file) if writer.next < geometry.entries => (Arc::clone(file), false),
            _ => (self.create_file()?, true),
        };
        if created {
            *writer = Writer {
                file: Some(Arc::clone(&file)),
                next: 1,
                allocated: Self::first_step(geometry),
                slots_allocated: true,
                step: STEP_MIN,
                last_physical: writer.last_physical,
                ..Writer::default()
            };
        } else {
            if !writer.slots_allocated {
                self.disk.allocate(file.path(), 0..geometry.entries_start())?;
                writer.slots_allocated = true;
            }
            let step = writer.step.saturating_mul(2).clamp(STEP_MIN, STEP_MAX);
            let until = (writer.allocated + step).next_multiple_of(PAGE_LEN).min(geometry.file_len());
            self.disk.allocate(file.path(), writer.allocated..until)?;
            file.populate(writer.allocated..until)?;
            (writer.allocated, writer.step) = (until, step);
        }
        let whole = writer.allocated.saturating_sub(geometry.entries_start()) / format::ENTRY_LEN;
        writer.room = u32::try_from(whole).unwrap_or(u32::MAX).min(geometry.entries);
        Ok(())
    }

    /// The slots are allocated at once, because they are hit at random, and the first entries with them.
    fn first_step(geometry: Geometry) -> u64 {
        (geometry.entries_start() + STEP_MIN).next_multiple_of(PAGE_LEN).min(geometry.file_len())
    }

    fn create_file(&self) -> Result<Arc<IndexFile>> {
        let (options, geometry) = (&self.options, self.options.geometry);
        let previous = self.files.read().last().cloned();
        let last_name = previous.as_ref().map(|file| file.name());
        let name = names::next_name(options.clock.wall_millis(), last_name);
        let path = options.dir.join(names::file_name(name));
        self.disk.create_dir_all(&options.dir)?;
        self.disk.create_dir_all(&options.temp_dir)?;
        let (disk, len) = (self.disk.as_ref(), geometry.file_len());
        let (first_blocks, temp_dir) = (Self::first_step(geometry), &options.temp_dir);
        NewFile { path: &path, temp_dir, len, first_blocks, durable: Durable::No }.create(disk)?;
        let mapped = self.disk.map(&path, 0..len, Access::Random);
        // A file that is left behind would be an empty one in the middle, with which the next opening ends.
        let map = mapped.inspect_err(|_| drop(self.disk.remove_file(&path)))?;
        let file = Arc::new(IndexFile::new(map, geometry, name));
        if let Some(previous) = previous {
            file.start_after(&previous)?;
        }
        self.folder_unsynced.store(true, Ordering::Release);
        self.files.write().push(Arc::clone(&file));
        Ok(file)
    }

    /// Visits the messages that have a key with this hash and may have been stored in `times` (milliseconds since
    /// 1970), newest first, each once.
    ///
    /// They are candidates: another key may have the same hash, the index knows times to the second only, and a
    /// damaged entry leads anywhere. Does not wait for writers.
    pub(crate) fn query(
        &self,
        hash: u32,
        times: RangeInclusive<i64>,
        visit: &mut dyn FnMut(PhysicalOffset) -> ControlFlow<()>,
    ) -> Result<()> {
        let files = self.files.read().clone();
        // A message that carries a key twice has two entries, next to each other in its chain.
        let mut last = None;
        let mut once = |physical| {
            if last.replace(physical) == Some(physical) {
                return ControlFlow::Continue(());
            }
            visit(PhysicalOffset::new(physical))
        };
        // No file is passed over by its times: a clock that was set back makes them lie.
        for file in files.iter().rev() {
            if file.walk(hash, &times, &mut once)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Syncs all files and their folder, and returns the byte in the log before which everything indexed is now on
    /// disk. Writers go on meanwhile.
    ///
    /// # Errors
    ///
    /// Once a sync has failed, every later one fails too until the files are dropped: what the system then calls
    /// clean may not be on disk.
    pub(crate) fn sync(&self) -> Result<PhysicalOffset> {
        if self.sync_failed.load(Ordering::Acquire) {
            let source =
                io::Error::other("a sync of the index failed before, and its files cannot be trusted");
            return Err(Error::io("sync", &self.options.dir, source));
        }
        let end = self.end();
        self.sync_all().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))?;
        Ok(end)
    }

    fn sync_all(&self) -> Result<()> {
        let files = self.files.read().clone();
        let mut full_end_millis = 0;
        for file in &files {
            if file.is_full()? {
                full_end_millis = file.end_millis()?;
            }
            file.sync()?;
        }
        if self.folder_unsynced.swap(false, Ordering::AcqRel) {
            self.disk.sync_dir(&self.options.dir)?;
        }
        self.full_end_millis.store(full_end_millis, Ordering::Release);
        Ok(())
    }

    /// Returns the last store time in the newest full file that has been synced, 0 if there is none: the
    /// checkpoint's third field.
    pub(crate) fn last_full_end_millis(&self) -> i64 {
        self.full_end_millis.load(Ordering::Acquire)
    }

    /// Removes the files all of whose messages start before `log_min`, but never the last one. Readers keep theirs.
    pub(crate) fn drop_before(&self, log_min: PhysicalOffset) -> Result<()> {
        let _writer = self.writer.lock();
        loop {
            let oldest = match self.files.read().as_slice() {
                [oldest, _, ..] => Arc::clone(oldest),
                _ => return Ok(()),
            };
            match oldest.last()? {
                Some(last) if last.physical < log_min.get() => {}
                _ => return Ok(()),
            }
            self.disk.remove_file(oldest.path())?;
            self.files.write().retain(|file| file.name() != oldest.name());
        }
    }
}
