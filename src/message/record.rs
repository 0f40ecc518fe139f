//! What does a record of the commit log say, and can it be believed?
//!
//! | at (IPv4) | bytes | field |
//! |---|---|---|
//! | 0 | 4 | size of the whole record |
//! | 4 | 4 | magic: V1 `0xDAA320A7`, V2 `0xDAA320AB`, blank `0xCBD43194` |
//! | 8 | 4 | CRC of the body without its sign bit |
//! | 12 | 4 | queue id |
//! | 16 | 4 | flag of the user |
//! | 20 | 8 | queue offset |
//! | 28 | 8 | physical offset |
//! | 36 | 4 | system flag |
//! | 40 | 8 | born time in ms |
//! | 48 | 8 or 20 | born host: address, port in 4 bytes |
//! | 56 | 8 | store time in ms |
//! | 64 | 8 or 20 | store host |
//! | 72 | 4 | reconsume times |
//! | 76 | 8 | prepared transaction offset |
//! | 84 | 4 + n | length of the body, body |
//! | 88 + n | 1 or 2, + t | length of the topic (2 bytes in V2), topic |
//! | … | 2 + p | length of the properties, properties |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc::body_crc;
use super::ids::{MessageId, offset_id};
use super::properties::{IndexTexts, NAME_END, Properties, VALUE_END, name, split_keys};
use super::sys_flag::SysFlag;
use crate::types::{PhysicalOffset, QueueOffset, to_usize};

pub(crate) const MAGIC_V1: u32 = 0xDAA3_20A7;
pub(crate) const MAGIC_V2: u32 = 0xDAA3_20AB;
pub(crate) const MAGIC_BLANK: u32 = 0xCBD4_3194;
/// The shortest record: V1 with IPv4 hosts, and nothing in it.
pub(crate) const RECORD_LEN_MIN: u32 = 91;
/// Bytes of the property `__CRC32#` with its separators.
pub(crate) const WHOLE_CRC_LEN: usize = 20;

/// Why bytes are not a record, or not the one that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordFault {
    /// The size is negative, below the shortest record's, or reaches beyond the bytes there are.
    Size,
    /// The magic is none that is known.
    Magic,
    /// A blank record that does not fill the rest of its file.
    Blank,
    /// The length of the body is negative or reaches beyond the record.
    BodyLength,
    /// The length of the topic is not positive or reaches beyond the record.
    TopicLength,
    /// The length of the properties is negative or does not end where the record does.
    PropertiesLength,
    /// The queue id or one of the offsets is negative.
    Negative,
    /// The record says that it lies elsewhere.
    Place,
    /// The CRC of the body is wrong.
    BodyCrc,
    /// The CRC of the whole record is wrong.
    WholeCrc,
    /// The record has no CRC of the whole, where it must have one.
    WholeCrcMissing,
}

impl fmt::Display for RecordFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Size => "the size of the record is impossible",
            Self::Magic => "no record begins here",
            Self::Blank => "a blank record does not fill the rest of its file",
            Self::BodyLength => "the length of the body does not fit the record",
            Self::TopicLength => "the length of the topic does not fit the record",
            Self::PropertiesLength => "the length of the properties does not fit the record",
            Self::Negative => "a queue id or an offset is negative",
            Self::Place => "the record says that it lies elsewhere",
            Self::BodyCrc => "the checksum of the body is wrong",
            Self::WholeCrc => "the checksum of the record is wrong",
            Self::WholeCrcMissing => "the checksum of the record is missing",
        })
    }
}

/// What lies at a place of a log file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scanned<'a> {
    /// Nothing: zeros, the end of what was written.
    End,
    /// The rest of the file is unused; go on with the next one.
    Blank,
    /// A record whose structure holds. Its checksums have not been looked at.
    Record(Record<'a>),
    /// Bytes that are none of these.
    Fault(RecordFault),
}

