//! Which index files of a folder can be gone on with? Opening keeps those that agree with themselves and with each
//! other; cutting takes back what the log has lost. What goes is filled again from the log.

use std::path::Path;
use std::sync::Arc;

use super::file::{Health, IndexFile};
use super::format::Geometry;
use super::names::parse_file_name;
use super::{Index, IndexOptions, Writer, last_physical};
use crate::error::{Error, Result};
use crate::storage::{Access, Disk, EntryKind};
use crate::sync::{AtomicBool, AtomicI64, AtomicU64, Mutex, Ordering, RwLock};
use crate::types::PhysicalOffset;

/// Files that pass, oldest first, and what must be said about the others.
#[derive(Default)]
struct Loaded {
    files: Vec<Arc<IndexFile>>,
    warnings: Vec<String>,
    /// Why everything from here on goes.
    broken: bool,
}

impl Index {
    /// Opens the files of a folder, which may be missing, and returns warnings for the operator.
    ///
    /// A file that is damaged or does not fit the geometry is removed together with all newer ones, and
    /// [`end`](Self::end) falls back, so that the caller fills the index again from there. What is not an index file
    /// is left alone. Then [`cut`](Self::cut) must be called with the end of the log: only the log can tell whether
    /// the newest entries lead into it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] for a geometry without room, [`Error::Io`] if the folder cannot be read or written.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: IndexOptions) -> Result<(Self, Vec<String>)> {
        let Geometry { slots, entries } = options.geometry;
        let max = i32::MAX.unsigned_abs();
        if !(1..=max).contains(&slots) || !(2..=max).contains(&entries) {
            let reason = format!("{slots} slots and {entries} entries make no file: 1 and 2 are the least");
            return Err(Error::config("index file size", reason));
        }
        let found = list(disk.as_ref(), &options.dir)?;
        let mut loaded = Loaded { warnings: found.warnings, ..Loaded::default() };
        let count = found.files.len();
        for (position, (name, len)) in found.files.into_iter().enumerate() {
            loaded.take(disk.as_ref(), &options, Candidate { name, len, is_last: position + 1 == count })?;
        }
        let end = last_physical(&loaded.files)?.unwrap_or(0);
        let index = Self {
            writer: Mutex::new(Writer::at_end_of(&loaded.files, options.geometry)?),
            files: RwLock::new(loaded.files),
            end: AtomicU64::new(end),
            full_end_millis: AtomicI64::new(0),
            // Names that another process made or removed may not be on disk yet.
            folder_unsynced: AtomicBool::new(count > 0),
            sync_failed: AtomicBool::new(false),
            disk,
            options,
        };
        Ok((index, loaded.warnings))
    }

    pub(crate) const fn file_len_of(geometry: Geometry) -> u64 {
        geometry.file_len()
    }

    /// Returns the length of the oldest index file in a folder, from which a caller may guess the geometry.
    pub(crate) fn existing_len(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>> {
        Ok(list(disk, dir)?.files.first().map(|(_, len)| *len))
    }

    /// Takes back every entry of a message that starts at `limit` or later, because the log ends there, or because
    /// what is later may not have reached the disk before the machine died. Returns when that is on disk.
    ///
    /// An entry before `limit` that contradicts the ones before it goes too, with all later ones, and
    /// [`end`](Self::end) falls back to the message of the newest entry. Meant for recovery: no other call may run at the same time.
    pub(crate) fn cut(&self, limit: PhysicalOffset) -> Result<()> {
        let mut writer = self.writer.lock();
        self.full_end_millis.store(0, Ordering::Release);
        let changed = self.cut_files(limit.get())?;
        let files = self.files.read();
        let mut end = limit.get();
        if changed {
            // What went may have been a damaged entry of an earlier message: the newest one is put again.
            end = end.min(last_physical(&files)?.unwrap_or(0));
        }
        self.end.fetch_min(end, Ordering::AcqRel);
        *writer = Writer::at_end_of(&files, self.options.geometry)?;
        if changed {
            // Crash: entries that came back after the log has been written on would hide that the index is behind.
            files.last().map_or(Ok(()), |file| file.sync())?;
            self.disk.sync_dir(&self.options.dir)?;
        }
        Ok(())
    }

    /// Returns whether anything changed.
    fn cut_files(&self, limit: u64) -> Result<bool> {
        let mut changed = false;
        loop {
            let Some(file) = self.files.read().last().cloned() else { return Ok(changed) };
            if file.first()?.is_some_and(|first| first.physical < limit) {
                let ends_before = file.last()?.is_some_and(|last| last.physical < limit);
                if ends_before && file.check(true)? == Health::Good {
                    return Ok(changed);
                }
                mend(self.disk.as_ref(), &file, self.options.geometry, limit)?;
                if file.first()?.is_some() {
                    return Ok(true);
                }
            }
            self.remove_last(&file)?;
            changed = true;
        }
    }

    fn remove_last(&self, file: &IndexFile) -> Result<()> {
        self.disk.remove_file(file.path())?;
        self.files.write().pop();
        Ok(())
    }

    /// Removes all files: the index is filled again from the start of the log.
    pub(crate) fn clear(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        *writer = Writer::default();
        self.end.store(0, Ordering::Release);
        self.full_end_millis.store(0, Ordering::Release);
        self.folder_unsynced.store(!self.files.read().is_empty(), Ordering::Release);
        loop {
            let Some(file) = self.files.read().last().cloned() else { break };
            self.remove_last(&file)?;
        }
        self.sync_failed.store(false, Ordering::Release);
        Ok(())
    }
}

