//! Which files make up the log, how large are they, and which of their bytes have real blocks?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{
    Access, Disk, Durable, Entry, EntryKind, MappedFile, NewFile, file_name, parse_file_name,
};
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};
use crate::types::to_u64;

/// The first and smallest step in which a log file gets its blocks.
const STEP_MIN: u64 = 1 << 20;
/// The largest step.
const STEP_MAX: u64 = 16 << 20;
/// Blocks of the file system, to which recovered ends are rounded.
const BLOCK: u64 = 4_096;

/// Where a log lies and how large its files are.
#[derive(Debug, Clone)]
pub(crate) struct LogOptions {
    /// The folder `commitlog`.
    pub(crate) dir: PathBuf,
    /// A folder on the same file system in which files are made before they are renamed into place.
    pub(crate) temp_dir: PathBuf,
    /// Bytes of a file.
    pub(crate) file_size: u64,
    /// Bytes that must stay free on the disk; below that, no block is allocated.
    pub(crate) free_min: u64,
    /// How full the disk may be, in percent, for a block to be allocated.
    pub(crate) used_percent_max: u8,
}

/// One file of the log, mapped whole.
#[derive(Debug)]
pub(crate) struct LogFile {
    start: u64,
    map: Arc<MappedFile>,
    /// Bytes from the file's start that have real blocks. Grows only.
    allocated: AtomicU64,
}

impl LogFile {
    /// Returns the physical offset of its first byte.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the mapping.
    pub(crate) const fn map(&self) -> &Arc<MappedFile> {
        &self.map
    }

    /// Returns the physical offset after its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(to_u64(self.map.len()))
    }

    /// Returns how many bytes from its start have real blocks.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Acquire)
    }
}

/// All files of a log, in order, and the one that waits to be the next.
#[derive(Debug)]
pub(crate) struct LogFiles {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    list: RwLock<Vec<Arc<LogFile>>>,
    ahead: Mutex<Option<Arc<LogFile>>>,
    /// Held while blocks are allocated, so that two threads do not allocate the same step.
    allocation: Mutex<()>,
}

