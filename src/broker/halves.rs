//! How does a message get into the log whose transaction is not decided, and what is written when it is?
//!
//! All of it is RocketMQ's. A half message lies in queue 0 of `RMQ_SYS_TRANS_HALF_TOPIC` and says in `REAL_TOPIC` and
//! `REAL_QID` where it belongs. A commit puts it there, with the bits of a commit in its system flag and the place of the
//! half message as its prepared transaction offset. A record of `RMQ_SYS_TRANS_OP_HALF_TOPIC` then names the queue offset of
//! the half message that is decided, either way. Who decides what, and when, is the business of `src/txn/`.

use std::sync::Arc;

use super::{Broker, Later, PositionKey, PutMessage, Stored, Timed, TopicOfBroker, WaitForFlush};
use crate::commitlog::MessageView;
use crate::config::{FlushPolicy, QUEUES_MAX, RocketmqVersion};
use crate::error::{Error, Result};
use crate::message::Properties;
use crate::message::properties::{IndexTexts, append, append_without, name};
use crate::message::sys_flag::{SysFlag, TransactionKind};
use crate::message::tags::tags_code;
use crate::types::{GIVEN_UP_TOPIC, GroupName, HALF_TOPIC, OP_TOPIC, PhysicalOffset, QueueOffset, TopicName};

/// The group under which RocketMQ keeps how far its transactions are decided.
pub(super) const TRANSACTION_GROUP: &str = "CID_RMQ_SYS_TRANS";
/// The tag of a record that names a decided half message.
const OP_TAG: &str = "d";
/// Its properties, as RocketMQ writes them.
const OP_PROPERTIES: &[u8] = b"TAGS\x01d\x02WAIT\x01true\x02";
/// Properties that a half message gets anew.
const OF_HALF: [&str; 6] = [
    name::CRC32,
    name::REAL_TOPIC,
    name::REAL_QUEUE_ID,
    name::TRANSACTION,
    name::PRODUCER_GROUP,
    name::TRANSACTION_ID,
];

/// What became of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Committed {
    /// The message is stored.
    Stored(Stored),
    /// Its topic was deleted since the transaction began, and the message with it.
    TopicDeleted,
}

impl Broker {
    /// Stores a message that nobody sees in its topic and queue before its transaction is committed. Blocks as
    /// [`put`](Self::put) does. The limits of its topic count now: a commit is never refused by them.
    ///
    /// # Errors
    ///
    /// Those of `put`; `InvalidArgument` where the properties leave no room for those of the transaction.
    pub(crate) fn put_half(
        &self,
        (topic, queue_id): (&TopicOfBroker, u32),
        message: &PutMessage<'_>,
        group: &GroupName,
        wait: WaitForFlush,
    ) -> Result<Stored> {
        if topic.is_deleted() {
            return Err(Error::TopicNotFound(topic.name().as_str().into()));
        }
        self.check_version(topic.name().as_str())?;
        self.check_limits(topic, queue_id, std::slice::from_ref(message))?;
        self.keep_topics()?;
        let mut properties = Vec::with_capacity(message.properties.len().saturating_add(192));
        append_without(&mut properties, Properties::new(message.properties), &OF_HALF);
        append(&mut properties, name::TRANSACTION, "true");
        append(&mut properties, name::PRODUCER_GROUP, group.as_str());
        if self.config.version != RocketmqVersion::V4_9 {
            let id = message.index_texts.unique.and_then(|id| std::str::from_utf8(id).ok());
            append(&mut properties, name::TRANSACTION_ID, id.unwrap_or_default());
        }
        append(&mut properties, name::REAL_TOPIC, topic.name().as_str());
        append(&mut properties, name::REAL_QUEUE_ID, &queue_id.to_string());
        let half = PutMessage {
            properties: &properties,
            sys_flag: message.sys_flag.with_transaction(TransactionKind::None),
            ..*message
        };
        self.put(&*self.own_topic(HALF_TOPIC)?, 0, &half, wait)
    }

