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

/// Makes a file under a temporary name in our own folder, gives it its length and its first blocks, and renames it
/// into place. After an error nothing is left of it.
pub(crate) fn create_segment(
    disk: &dyn Disk,
    temp_dir: &Path,
    path: &Path,
    len: u64,
    first_blocks: u64,
    durable: Durable,
) -> Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut made = std::ffi::OsString::from("new-");
    made.push(path.parent().and_then(Path::file_name).unwrap_or_default());
    made.push("-");
    made.push(name);
    made.push(".tmp");
    let made = temp_dir.join(made);
    if disk.metadata(&made)?.is_some() {
        disk.remove_file(&made)?;
    }
    let result = fill(disk, &made, path, len, first_blocks, durable);
    if result.is_err() && disk.metadata(&made)?.is_some() {
        // The first error is the one that matters.
        let _ = disk.remove_file(&made);
    }
    result
}

fn fill(
    disk: &dyn Disk,
    made: &Path,
    path: &Path,
    len: u64,
    first_blocks: u64,
    durable: Durable,
) -> Result<()> {
    disk.create_file(made, len)?;
    disk.allocate(made, 0..first_blocks.min(len))?;
    if durable == Durable::No {
        return disk.rename(made, path);
    }
    disk.sync_file(made)?;
    disk.rename(made, path)?;
    for dir in [made.parent(), path.parent()].into_iter().flatten() {
        disk.sync_dir(dir)?;
    }
    Ok(())
}
