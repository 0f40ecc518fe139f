//! To which queue does a message go, when its sender does not say?

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use crate::message::Message;
use crate::types::{MessageQueue, consistent_hash, java_string_hash, to_u64, to_usize};

/// Ways to choose a queue, for [`Producer::send_with`](super::Producer::send_with) (RocketMQ's
/// `MessageQueueSelector`). A closure of your own does as well.
///
/// ```
/// use pocketmq::{Message, Selector, Store};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let producer = store.producer("shop")?;
/// let first = producer.send_with(Message::new("orders", "created"), Selector::hash("order-42"))?;
/// let second = producer.send_with(Message::new("orders", "paid"), Selector::hash("order-42"))?;
/// assert_eq!(first.queue(), second.queue());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[doc(alias = "MessageQueueSelector")]
#[non_exhaustive]
pub struct Selector;

impl Selector {
    /// Chooses by the key's hash as RocketMQ 4's `SelectMessageQueueByHash` does: Java's `hashCode`, modulo the number
    /// of queues, without its sign. Another number of queues moves nearly every key.
    #[doc(alias = "SelectMessageQueueByHash")]
    pub fn hash(key: impl AsRef<str>) -> impl Fn(&[MessageQueue], &Message) -> Option<usize> {
        move |queues, _| by_hash(key.as_ref(), queues.len())
    }

    /// Chooses by consistent hash, as RocketMQ 5 does for message groups and as messages with an order key are sent:
    /// of `n` queues, a new one takes one key in `n + 1` and moves no other.
    #[doc(alias = "selectByMessageGroup")]
    pub fn consistent(key: impl AsRef<str>) -> impl Fn(&[MessageQueue], &Message) -> Option<usize> {
        move |queues, _| by_consistent_hash(key.as_ref(), queues.len())
    }

    /// Chooses any queue.
    #[doc(alias = "SelectMessageQueueByRandom")]
    pub fn random() -> impl Fn(&[MessageQueue], &Message) -> Option<usize> {
        |queues, _| to_usize(random()).checked_rem(queues.len())
    }
}

/// Returns Java's `Math.abs(hashCode % count)`; `None` for no queues.
fn by_hash(key: &str, count: usize) -> Option<usize> {
    let count = i64::try_from(count).ok()?;
    let place = i64::from(java_string_hash(key)).checked_rem(count)?;
    Some(to_usize(place.unsigned_abs()))
}

/// Returns the bucket of the consistent hash; `None` for no queues.
pub(super) fn by_consistent_hash(key: &str, count: usize) -> Option<usize> {
    let count = u32::try_from(to_u64(count)).ok().filter(|count| *count > 0)?;
    Some(to_usize(u64::from(consistent_hash(i64::from(java_string_hash(key)), count))))
}

/// Returns a number that nobody needs to be unable to guess.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    STATE.with(|state| {
        let mut next = state.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        state.set(next);
        // The low bits of a shift register are the poorest.
        next >> 16
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BrokerName, TopicName};

    fn queues(count: u32) -> Vec<MessageQueue> {
        let (topic, broker) = (TopicName::new("t").unwrap(), BrokerName::new("b").unwrap());
        (0..count).map(|id| MessageQueue::new(topic.clone(), broker.clone(), id)).collect()
    }

    #[test]
    fn t_l5_different_keys_go_to_different_queues_and_the_smallest_hash_does_not_fail() {
        let (queues, message) = (queues(10), Message::new("t", "x"));
        let by_hash = |key: &str| Selector::hash(key)(&queues, &message).unwrap();
        assert_ne!(by_hash("123"), by_hash("234"));
        assert_eq!(by_hash("order-42"), 7);
        for key in ["polygenelubricants", "GydZG_", "DESIGNING WORKHOUSES"] {
            assert_eq!(java_string_hash(key), i32::MIN);
            assert_eq!(by_hash(key), 8);
            assert!(Selector::consistent(key)(&queues, &message).unwrap() < 10);
        }
    }

    #[test]
    fn t_l5_a_random_choice_is_in_range_and_reaches_every_queue() {
        let (queues, message) = (queues(10), Message::new("t", "x"));
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[Selector::random()(&queues, &message).unwrap()] = true;
        }
        assert_eq!(seen, [true; 10]);
    }

    #[test]
    fn t_l5_of_no_queues_none_is_chosen() {
        let message = Message::new("t", "x");
        assert_eq!(Selector::hash("k")(&[], &message), None);
        assert_eq!(Selector::consistent("k")(&[], &message), None);
        assert_eq!(Selector::random()(&[], &message), None);
    }
}
