//! What does the store do when its disk fails? A disk that refuses what a test tells it to, and counts what it is asked.
//!
//! A refused operation is not carried out. A refused sync leaves the bytes in memory and off the device, as a real one
//! does; the next sync of the same bytes succeeds and proves nothing, which is why nobody may try again.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::MappedFile;
use super::disk::{Access, Disk, Entry, FileLock, Metadata};
use super::mapped_file::PutObserver;
use crate::error::{Error, Result};
use crate::sync::Mutex;

/// What can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// The sync of a mapped range.
    MapSync,
    FileSync,
    DirSync,
    FilesystemSync,
    Allocate,
    /// The making of a file, of full length or with its content.
    Create,
    /// The copying of bytes into a file.
    Copy,
    Link,
    Rename,
    Remove,
    Map,
}

#[derive(Debug)]
struct Rule {
    operation: Operation,
    /// Concerns only paths in which this text occurs.
    within: String,
    /// How many more times the operation succeeds first.
    earlier: u64,
    /// Whether it fails for ever from then on.
    lasting: bool,
    errno: i32,
}

/// What a test does while the disk works.
type Meanwhile = Arc<dyn Fn(Operation, &Path) + Send + Sync>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    meanwhile: Option<Meanwhile>,
    asked: Vec<(Operation, PathBuf)>,
    room: Option<u64>,
    total: Option<u64>,
}

/// What a test tells a faulty disk, and what the disk tells the test.
#[derive(Default)]
pub(crate) struct Faults(Mutex<State>);

impl std::fmt::Debug for Faults {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Faults").field("rules", &self.0.lock().rules).finish_non_exhaustive()
    }
}

impl Faults {
    /// Refuses one operation after `earlier` that succeed.
    pub(crate) fn fail_after(&self, operation: Operation, earlier: u64) {
        self.add(Rule { operation, within: String::new(), earlier, lasting: false, errno: nix::libc::EIO });
    }

    /// Refuses every such operation from now on where the path holds this text.
    pub(crate) fn fail_within(&self, operation: Operation, within: &str) {
        let within = within.to_owned();
        self.add(Rule { operation, within, earlier: 0, lasting: true, errno: nix::libc::EIO });
    }

    /// Refuses one operation where the path holds this text.
    pub(crate) fn fail_once_within(&self, operation: Operation, within: &str) {
        let within = within.to_owned();
        self.add(Rule { operation, within, earlier: 0, lasting: false, errno: nix::libc::EIO });
    }

    /// Refuses one operation where the path holds this text, after `earlier` that succeed.
    pub(crate) fn fail_nth_within(&self, operation: Operation, within: &str, earlier: u64) {
        let within = within.to_owned();
        self.add(Rule { operation, within, earlier, lasting: false, errno: nix::libc::EIO });
    }

    /// Has no space from now on for what holds this text in its path.
    pub(crate) fn fill_within(&self, within: &str) {
        for operation in [Operation::Allocate, Operation::Create, Operation::Copy] {
            let within = within.to_owned();
            self.add(Rule { operation, within, earlier: 0, lasting: true, errno: nix::libc::ENOSPC });
        }
    }

    /// Does this from now on whenever the disk is asked for something, before it does it.
    pub(crate) fn meanwhile(&self, work: impl Fn(Operation, &Path) + Send + Sync + 'static) {
        self.0.lock().meanwhile = Some(Arc::new(work));
    }

    fn add(&self, rule: Rule) {
        self.0.lock().rules.push(rule);
    }

    /// Leaves this many bytes to allocate and to write in new files; `None` lifts the limit.
    pub(crate) fn set_room(&self, bytes: Option<u64>) {
        self.0.lock().room = bytes;
    }

    /// Says that the disk has so many bytes in all.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.0.lock().total = Some(bytes);
    }

    /// Makes the disk good again. What was counted stays.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        state.rules.clear();
        state.room = None;
    }

    /// Returns how often an operation was asked for, refused or not.
    pub(crate) fn count(&self, operation: Operation) -> u64 {
        self.count_within(operation, "")
    }

    /// Returns how often an operation was asked for where the path holds this text, refused or not.
    pub(crate) fn count_within(&self, operation: Operation, within: &str) -> u64 {
        let state = self.0.lock();
        let asked = state
            .asked
            .iter()
            .filter(|(asked, path)| *asked == operation && path.to_string_lossy().contains(within));
        crate::types::to_u64(asked.count())
    }

    /// Returns everything that was asked for since the last call, in order.
    pub(crate) fn take_asked(&self) -> Vec<(Operation, PathBuf)> {
        std::mem::take(&mut self.0.lock().asked)
    }

    fn room(&self) -> Option<u64> {
        self.0.lock().room
    }

    /// Counts an operation and says whether it may be carried out.
    fn ask(&self, operation: Operation, path: &Path, bytes: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.asked.push((operation, path.to_path_buf()));
        if let Some(work) = state.meanwhile.clone() {
            drop(state);
            work(operation, path);
            state = self.0.lock();
        }
        let text = path.to_string_lossy();
        let concerned = |rule: &Rule| rule.operation == operation && text.contains(&rule.within);
        if let Some(found) = state.rules.iter().position(concerned) {
            let rule = &mut state.rules[found];
            if rule.earlier == 0 {
                let errno = rule.errno;
                if !rule.lasting {
                    state.rules.remove(found);
                }
                return Err(io::Error::from_raw_os_error(errno));
            }
            rule.earlier -= 1;
        }
        let Some(room) = state.room else { return Ok(()) };
        let left = room.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        state.room = Some(left);
        Ok(())
    }
}

impl PutObserver for Faults {
    fn changed(&self, _: &MappedFile, _: Range<usize>) {}

