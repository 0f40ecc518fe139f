//! How are messages found: by their place in a queue, by their place in the log, by key, by time?

use std::collections::HashSet;
use std::ops::{ControlFlow, RangeInclusive};

use super::Broker;
use crate::commitlog::{Cursor, Found, MessageView};
use crate::consumequeue::Unit;
use crate::error::Result;
use crate::filter::Filter;
use crate::index::key_hash;
use crate::message::record::Record;
use crate::sync::Ordering;
use crate::types::{PhysicalOffset, QueueOffset, TopicName};

/// Units that one pull looks at, at most (RocketMQ's 16,000 bytes of a consume queue).
const UNITS_PER_PULL: usize = 800;
/// Bytes of messages after which a pull ends (RocketMQ's `maxTransferBytesOnMessageInMemory`).
const BYTES_PER_PULL: u64 = 256 << 10;
/// What a tag field below this holds is the address of a `consumequeue_ext` entry, not a tag's hash.
const EXT_ADDRESS_BELOW: i64 = -2_147_483_648;

/// Messages that are known to be unreadable, at most.
const GONE_MAX: usize = 10_000;

/// What is to be pulled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PullRequest<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) queue_id: u32,
    /// From where on.
    pub(crate) offset: QueueOffset,
    /// How many messages at most; 0 counts as 1.
    pub(crate) count_max: usize,
    pub(crate) filter: &'a Filter,
}

/// How a pull went (RocketMQ's `PullStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PullStatus {
    /// Here are messages.
    Found,
    /// The offset is the end of the queue: there is nothing yet.
    NoNewMessage,
    /// There are messages, but none that the filter wants. Pull again from `next_offset` at once.
    NoMatchedMessage,
    /// The offset lies outside the queue. `next_offset` says where to go on.
    OffsetIllegal,
}

/// What a pull gave.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use]
pub struct PullResult {
    /// How it went.
    pub status: PullStatus,
    /// The messages, in queue order.
    pub messages: Vec<MessageView>,
    /// Where to pull next.
    pub next_offset: QueueOffset,
    /// The first offset that exists.
    pub min_offset: QueueOffset,
    /// The offset that the next message will get.
    pub max_offset: QueueOffset,
}

impl Broker {
    /// Pulls messages from one queue, by RocketMQ's rules for offsets that are too small or too large. Never blocks.
    pub(crate) fn pull(&self, request: &PullRequest<'_>) -> Result<PullResult> {
        let PullRequest { topic, queue_id, offset, .. } = *request;
        let (min, max) = self.queue_range(topic, queue_id).unwrap_or_default();
        let outcome = |status, next_offset| PullResult {
            status,
            messages: Vec::new(),
            next_offset,
            min_offset: min,
            max_offset: max,
        };
        if offset < min {
            return Ok(outcome(PullStatus::OffsetIllegal, min));
        }
        if offset > max {
            return Ok(outcome(PullStatus::OffsetIllegal, max));
        }
        if offset == max {
            return Ok(outcome(PullStatus::NoNewMessage, offset));
        }
        let (messages, next, looked_at) = self.collect(request)?;
        if let Some(first) = self.overtaken(request, looked_at)? {
            // Retention came in between: what it took is told, not passed over (contract D16).
            return Ok(PullResult { min_offset: first, ..outcome(PullStatus::OffsetIllegal, first) });
        }
        let status = if messages.is_empty() { PullStatus::NoMatchedMessage } else { PullStatus::Found };
        Ok(PullResult { messages, ..outcome(status, next) })
    }

    /// Returns the first place of a queue if what was looked for lies before it: retention has come in between, and the
    /// queue may not have followed the log yet.
    fn overtaken(&self, request: &PullRequest<'_>, looked_at: Option<Unit>) -> Result<Option<QueueOffset>> {
        let Some(queue) = self.queues.get(request.topic, request.queue_id) else { return Ok(None) };
        let start = self.log.start();
        let first = match looked_at {
            Some(unit) if unit.physical_offset < start && !unit.is_blank() => queue.first_from(start)?,
            _ => QueueOffset::ZERO,
        };
        let first = first.max(queue.min_offset());
        Ok((request.offset < first).then_some(first))
    }

