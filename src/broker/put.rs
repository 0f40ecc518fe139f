//! How does a message get into the log and its queue?
//!
//! All that can be done before the lock is: the checksum of the body, the encoding, room in the queue. Under the lock
//! the record gets its place, is copied, and under async flush its queue unit is written, which makes it visible
//! (contract V1). Under sync flush the sender then waits for a flush, and whoever leads that writes the units.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use super::key_run::KeyRun;
use super::{Broker, QueueSlot, TopicOfBroker};
use crate::commitlog::{Appender, FlushWait, MessageView};
use crate::config::{FlushPolicy, RocketmqVersion};
use crate::consumequeue::Unit;
use crate::error::{Error, Outcome, Result};
use crate::index::IndexKey;
use crate::message::Properties;
use crate::message::draft::{Draft, DraftFields, TOPIC_LEN_MAX_V1};
use crate::message::properties::IndexTexts;
use crate::message::sys_flag::{SysFlag, TransactionKind};
use crate::message::tags::tags_code;
use crate::sync::Ordering;
use crate::types::{PhysicalOffset, QueueOffset, to_usize};

/// What the broker needs to know of a message that is to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PutMessage<'a> {
    pub(crate) flag: i32,
    pub(crate) sys_flag: SysFlag,
    /// The time, if the caller has just read the clock: a reading is a twentieth of an append.
    pub(crate) now_millis: Option<i64>,
    pub(crate) born_millis: i64,
    pub(crate) born_host: SocketAddr,
    pub(crate) reconsume_times: u32,
    pub(crate) prepared_transaction_offset: PhysicalOffset,
    pub(crate) body: &'a [u8],
    /// Encoded, without a `__CRC32#`.
    pub(crate) properties: &'a [u8],
    /// What the properties say that it can be looked up by.
    pub(crate) index_texts: IndexTexts<'a>,
    pub(crate) tags_code: i64,
}

impl<'a> PutMessage<'a> {
    /// A message as it is to be stored once more, with other properties.
    pub(crate) fn again(message: &'a MessageView, properties: &'a [u8]) -> Self {
        let record = message.record();
        Self {
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            now_millis: None,
            born_millis: record.born_millis(),
            born_host: record.born_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: PhysicalOffset::ZERO,
            body: message.raw_body(),
            properties,
            index_texts: IndexTexts::of(Properties::new(properties)),
            tags_code: tags_code(record.tag()),
        }
    }
}

/// Whether a sender waits for its flush under sync flush (RocketMQ's `WAIT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitForFlush {
    Yes,
    /// Not in this call: the sender asks for it itself, see [`Broker::when_flushed`] and [`Broker::wait_for_flush`].
    Later,
    No,
}

/// Where a message, or the first one of a batch, was stored, and how safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) queue_offset: QueueOffset,
    pub(crate) physical_offset: PhysicalOffset,
    /// The byte behind the record, or behind the last one of a batch.
    pub(crate) end: PhysicalOffset,
    pub(crate) flushed: FlushWait,
    /// Whether anybody waited for a flush at all.
    pub(crate) waited: bool,
}

/// The one who writes, and what only it may touch.
#[derive(Debug)]
pub(crate) struct PutState {
    pub(crate) appender: Appender,
    /// The keys of what was appended last, for the indexer.
    pub(super) keys: KeyRun,
}

impl PutState {
    pub(super) fn new(appender: Appender) -> Self {
        Self { appender, keys: KeyRun::default() }
    }
}

/// A draft, and what queue and index are told of it.
struct Put<'a> {
    draft: Draft<'a>,
    tags_code: i64,
    now_millis: Option<i64>,
    /// How many of the scratch's hashes are its keys'.
    key_count: usize,
}

/// Buffers that a thread uses again for every message, so that a send allocates nothing.
#[derive(Default)]
struct Scratch {
    buffer: Vec<u8>,
    hashes: Vec<u32>,
}

/// Above this many bytes a buffer is given back after use.
const BUFFER_KEPT: usize = 1 << 20;

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch { buffer: Vec::new(), hashes: Vec::new() }) };
}

impl Broker {
    /// Stores one message. Blocks for the append lock, and under sync flush for the flush.
    pub(crate) fn put(
        &self,
        topic: &TopicOfBroker,
        queue_id: u32,
        message: &PutMessage<'_>,
        wait: WaitForFlush,
    ) -> Result<Stored> {
        self.put_into(topic, &*self.slot(topic, queue_id)?, message, wait)
    }

    /// Stores one message in a queue that the caller has found already.
    pub(crate) fn put_into(
        &self,
        topic: &TopicOfBroker,
        slot: &QueueSlot,
        message: &PutMessage<'_>,
        wait: WaitForFlush,
    ) -> Result<Stored> {
        self.check_limits(topic, slot.queue.queue_id(), std::slice::from_ref(message))?;
        self.put_admitted(topic, slot, message, wait)
    }