impl LogFiles {
    /// Lists and maps the files of the folder, which may be empty. Strange names are left alone and reported.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Self, Vec<String>)> {
        let mut warnings = Vec::new();
        let mut list = Vec::new();
        for found in inspect(disk.as_ref(), &options.dir, &mut warnings)? {
            if found.len != options.file_size {
                let what =
                    format!("has {} bytes where the log's files have {}", found.len, options.file_size);
                return Err(Error::corrupt(&found.path, found.len.min(options.file_size), what));
            }
            if !found.start.is_multiple_of(options.file_size) {
                let what = format!("is named {}, which is no multiple of {}", found.start, options.file_size);
                return Err(Error::corrupt(&found.path, 0, what));
            }
            let map = disk.map(&found.path, 0..found.len, Access::Sequential)?;
            list.push(Arc::new(LogFile { start: found.start, map, allocated: AtomicU64::new(found.len) }));
        }
        let files = Self {
            disk,
            options,
            list: RwLock::new(list),
            ahead: Mutex::new(None),
            allocation: Mutex::new(()),
        };
        Ok((files, warnings))
    }

    /// Returns the size that the files of a folder have, `None` if there are none.
    ///
    /// # Errors
    ///
    /// `Corrupt` naming the file if two differ, or if a name is almost a log file's.
    pub(crate) fn existing_size(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>> {
        let found = inspect(disk, dir, &mut Vec::new())?;
        let Some(first) = found.first() else { return Ok(None) };
        for other in &found {
            if other.len != first.len {
                let what = format!("has {} bytes, but {} has {}", other.len, first.path.display(), first.len);
                return Err(Error::corrupt(&other.path, other.len.min(first.len), what));
            }
        }
        Ok(Some(first.len))
    }

    /// Returns the missing ranges between the first file and the last.
    pub(crate) fn holes(&self) -> Vec<(u64, u64)> {
        let list = self.list.read();
        let pairs = list.iter().zip(list.iter().skip(1));
        pairs
            .filter(|(one, next)| one.end() != next.start())
            .map(|(one, next)| (one.end(), next.start()))
            .collect()
    }

    /// Returns the physical offset of the first byte, 0 in an empty log.
    pub(crate) fn start(&self) -> u64 {
        self.list.read().first().map_or(0, |file| file.start())
    }

    /// Returns the physical offset after the last file.
    pub(crate) fn limit(&self) -> u64 {
        self.list.read().last().map_or(0, |file| file.end())
    }

    /// Returns the file in which `offset` lies.
    pub(crate) fn at(&self, offset: u64) -> Option<Arc<LogFile>> {
        let list = self.list.read();
        let after = list.partition_point(|file| file.start() <= offset);
        list.get(after.checked_sub(1)?).filter(|file| offset < file.end()).cloned()
    }

    /// Returns the file that starts at `start` or is the first one after it.
    pub(crate) fn starting_from(&self, start: u64) -> Option<Arc<LogFile>> {
        let list = self.list.read();
        list.get(list.partition_point(|file| file.start() < start)).cloned()
    }

    /// Returns the files that reach into the range, in order.
    pub(crate) fn within(&self, from: u64, to: u64) -> Vec<Arc<LogFile>> {
        self.list.read().iter().filter(|file| file.end() > from && file.start() < to).cloned().collect()
    }

    /// Returns the starts of all files, in order.
    pub(crate) fn starts(&self) -> Vec<u64> {
        self.list.read().iter().map(|file| file.start()).collect()
    }

    /// Returns the folder.
    pub(crate) const fn dir(&self) -> &PathBuf {
        &self.options.dir
    }

    /// Returns the bytes that must stay free on the disk.
    pub(crate) const fn free_min(&self) -> u64 {
        self.options.free_min
    }

    /// Returns the bytes of a file.
    pub(crate) const fn file_size(&self) -> u64 {
        self.options.file_size
    }

    /// Drops everything from `end` on: later files go, the rest of the last one becomes zeros without blocks, and
    /// both are on disk when this returns (contract D3). Returns the file that is written next.
    pub(crate) fn cut(&self, end: u64) -> Result<Arc<LogFile>> {
        let beyond: Vec<_> = {
            let mut list = self.list.write();
            let keep = list.partition_point(|file| file.start() < end);
            list.split_off(keep)
        };
        // Crash: the last file goes first, so that what a crash leaves is still a row without holes.
        for file in beyond.iter().rev() {
            self.disk.remove_file(file.map.path())?;
        }
        if !beyond.is_empty() {
            self.disk.sync_dir(&self.options.dir)?;
        }
        let last = self.list.read().last().cloned();
        match last {
            Some(file) if end < file.end() => {
                let from = end.saturating_sub(file.start());
                let len = to_u64(file.map.len());
                self.disk.punch(file.map.path(), from..len)?;
                self.disk.sync_file(file.map.path())?;
                file.allocated.store(from.next_multiple_of(BLOCK).min(len), Ordering::Release);
                Ok(file)
            }
            Some(file) => self.add_after(file.end()),
            None => self.add_after(end),
        }
    }

    /// Makes the file for a log that has none at `start`, and lists it.
    ///
    /// Lock order: `ahead`, then `list`. Both are held until the file is listed, so that the allocator never makes a
    /// file again that the writer has made.
    fn add_after(&self, start: u64) -> Result<Arc<LogFile>> {
        let mut ahead = self.ahead.lock();
        let file = match ahead.take() {
            Some(file) if file.start() == start => file,
            _ => self.create(start)?,
        };
        self.list.write().push(Arc::clone(&file));
        Ok(file)
    }

    /// Lists the file that follows the last one and returns it; it waits here already unless the writer was faster
    /// than the allocator.
    pub(crate) fn next(&self) -> Result<Arc<LogFile>> {
        self.add_after(self.limit())
    }

    /// Makes the file that is missing in the row where `offset` lies.
    pub(crate) fn fill_hole(&self, offset: u64) -> Result<Arc<LogFile>> {
        let size = self.options.file_size;
        let file = self.create(offset.checked_rem(size).map_or(0, |inside| offset.saturating_sub(inside)))?;
        let mut list = self.list.write();
        let place = list.partition_point(|other| other.start() < file.start());
        list.insert(place, Arc::clone(&file));
        Ok(file)
    }

    /// Makes the next file, if it is not there yet.
    pub(crate) fn make_ahead(&self) -> Result<Arc<LogFile>> {
        let mut ahead = self.ahead.lock();
        let start = self.limit();
        match &*ahead {
            Some(file) if file.start() == start => Ok(Arc::clone(file)),
            _ => Ok(Arc::clone(ahead.insert(self.create(start)?))),
        }
    }

    /// Removes the file that was made ahead and never used, as a clean stop does.
    pub(crate) fn drop_ahead(&self) -> Result<()> {
        if let Some(file) = self.ahead.lock().take() {
            self.disk.remove_file(file.map.path())?;
            self.disk.sync_dir(&self.options.dir)?;
        }
        Ok(())
    }

    fn create(&self, start: u64) -> Result<Arc<LogFile>> {
        self.check_space()?;
        let path = self.options.dir.join(file_name(start));
        if self.disk.metadata(&path)?.is_some_and(|found| found.len == 0) {
            // A last file without a byte counts as absent.
            self.disk.remove_file(&path)?;
        }
        let len = self.options.file_size;
        let step = STEP_MIN.min(len);
        let temp_dir = &self.options.temp_dir;
        // A file without a byte counted as absent when the log was opened.
        if self.disk.metadata(&path)?.is_some_and(|left| left.kind == EntryKind::File && left.len == 0) {
            self.disk.remove_file(&path)?;
        }
        NewFile { path: &path, temp_dir, len, first_blocks: step, durable: Durable::Yes }
            .create(self.disk.as_ref())?;
        let map = self.disk.map(&path, 0..len, Access::Sequential)?;
        Ok(Arc::new(LogFile { start, map, allocated: AtomicU64::new(step) }))
    }

    /// Sees to it that the first `needed` bytes of a file have real blocks; asks for more than that at once.
    pub(crate) fn allocate(&self, file: &LogFile, needed: u64) -> Result<()> {
        if needed <= file.allocated() {
            return Ok(());
        }
        let _one_at_a_time = self.allocation.lock();
        let have = file.allocated();
        if needed <= have {
            return Ok(());
        }
        self.check_space()?;
        let len = to_u64(file.map.len());
        let generous = have
            .saturating_add(have.clamp(STEP_MIN, STEP_MAX))
            .min(needed.next_multiple_of(STEP_MIN))
            .max(needed)
            .min(len);
        let modest = needed.next_multiple_of(BLOCK).min(len);
        let got = match self.disk.allocate(file.map.path(), have..generous) {
            Ok(()) => generous,
            Err(Error::StoreFull(_)) => self.disk.allocate(file.map.path(), have..modest).map(|()| modest)?,
            Err(error) => return Err(error),
        };
        file.allocated.store(got, Ordering::Release);
        Ok(())
    }

    /// Returns the oldest file and where the one behind it starts; `None` where there is no other, because the file that
    /// is written to stays.
    pub(crate) fn oldest(&self) -> Option<(Arc<LogFile>, u64)> {
        match self.list.read().as_slice() {
            [oldest, next, ..] => Some((Arc::clone(oldest), next.start())),
            _ => None,
        }
    }

    /// Removes the oldest file. It is gone from the folder and the folder is synced when this returns, so that files go
    /// in their order whatever happens. Who reads from it keeps its mapping.
    pub(crate) fn remove_oldest(&self, oldest: &Arc<LogFile>) -> Result<()> {
        self.disk.remove_file(oldest.map.path())?;
        // Also where the sync fails: the name is gone for this process, and a power loss may bring it back.
        let synced = self.disk.sync_dir(&self.options.dir);
        self.list.write().retain(|file| !Arc::ptr_eq(file, oldest));
        synced
    }

    /// Returns how much of the disk is free and how large it is, in bytes.
    pub(crate) fn space(&self) -> Result<(u64, u64)> {
        Ok((self.disk.free_bytes(&self.options.dir)?, self.disk.total_bytes(&self.options.dir)?))
    }

    /// Refuses if the disk is close to full.
    pub(crate) fn check_space(&self) -> Result<()> {
        if self.options.used_percent_max < 100 {
            let (free, total) = self.space()?;
            let percent = used_percent(free, total);
            if percent > self.options.used_percent_max {
                let dir = self.options.dir.display();
                let reason = format!(
                    "the disk of {dir} is {percent} % full, and above {} % nothing is taken",
                    self.options.used_percent_max
                );
                return Err(Error::StoreFull(reason.into()));
            }
        }
        let free = self.disk.free_bytes(&self.options.dir)?;
        if free < self.options.free_min {
            let reason = format!(
                "{} has {free} bytes free, {} are kept",
                self.options.dir.display(),
                self.options.free_min
            );
            return Err(Error::StoreFull(reason.into()));
        }
        Ok(())
    }
}

