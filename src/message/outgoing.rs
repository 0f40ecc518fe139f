//! What does a user say about a message before it is sent?

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::exchange::Exchange;
use super::ids::MessageId;
use super::properties::{self, IndexTexts, VALUE_END, name, split_keys};
use crate::types::millis_of;

/// How the properties of every record of ours start.
const UNIQUE_START: &[u8] = b"UNIQ_KEY\x01";

/// A message to be sent: a topic, a body, and what finds it again.
///
/// Setters take any value; sending the message checks all of it and says what to mend.
///
/// ```
/// use pocketmq::Message;
///
/// let message = Message::new("orders", "hello").tag("created").key("order-42").property("currency", "EUR");
/// assert_eq!(message.topic(), "orders");
/// assert_eq!(message.body(), b"hello");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a message is sent by a producer"]
pub struct Message {
    topic: Cow<'static, str>,
    body: Vec<u8>,
    tag: Cow<'static, str>,
    /// As the property `KEYS` holds them: separated by blanks.
    keys: String,
    order_key: Cow<'static, str>,
    flag: i32,
    wait: bool,
    delay_level: i32,
    when: When,
    expires_in: Option<Duration>,
    /// Of a request or a reply.
    exchange: Option<Box<Exchange>>,
    properties: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

/// When a message is to be delivered that has no delay level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// At once.
    Now,
    /// So long after it is sent.
    After(Duration),
    /// At this time, in milliseconds since 1970.
    At(i64),
}