    fn before_sync(&self, path: &Path, _: Range<usize>) -> io::Result<()> {
        self.ask(Operation::MapSync, path, 0)
    }
}

/// How large the disk is unless a test says otherwise, in bytes; half of it is free.
const TOTAL: u64 = 1 << 40;

/// A disk with another behind it.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    /// Puts a disk that refuses nothing yet before another.
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// Returns what tells the disk to fail.
    pub(crate) fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    fn ask(&self, operation: Operation, path: &Path, bytes: u64) -> Result<()> {
        let name = match operation {
            Operation::Allocate => "allocate blocks for",
            Operation::Create => "create",
            Operation::Copy => "copy to",
            Operation::Link => "link to",
            Operation::Rename => "rename to",
            Operation::Remove => "remove",
            Operation::Map => "map",
            _ => "sync",
        };
        self.faults.ask(operation, path, bytes).map_err(|error| Error::io(name, path, error))
    }
}

impl Disk for FaultyDisk {
    fn is_private(&self) -> bool {
        self.inner.is_private()
    }

    fn is_memory(&self) -> bool {
        self.inner.is_memory()
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> Result<Option<Vec<Entry>>> {
        self.inner.list(dir)
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.inner.metadata(path)
    }

    fn read(&self, path: &Path, len_max: u64) -> Result<Option<Vec<u8>>> {
        self.inner.read(path, len_max)
    }

    fn read_at(&self, path: &Path, position: u64, len: usize) -> Result<Vec<u8>> {
        self.inner.read_at(path, position, len)
    }

    fn write_new(&self, path: &Path, content: &[u8]) -> Result<()> {
        self.ask(Operation::Create, path, crate::types::to_u64(content.len()))?;
        self.inner.write_new(path, content)
    }

    fn create_file(&self, path: &Path, len: u64) -> Result<()> {
        self.ask(Operation::Create, path, 0)?;
        self.inner.create_file(path, len)
    }

    fn copy_from(&self, source: &dyn Disk, from: &Path, to: &Path, count: u64) -> Result<()> {
        self.ask(Operation::Copy, to, count)?;
        self.inner.copy_from(source, from, to, count)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.ask(Operation::Rename, to, 0)?;
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.ask(Operation::Link, to, 0)?;
        self.inner.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.ask(Operation::Remove, path, 0)?;
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        self.ask(Operation::Remove, dir, 0)?;
        self.inner.remove_dir_all(dir)
    }

    fn sync_file(&self, path: &Path) -> Result<()> {
        self.ask(Operation::FileSync, path, 0)?;
        self.inner.sync_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.ask(Operation::DirSync, dir, 0)?;
        self.inner.sync_dir(dir)
    }

    fn sync_filesystem(&self, dir: &Path) -> Result<()> {
        self.ask(Operation::FilesystemSync, dir, 0)?;
        self.inner.sync_filesystem(dir)
    }

    fn map(&self, path: &Path, window: Range<u64>, access: Access) -> Result<Arc<MappedFile>> {
        self.ask(Operation::Map, path, 0)?;
        let observer: Arc<dyn PutObserver> = self.faults.clone();
        Ok(Arc::new(self.inner.map(path, window, access)?.observed(observer)))
    }

    fn allocate(&self, path: &Path, range: Range<u64>) -> Result<()> {
        self.ask(Operation::Allocate, path, range.end.saturating_sub(range.start))?;
        self.inner.allocate(path, range)
    }

    fn punch(&self, path: &Path, range: Range<u64>) -> Result<()> {
        self.inner.punch(path, range)
    }

    /// Never what the machine has: a test that passes on an empty disk passes on a full one too.
    fn free_bytes(&self, _: &Path) -> Result<u64> {
        Ok(self.faults.room().unwrap_or(TOTAL / 2))
    }

    fn total_bytes(&self, _: &Path) -> Result<u64> {
        Ok(self.faults.0.lock().total.unwrap_or(TOTAL))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        self.inner.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::RealDisk;
    use super::*;

    #[test]
    fn a_refused_sync_fails_once_and_the_next_one_lies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commitlog");
        let disk = FaultyDisk::new(Arc::new(RealDisk));
        disk.create_file(&path, 4_096).unwrap();
        disk.allocate(&path, 0..4_096).unwrap();
        let map = disk.map(&path, 0..4_096, Access::Random).unwrap();
        disk.faults().fail_after(Operation::MapSync, 1);
        map.sync(0..1).unwrap();
        assert!(matches!(map.sync(0..1), Err(Error::Io(_))));
        map.sync(0..1).unwrap();
        disk.faults().fail_within(Operation::MapSync, "consumequeue");
        map.sync(0..1).unwrap();
        disk.faults().fail_within(Operation::MapSync, "commitlog");
        for _ in 0..3 {
            assert!(map.sync(0..1).is_err());
        }
        disk.faults().heal();
        map.sync(0..1).unwrap();
        assert_eq!(disk.faults().count(Operation::MapSync), 8);
    }

    #[test]
    fn a_disk_without_room_is_full_until_it_has_some() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let disk = FaultyDisk::new(Arc::new(RealDisk));
        disk.create_file(&path, 1 << 20).unwrap();
        disk.faults().set_room(Some(8_192));
        disk.allocate(&path, 0..8_192).unwrap();
        assert!(matches!(disk.allocate(&path, 8_192..8_193), Err(Error::StoreFull(_))));
        assert!(matches!(disk.write_new(&dir.path().join("x"), b"1"), Err(Error::StoreFull(_))));
        assert_eq!(disk.free_bytes(dir.path()).unwrap(), 0);
        disk.faults().heal();
        disk.allocate(&path, 8_192..16_384).unwrap();
    }
}
