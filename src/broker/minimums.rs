//! Before which place of a queue are messages gone that the log still holds?
//!
//! Where a queue begins follows from where the log begins, except where messages went before their bytes did: a topic
//! that is kept less long than others, a limit that makes room for new ones. `pocketmq/minimums` holds those places:
//! `{"queues":[[topic, queue, first offset],…]}`. RocketMQ does not know them, and shows such messages until their file
//! is gone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::consumequeue::ConsumeQueue;
use crate::error::Result;
use crate::storage::{Disk, load_config, save_config};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::types::{QueueOffset, TopicName};

/// Where queues begin.
pub(crate) type Places = BTreeMap<(TopicName, u32), QueueOffset>;

/// The places of one broker.
#[derive(Debug)]
pub(crate) struct Minimums {
    disk: Arc<dyn Disk>,
    own: PathBuf,
    places: Mutex<Places>,
    /// Held while the file is written. The places are not: senders who make room wait for no disk.
    saving: Mutex<()>,
    dirty: AtomicBool,
    any: AtomicBool,
}

impl Minimums {
    /// Reads the file; nothing if it is missing or cannot be read: then messages come back that had been given up.
    pub(crate) fn load(disk: &Arc<dyn Disk>, own: &Path) -> Self {
        let value = load_config(disk.as_ref(), &own.join("minimums")).ok().and_then(|loaded| loaded.value);
        let rows = value.as_ref().and_then(|value| value.get("queues")).and_then(Value::as_array);
        let places: Places = rows.into_iter().flatten().filter_map(decode).collect();
        let any = AtomicBool::new(!places.is_empty());
        Self {
            disk: Arc::clone(disk),
            own: own.to_path_buf(),
            places: Mutex::new(places),
            saving: Mutex::new(()),
            dirty: AtomicBool::new(false),
            any,
        }
    }

    /// Forgets everything: another broker has written to the queues since.
    pub(crate) fn forget(&self) {
        self.places.lock().clear();
        self.any.store(false, Ordering::Relaxed);
        self.dirty.store(true, Ordering::Release);
    }

    /// Lets a queue begin where it began before the opening. What lies beyond the end of a queue is brought back to it,
    /// because what will lie there is new: [`save`](Self::save) before the first append.
    pub(crate) fn settle(&self, queues: &[Arc<ConsumeQueue>]) {
        let mut places = self.places.lock();
        let before = std::mem::take(&mut *places);
        for queue in queues {
            let key = (queue.topic().clone(), queue.queue_id());
            let Some(place) = before.get(&key).map(|place| (*place).min(queue.max_offset())) else {
                continue;
            };
            if queue.raise_min_to(place) > 0 {
                places.insert(key, place);
            }
        }
        self.any.store(!places.is_empty(), Ordering::Relaxed);
        if *places != before {
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Lets a queue begin at a place, at most at its end. Returns how many messages went. On disk with the next
    /// [`save`](Self::save).
    pub(crate) fn raise(&self, queue: &ConsumeQueue, place: QueueOffset) -> u64 {
        let mut places = self.places.lock();
        let place = place.min(queue.max_offset());
        let gone = queue.raise_min_to(place);
        if gone > 0 {
            places.insert((queue.topic().clone(), queue.queue_id()), place);
            self.any.store(true, Ordering::Relaxed);
            self.dirty.store(true, Ordering::Release);
        }
        gone
    }

    /// Forgets the places of a topic, and returns them.
    pub(crate) fn take_topic(&self, topic: &TopicName) -> Places {
        let mut places = self.places.lock();
        let taken: Places = places.extract_if(.., |(name, _), _| name == topic).collect();
        if !taken.is_empty() {
            self.dirty.store(true, Ordering::Release);
        }
        taken
    }

    /// Notes places again that were forgotten for nothing.
    pub(crate) fn put_back(&self, taken: Places) {
        if !taken.is_empty() {
            let mut places = self.places.lock();
            for (queue, place) in taken {
                let noted = places.entry(queue).or_insert(place);
                *noted = place.max(*noted);
            }
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Tells whether there may be messages in the log that are gone from their queues.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Writes the file if it lags behind. Durable on return.
    pub(crate) fn save(&self) -> Result<()> {
        // Held over the look at `dirty`: who finds nothing to write knows that it is written.
        let _one_after_the_other = self.saving.lock();
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let saved = self.write_copy(self.disk.as_ref(), &self.own);
        if saved.is_err() {
            self.dirty.store(true, Ordering::Release);
        }
        saved
    }

    /// Writes the places as they are now into a folder, of the broker or of its copy. Durable on return.
    pub(crate) fn write_copy(&self, disk: &dyn Disk, own: &Path) -> Result<()> {
        let row = |((topic, id), place): (&(TopicName, u32), &QueueOffset)| {
            json!([topic.as_str(), id, place.get()])
        };
        let rows: Vec<_> = self.places.lock().iter().map(row).collect();
        save_config(disk, &own.join("minimums"), own, &json!({ "queues": rows }))
    }
}

fn decode(row: &Value) -> Option<((TopicName, u32), QueueOffset)> {
    let topic = TopicName::new(row.get(0)?.as_str()?).ok()?;
    let queue_id = u32::try_from(row.get(1)?.as_u64()?).ok()?;
    Some(((topic, queue_id), QueueOffset::new(row.get(2)?.as_u64()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;
    use crate::storage::faulty::FaultyDisk;

    #[test]
    fn who_makes_room_waits_for_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let faulty = Arc::new(FaultyDisk::new(Arc::new(RealDisk)));
        let disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(&faulty);
        let minimums = Arc::new(Minimums::load(&disk, dir.path()));
        minimums.forget();
        let (seen, locked) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
        let (of_disk, asked, found) = (Arc::clone(&minimums), Arc::clone(&seen), Arc::clone(&locked));
        faulty.faults().meanwhile(move |_, _| {
            *asked.lock() += 1;
            *found.lock() += u32::from(of_disk.places.try_lock().is_none());
        });
        minimums.save().unwrap();
        assert!(*seen.lock() > 2, "a file is made, renamed and synced");
        assert_eq!(*locked.lock(), 0, "and the places are free all the time");
    }
}
