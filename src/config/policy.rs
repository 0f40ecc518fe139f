//! Which choices does a store offer that are not numbers?

/// When a send returns, and with that what its receipt is worth (RocketMQ's `flushDiskType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FlushPolicy {
    /// When the message is in the log: it survives the death of the process by any means, and becomes durable within
    /// the flush interval. RocketMQ's `ASYNC_FLUSH` and its default.
    #[default]
    Async,
    /// When the message has been flushed: it survives power loss. Senders that wait at the same time share one
    /// flush. RocketMQ's `SYNC_FLUSH`.
    Sync,
}

/// What an opening does when it finds damage in a part of the log that had been flushed.
///
/// Damage in the part that had not been flushed is what a power loss leaves: it is always cut off and reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// Refuse to open, and name the file, the place and the reason. Nothing is changed.
    #[default]
    Strict,
    /// Cut the log there if everything after the damage is unflushed as well, else refuse. RocketMQ cuts always.
    TruncateTail,
    /// Skip to the next record that can be verified and report the messages that are lost.
    SkipDamaged,
}

/// What an opening does when the committed positions of consumer groups cannot be read (contract D11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnMissingOffsets {
    /// Refuse to open, and name the file.
    #[default]
    Refuse,
    /// Let every group start again at the first message that exists: repeats messages, loses none.
    Earliest,
    /// Let every group start after the last message: skips what was not consumed.
    Latest,
}

/// Whether sending to a topic that does not exist creates it (RocketMQ's `autoCreateTopicEnable`, on by default there
/// as here; turn it off in production).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AutoCreate {
    /// Sending to an unknown topic is an error.
    Off,
    /// Sending to an unknown topic creates it with so many queues on every broker at once. Default: 4.
    Queues(u32),
}

/// Who drives flushing, allocation, indexing and persisting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Background {
    /// Threads of the store.
    #[default]
    Threads,
    /// Nobody but `Store::step`: for tests. A blocking call does the work itself that it would wait for.
    Manual,
}

/// Which version of RocketMQ must be able to take the store over and read everything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RocketmqVersion {
    /// Any from 4.9 on. What 4.9 cannot read is refused when it is to be written: records of a topic of more than 127
    /// bytes, which are of a second version.
    V4_9,
    /// 5.1 and later. The default.
    #[default]
    V5,
}

/// What the checksum of a stored record covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RecordChecksum {
    /// The whole record, in RocketMQ's property `__CRC32#`, besides the body's own (RocketMQ's
    /// `enabledAppendPropCRC`, off there). Any reader of RocketMQ's passes over it.
    #[default]
    WholeRecord,
    /// The body only, as RocketMQ does by default: damage in topic, queue or properties goes unseen.
    BodyOnly,
}
