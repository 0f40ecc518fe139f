//! What is a message called? By the id that its producer gave it, or by the place where it lies.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::types::PhysicalOffset;

/// Bytes of an id that names an IPv6 host.
const LEN_V6: usize = 28;
/// 127.0.0.1.
const LOCALHOST: u64 = 0x7F00_0001;
const MILLIS_OF_A_DAY: i64 = 86_400_000;

/// The id of a message: 16 or 28 bytes, written as 32 or 56 upper-case hexadecimal digits.
///
/// RocketMQ has two kinds that look alike: the unique id that a producer gives a message when it sends it (property
/// `UNIQ_KEY`, RocketMQ's `msgId`), and the offset id that says where it was stored (`offsetMsgId`). A store looks up
/// either.
///
/// ```
/// use pocketmq::MessageId;
///
/// let id: MessageId = "7F00000100002A9F000000000000007C".parse()?;
/// assert_eq!(id.to_string(), "7F00000100002A9F000000000000007C");
/// # Ok::<(), pocketmq::Error>(())
/// ```
#[doc(alias = "msgId")]
#[doc(alias = "offsetMsgId")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
// Copied in words instead of bytes.
#[repr(align(8))]
pub struct MessageId {
    len: u8,
    bytes: [u8; LEN_V6],
}

impl MessageId {
    /// Makes an id of 16 bytes from both halves.
    fn from_v4(front: u64, back: u64) -> Self {
        let mut bytes = [0; LEN_V6];
        put(&mut bytes, 0, front.to_be_bytes());
        put(&mut bytes, 8, back.to_be_bytes());
        Self { len: 16, bytes }
    }

    /// Returns the 16 or 28 bytes that the digits stand for.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Returns the digits; those behind the first 32 mean nothing where the id has 16 bytes.
    fn digits(&self) -> [u8; 2 * LEN_V6] {
        let mut digits = [0; 2 * LEN_V6];
        let ((places, _), (words, _)) = (digits.as_chunks_mut::<8>(), self.bytes.as_chunks::<4>());
        for (place, word) in places.iter_mut().zip(words) {
            *place = hex_of(*word);
        }
        digits
    }

    /// Returns the count of digits.
    pub(crate) fn digits_len(&self) -> usize {
        2 * usize::from(self.len)
    }

    /// Appends the digits.
    pub(crate) fn append_hex(&self, text: &mut Vec<u8>) {
        match self.as_bytes().first_chunk::<16>() {
            // Of a length that the compiler knows.
            Some(bytes) if self.len == 16 => text.extend_from_slice(&digits_of_16(*bytes)),
            _ => text.extend_from_slice(&self.digits()),
        }
    }

    /// Reads the digits as they stand in a property.
    pub(crate) fn from_hex(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; LEN_V6];
        let len = match text.len() {
            32 => 16,
            56 => 28,
            _ => return None,
        };
        let (pairs, _) = text.as_chunks::<2>();
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
        }
        Some(Self { len, bytes })
    }
}

/// Returns the digits of the bytes of an id that names an IPv4 host.
fn digits_of_16(bytes: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    let ((places, _), (words, _)) = (digits.as_chunks_mut::<8>(), bytes.as_chunks::<4>());
    for (place, word) in places.iter_mut().zip(words) {
        *place = hex_of(*word);
    }
    digits
}

/// Returns the digits of four bytes, all at once.
const fn hex_of(bytes: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = bytes;
    let spread = u64::from_be_bytes([0, a, 0, b, 0, c, 0, d]);
    let nibbles = (spread << 4 | spread) & 0x0F0F_0F0F_0F0F_0F0F;
    // A nibble from 10 on, and only one, carries into bit 4 when 6 is added: its digit lies 7 further on.
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * 7).to_be_bytes()
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        let text = digits.get(..2 * usize::from(self.len)).unwrap_or_default();
        formatter.pad(std::str::from_utf8(text).unwrap_or_default())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_hex(text.as_bytes()).ok_or_else(|| {
            Error::argument(
                "message id",
                "must be 32 hexadecimal digits, or 56 where the host has an IPv6 address",
            )
        })
    }
}

