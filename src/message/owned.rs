//! What is left of a message when its file is let go, and what can be asked of any message that was read?

use std::fmt;

use super::record::{Layout, Record};

/// Gives a type that can lend its record (`fn record(&self) -> Record<'_>`) what everybody may ask of a message.
macro_rules! message_accessors {
    ($message:ty) => {
        impl $message {
            /// Returns the topic. A message that a consumer hands out once more is in its group's retry topic, and says
            /// the topic to which it was sent.
            #[must_use]
            pub fn topic(&self) -> &str {
                if self.as_sent { self.original_topic() } else { self.record().topic() }
            }

            /// Returns the number of the queue within the topic.
            #[must_use]
            pub fn queue_id(&self) -> u32 {
                self.record().queue_id()
            }

            /// Returns the place in the queue.
            #[must_use]
            pub fn queue_offset(&self) -> $crate::types::QueueOffset {
                self.record().queue_offset()
            }

            /// Returns the byte of the commit log at which the message lies.
            #[must_use]
            #[doc(alias = "commitLogOffset")]
            pub fn physical_offset(&self) -> $crate::types::PhysicalOffset {
                self.record().physical_offset()
            }

            /// Returns the unique id that the producer gave the message, or the offset id if it gave none.
            #[must_use]
            #[doc(alias = "msgId")]
            pub fn message_id(&self) -> $crate::message::MessageId {
                self.record().message_id()
            }

            /// Returns the id that says where the message lies.
            #[must_use]
            #[doc(alias = "offsetMsgId")]
            pub fn offset_id(&self) -> $crate::message::MessageId {
                self.record().offset_id()
            }

            /// Returns the tag; the empty text where there is none.
            #[must_use]
            pub fn tag(&self) -> &str {
                self.record().tag().unwrap_or_default()
            }

            /// Walks through the keys.
            pub fn keys(&self) -> impl Iterator<Item = &str> {
                self.record().keys()
            }

            /// Returns the order key, if the sender gave one.
            #[must_use]
            #[doc(alias = "shardingKey")]
            pub fn order_key(&self) -> Option<&str> {
                self.property($crate::message::properties::name::SHARDING_KEY)
            }

            /// Returns the value of a property, the user's or RocketMQ's.
            #[must_use]
            #[doc(alias = "getUserProperty")]
            pub fn property(&self, name: &str) -> Option<&str> {
                self.record().properties().get(name)
            }

            /// Returns all properties, RocketMQ's own among them.
            #[must_use]
            pub fn properties(&self) -> $crate::message::Properties<'_> {
                self.record().properties()
            }

            /// Returns the body as its sender had it: the stored bytes, inflated if the sender compressed them.
            ///
            /// # Errors
            ///
            /// `Unsupported` where this build lacks the feature that inflates (`zlib`, `lz4` or `zstd`), or the bytes
            /// cannot be inflated; `MessageTooLarge` beyond 1 GiB. [`raw_body`](Self::raw_body) always works.
            pub fn body(&self) -> $crate::error::Result<std::borrow::Cow<'_, [u8]>> {
                let record = self.record();
                let compression = record.sys_flag().compression();
                $crate::message::inflate::inflate(compression, record.body(), 1 << 30)
            }

            /// Returns the body as text.
            ///
            /// # Errors
            ///
            /// Those of [`body`](Self::body), and `InvalidArgument` where the body is not UTF-8.
            pub fn body_str(&self) -> $crate::error::Result<std::borrow::Cow<'_, str>> {
                let wrong = |_| $crate::error::Error::argument("body", "is not UTF-8: read it with body()");
                Ok(match self.body()? {
                    std::borrow::Cow::Borrowed(body) => std::str::from_utf8(body).map_err(wrong)?.into(),
                    std::borrow::Cow::Owned(body) => {
                        String::from_utf8(body).map_err(|error| wrong(error.utf8_error()))?.into()
                    }
                })
            }

            /// Makes the reply to a message that [`Producer::request`](crate::Producer::request) has sent; send it with any
            /// producer of the store (RocketMQ's `MessageUtil.createReplyMessage`).
            ///
            /// # Errors
            ///
            /// `InvalidArgument` where the message is no request.
            #[doc(alias = "createReplyMessage")]
            #[doc(alias = "MessageUtil")]
            pub fn reply(&self, body: impl Into<Vec<u8>>) -> $crate::error::Result<$crate::message::Message> {
                $crate::message::exchange::reply_to(self.record().properties(), body.into())
            }

            /// Returns the value that the body stands for, as the codec reads it.
            ///
            /// # Errors
            ///
            /// Those of [`body`](Self::body), and `InvalidArgument` with what the codec says.
            pub fn decoded<T>(&self, codec: &impl $crate::message::Codec<T>) -> $crate::error::Result<T> {
                $crate::message::codec::decoded(&self.body()?, codec)
            }

            /// Returns the value that the body stands for as JSON (feature `serde`).
            ///
            /// # Errors
            ///
            /// Those of [`body`](Self::body), and `InvalidArgument` where the body is no JSON of this type.
            #[cfg(feature = "serde")]
            pub fn json<T: serde::de::DeserializeOwned>(&self) -> $crate::error::Result<T> {
                $crate::message::codec::from_json(&self.body()?)
            }

            /// Returns the body as it is stored: still compressed, if its sender compressed it.
            #[must_use]
            pub fn raw_body(&self) -> &[u8] {
                self.record().body()
            }

            /// Tells whether the sender compressed the body.
            #[must_use]
            pub fn is_compressed(&self) -> bool {
                self.record().sys_flag().compression().is_some()
            }

            /// Returns the number that the user gave the message.
            #[must_use]
            pub fn flag(&self) -> i32 {
                self.record().flag()
            }

            /// Returns RocketMQ's system flag: compression, transaction and address bits.
            #[must_use]
            pub fn sys_flag(&self) -> u32 {
                self.record().sys_flag().bits()
            }

            /// Returns when the message was made, in milliseconds since 1970, as its producer's clock had it.
            #[must_use]
            #[doc(alias = "bornTimestamp")]
            pub fn born_millis(&self) -> i64 {
                self.record().born_millis()
            }

            /// Returns when the message was stored, in milliseconds since 1970.
            #[must_use]
            #[doc(alias = "storeTimestamp")]
            pub fn store_millis(&self) -> i64 {
                self.record().store_millis()
            }

            /// Returns when the message was made, as its producer's clock had it.
            #[must_use]
            pub fn born_time(&self) -> std::time::SystemTime {
                $crate::message::owned::system_time(self.born_millis())
            }

            /// Returns when the message was stored.
            #[must_use]
            pub fn store_time(&self) -> std::time::SystemTime {
                $crate::message::owned::system_time(self.store_millis())
            }

            /// Returns when the message expires, if it does: the time at which it was made and
            /// [`Message::expires_in`](crate::Message::expires_in).
            #[must_use]
            pub fn expires_at(&self) -> Option<std::time::SystemTime> {
                self.expires_at_millis().map($crate::message::owned::system_time)
            }

            /// The same in milliseconds since 1970.
            pub(crate) fn expires_at_millis(&self) -> Option<i64> {
                let after: i64 =
                    self.property($crate::message::properties::name::EXPIRES_IN)?.parse().ok()?;
                Some(self.born_millis().saturating_add(after))
            }

            /// Returns the address of the producer.
            #[must_use]
            pub fn born_host(&self) -> std::net::SocketAddr {
                self.record().born_host()
            }

            /// Returns the address of the broker that stored the message.
            #[must_use]
            pub fn store_host(&self) -> std::net::SocketAddr {
                self.record().store_host()
            }

            /// Returns how often the message has been consumed in vain.
            #[must_use]
            pub fn reconsume_times(&self) -> u32 {
                self.record().reconsume_times()
            }

            /// Returns why the last attempt to consume the message failed: of a message in a retry or dead-letter
            /// topic, where the consumer said why.
            #[must_use]
            pub fn failure_reason(&self) -> Option<&str> {
                self.property($crate::message::properties::name::FAILURE)
            }

            /// Returns the topic to which the message was sent: of a message in a retry or dead-letter topic, and of a
            /// half message, another one than [`topic`](Self::topic).
            #[must_use]
            pub fn original_topic(&self) -> &str {
                let topic = self.record().topic();
                let named = match topic {
                    $crate::types::HALF_TOPIC | $crate::types::GIVEN_UP_TOPIC => {
                        $crate::message::properties::name::REAL_TOPIC
                    }
                    _ => $crate::message::properties::name::RETRY_TOPIC,
                };
                self.property(named).unwrap_or(topic)
            }

            /// Returns where the half message of a committed transaction lies; 0 for every other message.
            #[must_use]
            pub fn prepared_transaction_offset(&self) -> $crate::types::PhysicalOffset {
                self.record().prepared_transaction_offset()
            }

            /// Returns the bytes that the message takes in the commit log.
            #[must_use]
            pub fn stored_size(&self) -> u32 {
                self.record().size()
            }
        }

        impl std::fmt::Debug for $message {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::message::owned::fmt_message(stringify!($message), self.record(), formatter)
            }
        }
    };
}

