//! Which topics were deleted, so that no rebuild brings them back (contract D20)?
//!
//! Their messages stay in the log until retention takes them. `pocketmq/deleted` holds the topic and where the log
//! ended then: `{"topics":{"name":end,…}}`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::storage::{Disk, load_config, save_config};
use crate::sync::Mutex;
use crate::types::{PhysicalOffset, TopicName};

/// The deleted topics of one broker.
#[derive(Debug)]
pub(crate) struct Deleted {
    disk: Arc<dyn Disk>,
    own: PathBuf,
    ends: Mutex<HashMap<String, u64>>,
}

impl Deleted {
    /// Reads the file; nothing if it is missing.
    pub(crate) fn load(disk: &Arc<dyn Disk>, own: &Path) -> Self {
        let value = load_config(disk.as_ref(), &own.join("deleted")).ok().and_then(|loaded| loaded.value);
        let topics = value.as_ref().and_then(|value| value.get("topics")).and_then(Value::as_object);
        let pairs =
            topics.into_iter().flatten().filter_map(|(name, end)| Some((name.clone(), end.as_u64()?)));
        Self { disk: Arc::clone(disk), own: own.to_path_buf(), ends: Mutex::new(pairs.collect()) }
    }

    /// Tells whether a record belongs to a topic that was deleted after it was stored.
    pub(crate) fn covers(&self, topic: &str, at: PhysicalOffset) -> bool {
        self.ends.lock().get(topic).is_some_and(|end| at.get() < *end)
    }

    /// Notes that a topic is deleted. Durable on return.
    pub(crate) fn add(&self, topic: &TopicName, log_end: PhysicalOffset) -> Result<()> {
        let mut ends = self.ends.lock();
        let mut longer = ends.clone();
        longer.insert(topic.to_string(), log_end.get());
        if let Err(error) = self.save(&longer) {
            // It may have got its name all the same. The first error is the one to tell.
            let _ = self.save(&ends);
            return Err(error);
        }
        *ends = longer;
        Ok(())
    }

    /// Brings the ends back to where the log ends after recovery: what will lie beyond is new. Durable on return.
    pub(crate) fn end_at(&self, log_end: PhysicalOffset) -> Result<()> {
        let mut ends = self.ends.lock();
        if ends.values().all(|end| *end <= log_end.get()) {
            return Ok(());
        }
        ends.values_mut().for_each(|end| *end = (*end).min(log_end.get()));
        self.save(&ends)
    }

    /// Forgets the topics whose messages are gone from the log. Durable on return.
    pub(crate) fn forget_before(&self, log_start: PhysicalOffset) -> Result<()> {
        let mut ends = self.ends.lock();
        let before = ends.len();
        ends.retain(|_, end| *end > log_start.get());
        if ends.len() == before { Ok(()) } else { self.save(&ends) }
    }

    /// Returns the table as it is now, for the folder of a copy.
    pub(crate) fn copy(&self, disk: &Arc<dyn Disk>, own: &Path) -> Self {
        let ends = Mutex::new(self.ends.lock().clone());
        Self { disk: Arc::clone(disk), own: own.to_path_buf(), ends }
    }

    /// Writes the file. Durable on return.
    pub(crate) fn write(&self) -> Result<()> {
        self.save(&self.ends.lock())
    }

    fn save(&self, ends: &HashMap<String, u64>) -> Result<()> {
        let topics: Map<_, _> = ends.iter().map(|(name, end)| (name.clone(), json!(end))).collect();
        save_config(self.disk.as_ref(), &self.own.join("deleted"), &self.own, &json!({ "topics": topics }))
    }

    /// Tells whether no topic was ever deleted.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.lock().is_empty()
    }
}
