//! Which member of a group gets which queue of a topic? RocketMQ's strategies, one that moves little, and your own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{MessageQueue, TopicName, md5};

/// What a strategy is asked: what does this member get of this topic?
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Allocation<'a> {
    /// The topic.
    pub topic: &'a TopicName,
    /// The member that asks.
    pub member: &'a str,
    /// All queues of the topic, sorted.
    pub queues: &'a [MessageQueue],
    /// All members of the group, sorted.
    pub members: &'a [Arc<str>],
    /// Which member has which queue now.
    pub owners: &'a BTreeMap<MessageQueue, Arc<str>>,
}

impl Allocation<'_> {
    /// Refuses what no strategy can divide, and finds the member's place among all.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` without a member's name, without queues, or without members.
    fn place(&self) -> Result<Option<usize>> {
        if self.member.is_empty() {
            return Err(Error::argument("member", "is empty: a member needs a name"));
        }
        if self.queues.is_empty() {
            return Err(Error::argument("queues", format!("{} has no queue to allocate", self.topic)));
        }
        if self.members.is_empty() {
            return Err(Error::argument("members", "nobody is there to allocate queues to"));
        }
        Ok(self.members.iter().position(|member| **member == *self.member))
    }
}

/// Divides the queues of a topic among the members of a group (RocketMQ's interface of that name).
///
/// It is asked once for each member, whenever a member joins or leaves and when a topic changes. Two members of a group
/// that ask with equal arguments must get disjoint answers; where they do not, the member that sorts first gets the
/// queue. Implement it for a division of your own; [`Allocate`] has RocketMQ's.
#[doc(alias = "MessageQueueAllocationStrategy")]
pub trait AllocateMessageQueueStrategy: fmt::Debug + Send + Sync {
    /// Returns the name of the strategy, for messages.
    fn name(&self) -> &str;

    /// Returns the queues of the member that asks.
    ///
    /// # Errors
    ///
    /// Whatever makes a division impossible: the member then keeps what it has.
    fn allocate(&self, asked: &Allocation<'_>) -> Result<Vec<MessageQueue>>;
}

/// The strategies that are built in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Allocate {
    /// Pages: the first members get the first queues, and the remainder one each. RocketMQ's default, and ours.
    #[default]
    #[doc(alias = "AllocateMessageQueueAveragely")]
    Averagely,
    /// As cards are dealt: one queue each, in turn.
    #[doc(alias = "AllocateMessageQueueAveragelyByCircle")]
    AveragelyByCircle,
    /// The queues that are listed here for this member, whoever else there is.
    #[doc(alias = "AllocateMessageQueueByConfig")]
    Config(Vec<MessageQueue>),
    /// By a ring of hashes: a member that comes takes queues from all others, one that leaves gives to all, and
    /// nothing else moves. Uneven where queues are few.
    #[doc(alias = "AllocateMessageQueueConsistentHash")]
    ConsistentHash {
        /// Places of each member on the ring. RocketMQ's default is 10; 0 counts as 1.
        virtual_nodes: u32,
    },
    /// Only the queues on brokers of these rooms, a broker `east|a` being in the room `east`. (RocketMQ writes
    /// `east@a`; the name of a broker of ours cannot hold an `@`.)
    #[doc(alias = "AllocateMessageQueueByMachineRoom")]
    MachineRoom(BTreeSet<String>),
    /// As even as [`Averagely`](Self::Averagely), moving as few queues as possible from where they are.
    Sticky,
}

impl AllocateMessageQueueStrategy for Allocate {
    fn name(&self) -> &str {
        match self {
            Self::Averagely => "AVG",
            Self::AveragelyByCircle => "AVG_BY_CIRCLE",
            Self::Config(_) => "CONFIG",
            Self::ConsistentHash { .. } => "CONSISTENT_HASH",
            Self::MachineRoom(_) => "MACHINE_ROOM",
            Self::Sticky => "STICKY",
        }
    }

    fn allocate(&self, asked: &Allocation<'_>) -> Result<Vec<MessageQueue>> {
        let Some(place) = asked.place()? else { return Ok(Vec::new()) };
        Ok(match self {
            Self::Averagely => averagely(asked.queues, place, asked.members.len()),
            Self::AveragelyByCircle => by_circle(asked.queues, place, asked.members.len()),
            Self::Config(queues) => {
                queues.iter().filter(|queue| queue.topic() == asked.topic).cloned().collect()
            }
            Self::ConsistentHash { virtual_nodes } => by_ring(asked, *virtual_nodes),
            Self::MachineRoom(rooms) => by_room(asked.queues, rooms, place, asked.members.len()),
            Self::Sticky => sticky(asked, place),
        })
    }
}

