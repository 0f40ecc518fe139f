//! How does a message get into the log that is to be delivered later, and out of it when it is due?
//!
//! The delay rewrite is RocketMQ's: the message goes to `SCHEDULE_TOPIC_XXXX`, to the queue of its level, and says in
//! `REAL_TOPIC` and `REAL_QID` where it belongs. Its queue unit says when it is due. What comes due is put again by
//! `src/delay/`, which finds here what it needs.

use std::sync::Arc;

use serde_json::Value;

use super::{Broker, PutMessage, Stored, TopicOfBroker, WaitForFlush};
use crate::commitlog::MessageView;
use crate::config::{DELAY_LEVELS_MAX, DelayLevels, TopicConfig};
use crate::consumequeue::Unit;
use crate::error::{Error, Result};
use crate::message::Properties;
use crate::message::properties::{append, append_without, name};
use crate::storage::{Access, Durable, MappedFile, NewFile, TwoSlots, load_config, save_config};
use crate::sync::Arrivals;
use crate::types::{PhysicalOffset, QueueOffset, SCHEDULE_TOPIC, TopicName};

/// The file in which RocketMQ keeps how far each level has been delivered.
const PROGRESS: &str = "delayOffset.json";

/// How a message is put that is to be delivered later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Later {
    /// The delay level; 0 counts as 1, a number above the last level as the last.
    pub(crate) level: u32,
    /// Whether to wait for the flush under sync flush.
    pub(crate) wait: WaitForFlush,
}

impl Broker {
    /// Stores a message that becomes visible in its topic and queue when the delay of its level is over.
    /// Blocks as [`put`](Self::put) does.
    ///
    /// # Errors
    ///
    /// Those of `put`; `InvalidArgument` where the properties leave no room for those of the delay.
    pub(crate) fn put_delayed(
        &self,
        topic: &TopicOfBroker,
        queue_id: u32,
        message: &PutMessage<'_>,
        later: Later,
    ) -> Result<Stored> {
        let Later { level, wait } = later;
        if topic.is_deleted() {
            return Err(Error::TopicNotFound(topic.name().as_str().into()));
        }
        // Now, and not when it is due.
        self.check_version(topic.name().as_str())?;
        self.keep_topics()?;
        let schedule = self.schedule_topic()?;
        let level = self.delay_levels.cap(level.max(1));
        let mut properties = Vec::with_capacity(message.properties.len() + 64 + topic.name().as_str().len());
        let replaced = [name::DELAY, name::REAL_TOPIC, name::REAL_QUEUE_ID, name::CRC32];
        append_without(&mut properties, Properties::new(message.properties), &replaced);
        append(&mut properties, name::DELAY, &level.to_string());
        append(&mut properties, name::REAL_TOPIC, topic.name().as_str());
        append(&mut properties, name::REAL_QUEUE_ID, &queue_id.to_string());
        let delay_millis = self.delay_levels.millis(level).unwrap_or(0);
        let delayed = PutMessage { properties: &properties, tags_code: delay_millis, ..*message };
        self.put(&schedule, level.saturating_sub(1), &delayed, wait)
    }

    /// Makes every topic durable: the log does not show to recovery to which topic a delayed message belongs.
    pub(super) fn keep_topics(&self) -> Result<()> {
        if self.topics.is_dirty() {
            let _one_after_the_other = self.writing.lock();
            self.check_writable()?;
            self.topics.save()?;
        }
        Ok(())
    }

    fn schedule_topic(&self) -> Result<Arc<TopicOfBroker>> {
        if let Some(known) = self.topics.get(SCHEDULE_TOPIC) {
            return Ok(known);
        }
        let queues = u32::try_from(DELAY_LEVELS_MAX).unwrap_or(1);
        let topic = self.add_topic(&TopicName::new(SCHEDULE_TOPIC)?, TopicConfig::queues(queues))?;
        if let Some(arrivals) = &*self.delayed.lock() {
            topic.share_arrivals(arrivals);
        }
        Ok(topic)
    }

