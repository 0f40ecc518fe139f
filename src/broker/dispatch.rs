//! How do the queues and the index learn what is in the log?
//!
//! Under async flush the sender writes its queue unit itself. In every other case the units come from here: under
//! sync flush after each flush, after a failure, and at opening. The index always learns from the log, a little
//! later, and a query that comes before lets it catch up first.

use std::sync::Arc;

use super::key_run::KeyRun;
use super::{Broker, TopicOfBroker};
use crate::commitlog::{Cursor, Found};
use crate::config::{DelayLevels, FlushPolicy};
use crate::consumequeue::Unit;
use crate::error::{Error, Result};
use crate::events;
use crate::index::{IndexKey, KeyHasher};
use crate::message::properties::name;
use crate::message::record::Record;
use crate::message::sys_flag::TransactionKind;
use crate::message::tags::tags_code;
use crate::sync::Ordering;
use crate::types::{PhysicalOffset, QueueOffset, SCHEDULE_TOPIC, TopicName};

/// Keys found in the log that are put together.
const LOG_RUN: usize = 64;

/// Returns the queue unit of a record, `None` for one that no queue lists.
pub(super) fn unit_of(at: PhysicalOffset, record: &Record<'_>, levels: &DelayLevels) -> Option<Unit> {
    let listed = matches!(record.sys_flag().transaction(), TransactionKind::None | TransactionKind::Commit);
    let code = due_millis(record, levels).unwrap_or_else(|| tags_code(record.tag()));
    listed.then(|| Unit { physical_offset: at, size: record.size(), tags_code: code })
}

/// Returns when a delayed message is due, which is what its queue unit says in place of the tag.
pub(crate) fn due_millis(record: &Record<'_>, levels: &DelayLevels) -> Option<i64> {
    if record.topic_bytes() != SCHEDULE_TOPIC.as_bytes() {
        return None;
    }
    let level = record.properties().get(name::DELAY)?.parse().ok()?;
    levels.millis(level).map(|delay| record.store_millis().saturating_add(delay))
}

/// Returns the topic of a record, if it is one that may exist.
pub(super) fn topic_of(record: &Record<'_>) -> Option<TopicName> {
    TopicName::new(record.topic()).ok()
}

/// The one who tells the index. Lock order: before the put lock.
#[derive(Debug)]
pub(super) struct Indexer {
    cursor: Cursor,
    /// Keys that senders left, taken from them and not all put yet.
    taken: KeyRun,
    /// Keys found in the log.
    found: Vec<IndexKey>,
}

impl Indexer {
    pub(super) fn new(at: PhysicalOffset) -> Self {
        Self { cursor: Cursor::new(at), taken: KeyRun::default(), found: Vec::new() }
    }
}

impl Broker {
    /// Writes the queue units of everything in the log before `limit`, and wakes who waits for it.
    pub(super) fn dispatch_to(&self, limit: PhysicalOffset) -> Result<()> {
        // Under async flush senders write units too, under the put lock.
        let _senders = (self.config.flush == FlushPolicy::Async).then(|| self.put_state.lock());
        let mut cursor = self.dispatch_cursor.lock();
        cursor.jump(self.dispatched());
        let mut last: Option<Arc<TopicOfBroker>> = None;
        let result = loop {
            match cursor.next(&self.log, limit) {
                Found::Record(at, record) => {
                    let topic = match self.dispatch_record(at, &record) {
                        Ok(topic) => topic,
                        Err(error) => break Err(error),
                    };
                    if let Some(topic) = topic
                        && let Some(done) = last.replace(topic)
                    {
                        done.notify();
                    }
                    self.dispatched
                        .store(at.get().saturating_add(u64::from(record.size())), Ordering::Release);
                }
                Found::End(at) => {
                    self.dispatched.store(at.get(), Ordering::Release);
                    break Ok(());
                }
                Found::Damage(at, what) => break Err(Error::corrupt(self.log.dir(), at.get(), what)),
            }
        };
        if let Some(topic) = last {
            topic.notify();
        }
        result
    }

    /// Writes the unit of one record, unless its queue has it.
    fn dispatch_record(&self, at: PhysicalOffset, record: &Record<'_>) -> Result<Option<Arc<TopicOfBroker>>> {
        let (Some(unit), Some(name)) = (unit_of(at, record, &self.delay_levels), topic_of(record)) else {
            return Ok(None);
        };
        if self.deleted.covers(name.as_str(), at) {
            return Ok(None);
        }
        let Some(topic) = self.topics.get(name.as_str()) else { return Ok(None) };
        let slot = self.slot(&topic, record.queue_id())?;
        if record.queue_offset() == slot.queue.max_offset() {
            slot.queue.append(record.queue_offset(), unit)?;
        }
        Ok(Some(topic))
    }

    /// Flushes the log and writes the queue units of what is on disk then. Returns up to where both hold.
    pub(super) fn flush_and_dispatch(&self) -> Result<PhysicalOffset> {
        let result = self.flush_log().and_then(|flushed| {
            if self.dispatched() < flushed {
                self.dispatch_to(flushed)?;
            }
            Ok(flushed)
        });
        self.tell_flushed();
        result
    }

