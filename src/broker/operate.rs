//! What does an operator do to one shard: empty a topic, forget positions, remove queues that nobody has any more?

use std::path::Path;

use super::{Broker, PositionKey, TopicOfBroker};
use crate::error::Result;
use crate::message::properties::name;
use crate::storage::{Disk, EntryKind};
use crate::types::{PhysicalOffset, SCHEDULE_TOPIC, TopicName, to_usize};

/// What becomes of a topic whose messages are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deleted,
    /// It stays, with empty queues that begin at 0.
    Emptied,
}

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

    /// Deletes a topic, its queues and its positions. It stays deleted whatever happens once this has returned (D20).
    /// `false` if there is no such topic.
    pub(crate) fn delete_topic(&self, name: &TopicName) -> Result<bool> {
        self.remove_messages(name, Fate::Deleted)
    }

    /// Removes the messages of a topic and the positions in it; the topic stays. They stay gone whatever happens once this
    /// has returned (D20). `false` if there is no such topic.
    pub(crate) fn purge_topic(&self, name: &TopicName) -> Result<bool> {
        self.remove_messages(name, Fate::Emptied)
    }

    /// After an error the messages are there still, or gone; call again. Until then the topic may take none.
    fn remove_messages(&self, name: &TopicName, fate: Fate) -> Result<bool> {
        self.check_writable()?;
        let _alone = self.settle_for_move()?;
        let _nothing_else_goes = self.removing.lock();
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        let Some(topic) = self.topics.get(name.as_str()) else { return Ok(false) };
        // 1. Where its queues began: at the next opening an old place would hide what is put into them anew. Before the
        //    put lock, so that no sender waits for this. Crash: messages come back that had been given up.
        let places = self.minimums.take_topic(name);
        let forgotten = self.minimums.save();
        if let Err(error) = forgotten.and_then(|()| self.remove_from_queues(&topic)) {
            self.minimums.put_back(places);
            return Err(error);
        }
        self.retention.note_dead();
        // 4. Before anybody puts a message at the beginning of a queue that a group would pass over. Crash: the next opening
        //    brings the positions down to the empty queues.
        self.positions.remove_topic(name)?;
        self.persist_positions()?;
        // 5. Only now senders find it again, or may make another one.
        match fate {
            Fate::Deleted => self.topics.remove(name),
            Fate::Emptied => self.topics.renew(name),
        }
        self.topics.save()?;
        Ok(true)
    }

    fn remove_from_queues(&self, topic: &TopicOfBroker) -> Result<()> {
        // The put lock keeps out senders that hold the topic still, the other one who writes units from the log.
        let state = self.put_state.lock();
        let _units = self.dispatch_cursor.lock();
        // 2. Crash: from here on the next opening drops the queues.
        self.deleted.add(topic.name(), PhysicalOffset::new(state.appender.end()))?;
        topic.close_to_senders();
        // 3. Where this fails, nobody puts anything into what is left.
        self.queues.remove_topic(topic.name())?;
        // A limit may have made room meanwhile.
        self.minimums.take_topic(topic.name());
        Ok(())
    }

    /// Removes the messages of one queue and the positions in it. Its numbers go on where they ended, should its topic get
    /// it back. Durable on return. Returns how many messages went; `None` if there is no such queue.
    pub(crate) fn delete_queue(&self, topic: &TopicName, queue_id: u32) -> Result<Option<u64>> {
        self.check_writable()?;
        let _alone = self.settle_for_move()?;
        let _nothing_else_goes = self.removing.lock();
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        let Some(queue) = self.queues.get(topic, queue_id) else { return Ok(None) };
        let gone = self.minimums.raise(&queue, queue.max_offset());
        self.minimums.save()?;
        if gone > 0 {
            self.retention.note_given_up(gone, 0);
        }
        queue.drop_files_before_min()?;
        let removed = self.positions.remove_where(&|key| key.topic == *topic && key.queue_id == queue_id)?;
        if removed > 0 {
            self.persist_positions()?;
        }
        Ok(Some(gone))
    }

    /// Forgets positions. Durable on return. Returns how many.
    pub(crate) fn remove_positions(&self, unwanted: &dyn Fn(&PositionKey) -> bool) -> Result<usize> {
        self.check_writable()?;
        let _alone = self.settle_for_move()?;
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
