//! What happens to messages that failed too often, and how does one get them back?

use std::fmt;
use std::sync::Arc;

use super::{Store, position_key};
use crate::broker::{Broker, PullRequest};
use crate::cluster::Cluster;
use crate::commitlog::MessageView;
use crate::config::RetryPolicy;
use crate::delay::{Failed, NextAttempt, SentBack};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::message::MessageId;
use crate::types::{GroupName, MessageQueue, QueueOffset, TopicName};

/// Messages that are looked at in one go.
const PAGE: usize = 32;

/// The dead letters of one group: [`Store::dead_letters`] opens them.
///
/// They lie in the topic `%DLQ%group`, as RocketMQ has it, and stay there until they expire; anybody may read it. What
/// has been redriven is behind the position that the group has in that topic, and is not listed any more.
///
/// ```
/// # fn main() -> pocketmq::Result<()> {
/// use pocketmq::Message;
/// use pocketmq::testing::TestStore;
///
/// let store = TestStore::new();
/// let letters = store.dead_letters("billing")?;
/// assert_eq!(letters.count()?, 0);
/// assert!(letters.redrive(100)?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DeadLetters {
    cluster: Arc<Cluster>,
    group: GroupName,
}

/// What became of one dead letter that was to be redriven.
#[derive(Debug)]
#[non_exhaustive]
pub struct Redriven {
    /// The message's id, the same in every attempt.
    pub message_id: MessageId,
    /// The queue of dead letters in which it lies.
    pub queue: MessageQueue,
    /// Its place there.
    pub queue_offset: QueueOffset,
    /// Whether it is in the group's retry topic now; else why not, and it is still listed.
    pub result: Result<()>,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DeadLetters").field("group", &self.group).finish_non_exhaustive()
    }
}

/// One queue of dead letters, and how far it has been redriven.
struct LetterQueue {
    broker: Arc<Broker>,
    queue: MessageQueue,
    at: QueueOffset,
    end: QueueOffset,
}

impl DeadLetters {
    fn queues(&self) -> Result<Vec<LetterQueue>> {
        self.cluster.check_open()?;
        let name = TopicName::dead_letters_of(&self.group);
        let Some(route) = self.cluster.route(name.as_str()) else { return Ok(Vec::new()) };
        let mut queues = Vec::with_capacity(route.read.len());
        for entry in &route.read {
            let key = position_key(self.group.as_str(), entry.queue())?;
            let range = entry.broker.queue_range(&name, entry.queue().queue_id());
            let (min, end) = range.unwrap_or_default();
            let at = entry.broker.positions().get(&key).map_or(min, |position| position.get().max(min));
            queues.push(LetterQueue {
                broker: Arc::clone(&entry.broker),
                queue: entry.queue().clone(),
                at,
                end,
            });
        }
        Ok(queues)
    }