/// Keeps the entries before `limit`; see [`IndexFile::keep_before`]. A slot may lie in a hole, which must not be
/// touched while the disk is full.
pub(super) fn mend(disk: &dyn Disk, file: &IndexFile, geometry: Geometry, limit: u64) -> Result<()> {
    disk.allocate(file.path(), 0..geometry.entries_start())?;
    file.keep_before(limit)
}

/// What a folder holds: names and lengths of index files, oldest first.
struct Found {
    files: Vec<(u64, u64)>,
    warnings: Vec<String>,
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Found> {
    let mut found = Found { files: Vec::new(), warnings: Vec::new() };
    for entry in disk.list(dir)?.unwrap_or_default() {
        match (parse_file_name(&entry.name), entry.kind) {
            (Some(name), EntryKind::File) => found.files.push((name, entry.len)),
            _ => found.warnings.push(format!(
                "{} is not an index file and is left alone: index files are named by 17 digits of a time",
                dir.join(&entry.name).display()
            )),
        }
    }
    found.files.sort_unstable();
    Ok(found)
}

struct Candidate {
    name: u64,
    len: u64,
    is_last: bool,
}

impl Loaded {
    fn take(&mut self, disk: &dyn Disk, options: &IndexOptions, candidate: Candidate) -> Result<()> {
        let path = options.dir.join(super::names::file_name(candidate.name));
        if !self.broken {
            match self.examine(disk, options.geometry, &path, &candidate)? {
                Ok(file) => {
                    self.files.push(Arc::new(file));
                    return Ok(());
                }
                Err(reason) => {
                    self.broken = true;
                    self.warnings.push(format!("index file {} is made anew: {reason}", path.display()));
                }
            }
        } else {
            self.warnings.push(format!("index file {} is made anew with the one before it", path.display()));
        }
        disk.remove_file(&path)
    }

    /// Returns the file, or why it cannot be gone on with.
    fn examine(
        &mut self,
        disk: &dyn Disk,
        geometry: Geometry,
        path: &Path,
        candidate: &Candidate,
    ) -> Result<std::result::Result<IndexFile, String>> {
        if candidate.len != geometry.file_len() {
            let wanted = geometry.file_len();
            return Ok(Err(format!("it has {} bytes where all have {wanted}", candidate.len)));
        }
        if self.files.last().is_some_and(|previous| !previous.is_full().unwrap_or(false)) {
            return Ok(Err("the file before it is not full".to_owned()));
        }
        let map = disk.map(path, 0..geometry.file_len(), Access::Random)?;
        let file = IndexFile::new(map, geometry, candidate.name);
        match file.check(candidate.is_last)? {
            Health::Good => {}
            Health::Torn => {
                mend(disk, &file, geometry, PhysicalOffset::MAX.get())?;
                self.warnings.push(format!("index file {} was being written and is mended", path.display()));
            }
            Health::Damaged(reason) => return Ok(Err(reason.to_owned())),
        }
        let before = last_physical(&self.files)?;
        if let (Some(before), Some(first)) = (before, file.first()?)
            && first.physical < before
        {
            return Ok(Err("it starts before the end of the file before it".to_owned()));
        }
        Ok(Ok(file))
    }
}