    /// Collects the messages that a filter wants, and says where it stopped looking and what it looked at first.
    fn collect(&self, request: &PullRequest<'_>) -> Result<(Vec<MessageView>, QueueOffset, Option<Unit>)> {
        let PullRequest { topic, queue_id, offset, count_max, filter } = *request;
        let count_max = count_max.max(1);
        let Some(queue) = self.queues.get(topic, queue_id) else { return Ok((Vec::new(), offset, None)) };
        let mut units = Vec::new();
        queue.read(offset, UNITS_PER_PULL.min(count_max.saturating_mul(8).max(32)), &mut units)?;
        let mut messages = Vec::with_capacity(count_max.min(units.len()));
        let first = units.first().copied();
        let (mut at, mut bytes) = (offset, 0_u64);
        for unit in units {
            bytes = bytes.saturating_add(u64::from(unit.size));
            if messages.len() >= count_max || (bytes > BYTES_PER_PULL && !messages.is_empty()) {
                break;
            }
            // A damaged unit reads as a blank one: only the log can say what belongs there.
            let decided_here = unit.is_blank() || unit.tags_code < EXT_ADDRESS_BELOW;
            if decided_here || filter.may_accept_code(unit.tags_code) {
                let message = self.believe(topic, queue_id, at, unit)?;
                messages.extend(
                    message.filter(|message| filter.accepts_properties(message.record().properties())),
                );
            } else {
                bytes = bytes.saturating_sub(u64::from(unit.size));
            }
            at = at.plus(1);
        }
        Ok((messages, at, first))
    }

    /// Returns the message that a unit names, if it is the one that belongs at this place (contract D3). A unit that
    /// lies is mended from the log; a message that is gone is passed over.
    fn believe(
        &self,
        topic: &TopicName,
        queue_id: u32,
        at: QueueOffset,
        unit: Unit,
    ) -> Result<Option<MessageView>> {
        if let Some(found) = self.named_by(topic, queue_id, at, unit) {
            return Ok(Some(found));
        }
        let gone = unit.physical_offset < self.log.start() || self.is_lost(unit.physical_offset);
        if gone && !unit.is_blank() {
            return Ok(None);
        }
        let Some(queue) = self.queues.get(topic, queue_id) else { return Ok(None) };
        let again = || Ok(queue.get(at)?.and_then(|unit| self.named_by(topic, queue_id, at, unit)));
        // Somebody may have mended it since it was read.
        if let Some(found) = again()? {
            return Ok(Some(found));
        }
        // Held while one mends, so that nobody passes over what is being mended.
        let mut gone = self.gone.lock();
        let place = (topic.clone(), queue_id, at);
        if gone.contains(&place) {
            return again();
        }
        self.heal_queue(topic, queue_id)?;
        let found = again()?;
        if found.is_none() {
            if gone.len() >= GONE_MAX {
                gone.clear();
            }
            gone.insert(place);
        }
        Ok(found)
    }

    fn named_by(&self, topic: &TopicName, queue_id: u32, at: QueueOffset, unit: Unit) -> Option<MessageView> {
        let view = self.log.view(unit.physical_offset, Some(unit.size))?;
        let record = view.record();
        let belongs = record.queue_id() == queue_id
            && record.queue_offset() == at
            && record.topic_bytes() == topic.as_str().as_bytes();
        (belongs && self.is_sound(&record)).then_some(view)
    }

    /// Checks what recovery has not checked: records before the part that it read.
    pub(super) fn is_sound(&self, record: &Record<'_>) -> bool {
        record.physical_offset() >= self.verified_from || self.check_record(record).is_ok()
    }

    /// Returns the message that starts at a byte of the log.
    pub(crate) fn message_at(&self, at: PhysicalOffset) -> Option<MessageView> {
        let view = self.log.view(at, None).filter(|view| self.is_sound(&view.record()))?;
        // Under sync flush the log runs ahead of what may be seen (contract V1).
        (at < self.dispatched() && !self.is_given_up(&view.record())).then_some(view)
    }

    /// Tells whether a message has gone from its queue before its bytes go.
    fn is_given_up(&self, record: &Record<'_>) -> bool {
        let queue = || self.queues.get(&TopicName::new(record.topic()).ok()?, record.queue_id());
        self.minimums.any() && queue().is_some_and(|queue| record.queue_offset() < queue.min_offset())
    }