/// One page for each member; the first pages have one more where it does not come out even.
fn averagely(queues: &[MessageQueue], place: usize, members: usize) -> Vec<MessageQueue> {
    let count = queues.len();
    let (share, left) = (count.checked_div(members).unwrap_or(0), count.checked_rem(members).unwrap_or(0));
    let own = if place < left { share.saturating_add(1) } else { share };
    let start = place.saturating_mul(share).saturating_add(place.min(left));
    queues.iter().skip(start).take(own).cloned().collect()
}

fn by_circle(queues: &[MessageQueue], place: usize, members: usize) -> Vec<MessageQueue> {
    queues.iter().skip(place).step_by(members.max(1)).cloned().collect()
}

/// Pages without the remainder, which is dealt afterwards.
fn by_room(
    queues: &[MessageQueue],
    rooms: &BTreeSet<String>,
    place: usize,
    members: usize,
) -> Vec<MessageQueue> {
    let in_rooms = |queue: &&MessageQueue| {
        queue.broker().as_str().split_once('|').is_some_and(|(room, _)| rooms.contains(room))
    };
    by_page_and_rest(&queues.iter().filter(in_rooms).cloned().collect::<Vec<_>>(), place, members)
}

fn by_page_and_rest(queues: &[MessageQueue], place: usize, members: usize) -> Vec<MessageQueue> {
    let (share, left) =
        (queues.len().checked_div(members).unwrap_or(0), queues.len().checked_rem(members).unwrap_or(0));
    let page = queues.iter().skip(place.saturating_mul(share)).take(share);
    let rest = queues.get(place.saturating_add(share.saturating_mul(members))).filter(|_| left > place);
    page.chain(rest).cloned().collect()
}

/// Returns the place of a text on the ring: the first four bytes of its MD5.
fn on_ring(text: &str) -> u32 {
    let [a, b, c, d, ..] = md5(text.as_bytes());
    u32::from_be_bytes([a, b, c, d])
}

fn by_ring(asked: &Allocation<'_>, virtual_nodes: u32) -> Vec<MessageQueue> {
    let mut ring = BTreeMap::new();
    for member in asked.members {
        ring.extend((0..virtual_nodes.max(1)).map(|node| (on_ring(&format!("{member}-{node}")), member)));
    }
    let owner_of = |queue: &MessageQueue| {
        let (topic, broker, id) = (queue.topic(), queue.broker(), queue.queue_id());
        // What Java's MessageQueue says of itself.
        let place = on_ring(&format!("MessageQueue [topic={topic}, brokerName={broker}, queueId={id}]"));
        ring.range(place..).next().or_else(|| ring.iter().next()).map(|(_, member)| *member)
    };
    let mine = |queue: &&MessageQueue| owner_of(queue).is_some_and(|owner| **owner == *asked.member);
    asked.queues.iter().filter(mine).cloned().collect()
}

/// Everybody keeps what it has up to its share; what is free goes to those who have too little. The larger shares go
/// to those who have most, so that nothing moves for them.
fn sticky(asked: &Allocation<'_>, place: usize) -> Vec<MessageQueue> {
    let count = asked.members.len();
    let mut held: Vec<Vec<&MessageQueue>> = vec![Vec::new(); count];
    let mut free = Vec::new();
    for queue in asked.queues {
        let owner = asked.owners.get(queue);
        let owner = owner.and_then(|owner| asked.members.binary_search(owner).ok());
        match owner.and_then(|owner| held.get_mut(owner)) {
            Some(list) => list.push(queue),
            None => free.push(queue),
        }
    }
    let share = asked.queues.len().checked_div(count).unwrap_or(0);
    let left = asked.queues.len().checked_rem(count).unwrap_or(0);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|member| std::cmp::Reverse(held.get(*member).map_or(0, Vec::len)));
    let mut quotas = vec![share; count];
    for member in order.into_iter().take(left) {
        quotas.iter_mut().skip(member).take(1).for_each(|quota| *quota = quota.saturating_add(1));
    }
    for (list, quota) in held.iter_mut().zip(&quotas) {
        free.extend(list.split_off(list.len().min(*quota)));
    }
    free.sort();
    let mut free = free.into_iter();
    for (list, quota) in held.iter_mut().zip(&quotas) {
        let missing = quota.saturating_sub(list.len());
        list.extend(free.by_ref().take(missing));
    }
    let mut own: Vec<_> = held.get(place).into_iter().flatten().map(|queue| (*queue).clone()).collect();
    own.sort();
    own
}

#[cfg(test)]
#[path = "allocate_tests.rs"]
mod tests;
