//! How does the copy of a whole store appear under its name, complete or not at all?
//!
//! It is made beside its place, in `NAME.unfinished`, where a mark says that it is not finished: neither this folder nor
//! one in it opens. When everything in it is on disk it gets its name, and then loses the mark. The mark is a lock too, so
//! that no two snapshots are made in one place; what a crash left is removed by the next one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{BrokerSnapshot, SnapshotPlace, UNFINISHED};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::events;
use crate::storage::{Disk, EntryKind, FileLock, RealDisk};

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// Its folder: open it with [`Store::open`](crate::Store::open).
    pub dir: PathBuf,
    /// The brokers in it.
    pub brokers: Vec<BrokerSnapshot>,
    /// How long it took.
    pub took: Duration,
}

impl std::fmt::Display for SnapshotReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "snapshot {} in {:.3} s", self.dir.display(), self.took.as_secs_f64())?;
        for broker in &self.brokers {
            write!(
                formatter,
                "; {}: bytes {} to {} of the log, {} files linked ({} bytes), {} copied ({} bytes)",
                broker.broker,
                broker.start,
                broker.end,
                broker.linked_files,
                broker.linked_bytes,
                broker.copied_files,
                broker.copied_bytes
            )?;
        }
        Ok(())
    }
}

/// Copies all brokers into a folder that does not exist yet.
pub(crate) fn take_snapshot(cluster: &Cluster, store_dir: &Path, dir: &Path) -> Result<SnapshotReport> {
    cluster.check_open()?;
    let started = cluster.clock().monotonic();
    let Some(first) = cluster.brokers().first() else { return Err(Error::Closed) };
    let disk: Arc<dyn Disk> =
        if first.disk().is_memory() { Arc::new(RealDisk) } else { Arc::clone(first.disk()) };
    let dir = place_of(dir)?;
    if !first.disk().is_memory() {
        let brokers = cluster.brokers().iter().flat_map(|broker| [broker.dir(), broker.log_dir()]);
        check_outside(&dir, brokers.chain([store_dir]))?;
    }
    let unfinished = begin(disk.as_ref(), &dir)?;
    let made = fill(cluster, &disk, &dir, &unfinished);
    if made.is_err() {
        // The first error is the one to tell; what stays is marked, and the next snapshot removes it.
        let _ = disk.remove_dir_all(&unfinished.dir);
    }
    let brokers = made.inspect_err(|error| events::snapshot_failed(&dir.display(), error))?;
    let took = cluster.clock().monotonic().saturating_sub(started);
    let report = SnapshotReport { dir, brokers, took };
    events::snapshot_taken(&report);
    Ok(report)
}

/// The folder in which a snapshot is made, and the lock on it.
#[derive(Debug)]
struct Unfinished {
    dir: PathBuf,
    _lock: Box<dyn FileLock>,
}

/// Returns the folder as an absolute path.
fn place_of(dir: &Path) -> Result<PathBuf> {
    if dir.file_name().is_none() {
        return Err(Error::argument(
            "dir",
            format!("{:?} names no folder that could be made", dir.display()),
        ));
    }
    std::path::absolute(dir).map_err(|error| Error::io("find the absolute path of", dir, error))
}

/// Refuses a place in the store's own folders, where the next opening would take it for a broker's.
fn check_outside<'a>(dir: &Path, folders: impl Iterator<Item = &'a Path>) -> Result<()> {
    let place = real(dir);
    for folder in folders {
        if place.starts_with(real(folder)) {
            let reason = format!("{} lies in {}, the store's own folder", dir.display(), folder.display());
            return Err(Error::argument("dir", reason));
        }
    }
    Ok(())
}

/// Returns a path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        (_, Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_path_buf(),
    }
}

/// Makes the empty, marked folder beside the place.
fn begin(disk: &dyn Disk, dir: &Path) -> Result<Unfinished> {
    if disk.metadata(dir)?.is_some_and(|found| found.kind != EntryKind::Dir)
        || disk.list(dir)?.is_some_and(|entries| !entries.is_empty())
    {
        let reason = format!("{} holds something already: name a folder that does not exist", dir.display());
        return Err(Error::argument("dir", reason));
    }
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let work = dir.with_file_name(name);
    let mark = work.join(UNFINISHED);
    let left = disk.list(&work)?.unwrap_or_default();
    if !left.is_empty() && disk.metadata(&mark)?.is_none() {
        let reason = format!("{} is in the way, and no snapshot of ours: move it away", work.display());
        return Err(Error::argument("dir", reason));
    }
    disk.create_dir_all(&work)?;
    let lock = disk.lock(&mark)?;
    for entry in left.iter().filter(|entry| entry.name != UNFINISHED) {
        let path = work.join(&entry.name);
        if entry.kind == EntryKind::Dir { disk.remove_dir_all(&path)? } else { disk.remove_file(&path)? }
    }
    Ok(Unfinished { dir: work, _lock: lock })
}

fn fill(
    cluster: &Cluster,
    disk: &Arc<dyn Disk>,
    dir: &Path,
    unfinished: &Unfinished,
) -> Result<Vec<BrokerSnapshot>> {
    let mut brokers = Vec::new();
    // The mark is there before what it marks.
    disk.sync_dir(&unfinished.dir)?;
    for broker in cluster.brokers() {
        let (work, final_dir) =
            (unfinished.dir.join(broker.name().as_str()), dir.join(broker.name().as_str()));
        disk.create_dir(&work)?;
        brokers.push(broker.snapshot(&SnapshotPlace { disk, dir: &work, final_dir: &final_dir })?);
    }
    disk.sync_dir(&unfinished.dir)?;
    disk.rename(&unfinished.dir, dir)?;
    let parent = dir.parent().unwrap_or(dir);
    let named = disk.sync_dir(parent).and_then(|()| disk.remove_file(&dir.join(UNFINISHED)));
    let named = named.and_then(|()| disk.sync_dir(dir));
    if named.is_err() {
        // It may be whole, but nobody can promise it.
        let _ = disk.remove_dir_all(dir);
    }
    named.map(|()| brokers)
}
