//! Where is it? A byte in the log and a place in a queue are both numbers, and never the same number.

use std::fmt;

/// The byte in a broker's commit log at which a record starts, counted over all its files.
///
/// RocketMQ calls it `commitLogOffset` or `phyOffset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PhysicalOffset(u64);

/// The place of a message in one queue, counted in messages from 0.
///
/// RocketMQ calls it `queueOffset` or `logicOffset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct QueueOffset(u64);

macro_rules! offset {
    ($name:ident) => {
        impl $name {
            /// The first one.
            pub const ZERO: Self = Self(0);
            /// Above every one that can exist: both are signed 64-bit numbers on disk.
            pub const MAX: Self = Self(i64::MAX.unsigned_abs());

            /// Wraps a plain number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// Returns the plain number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns the one `count` further on, or [`MAX`](Self::MAX) where there is none.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                let sum = self.0.saturating_add(count);
                if sum > Self::MAX.0 { Self::MAX } else { Self(sum) }
            }

            /// Returns how far `self` lies behind `earlier`, 0 if it does not.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

offset!(PhysicalOffset);
offset!(QueueOffset);