/// Says what lies at the beginning of the rest of a log file, the whole rest.
pub(crate) fn scan(rest_of_file: &[u8]) -> Scanned<'_> {
    let Some((size, after)) = rest_of_file.split_first_chunk::<4>() else {
        return if rest_of_file.iter().all(|byte| *byte == 0) {
            Scanned::End
        } else {
            Scanned::Fault(RecordFault::Size)
        };
    };
    let size = u32::from_be_bytes(*size);
    if size == 0 {
        return Scanned::End;
    }
    if after.first_chunk().is_some_and(|magic| u32::from_be_bytes(*magic) == MAGIC_BLANK) {
        let fills = usize::try_from(size).is_ok_and(|size| size == rest_of_file.len());
        return if fills { Scanned::Blank } else { Scanned::Fault(RecordFault::Blank) };
    }
    match Record::parse(rest_of_file) {
        Ok(record) => Scanned::Record(record),
        Err(fault) => Scanned::Fault(fault),
    }
}

/// Where the parts of a record begin and end: what [`Record::parse`] finds out, kept apart from the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    size: u32,
    body_start: u32,
    body_end: u32,
    topic_start: u32,
    topic_end: u32,
    sys_flag: SysFlag,
}

impl Layout {
    /// Returns the bytes of the whole record.
    pub(crate) const fn size(&self) -> u32 {
        self.size
    }

    /// Reads the structure of the record at the beginning of `bytes`. Every number is read once, and checked before it
    /// is used.
    fn read(bytes: &[u8]) -> Result<Self, RecordFault> {
        // The part of the head that no host shifts: its fields need no checks of their own.
        let Some(head) = bytes.first_chunk::<40>() else { return Err(RecordFault::Size) };
        let size = u32_at(head, 0).ok_or(RecordFault::Size)?;
        let magic = u32_at(head, 4).ok_or(RecordFault::Size)?;
        let topic_prefix = match magic {
            MAGIC_V1 => 1,
            MAGIC_V2 => 2,
            MAGIC_BLANK => return Err(RecordFault::Blank),
            _ => return Err(RecordFault::Magic),
        };
        if size < RECORD_LEN_MIN || size > i32::MAX.unsigned_abs() {
            return Err(RecordFault::Size);
        }
        let record = bytes.get(..to_usize(u64::from(size))).ok_or(RecordFault::Size)?;
        let sys_flag = SysFlag::new(u32_at(head, 36).ok_or(RecordFault::Size)?);
        let body_start =
            88 + 12 * (u32::from(sys_flag.born_host_is_v6()) + u32::from(sys_flag.store_host_is_v6()));
        let body_len = length(u32_at(record, body_start - 4)).ok_or(RecordFault::BodyLength)?;
        let body_end =
            body_start.checked_add(body_len).filter(|end| *end < size).ok_or(RecordFault::BodyLength)?;

        let topic_len = if topic_prefix == 1 {
            u8_at(record, body_end).filter(|len| *len < 0x80).map(u32::from)
        } else {
            u16_at(record, body_end).filter(|len| *len < 0x8000).map(u32::from)
        };
        let topic_len = topic_len.filter(|len| *len > 0).ok_or(RecordFault::TopicLength)?;
        let topic_start = body_end + topic_prefix;
        let topic_end = topic_start + topic_len;
        if topic_end + 2 > size {
            return Err(RecordFault::TopicLength);
        }
        let properties_len = u16_at(record, topic_end).ok_or(RecordFault::PropertiesLength)?;
        if properties_len >= 0x8000 || topic_end + 2 + u32::from(properties_len) != size {
            return Err(RecordFault::PropertiesLength);
        }
        let signs = |at: u32| head.get(to_usize(u64::from(at))).map_or(0, |byte| byte & 0x80);
        if signs(12) | signs(20) | signs(28) != 0 {
            return Err(RecordFault::Negative);
        }
        Ok(Self { size, body_start, body_end, topic_start, topic_end, sys_flag })
    }
}