    /// Returns the message at a place of a queue.
    pub(crate) fn message_in(
        &self,
        topic: &TopicName,
        queue_id: u32,
        at: QueueOffset,
    ) -> Result<Option<MessageView>> {
        let Some(queue) = self.queues.get(topic, queue_id) else { return Ok(None) };
        match queue.get(at)? {
            Some(unit) if at >= queue.min_offset() => self.believe(topic, queue_id, at, unit),
            _ => Ok(None),
        }
    }

    /// Returns the first offset that exists in a queue and the one that the next message will get.
    pub(crate) fn queue_range(&self, topic: &TopicName, queue_id: u32) -> Option<(QueueOffset, QueueOffset)> {
        let queue = self.queues.get(topic, queue_id)?;
        Some((queue.min_offset(), queue.max_offset()))
    }

    /// Finds messages by topic and key, newest first, exactly, among everything acked before the call.
    pub(crate) fn query_by_key(
        &self,
        topic: &TopicName,
        key: &str,
        millis: RangeInclusive<i64>,
        limit: usize,
    ) -> Result<Vec<MessageView>> {
        let mut found = Vec::new();
        let wanted = |view: &MessageView| {
            let record = view.record();
            record.topic_bytes() == topic.as_str().as_bytes()
                && millis.contains(&record.store_millis())
                && record.index_keys().any(|name| name == key.as_bytes())
                && !self.deleted.covers(topic.as_str(), view.physical_offset())
        };
        if self.index_to(self.dispatched()).is_err() {
            self.scan_for(&wanted, &mut found)?;
        }
        let mut seen: HashSet<_> = found.iter().map(MessageView::physical_offset).collect();
        let hash = key_hash(topic.as_str(), key);
        self.index.query(hash, millis.clone(), &mut |at| {
            if found.len() >= limit {
                return ControlFlow::Break(());
            }
            if seen.insert(at) {
                found.extend(self.message_at(at).filter(|view| wanted(view)));
            }
            ControlFlow::Continue(())
        })?;
        found.truncate(limit);
        Ok(found)
    }

    /// Looks through the part of the log that the index does not have.
    fn scan_for(&self, wanted: &dyn Fn(&MessageView) -> bool, found: &mut Vec<MessageView>) -> Result<()> {
        let mut cursor = Cursor::new(self.index.end().max(self.log.start()));
        let mut newer = Vec::new();
        while let Found::Record(at, _) = cursor.next(&self.log, self.dispatched()) {
            newer.extend(self.message_at(at).filter(|view| wanted(view)));
        }
        found.extend(newer.into_iter().rev());
        Ok(())
    }

    /// Returns the first offset of a queue whose message was stored at this time or later: the smallest offset if all
    /// were, the end if none was.
    pub(crate) fn offset_at(&self, topic: &TopicName, queue_id: u32, millis: i64) -> Result<QueueOffset> {
        let Some(queue) = self.queues.get(topic, queue_id) else { return Ok(QueueOffset::ZERO) };
        queue.first_at_or_after(|unit| {
            let view = self.log.view(unit.physical_offset, Some(unit.size));
            Ok(view.is_some_and(|view| view.store_millis() >= millis))
        })
    }

    /// Checks the checksums of a record: of the body always, of the whole where our record of ranges demands it.
    pub(super) fn check_record(
        &self,
        record: &Record<'_>,
    ) -> Result<(), crate::message::record::RecordFault> {
        record.check_body_crc()?;
        if self.checksums.lock().demands(record.physical_offset().get()) {
            record.check_whole_crc()?;
        }
        Ok(())
    }

    /// Tells whether recovery found this place of the log lost.
    fn is_lost(&self, at: PhysicalOffset) -> bool {
        self.report.lost.iter().any(|lost| (lost.from..lost.to).contains(&at))
    }

    /// Returns the first and the last byte of the log.
    pub(crate) fn log_range(&self) -> (PhysicalOffset, PhysicalOffset) {
        (self.log.start(), self.log.end())
    }

    /// Tells whether the index keeps up; if not, lookups by key look into the log.
    pub(crate) fn index_is_behind(&self) -> bool {
        self.index_failed.load(Ordering::Acquire)
    }
}
