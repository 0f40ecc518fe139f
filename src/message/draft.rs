//! How does a message become the bytes of a record, as fast as they can be written?
//!
//! Three numbers are known only under the append lock: where the record lies in its queue and in the log, and when it
//! is stored. Everything else is laid out before, so that under the lock three fields are patched, one CRC is
//! finished and the pieces are copied into the file. See [`super::record`] for the layout.

use std::net::SocketAddr;

use crc32fast::Hasher;

use super::crc::{Shift, crc, hasher};
use super::properties::{PROPERTIES_LEN_MAX, VALUE_END};
use super::record::{MAGIC_BLANK, MAGIC_V1, MAGIC_V2, WHOLE_CRC_LEN};
use super::sys_flag::SysFlag;
use crate::error::{Error, Result};
use crate::types::{PhysicalOffset, QueueOffset, to_u64, to_usize};

/// Bodies up to this length are copied beside their head: one CRC and one copy over a short record cost less than three
/// of each.
const INLINE_BODY_MAX: usize = 512;
/// Up to this length the CRC of the whole record is computed under the lock, unless the thread knows the factor by which
/// it is put together from two; beyond, it always is put together.
const RECOMPUTE_MAX: u32 = 2_048;
/// The longest record: its size is a signed 32-bit number.
const RECORD_LEN_MAX: u32 = i32::MAX.unsigned_abs();
/// The longest topic that a record V1 can hold.
pub(crate) const TOPIC_LEN_MAX_V1: usize = 127;
/// The longest topic that any version of RocketMQ takes.
const TOPIC_LEN_MAX: usize = 255;
/// Bytes of the head with two IPv6 hosts.
const HEAD_LEN_MAX: usize = 112;
/// Where the queue offset and behind it the physical offset lie.
const OFFSETS_AT: usize = 20;
/// Bytes behind the properties and between the parts: lengths, a separator, the checksum.
const PROPERTIES_RESERVE: usize = 32;
/// Digits of a checksum in the property `__CRC32#`.
const DIGITS: usize = 10;
/// The property `__CRC32#` before its digits are known.
const CRC_PROPERTY: [u8; WHOLE_CRC_LEN] = *b"__CRC32#\x010000000000\x02";

/// What the checksum of a record covers, besides the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// The whole record, in the property `__CRC32#`.
    WholeRecord,
    /// Nothing.
    BodyOnly,
}

/// Everything in a record that is known before it is appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DraftFields<'a> {
    pub(crate) topic: &'a str,
    pub(crate) queue_id: u32,
    pub(crate) flag: i32,
    /// The bits of the hosts are set here, whatever they are.
    pub(crate) sys_flag: SysFlag,
    pub(crate) born_millis: i64,
    pub(crate) born_host: SocketAddr,
    pub(crate) store_host: SocketAddr,
    pub(crate) reconsume_times: u32,
    pub(crate) prepared_transaction_offset: PhysicalOffset,
    pub(crate) body: &'a [u8],
    /// Encoded, without a `__CRC32#`.
    pub(crate) properties: &'a [u8],
}

/// A record that lacks only its place and its store time.
///
/// All but a long body lies in a buffer of the caller's, behind what the buffer held before: so the records of a batch
/// can lie there one behind the other. The same buffer must be given to every call.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    /// The body, if it is too long to lie in the buffer.
    body: &'a [u8],
    start: usize,
    /// Where a body that is not in the buffer belongs, from the start on.
    split: u32,
    /// Bytes in the buffer.
    len: u32,
    size: u32,
    store_time_at: u8,
    checksum: Checksum,
}

/// How the checksum of the whole record is to be finished.
#[derive(Debug, Clone, Copy)]
enum Checksum {
    None,
    Recompute,
    /// From the CRC of the head, and that of everything between it and the checksum.
    Combine {
        shift: Shift,
        rest: u32,
    },
}

/// The lengths of the parts of a record, each within what the format can hold.
struct Lengths {
    size: u32,
    body: u32,
    properties: u16,
    /// Whether a separator must be put between the properties and the checksum.
    separated: bool,
}

