//! How do the properties of a message lie in its record?
//!
//! `name 0x01 value 0x02 name 0x01 value 0x02 …`, raw UTF-8 without escapes. The last 0x02 is missing in records of
//! RocketMQ 4.9.1 to 5.1. A segment without a name or without a value says nothing, and of two with one name the later
//! one counts.

use std::fmt;

/// Ends a name.
pub(crate) const NAME_END: u8 = 1;
/// Ends a value.
pub(crate) const VALUE_END: u8 = 2;
/// The longest encoded properties: the length on disk is a signed 16-bit number.
pub(crate) const PROPERTIES_LEN_MAX: usize = 32_767;

/// Names of properties that the store itself reads or writes, spelled as in RocketMQ's `MessageConst`.
pub(crate) mod name {
    pub(crate) const KEYS: &str = "KEYS";
    pub(crate) const TAGS: &str = "TAGS";
    pub(crate) const WAIT: &str = "WAIT";
    pub(crate) const UNIQ_KEY: &str = "UNIQ_KEY";
    pub(crate) const SHARDING_KEY: &str = "__SHARDINGKEY";
    pub(crate) const CRC32: &str = "__CRC32#";
    pub(crate) const DELAY: &str = "DELAY";
    pub(crate) const REAL_TOPIC: &str = "REAL_TOPIC";
    pub(crate) const REAL_QUEUE_ID: &str = "REAL_QID";
    pub(crate) const RETRY_TOPIC: &str = "RETRY_TOPIC";
    pub(crate) const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    /// Of a half message and of what becomes of it: `true`.
    pub(crate) const TRANSACTION: &str = "TRAN_MSG";
    /// The producer group that began the transaction, and is asked about it.
    pub(crate) const PRODUCER_GROUP: &str = "PGROUP";
    /// The unique id once more, from RocketMQ 5 on.
    pub(crate) const TRANSACTION_ID: &str = "__transactionId__";
    /// How often a producer has been asked about a half message.
    pub(crate) const CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
    /// How many seconds nobody is asked about this half message.
    pub(crate) const CHECK_IMMUNITY: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    /// The offset of the half message of which RocketMQ stored this copy.
    pub(crate) const PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
    /// Of a request and its reply: what both have alike.
    pub(crate) const CORRELATION_ID: &str = "CORRELATION_ID";
    /// Who asked.
    pub(crate) const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
    /// How many milliseconds the one who asked waits.
    pub(crate) const TTL: &str = "TTL";
    pub(crate) const MESSAGE_TYPE: &str = "MSG_TYPE";
    pub(crate) const CLUSTER: &str = "CLUSTER";
    pub(crate) const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
    pub(crate) const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
    pub(crate) const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
    pub(crate) const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
    pub(crate) const TIMER_ENQUEUE_MS: &str = "TIMER_ENQUEUE_MS";
    pub(crate) const TIMER_DEQUEUE_MS: &str = "TIMER_DEQUEUE_MS";
    pub(crate) const TIMER_ROLL_TIMES: &str = "TIMER_ROLL_TIMES";
    pub(crate) const TIMER_DEL_UNIQKEY: &str = "TIMER_DEL_UNIQKEY";
    pub(crate) const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
    /// Ours: how many milliseconds after its birth the message is worth nothing any more.
    pub(crate) const EXPIRES_IN: &str = "__POCKETMQ_EXPIRES_IN";
    /// Ours: what was acknowledged by sending the message.
    pub(crate) const ACK: &str = "__POCKETMQ_ACK";
    /// Ours: why the last attempt to consume the message failed.
    pub(crate) const FAILURE: &str = "__POCKETMQ_FAILURE";
}

/// The properties of a stored message, read in place.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// Takes properties as they lie in a record. Never fails: what is no pair is passed over.
    pub(crate) const fn new(encoded: &'a [u8]) -> Self {
        Self(encoded)
    }

    /// Returns the properties as they lie in the record.
    pub(crate) const fn encoded(self) -> &'a [u8] {
        self.0
    }

    /// Returns the value of a property. Where a record has two of the name, the later one counts.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.pick([name]).into_iter().flatten().next()
    }

    /// Returns the values of several properties in one pass.
    pub(crate) fn pick<const N: usize>(self, names: [&str; N]) -> [Option<&'a str>; N] {
        let mut values = [None; N];
        for (name, value) in self.pairs() {
            for (wanted, place) in names.iter().zip(&mut values) {
                if wanted.as_bytes() == name {
                    *place = std::str::from_utf8(value).ok().or(*place);
                }
            }
        }
        values
    }

    /// Walks through the properties in the order in which they were written: an arbitrary one, and in a record of
    /// another broker a name may come twice.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs().filter_map(|(name, value)| {
            Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
        })
    }

    fn pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.split(|byte| *byte == VALUE_END).filter_map(|segment| {
            let end = segment.iter().position(|byte| *byte == NAME_END)?;
            let (name, rest) = segment.split_at_checked(end)?;
            let value = rest.get(1..)?;
            (!name.is_empty() && !value.is_empty()).then_some((name, value))
        })
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

