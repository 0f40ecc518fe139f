//! What does one need to take a message back that waits for its time?
//!
//! RocketMQ's handle: `v1`, the topic, the broker, a time in the message's second and its unique id, separated by blanks, as
//! Base64 with the alphabet for addresses.

use std::fmt;
use std::str::FromStr;

use super::MessageId;
use crate::error::{Error, Result};
use crate::types::{BrokerName, TopicName, to_usize};

const VERSION: &str = "v1";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// No handle is longer: a topic, a broker, two numbers and an id.
const LEN_MAX: usize = 1_024;

/// Says which message is to be taken back (RocketMQ's recall handle). Its text can be kept and read again: it is the one that
/// RocketMQ's broker writes for the same message.
///
/// ```
/// # fn main() -> pocketmq::Result<()> {
/// use pocketmq::testing::TestStore;
/// use pocketmq::{Message, RecallHandle};
/// use std::time::Duration;
///
/// let store = TestStore::new();
/// let producer = store.producer("shop")?;
/// let receipt = producer.send(Message::new("orders", "remind").delay(Duration::from_secs(60)))?;
/// let kept = receipt.recall_handle().unwrap().to_string();
/// assert_eq!(producer.recall(kept.parse::<RecallHandle>()?)?, receipt.message_id());
/// store.advance(Duration::from_secs(60))?;
/// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
/// assert!(consumer.try_recv()?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[doc(alias = "RecallMessageHandle")]
#[doc(alias = "recallHandle")]
pub struct RecallHandle {
    topic: TopicName,
    broker: BrokerName,
    millis: i64,
    id: MessageId,
}

impl RecallHandle {
    /// Makes the handle of a message that is due in this second.
    pub(crate) const fn new(topic: TopicName, broker: BrokerName, second: i64, id: MessageId) -> Self {
        // RocketMQ rounds a time down to the second before it: so it stays the same second.
        Self { topic, broker, millis: second.saturating_mul(1_000).saturating_add(1), id }
    }

    /// Returns the topic that the message is for.
    #[must_use]
    pub const fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Returns the broker that has the message.
    #[must_use]
    pub const fn broker(&self) -> &BrokerName {
        &self.broker
    }

    /// Returns the unique id of the message.
    #[must_use]
    pub const fn message_id(&self) -> MessageId {
        self.id
    }
}

impl fmt::Display for RecallHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, broker, millis, id } = self;
        formatter.pad(&encode(format!("{VERSION} {topic} {broker} {millis} {id}").as_bytes()))
    }
}

impl FromStr for RecallHandle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::argument("recall_handle", format!("{text:?} {what}"));
        if text.len() > LEN_MAX {
            return Err(Error::argument("recall_handle", "is longer than any handle"));
        }
        let plain = decode(text.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
        let plain = plain.ok_or_else(|| wrong("is not Base64"))?;
        let fields: Vec<&str> = plain.split(' ').collect();
        let [VERSION, topic, broker, millis, id, ..] = fields[..] else {
            return Err(wrong("does not name a topic, a broker, a time and a message"));
        };
        let millis = millis.parse().map_err(|_| wrong("holds no time"))?;
        let (topic, broker, id) = (TopicName::new(topic)?, BrokerName::new(broker)?, id.parse()?);
        Ok(Self { topic, broker, millis, id })
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for part in bytes.chunks(3) {
        let mut three = [0; 4];
        for (place, byte) in three.iter_mut().skip(1).zip(part) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes(three);
        for (n, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit =
                if n <= part.len() { ALPHABET.get(to_usize(u64::from(bits >> shift & 63))) } else { None };
            text.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|letter| *letter != b'=').map_or(0, |last| last.saturating_add(1));
    let mut bytes = Vec::with_capacity(text.len());
    for part in text.get(..end)?.chunks(4) {
        let mut bits = 0_u32;
        for n in 0..4 {
            let value = match part.get(n) {
                Some(letter) => ALPHABET.iter().position(|known| known == letter)?,
                None => 0,
            };
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        let [_, three @ ..] = bits.to_be_bytes();
        bytes.extend(three.get(..part.len().checked_sub(1).filter(|count| *count > 0)?)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "FD00000000000000000000000000000269725FFD2B2774A7E8750649";

    fn handle() -> RecallHandle {
        let (topic, broker) = (TopicName::new("later").unwrap(), BrokerName::new("broker-a").unwrap());
        RecallHandle::new(topic, broker, 1_795_455_561, ID.parse().unwrap())
    }

    #[test]
    fn e6_a_handle_is_the_text_that_rocketmq_writes() {
        // "v1 later broker-a 1795455561001 FD00…", as java.util.Base64.getUrlEncoder has it.
        let text = "djEgbGF0ZXIgYnJva2VyLWEgMTc5NTQ1NTU2MTAwMSBGRDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMjY5NzI1RkZEMkIyNzc0QTdFODc1MDY0OQ==";
        assert_eq!(handle().to_string(), text);
        assert_eq!(text.parse::<RecallHandle>().unwrap(), handle());
        assert_eq!(text.trim_end_matches('=').parse::<RecallHandle>().unwrap(), handle());
        assert_eq!((handle().topic().as_str(), handle().broker().as_str()), ("later", "broker-a"));
    }

    #[test]
    fn a28_a_text_that_is_no_handle_is_refused_and_says_why() {
        let broken = ["", "=", "djE", "djEgbGF0ZXI=", "no handle!", "A", "djEgYSBiIGMgZA=="];
        for text in broken {
            let error = text.parse::<RecallHandle>().unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { .. }), "{text}: {error}");
        }
        assert!("A".repeat(2_000).parse::<RecallHandle>().is_err());
        for len in 0..10 {
            let bytes: Vec<u8> = (250..=255).chain(0..10).take(len).collect();
            assert_eq!(decode(encode(&bytes).as_bytes()).unwrap(), bytes);
        }
    }
}
