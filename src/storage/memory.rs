//! How does a store work that leaves nothing behind? On a disk that is memory: files are anonymous maps, names are a
//! table, and both go with the last handle.
//!
//! Nothing here knows of power loss: a sync has nothing to do. Blocks are counted all the same, so that such a disk can
//! be full.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use super::MappedFile;
use super::disk::{Access, Disk, Entry, EntryKind, FileLock, Metadata, copy_in_parts};
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::types::{to_u64, to_usize};

/// What stands in a lock file, as RocketMQ writes it.
const LOCK_CONTENT: &[u8] = b"lock";

/// One file: its bytes, and how many of them from its start have blocks.
#[derive(Debug)]
struct MemoryFile {
    /// `None` for a file without a byte, which cannot be mapped.
    map: Option<Arc<MmapRaw>>,
    len: u64,
    blocks: AtomicU64,
    used: Arc<AtomicU64>,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.used.fetch_sub(self.blocks.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[derive(Debug, Clone)]
enum Node {
    Dir,
    File(Arc<MemoryFile>),
}

/// A disk in memory.
#[derive(Debug)]
pub(crate) struct MemoryDisk {
    /// Sorted by components, so that a folder stands before what it holds.
    nodes: Mutex<BTreeMap<PathBuf, Node>>,
    locked: Arc<Mutex<HashSet<PathBuf>>>,
    used: Arc<AtomicU64>,
    len_max: u64,
}

impl MemoryDisk {
    /// Makes an empty disk on which so many bytes of files find room.
    pub(crate) fn new(len_max: u64) -> Self {
        Self { nodes: Mutex::default(), locked: Arc::default(), used: Arc::default(), len_max }
    }

    fn node(&self, path: &Path) -> Option<Node> {
        self.nodes.lock().get(path).cloned()
    }

    fn file(&self, operation: &'static str, path: &Path) -> Result<Arc<MemoryFile>> {
        match self.node(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir) => Err(Error::corrupt(path, 0, "is not a regular file")),
            None => Err(failed(operation, path, std::io::ErrorKind::NotFound)),
        }
    }

    /// Puts a new file under a name that nothing has yet.
    fn add(&self, path: &Path, len: u64) -> Result<Arc<MemoryFile>> {
        let map = if len == 0 { None } else { Some(anonymous(path, len)?) };
        let (blocks, used) = (AtomicU64::new(0), Arc::clone(&self.used));
        let file = Arc::new(MemoryFile { map, len, blocks, used });
        let mut nodes = self.nodes.lock();
        if nodes.contains_key(path) {
            return Err(failed("create", path, std::io::ErrorKind::AlreadyExists));
        }
        if path.parent().is_some_and(|dir| !matches!(nodes.get(dir), Some(Node::Dir))) {
            return Err(failed("create", path, std::io::ErrorKind::NotFound));
        }
        nodes.insert(path.to_path_buf(), Node::File(Arc::clone(&file)));
        Ok(file)
    }

    /// Counts blocks up to a byte of a file.
    fn count_blocks(&self, path: &Path, file: &MemoryFile, end: u64) -> Result<()> {
        let end = end.min(file.len);
        let before = file.blocks.fetch_max(end, Ordering::Relaxed);
        let more = end.saturating_sub(before);
        let used = self.used.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if used <= self.len_max {
            return Ok(());
        }
        // One file is extended by one thread at a time: nobody has counted further meanwhile.
        file.blocks.store(before.min(end), Ordering::Relaxed);
        self.used.fetch_sub(more, Ordering::Relaxed);
        Err(failed("allocate memory for", path, std::io::ErrorKind::StorageFull))
    }

    fn window(&self, path: &Path, window: &Range<u64>) -> Result<MappedFile> {
        let file = self.file("map", path)?;
        let len = file.len;
        let mapped = file.map.as_ref().and_then(|map| MappedFile::private(map, path, window));
        mapped.ok_or_else(|| {
            Error::corrupt(path, len, format!("ends at {len} and was to be mapped up to {}", window.end))
        })
    }
}

fn failed(operation: &'static str, path: &Path, kind: std::io::ErrorKind) -> Error {
    Error::io(operation, path, std::io::Error::from(kind))
}

fn anonymous(path: &Path, len: u64) -> Result<Arc<MmapRaw>> {
    let map = MmapOptions::new().len(to_usize(len)).no_reserve_swap().map_anon();
    map.map(|map| Arc::new(MmapRaw::from(map))).map_err(|error| Error::io("map", path, error))
}

impl Disk for MemoryDisk {
    fn is_private(&self) -> bool {
        false
    }

