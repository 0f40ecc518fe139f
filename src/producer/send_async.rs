//! How does a sender go on without waiting for the disk?
//!
//! Every asynchronous send puts its message into the log in the caller's thread, as a blocking one does, because handing
//! it to another thread costs more than that; what it does not wait for is the flush. So the messages that one thread
//! sends to one queue lie there in the order of its calls.

use std::borrow::Borrow;

use super::{Producer, SendMode, SendReceipt, SendTicket};
use crate::config::FlushPolicy;
use crate::error::Result;
use crate::message::Message;
use crate::types::MessageQueue;

impl Producer {
    /// Sends a message to a queue of the producer's choice, as [`send`](Self::send) does, without waiting for the flush.
    ///
    /// The message is in the log when this returns, so equal order keys keep the order of the calls, up to the first
    /// that fails. The ticket has the answer: at once under async flush, after the flush under sync flush. Blocks for
    /// the append lock of one broker; with [`WhenBusy::Wait`](super::WhenBusy::Wait), or where a limit of the store says so,
    /// also for room.
    ///
    /// Every error is in the ticket, also that of a wrong message.
    ///
    /// ```
    /// use pocketmq::{FlushPolicy, Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::builder(dir.path()).flush(FlushPolicy::Sync).open()?;
    /// let producer = store.producer("shop")?;
    /// let tickets: Vec<_> = (0..64).map(|n| producer.send_async(Message::new("orders", format!("{n}")))).collect();
    /// for ticket in tickets {
    ///     println!("{}", ticket.wait()?); // the first one flushes for all
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "SendCallback")]
    pub fn send_async(&self, message: impl Borrow<Message>) -> SendTicket {
        let message = message.borrow();
        self.ticket(message.waits(), self.send_in(SendMode::Async, message))
    }

    /// Sends a message to this queue, otherwise as [`send_async`](Self::send_async).
    pub fn send_async_to(&self, queue: &MessageQueue, message: impl Borrow<Message>) -> SendTicket {
        let message = message.borrow();
        self.ticket(message.waits(), self.send_to_in(SendMode::Async, queue, message))
    }

    /// Sends a message to the queue that `select` chooses as in [`send_with`](Self::send_with), otherwise as
    /// [`send_async`](Self::send_async).
    pub fn send_async_with(
        &self,
        message: impl Borrow<Message>,
        select: impl Fn(&[MessageQueue], &Message) -> Option<usize>,
    ) -> SendTicket {
        let message = message.borrow();
        self.ticket(message.waits(), self.send_with_in(SendMode::Async, message, select))
    }

    /// Sends messages as one batch, as [`send_batch`](Self::send_batch) does, without waiting for the flush; otherwise
    /// as [`send_async`](Self::send_async).
    pub fn send_batch_async<M: Borrow<Message>>(&self, messages: impl IntoIterator<Item = M>) -> SendTicket {
        let batch: Vec<M> = messages.into_iter().collect();
        let waits = batch.first().is_some_and(|message| message.borrow().waits());
        self.ticket(waits, self.send_batch_in(SendMode::Async, &batch))
    }

    /// Sends a message as [`send_async`](Self::send_async) does and has `callback` told what became of it.
    ///
    /// The callback is called once, in a thread of the producer's (with `Background::Manual`, in `Store::step`), never
    /// in this call, and one after the other with those before it, so it should be short. It may send. Under sync
    /// flush callbacks follow the order of storing; that of a message which could not be stored may come earlier.
    /// Callbacks that wait when the store is closed are still called.
    ///
    /// # Errors
    ///
    /// [`StoreBusy`](crate::Error::StoreBusy) where `in_flight_max` callbacks have not run yet (see
    /// [`WhenBusy`](super::WhenBusy)); `Io` where the thread cannot be started. Then nothing was stored and the
    /// callback is not called. Every other error is told to the callback.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let producer = store.producer("shop")?;
    /// producer.send_then(Message::new("orders", "hello").key("order-42"), |result| match result {
    ///     Ok(receipt) => println!("{receipt}"),
    ///     Err(error) => println!("not sent: {error}"),
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "SendCallback")]
    pub fn send_then(
        &self,
        message: impl Borrow<Message>,
        callback: impl FnOnce(Result<SendReceipt>) + Send + 'static,
    ) -> Result<()> {
        let then = self.admit(callback)?;
        self.send_async(message).then(then);
        Ok(())
    }

    /// Sends a message to this queue, otherwise as [`send_then`](Self::send_then).
    ///
    /// # Errors
    ///
    /// Those of [`send_then`](Self::send_then); a wrong queue is told to the callback.
    pub fn send_to_then(
        &self,
        queue: &MessageQueue,
        message: impl Borrow<Message>,
        callback: impl FnOnce(Result<SendReceipt>) + Send + 'static,
    ) -> Result<()> {
        let then = self.admit(callback)?;
        self.send_async_to(queue, message).then(then);
        Ok(())
    }

    /// Sends a message to the queue that `select` chooses as in [`send_with`](Self::send_with), otherwise as
    /// [`send_then`](Self::send_then). A panic in `select` passes through, and the callback is not called.
    ///
    /// # Errors
    ///
    /// Those of [`send_then`](Self::send_then); a wrong choice is told to the callback.
    pub fn send_with_then(
        &self,
        message: impl Borrow<Message>,
        select: impl Fn(&[MessageQueue], &Message) -> Option<usize>,
        callback: impl FnOnce(Result<SendReceipt>) + Send + 'static,
    ) -> Result<()> {
        let then = self.admit(callback)?;
        self.send_async_with(message, select).then(then);
        Ok(())
    }

    /// Sends messages as one batch, as [`send_batch`](Self::send_batch) does, otherwise as
    /// [`send_then`](Self::send_then).
    ///
    /// # Errors
    ///
    /// Those of [`send_then`](Self::send_then); a wrong batch is told to the callback.
    pub fn send_batch_then<M: Borrow<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
        callback: impl FnOnce(Result<SendReceipt>) + Send + 'static,
    ) -> Result<()> {
        let then = self.admit(callback)?;
        self.send_batch_async(messages).then(then);
        Ok(())
    }

    fn admit(
        &self,
        callback: impl FnOnce(Result<SendReceipt>) + Send + 'static,
    ) -> Result<impl FnOnce(Result<SendReceipt>) + Send + 'static> {
        let member = &*self.member;
        member.callbacks.admit(&member.cluster, &member.settings.limit(), Box::new(callback))
    }

    /// Makes the ticket of what was stored, or not. `waits`: whether the sender cares for the flush at all.
    fn ticket(&self, waits: bool, sent: Result<SendReceipt>) -> SendTicket {
        let member = &*self.member;
        if !waits || member.cluster.config().flush == FlushPolicy::Async {
            return SendTicket::told(sent);
        }
        match sent.as_ref().ok().and_then(|receipt| member.cluster.broker(receipt.queue().broker())) {
            None => SendTicket::told(sent),
            Some(broker) => sent.map_or_else(
                |error| SendTicket::told(Err(error)),
                |receipt| {
                    member.unflushed.add(broker, receipt.physical_offset()..receipt.end());
                    SendTicket::unflushed(receipt, broker.clone())
                },
            ),
        }
    }
}
