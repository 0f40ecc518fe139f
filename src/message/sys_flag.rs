//! What do the bits of a record's `SYSFLAG` say?
//!
//! | bits | mask | meaning |
//! |---|---|---|
//! | 0 | 0x01 | the body is compressed |
//! | 1 | 0x02 | several tags |
//! | 2–3 | 0x0C | transaction: none, prepared, commit, rollback |
//! | 4 | 0x10 | the born host is IPv6 |
//! | 5 | 0x20 | the store host is IPv6 |
//! | 6 | 0x40 | the body is a batch to be unwrapped |
//! | 7 | 0x80 | the record is an inner batch |
//! | 8–10 | 0x700 | how the body is compressed |

const COMPRESSED: u32 = 0x01;
const COMPRESSION_TYPE: u32 = 0x700;
const TRANSACTION: u32 = 0x0C;
const TRANSACTION_PREPARED: u32 = 0x04;
const TRANSACTION_COMMIT: u32 = 0x08;
const BORN_HOST_V6: u32 = 0x10;
const STORE_HOST_V6: u32 = 0x20;

/// The `SYSFLAG` of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SysFlag(u32);

/// How a body was compressed by the client that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// A zlib stream (RFC 1950): types 0, which old clients write, and 3.
    Zlib,
    /// An LZ4 frame: type 1.
    Lz4,
    /// A Zstandard stream: type 2.
    Zstd,
    /// A type that no version of RocketMQ writes.
    Unknown(u32),
}

/// What a record is in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionKind {
    /// Nothing: an ordinary message.
    None,
    /// A half message: not to be consumed.
    Prepared,
    /// A message whose transaction was committed.
    Commit,
    /// The record of a roll-back: neither queued nor indexed.
    Rollback,
}

impl SysFlag {
    /// No bit set: an ordinary, uncompressed message with IPv4 hosts.
    pub(crate) const NONE: Self = Self(0);

    /// Takes the bits as they lie on disk.
    pub(crate) const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the bits as they lie on disk.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn born_host_is_v6(self) -> bool {
        self.0 & BORN_HOST_V6 != 0
    }

    pub(crate) const fn store_host_is_v6(self) -> bool {
        self.0 & STORE_HOST_V6 != 0
    }

    /// Returns how the body is compressed, `None` where it is not.
    pub(crate) const fn compression(self) -> Option<Compression> {
        if self.0 & COMPRESSED == 0 {
            return None;
        }
        Some(match (self.0 >> 8) & 0x7 {
            0 | 3 => Compression::Zlib,
            1 => Compression::Lz4,
            2 => Compression::Zstd,
            other => Compression::Unknown(other),
        })
    }

    /// Returns the flag of a body that is compressed this way.
    pub(crate) const fn with_compression(self, compression: Compression) -> Self {
        let number = match compression {
            Compression::Lz4 => 1,
            Compression::Zstd => 2,
            Compression::Zlib => 3,
            Compression::Unknown(number) => number & 0x7,
        };
        Self(self.0 & !COMPRESSION_TYPE | COMPRESSED | number << 8)
    }

    /// Returns what the record is in a transaction.
    pub(crate) const fn transaction(self) -> TransactionKind {
        match self.0 & TRANSACTION {
            0 => TransactionKind::None,
            TRANSACTION_PREPARED => TransactionKind::Prepared,
            TRANSACTION_COMMIT => TransactionKind::Commit,
            _ => TransactionKind::Rollback,
        }
    }

    /// Returns the flag with its transaction bits replaced.
    pub(crate) const fn with_transaction(self, kind: TransactionKind) -> Self {
        let bits = match kind {
            TransactionKind::None => 0,
            TransactionKind::Prepared => TRANSACTION_PREPARED,
            TransactionKind::Commit => TRANSACTION_COMMIT,
            TransactionKind::Rollback => TRANSACTION,
        };
        Self(self.0 & !TRANSACTION | bits)
    }

    /// Returns the flag with the bits of both hosts set or cleared.
    pub(crate) const fn with_hosts(self, born_is_v6: bool, store_is_v6: bool) -> Self {
        let born = if born_is_v6 { BORN_HOST_V6 } else { 0 };
        let store = if store_is_v6 { STORE_HOST_V6 } else { 0 };
        Self(self.0 & !(BORN_HOST_V6 | STORE_HOST_V6) | born | store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compression_type_counts_only_in_a_compressed_record() {
        assert_eq!(SysFlag::new(0x300).compression(), None);
        assert_eq!(SysFlag::new(0x301).compression(), Some(Compression::Zlib));
        assert_eq!(SysFlag::new(0x001).compression(), Some(Compression::Zlib));
        assert_eq!(SysFlag::new(0x101).compression(), Some(Compression::Lz4));
        assert_eq!(SysFlag::new(0x201).compression(), Some(Compression::Zstd));
        assert_eq!(SysFlag::new(0x701).compression(), Some(Compression::Unknown(7)));
    }

    #[test]
    fn the_transaction_bits_are_compared_as_a_whole() {
        for (bits, kind) in [
            (0x0, TransactionKind::None),
            (0x4, TransactionKind::Prepared),
            (0x8, TransactionKind::Commit),
            (0xC, TransactionKind::Rollback),
        ] {
            assert_eq!(SysFlag::new(bits | 0x31).transaction(), kind);
            assert_eq!(SysFlag::new(0x3D).with_transaction(kind).bits(), bits | 0x31);
        }
    }

    #[test]
    fn the_host_bits_follow_the_hosts() {
        assert_eq!(SysFlag::new(0x10).with_hosts(false, true).bits(), 0x20);
        assert!(SysFlag::new(0x10).born_host_is_v6() && SysFlag::new(0x20).store_host_is_v6());
    }
}