/// Appends one property. An empty value is left out, as every reader would.
pub(crate) fn append(encoded: &mut Vec<u8>, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    encoded.extend_from_slice(name.as_bytes());
    encoded.push(NAME_END);
    encoded.extend_from_slice(value.as_bytes());
    encoded.push(VALUE_END);
}

/// Appends properties as they lie in a record, without those of the given names. What is no pair stays as it is.
pub(crate) fn append_without(encoded: &mut Vec<u8>, from: Properties<'_>, names: &[&str]) {
    for segment in from.encoded().split(|byte| *byte == VALUE_END).filter(|segment| !segment.is_empty()) {
        let name = segment.split(|byte| *byte == NAME_END).next().unwrap_or_default();
        if !names.iter().any(|left_out| left_out.as_bytes() == name) {
            encoded.extend_from_slice(segment);
            encoded.push(VALUE_END);
        }
    }
}

/// What the index files a message under, as its properties have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexTexts<'a> {
    /// The unique id.
    pub(crate) unique: Option<&'a [u8]>,
    /// The keys, separated by blanks.
    pub(crate) keys: &'a str,
}

impl<'a> IndexTexts<'a> {
    /// Finds both among encoded properties.
    pub(crate) fn of(properties: Properties<'a>) -> Self {
        let [unique, keys] = properties.pick([name::UNIQ_KEY, name::KEYS]);
        Self { unique: unique.map(str::as_bytes), keys: keys.unwrap_or_default() }
    }

    /// Walks through the unique id, then the keys from left to right.
    pub(crate) fn split(self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.unique.into_iter().chain(split_keys(self.keys).map(str::as_bytes))
    }
}

/// Splits the property `KEYS` into its keys: at blanks, empty ones dropped.
pub(crate) fn split_keys(keys: &str) -> impl Iterator<Item = &str> {
    keys.split(' ').filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(encoded: &[u8]) -> Vec<(&str, &str)> {
        Properties::new(encoded).iter().collect()
    }

    #[test]
    fn the_last_separator_may_be_missing() {
        let expected = vec![("KEYS", "K1"), ("TAGS", "TagA")];
        assert_eq!(pairs(b"KEYS\x01K1\x02TAGS\x01TagA\x02"), expected);
        assert_eq!(pairs(b"KEYS\x01K1\x02TAGS\x01TagA"), expected);
    }

    #[test]
    fn what_is_appended_is_read_back() {
        let mut encoded = Vec::new();
        append(&mut encoded, "KEYS", "K1");
        append(&mut encoded, "empty", "");
        append(&mut encoded, "TAGS", "TagA");
        assert_eq!(encoded, b"KEYS\x01K1\x02TAGS\x01TagA\x02");
    }

    #[test]
    fn properties_are_copied_without_the_ones_that_are_not_wanted() {
        let mut encoded = b"a\x01b\x02".to_vec();
        let from =
            Properties::new(b"__CRC32#\x015\x02KEYS\x01k\x02noise\x02__CRC32#\x010123456789\x02TAGS\x01t");
        append_without(&mut encoded, from, &[name::CRC32, "KEY"]);
        assert_eq!(encoded, b"a\x01b\x02KEYS\x01k\x02noise\x02TAGS\x01t\x02");
    }

    #[test]
    fn c16_broken_properties_are_passed_over() {
        assert_eq!(pairs(b""), vec![]);
        assert_eq!(pairs(b"no separator at all"), vec![]);
        assert_eq!(pairs(b"\x02\x02\x01\x02\x01v\x02n\x01\x02n"), vec![]);
        assert_eq!(pairs(b"a\x01b\x02trunc"), vec![("a", "b")]);
        assert_eq!(pairs(b"a\x01b\x01c\x02"), vec![("a", "b\x01c")]);
        assert_eq!(pairs(b"a\x01\xFF\x02b\x01c\x02"), vec![("b", "c")]);
        let many: Vec<u8> = (0..10_000).flat_map(|n| format!("k{n}\x01v\x02").into_bytes()).collect();
        assert_eq!(pairs(&many).len(), 10_000);
    }

    #[test]
    fn the_later_of_two_equal_names_counts() {
        let properties = Properties::new(b"UNIQ_KEY\x01old\x02TAGS\x01t\x02UNIQ_KEY\x01new\x02TAGS\x01\x02");
        assert_eq!(properties.get("UNIQ_KEY"), Some("new"));
        assert_eq!(properties.pick(["TAGS", "KEYS", "UNIQ_KEY"]), [Some("t"), None, Some("new")]);
    }

    #[test]
    fn keys_are_split_at_blanks() {
        assert_eq!(split_keys(" a  b ").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(split_keys("").count(), 0);
    }
}