    /// Returns how many there are that have not been redriven.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub fn count(&self) -> Result<u64> {
        Ok(self.queues()?.iter().map(|queue| queue.end.since(queue.at)).sum())
    }

    /// Returns the oldest ones that have not been redriven, at most so many.
    /// [`failure_reason`](MessageView::failure_reason) says why the last attempt failed,
    /// [`original_topic`](MessageView::original_topic) where a message came from.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`, `Corrupt`.
    pub fn list(&self, count_max: usize) -> Result<Vec<MessageView>> {
        let mut found = Vec::new();
        for mut queue in self.queues()? {
            while queue.at < queue.end && found.len() < count_max {
                let rest = count_max.saturating_sub(found.len());
                found.extend(queue.next_page(rest)?);
            }
        }
        Ok(found)
    }

    /// Gives the oldest ones, at most so many, back to their group, as messages that have not been tried yet: they are
    /// delivered at once, to this group only, with their ids and their original topics. Blocks as so many sends do.
    ///
    /// Each has its own result. A message is in the retry topic before it counts as redriven, so a crash in between
    /// redrives it again. In a queue whose message cannot be stored, the ones behind it are left for the next call.
    ///
    /// # Errors
    ///
    /// `Closed`, `Io`, `Corrupt`; `Unsupported` on a store that was opened read-only.
    pub fn redrive(&self, count_max: usize) -> Result<Vec<Redriven>> {
        let mut all = Vec::new();
        for mut queue in self.queues()? {
            queue.broker.check_writable()?;
            let mut stuck = false;
            while queue.at < queue.end && all.len() < count_max && !stuck {
                let rest = count_max.saturating_sub(all.len());
                for message in queue.next_page(rest)? {
                    let redriven = self.redrive_from(&queue, &message);
                    stuck = redriven.result.is_err();
                    all.push(redriven);
                    if stuck {
                        break;
                    }
                }
            }
        }
        Ok(all)
    }

    fn redrive_from(&self, from: &LetterQueue, message: &MessageView) -> Redriven {
        let redrive = || {
            self.cluster.redrive(&from.broker, &self.group, message)?;
            let key = position_key(self.group.as_str(), &from.queue)?;
            let next = message.queue_offset().plus(1);
            let position = from.broker.positions().position(&key, next)?;
            from.broker.commit_position(&position, next)
        };
        Redriven {
            message_id: message.message_id(),
            queue: from.queue.clone(),
            queue_offset: message.queue_offset(),
            result: redrive(),
        }
    }
}

impl LetterQueue {
    fn next_page(&mut self, count_max: usize) -> Result<Vec<MessageView>> {
        let pulled = self.broker.pull(&PullRequest {
            topic: self.queue.topic(),
            queue_id: self.queue.queue_id(),
            offset: self.at,
            count_max: count_max.min(PAGE),
            filter: &Filter::all(),
        })?;
        // A place whose message is gone is passed over; a queue that ends sooner than it did ends the round.
        let next = if pulled.next_offset > self.at { pulled.next_offset } else { self.end };
        self.at = next;
        Ok(pulled.messages)
    }
}

impl Store {
    /// Opens the dead letters of a group: the messages that failed too often, or that a handler gave up.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name; `Closed`.
    pub fn dead_letters(&self, group: impl AsRef<str>) -> Result<DeadLetters> {
        self.cluster().check_open()?;
        let group = GroupName::new(group.as_ref())?;
        Ok(DeadLetters { cluster: Arc::clone(self.cluster()), group })
    }

    /// Sends a message that was pulled, and could not be handled, back for its group: a copy comes again after
    /// RocketMQ's ladder (10 s, 30 s, 1 min …) through the topic `%RETRY%group`, or, after 16 retries, goes to the dead
    /// letters. The reason is kept with it. The copy is stored when this returns, as safely as a send would be.
    ///
    /// For who pulls and commits positions by hand; a [`Consumer`](crate::Consumer) does it by itself.
    ///
    /// # Errors
    ///
    /// Those of a send; `InvalidArgument` for a text that is no group's name, or a message that is not of this queue;
    /// `Timeout` where the copy could not be flushed in time. Keep the message then.
    #[doc(alias = "sendMessageBack")]
    pub fn send_back(
        &self,
        group: impl AsRef<str>,
        queue: &MessageQueue,
        message: &MessageView,
        reason: &str,
    ) -> Result<SentBack> {
        let group = GroupName::new(group.as_ref())?;
        let broker = self.cluster().broker_of(queue)?;
        if message.record().topic() != queue.topic().as_str() || message.queue_id() != queue.queue_id() {
            return Err(Error::argument("queue", format!("{queue} is not the queue of this message")));
        }
        let policy = RetryPolicy::new();
        let (times, next) = (message.reconsume_times(), NextAttempt::AsPolicySays);
        let failed = Failed { broker, group: &group, message, times, policy: &policy, next, reason };
        self.cluster().send_back(&failed)
    }
}
