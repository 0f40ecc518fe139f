//! What does an index file look like? A header, a table of slots, and entries that are chained from newest to
//! oldest; every number is big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 40 | header |
//! | 4 × slots | number of the newest entry of each chain, 0 for an empty one |
//! | 20 × entries | the entries; number 0 is never used, so a file holds one entry less than it has room for |
//!
//! | byte | width | field of the header |
//! |---|---|---|
//! | 0 | 8 | store time of the first message, in milliseconds |
//! | 8 | 8 | store time of the last message |
//! | 16 | 8 | physical offset of the first message |
//! | 24 | 8 | physical offset of the last message |
//! | 32 | 4 | count of slots in use |
//! | 36 | 4 | number of the next entry: 1 in an empty file, where 0 may be written |
//!
//! | byte | width | field of an entry |
//! |---|---|---|
//! | 0 | 4 | hash of `topic#key` |
//! | 4 | 8 | physical offset of the message |
//! | 12 | 4 | seconds between the file's first store time and the message's |
//! | 16 | 4 | number of the next older entry of the chain, 0 for none |

use crate::types::{to_u64, to_usize};

pub(super) const HEADER_LEN: u64 = 40;
pub(super) const SLOT_LEN: u64 = 4;
pub(super) const ENTRY_LEN: u64 = 20;

pub(super) const BEGIN_MILLIS: usize = 0;
pub(super) const END_MILLIS: usize = 8;
pub(super) const BEGIN_PHYSICAL: usize = 16;
pub(super) const END_PHYSICAL: usize = 24;
pub(super) const SLOT_COUNT: usize = 32;
pub(super) const NEXT_ENTRY: usize = 36;

/// How large an index file is; all files of a folder have the same geometry, which is written nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub slots: u32,
    pub entries: u32,
}

impl Geometry {
    pub(crate) const fn file_len(self) -> u64 {
        self.entries_start() + ENTRY_LEN * widen(self.entries)
    }

    pub(super) const fn entries_start(self) -> u64 {
        HEADER_LEN + SLOT_LEN * widen(self.slots)
    }

    /// Returns the byte of the cell in which the chain of `hash` starts.
    pub(super) fn slot_position(self, hash: u32) -> usize {
        self.slot_cell(hash.checked_rem(self.slots).unwrap_or(0))
    }

    pub(super) const fn slot_cell(self, slot: u32) -> usize {
        to_usize(HEADER_LEN + SLOT_LEN * widen(slot))
    }

    pub(super) const fn entry_position(self, number: u32) -> usize {
        to_usize(self.entries_start() + ENTRY_LEN * widen(number))
    }
}

/// `u64::from`, which is not const.
const fn widen(number: u32) -> u64 {
    to_u64(to_usize_from(number))
}

#[expect(clippy::as_conversions, reason = "widening; From is not const")]
const fn to_usize_from(number: u32) -> usize {
    number as usize
}

/// One message under one of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub hash: u32,
    pub physical: u64,
    pub seconds: u32,
    pub older: u32,
}

impl Entry {
    pub(super) fn encode(self) -> [u8; 20] {
        let [h1, h2, h3, h4] = self.hash.to_be_bytes();
        let [p1, p2, p3, p4, p5, p6, p7, p8] = self.physical.to_be_bytes();
        let [s1, s2, s3, s4] = self.seconds.to_be_bytes();
        let [o1, o2, o3, o4] = self.older.to_be_bytes();
        [h1, h2, h3, h4, p1, p2, p3, p4, p5, p6, p7, p8, s1, s2, s3, s4, o1, o2, o3, o4]
    }
}

/// Returns how many whole seconds a store time lies after the file's first one, as RocketMQ writes it: never
/// negative, at most `i32::MAX`, and 0 while the file has no first time.
pub(super) fn seconds_since(begin_millis: i64, store_millis: i64) -> u32 {
    if begin_millis <= 0 {
        return 0;
    }
    let seconds = store_millis.saturating_sub(begin_millis) / 1_000;
    u32::try_from(seconds.clamp(0, i64::from(i32::MAX))).unwrap_or(0)
}

/// Hashes the keys of one topic; the topic's own part is computed once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHasher(i32);

impl KeyHasher {
    pub(crate) fn new(topic: &str) -> Self {
        Self(extend_hash(extend_hash(0, topic.as_bytes()), b"#"))
    }

    /// Returns the absolute value of Java's hash of `topic#key`, and 0 where there is none (`i32::MIN`).
    ///
    /// What is no UTF-8 in a key is replaced, as Java does when it reads one.
    pub(crate) fn hash(self, key: &[u8]) -> u32 {
        let hash = extend_hash(self.0, key);
        if hash == i32::MIN { 0 } else { hash.unsigned_abs() }
    }
}