pub(crate) use message_accessors;

/// A message that was read, with memory of its own: it keeps no file mapped.
#[doc(alias = "MessageExt")]
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedMessage {
    bytes: Box<[u8]>,
    layout: Layout,
    /// Whether it says the topic to which it was sent, and not the one in which it is.
    as_sent: bool,
}

message_accessors!(OwnedMessage);

impl OwnedMessage {
    /// Copies a record.
    pub(crate) fn new(record: Record<'_>) -> Self {
        Self { bytes: record.bytes().into(), layout: record.layout(), as_sent: false }
    }

    /// Has the message say the topic to which it was sent, if a copy of it was read.
    pub(crate) const fn showing(mut self, as_sent: bool) -> Self {
        self.as_sent = as_sent;
        self
    }

    pub(crate) fn record(&self) -> Record<'_> {
        Record::whole(&self.bytes, self.layout)
    }
}

/// Returns the moment so many milliseconds from 1970; 1970 itself where the system cannot say it.
pub(crate) fn system_time(millis: i64) -> std::time::SystemTime {
    let distance = std::time::Duration::from_millis(millis.unsigned_abs());
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let time = if millis < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.unwrap_or(epoch)
}

/// Shows where a message lies and what it is called: never its body, which may be secret.
pub(crate) fn fmt_message(
    type_name: &str,
    record: Record<'_>,
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    formatter
        .debug_struct(type_name)
        .field("topic", &record.topic())
        .field("queue_id", &record.queue_id())
        .field("queue_offset", &record.queue_offset().get())
        .field("message_id", &record.message_id())
        .field("body_len", &record.body().len())
        .finish_non_exhaustive()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::draft::{Coverage, Draft, DraftFields};
    use crate::message::sys_flag::SysFlag;
    use crate::types::{PhysicalOffset, QueueOffset};

    fn owned(body: &[u8], sys_flag: u32) -> OwnedMessage {
        let fields = DraftFields {
            topic: "orders",
            queue_id: 1,
            flag: 3,
            sys_flag: SysFlag::new(sys_flag),
            born_millis: -1,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:10911".parse().unwrap(),
            reconsume_times: 2,
            prepared_transaction_offset: PhysicalOffset::ZERO,
            body,
            properties: b"KEYS\x01a b\x02TAGS\x01t\x02n\x01v\x02__SHARDINGKEY\x01o\x02",
        };
        let mut buffer = Vec::new();
        let draft = Draft::new(&fields, Coverage::WholeRecord, &mut buffer).unwrap();
        draft.seal(&mut buffer, QueueOffset::new(9), PhysicalOffset::new(124), 1_000);
        OwnedMessage::new(Record::parse(&buffer).unwrap())
    }

    #[test]
    fn an_owned_message_says_what_its_record_said() {
        let message = owned(b"hello", 0);
        assert_eq!((message.topic(), message.queue_id(), message.queue_offset().get()), ("orders", 1, 9));
        assert_eq!(message.message_id().to_string(), "7F00000100002A9F000000000000007C");
        assert_eq!(message.message_id(), message.offset_id());
        assert_eq!((message.tag(), message.property("n"), message.order_key()), ("t", Some("v"), Some("o")));
        assert_eq!(message.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((&*message.body().unwrap(), &*message.body_str().unwrap()), (&b"hello"[..], "hello"));
        assert_eq!((message.flag(), message.sys_flag(), message.reconsume_times()), (3, 0, 2));
        assert_eq!(
            message.store_time(),
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1)
        );
        assert!(message.born_time() < std::time::SystemTime::UNIX_EPOCH);
        assert_eq!(message, message.clone());
    }

    #[test]
    fn a_body_never_stands_in_debug_output() {
        let shown = format!("{:?}", owned(b"secret", 0));
        assert!(
            shown.starts_with("OwnedMessage { topic: \"orders\"") && !shown.contains("secret"),
            "{shown}"
        );
    }

    #[test]
    fn a_body_that_is_no_text_or_no_stream_is_an_error_and_still_readable() {
        let message = owned(b"\xFF", 0);
        assert!(message.body_str().is_err() && message.body().is_ok());
        let message = owned(b"no stream", 0x301);
        assert!(message.is_compressed() && message.body().is_err());
        assert_eq!(message.raw_body(), b"no stream");
    }

    #[test]
    fn c9_any_time_is_a_time() {
        for millis in [i64::MIN, -1, 0, i64::MAX] {
            let _ = system_time(millis);
        }
    }
}
