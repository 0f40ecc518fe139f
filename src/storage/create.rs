//! How does a file of full length come into being without anybody ever seeing half of it?

use std::path::Path;

use super::Disk;
use crate::error::Result;

/// Whether a new file must survive power loss from the moment it has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// Yes: a log file, in which acknowledged messages will lie.
    Yes,
    /// No: derived data, made again where it is missing.
    No,
}

/// A file that is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFile<'a> {
    /// Where it will stand.
    pub(crate) path: &'a Path,
    /// Our own folder on the same file system, in which it is made.
    pub(crate) temp_dir: &'a Path,
    /// Its length.
    pub(crate) len: u64,
    /// How many bytes from its start get real blocks at once.
    pub(crate) first_blocks: u64,
    /// Whether it must survive power loss from the start.
    pub(crate) durable: Durable,
}

impl NewFile<'_> {
    /// Makes the file under a temporary name, gives it its length and its first blocks, and renames it into place.
    /// After an error nothing is left of it.
    pub(crate) fn create(&self, disk: &dyn Disk) -> Result<()> {
        let part = |path: Option<&Path>| path.and_then(Path::file_name).unwrap_or_default().to_owned();
        // The names of the file and of its two folders: no two files that are made at once share them.
        let mut made = part(self.path.parent().and_then(Path::parent));
        for name in [part(self.path.parent()), part(Some(self.path))] {
            made.push("-");
            made.push(name);
        }
        made.push(".tmp");
        let made = self.temp_dir.join(made);
        if disk.metadata(&made)?.is_some() {
            disk.remove_file(&made)?;
        }
        let result = self.fill(disk, &made);
        if result.is_err() && disk.metadata(&made)?.is_some() {
            // The first error is the one that matters.
            let _ = disk.remove_file(&made);
        }
        result
    }

    fn fill(&self, disk: &dyn Disk, made: &Path) -> Result<()> {
        disk.create_file(made, self.len)?;
        disk.allocate(made, 0..self.first_blocks.min(self.len))?;
        if self.durable == Durable::No {
            return disk.rename(made, self.path);
        }
        disk.sync_file(made)?;
        disk.rename(made, self.path)?;
        for dir in [made.parent(), self.path.parent()].into_iter().flatten() {
            disk.sync_dir(dir)?;
        }
        Ok(())
    }
}
