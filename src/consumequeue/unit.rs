//! What does one unit of a queue say?
//!
//! | bytes | field |
//! |---|---|
//! | 0–7 | physical offset of the message |
//! | 8–11 | size of its record |
//! | 12–19 | hash of its tag, 0 without one; for a delayed message the time at which it is due |

use crate::types::PhysicalOffset;

/// Bytes of a unit.
pub(crate) const UNIT_LEN: u64 = 20;
/// The same, in memory.
pub(super) const UNIT_BYTES: usize = 20;
/// The size that stands in a unit which only fills the place before a queue's first message.
const BLANK_SIZE: u32 = 0x7FFF_FFFF;

/// One unit: where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Where its record starts in the log.
    pub(crate) physical_offset: PhysicalOffset,
    /// The bytes of its record.
    pub(crate) size: u32,
    /// The hash of its tag.
    pub(crate) tags_code: i64,
}

impl Unit {
    /// A unit that fills the place before the first message of a queue.
    pub(super) const BLANK: Self =
        Self { physical_offset: PhysicalOffset::ZERO, size: BLANK_SIZE, tags_code: 0 };

    /// Tells whether it only fills a place.
    pub(crate) fn is_blank(&self) -> bool {
        *self == Self::BLANK
    }

    /// Returns its bytes.
    pub(super) fn encode(&self) -> [u8; UNIT_BYTES] {
        let mut bytes = [0; UNIT_BYTES];
        let (physical, rest) = bytes.split_at_mut(8);
        let (size, code) = rest.split_at_mut(4);
        physical.copy_from_slice(&self.physical_offset.get().to_be_bytes());
        size.copy_from_slice(&self.size.to_be_bytes());
        code.copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    /// Reads a unit; `None` for bytes that are none: zeros, or numbers that no message can have.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (physical, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let physical = u64::try_from(i64::from_be_bytes(*physical)).ok()?;
        let size = i32::from_be_bytes(*size);
        let code = i64::from_be_bytes(*rest.first_chunk()?);
        let size = u32::try_from(size).ok().filter(|size| *size > 0)?;
        Some(Self { physical_offset: PhysicalOffset::new(physical), size, tags_code: code })
    }
}
