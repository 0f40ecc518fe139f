//! How does a real Unix file system do what the store asks?

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::fcntl::OFlag;

use super::disk::{Access, Disk, Entry, EntryKind, FileLock, Metadata, copy_in_parts};
use super::mapped_file::PAGE;
use super::{MappedFile, blocks, lock};
use crate::error::{Error, Result};
use crate::types::{to_u64, to_usize};

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealDisk;

/// Opens a regular file without following a link or waiting for a FIFO.
pub(super) fn open(path: &Path, write: bool) -> Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).write(write).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| Error::io("open", path, error))?;
    let kind = file.metadata().map_err(|error| Error::io("look at", path, error))?.file_type();
    if kind.is_file() { Ok(file) } else { Err(Error::corrupt(path, 0, "is not a regular file")) }
}

/// Maps a file whole, so that what is written to the mapping never reaches the file.
pub(super) fn map_private(path: &Path) -> Result<MmapRaw> {
    let file = open(path, false)?;
    let len = file.metadata().map_err(|error| Error::io("look at", path, error))?.len();
    MappedFile::map_private(&file, 0, to_usize(len)).map_err(|error| Error::io("map", path, error))
}

fn map_window(path: &Path, window: &Range<u64>) -> Result<MmapRaw> {
    let file = open(path, true)?;
    let len = file.metadata().map_err(|error| Error::io("look at", path, error))?.len();
    if window.end > len || window.start >= window.end {
        return Err(Error::corrupt(
            path,
            len,
            format!("ends at {len} and was to be mapped up to {}", window.end),
        ));
    }
    if !window.start.is_multiple_of(to_u64(PAGE)) {
        return Err(Error::io("map", path, io::Error::new(io::ErrorKind::InvalidInput, "inside a page")));
    }
    let bytes = to_usize(window.end.saturating_sub(window.start));
    let map = MmapOptions::new().offset(window.start).len(bytes).map_raw(&file);
    map.map_err(|error| Error::io("map", path, error))
}

pub(super) fn kind_of(found: &std::fs::Metadata) -> EntryKind {
    let kind = found.file_type();
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Dir
    } else {
        EntryKind::Other
    }
}

fn none_if_absent<T>(result: io::Result<T>, operation: &'static str, path: &Path) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::io(operation, path, error)),
    }
}

