//! What does the store ask of a disk? The one seam through which everything on disk is reached, so that a simulated,
//! a faulty or a private disk can stand behind the whole store.

use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::MappedFile;
use crate::error::{Error, Result};
use crate::types::{to_u64, to_usize};

/// Bytes that are copied at a time.
const COPY_PART: u64 = 1 << 20;

/// What lies under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// Something else: a symbolic link, a FIFO, a device, a socket. Never opened.
    Other,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) kind: EntryKind,
    pub(crate) len: u64,
}

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) kind: EntryKind,
    pub(crate) len: u64,
    /// Time of the last change, nanoseconds since 1970.
    pub(crate) modified_nanos: i128,
}

/// How a mapping will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// From front to back.
    Sequential,
    /// Here and there: no read-ahead.
    Random,
}

/// Held while a folder is locked; unlocks when dropped.
pub(crate) trait FileLock: fmt::Debug + Send + Sync {}

/// A disk.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Tells whether nothing that is written reaches the real files.
    fn is_private(&self) -> bool;
    /// Tells whether the files are memory, so that another disk can take them only as copies.
    fn is_memory(&self) -> bool {
        self.is_private()
    }
    /// Makes a folder and its parents, readable by the owner only; new ones are durable on return.
    fn create_dir_all(&self, dir: &Path) -> Result<()>;
    /// Makes one folder, readable by the owner only, in a folder that exists. Durable after `sync_dir` of that one.
    fn create_dir(&self, dir: &Path) -> Result<()>;
    /// Lists a folder by name; `None` if there is none.
    fn list(&self, dir: &Path) -> Result<Option<Vec<Entry>>>;
    /// Looks at a name without following links; `None` if there is nothing.
    fn metadata(&self, path: &Path) -> Result<Option<Metadata>>;
    /// Reads a whole regular file of at most `len_max` bytes; `None` if there is none.
    fn read(&self, path: &Path, len_max: u64) -> Result<Option<Vec<u8>>>;
    /// Reads a part of a file, less where it ends.
    fn read_at(&self, path: &Path, position: u64, len: usize) -> Result<Vec<u8>>;
    /// Makes a file with this content. The content is durable on return, the name is not.
    fn write_new(&self, path: &Path, content: &[u8]) -> Result<()>;
    /// Makes an empty file of this length: no blocks, no sync.
    fn create_file(&self, path: &Path, len: u64) -> Result<()>;
    /// Copies the first bytes of a file of this or another disk over the beginning of one of ours. Not synced.
    fn copy_from(&self, source: &dyn Disk, from: &Path, to: &Path, count: u64) -> Result<()>;
    /// Renames a file over another, or a folder over nothing or an empty one. Durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Gives a file a second name. Durable after `sync_dir`.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file. Durable after `sync_dir`.
    fn remove_file(&self, path: &Path) -> Result<()>;
    /// Removes a folder with everything in it.
    fn remove_dir_all(&self, dir: &Path) -> Result<()>;
    /// Makes a file's content and length durable. Nothing to do where the files are memory.
    fn sync_file(&self, _path: &Path) -> Result<()> {
        Ok(())
    }
    /// Makes the names in a folder durable. Nothing to do where the files are memory.
    fn sync_dir(&self, _dir: &Path) -> Result<()> {
        Ok(())
    }
    /// Makes everything on the file system of a folder durable. Nothing to do where the files are memory.
    fn sync_filesystem(&self, _dir: &Path) -> Result<()> {
        Ok(())
    }
    /// Maps a window of a file; its start is page-aligned.
    fn map(&self, path: &Path, window: Range<u64>, access: Access) -> Result<Arc<MappedFile>>;
    /// Puts real blocks behind a range. After a failure the file has the blocks that it had before.
    fn allocate(&self, path: &Path, range: Range<u64>) -> Result<()>;
    /// Makes a range read as zeros and gives its blocks back.
    fn punch(&self, path: &Path, range: Range<u64>) -> Result<()>;
    /// Returns the bytes that are free for us on the disk of a folder.
    fn free_bytes(&self, dir: &Path) -> Result<u64>;
    /// Returns the bytes that the disk of a folder has in all.
    fn total_bytes(&self, dir: &Path) -> Result<u64>;
    /// Takes the exclusive lock on byte 0 of a file, which is made with the content `lock` where it is missing.
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>>;
}

/// Copies bytes from one disk to another, a part at a time.
pub(super) fn copy_in_parts(
    source: &dyn Disk,
    from: &Path,
    count: u64,
    mut put: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at < count {
        let part = source.read_at(from, at, to_usize(count.saturating_sub(at).min(COPY_PART)))?;
        if part.is_empty() {
            return Err(Error::corrupt(from, at, format!("ends at {at} and was to be copied up to {count}")));
        }
        put(at, &part)?;
        at = at.saturating_add(to_u64(part.len()));
    }
    Ok(())
}