/// Returns how full a disk is, in percent, rounded up.
pub(crate) fn used_percent(free: u64, total: u64) -> u8 {
    let used = u128::from(total.saturating_sub(free)).saturating_mul(100);
    let percent = used.div_ceil(u128::from(total.max(1)));
    u8::try_from(percent).unwrap_or(100).min(100)
}

/// A file of a log as its folder lists it.
struct FoundFile {
    start: u64,
    len: u64,
    path: PathBuf,
}

/// Lists the log files of a folder. A last file without a byte counts as absent; a stray file is reported.
fn inspect(disk: &dyn Disk, dir: &Path, warnings: &mut Vec<String>) -> Result<Vec<FoundFile>> {
    let mut found = Vec::new();
    for entry in disk.list(dir)?.unwrap_or_default() {
        let path = dir.join(&entry.name);
        let Some(start) = parse_file_name(&entry.name) else {
            if is_almost_a_log_file(&entry) {
                return Err(Error::corrupt(
                    &path,
                    0,
                    "is named almost like a log file, but not with 20 decimal digits",
                ));
            }
            warnings.push(format!("{} does not belong to the commit log and is left alone", path.display()));
            continue;
        };
        if entry.kind != EntryKind::File {
            return Err(Error::corrupt(&path, 0, "is not a regular file"));
        }
        found.push(FoundFile { start, len: entry.len, path });
    }
    if found.last().is_some_and(|last| last.len == 0) {
        found.pop();
    }
    if let Some(empty) = found.iter().find(|file| file.len == 0) {
        return Err(Error::corrupt(&empty.path, 0, "is empty"));
    }
    Ok(found)
}

fn is_almost_a_log_file(entry: &Entry) -> bool {
    let name = entry.name.as_encoded_bytes();
    entry.kind == EntryKind::File && name.len() >= 15 && name.iter().all(u8::is_ascii_hexdigit)
}