impl Disk for RealDisk {
    fn is_private(&self) -> bool {
        false
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        if let Some(found) = self.metadata(dir)? {
            let is_dir =
                found.kind == EntryKind::Dir || std::fs::metadata(dir).is_ok_and(|found| found.is_dir());
            return if is_dir { Ok(()) } else { Err(Error::corrupt(dir, 0, "is not a folder")) };
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        self.create_dir(dir)?;
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io("make folder", dir, error))
            }
            _ => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> Result<Option<Vec<Entry>>> {
        let Some(reader) = none_if_absent(std::fs::read_dir(dir), "list", dir)? else { return Ok(None) };
        let mut entries = Vec::new();
        for entry in reader {
            let entry = entry.map_err(|error| Error::io("list", dir, error))?;
            // A name that vanished meanwhile is not there.
            if let Some(found) = none_if_absent(entry.metadata(), "look at", &entry.path())? {
                entries.push(Entry { name: entry.file_name(), kind: kind_of(&found), len: found.len() });
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(entries))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        let found = none_if_absent(std::fs::symlink_metadata(path), "look at", path)?;
        Ok(found.map(|found| Metadata {
            kind: kind_of(&found),
            len: found.len(),
            modified_nanos: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        }))
    }

    fn read(&self, path: &Path, len_max: u64) -> Result<Option<Vec<u8>>> {
        let Some(found) = self.metadata(path)? else { return Ok(None) };
        if found.kind != EntryKind::File {
            return Err(Error::corrupt(path, 0, "is not a regular file"));
        }
        if found.len > len_max {
            return Err(Error::corrupt(
                path,
                len_max,
                format!("has {} bytes, and at most {len_max} are read", found.len),
            ));
        }
        let mut bytes = Vec::new();
        let limit = len_max.saturating_add(1);
        open(path, false)?
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", path, error))?;
        Ok(Some(bytes))
    }

    fn read_at(&self, path: &Path, position: u64, len: usize) -> Result<Vec<u8>> {
        let file = open(path, false)?;
        // No more memory than the file has bytes, whatever a damaged length asks for.
        let len_of_file = file.metadata().map_err(|error| Error::io("look at", path, error))?.len();
        let mut bytes = vec![0; to_usize(len_of_file.saturating_sub(position)).min(len)];
        let filled =
            blocks::read_full(&file, &mut bytes, position).map_err(|error| Error::io("read", path, error))?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn write_new(&self, path: &Path, content: &[u8]) -> Result<()> {
        let write = || {
            let mut file = create(path)?;
            file.write_all(content)?;
            sync(&file)
        };
        write().map_err(|error| {
            if error.kind() != io::ErrorKind::AlreadyExists {
                let _ = std::fs::remove_file(path);
            }
            Error::io("write", path, error)
        })
    }

    fn create_file(&self, path: &Path, len: u64) -> Result<()> {
        let file = create(path).map_err(|error| Error::io("create", path, error))?;
        file.set_len(len).map_err(|error| {
            let _ = std::fs::remove_file(path);
            Error::io("set the length of", path, error)
        })
    }

    fn copy_from(&self, source: &dyn Disk, from: &Path, to: &Path, count: u64) -> Result<()> {
        let mut file = open(to, true)?;
        let wrong = |error| Error::io("copy to", to, error);
        if source.is_memory() {
            return copy_in_parts(source, from, count, |at, part| file.write_all_at(part, at).map_err(wrong));
        }
        // The system copies, and shares the blocks where the file system can.
        let copied = io::copy(&mut open(from, false)?.take(count), &mut file).map_err(wrong)?;
        if copied < count {
            let what = format!("ends at {copied} and was to be copied up to {count}");
            return Err(Error::corrupt(from, copied, what));
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the helper that the rule speaks of")]
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|error| Error::io("rename to", to, error))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::hard_link(from, to).map_err(|error| Error::io("link to", to, error))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| Error::io("remove", path, error))
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        none_if_absent(std::fs::remove_dir_all(dir), "remove", dir).map(|_| ())
    }

    fn sync_file(&self, path: &Path) -> Result<()> {
        sync(&open(path, true)?).map_err(|error| Error::io("sync", path, error))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let synced = File::open(dir).and_then(|folder| sync(&folder));
        match synced {
            // Some file systems cannot sync a folder and say so.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other.map_err(|error| Error::io("sync", dir, error)),
        }
    }

    fn sync_filesystem(&self, dir: &Path) -> Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let folder = File::open(dir).map_err(|error| Error::io("open", dir, error))?;
            nix::unistd::syncfs(&folder)
                .map_err(|errno| Error::io("sync the file system of", dir, errno.into()))
        }
        // Weaker: an error is not reported, and not every system waits for the device.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            nix::unistd::sync();
            self.sync_dir(dir)
        }
    }

    fn map(&self, path: &Path, window: Range<u64>, access: Access) -> Result<Arc<MappedFile>> {
        let mapped = MappedFile::whole(map_window(path, &window)?, path, window.start, None);
        if access == Access::Random {
            // A hint: without it everything works, only with more read-ahead.
            let _ = mapped.advise(Advice::Random, 0, mapped.len());
        }
        Ok(Arc::new(mapped))
    }

    fn allocate(&self, path: &Path, range: Range<u64>) -> Result<()> {
        blocks::allocate(path, &open(path, true)?, range)
    }

    fn punch(&self, path: &Path, range: Range<u64>) -> Result<()> {
        blocks::punch(path, &open(path, true)?, range)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        let stat = nix::sys::statvfs::statvfs(dir)
            .map_err(|errno| Error::io("look at the disk of", dir, errno.into()))?;
        Ok(widen(stat.blocks_available()).saturating_mul(widen(stat.fragment_size())))
    }

    fn total_bytes(&self, dir: &Path) -> Result<u64> {
        let stat = nix::sys::statvfs::statvfs(dir)
            .map_err(|errno| Error::io("look at the disk of", dir, errno.into()))?;
        Ok(widen(stat.blocks()).saturating_mul(widen(stat.fragment_size())))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        lock::take(path)
    }
}

/// Makes a file that nobody else can read, in place of nothing.
fn create(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)
}

/// Widens a count of the system's, which has another width on every system.
fn widen(count: impl Into<u64>) -> u64 {
    count.into()
}

/// Syncs once. The standard library tries again after an interruption, and a second try can hide a write that is lost.
fn sync(file: &File) -> io::Result<()> {
    #[cfg(not(target_vendor = "apple"))]
    return Ok(nix::unistd::fsync(file)?);
    // There, `fsync` leaves the bytes in the device's cache; the standard library asks for more.
    #[cfg(target_vendor = "apple")]
    return file.sync_all();
}

#[cfg(test)]
#[path = "real_tests.rs"]
mod tests;
