//! What can go wrong, sorted by what the caller can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::types::{BrokerName, NameError};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether the message of a failed call may be in the store all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing was stored, and never will be: the call may simply be made again.
    NotStored,
    /// The message exists completely or not at all, and only the next opening of the store decides which. Sending
    /// it again may store it twice: let its key tell the copies apart.
    MayExist,
}

/// A sentence that belongs to an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Box<Box<str>>);

impl Reason {
    /// Returns the sentence.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<T: Into<Box<str>>> From<T> for Reason {
    fn from(text: T) -> Self {
        Self(Box::new(text.into()))
    }
}

/// An operation of the system that failed: which one, and on what.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct IoFailure {
    /// What was tried, such as `open` or `sync`.
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A place in a file whose content cannot be what the store wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The byte in that file.
    pub position: u64,
    /// What is wrong there.
    pub what: Box<str>,
}

/// A message that several brokers were tried for, in vain.
#[derive(Debug, thiserror::Error)]
#[error("no broker has acknowledged the message, tried were {}; the last one: {last}", Names(brokers))]
#[non_exhaustive]
pub struct SendFailure {
    /// The brokers, one an attempt.
    pub brokers: Vec<BrokerName>,
    /// What the last one failed with.
    #[source]
    pub last: Error,
}

struct Names<'a>(&'a [BrokerName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, name) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            write!(formatter, "{separator}{name}")?;
        }
        Ok(())
    }
}

/// Everything that a call of this crate can fail with.
///
/// Variants follow what the caller can do. [`outcome`](Self::outcome) says whether a message may have been stored,
/// [`is_retryable`](Self::is_retryable) whether the same call may succeed later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is wrong. Mend the call.
    #[error("invalid {field}: {reason}")]
    InvalidArgument {
        /// Which argument.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        reason: Reason,
    },
    /// A setting is wrong. Mend the builder.
    #[error("invalid setting {field}: {reason}")]
    InvalidConfig {
        /// Which setting.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        reason: Reason,
    },
    /// A setting contradicts what the store on disk has.
    #[error("setting {field} does not fit the store: {reason}")]
    ConfigMismatch {
        /// Which setting.
        field: &'static str,
        /// What the store has, and what was asked for.
        reason: Reason,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// The place that was asked for lies before the first message that still exists.
    #[error("the offset is too small: the first message that still exists is at {min}")]
    OffsetTooSmall {
        /// The first offset that still exists.
        min: u64,
    },
    /// The file of committed positions and its backup cannot be read, and starting anew would skip or repeat
    /// messages. Restore one of them, or choose with `on_missing_offsets`.
    #[error(
        "the committed positions cannot be read: {0}; restore the file or its .bak, or open with on_missing_offsets"
    )]
    OffsetsUnreadable(Reason),
    /// Committed positions are kept in memory but could not be written to their file.
    #[error("committed positions are not on disk yet: {0}")]
    OffsetNotPersisted(Reason),
    /// There is no such topic, and none may be created by sending.
    #[error("topic {0} does not exist: create it with Store::create_topic, or open with auto_create_topics")]
    TopicNotFound(Reason),
    /// The topic's permissions forbid this.
    #[error("topic {topic} may not be {denied}: its permissions say so")]
    PermissionDenied {
        /// The topic.
        topic: Reason,
        /// What is forbidden: `read` or `written`.
        denied: &'static str,
    },
    /// The message is larger than the store accepts.
    #[error("the message has {len} bytes, and at most {max} are allowed")]
    MessageTooLarge {
        /// Bytes of the body, or of the whole record.
        len: u64,
        /// The limit that it exceeds.
        max: u64,
    },
    /// The disk is full, or close to it. Sends work again as soon as there is space.
    #[error("the disk has no room for more messages: {0}; free some space, no restart is needed")]
    StoreFull(Reason),
    /// Too much is under way. Try again a little later.
    #[error("the store is busy: {0}")]
    StoreBusy(Reason),
    /// A sync of the log failed, so the store takes no more messages until it is opened again.
    #[error(
        "a sync of the commit log failed: everything before byte {durable_offset} is safe; open the store again"
    )]
    FlushFailed {
        /// Everything before this physical offset is on disk.
        durable_offset: u64,
        /// Whether this call's message was in the log already.
        outcome: Outcome,
    },
    /// The system refused an operation.
    #[error(transparent)]
    Io(Box<IoFailure>),
    /// A file holds what the store cannot have written.
    #[error("{} is damaged at byte {}: {}", .0.path.display(), .0.position, .0.what)]
    Corrupt(Box<Damage>),
    /// Another process, or another `Store` of this one, has the folder open.
    #[error("the store is in use: {0}")]
    Locked(Reason),
    /// The folder or the message needs something that this build does not have.
    #[error("{0}")]
    Unsupported(Reason),
    /// A hook of the producer's forbids the message: its name, and its reason.
    #[error("the message is forbidden by hook {0}")]
    Forbidden(Reason),
    /// The decision of a transaction comes too late: it was decided otherwise before, or cannot be decided any more.
    #[error("the transaction cannot be decided so: {0}")]
    TransactionRefused(Reason),
    /// A message was tried to be sent to several brokers; none has acknowledged it.
    #[error(transparent)]
    SendFailed(Box<SendFailure>),
    /// A receipt is not good: it was used, its time is over, or it was never given out. Nothing has changed.
    #[error("invalid receipt {0}")]
    InvalidReceipt(Reason),
    /// A message cannot be taken back: it is due, or was delivered, or is not there.
    #[error("the message cannot be recalled: {0}")]
    TooLate(Reason),
    /// No reply to a request has come in time. The request itself is stored, and may still be handled: its correlation id.
    #[error("no reply to request {0} came in time")]
    RequestTimeout(Reason),
    /// The time is up.
    #[error("timed out")]
    Timeout,
}