    /// Stores a half message once more, as RocketMQ does with each check, so that the file in which it lay may go.
    pub(crate) fn put_half_again(&self, half: &MessageView, checks: u32) -> Result<Stored> {
        self.put_copy(half, HALF_TOPIC, checks)
    }

    /// Stores a half message that nobody decides among those that are given up.
    pub(crate) fn put_given_up(&self, half: &MessageView, checks: u32) -> Result<Stored> {
        self.put_copy(half, GIVEN_UP_TOPIC, checks)
    }

    fn put_copy(&self, half: &MessageView, topic: &str, checks: u32) -> Result<Stored> {
        let topic = self.own_topic(topic)?;
        let slot = self.slot(&topic, 0)?;
        let put_with = |properties: &[u8]| {
            self.put_admitted(&topic, &slot, &PutMessage::again(half, properties), WaitForFlush::No)
        };
        let mut properties = Vec::with_capacity(half.properties().encoded().len().saturating_add(32));
        let replaced = [name::CRC32, name::CHECK_TIMES, name::PREPARED_QUEUE_OFFSET];
        append_without(&mut properties, half.properties(), &replaced);
        let own = properties.len();
        append(&mut properties, name::CHECK_TIMES, &checks.to_string());
        match put_with(&properties) {
            // Rather without the number of its checks than not at all: there it has no room.
            Err(Error::InvalidArgument { .. } | Error::MessageTooLarge { .. }) => {
                put_with(properties.get(..own).unwrap_or_default())
            }
            stored => stored,
        }
    }

    /// Stores the message of a committed transaction in its topic and queue, behind its delay if it has one. Whether it
    /// is flushed the caller asks.
    pub(crate) fn put_committed(&self, half: &MessageView) -> Result<Committed> {
        let Some((name, wanted)) = target_of(half) else { return Ok(Committed::TopicDeleted) };
        if self.is_deleted_with(&name, half.physical_offset()) {
            return Ok(Committed::TopicDeleted);
        }
        let topic = self.topic_or_restore(&name, wanted);
        let config = topic.config();
        let exists = wanted < config.read_queues.max(config.write_queues);
        let queue_id = if exists { wanted } else { wanted.checked_rem(config.write_queues).unwrap_or(0) };
        let mut properties = Vec::with_capacity(half.properties().encoded().len());
        // RocketMQ 4.9 to 5.3 leaves the two names of the place, later versions take them out.
        let left_out: &[&str] = match self.config.version {
            RocketmqVersion::V4_9 => &[name::CRC32],
            RocketmqVersion::V5 => &[name::CRC32, name::REAL_TOPIC, name::REAL_QUEUE_ID],
        };
        append_without(&mut properties, half.properties(), left_out);
        let put = PutMessage {
            sys_flag: half.record().sys_flag().with_transaction(TransactionKind::Commit),
            prepared_transaction_offset: half.physical_offset(),
            ..PutMessage::again(half, &properties)
        };
        let wait = WaitForFlush::Later;
        let level = half.property(name::DELAY).and_then(|level| level.parse().ok()).unwrap_or(0);
        let stored = if level > 0 {
            self.put_delayed(&topic, queue_id, &put, Later { level, wait })
        } else if let Some(due_millis) = self.due_of_half(half) {
            self.put_timed(&topic, queue_id, &put, Timed { due_millis, wait })
        } else {
            self.slot(&topic, queue_id).and_then(|slot| self.put_admitted(&topic, &slot, &put, wait))
        };
        match stored {
            Err(Error::TopicNotFound(_)) => Ok(Committed::TopicDeleted),
            stored => stored.map(Committed::Stored),
        }
    }

    /// Returns when a committed message is to be delivered, if that lies ahead: RocketMQ 5 lets a half message say so, and
    /// 4.9 does not know it. A delay counts from the commit.
    fn due_of_half(&self, half: &MessageView) -> Option<i64> {
        if self.config.version == RocketmqVersion::V4_9 {
            return None;
        }
        let times = [name::TIMER_DELIVER_MS, name::TIMER_DELAY_MS, name::TIMER_DELAY_SEC];
        let [at, millis, seconds] =
            half.properties().pick(times).map(|text| text.and_then(|text| text.parse::<i64>().ok()));
        let now = self.clock.wall_millis();
        let delay = millis.or_else(|| Some(seconds?.saturating_mul(1_000)));
        at.or_else(|| Some(now.saturating_add(delay?))).filter(|due| *due > now)
    }