/// Returns the hash under which a message of `topic` is found by `key`.
pub(crate) fn key_hash(topic: &str, key: &str) -> u32 {
    KeyHasher::new(topic).hash(key.as_bytes())
}

/// Goes on with a Java string hash: eight characters at a time, because one at a time waits for a multiplication
/// each.
fn extend_hash(hash: i32, text: &[u8]) -> i32 {
    let step = |hash: i32, unit: i32| hash.wrapping_mul(31).wrapping_add(unit);
    if !text.is_ascii() {
        return String::from_utf8_lossy(text).encode_utf16().map(i32::from).fold(hash, step);
    }
    let (eights, rest) = text.as_chunks::<8>();
    let hash = eights
        .iter()
        .fold(hash, |hash, eight| hash.wrapping_mul(POWER_8_OF_31).wrapping_add(hash_of_eight(*eight)));
    rest.iter().map(|byte| i32::from(*byte)).fold(hash, step)
}

const POWER_8_OF_31: i32 = 31_i32.wrapping_pow(8);

/// Hashes eight characters of ASCII, by pairs, pairs of pairs, and both fours: no sum leaves its part of the word.
const fn hash_of_eight(text: [u8; 8]) -> i32 {
    let ones = u64::from_be_bytes(text);
    let pairs = ((ones >> 8) & 0x00FF_00FF_00FF_00FF) * 31 + (ones & 0x00FF_00FF_00FF_00FF);
    let fours = ((pairs >> 16) & 0x0000_FFFF_0000_FFFF) * 31_u64.pow(2) + (pairs & 0x0000_FFFF_0000_FFFF);
    let [_, _, _, _, a, b, c, d] = ((fours >> 32) * 31_u64.pow(4) + (fours & 0xFFFF_FFFF)).to_be_bytes();
    i32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::java_string_hash;

    #[test]
    fn default_files_have_rocketmqs_length() {
        assert_eq!(Geometry { slots: 5_000_000, entries: 20_000_000 }.file_len(), 420_000_040);
        assert_eq!(Geometry { slots: 1_000, entries: 1_500 }.file_len(), 34_040);
    }

    #[test]
    fn the_worked_example_is_hashed_placed_and_encoded_as_rocketmq_does() {
        let geometry = Geometry { slots: 5_000_000, entries: 20_000_000 };
        let hash = key_hash("TopicTest", "K1");
        assert_eq!(hash, 2_745_032);
        assert_eq!(geometry.slot_position(hash), 10_980_168);
        assert_eq!(geometry.entry_position(1), 20_000_060);
        let entry = Entry { hash, physical: 0, seconds: 0, older: 0 };
        assert_eq!(entry.encode()[..6], [0x00, 0x29, 0xe2, 0xc8, 0, 0]);
        let full =
            Entry { hash: 1, physical: 0x0203_0405_0607_0809, seconds: 0x0a0b_0c0d, older: 0x0e0f_1011 };
        assert_eq!(full.encode(), [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
    }

    #[test]
    fn a_key_is_hashed_as_the_text_topic_hash_key_without_building_it() {
        for (topic, key) in [
            ("", ""),
            ("t", "k"),
            ("orders", "7F0000010001C0FFEE0000000000ABCD"),
            ("订单", "a😀b"),
            ("a", "é"),
        ] {
            let whole = java_string_hash(&format!("{topic}#{key}"));
            assert_eq!(key_hash(topic, key), whole.unsigned_abs(), "{topic}#{key}");
        }
    }

    #[test]
    fn a12_the_one_hash_without_an_absolute_value_becomes_0() {
        let text = find_text_with_hash_min();
        assert_eq!(java_string_hash(&text), i32::MIN);
        let (topic, key) = text.split_once('#').unwrap();
        assert_eq!(key_hash(topic, key), 0);
    }

    /// Builds a text `t#…` whose hash is `i32::MIN`: the last seven characters are the digits of what is missing.
    fn find_text_with_hash_min() -> String {
        let start = java_string_hash("t#0000000");
        let missing = i64::from(i32::MIN.wrapping_sub(start).cast_unsigned());
        let mut digits = [0_u8; 7];
        let mut rest = missing;
        for digit in digits.iter_mut().rev() {
            *digit = u8::try_from(rest % 31).unwrap();
            rest /= 31;
        }
        assert_eq!(rest, 0);
        let tail: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        format!("t#{tail}")
    }

    #[test]
    fn seconds_are_counted_from_the_first_message_and_never_below_0() {
        assert_eq!(seconds_since(0, 9_999), 0);
        assert_eq!(seconds_since(10_000, 9_000), 0);
        assert_eq!(seconds_since(10_000, 12_999), 2);
        assert_eq!(seconds_since(1, i64::MAX), 0x7fff_ffff);
    }
}
