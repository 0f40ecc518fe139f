//! How is a folder opened and even mended without a byte of it being changed?
//!
//! Everything that is written goes into memory: files that exist are mapped copy-on-write, whole and once, so that
//! every window into one shows the same bytes; new files, renames and removals live in a table that lies over the
//! real folder.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use super::MappedFile;
use super::blocks;
use super::disk::{Access, Disk, Entry, EntryKind, FileLock, Metadata, copy_in_parts};
use super::real::{self, RealDisk};
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::types::{to_u64, to_usize};

/// What lies over a name of the real folder.
#[derive(Debug, Clone)]
enum Node {
    /// A file with memory behind it: new, or changed.
    Mapped(Arc<MmapRaw>),
    /// A small file that is written once.
    Bytes(Arc<[u8]>),
    Dir,
    /// Nothing, whatever the real folder has.
    Gone,
}

/// A real disk of which nothing is changed.
#[derive(Debug, Default)]
pub(crate) struct PrivateDisk {
    nodes: Mutex<HashMap<PathBuf, Node>>,
}

impl PrivateDisk {
    /// Starts with the disk as it is.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn node(&self, path: &Path) -> Option<Node> {
        lookup(&self.nodes.lock(), path)
    }

    fn set(&self, path: &Path, node: Node) {
        self.nodes.lock().insert(path.to_path_buf(), node);
    }

    /// Returns the memory behind a file, mapping the real one where nothing lies over it yet.
    fn memory(&self, path: &Path) -> Result<Arc<MmapRaw>> {
        let mut nodes = self.nodes.lock();
        let map = match lookup(&nodes, path) {
            Some(Node::Mapped(map)) => return Ok(map),
            Some(Node::Bytes(bytes)) => {
                let map = anonymous(path, to_u64(bytes.len()))?;
                if let Some(file) = MappedFile::private(&map, path, &(0..to_u64(bytes.len()))) {
                    file.put(0, &bytes)?;
                }
                map
            }
            Some(Node::Dir | Node::Gone) => return Err(missing("map", path)),
            None => Arc::new(real::map_private(path)?),
        };
        nodes.insert(path.to_path_buf(), Node::Mapped(Arc::clone(&map)));
        Ok(map)
    }

    fn window(&self, path: &Path, window: &Range<u64>) -> Result<MappedFile> {
        let map = self.memory(path)?;
        let len = to_u64(map.len());
        let outside =
            || Error::corrupt(path, len, format!("ends at {len} and was to be mapped up to {}", window.end));
        MappedFile::private(&map, path, window).ok_or_else(outside)
    }
}

/// Finds what lies over a path: nothing (`None`) only where nothing lies over its folders either, since a folder of
/// ours, or one that was removed, hides what the real one holds.
fn lookup(nodes: &HashMap<PathBuf, Node>, path: &Path) -> Option<Node> {
    let hidden = || {
        let mut above = path.ancestors().skip(1).filter_map(|dir| nodes.get(dir));
        above.any(|node| matches!(node, Node::Dir | Node::Gone)).then_some(Node::Gone)
    };
    nodes.get(path).cloned().or_else(hidden)
}

fn missing(operation: &'static str, path: &Path) -> Error {
    Error::io(operation, path, std::io::Error::from(std::io::ErrorKind::NotFound))
}

fn anonymous(path: &Path, len: u64) -> Result<Arc<MmapRaw>> {
    let map = MmapOptions::new().len(to_usize(len)).no_reserve_swap().map_anon();
    map.map(|map| Arc::new(MmapRaw::from(map))).map_err(|error| Error::io("map", path, error))
}