    /// Writes down that a half message is decided: its offset alone in one record, which every version reads.
    pub(crate) fn put_op(&self, half: QueueOffset) -> Result<Stored> {
        let body = half.get().to_string();
        let put = PutMessage {
            flag: 0,
            sys_flag: SysFlag::NONE,
            now_millis: None,
            born_millis: self.clock.wall_millis(),
            born_host: self.host,
            reconsume_times: 0,
            prepared_transaction_offset: PhysicalOffset::ZERO,
            body: body.as_bytes(),
            properties: OP_PROPERTIES,
            index_texts: IndexTexts { unique: None, keys: "" },
            tags_code: tags_code(Some(OP_TAG)),
        };
        let topic = self.own_topic(OP_TOPIC)?;
        let slot = self.slot(&topic, 0)?;
        self.put_admitted(&topic, &slot, &put, WaitForFlush::Later)
    }

    /// Returns the half message at a place of the log if it is the one with this offset, also before it can be seen.
    pub(crate) fn half_at(&self, at: PhysicalOffset, offset: QueueOffset) -> Option<MessageView> {
        let view = self.log.view(at, None)?;
        let record = view.record();
        let is_it = record.topic() == HALF_TOPIC && record.queue_offset() == offset;
        (is_it && self.is_sound(&record)).then_some(view)
    }

    /// Returns a topic of RocketMQ's own with one queue, made where it is missing.
    fn own_topic(&self, name: &str) -> Result<Arc<TopicOfBroker>> {
        match self.topic(name) {
            Some(known) => Ok(known),
            None => self.add_topic(&TopicName::new(name)?, crate::config::TopicConfig::queues(1)),
        }
    }

    /// Returns the first offset of one of the two topics that is not done with: RocketMQ's position, or the beginning.
    pub(crate) fn transactions_done(&self, topic: &TopicName) -> Result<QueueOffset> {
        let (min, max) = self.queue_range(topic, 0).unwrap_or_default();
        let position = self.positions.get(&transaction_key(topic)?);
        Ok(position.map_or(min, |position| position.get()).clamp(min, max))
    }

    /// Says up to where one of the two topics is done with. Call it when what says so is flushed.
    pub(crate) fn set_transactions_done(&self, topic: &TopicName, next: QueueOffset) -> Result<()> {
        let position = self.positions.position(&transaction_key(topic)?, next)?;
        if position.get() == next { Ok(()) } else { self.positions.commit(&position, next) }
    }

    /// Waits under sync flush until what was stored is flushed, or the time for that is over.
    ///
    /// # Errors
    ///
    /// `FlushFailed`.
    pub(crate) fn settle_transaction(&self, stored: &Stored) -> Result<()> {
        if self.config.flush == FlushPolicy::Async {
            return Ok(());
        }
        self.wait_for_flush(stored.end, self.flush_deadline()).map(drop)
    }

    /// Returns how long messages are kept at least, `None` where that is no matter of time.
    pub(crate) fn messages_kept_for(&self) -> Option<std::time::Duration> {
        self.config.retention.age
    }
}

fn transaction_key(topic: &TopicName) -> Result<PositionKey> {
    Ok(PositionKey { topic: topic.clone(), group: GroupName::stored(TRANSACTION_GROUP)?, queue_id: 0 })
}

/// Returns the topic and the queue that a half message is for.
pub(crate) fn target_of(half: &MessageView) -> Option<(TopicName, u32)> {
    let [topic, queue_id] = half.properties().pick([name::REAL_TOPIC, name::REAL_QUEUE_ID]);
    let topic = TopicName::new(topic?).ok()?;
    let queue_id = queue_id?.parse().ok()?;
    (topic.as_str() != HALF_TOPIC && queue_id < QUEUES_MAX).then_some((topic, queue_id))
}
