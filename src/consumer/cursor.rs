//! Where is a pull consumer in one queue, and what comes next there?

use std::sync::{Arc, Weak};

use super::lane::Lane;
use crate::broker::{Broker, PullRequest, PullStatus, TopicOfBroker};
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::filter::Filter;
use crate::types::{MessageQueue, QueueOffset};

/// Messages that one poll returns at most (RocketMQ's `pullBatchSize` of a lite pull consumer).
const BATCH: usize = 10;
/// Pages without a wanted message that one look at a queue passes over.
const EMPTY_PAGES_MAX: usize = 64;

/// Where the consumer is in one queue.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The queue as the group has it, where the group divides queues: another one after a reset, or a new topic.
    pub(super) lane: Weak<Lane>,
    pub(super) broker: Arc<Broker>,
    /// The topic as it was: one that was deleted and made again has other messages in the same places.
    pub(super) topic: Option<Arc<TopicOfBroker>>,
    pub(super) filter: Arc<Filter>,
    /// The first message that has not been returned.
    pub(super) next: QueueOffset,
    /// What was committed last, as far as this consumer knows.
    pub(super) committed: Option<QueueOffset>,
    pub(super) is_paused: bool,
}

impl Cursor {
    pub(super) fn is_of_this_topic(&self, queue: &MessageQueue) -> bool {
        match (&self.topic, self.broker.topic(queue.topic().as_str())) {
            (Some(known), Some(now)) => Arc::ptr_eq(known, &now),
            (None, None) => true,
            _ => false,
        }
    }

    /// Reads the next page. What the filter does not want is passed over.
    pub(super) fn page(&mut self, queue: &MessageQueue) -> Result<Vec<MessageView>> {
        for _ in 0..EMPTY_PAGES_MAX {
            let pulled = self.broker.pull(&PullRequest {
                topic: queue.topic(),
                queue_id: queue.queue_id(),
                offset: self.next,
                count_max: BATCH,
                filter: &self.filter,
            })?;
            self.next = pulled.next_offset;
            match pulled.status {
                PullStatus::Found if queue.topic().is_retry() => {
                    let shown = pulled.messages.into_iter().map(MessageView::showing_original_topic);
                    return Ok(shown.collect());
                }
                PullStatus::Found => return Ok(pulled.messages),
                PullStatus::NoNewMessage => break,
                PullStatus::NoMatchedMessage | PullStatus::OffsetIllegal => {}
            }
        }
        Ok(Vec::new())
    }
}