/// Returns the offset id of a record: the host that stored it, and where.
pub(crate) fn offset_id(host: SocketAddr, offset: PhysicalOffset) -> MessageId {
    let port = u32::from(host.port()).to_be_bytes();
    let place = offset.get().to_be_bytes();
    let mut bytes = [0; LEN_V6];
    let (len, address_len) = match host.ip() {
        IpAddr::V4(address) => {
            put(&mut bytes, 0, address.octets());
            (16, 4)
        }
        IpAddr::V6(address) => {
            put(&mut bytes, 0, address.octets());
            (28, 16)
        }
    };
    put(&mut bytes, address_len, port);
    put(&mut bytes, address_len + 4, place);
    MessageId { len, bytes }
}

fn put<const N: usize>(bytes: &mut [u8], position: usize, part: [u8; N]) {
    if let Some(place) = bytes.get_mut(position..).and_then(<[u8]>::first_chunk_mut) {
        *place = part;
    }
}

/// Reads an id as an offset id. Any id reads as one, so only a record found there with that host proves it is one;
/// `None` where the port or the offset cannot be.
pub(crate) fn parse_offset_id(id: &MessageId) -> Option<(SocketAddr, PhysicalOffset)> {
    let (address, rest) = match id.len {
        16 => {
            let (octets, rest) = id.as_bytes().split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*octets)), rest)
        }
        _ => {
            let (octets, rest) = id.as_bytes().split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*octets)), rest)
        }
    };
    let (port, place) = rest.split_first_chunk::<4>()?;
    let port = u16::try_from(u32::from_be_bytes(*port)).ok()?;
    let place = u64::from_be_bytes(*place.first_chunk()?);
    let offset = PhysicalOffset::new(place);
    (offset <= PhysicalOffset::MAX).then_some((SocketAddr::new(address, port), offset))
}

/// Makes unique ids in RocketMQ's form, without a lock.
///
/// | bytes | field |
/// |---|---|
/// | 4 | address of the host: 127.0.0.1 |
/// | 2 | low half of the process id |
/// | 4 | a number drawn once, raised by one each time the counter starts again |
/// | 4 | milliseconds since the first of the month, UTC |
/// | 2 | counter |
#[derive(Debug)]
pub(crate) struct UniqueIds {
    pid: u64,
    drawn: u32,
    /// The low 16 bits are the counter, those above are added to `drawn`: so two ids of one process differ even when
    /// more than 65,536 are made in one step of a coarse clock.
    count: AtomicU64,
    /// Start of the month of the last id, in milliseconds.
    month: AtomicI64,
}

impl UniqueIds {
    pub(crate) fn new() -> Self {
        let drawn = RandomState::new().build_hasher().finish();
        let [_, _, _, _, a, b, c, d] = drawn.to_be_bytes();
        Self {
            pid: u64::from(std::process::id()) & 0xFFFF,
            drawn: u32::from_be_bytes([a, b, c, d]),
            count: AtomicU64::new(0),
            month: AtomicI64::new(i64::MAX),
        }
    }

    /// Returns an id that no other call on any store gets, for a message that is sent now.
    pub(crate) fn next(&self, now_millis: i64) -> MessageId {
        // Ordering: the count is a name dispenser; nothing is published through it.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        // The number drawn above the counter, as they stand on both sides of the time.
        let number = count.wrapping_add(u64::from(self.drawn) << 16) & 0xFFFF_FFFF_FFFF;
        let time = u64::from(self.millis_of_month(now_millis));
        let front = (LOCALHOST << 32) | (self.pid << 16) | (number >> 32);
        let back = ((number << 32) & (0xFFFF << 48)) | (time << 16) | (number & 0xFFFF);
        MessageId::from_v4(front, back)
    }

    fn millis_of_month(&self, now_millis: i64) -> u32 {
        // Ordering: every thread that finds another month computes the same start again.
        let month = self.month.load(Ordering::Relaxed);
        let passed = now_millis.wrapping_sub(month);
        if month <= now_millis && passed < 28 * MILLIS_OF_A_DAY {
            return u32::try_from(passed).unwrap_or(0);
        }
        let start = month_start(now_millis);
        self.month.store(start, Ordering::Relaxed);
        u32::try_from(now_millis.saturating_sub(start)).unwrap_or(0)
    }
}