impl<'a> Draft<'a> {
    /// Does all that can be done before the lock, and appends to `buffer` what is to be copied.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where the topic or the properties are too long for a record, `MessageTooLarge` where the
    /// record would be. The buffer is as it was.
    pub(crate) fn new(fields: &DraftFields<'a>, coverage: Coverage, buffer: &mut Vec<u8>) -> Result<Self> {
        let lengths = Lengths::of(fields, coverage)?;
        let mut hasher = hasher();
        hasher.update(fields.body);
        let raw_crc = hasher.clone().finalize();
        let start = buffer.len();
        buffer.reserve(
            HEAD_LEN_MAX + INLINE_BODY_MAX + TOPIC_LEN_MAX + PROPERTIES_RESERVE + fields.properties.len(),
        );
        push_head(fields, &lengths, raw_crc & 0x7FFF_FFFF, buffer);
        let inline = lengths.are_inline();
        if inline {
            buffer.extend_from_slice(fields.body);
        }
        let split = buffer.len();
        push_tail(fields, &lengths, buffer);
        let checksum = match coverage {
            Coverage::BodyOnly => Checksum::None,
            Coverage::WholeRecord => {
                let tail = buffer.get(split..).unwrap_or_default();
                let checksum = Checksum::prepare(&lengths, hasher, tail);
                buffer.extend_from_slice(&CRC_PROPERTY);
                checksum
            }
        };
        let end = buffer.len();
        let (split, body): (usize, &[u8]) = if inline { (end, &[]) } else { (split, fields.body) };
        // A record has fewer than 2^31 bytes.
        let within = |place: usize| u32::try_from(place - start).unwrap_or(u32::MAX);
        let (split, len, size) = (within(split), within(end), lengths.size);
        let store_time_at = if fields.born_host.is_ipv6() { 68 } else { 56 };
        Ok(Self { body, start, split, len, size, store_time_at, checksum })
    }

    /// Returns the bytes that the record of these fields will have.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub(crate) fn size_of(fields: &DraftFields<'_>, coverage: Coverage) -> Result<u32> {
        Lengths::of(fields, coverage).map(|lengths| lengths.size)
    }

    /// Returns the bytes of the whole record.
    pub(crate) const fn size(&self) -> u32 {
        self.size
    }

    /// Puts in what is known under the lock, and finishes the checksum. May be called again with other numbers, when a
    /// record has to move to the next file.
    pub(crate) fn seal(
        &self,
        buffer: &mut [u8],
        queue_offset: QueueOffset,
        physical_offset: PhysicalOffset,
        store_millis: i64,
    ) {
        put(buffer, self.start + OFFSETS_AT, queue_offset.get().to_be_bytes());
        put(buffer, self.start + OFFSETS_AT + 8, physical_offset.get().to_be_bytes());
        put(buffer, self.start + usize::from(self.store_time_at), store_millis.to_be_bytes());
        let crc = match self.checksum {
            Checksum::None => return,
            Checksum::Recompute => self.recompute(buffer),
            Checksum::Combine { shift, rest } => {
                let head = buffer.get(self.start..self.split()).unwrap_or_default();
                shift.combine(crc(head), rest)
            }
        };
        put(buffer, self.end() - 1 - DIGITS, reversed_digits(crc & 0x7FFF_FFFF));
    }

    /// Returns the record in pieces, to be copied one behind the other.
    pub(crate) fn pieces<'b>(&self, buffer: &'b [u8]) -> [&'b [u8]; 3]
    where
        'a: 'b,
    {
        [
            buffer.get(self.start..self.split()).unwrap_or_default(),
            self.body,
            buffer.get(self.split()..self.end()).unwrap_or_default(),
        ]
    }

    fn split(&self) -> usize {
        self.start + to_usize(u64::from(self.split))
    }

    fn end(&self) -> usize {
        self.start + to_usize(u64::from(self.len))
    }

    fn recompute(&self, buffer: &[u8]) -> u32 {
        let covered_end = self.end() - WHOLE_CRC_LEN;
        if self.split == self.len {
            return crc(buffer.get(self.start..covered_end).unwrap_or_default());
        }
        let mut hasher = hasher();
        hasher.update(buffer.get(self.start..self.split()).unwrap_or_default());
        hasher.update(self.body);
        hasher.update(buffer.get(self.split()..covered_end).unwrap_or_default());
        hasher.finalize()
    }
}