    /// Writes the queue units of everything before `limit`. What keeps it from that is noted and tried again with the
    /// next message and with every flush: the messages are stored, so the senders are not refused (contract D6).
    pub(super) fn dispatch_or_note(&self, limit: PhysicalOffset) {
        if self.dispatched() < limit
            && let Err(error) = self.dispatch_to(limit)
        {
            let trouble = format!("queues: {error}");
            let mut troubles = self.troubles.lock();
            if !troubles.contains(&trouble) {
                troubles.push(trouble);
            }
        }
    }

    /// Flushes the log and notes how far.
    pub(super) fn flush_log(&self) -> Result<PhysicalOffset> {
        let flushed = self.log.flush().inspect_err(|error| {
            // The first one: the others repeat it.
            if !self.flush_failed.swap(true, Ordering::Relaxed) {
                events::flush_failed(&self.name, error);
            }
        })?;
        self.watermark.update(|durable| durable.log = durable.log.max(flushed.get()))?;
        Ok(flushed)
    }

    /// Puts the keys of everything visible into the index.
    ///
    /// # Errors
    ///
    /// Whatever the disk says. The index then stays behind and queries look into the log instead (contract D6).
    pub(super) fn index_to(&self, limit: PhysicalOffset) -> Result<()> {
        let mut indexer = self.indexer.lock();
        let result = self.index_from(&mut indexer, limit);
        self.index_failed.store(result.is_err(), Ordering::Release);
        result
    }

    fn index_from(&self, indexer: &mut Indexer, limit: PhysicalOffset) -> Result<()> {
        loop {
            let start = self.index.end().max(self.log.start());
            if start >= limit {
                return Ok(());
            }
            if indexer.taken.to() <= start.get() {
                self.put_state.lock().keys.move_to(&mut indexer.taken);
            }
            let run = &indexer.taken;
            if (run.from()..run.to()).contains(&start.get()) {
                let end = limit.get().min(run.to());
                self.index.put_run(run.between(start.get(), end))?;
                self.index.advance_to(PhysicalOffset::new(end));
                continue;
            }
            let gap_end = if start.get() < run.from() { limit.get().min(run.from()) } else { limit.get() };
            if self.index_log(indexer, start, PhysicalOffset::new(gap_end))?.get() < gap_end {
                return Ok(());
            }
        }
    }

    /// Puts the keys of what lies in a part of the log, and returns where that ends.
    fn index_log(
        &self,
        indexer: &mut Indexer,
        from: PhysicalOffset,
        limit: PhysicalOffset,
    ) -> Result<PhysicalOffset> {
        let Indexer { cursor, found, .. } = indexer;
        cursor.jump(from);
        found.clear();
        loop {
            let next = cursor.next(&self.log, limit);
            let here = match &next {
                Found::Record(at, record) => {
                    found.extend(keys_of(*at, record));
                    at.plus(u64::from(record.size()))
                }
                Found::End(at) | Found::Damage(at, _) => *at,
            };
            let is_last = !matches!(next, Found::Record(..));
            if is_last || found.len() >= LOG_RUN {
                self.index.put_run(found)?;
                self.index.advance_to(here);
                found.clear();
            }
            match next {
                Found::Record(..) => {}
                Found::End(at) => return Ok(at),
                Found::Damage(at, what) => return Err(Error::corrupt(self.log.dir(), at.get(), what)),
            }
        }
    }

    /// Rewrites the units of one queue that are wrong, from the log. Writers may go on meanwhile: what is visible is
    /// only ever replaced by what should have been there.
    pub(super) fn heal_queue(&self, topic: &TopicName, queue_id: u32) -> Result<u64> {
        let Some(queue) = self.queues.get(topic, queue_id) else { return Ok(0) };
        let limit = self.dispatched();
        let mut cursor = Cursor::new(self.log.start());
        let mut healed = 0_u64;
        loop {
            match cursor.next(&self.log, limit) {
                Found::Record(at, record) => {
                    let ours = record.queue_id() == queue_id
                        && record.topic_bytes() == topic.as_str().as_bytes()
                        && !self.deleted.covers(topic.as_str(), at);
                    let listed: QueueOffset = record.queue_offset();
                    if let Some(unit) = unit_of(at, &record, &self.delay_levels)
                        .filter(|_| ours && listed < queue.max_offset())
                        && queue.get(listed)? != Some(unit)
                    {
                        queue.confirm(listed, unit)?;
                        healed = healed.saturating_add(1);
                    }
                }
                // Retention has removed the file meanwhile.
                Found::Damage(at, _) if at < self.log.start() => cursor.jump(self.log.start()),
                Found::End(_) | Found::Damage(..) => return Ok(healed),
            }
        }
    }
}

/// Walks through everything under which a record can be found.
pub(super) fn keys_of<'a>(
    physical: PhysicalOffset,
    record: &Record<'a>,
) -> impl Iterator<Item = IndexKey> + use<'a> {
    let (hasher, store_millis) = (KeyHasher::new(record.topic()), record.store_millis());
    let listed = record.sys_flag().transaction() != TransactionKind::Rollback;
    let keys = listed.then(|| record.index_keys()).into_iter().flatten();
    keys.map(move |key| IndexKey { physical, store_millis, hash: hasher.hash(key) })
}