/// Returns the first millisecond of the month, UTC, by counting in years that begin in March.
const fn month_start(millis: i64) -> i64 {
    let days = millis.div_euclid(MILLIS_OF_A_DAY);
    let day_of_era = (days + 719_468).rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5;
    (days - day_of_month).saturating_mul(MILLIS_OF_A_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_offset_id_of_the_reference_is_made_and_read_back() {
        let host: SocketAddr = "127.0.0.1:10911".parse().unwrap();
        let id = offset_id(host, PhysicalOffset::new(124));
        assert_eq!(id.to_string(), "7F00000100002A9F000000000000007C");
        assert_eq!(parse_offset_id(&id), Some((host, PhysicalOffset::new(124))));
    }

    #[test]
    fn an_offset_id_of_an_ipv6_host_has_56_digits() {
        let host: SocketAddr = "[fd00::2]:10911".parse().unwrap();
        let id = offset_id(host, PhysicalOffset::new(7));
        assert_eq!(id.to_string(), "FD00000000000000000000000000000200002A9F0000000000000007");
        assert_eq!(parse_offset_id(&id), Some((host, PhysicalOffset::new(7))));
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        let mut hex = Vec::new();
        id.append_hex(&mut hex);
        assert_eq!(hex, id.to_string().as_bytes());
    }

    #[test]
    fn every_byte_has_its_two_digits() {
        for byte in 0..=255_u8 {
            assert_eq!(hex_of([byte, 0, 0xFF, byte]), *format!("{byte:02X}00FF{byte:02X}").as_bytes());
        }
    }

    #[test]
    fn a28_a_text_that_is_no_id_is_an_error() {
        for text in
            ["", "7F", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), &"é".repeat(16), &"0".repeat(55)]
        {
            assert!(matches!(text.parse::<MessageId>(), Err(Error::InvalidArgument { .. })), "{text}");
        }
        let lower: MessageId = "7f00000100002a9f000000000000007c".parse().unwrap();
        assert_eq!(lower.to_string(), "7F00000100002A9F000000000000007C");
    }

    #[test]
    fn a28_an_id_with_an_impossible_port_or_offset_is_no_offset_id() {
        let id: MessageId = "7F000001000110000000000000000000".parse().unwrap();
        assert_eq!(parse_offset_id(&id), None);
        let id: MessageId = "7F00000100002A9FFFFFFFFFFFFFFFFF".parse().unwrap();
        assert_eq!(parse_offset_id(&id), None);
    }

    #[test]
    fn unique_ids_of_one_millisecond_differ_beyond_the_counter() {
        let ids = UniqueIds::new();
        let all: HashSet<MessageId> = (0..200_000).map(|_| ids.next(1_700_000_000_000)).collect();
        assert_eq!(all.len(), 200_000);
    }

    #[test]
    fn unique_ids_of_two_stores_differ() {
        assert_ne!(UniqueIds::new().next(0), UniqueIds::new().next(0));
    }

    #[test]
    fn a_unique_id_has_the_fields_of_rocketmq() {
        let ids = UniqueIds::new();
        // 2026-11-24T08:46:36Z, counted from 2026-11-01T00:00:00Z.
        let _ = ids.next(1_795_510_000_000);
        let id = ids.next(1_795_509_996_000);
        let bytes = id.as_bytes();
        assert_eq!(bytes[..4], [127, 0, 0, 1]);
        assert_eq!(bytes[4..6], std::process::id().to_be_bytes()[2..]);
        let passed = u32::from_be_bytes(*bytes[10..].first_chunk().unwrap());
        assert_eq!(i64::from(passed), 1_795_509_996_000 - 1_793_491_200_000);
        assert_eq!(bytes[14..], [0, 1]);
    }

    #[test]
    fn a_month_begins_on_its_first_day() {
        let day = |days: i64| days * MILLIS_OF_A_DAY;
        // 1970-01-31, 1970-02-01, 2000-02-29, 2000-03-01, 1969-12-31.
        for (days, start) in [(30, 0), (31, 31), (11_016, 10_988), (11_017, 11_017), (-1, -31)] {
            assert_eq!(month_start(day(days) + 5), day(start), "{days}");
        }
        let ids = UniqueIds::new();
        for extreme in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
            let _ = ids.next(extreme);
        }
    }
}