/// A record read in place. Only its structure has been checked: lengths fit, numbers have the sign they must have.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> Record<'a> {
    /// Reads the record at the beginning of `bytes`, which may go on behind it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, RecordFault> {
        let layout = Layout::read(bytes)?;
        Self::with_layout(bytes, layout).ok_or(RecordFault::Size)
    }

    /// Looks at bytes that were read as a record before, without reading their structure again.
    pub(crate) fn with_layout(bytes: &'a [u8], layout: Layout) -> Option<Self> {
        Some(Self { bytes: bytes.get(..to_usize(u64::from(layout.size)))?, layout })
    }

    /// Looks at bytes that are exactly the record that the layout was read from.
    pub(crate) const fn whole(bytes: &'a [u8], layout: Layout) -> Self {
        Self { bytes, layout }
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the bytes of the whole record.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) const fn size(&self) -> u32 {
        self.layout.size
    }

    pub(crate) fn queue_id(&self) -> u32 {
        self.u32_at(12)
    }

    pub(crate) fn flag(&self) -> i32 {
        self.u32_at(16).cast_signed()
    }

    pub(crate) fn queue_offset(&self) -> QueueOffset {
        QueueOffset::new(self.u64_at(20))
    }

    pub(crate) fn physical_offset(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.u64_at(28))
    }

    pub(crate) const fn sys_flag(&self) -> SysFlag {
        self.layout.sys_flag
    }

    /// Returns the time at which the producer made the message, in milliseconds since 1970: whatever it claimed.
    pub(crate) fn born_millis(&self) -> i64 {
        self.u64_at(40).cast_signed()
    }

    pub(crate) fn born_host(&self) -> SocketAddr {
        self.host_at(48, self.sys_flag().born_host_is_v6())
    }

    /// Returns the time at which the message was appended, in milliseconds since 1970.
    pub(crate) fn store_millis(&self) -> i64 {
        self.u64_at(self.store_time_at()).cast_signed()
    }

    pub(crate) fn store_host(&self) -> SocketAddr {
        self.host_at(self.store_time_at() + 8, self.sys_flag().store_host_is_v6())
    }

    /// Returns how often the message was consumed in vain; a negative number on disk counts as 0.
    pub(crate) fn reconsume_times(&self) -> u32 {
        not_negative(self.u32_at(self.layout.body_start - 16))
    }

    /// Returns where the half message of a committed transaction lies; 0 for every other record, and where the number
    /// on disk is negative.
    pub(crate) fn prepared_transaction_offset(&self) -> PhysicalOffset {
        let offset = PhysicalOffset::new(self.u64_at(self.layout.body_start - 12));
        if offset > PhysicalOffset::MAX { PhysicalOffset::ZERO } else { offset }
    }

    /// Returns the body as it was stored: compressed, if the client compressed it.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.part(self.layout.body_start, self.layout.body_end)
    }

    /// Returns the topic; the empty text, which no check of names passes, where it is not UTF-8.
    pub(crate) fn topic(&self) -> &'a str {
        std::str::from_utf8(self.topic_bytes()).unwrap_or_default()
    }

    pub(crate) fn topic_bytes(&self) -> &'a [u8] {
        self.part(self.layout.topic_start, self.layout.topic_end)
    }

    pub(crate) fn properties(&self) -> Properties<'a> {
        Properties::new(self.part(self.layout.topic_end + 2, self.layout.size))
    }

    pub(crate) fn tag(&self) -> Option<&'a str> {
        self.properties().get(name::TAGS)
    }

    /// Walks through the keys as the sender gave them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        split_keys(self.properties().get(name::KEYS).unwrap_or_default())
    }

    /// Returns the property `UNIQ_KEY` as text: a producer may have put anything there.
    pub(crate) fn unique_key(&self) -> Option<&'a str> {
        self.properties().get(name::UNIQ_KEY)
    }

    /// Walks through what the index files the message under: the unique id, then the keys from left to right.
    pub(crate) fn index_keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        IndexTexts::of(self.properties()).split()
    }

    /// Returns the unique id, or the offset id where there is none that reads as an id.
    pub(crate) fn message_id(&self) -> MessageId {
        self.unique_key()
            .and_then(|text| MessageId::from_hex(text.as_bytes()))
            .unwrap_or_else(|| self.offset_id())
    }

    pub(crate) fn offset_id(&self) -> MessageId {
        offset_id(self.store_host(), self.physical_offset())
    }

    /// Checks that the record lies where it says.
    pub(crate) fn check_place(&self, place: PhysicalOffset) -> Result<(), RecordFault> {
        if self.physical_offset() == place { Ok(()) } else { Err(RecordFault::Place) }
    }

    /// Computes the CRC of the body and compares it with the stored one.
    pub(crate) fn check_body_crc(&self) -> Result<(), RecordFault> {
        if body_crc(self.body()) == self.u32_at(8) { Ok(()) } else { Err(RecordFault::BodyCrc) }
    }

    /// Returns the CRC of the whole record where the property `__CRC32#` is exactly its last 20 bytes. Anywhere else it
    /// is a copy from another record.
    pub(crate) fn whole_crc(&self) -> Option<u32> {
        let (before, property) = self.properties().encoded().split_last_chunk::<WHOLE_CRC_LEN>()?;
        if before.last().is_some_and(|byte| *byte != VALUE_END) {
            return None;
        }
        let digits = property.strip_prefix(name::CRC32.as_bytes())?.strip_prefix(&[NAME_END])?;
        let digits = digits.strip_suffix(&[VALUE_END])?;
        let mut value = 0_u64;
        for digit in digits.iter().rev() {
            value = value * 10 + u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        u32::try_from(value).ok().filter(|value| *value <= 0x7FFF_FFFF)
    }

    /// Computes the CRC of the whole record and compares it with the one it carries, which it must.
    pub(crate) fn check_whole_crc(&self) -> Result<(), RecordFault> {
        let stored = self.whole_crc().ok_or(RecordFault::WholeCrcMissing)?;
        let (covered, _) =
            self.bytes.split_last_chunk::<WHOLE_CRC_LEN>().ok_or(RecordFault::WholeCrcMissing)?;
        if body_crc(covered) == stored { Ok(()) } else { Err(RecordFault::WholeCrc) }
    }

    fn store_time_at(&self) -> u32 {
        if self.sys_flag().born_host_is_v6() { 68 } else { 56 }
    }

    fn part(&self, start: u32, end: u32) -> &'a [u8] {
        self.bytes.get(to_usize(u64::from(start))..to_usize(u64::from(end))).unwrap_or_default()
    }

    fn u32_at(&self, position: u32) -> u32 {
        u32_at(self.bytes, position).unwrap_or_default()
    }

    fn u64_at(&self, position: u32) -> u64 {
        chunk_at(self.bytes, position).map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Reads a host. A port that no machine has is read as 0.
    fn host_at(&self, position: u32, is_v6: bool) -> SocketAddr {
        let (address, port_at) = if is_v6 {
            let octets = chunk_at::<16>(self.bytes, position).copied().unwrap_or_default();
            (IpAddr::V6(Ipv6Addr::from(octets)), position + 16)
        } else {
            let octets = chunk_at::<4>(self.bytes, position).copied().unwrap_or_default();
            (IpAddr::V4(Ipv4Addr::from(octets)), position + 4)
        };
        SocketAddr::new(address, u16::try_from(self.u32_at(port_at)).unwrap_or(0))
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("topic", &self.topic())
            .field("queue_id", &self.queue_id())
            .field("queue_offset", &self.queue_offset().get())
            .field("physical_offset", &self.physical_offset().get())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

#[inline]
fn chunk_at<const N: usize>(bytes: &[u8], position: u32) -> Option<&[u8; N]> {
    bytes.get(to_usize(u64::from(position))..)?.first_chunk()
}

#[inline]
fn u8_at(bytes: &[u8], position: u32) -> Option<u8> {
    chunk_at::<1>(bytes, position).map(|[byte]| *byte)
}

#[inline]
fn u16_at(bytes: &[u8], position: u32) -> Option<u16> {
    chunk_at(bytes, position).map(|bytes| u16::from_be_bytes(*bytes))
}

#[inline]
fn u32_at(bytes: &[u8], position: u32) -> Option<u32> {
    chunk_at(bytes, position).map(|bytes| u32::from_be_bytes(*bytes))
}

/// Takes a 32-bit length if it is not negative.
fn length(read: Option<u32>) -> Option<u32> {
    read.filter(|length| length >> 31 == 0)
}

fn not_negative(number: u32) -> u32 {
    if number >> 31 == 0 { number } else { 0 }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
