//! What does a topic look like: how many queues, and who may do what?

use crate::error::{Error, Result};

/// The most queues that a topic may have on one broker.
pub(crate) const QUEUES_MAX: u32 = 65_535;

/// What may be done with a topic (RocketMQ's `perm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permission(u8);

impl Permission {
    const READ: u8 = 4;
    const WRITE: u8 = 2;

    /// Reading and writing: RocketMQ's 6, the default.
    pub const READ_WRITE: Self = Self(Self::READ | Self::WRITE);
    /// Reading only: RocketMQ's 4. Sends fail, consumers go on.
    pub const READ_ONLY: Self = Self(Self::READ);
    /// Writing only: RocketMQ's 2.
    pub const WRITE_ONLY: Self = Self(Self::WRITE);

    /// Takes RocketMQ's number, 0 to 15.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }

    /// Returns RocketMQ's number.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Tells whether consumers may read.
    #[must_use]
    pub const fn can_read(self) -> bool {
        self.0 & Self::READ != 0
    }

    /// Tells whether producers may send.
    #[must_use]
    pub const fn can_write(self) -> bool {
        self.0 & Self::WRITE != 0
    }
}

/// Which messages a topic takes (RocketMQ's attribute `message.type`).
///
/// RocketMQ's proxy checks it for clients of version 5, and its brokers do not; here every send is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[doc(alias = "TopicMessageType")]
#[non_exhaustive]
pub enum TopicKind {
    /// All of them: the default. RocketMQ's `UNSPECIFIED` and, said aloud, `MIXED`.
    #[default]
    Any,
    /// Those without an order key or a delay: `NORMAL`.
    Normal,
    /// Those with an order key: `FIFO`.
    Fifo,
    /// Those with a delay: `DELAY`.
    Delay,
    /// Those of transactions: `TRANSACTION`.
    Transaction,
}

impl TopicKind {
    /// Returns RocketMQ's word; `None` for [`Any`](Self::Any), which is no attribute at all.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Normal => Some("NORMAL"),
            Self::Fifo => Some("FIFO"),
            Self::Delay => Some("DELAY"),
            Self::Transaction => Some("TRANSACTION"),
        }
    }

    /// Takes RocketMQ's word; every other one is [`Any`](Self::Any).
    pub(crate) fn from_name(name: &str) -> Self {
        let all = [Self::Normal, Self::Fifo, Self::Delay, Self::Transaction];
        all.into_iter().find(|kind| kind.name() == Some(name)).unwrap_or_default()
    }
}

/// The queues and permissions of a topic, on each broker of the store.
///
/// ```
/// use pocketmq::TopicConfig;
///
/// assert_eq!(TopicConfig::queues(8).write_queues, 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicConfig {
    /// Queues that consumers read (RocketMQ's `readQueueNums`).
    pub read_queues: u32,
    /// Queues that producers write (RocketMQ's `writeQueueNums`). To shrink a topic, lower this first, drain the
    /// queues above it, then lower `read_queues`.
    pub write_queues: u32,
    /// What may be done with it.
    pub permission: Permission,
    /// Which messages it takes.
    pub kind: TopicKind,
}

impl TopicConfig {
    /// A topic of so many queues on each broker, for reading and writing.
    #[must_use]
    pub const fn queues(count: u32) -> Self {
        Self {
            read_queues: count,
            write_queues: count,
            permission: Permission::READ_WRITE,
            kind: TopicKind::Any,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (field, count) in [("read_queues", self.read_queues), ("write_queues", self.write_queues)] {
            if count == 0 || count > QUEUES_MAX {
                return Err(Error::argument(field, format!("{count} queues: 1 to {QUEUES_MAX} are allowed")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b11_a_topic_has_between_1_and_65535_queues() {
        assert!(TopicConfig::queues(0).check().is_err());
        assert!(TopicConfig::queues(65_536).check().is_err());
        TopicConfig::queues(65_535).check().unwrap();
    }

    #[test]
    fn f9_kinds_have_rocketmqs_words() {
        for kind in [TopicKind::Normal, TopicKind::Fifo, TopicKind::Delay, TopicKind::Transaction] {
            assert_eq!(TopicKind::from_name(kind.name().unwrap()), kind);
        }
        for word in ["UNSPECIFIED", "MIXED", "", "fifo"] {
            assert_eq!(TopicKind::from_name(word), TopicKind::Any);
        }
    }

    #[test]
    fn permissions_are_rocketmqs_bits() {
        assert_eq!(Permission::READ_WRITE.bits(), 6);
        let inherit = Permission::from_bits(7).unwrap();
        assert!(inherit.can_read() && inherit.can_write());
        assert!(Permission::from_bits(16).is_none());
    }
}