impl Lengths {
    fn of(fields: &DraftFields<'_>, coverage: Coverage) -> Result<Self> {
        let topic = fields.topic.len();
        if topic == 0 || topic > TOPIC_LEN_MAX {
            return Err(Error::argument("topic", "must have 1 to 255 bytes"));
        }
        let separated = fields.properties.last().is_some_and(|byte| *byte != VALUE_END);
        let crc = if coverage == Coverage::WholeRecord { WHOLE_CRC_LEN + usize::from(separated) } else { 0 };
        let properties = fields.properties.len() + crc;
        let head = head_len(fields);
        let topic_prefix = if topic > TOPIC_LEN_MAX_V1 { 2 } else { 1 };
        let size = head + fields.body.len() + topic_prefix + topic + 2 + properties;
        match (u32::try_from(size), u32::try_from(fields.body.len()), u16::try_from(properties)) {
            (_, _, Err(_)) => Err(properties_too_long(properties)),
            _ if properties > PROPERTIES_LEN_MAX => Err(properties_too_long(properties)),
            (Ok(size), Ok(body), Ok(properties)) if size <= RECORD_LEN_MAX => {
                Ok(Self { size, body, properties, separated: separated && crc != 0 })
            }
            _ => Err(Error::MessageTooLarge { len: to_u64(size), max: u64::from(RECORD_LEN_MAX) }),
        }
    }

    /// Tells whether the body lies beside the head.
    fn are_inline(&self) -> bool {
        to_usize(u64::from(self.body)) <= INLINE_BODY_MAX && self.size <= RECOMPUTE_MAX
    }
}

impl Checksum {
    /// Takes a CRC that has seen the body.
    fn prepare(lengths: &Lengths, mut hasher: Hasher, tail: &[u8]) -> Self {
        if lengths.are_inline() {
            return Self::Recompute;
        }
        let len = lengths.body + u32::try_from(tail.len()).unwrap_or_default();
        let shift = match Shift::of_repeated(len) {
            Some(shift) => shift,
            None if lengths.size <= RECOMPUTE_MAX => return Self::Recompute,
            None => Shift::of(len),
        };
        hasher.update(tail);
        Self::Combine { shift, rest: hasher.finalize() }
    }
}

#[cold]
fn properties_too_long(len: usize) -> Error {
    let reason = format!("{len} bytes as they are stored, and at most {PROPERTIES_LEN_MAX} fit a record");
    Error::argument("properties", reason)
}

fn head_len(fields: &DraftFields<'_>) -> usize {
    let hosts = usize::from(fields.born_host.is_ipv6()) + usize::from(fields.store_host.is_ipv6());
    88 + 12 * hosts
}

/// Writes the fields before the body; the numbers that are known under the lock are left zero.
fn push_head(fields: &DraftFields<'_>, lengths: &Lengths, body_crc: u32, buffer: &mut Vec<u8>) {
    // Each case has its length as a constant, so that the head is laid out without a single check.
    match (fields.born_host, fields.store_host) {
        (SocketAddr::V4(born), SocketAddr::V4(store)) => {
            let hosts = (born.ip().octets(), store.ip().octets());
            buffer.extend_from_slice(&head::<88, 4, 4>(fields, lengths, body_crc, hosts));
        }
        (SocketAddr::V6(born), SocketAddr::V4(store)) => {
            let hosts = (born.ip().octets(), store.ip().octets());
            buffer.extend_from_slice(&head::<100, 16, 4>(fields, lengths, body_crc, hosts));
        }
        (SocketAddr::V4(born), SocketAddr::V6(store)) => {
            let hosts = (born.ip().octets(), store.ip().octets());
            buffer.extend_from_slice(&head::<100, 4, 16>(fields, lengths, body_crc, hosts));
        }
        (SocketAddr::V6(born), SocketAddr::V6(store)) => {
            let hosts = (born.ip().octets(), store.ip().octets());
            buffer.extend_from_slice(&head::<112, 16, 16>(fields, lengths, body_crc, hosts));
        }
    }
}

