//! How does a file of full length come into being without anybody ever seeing half of it?

use std::io;
use std::path::Path;

use super::Disk;
use crate::error::{Error, Result};

/// Bytes that a name in a folder may have; a topic alone may take all of them.
const NAME_LEN_MAX: usize = 255;

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
    /// After an error nothing is left of it; a file that stands there already is an error and stays.
    pub(crate) fn create(&self, disk: &dyn Disk) -> Result<()> {
        if disk.metadata(self.path)?.is_some() {
            return Err(Error::io("create", self.path, io::ErrorKind::AlreadyExists.into()));
        }
        let part = |path: Option<&Path>| path.and_then(Path::file_name).unwrap_or_default().to_owned();
        // The names of the file and of its two folders: no two files that are made at once share them.
        let mut made = part(self.path.parent().and_then(Path::parent));
        for name in [part(self.path.parent()), part(Some(self.path))] {
            made.push("-");
            made.push(name);
        }
        made.push(".tmp");
        if made.len() > NAME_LEN_MAX {
            made = format!("{:08x}.tmp", crc32fast::hash(self.path.as_os_str().as_encoded_bytes())).into();
        }
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
        let mut folders = [made.parent(), self.path.parent()].into_iter().flatten();
        let named = folders.try_for_each(|dir| disk.sync_dir(dir));
        if named.is_err() {
            // The first error is the one that matters.
            let _ = disk.remove_file(self.path);
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::faulty::{FaultyDisk, Operation};
    use super::super::{EntryKind, RealDisk};
    use super::*;

    const OPERATIONS: [Operation; 4] =
        [Operation::Create, Operation::Allocate, Operation::FileSync, Operation::DirSync];

    #[test]
    fn a_new_file_stands_complete_under_its_name_or_not_at_all() {
        for failing in OPERATIONS.map(Some).into_iter().chain([None]) {
            for earlier in 0..2 {
                let dir = tempfile::tempdir().unwrap();
                let (temp_dir, folder) = (dir.path().join("own"), dir.path().join("log"));
                for dir in [&temp_dir, &folder] {
                    RealDisk.create_dir_all(dir).unwrap();
                }
                let disk = FaultyDisk::new(Arc::new(RealDisk));
                if let Some(operation) = failing {
                    disk.faults().fail_after(operation, earlier);
                }
                let path = folder.join("00000000000000000000");
                let (len, first_blocks) = (1 << 20, 8_192);
                let new =
                    NewFile { path: &path, temp_dir: &temp_dir, len, first_blocks, durable: Durable::Yes };
                let left = |dir: &Path| RealDisk.list(dir).unwrap().unwrap().len();
                if new.create(&disk).is_ok() {
                    assert_eq!(RealDisk.metadata(&path).unwrap().unwrap().len, len);
                    assert_eq!((left(&temp_dir), left(&folder)), (0, 1));
                    assert!(new.create(&disk).is_err(), "a file that is there is not replaced");
                } else {
                    assert_eq!((left(&temp_dir), left(&folder)), (0, 0), "{failing:?} after {earlier}");
                }
            }
        }
    }

    #[test]
    fn a2_the_longest_topic_name_does_not_make_the_temporary_name_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x".repeat(255)).join("0");
        RealDisk.create_dir_all(&folder).unwrap();
        let path = folder.join("00000000000000000000");
        let temp_dir = dir.path();
        NewFile { path: &path, temp_dir, len: 20, first_blocks: 20, durable: Durable::No }
            .create(&RealDisk)
            .unwrap();
        assert_eq!(RealDisk.metadata(&path).unwrap().unwrap().kind, EntryKind::File);
    }
}