impl Disk for PrivateDisk {
    fn is_private(&self) -> bool {
        true
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        match self.metadata(dir)? {
            Some(found) if found.kind == EntryKind::Dir => Ok(()),
            Some(_) if std::fs::metadata(dir).is_ok_and(|found| found.is_dir()) => Ok(()),
            Some(_) => Err(Error::corrupt(dir, 0, "is not a folder")),
            None => {
                if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    self.create_dir_all(parent)?;
                }
                self.create_dir(dir)
            }
        }
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        if self.metadata(dir)?.is_none() {
            self.set(dir, Node::Dir);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Option<Vec<Entry>>> {
        let own = self.node(dir);
        let real = match own {
            Some(Node::Gone | Node::Dir) => None,
            _ => RealDisk.list(dir)?,
        };
        let nodes = self.nodes.lock();
        let over = nodes.iter().filter(|(path, _)| path.parent() == Some(dir));
        let mut entries: BTreeMap<OsString, Entry> =
            real.iter().flatten().map(|entry| (entry.name.clone(), entry.clone())).collect();
        let mut any = false;
        for (path, node) in over {
            let Some(name) = path.file_name() else { continue };
            let (kind, len) = match node {
                Node::Gone => {
                    entries.remove(name);
                    continue;
                }
                Node::Mapped(map) => (EntryKind::File, to_u64(map.len())),
                Node::Bytes(bytes) => (EntryKind::File, to_u64(bytes.len())),
                Node::Dir => (EntryKind::Dir, 0),
            };
            any = true;
            entries.insert(name.to_owned(), Entry { name: name.to_owned(), kind, len });
        }
        let exists = real.is_some() || any || matches!(own, Some(Node::Dir));
        Ok(exists.then(|| entries.into_values().collect()))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        let (kind, len) = match self.node(path) {
            None => return RealDisk.metadata(path),
            Some(Node::Gone) => return Ok(None),
            Some(Node::Dir) => (EntryKind::Dir, 0),
            Some(Node::Bytes(bytes)) => (EntryKind::File, to_u64(bytes.len())),
            Some(Node::Mapped(map)) => (EntryKind::File, to_u64(map.len())),
        };
        let modified_nanos = RealDisk.metadata(path)?.map_or(0, |found| found.modified_nanos);
        Ok(Some(Metadata { kind, len, modified_nanos }))
    }

    fn read(&self, path: &Path, len_max: u64) -> Result<Option<Vec<u8>>> {
        match self.node(path) {
            None => RealDisk.read(path, len_max),
            Some(Node::Gone | Node::Dir) => Ok(None),
            Some(Node::Bytes(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Node::Mapped(map)) => Ok(Some(self.read_at(path, 0, map.len())?)),
        }
    }

    fn read_at(&self, path: &Path, position: u64, len: usize) -> Result<Vec<u8>> {
        let map = match self.node(path) {
            None => return RealDisk.read_at(path, position, len),
            Some(Node::Gone | Node::Dir) => return Err(missing("read", path)),
            Some(Node::Bytes(bytes)) => {
                let rest = bytes.get(to_usize(position)..).unwrap_or_default();
                return Ok(rest.get(..len).unwrap_or(rest).to_vec());
            }
            Some(Node::Mapped(map)) => map,
        };
        let end = position.saturating_add(to_u64(len)).min(to_u64(map.len()));
        let file = MappedFile::private(&map, path, &(position.min(end)..end));
        Ok(file.and_then(|file| file.bytes(0..file.len()).map(<[u8]>::to_vec)).unwrap_or_default())
    }

    fn write_new(&self, path: &Path, content: &[u8]) -> Result<()> {
        if self.metadata(path)?.is_some() {
            return Err(Error::io("write", path, std::io::Error::from(std::io::ErrorKind::AlreadyExists)));
        }
        self.set(path, Node::Bytes(content.into()));
        Ok(())
    }

    fn create_file(&self, path: &Path, len: u64) -> Result<()> {
        let map = anonymous(path, len)?;
        self.set(path, Node::Mapped(map));
        Ok(())
    }

    fn copy_from(&self, source: &dyn Disk, from: &Path, to: &Path, count: u64) -> Result<()> {
        let file = self.window(to, &(0..count))?;
        copy_in_parts(source, from, count, |at, part| file.put(to_usize(at), part))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.hard_link(from, to)?;
        self.set(from, Node::Gone);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        let node = match self.node(from) {
            Some(node @ (Node::Mapped(_) | Node::Bytes(_))) => node,
            Some(Node::Dir | Node::Gone) => return Err(missing("rename", from)),
            None => Node::Mapped(self.memory(from)?),
        };
        self.set(to, node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.set(path, Node::Gone);
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        let mut nodes = self.nodes.lock();
        nodes.retain(|path, _| !path.starts_with(dir));
        nodes.insert(dir.to_path_buf(), Node::Gone);
        Ok(())
    }

    fn map(&self, path: &Path, window: Range<u64>, _access: Access) -> Result<Arc<MappedFile>> {
        self.window(path, &window).map(Arc::new)
    }

    fn allocate(&self, _path: &Path, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn punch(&self, path: &Path, range: Range<u64>) -> Result<()> {
        let parts = match self.node(path) {
            None => blocks::data_in(&real::open(path, false)?, &range),
            Some(_) => vec![range.clone()],
        };
        let file = self.window(path, &(0..range.end))?;
        parts.into_iter().try_for_each(|part| file.zero(to_usize(part.start)..to_usize(part.end)))
    }

    fn free_bytes(&self, _dir: &Path) -> Result<u64> {
        Ok(u64::MAX)
    }

    fn total_bytes(&self, _dir: &Path) -> Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, _path: &Path) -> Result<Box<dyn FileLock>> {
        Ok(Box::new(NoLock))
    }
}

/// Nothing is written, so nobody needs to be kept out.
#[derive(Debug)]
struct NoLock;

impl FileLock for NoLock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_written_reaches_the_real_files() {
        let dir = tempfile::tempdir().unwrap();
        let (real, new) = (dir.path().join("real"), dir.path().join("new"));
        RealDisk.write_new(&real, &[7; 10_000]).unwrap();
        let disk = PrivateDisk::new();
        disk.map(&real, 0..10_000, Access::Random).unwrap().put(5, b"changed").unwrap();
        disk.punch(&real, 9_000..10_000).unwrap();
        disk.create_file(&new, 4_096).unwrap();
        disk.rename(&new, &dir.path().join("moved")).unwrap();
        assert_eq!(disk.read_at(&real, 4, 9).unwrap(), b"\x07changed\x07");
        assert_eq!(
            disk.map(&real, 8_192..10_000, Access::Random).unwrap().bytes(1_808 - 2..1_808),
            Some(&[0, 0][..])
        );
        let names: Vec<_> =
            disk.list(dir.path()).unwrap().unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["moved", "real"]);
        disk.remove_file(&real).unwrap();
        assert!(disk.metadata(&real).unwrap().is_none());
        assert_eq!(RealDisk.read(&real, 10_000).unwrap().unwrap(), [7; 10_000]);
        assert_eq!(RealDisk.list(dir.path()).unwrap().unwrap().len(), 1);
    }

    #[test]
    fn a_removed_folder_stays_empty_when_it_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let topic = dir.path().join("topic");
        let file = topic.join("0/00000000000000000000");
        RealDisk.create_dir_all(&topic.join("0")).unwrap();
        RealDisk.write_new(&file, b"old").unwrap();
        let disk = PrivateDisk::new();
        disk.remove_dir_all(&topic).unwrap();
        assert!(disk.metadata(&file).unwrap().is_none());
        assert!(disk.list(&topic.join("0")).unwrap().is_none());
        disk.create_dir_all(&topic.join("0")).unwrap();
        assert!(disk.list(&topic.join("0")).unwrap().unwrap().is_empty());
        assert!(disk.read(&file, 10).unwrap().is_none());
        assert!(disk.map(&file, 0..3, Access::Random).is_err());
        disk.create_file(&file, 0).unwrap();
        assert_eq!(disk.metadata(&file).unwrap().unwrap().len, 0);
        assert_eq!(RealDisk.read(&file, 10).unwrap().unwrap(), b"old");
    }

    #[test]
    fn windows_that_come_and_go_show_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        RealDisk.write_new(&path, &[0; 8_192]).unwrap();
        let disk = PrivateDisk::new();
        disk.map(&path, 4_096..8_192, Access::Random).unwrap().put(0, b"seen").unwrap();
        let whole = disk.map(&path, 0..8_192, Access::Random).unwrap();
        assert_eq!(whole.bytes(4_096..4_100), Some(&b"seen"[..]));
        whole.sync(0..8_192).unwrap();
        whole.rewrite(0..8_192).unwrap();
        assert_eq!(RealDisk.read(&path, 8_192).unwrap().unwrap(), [0; 8_192]);
    }
}
