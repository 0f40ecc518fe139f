//! HOW MESSAGES REACH THE APPLICATION: the members of a group, what each has of the queues, and what becomes of a message.
//!
//! A group divides the queues of its topics among its members; each queue has one owner. A [`Consumer`] is a member that
//! is asked for messages in a loop, a [`PushConsumer`] one that calls a handler. What is handed out is acknowledged when
//! it has been handled, else it comes back. The committed position of a queue is the first message that is not
//! acknowledged.

mod builder;
mod cursor;
mod delivery;
mod desk;
mod dispatch;
mod expiry;
mod group;
mod lane;
mod lane_work;
mod lease;
mod listener;
mod member;
mod pull;
mod push;
mod retry;
mod seen;
mod settings;
mod simple;
#[cfg(feature = "async")]
mod stream;
mod window;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use builder::ConsumerBuilder;
pub use delivery::Delivery;
pub use lease::{Lease, Receipt};
use listener::Verdict;
pub use listener::{
    ConsumeContext, ConsumeMessageContext, ConsumeMessageHook, ConsumeOrderlyStatus, ConsumeReturn,
    ConsumeStatus, HandlerOutcome, HandlerResult, IntoHandlerOutcome,
};
use member::Member;
pub use pull::PullConsumer;
pub use push::PushConsumer;
pub use settings::{QueueChange, StartFrom};
pub use simple::SimpleConsumer;
#[cfg(feature = "async")]
pub use stream::DeliveryStream;

use crate::config::Background;
use crate::error::{Error, Result};
use crate::sync::{Parker, deadline_in, has_passed};
use crate::types::{GroupName, MessageQueue, QueueOffset};

/// A member of a consumer group that is asked for messages in a loop.
///
/// A clone is the same member: clones in several threads share its messages, each message going to one of them. Waiting
/// costs no CPU, and a message wakes a waiting consumer within microseconds. When the last clone is dropped, the member
/// leaves its group; its queues go to the others at once, those of which it still has a [`Delivery`] in hand when these
/// are done with.
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
pub struct Consumer {
    member: Arc<Member>,
    /// Leaves the group with the last clone; a delivery keeps the member, not its place.
    _seat: Arc<Seat>,
}

/// A member's place in its group.
struct Seat {
    member: Arc<Member>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.member.leave();
    }
}

impl Consumer {
    fn new(member: Member) -> Self {
        let member = Arc::new(member);
        Self { member: Arc::clone(&member), _seat: Arc::new(Seat { member }) }
    }

    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.member.group_name()
    }

    /// Returns the name of this member, unlike all others of its group.
    #[must_use]
    #[doc(alias = "instanceName")]
    pub fn instance(&self) -> &str {
        &self.member.id
    }

    /// Returns the queues that this member has now, sorted. Never blocks.
    ///
    /// # Errors
    ///
    /// `Closed`, and what looking at a changed topic fails with.
    pub fn assignment(&self) -> Result<Vec<MessageQueue>> {
        self.member.assignment()
    }

    /// Returns the names of all members of the group, sorted.
    #[must_use]
    pub fn members(&self) -> Vec<String> {
        self.member.group.members()
    }

    /// Hands out nothing more until [`resume`](Self::resume); who waits goes on waiting. The member keeps its queues.
    #[doc(alias = "suspend")]
    pub fn pause(&self) {
        self.member.pause();
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.member.resume();
    }

    /// Tells whether the consumer is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.member.is_paused()
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

    /// Returns up to `count_max` messages, at least one: those that are there once the first has come. Blocks for the
    /// first as [`recv_timeout`](Self::recv_timeout) does, and returns none if the time is up.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout) for the first.
    #[doc(alias = "poll")]
    pub fn recv_batch(&self, count_max: usize, timeout: Duration) -> Result<Vec<Delivery>> {
        let mut batch = Vec::new();
        if count_max == 0 {
            return Ok(batch);
        }
        batch.extend(self.recv_timeout(timeout)?);
        while !batch.is_empty() && batch.len() < count_max {
            // An error comes again when nothing is in hand.
            let Ok(Some(next)) = self.try_recv() else { break };
            batch.push(next);
        }
        Ok(batch)
    }

    /// Walks through the messages for ever: each step is a [`recv`](Self::recv). It ends when the store is closed, and
    /// in a store that is driven by hand when there is nothing more.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::Message;
    /// use pocketmq::testing::TestStore;
    ///
    /// let store = TestStore::new();
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// for message in consumer.iter() {
    ///     message?.ack()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<Delivery>> {
        std::iter::from_fn(|| match self.recv() {
            Err(Error::Closed | Error::Timeout) => None,
            received => Some(received),
        })
    }

    /// Walks through the messages that are there now. Never blocks.
    pub fn try_iter(&self) -> impl Iterator<Item = Result<Delivery>> {
        std::iter::from_fn(|| self.try_recv().transpose())
    }

    /// Returns the messages as a `Stream`, for any runtime and none.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use futures::{StreamExt, TryStreamExt};
    /// use pocketmq::{Message, Store};
    ///
    /// let store = Store::in_memory()?;
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// let one = consumer.stream().take(1).try_for_each_concurrent(8, |message| async move { message.ack() });
    /// futures::executor::block_on(one)?;
    /// # store.close()
    /// # }
    /// ```
    #[cfg(feature = "async")]
    pub fn stream(&self) -> DeliveryStream {
        DeliveryStream::new(self.clone())
    }

    /// Waits for the next message as [`recv`](Self::recv) does, without blocking a thread. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    #[cfg(feature = "async")]
    pub async fn recv_async(&self) -> Result<Delivery> {
        let mut stream = self.stream();
        std::future::poll_fn(move |context| stream.poll_recv(context)).await
    }

    /// Handles everything that is there now, and acknowledges what `handler` succeeds with; the rest comes back later.
    /// Returns how many messages were acknowledged. The handler returns what a push consumer's handler may return.
    /// Never blocks.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::Message;
    /// use pocketmq::testing::TestStore;
    ///
    /// let store = TestStore::new();
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// assert_eq!(consumer.drain(|message| assert_eq!(message.tag(), ""))?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`, `PermissionDenied`, `Io` and `Corrupt`. What was acknowledged before stays so.
    pub fn drain<R: IntoHandlerOutcome>(&self, mut handler: impl FnMut(&Delivery) -> R) -> Result<usize> {
        let mut handled: usize = 0;
        while let Some(delivery) = self.try_recv()? {
            if matches!(handler(&delivery).into_handler_outcome().verdict, Verdict::Success | Verdict::Commit)
            {
                delivery.ack()?;
                handled = handled.saturating_add(1);
            }
        }
        Ok(handled)
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
            let due = self.member.next_due().and_then(deadline_in);
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
