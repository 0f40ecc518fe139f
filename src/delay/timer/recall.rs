//! How is a message taken back that is not due yet?
//!
//! As in RocketMQ by another message in the same second of the wheel, which names it in `TIMER_DEL_UNIQKEY`. It is put while
//! nobody delivers, so once it is there the other one does not come.

use super::Timers;
use super::entry::{Entry, cancelled_id};
use crate::broker::{PutMessage, Stored, Timed, WaitForFlush, wheel_second};
use crate::error::{Error, Result};
use crate::message::properties::{IndexTexts, append, name};
use crate::message::sys_flag::SysFlag;
use crate::message::tags::tags_code;
use crate::types::{GroupName, PhysicalOffset, QueueOffset, TopicName};

/// RocketMQ's tag and body of such a message.
const TAG: &str = "_RECALL_TAG_";
const BODY: &[u8] = b"0";
/// Messages of one id that are looked at.
const FOUND_MAX: usize = 64;
const NOT_THERE: &str = "no message of this id waits for its time in the topic";

/// What is to be taken back, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recall<'a> {
    /// The topic that the message is for.
    pub(crate) topic: &'a TopicName,
    /// Its unique id.
    pub(crate) id: &'a str,
    /// The producer group that takes it back.
    pub(crate) group: &'a GroupName,
}

impl Timers {
    /// Takes a message back. `None` where that was done before. The caller waits for the flush.
    ///
    /// # Errors
    ///
    /// `TooLate` where no such message waits; those of a put.
    pub(crate) fn recall(&self, recall: &Recall<'_>) -> Result<Option<Stored>> {
        let mut guard = self.state.lock();
        if guard.is_none() && self.queue_end() > QueueOffset::ZERO {
            *guard = Some(self.recover(&mut Vec::new())?);
        }
        let Some(state) = guard.as_mut() else { return too_late(recall, NOT_THERE) };
        let Some(due_millis) = self.due_of(recall)? else { return Ok(None) };
        let topic = self.broker.topic(recall.topic.as_str());
        let topic = topic.ok_or_else(|| Error::TopicNotFound(recall.topic.as_str().into()))?;
        let now = self.clock.clock().wall_millis();
        let mut properties = Vec::with_capacity(256);
        append(&mut properties, name::UNIQ_KEY, recall.id);
        append(&mut properties, name::TAGS, TAG);
        append(&mut properties, name::TIMER_DEL_UNIQKEY, recall.id);
        append(&mut properties, name::BORN_TIMESTAMP, &now.to_string());
        append(&mut properties, name::PRODUCER_GROUP, recall.group.as_str());
        let put = PutMessage {
            flag: 0,
            sys_flag: SysFlag::NONE,
            now_millis: None,
            born_millis: now,
            born_host: self.broker.host(),
            reconsume_times: 0,
            prepared_transaction_offset: PhysicalOffset::ZERO,
            body: BODY,
            properties: &properties,
            index_texts: IndexTexts { unique: Some(recall.id.as_bytes()), keys: "" },
            tags_code: tags_code(Some(TAG)),
        };
        // The start of its second: RocketMQ's handle says no more.
        let due_millis = wheel_second(due_millis).saturating_mul(1_000).saturating_add(1);
        state.recalled.insert(recall.id.into());
        let stored = self.broker.put_timed(&topic, 0, &put, Timed { due_millis, wait: WaitForFlush::Later });
        if stored.is_err() {
            state.recalled.remove(recall.id);
        }
        stored.map(Some)
    }

    /// Returns when the message is due, `None` where it was taken back before. Nothing that is due later than now is
    /// delivered while this thread holds the state.
    fn due_of(&self, recall: &Recall<'_>) -> Result<Option<i64>> {
        let found = self.broker.query_by_key(&self.topic, recall.id, i64::MIN..=i64::MAX, FOUND_MAX)?;
        let mut due = None;
        for message in &found {
            let Some(entry) = Entry::of(message) else { continue };
            if entry.cancels && cancelled_id(message) == Some(recall.id) {
                return Ok(None);
            }
            let is_it = message.property(name::UNIQ_KEY) == Some(recall.id)
                && message.property(name::REAL_TOPIC) == Some(recall.topic.as_str());
            due = due.or_else(|| is_it.then_some(entry.due_millis));
        }
        match due {
            None => too_late(recall, NOT_THERE),
            Some(due) if due <= self.clock.now_millis() => too_late(recall, "it is due already"),
            due => Ok(due),
        }
    }
}

fn too_late<T>(recall: &Recall<'_>, reason: &str) -> Result<T> {
    Err(Error::TooLate(format!("{}: {reason}", recall.id).into()))
}
