//! How is a length in memory a length on disk, and a moment a number? Lengths are 64 bits wide here on both sides, so
//! their conversions cannot lose anything.

use std::time::{SystemTime, UNIX_EPOCH};

const _: () = assert!(usize::BITS == 64, "pocketmq maps files whole and needs a 64-bit address space");

/// Widens a length in memory to a length on disk.
#[expect(clippy::as_conversions, reason = "usize has 64 bits, asserted above")]
pub(crate) const fn to_u64(len: usize) -> u64 {
    len as u64
}

/// Narrows a length on disk to a length in memory.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits, asserted above"
)]
pub(crate) const fn to_usize(len: u64) -> usize {
    len as usize
}

/// Returns the milliseconds from 1970 to a moment; as far as they go where the moment lies beyond.
pub(crate) fn millis_of(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
