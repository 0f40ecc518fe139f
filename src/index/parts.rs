//! Which files make up the index at one moment, and how is a copy of them made whole?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::IndexFile;
use super::names::parse_file_name;
use super::{Index, mend};
use crate::error::Result;
use crate::storage::{Access, Disk};
use crate::types::{PhysicalOffset, to_u64};

/// One file of the index.
#[derive(Debug)]
pub(crate) struct IndexPart {
    pub(crate) path: PathBuf,
    /// Its bytes.
    pub(crate) len: u64,
    /// How many of them from its start hold something.
    pub(crate) used: u64,
    /// Whether it is full, so that nothing is ever written to it again.
    pub(crate) is_full: bool,
    /// The message of its newest entry.
    pub(crate) last: PhysicalOffset,
}

impl Index {
    /// Returns the files with at least one entry, oldest first. Does not wait for writers: the entries that are counted
    /// never change, the slots that lead to them do.
    pub(crate) fn parts(&self) -> Result<Vec<IndexPart>> {
        let geometry = self.options.geometry;
        let files = self.files.read().clone();
        let mut parts = Vec::with_capacity(files.len());
        for file in files {
            let (next, is_full) = (file.next()?, file.is_full()?);
            if let Some(last) = file.last()? {
                let (path, len) = (file.path().to_path_buf(), geometry.file_len());
                let used = to_u64(geometry.entry_position(next)).min(len);
                let last = PhysicalOffset::new(last.physical);
                parts.push(IndexPart { path, len, used, is_full, last });
            }
        }
        Ok(parts)
    }

    /// Makes a copy of a file whole that was taken while it was written to: keeps the entries of messages before `limit`
    /// and sets the slots anew from them. A copy that holds none is removed.
    pub(crate) fn mend_copy(&self, disk: &Arc<dyn Disk>, path: &Path, limit: PhysicalOffset) -> Result<()> {
        let geometry = self.options.geometry;
        let map = disk.map(path, 0..geometry.file_len(), Access::Random)?;
        let name = path.file_name().and_then(parse_file_name).unwrap_or(0);
        let file = IndexFile::new(map, geometry, name);
        mend(disk.as_ref(), &file, geometry, limit.get())?;
        if file.first()?.is_none() {
            return disk.remove_file(path);
        }
        file.sync()
    }
}
