//! HOW MESSAGES REACH THE APPLICATION: a consumer of one group, one message at a time.
//!
//! A [`Consumer`] reads every queue of the topics that its group subscribes. What it hands out is a [`Delivery`], which
//! is acknowledged when it has been handled; one that is dropped instead is a failed attempt and comes back. The
//! committed position of a queue is the first message that is not acknowledged.

mod builder;
mod delivery;
mod lane;
mod member;
mod retry;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use builder::{ConsumerBuilder, StartFrom};
pub use delivery::Delivery;
use member::Member;

use crate::config::Background;
use crate::error::{Error, Result};
use crate::sync::{Parker, deadline_in, has_passed};
use crate::types::{GroupName, MessageQueue, QueueOffset};

/// A member of a consumer group (RocketMQ's clustering consumer, used in a loop).
///
/// A clone is the same member: clones in several threads share its messages, each message going to one of them. Waiting
/// costs no CPU, and a message wakes a waiting consumer within microseconds.
///
/// ```
/// # fn main() -> pocketmq::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use pocketmq::{Message, Store};
///
/// let store = Store::open(dir.path())?;
/// store.producer("shop")?.send(Message::new("orders", "hello").tag("created"))?;
/// let consumer = store.consumer("billing").subscribe("orders", "created || paid").build()?;
/// while let Some(message) = consumer.try_recv()? {
///     assert_eq!(message.body_str()?, "hello");
///     message.ack()?;
/// }
/// # store.close()
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "DefaultMQPushConsumer")]
#[doc(alias = "DefaultLitePullConsumer")]
pub struct Consumer {
    member: Arc<Member>,
}

impl Consumer {
    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.member.group()
    }

    /// Returns the next message. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// `Closed` if the store is closed, also while this waits; `Timeout` if there is none and the store is driven by
    /// hand, where nobody waits; `PermissionDenied` if a topic may not be read; `Io` and `Corrupt`.
    pub fn recv(&self) -> Result<Delivery> {
        self.recv_until(None)?.ok_or(Error::Timeout)
    }

    /// Returns the next message if there is one now. Never blocks.
    ///
    /// # Errors
    ///
    /// `Closed`, `PermissionDenied`, `Io` and `Corrupt`.
    pub fn try_recv(&self) -> Result<Option<Delivery>> {
        self.member.take()
    }

    /// Returns the next message, or nothing if there is none before the time is up. Blocks that long; not at all if the
    /// store is driven by hand.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), but never `Timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Delivery>> {
        self.recv_until(Some(deadline_in(timeout)))
    }

    /// Returns the position that the group has committed in a queue: the first message that it has not acknowledged.
    /// `None` if it has none there.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the store has no broker of the queue's name, and `Closed`.
    pub fn committed(&self, queue: &MessageQueue) -> Result<Option<QueueOffset>> {
        self.member.committed(queue)
    }

    /// Waits for a message: without a deadline for ever, with one that lies beyond what the system can express too.
    fn recv_until(&self, deadline: Option<Option<Instant>>) -> Result<Option<Delivery>> {
        if let Some(delivery) = self.member.take()? {
            return Ok(Some(delivery));
        }
        if self.member.background() == Background::Manual {
            return Ok(None);
        }
        let deadline = deadline.flatten();
        let bed = Arc::new(Parker::default());
        let listening = self.member.listen(&bed);
        loop {
            bed.clear();
            // Looked at after the bed is listed: what arrives from here on wakes it.
            if let Some(delivery) = self.member.take()? {
                return Ok(Some(delivery));
            }
            let due = self.member.next_retry().and_then(deadline_in);
            let until = [deadline, due].into_iter().flatten().min();
            bed.park_until(until);
            if deadline.is_some_and(has_passed) {
                drop(listening);
                return self.member.take();
            }
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Consumer").field("group", self.group()).finish_non_exhaustive()
    }
}
