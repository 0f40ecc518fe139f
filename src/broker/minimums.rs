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

/// The places of one broker.
#[derive(Debug)]
pub(crate) struct Minimums {
    disk: Arc<dyn Disk>,
    own: PathBuf,
    places: Mutex<BTreeMap<(TopicName, u32), QueueOffset>>,
    dirty: AtomicBool,
    any: AtomicBool,
}

impl Minimums {
    /// Reads the file; nothing if it is missing or cannot be read: then messages come back that had been given up.
    pub(crate) fn load(disk: &Arc<dyn Disk>, own: &Path) -> Self {
        let value = load_config(disk.as_ref(), &own.join("minimums")).ok().and_then(|loaded| loaded.value);
        let rows = value.as_ref().and_then(|value| value.get("queues")).and_then(Value::as_array);
        let places: BTreeMap<_, _> = rows.into_iter().flatten().filter_map(decode).collect();
        let any = AtomicBool::new(!places.is_empty());
        Self {
            disk: Arc::clone(disk),
            own: own.to_path_buf(),
            places: Mutex::new(places),
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

    /// Forgets the places of a topic that is deleted.
    pub(crate) fn remove_topic(&self, topic: &TopicName) {
        let mut places = self.places.lock();
        let before = places.len();
        places.retain(|(name, _), _| name != topic);
        if places.len() != before {
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Tells whether there may be messages in the log that are gone from their queues.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Writes the file if it lags behind. Durable on return.
    pub(crate) fn save(&self) -> Result<()> {
        let places = self.places.lock();
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let rows: Vec<_> =
            places.iter().map(|((topic, id), place)| json!([topic.as_str(), id, place.get()])).collect();
        let saved = save_config(
            self.disk.as_ref(),
            &self.own.join("minimums"),
            &self.own,
            &json!({ "queues": rows }),
        );
        if saved.is_err() {
            self.dirty.store(true, Ordering::Release);
        }
        saved
    }
}

fn decode(row: &Value) -> Option<((TopicName, u32), QueueOffset)> {
    let topic = TopicName::new(row.get(0)?.as_str()?).ok()?;
    let queue_id = u32::try_from(row.get(1)?.as_u64()?).ok()?;
    Some(((topic, queue_id), QueueOffset::new(row.get(2)?.as_u64()?)))
}
