//! How is a message sent when nobody asks what became of it?

use std::borrow::Borrow;

use super::{Producer, SendMode};
use crate::error::Result;
use crate::message::Message;
use crate::types::MessageQueue;

impl Producer {
    /// Sends a message to a queue of the producer's choice, as [`send`](Self::send) does, waits for no flush and returns no
    /// receipt (RocketMQ's `sendOneway`). For logs and measurements: it tries once, on one broker.
    ///
    /// The message is in the log when this returns, which survives the death of the process; under sync flush it is
    /// visible and durable a little later, unless the flush fails.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send): what is known in time is not hidden.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.producer("web")?.send_oneway(Message::new("clicks", "/index.html"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "sendOneway")]
    pub fn send_oneway(&self, message: impl Borrow<Message>) -> Result<()> {
        self.send_in(SendMode::OneWay, message.borrow()).map(drop)
    }

    /// Sends a message to this queue, otherwise as [`send_oneway`](Self::send_oneway).
    ///
    /// # Errors
    ///
    /// Those of [`send_to`](Self::send_to).
    pub fn send_oneway_to(&self, queue: &MessageQueue, message: impl Borrow<Message>) -> Result<()> {
        self.send_to_in(SendMode::OneWay, queue, message.borrow()).map(drop)
    }

    /// Sends a message to the queue that `select` chooses as in [`send_with`](Self::send_with), otherwise as
    /// [`send_oneway`](Self::send_oneway).
    ///
    /// # Errors
    ///
    /// Those of [`send_with`](Self::send_with).
    pub fn send_oneway_with(
        &self,
        message: impl Borrow<Message>,
        select: impl Fn(&[MessageQueue], &Message) -> Option<usize>,
    ) -> Result<()> {
        self.send_with_in(SendMode::OneWay, message.borrow(), select).map(drop)
    }
}
