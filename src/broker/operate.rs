//! What does an operator do to one shard: empty a topic, forget positions, remove queues that nobody has any more?

use std::path::Path;

use super::{Broker, PositionKey, SCHEDULE_TOPIC};
use crate::error::Result;
use crate::message::properties::name;
use crate::storage::{Disk, EntryKind};
use crate::types::{PhysicalOffset, TopicName, to_usize};

/// Delayed copies of one message that are looked at: more than it can have attempts.
const COPIES_MAX: usize = 1_000;

/// Removes what groups have leased: another broker has delivered all of it again.
pub(super) fn drop_leases(disk: &dyn Disk, own: &Path) -> Result<()> {
    for entry in disk.list(own)?.unwrap_or_default() {
        if entry.kind == EntryKind::File && entry.name.as_encoded_bytes().starts_with(b"leases-") {
            disk.remove_file(&own.join(&entry.name))?;
        }
    }
    Ok(())
}

impl Broker {
    /// Returns the numbers of the queues of a topic that exist, in order.
    pub(crate) fn queue_ids(&self, topic: &TopicName) -> Vec<u32> {
        self.queues.of(topic).iter().map(|queue| queue.queue_id()).collect()
    }

    /// Returns the byte before which everything is on disk.
    pub(crate) fn flushed(&self) -> PhysicalOffset {
        self.log.flushed()
    }

    /// Returns the byte before which every record is in the index.
    pub(crate) fn indexed(&self) -> PhysicalOffset {
        self.index.end()
    }

    /// Returns the bytes that are free on the disk of the log.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        self.disk.free_bytes(&self.folder.log)
    }

    /// Removes the messages of a topic and the positions in it; the topic stays. They stay gone whatever happens once this
    /// has returned (D20). `false` if there is no such topic.
    pub(crate) fn purge_topic(&self, name: &TopicName) -> Result<bool> {
        let _nothing_else_goes = self.removing.lock();
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        // As for a deletion: senders hold the topic still, and somebody may write units from the log.
        let state = self.put_state.lock();
        let units = self.dispatch_cursor.lock();
        if self.topics.get(name.as_str()).is_none() {
            return Ok(false);
        }
        // Crash: from here on the next opening drops the queues.
        self.deleted.add(name, PhysicalOffset::new(state.appender.end()))?;
        self.topics.renew(name);
        self.queues.remove_topic(name)?;
        // Before anybody puts a new first message: at the next opening the old place would hide it.
        self.minimums.remove_topic(name);
        let forgotten = self.minimums.save();
        drop((units, state));
        forgotten?;
        self.retention.note_dead();
        self.topics.save()?;
        self.positions.remove_topic(name)?;
        self.persist_positions()?;
        Ok(true)
    }

    /// Forgets positions. Durable on return. Returns how many.
    pub(crate) fn remove_positions(&self, unwanted: &dyn Fn(&PositionKey) -> bool) -> Result<usize> {
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        let removed = self.positions.remove_where(unwanted)?;
        if removed > 0 {
            self.persist_positions()?;
        }
        Ok(removed)
    }

    /// Tells whether a copy of a message waits in a delay level for its turn in this topic.
    pub(crate) fn waits_in_a_level(&self, topic: &TopicName, id: &str) -> Result<bool> {
        let schedule = TopicName::new(SCHEDULE_TOPIC)?;
        let delivered = self.delivered_of_levels();
        let copies = self.query_by_key(&schedule, id, i64::MIN..=i64::MAX, COPIES_MAX)?;
        Ok(copies.iter().any(|copy| {
            let record = copy.record();
            let done = delivered.get(to_usize(u64::from(record.queue_id()))).copied().unwrap_or_default();
            record.properties().get(name::REAL_TOPIC) == Some(topic.as_str()) && record.queue_offset() >= done
        }))
    }
}
