//! WHERE EACH QUEUE'S MESSAGES ARE: rows of 20-byte units that point into the commit log.
//!
//! Unit number N of a queue belongs to the message with queue offset N. The files are derived data: whatever is missing
//! or wrong is made again from the log.

mod files;
mod mend;
mod parts;
mod queue;
mod tail;
#[cfg(test)]
mod tests;
mod trim;
mod unit;
mod windows;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use mend::Confirmed;
pub(crate) use queue::ConsumeQueue;
pub(crate) use unit::{UNIT_LEN, Unit};
use windows::MapBudget;

use crate::error::{Error, Result};
use crate::storage::{Disk, EntryKind};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, RwLock};
use crate::types::TopicName;

/// More dirty queues than this are synced by syncing the file system once.
const SYNC_ONE_BY_ONE_MAX: usize = 256;

/// Where the queues of a broker lie and how large their files are.
#[derive(Debug, Clone)]
pub(crate) struct QueueOptions {
    /// The folder `consumequeue`.
    pub(crate) dir: PathBuf,
    /// A folder on the same file system in which files are made before they are renamed into place.
    pub(crate) temp_dir: PathBuf,
    /// Bytes of a file, a multiple of 20.
    pub(crate) file_size: u64,
    /// How many windows may be mapped at once.
    pub(crate) maps_max: usize,
}

/// What all queues of a broker share.
#[derive(Debug)]
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    options: QueueOptions,
    maps: MapBudget,
}

/// All consume queues of one broker.
#[derive(Debug)]
pub(crate) struct ConsumeQueues {
    shared: Arc<Shared>,
    topics: RwLock<HashMap<TopicName, Vec<Option<Arc<ConsumeQueue>>>>>,
    /// Held while a queue is made, so that nobody makes it twice.
    creation: Mutex<()>,
    /// How often a queue was listed or removed.
    changes: AtomicU64,
    sync_failed: AtomicBool,
}