    fn is_memory(&self) -> bool {
        true
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let mut nodes = self.nodes.lock();
        for place in dir.ancestors().filter(|place| !place.as_os_str().is_empty()) {
            match nodes.get(place) {
                Some(Node::Dir) => break,
                Some(Node::File(_)) => return Err(Error::corrupt(place, 0, "is not a folder")),
                None => nodes.insert(place.to_path_buf(), Node::Dir),
            };
        }
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.nodes.lock().entry(dir.to_path_buf()).or_insert(Node::Dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Option<Vec<Entry>>> {
        let nodes = self.nodes.lock();
        if !matches!(nodes.get(dir), Some(Node::Dir)) {
            return Ok(None);
        }
        let below = nodes.range(dir.to_path_buf()..).skip(1).take_while(|(path, _)| path.starts_with(dir));
        let entries = below.filter(|(path, _)| path.parent() == Some(dir)).filter_map(|(path, node)| {
            let (kind, len) = match node {
                Node::Dir => (EntryKind::Dir, 0),
                Node::File(file) => (EntryKind::File, file.len),
            };
            Some(Entry { name: path.file_name()?.to_owned(), kind, len })
        });
        Ok(Some(entries.collect()))
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        let (kind, len) = match self.node(path) {
            None => return Ok(None),
            Some(Node::Dir) => (EntryKind::Dir, 0),
            Some(Node::File(file)) => (EntryKind::File, file.len),
        };
        // Nobody else can write here, so nobody asks when it was.
        Ok(Some(Metadata { kind, len, modified_nanos: 0 }))
    }

    fn read(&self, path: &Path, len_max: u64) -> Result<Option<Vec<u8>>> {
        let len = match self.metadata(path)? {
            None => return Ok(None),
            Some(found) => found.len,
        };
        if len > len_max {
            return Err(Error::corrupt(
                path,
                len_max,
                format!("has {len} bytes, and at most {len_max} are read"),
            ));
        }
        self.read_at(path, 0, to_usize(len)).map(Some)
    }

    fn read_at(&self, path: &Path, position: u64, len: usize) -> Result<Vec<u8>> {
        let file = self.file("read", path)?;
        let end = position.saturating_add(to_u64(len)).min(file.len);
        let Some(map) = &file.map else { return Ok(Vec::new()) };
        let part = MappedFile::private(map, path, &(position.min(end)..end));
        Ok(part.and_then(|part| part.bytes(0..part.len()).map(<[u8]>::to_vec)).unwrap_or_default())
    }

    fn write_new(&self, path: &Path, content: &[u8]) -> Result<()> {
        let file = self.add(path, to_u64(content.len()))?;
        let counted = self.count_blocks(path, &file, file.len);
        if counted.is_err() {
            self.nodes.lock().remove(path);
            return counted;
        }
        match file.map.as_ref().and_then(|map| MappedFile::private(map, path, &(0..file.len))) {
            Some(part) => part.put(0, content),
            None => Ok(()),
        }
    }

    fn create_file(&self, path: &Path, len: u64) -> Result<()> {
        self.add(path, len).map(|_| ())
    }

    fn copy_from(&self, source: &dyn Disk, from: &Path, to: &Path, count: u64) -> Result<()> {
        let file = self.window(to, &(0..count))?;
        copy_in_parts(source, from, count, |at, part| file.put(to_usize(at), part))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut nodes = self.nodes.lock();
        match nodes.remove(from) {
            Some(node @ Node::File(_)) => {
                nodes.insert(to.to_path_buf(), node);
                Ok(())
            }
            Some(Node::Dir) => {
                let below: Vec<_> = nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
                nodes.insert(to.to_path_buf(), Node::Dir);
                for path in below {
                    if let (Ok(inner), Some(node)) = (path.strip_prefix(from), nodes.remove(&path)) {
                        nodes.insert(to.join(inner), node);
                    }
                }
                Ok(())
            }
            None => Err(failed("rename to", to, std::io::ErrorKind::NotFound)),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        let file = self.file("link to", from)?;
        self.nodes.lock().insert(to.to_path_buf(), Node::File(file));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.file("remove", path)?;
        self.nodes.lock().remove(path);
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        self.nodes.lock().retain(|path, _| !path.starts_with(dir));
        Ok(())
    }

    fn map(&self, path: &Path, window: Range<u64>, _access: Access) -> Result<Arc<MappedFile>> {
        self.window(path, &window).map(Arc::new)
    }

    fn allocate(&self, path: &Path, range: Range<u64>) -> Result<()> {
        let file = self.file("allocate memory for", path)?;
        self.count_blocks(path, &file, range.end)
    }

    fn punch(&self, path: &Path, range: Range<u64>) -> Result<()> {
        let part = self.window(path, &range)?;
        part.zero(0..part.len())
    }

    fn free_bytes(&self, _dir: &Path) -> Result<u64> {
        Ok(self.len_max.saturating_sub(self.used.load(Ordering::Relaxed)))
    }

    fn total_bytes(&self, _dir: &Path) -> Result<u64> {
        Ok(self.len_max)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        if self.node(path).is_none() {
            self.write_new(path, LOCK_CONTENT)?;
        }
        if !self.locked.lock().insert(path.to_path_buf()) {
            return Err(Error::Locked(format!("another store holds {}", path.display()).into()));
        }
        Ok(Box::new(Lock { locked: Arc::clone(&self.locked), path: path.to_path_buf() }))
    }
}

#[derive(Debug)]
struct Lock {
    locked: Arc<Mutex<HashSet<PathBuf>>>,
    path: PathBuf,
}

impl FileLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locked.lock().remove(&self.path);
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
