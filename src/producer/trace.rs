//! How is it written down where a message went, in RocketMQ's own form?
//!
//! A producer that traces sends one more message for each that was stored, to `RMQ_SYS_TRACE_TOPIC`, one way and with the
//! id and the keys of the traced one as its keys. The body is a row of records that end with U+0002, each a row of fields that
//! U+0001 separates:
//!
//! | field | meaning | field | meaning |
//! |---|---|---|---|
//! | 0 | `Pub` | 7 | keys, separated by blanks |
//! | 1 | when it was sent, milliseconds since 1970 | 8 | address of the broker |
//! | 2 | region: `DefaultRegion` | 9 | bytes of the body |
//! | 3 | producer group | 10 | how long it took, milliseconds |
//! | 4 | topic | 11 | kind: 0 normal, 1 half, 2 committed, 3 delayed |
//! | 5 | unique id | 12 | offset id |
//! | 6 | tag | 13 | `true` where the status was `SEND_OK` |

use std::cell::Cell;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::{Producer, SendContext, SendMessageHook, SendReceipt, SendStatus};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::message::{Message, MessageId};
use crate::types::TopicName;

/// The topic of the traces.
pub(crate) const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
const REGION: &str = "DefaultRegion";
const FIELD_END: char = '\u{1}';
const RECORD_END: char = '\u{2}';
/// Bytes of keys from which on a trace of a batch goes on in another message.
const KEYS_LEN_MAX: usize = 16_000;

/// Whether a producer writes down where its messages went (RocketMQ's `enableMsgTrace`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MessageTrace {
    /// It does not. The default, as in RocketMQ.
    #[default]
    Off,
    /// It sends a trace for each message that was stored: one more message, and two looks at the clock. A trace that
    /// cannot be sent is dropped.
    On,
}

thread_local! {
    /// When the send began that this thread is in.
    static STARTED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The hook that sends the traces of a producer.
pub(super) struct TraceHook {
    /// A member of the same group, without hooks.
    producer: Producer,
}

impl TraceHook {
    pub(super) const fn new(producer: Producer) -> Self {
        Self { producer }
    }

    fn cluster(&self) -> &Arc<Cluster> {
        &self.producer.member.cluster
    }

    fn record(&self, context: &SendContext<'_>, receipt: &SendReceipt, traced: &Traced<'_>) -> String {
        let Traced { message, id, offset_id } = traced;
        let clock = self.cluster().clock();
        let took = clock.monotonic().saturating_sub(STARTED.get()).as_millis();
        let host = self.cluster().broker(context.queue.broker());
        let host = host.map_or_else(String::new, |broker| broker.host().to_string());
        let kind = if message.is_delayed() { "3" } else { "0" };
        let sent = clock.wall_millis().saturating_sub(i64::try_from(took).unwrap_or(0));
        let fields = [
            "Pub",
            &sent.to_string(),
            REGION,
            context.group.as_str(),
            context.queue.topic().as_str(),
            &id.to_string(),
            message.tag_text().unwrap_or_default(),
            message.joined_keys(),
            &host,
            &message.body().len().to_string(),
            &took.to_string(),
            kind,
            &offset_id.to_string(),
            if receipt.status() == SendStatus::SendOk { "true" } else { "false" },
        ];
        let mut record = fields.join("\u{1}");
        record.push(RECORD_END);
        record
    }
}

/// One message whose trace is written.
struct Traced<'a> {
    message: &'a Message,
    id: MessageId,
    offset_id: MessageId,
}

impl SendMessageHook for TraceHook {
    fn name(&self) -> &str {
        "message-trace"
    }

    fn before(&self, _: &SendContext<'_>) {
        STARTED.set(self.cluster().clock().monotonic());
    }

    fn after(&self, context: &SendContext<'_>, result: Result<&SendReceipt, &Error>) {
        let Ok(receipt) = result else { return };
        if context.queue.topic().as_str() == TRACE_TOPIC {
            return;
        }
        let own = [(receipt.message_id(), receipt.offset_id())];
        let ids = if receipt.batch().is_empty() { &own[..] } else { receipt.batch() };
        let (mut keys, mut body) = (String::new(), String::new());
        for (message, (id, offset_id)) in context.messages.iter().copied().zip(ids.iter().copied()) {
            if keys.len() > KEYS_LEN_MAX {
                self.send(std::mem::take(&mut keys), std::mem::take(&mut body));
            }
            // Writing to a text cannot fail.
            let _ = write!(keys, "{id} {} ", message.joined_keys());
            body.push_str(&self.record(context, receipt, &Traced { message, id, offset_id }));
        }
        self.send(keys, body);
    }
}