    /// Stores one message whatever the limits say: what was taken once must be able to go on.
    pub(crate) fn put_admitted(
        &self,
        topic: &TopicOfBroker,
        slot: &QueueSlot,
        message: &PutMessage<'_>,
        wait: WaitForFlush,
    ) -> Result<Stored> {
        self.check_intake()?;
        with_scratch(|scratch| {
            let put = self.draft(topic, slot, message, scratch)?;
            self.append(topic, slot, &[put], scratch)
        })
        .and_then(|appended| self.settle(topic, appended, wait))
    }

    /// Stores messages one behind the other in one queue and one file: all or none while the machine lives (D15).
    pub(crate) fn put_batch(
        &self,
        topic: &TopicOfBroker,
        queue_id: u32,
        messages: &[PutMessage<'_>],
        wait: WaitForFlush,
    ) -> Result<Stored> {
        self.check_intake()?;
        self.check_limits(topic, queue_id, messages)?;
        let slot = self.slot(topic, queue_id)?;
        with_scratch(|scratch| {
            let puts = messages.iter().map(|message| self.draft(topic, &slot, message, scratch));
            let puts = puts.collect::<Result<Vec<_>>>()?;
            self.append(topic, &slot, &puts, scratch)
        })
        .and_then(|appended| self.settle(topic, appended, wait))
    }

    /// Returns a queue of a topic, making its folder and first file where it has none yet.
    pub(crate) fn slot(&self, topic: &TopicOfBroker, queue_id: u32) -> Result<Arc<QueueSlot>> {
        match topic.slot(queue_id) {
            Some(slot) => Ok(slot),
            None => Ok(topic.list_slot(queue_id, self.queues.get_or_create(topic.name(), queue_id)?)),
        }
    }

    /// Returns the bytes that a record, or all records of a batch, may have to fit a file of the log.
    pub(crate) fn record_size_max(&self) -> u64 {
        self.log.files().file_size().saturating_sub(crate::commitlog::BLANK_LEN)
    }

    /// Returns the bytes that a message takes in the log.
    pub(crate) fn stored_size(&self, topic: &TopicOfBroker, message: &PutMessage<'_>) -> Result<u32> {
        Draft::size_of(&self.fields(topic, 0, message), self.coverage())
    }

    fn draft<'a>(
        &self,
        topic: &'a TopicOfBroker,
        slot: &QueueSlot,
        message: &PutMessage<'a>,
        scratch: &mut Scratch,
    ) -> Result<Put<'a>> {
        let fields = self.fields(topic, slot.queue.queue_id(), message);
        self.check_version(fields.topic)?;
        let draft = Draft::new(&fields, self.coverage(), &mut scratch.buffer)?;
        let before = scratch.hashes.len();
        if message.sys_flag.transaction() != TransactionKind::Rollback {
            let hasher = topic.key_hasher();
            scratch.hashes.extend(message.index_texts.split().map(|key| hasher.hash(key)));
        }
        let key_count = scratch.hashes.len().saturating_sub(before);
        let PutMessage { tags_code, now_millis, .. } = *message;
        Ok(Put { draft, tags_code, now_millis, key_count })
    }

    /// Refuses a topic whose records the version of RocketMQ that the settings name cannot read.
    pub(super) fn check_version(&self, topic: &str) -> Result<()> {
        if self.config.version == RocketmqVersion::V4_9 && topic.len() > TOPIC_LEN_MAX_V1 {
            return Err(unreadable_by_4_9(topic));
        }
        Ok(())
    }

    fn fields<'a>(
        &self,
        topic: &'a TopicOfBroker,
        queue_id: u32,
        message: &PutMessage<'a>,
    ) -> DraftFields<'a> {
        DraftFields {
            topic: topic.name().as_str(),
            queue_id,
            flag: message.flag,
            sys_flag: message.sys_flag,
            born_millis: message.born_millis,
            born_host: message.born_host,
            store_host: self.host,
            reconsume_times: message.reconsume_times,
            prepared_transaction_offset: message.prepared_transaction_offset,
            body: message.body,
            properties: message.properties,
        }
    }

    /// Appends drafts to the log under the put lock, and under async flush makes them visible.
    fn append(
        &self,
        topic: &TopicOfBroker,
        slot: &QueueSlot,
        puts: &[Put<'_>],
        scratch: &mut Scratch,
    ) -> Result<Appended> {
        let total = puts.iter().map(|put| u64::from(put.draft.size())).sum();
        let mut state = self.put_state.lock();
        // Under the lock, so that nothing is stored once a close or a deletion has begun.
        self.check_open()?;
        if topic.is_deleted() {
            return Err(Error::TopicNotFound(topic.name().as_str().into()));
        }
        let PutState { appender, keys } = &mut *state;
        let first = QueueOffset::new(slot.next.load(Ordering::Relaxed));
        // Room for the units is secured before the log is touched: a full disk is `NotStored` (E2).
        let waiting = first.since(slot.queue.max_offset());
        let mut tail = slot.queue.tail();
        tail.prepare(puts.len().saturating_add(to_usize(waiting)))?;
        let mut before = appender.end();
        let inline = self.config.flush == FlushPolicy::Async
            && self.dispatched.load(Ordering::Relaxed) == appender.end();
        appender.make_room(&self.log, total)?;
        let now = puts.first().and_then(|put| put.now_millis).unwrap_or_else(|| self.clock.wall_millis());
        let millis = appender.stamp(now);
        let physical = PhysicalOffset::new(appender.end());
        let mut is_visible = inline && slot.queue.max_offset() == first;
        let (mut at, mut hashes) = (first, scratch.hashes.as_slice());
        for Put { draft, tags_code, key_count, .. } in puts {
            let place = appender.write(draft, &mut scratch.buffer, at, millis)?;
            let tags_code = topic.unit_code(*tags_code, millis);
            let unit = Unit { physical_offset: place, size: draft.size(), tags_code };
            is_visible = is_visible && tail.write(at, &unit).is_ok();
            let (own, rest) = hashes.split_at(hashes.len().min(*key_count));
            let of = |hash: &u32| IndexKey { physical: place, store_millis: millis, hash: *hash };
            keys.push(before, appender.end(), own.iter().map(of));
            (at, hashes, before) = (at.plus(1), rest, appender.end());
        }
        let end = appender.end();
        self.log.publish(end);
        // Ordering: the put lock orders the writers of `next`.
        slot.next.store(at.get(), Ordering::Relaxed);
        if is_visible {
            tail.publish(first, at);
            self.dispatched.store(end, Ordering::Release);
        }
        let (room, waiting) = (appender.allocated_ahead(), keys.len());
        drop((tail, state));
        self.kick_background(end, room, waiting);
        Ok(Appended { first, physical, end: PhysicalOffset::new(end) })
    }

    /// Sees to it that what was appended is as safe and as visible as the policy says.
    fn settle(&self, topic: &TopicOfBroker, appended: Appended, wait: WaitForFlush) -> Result<Stored> {
        let Appended { first, physical, end } = appended;
        let stored =
            |flushed, waited| Stored { queue_offset: first, physical_offset: physical, end, flushed, waited };
        if self.config.flush == FlushPolicy::Async {
            self.dispatch_or_note(end);
            topic.notify();
            return Ok(stored(FlushWait::Flushed, false));
        }
        if wait != WaitForFlush::Yes {
            if wait == WaitForFlush::No {
                self.kick_flush();
            }
            return Ok(stored(FlushWait::Flushed, false));
        }
        Ok(stored(self.wait_for_flush(end, self.flush_deadline())?, true))
    }

    /// Refuses messages where the store is closed, has failed, or has no space.
    fn check_intake(&self) -> Result<()> {
        self.check_writable()?;
        if let Some(durable_offset) = self.log.failed() {
            return Err(Error::FlushFailed { durable_offset, outcome: Outcome::NotStored });
        }
        if self.full.load(Ordering::Relaxed) {
            // The flag only says that it is worth looking: space may have come back.
            self.log.files().check_space()?;
            self.full.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Refuses messages for which there is no room by the limits of the user, and makes room where these say so.
    #[inline]
    pub(super) fn check_limits(
        &self,
        topic: &TopicOfBroker,
        queue_id: u32,
        messages: &[PutMessage<'_>],
    ) -> Result<()> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        self.admit(limiter, topic, queue_id, messages)
    }

    /// Returns the byte before which every record's queue unit has been written.
    pub(crate) fn dispatched(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.dispatched.load(Ordering::Acquire))
    }
}

/// Where drafts ended up.
#[derive(Debug, Clone, Copy)]
struct Appended {
    first: QueueOffset,
    physical: PhysicalOffset,
    end: PhysicalOffset,
}

#[cold]
fn unreadable_by_4_9(topic: &str) -> Error {
    Error::unsupported(format!(
        "topic {topic} has {} bytes, and the records of more than {TOPIC_LEN_MAX_V1} are of a version that RocketMQ 4.9 \
         cannot read: choose a shorter name, or open with rocketmq_version(V5)",
        topic.len()
    ))
}

fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take();
    scratch.buffer.clear();
    scratch.hashes.clear();
    let result = work(&mut scratch);
    if scratch.buffer.capacity() <= BUFFER_KEPT {
        SCRATCH.set(scratch);
    }
    result
}