impl Error {
    /// Says whether the message of the failed call may be in the store all the same.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::FlushFailed { outcome, .. } => *outcome,
            Self::SendFailed(failure) => failure.last.outcome(),
            Self::RequestTimeout(_) => Outcome::MayExist,
            _ => Outcome::NotStored,
        }
    }

    /// Tells whether the same call may succeed later without any change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::StoreFull(_) | Self::StoreBusy(_) | Self::Timeout | Self::OffsetNotPersisted(_) => true,
            Self::SendFailed(failure) => failure.last.is_retryable(),
            _ => false,
        }
    }

    pub(crate) fn argument(field: &'static str, reason: impl Into<Reason>) -> Self {
        Self::InvalidArgument { field, reason: reason.into() }
    }

    pub(crate) fn config(field: &'static str, reason: impl Into<Reason>) -> Self {
        Self::InvalidConfig { field, reason: reason.into() }
    }

    /// Wraps what the system said. A full disk or an exhausted quota becomes [`Error::StoreFull`].
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::StoreFull(format!("cannot {operation} {}: {source}", path.display()).into());
        }
        Self::Io(Box::new(IoFailure { operation, path: path.to_path_buf(), source }))
    }

    pub(crate) fn corrupt(path: &Path, position: u64, what: impl Into<Box<str>>) -> Self {
        Self::Corrupt(Box::new(Damage { path: path.to_path_buf(), position, what: what.into() }))
    }

    pub(crate) fn unsupported(reason: impl Into<Reason>) -> Self {
        Self::Unsupported(reason.into())
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::InvalidArgument { field: error.kind(), reason: error.to_string().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_small_enough_to_return_by_value() {
        assert!(size_of::<Error>() <= 32, "{}", size_of::<Error>());
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = Error::io("allocate", Path::new("/x"), io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, Error::StoreFull(_)) && full.is_retryable());
        let denied = Error::io("open", Path::new("/x"), io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.to_string(), "cannot open /x: permission denied");
        assert_eq!(denied.outcome(), Outcome::NotStored);
    }

    #[test]
    fn errors_cross_threads() {
        const fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
    }
}
