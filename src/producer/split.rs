//! How do more messages than fit one batch become as few batches as possible?

use std::borrow::Borrow;
use std::fmt;
use std::iter::Peekable;

use super::batch::{batch_len, belong_together};
use super::{Producer, SendReceipt};
use crate::error::Result;
use crate::message::Message;
use crate::types::MessageQueue;

impl Producer {
    /// Sends any number of messages in as few batches as their order and the size limit of a batch allow: each call of `next`
    /// sends one batch, as [`send_batch`](Self::send_batch) does, and returns its receipt. A message that cannot share a
    /// batch with the one before it (another topic, order key or wish to wait) begins a new one.
    ///
    /// Messages are taken from the iterator as they are needed, so there may be more of them than memory. After an error the
    /// next call goes on with the next batch: stop where the messages belong together.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let producer = store.producer("import")?;
    /// let lines = (0..10_000).map(|n| Message::new("lines", format!("line {n}")));
    /// let mut stored = 0;
    /// for receipt in producer.send_batches(lines) {
    ///     stored += receipt?.batch().len();
    /// }
    /// assert_eq!(stored, 10_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "ListSplitter")]
    pub fn send_batches<M, I>(&self, messages: I) -> SendBatches<'_, I::IntoIter>
    where
        M: Borrow<Message>,
        I: IntoIterator<Item = M>,
    {
        SendBatches { producer: self, queue: None, messages: messages.into_iter().peekable() }
    }

    /// Sends any number of messages in batches to this queue, otherwise as [`send_batches`](Self::send_batches).
    pub fn send_batches_to<M, I>(&self, queue: &MessageQueue, messages: I) -> SendBatches<'_, I::IntoIter>
    where
        M: Borrow<Message>,
        I: IntoIterator<Item = M>,
    {
        SendBatches { queue: Some(queue.clone()), ..self.send_batches(messages) }
    }
}

/// Messages on their way in batches: see [`Producer::send_batches`].
#[must_use = "a batch is sent when the iterator is asked for the next one"]
pub struct SendBatches<'a, I: Iterator> {
    producer: &'a Producer,
    queue: Option<MessageQueue>,
    messages: Peekable<I>,
}

impl<I: Iterator> fmt::Debug for SendBatches<'_, I> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SendBatches").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<M: Borrow<Message>, I: Iterator<Item = M>> Iterator for SendBatches<'_, I> {
    type Item = Result<SendReceipt>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.messages.next()?;
        let max = self.producer.batch_len_max();
        let mut len = batch_len(first.borrow());
        let mut batch = vec![first];
        while let Some(next) = self.messages.next_if(|next| {
            let grown = len.saturating_add(batch_len(next.borrow()));
            let fits = grown <= max
                && batch.first().is_some_and(|first| belong_together(first.borrow(), next.borrow()));
            if fits {
                len = grown;
            }
            fits
        }) {
            batch.push(next);
        }
        // A delayed message is no part of a batch.
        let alone = batch.first().map(Borrow::borrow).filter(|first| first.is_delayed());
        Some(match (&self.queue, alone) {
            (None, Some(message)) => self.producer.send(message),
            (Some(queue), Some(message)) => self.producer.send_to(queue, message),
            (None, None) => self.producer.send_batch(batch),
            (Some(queue), None) => self.producer.send_batch_to(queue, batch),
        })
    }
}
