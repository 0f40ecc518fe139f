//! How is a length in memory a length on disk? Both are 64 bits wide here, so the two conversions cannot lose anything.

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
