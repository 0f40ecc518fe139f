//! What is under way in one queue: what is fetched, what is handed out, what has failed, and how far the group has come?

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::retry::wait_after;
use crate::broker::{Broker, Position, PullRequest, PullStatus, TopicOfBroker};
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::filter::Filter;
use crate::types::{MessageQueue, QueueOffset, to_u64, to_usize};

/// Messages that one fetch brings at most (RocketMQ's `pullBatchSize`).
const PAGE: usize = 32;
/// Messages of one queue that may be under way (RocketMQ's `pullThresholdForQueue`).
const UNDER_WAY_MAX: usize = 1_000;
/// Pages without a wanted message that are looked at before the next queue gets its turn.
const EMPTY_PAGES_MAX: usize = 64;

/// A failed message that waits for its next attempt.
#[derive(Debug)]
struct Waiting {
    due: Duration,
    attempt: u32,
    message: MessageView,
}

/// A message that is handed out, and the number of the attempt.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: MessageView,
    pub(super) attempt: u32,
    /// Tells results that belong to an earlier life of the queue.
    pub(super) epoch: u64,
}

/// One queue as its group sees it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: MessageQueue,
    pub(super) broker: Arc<Broker>,
    pub(super) topic: Arc<TopicOfBroker>,
    position: Arc<Position>,
    epoch: u64,
    /// Where the next fetch begins.
    next: QueueOffset,
    /// The first message that is not done, and for each from there on whether it is.
    base: QueueOffset,
    done: VecDeque<bool>,
    ready: VecDeque<MessageView>,
    waiting: Vec<Waiting>,
    /// The last fetch ended before the queue did, without a wanted message.
    has_more: bool,
}

impl Lane {
    pub(super) fn new(
        queue: MessageQueue,
        broker: Arc<Broker>,
        topic: Arc<TopicOfBroker>,
        position: Arc<Position>,
    ) -> Self {
        let base = position.get();
        let (done, ready, waiting) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self {
            queue,
            broker,
            topic,
            position,
            epoch: 0,
            next: base,
            base,
            done,
            ready,
            waiting,
            has_more: false,
        }
    }

    /// Starts anew: the topic was deleted and made again under its name.
    pub(super) fn restart(&mut self, topic: Arc<TopicOfBroker>, position: Arc<Position>) {
        let next_epoch = self.epoch.saturating_add(1);
        *self = Self::new(self.queue.clone(), Arc::clone(&self.broker), topic, position);
        self.epoch = next_epoch;
    }

    /// Returns the next message: one whose wait is over, else the next of the queue.
    pub(super) fn take(&mut self, filter: &Filter, now: Duration) -> Result<Option<Taken>> {
        if let Some(place) = self.waiting.iter().position(|waiting| waiting.due <= now) {
            let Waiting { attempt, message, .. } = self.waiting.remove(place);
            return Ok(Some(Taken { message, attempt, epoch: self.epoch }));
        }
        if self.ready.is_empty() {
            self.fetch(filter)?;
        }
        Ok(self.ready.pop_front().map(|message| Taken { message, attempt: 1, epoch: self.epoch }))
    }

    /// Fetches the next page. What the filter does not want counts as consumed (contract V10).
    fn fetch(&mut self, filter: &Filter) -> Result<()> {
        self.has_more = false;
        for _ in 0..EMPTY_PAGES_MAX {
            if self.done.len() >= UNDER_WAY_MAX {
                return Ok(());
            }
            let pulled = self.broker.pull(&PullRequest {
                topic: self.queue.topic(),
                queue_id: self.queue.queue_id(),
                offset: self.next,
                count_max: PAGE,
                filter,
            })?;
            match pulled.status {
                PullStatus::NoNewMessage => return Ok(()),
                PullStatus::OffsetIllegal => {
                    self.correct(pulled.next_offset)?;
                    if pulled.next_offset == pulled.max_offset {
                        return Ok(());
                    }
                }
                PullStatus::Found | PullStatus::NoMatchedMessage => {
                    let first = self.next;
                    self.done.extend(std::iter::repeat_n(true, to_usize(pulled.next_offset.since(first))));
                    self.next = pulled.next_offset;
                    for message in pulled.messages {
                        self.mark(message.queue_offset(), false);
                        self.ready.push_back(message);
                    }
                    self.advance()?;
                    if !self.ready.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
        self.has_more = true;
        Ok(())
    }

    /// Tells whether the queue goes on behind the last fetch, which found nothing that is wanted.
    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }

    /// Goes on elsewhere: what lay before is gone, or what was committed lies beyond the end.
    fn correct(&mut self, next: QueueOffset) -> Result<()> {
        self.next = next;
        if self.done.is_empty() {
            self.base = next;
            return self.broker.positions().commit(&self.position, next);
        }
        // Messages before the hole are still under way; the places of the hole are done.
        let places = to_usize(next.since(self.base).saturating_sub(to_u64(self.done.len())));
        self.done.extend(std::iter::repeat_n(true, places));
        Ok(())
    }

    fn mark(&mut self, offset: QueueOffset, is_done: bool) {
        if offset >= self.base
            && let Some(place) = self.done.get_mut(to_usize(offset.since(self.base)))
        {
            *place = is_done;
        }
    }

    /// Commits everything up to the first message that is not done.
    fn advance(&mut self) -> Result<()> {
        let passed = self.done.iter().take_while(|is_done| **is_done).count();
        if passed == 0 {
            return Ok(());
        }
        self.done.drain(..passed);
        self.base = self.base.plus(to_u64(passed));
        self.broker.positions().commit(&self.position, self.base)
    }

    /// Notes that a message has been handled.
    pub(super) fn ack(&mut self, offset: QueueOffset, epoch: u64) -> Result<()> {
        if epoch != self.epoch {
            return Ok(());
        }
        self.mark(offset, true);
        self.advance()
    }

    /// Notes that an attempt has failed: the message comes back later.
    pub(super) fn fail(&mut self, message: MessageView, attempt: u32, epoch: u64, now: Duration) {
        if epoch == self.epoch {
            let due = now.saturating_add(wait_after(attempt));
            self.waiting.push(Waiting { due, attempt: attempt.saturating_add(1), message });
        }
    }

    /// Returns when the next failed message is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }
}