#[inline]
fn head<const LEN: usize, const BORN: usize, const STORE: usize>(
    fields: &DraftFields<'_>,
    lengths: &Lengths,
    body_crc: u32,
    (born, store): ([u8; BORN], [u8; STORE]),
) -> [u8; LEN] {
    let magic = if fields.topic.len() > TOPIC_LEN_MAX_V1 { MAGIC_V2 } else { MAGIC_V1 };
    let sys_flag = fields.sys_flag.with_hosts(BORN == 16, STORE == 16);
    let mut head = [0_u8; LEN];
    let mut rest = head.as_mut_slice();
    push(&mut rest, lengths.size.to_be_bytes());
    push(&mut rest, magic.to_be_bytes());
    push(&mut rest, body_crc.to_be_bytes());
    push(&mut rest, fields.queue_id.to_be_bytes());
    push(&mut rest, fields.flag.to_be_bytes());
    push(&mut rest, [0; 16]);
    push(&mut rest, sys_flag.bits().to_be_bytes());
    push(&mut rest, fields.born_millis.to_be_bytes());
    push(&mut rest, born);
    push(&mut rest, u32::from(fields.born_host.port()).to_be_bytes());
    push(&mut rest, [0; 8]);
    push(&mut rest, store);
    push(&mut rest, u32::from(fields.store_host.port()).to_be_bytes());
    push(&mut rest, fields.reconsume_times.to_be_bytes());
    push(&mut rest, fields.prepared_transaction_offset.get().to_be_bytes());
    push(&mut rest, lengths.body.to_be_bytes());
    head
}

/// Writes the fields behind the body but the checksum.
fn push_tail(fields: &DraftFields<'_>, lengths: &Lengths, buffer: &mut Vec<u8>) {
    // Topics have at most 255 bytes, so their length is one byte, after a zero in V2.
    let topic_len = u8::try_from(fields.topic.len()).unwrap_or(u8::MAX);
    if fields.topic.len() > TOPIC_LEN_MAX_V1 {
        buffer.push(0);
    }
    buffer.push(topic_len);
    buffer.extend_from_slice(fields.topic.as_bytes());
    buffer.extend_from_slice(&lengths.properties.to_be_bytes());
    buffer.extend_from_slice(fields.properties);
    if lengths.separated {
        buffer.push(VALUE_END);
    }
}

#[inline]
fn push<const N: usize>(rest: &mut &mut [u8], bytes: [u8; N]) {
    if let Some((place, behind)) = std::mem::take(rest).split_first_chunk_mut::<N>() {
        *place = bytes;
        *rest = behind;
    }
}

#[inline]
fn put<const N: usize>(buffer: &mut [u8], position: usize, bytes: [u8; N]) {
    if let Some(place) = buffer.get_mut(position..).and_then(<[u8]>::first_chunk_mut) {
        *place = bytes;
    }
}

/// Writes a number of at most 31 bits in ten decimal digits, the least significant one first.
fn reversed_digits(value: u32) -> [u8; DIGITS] {
    let (top, low) = (u64::from(value / 100_000_000), u64::from(value % 100_000_000));
    // Eight digits at once: both fours in a word, then four pairs, then eight digits, the last one in front.
    // 10,486 / 2^20 and 103 / 2^10 divide numbers this small by 100 and by 10.
    let fours = (low / 10_000) | ((low % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let pairs = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F;
    let digits = tens | ((pairs - tens * 10) << 8);
    let [a, b, c, d, e, f, g, h] = (digits + 0x3030_3030_3030_3030).to_be_bytes();
    let [.., j, i] = (((top / 10) << 8) | (top % 10) | 0x3030).to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j]
}

/// Returns the blank record that says: the `remaining` bytes of this file, the first of which it takes, are unused.
pub(crate) fn encode_blank(remaining: u32) -> [u8; 8] {
    let [a, b, c, d] = remaining.to_be_bytes();
    let [e, f, g, h] = MAGIC_BLANK.to_be_bytes();
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