impl Message {
    /// Makes a message of a topic and a body.
    ///
    /// The body must have 1 byte to the store's limit (4 MiB by default).
    pub fn new(topic: impl Into<Cow<'static, str>>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            tag: Cow::Borrowed(""),
            keys: String::new(),
            order_key: Cow::Borrowed(""),
            flag: 0,
            wait: true,
            delay_level: 0,
            when: When::Now,
            expires_in: None,
            exchange: None,
            properties: Vec::new(),
        }
    }

    /// Sets the tag, by which consumers choose messages within a topic. Default: none, which only the filter `*`
    /// takes. An empty one is none.
    #[doc(alias = "setTags")]
    pub fn tag(mut self, tag: impl Into<Cow<'static, str>>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Adds a key, under which the message can be looked up. Default: none. RocketMQ separates keys by blanks, so a
    /// text with blanks is several keys.
    #[doc(alias = "setKeys")]
    pub fn key(mut self, key: impl AsRef<str>) -> Self {
        if !self.keys.is_empty() {
            self.keys.push(' ');
        }
        self.keys.push_str(key.as_ref());
        self
    }

    /// Adds several keys, as [`key`](Self::key) does each of them.
    pub fn keys<K: AsRef<str>>(self, keys: impl IntoIterator<Item = K>) -> Self {
        keys.into_iter().fold(self, Self::key)
    }

    /// Sets a property of the user's, in place of one that has the name already. At most 128, and with everything else
    /// at most 32,767 bytes; RocketMQ's own names are refused when the message is sent.
    #[doc(alias = "putUserProperty")]
    pub fn property(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.properties.iter_mut().find(|(other, _)| *other == name) {
            Some((_, place)) => *place = value,
            None => self.properties.push((name, value)),
        }
        self
    }

    /// Sets a number that means what the application wants it to. Default: 0.
    #[doc(alias = "setFlag")]
    pub fn flag(mut self, flag: i32) -> Self {
        self.flag = flag;
        self
    }

    /// Sets what the message belongs to: messages with equal order keys go to one queue, and so are consumed in the
    /// order in which they were sent. Default: none, any queue will do. An empty one is none.
    #[doc(alias = "shardingKey")]
    #[doc(alias = "messageGroup")]
    pub fn order_key(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.order_key = key.into();
        self
    }

    /// Lets the message be delivered later: level 1 is 1 s, 2 is 5 s, then 10 s, 30 s, 1 to 10 min by the minute (5 to
    /// 14), 20 min, 30 min, 1 h and, level 18, 2 h, unless the store has other levels. A number above the last level
    /// means the last. Default: 0, at once.
    ///
    /// Until then the message lies in `SCHEDULE_TOPIC_XXXX`, as in RocketMQ, and the offsets of its receipt are those
    /// that it has there.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::Message;
    /// use pocketmq::testing::TestStore;
    /// use std::time::Duration;
    ///
    /// let store = TestStore::new();
    /// store.producer("shop")?.send(Message::new("orders", "remind").delay_level(3))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// store.advance(Duration::from_millis(9_999))?;
    /// assert!(consumer.try_recv()?.is_none());
    /// store.advance(Duration::from_millis(1))?;
    /// assert_eq!(consumer.recv()?.body_str()?, "remind");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "setDelayTimeLevel")]
    pub fn delay_level(mut self, level: i32) -> Self {
        self.delay_level = level;
        self
    }

    /// Lets the message be delivered so long after it is sent, to the millisecond (RocketMQ 5's `setDelayTimeMs` and
    /// `setDelayTimeSec`). Default: zero, at once. At most the store's
    /// [`timer_delay_max`](crate::StoreBuilder::timer_delay_max), 100 years.
    ///
    /// Until then the message lies in `rmq_sys_wheel_timer`, as in RocketMQ, the offsets of its receipt are those that it
    /// has there, and [`Producer::recall`](crate::Producer::recall) takes it back. It comes through restarts and crashes,
    /// never early, after a crash perhaps twice. Setting the clock of the machine while the store is open changes nothing;
    /// see [`deliver_at`](Self::deliver_at). Not together with a delay level.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::Message;
    /// use pocketmq::testing::TestStore;
    /// use std::time::Duration;
    ///
    /// let store = TestStore::new();
    /// store.producer("shop")?.send(Message::new("orders", "remind").delay(Duration::from_millis(1_234)))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// store.advance(Duration::from_millis(1_233))?;
    /// assert!(consumer.try_recv()?.is_none());
    /// store.advance(Duration::from_millis(1))?;
    /// assert_eq!(consumer.recv()?.body_str()?, "remind");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "setDelayTimeMs")]
    #[doc(alias = "setDelayTimeSec")]
    pub const fn delay(mut self, time: Duration) -> Self {
        self.when = if time.is_zero() { When::Now } else { When::After(time) };
        self
    }

    /// Lets the message be delivered at a time of day, to the millisecond (RocketMQ 5's `setDeliverTimeMs`); at once where
    /// that has passed. Otherwise as [`delay`](Self::delay), in place of which it is set.
    ///
    /// What time it is is read when the store is opened and counted from there: a clock that is set while the store is
    /// open makes a message neither early nor late, but one that is set while it is closed does.
    #[doc(alias = "setDeliverTimeMs")]
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        self.when = When::At(millis_of(time));
        self
    }

    /// Lets the message be worth nothing any more so long after it is sent: at least 1 ms. Default: it never expires.
    ///
    /// A consumer does not hand it out then; a copy goes to its group's dead letters, with the reason *expired*, and the
    /// group's position passes it. Who pulls sees it all the same, and sees [`expires_at`](crate::MessageView::expires_at).
    /// Time that it waits in a delay level or for another attempt counts; time runs by the clock of the store. RocketMQ
    /// has no such thing, and hands it out.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::testing::TestStore;
    /// use pocketmq::{Message, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let store = TestStore::new();
    /// store.create_topic("codes", TopicConfig::queues(1))?;
    /// store.producer("shop")?.send(Message::new("codes", "4711").expires_in(Duration::from_secs(60)))?;
    /// store.producer("shop")?.send(Message::new("codes", "0815"))?;
    /// store.advance(Duration::from_secs(60))?;
    /// let consumer = store.consumer("login").subscribe("codes", "*").build()?;
    /// assert_eq!(consumer.recv()?.body_str()?, "0815");
    /// assert_eq!(store.dead_letters("login")?.list(10)?[0].failure_reason(), Some("expired"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    /// Lets the send return without waiting for the flush, even where the store flushes synchronously.
    #[doc(alias = "setWaitStoreMsgOK")]
    pub fn no_wait(mut self) -> Self {
        self.wait = false;
        self
    }

    /// Returns the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the tag, if there is one.
    #[must_use]
    pub fn tag_text(&self) -> Option<&str> {
        if self.tag.is_empty() { None } else { Some(&self.tag) }
    }

    /// Walks through the keys, as RocketMQ will split them.
    pub fn key_texts(&self) -> impl Iterator<Item = &str> {
        split_keys(&self.keys)
    }

    /// Returns the order key, if there is one.
    #[must_use]
    pub fn order_key_text(&self) -> Option<&str> {
        if self.order_key.is_empty() { None } else { Some(&self.order_key) }
    }

    /// Returns the value of a property of the user's.
    #[must_use]
    pub fn property_text(&self, name: &str) -> Option<&str> {
        self.properties().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Walks through the user's properties, in the order in which they were set.
    pub fn properties(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the user's number.
    #[must_use]
    pub const fn flag_number(&self) -> i32 {
        self.flag
    }

    /// Tells whether a send waits for the flush where the store flushes synchronously.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.wait
    }

    /// Returns how long after it is sent the message expires, if it does.
    #[must_use]
    pub const fn expiry(&self) -> Option<Duration> {
        self.expires_in
    }

    /// Returns the delay level; 0 where there is no delay.
    #[must_use]
    pub const fn delay_level_number(&self) -> i32 {
        self.delay_level
    }

    /// Makes it a request or a reply.
    pub(crate) fn exchanging(mut self, exchange: Exchange) -> Self {
        self.exchange = Some(Box::new(exchange));
        self
    }

    /// Returns the request to which this is the reply.
    pub(crate) fn replies_to(&self) -> Option<&str> {
        self.exchange.as_ref().filter(|exchange| exchange.is_reply).map(|exchange| &*exchange.correlation)
    }

    /// Tells whether the message asks for a delay of any kind.
    #[must_use]
    pub fn is_delayed(&self) -> bool {
        self.delay_level != 0 || self.when != When::Now
    }

    /// Returns when it is to be delivered, as it was told.
    pub(crate) const fn when(&self) -> When {
        self.when
    }

    /// Returns the keys as the property `KEYS` holds them.
    pub(crate) fn joined_keys(&self) -> &str {
        &self.keys
    }

    /// Returns what the record is looked up by; `encoded` is what [`append_properties`](Self::append_properties) wrote
    /// with this id.
    pub(crate) fn index_texts<'a>(&'a self, id: &MessageId, encoded: &'a [u8]) -> IndexTexts<'a> {
        let start = UNIQUE_START.len();
        IndexTexts { unique: encoded.get(start..start + id.digits_len()), keys: &self.keys }
    }

    /// Appends the properties of the record of this message, its id first. It must have been checked.
    pub(crate) fn append_properties(&self, id: &MessageId, encoded: &mut Vec<u8>) {
        encoded.extend_from_slice(UNIQUE_START);
        id.append_hex(encoded);
        encoded.push(VALUE_END);
        properties::append(encoded, name::KEYS, &self.keys);
        properties::append(encoded, name::TAGS, &self.tag);
        properties::append(encoded, name::SHARDING_KEY, &self.order_key);
        if !self.wait {
            properties::append(encoded, name::WAIT, "false");
        }
        if let Some(time) = self.expires_in {
            properties::append(encoded, name::EXPIRES_IN, &time.as_millis().to_string());
        }
        if let Some(exchange) = &self.exchange {
            exchange.append_to(encoded);
        }
        for (name, value) in self.properties() {
            properties::append(encoded, name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Properties;

    #[test]
    fn a_message_says_what_it_was_told() {
        let message = Message::new("orders", "hello").tag("created").key("a").key("b c").keys(["d"]);
        let message = message.property("n", "1").property("n", "2").flag(-3).order_key("o").no_wait();
        assert_eq!((message.topic(), message.body()), ("orders", &b"hello"[..]));
        assert_eq!((message.tag_text(), message.order_key_text()), (Some("created"), Some("o")));
        assert_eq!(message.key_texts().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!((message.property_text("n"), message.property_text("m")), (Some("2"), None));
        assert_eq!((message.flag_number(), message.waits(), message.properties().len()), (-3, false, 1));
    }

    #[test]
    fn a11_an_empty_tag_or_order_key_is_none() {
        let message = Message::new("orders", "hello").tag("").order_key("");
        assert_eq!((message.tag_text(), message.order_key_text()), (None, None));
    }

    #[test]
    fn the_properties_of_a_record_are_those_of_its_message() {
        let id: MessageId = "7F00000100002A9F000000000000007C".parse().unwrap();
        let message = Message::new("orders", "hello").tag("t").key("a").key("b").order_key("o");
        let mut encoded = Vec::new();
        message.clone().property("n", "v").no_wait().append_properties(&id, &mut encoded);
        let expected = [
            ("UNIQ_KEY", "7F00000100002A9F000000000000007C"),
            ("KEYS", "a b"),
            ("TAGS", "t"),
            ("__SHARDINGKEY", "o"),
            ("WAIT", "false"),
            ("n", "v"),
        ];
        assert_eq!(Properties::new(&encoded).iter().collect::<Vec<_>>(), expected);
        assert_eq!(message.index_texts(&id, &encoded), IndexTexts::of(Properties::new(&encoded)));
        encoded.clear();
        Message::new("orders", "hello").append_properties(&id, &mut encoded);
        assert_eq!(encoded, b"UNIQ_KEY\x017F00000100002A9F000000000000007C\x02");
    }
}