impl TraceHook {
    fn send(&self, keys: String, body: String) {
        // A trace that is lost costs a look into the store; the message itself is there.
        let _ = self.producer.send_oneway(Message::new(TRACE_TOPIC, body).key(keys.trim_end()));
    }
}

/// Where a message went, as its producer wrote it down: what [`Store::message_trace`](crate::Store::message_trace) finds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "TraceBean")]
#[doc(alias = "TraceContext")]
#[non_exhaustive]
pub struct TraceRecord {
    /// When it was sent, in milliseconds since 1970.
    pub sent_millis: i64,
    /// The producer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The unique id.
    pub message_id: String,
    /// The tag; the empty text where there is none.
    pub tag: String,
    /// The keys, separated by blanks.
    pub keys: String,
    /// The address of the broker that stored it.
    pub store_host: String,
    /// Bytes of the body.
    pub body_len: u64,
    /// How long the send took.
    pub took: Duration,
    /// The id that says where it lies; the empty text in traces of clients before RocketMQ 4.5.
    pub offset_id: String,
    /// Whether the status was `SendOk`.
    pub success: bool,
}

impl TraceRecord {
    /// Reads the records of the body of a trace message, those of sends: a client of RocketMQ's may have written it. What is
    /// none is passed over.
    #[must_use]
    pub fn read(body: &str) -> Vec<Self> {
        body.split(RECORD_END).filter_map(Self::of).collect()
    }

    fn of(record: &str) -> Option<Self> {
        let fields: Vec<&str> = record.split(FIELD_END).collect();
        let ["Pub", sent, _, group, topic, id, tag, keys, host, len, took, _, rest @ ..] = &fields[..] else {
            return None;
        };
        let (offset_id, success) = match rest {
            [success] => ("", *success),
            [offset_id, success, ..] => (*offset_id, *success),
            [] => return None,
        };
        Some(Self {
            sent_millis: sent.parse().ok()?,
            group: (*group).to_owned(),
            topic: (*topic).to_owned(),
            message_id: (*id).to_owned(),
            tag: (*tag).to_owned(),
            keys: (*keys).to_owned(),
            store_host: (*host).to_owned(),
            body_len: len.parse().ok()?,
            took: Duration::from_millis(took.parse().ok()?),
            offset_id: offset_id.to_owned(),
            success: success == "true",
        })
    }
}

/// Makes the topic of the traces where it is missing: an operator who forbids automatic topics still wants his traces.
pub(super) fn make_topic(cluster: &Cluster) -> Result<()> {
    cluster.make_own_topic(&TopicName::new(TRACE_TOPIC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_records_of_every_client_are_read_and_what_is_none_is_passed_over() {
        let id = "7F00000100002A9F000000000000007C";
        let new = format!(
            "Pub\u{1}17\u{1}r\u{1}g\u{1}t\u{1}{id}\u{1}tag\u{1}k1 k2\u{1}h:1\u{1}5\u{1}3\u{1}0\u{1}OFF\u{1}true\u{1}client\u{2}"
        );
        let old = "Pub\u{1}17\u{1}r\u{1}g\u{1}t\u{1}ID\u{1}\u{1}\u{1}h:1\u{1}5\u{1}3\u{1}0\u{1}false\u{2}";
        let others = "SubBefore\u{1}17\u{1}r\u{1}g\u{1}req\u{1}ID\u{1}0\u{1}k\u{2}Pub\u{1}x\u{2}\u{2}garbage";
        let read = TraceRecord::read(&format!("{new}{old}{others}"));
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].message_id.as_str(), read[0].offset_id.as_str()), (id, "OFF"));
        assert_eq!((read[0].keys.as_str(), read[0].body_len, read[0].success), ("k1 k2", 5, true));
        assert_eq!((read[0].took, read[0].sent_millis), (Duration::from_millis(3), 17));
        assert_eq!(
            (read[1].message_id.as_str(), read[1].offset_id.as_str(), read[1].success),
            ("ID", "", false)
        );
        assert!(TraceRecord::read("").is_empty());
    }
}