    /// Says who is told when a message is delayed, also if none ever was.
    pub(crate) fn tell_of_delayed(&self, arrivals: &Arc<Arrivals>) {
        *self.delayed.lock() = Some(Arc::clone(arrivals));
    }

    /// Returns how often progress is written down.
    pub(crate) fn persist_interval(&self) -> std::time::Duration {
        self.config.persist_interval
    }

    /// Returns the delays of the levels.
    pub(crate) const fn delay_levels(&self) -> &DelayLevels {
        &self.delay_levels
    }

    /// Returns what a place of a queue says, without looking into the log.
    pub(crate) fn unit_in(&self, topic: &TopicName, queue_id: u32, at: QueueOffset) -> Result<Option<Unit>> {
        self.queues.get(topic, queue_id).map_or(Ok(None), |queue| queue.get(at))
    }

    /// Returns when the delayed message is due, as its record has it.
    pub(crate) fn due_of(&self, message: &MessageView) -> Option<i64> {
        super::dispatch::due_millis(&message.record(), &self.delay_levels)
    }

    /// Tells whether a record of this topic is gone with the topic, which was deleted after it was written.
    pub(crate) fn is_deleted_with(&self, topic: &TopicName, at: PhysicalOffset) -> bool {
        self.deleted.covers(topic.as_str(), at)
    }

    /// Returns a topic that a delayed message names, made again where another broker's folder does not list it.
    pub(crate) fn topic_or_restore(&self, name: &TopicName, queue_id: u32) -> Arc<TopicOfBroker> {
        self.topics.get(name.as_str()).unwrap_or_else(|| self.topics.get_or_restore(name, queue_id))
    }

    /// Reads how far RocketMQ, or we for it, have delivered each level.
    pub(crate) fn load_delay_progress(&self) -> Result<Option<Value>> {
        Ok(load_config(self.disk.as_ref(), &self.folder.config().join(PROGRESS))?.value)
    }

    /// Writes how far each level has been delivered, for whoever opens the folder next. Everything that was put
    /// before is flushed first: what is said to be delivered must not be lost. Durable on return.
    pub(crate) fn save_delay_progress(&self, progress: &Value) -> Result<()> {
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        self.flush_log()?;
        let path = self.folder.config().join(PROGRESS);
        save_config(self.disk.as_ref(), &path, &self.folder.own(), progress)
    }

    /// Returns how far each delay level has been delivered, level 1 first.
    pub(super) fn delivered_of_levels(&self) -> Vec<QueueOffset> {
        self.levels_delivered.lock().clone()
    }

    /// Says how far each delay level has been delivered: what lies behind is not deleted as long as it waits.
    pub(crate) fn set_delivered_of_levels(&self, offsets: &[QueueOffset]) {
        offsets.clone_into(&mut self.levels_delivered.lock());
    }

    /// Maps a file of ours, made with zeros where it is missing or has another length. What is written survives the
    /// death of the process.
    pub(crate) fn map_own(&self, name: &str, len: u64) -> Result<Arc<MappedFile>> {
        let own = self.folder.own();
        let path = own.join(name);
        let found = self.disk.metadata(&path)?;
        if found.is_none_or(|found| found.len != len) {
            if found.is_some() {
                self.disk.remove_file(&path)?;
            }
            let file = NewFile { path: &path, temp_dir: &own, len, first_blocks: len, durable: Durable::No };
            file.create(self.disk.as_ref())?;
        }
        self.disk.allocate(&path, 0..len)?;
        self.disk.map(&path, 0..len, Access::Random)
    }

    /// Tells whether there is a file of ours of this name.
    pub(crate) fn has_own(&self, name: &str) -> Result<bool> {
        Ok(self.disk.metadata(&self.folder.own().join(name))?.is_some())
    }

    /// Opens a small record of ours that survives the death of the process.
    pub(crate) fn open_slots(&self, name: &str, payload_len: usize) -> Result<TwoSlots> {
        let own = self.folder.own();
        TwoSlots::open(&self.disk, &own.join(name), &own, payload_len)
    }
}