impl ConsumeQueues {
    /// Lists the queues of a folder without touching it. Names that are none are left alone and reported.
    ///
    /// # Errors
    ///
    /// `Corrupt` naming the file where one has another length than the rest and is not the last of its queue.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: QueueOptions) -> Result<(Self, Vec<String>)> {
        let mut warnings = Vec::new();
        let maps = MapBudget::new(options.maps_max);
        let shared = Arc::new(Shared { disk, options, maps });
        let queues = Self {
            shared: Arc::clone(&shared),
            topics: RwLock::default(),
            creation: Mutex::new(()),
            changes: AtomicU64::new(0),
            sync_failed: AtomicBool::new(false),
        };
        for (topic, queue_id) in files::queues_in(shared.disk.as_ref(), &shared.options.dir, &mut warnings)? {
            let queue = ConsumeQueue::open(&shared, topic, queue_id, &mut warnings)?;
            queues.list(queue);
        }
        Ok((queues, warnings))
    }

    /// Returns the length that the files of a folder have, `None` if there are none.
    ///
    /// # Errors
    ///
    /// `Corrupt` naming both, if two files differ that are not the last ones of their queues.
    pub(crate) fn existing_file_size(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>> {
        let mut largest: Option<(u64, PathBuf)> = None;
        let mut shorter: Option<(u64, PathBuf)> = None;
        for (topic, queue_id) in files::queues_in(disk, dir, &mut Vec::new())? {
            let queue_dir = files::dir_of(dir, &topic, queue_id);
            let found = files::files_in(disk, &queue_dir, &mut Vec::new())?;
            for (place, file) in found.iter().enumerate().filter(|(_, file)| file.len > 0) {
                let path = queue_dir.join(crate::storage::file_name(file.start));
                let is_last = place.saturating_add(1) == found.len();
                if largest.as_ref().is_none_or(|(len, _)| file.len > *len) {
                    largest = Some((file.len, path.clone()));
                }
                if !is_last && shorter.as_ref().is_none_or(|(len, _)| file.len < *len) {
                    shorter = Some((file.len, path));
                }
            }
        }
        match (&largest, &shorter) {
            (Some((len, large)), Some((other, small))) if len != other => {
                let what = format!("has {other} bytes, but {} has {len}", large.display());
                Err(Error::corrupt(small, *other, what))
            }
            _ => Ok(largest.map(|(len, _)| len)),
        }
    }

    fn list(&self, queue: Arc<ConsumeQueue>) -> Arc<ConsumeQueue> {
        let place = usize::try_from(queue.queue_id()).unwrap_or(usize::MAX);
        let mut topics = self.topics.write();
        let row = topics.entry(queue.topic().clone()).or_default();
        if row.len() <= place {
            row.resize(place.saturating_add(1), None);
        }
        self.shared.maps.add(&queue);
        if let Some(seat) = row.get_mut(place) {
            *seat = Some(Arc::clone(&queue));
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        queue
    }

    /// Returns how often a queue was listed or removed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Returns a queue, if it exists.
    pub(crate) fn get(&self, topic: &TopicName, queue_id: u32) -> Option<Arc<ConsumeQueue>> {
        self.topics.read().get(topic)?.get(usize::try_from(queue_id).ok()?)?.clone()
    }

    /// Returns a queue, listed anew where it does not exist. Its folder is made with its first unit.
    pub(crate) fn get_or_create(&self, topic: &TopicName, queue_id: u32) -> Result<Arc<ConsumeQueue>> {
        if let Some(queue) = self.get(topic, queue_id) {
            return Ok(queue);
        }
        let _one_at_a_time = self.creation.lock();
        if let Some(queue) = self.get(topic, queue_id) {
            return Ok(queue);
        }
        // Queues of one topic share its name.
        let known = self.topics.read().get_key_value(topic).map(|(name, _)| name.clone());
        Ok(self.list(ConsumeQueue::empty(&self.shared, known.unwrap_or_else(|| topic.clone()), queue_id)))
    }

    /// Returns all queues, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<ConsumeQueue>> {
        self.topics.read().values().flatten().flatten().cloned().collect()
    }

    /// Returns the queues of a topic.
    pub(crate) fn of_topic(&self, topic: &TopicName) -> Vec<Arc<ConsumeQueue>> {
        self.topics.read().get(topic).into_iter().flatten().flatten().cloned().collect()
    }

    /// Returns the queues of a topic, by number.
    pub(crate) fn of(&self, topic: &TopicName) -> Vec<Arc<ConsumeQueue>> {
        self.topics.read().get(topic).into_iter().flatten().flatten().cloned().collect()
    }

    /// Removes one queue with its files.
    pub(crate) fn remove(&self, queue: &ConsumeQueue) -> Result<()> {
        let place = usize::try_from(queue.queue_id()).unwrap_or(usize::MAX);
        if let Some(seat) = self.topics.write().get_mut(queue.topic()).and_then(|row| row.get_mut(place)) {
            *seat = None;
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        let topic_dir = self.shared.options.dir.join(queue.topic().as_str());
        self.shared.disk.remove_dir_all(&files::dir_of(
            &self.shared.options.dir,
            queue.topic(),
            queue.queue_id(),
        ))?;
        if self.shared.disk.metadata(&topic_dir)?.is_some() {
            self.shared.disk.sync_dir(&topic_dir)
        } else {
            Ok(())
        }
    }

    /// Removes the queues of a topic with their files.
    pub(crate) fn remove_topic(&self, topic: &TopicName) -> Result<()> {
        self.topics.write().remove(topic);
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.shared.disk.remove_dir_all(&self.shared.options.dir.join(topic.as_str()))?;
        self.shared.disk.sync_dir(&self.shared.options.dir)
    }

    /// Gets every changed unit to disk, and the names of new files.
    ///
    /// # Errors
    ///
    /// Once a sync has failed, every later one fails too: what the system then calls clean may not be on disk, and
    /// only the next opening, which writes the units again, makes it so.
    pub(crate) fn sync(&self) -> Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            let source =
                io::Error::other("a sync of the queues failed before, and their files cannot be trusted");
            return Err(Error::io("sync", &self.shared.options.dir, source));
        }
        self.sync_dirty().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn sync_dirty(&self) -> Result<()> {
        let dirty: Vec<_> = self.all().into_iter().filter(|queue| queue.is_dirty()).collect();
        if dirty.is_empty() {
            return Ok(());
        }
        if dirty.len() <= SYNC_ONE_BY_ONE_MAX {
            dirty.iter().try_for_each(|queue| self.sync_listed(queue))?;
            return self.shared.disk.sync_dir(&self.shared.options.dir);
        }
        for queue in dirty {
            queue.take_dirty();
        }
        self.shared.disk.sync_filesystem(&self.shared.options.dir)
    }

    /// Syncs a queue, unless it has been removed meanwhile, with its files.
    fn sync_listed(&self, queue: &Arc<ConsumeQueue>) -> Result<()> {
        queue.sync().or_else(|error| if self.lists(queue) { Err(error) } else { Ok(()) })
    }

    /// Tells whether a queue has not been removed since it was looked up.
    pub(crate) fn lists(&self, queue: &Arc<ConsumeQueue>) -> bool {
        let listed = self.get(queue.topic(), queue.queue_id());
        listed.is_some_and(|listed| Arc::ptr_eq(&listed, queue))
    }

    /// Returns how many windows are mapped.
    #[cfg(test)]
    pub(crate) fn maps(&self) -> usize {
        self.shared.maps.count()
    }
}

/// Tells whether an entry of a folder is itself a folder.
fn is_dir(entry: &crate::storage::Entry) -> bool {
    entry.kind == EntryKind::Dir
}
