//! Who owns which queue of a group, and how does a queue get from one member to another without ever having two?
//!
//! [`Claims`] is the one map of owners; its holder keeps it under one lock. A queue whose owner has messages in hand is
//! not taken away: it gets an heir and a deadline, and changes hands when the owner has let go or the time is up. Every
//! change of owner raises the queue's epoch, which stands on what is handed out: a result with an old epoch comes too
//! late and counts for nothing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::allocate::{AllocateMessageQueueStrategy, Allocation};
use crate::error::{Error, Result};
use crate::types::MessageQueue;

/// The name of a member, unlike all others of its group.
pub(crate) type MemberId = Arc<str>;

/// Who is to have a queue once its owner lets go.
#[derive(Debug, Clone)]
struct Heir {
    /// Nobody, where the group no longer reads the queue.
    member: Option<MemberId>,
    /// When the owner's time is up, by the monotonic clock.
    until: Duration,
}

/// One queue of a group.
#[derive(Debug, Clone, Default)]
struct Claim {
    owner: Option<MemberId>,
    epoch: u64,
    heir: Option<Heir>,
}

/// Whether messages of a queue may be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// To the owner, with this epoch on them.
    Open(u64),
    /// To nobody; results that carry this epoch still count.
    Closing(u64),
    /// To nobody, and no result counts.
    Shut,
}

/// What is to become of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim<'a> {
    /// Who is to have it.
    pub(crate) target: Option<&'a MemberId>,
    /// Whether its owner has messages in hand.
    pub(crate) busy: bool,
    /// When a busy owner's time is up.
    pub(crate) until: Duration,
}

/// The one map of owners of a group's queues.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    map: BTreeMap<MessageQueue, Claim>,
}

impl Claim {
    /// Gives the queue to somebody, or to nobody.
    fn give(&mut self, member: Option<MemberId>) {
        self.owner = member;
        self.epoch = self.epoch.saturating_add(1);
        self.heir = None;
    }

    const fn gate(&self) -> Gate {
        match (&self.owner, &self.heir) {
            (None, _) => Gate::Shut,
            (Some(_), None) => Gate::Open(self.epoch),
            (Some(_), Some(_)) => Gate::Closing(self.epoch),
        }
    }
}

impl Claims {
    /// Says who is to have a queue, and returns what holds for it now: it changes hands at once unless its owner is
    /// busy.
    pub(crate) fn aim(&mut self, queue: &MessageQueue, aim: Aim<'_>) -> Gate {
        let claim = match self.map.get_mut(queue) {
            Some(known) => known,
            None => self.map.entry(queue.clone()).or_default(),
        };
        if claim.owner.as_ref() == aim.target {
            claim.heir = None;
        } else if claim.owner.is_some() && aim.busy {
            let until = claim.heir.as_ref().map_or(aim.until, |heir| heir.until.min(aim.until));
            claim.heir = Some(Heir { member: aim.target.cloned(), until });
        } else {
            claim.give(aim.target.cloned());
        }
        claim.gate()
    }

    /// Notes that the owner of a queue has nothing in hand any more, or that its time is up: the heir gets it, if there
    /// is one.
    pub(crate) fn let_go(&mut self, queue: &MessageQueue) -> Gate {
        let Some(claim) = self.map.get_mut(queue) else { return Gate::Shut };
        if let Some(heir) = claim.heir.take() {
            claim.give(heir.member);
        }
        claim.gate()
    }

    /// Returns what holds for a queue.
    pub(crate) fn gate(&self, queue: &MessageQueue) -> Gate {
        self.map.get(queue).map_or(Gate::Shut, Claim::gate)
    }

    /// Forgets a queue that is gone.
    pub(crate) fn remove(&mut self, queue: &MessageQueue) {
        self.map.remove(queue);
    }

    /// Returns the queues whose owners' time is up.
    pub(crate) fn overdue(&self, now: Duration) -> Vec<MessageQueue> {
        let is_over = |claim: &Claim| claim.heir.as_ref().is_some_and(|heir| heir.until <= now);
        self.map.iter().filter(|(_, claim)| is_over(claim)).map(|(queue, _)| queue.clone()).collect()
    }

    /// Returns when the next owner's time is up.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.map.values().filter_map(|claim| Some(claim.heir.as_ref()?.until)).min()
    }

    /// Walks through the queues that a member owns and is to keep, sorted, with their epochs.
    pub(crate) fn owned_by(&self, member: &str) -> impl Iterator<Item = (&MessageQueue, u64)> {
        let owned = move |claim: &Claim| {
            claim.heir.is_none() && claim.owner.as_ref().is_some_and(|owner| **owner == *member)
        };
        self.map.iter().filter(move |(_, claim)| owned(claim)).map(|(queue, claim)| (queue, claim.epoch))
    }

    /// Returns the owners of all queues that have one.
    pub(crate) fn owners(&self) -> BTreeMap<MessageQueue, MemberId> {
        let owner = |claim: &Claim| claim.owner.clone();
        self.map.iter().filter_map(|(queue, claim)| Some((queue.clone(), owner(claim)?))).collect()
    }
}

/// A member that queues are allocated to.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) id: MemberId,
    pub(crate) strategy: Arc<dyn AllocateMessageQueueStrategy>,
}

/// Who is to have which queue, as the strategies say.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    pub(crate) of: BTreeMap<MessageQueue, MemberId>,
    /// What each strategy failed with, by member. Who asked it keeps what it has.
    pub(crate) failed: Vec<(MemberId, Error)>,
}

/// Asks the strategies of all members, topic by topic. The candidates must be sorted by their ids, the queues of each
/// topic as queues are.
pub(crate) fn targets(
    candidates: &[Candidate],
    topics: &[Vec<MessageQueue>],
    owners: &BTreeMap<MessageQueue, MemberId>,
) -> Targets {
    let members: Vec<_> = candidates.iter().map(|candidate| Arc::clone(&candidate.id)).collect();
    let mut targets = Targets::default();
    for queues in topics {
        let Some(topic) = queues.first().map(MessageQueue::topic) else { continue };
        for Candidate { id, strategy } in candidates {
            let asked = Allocation { topic, member: id, queues, members: &members, owners };
            let wanted = ask(strategy.as_ref(), &asked).unwrap_or_else(|error| {
                targets.failed.push((Arc::clone(id), error));
                queues.iter().filter(|queue| owners.get(queue) == Some(id)).cloned().collect()
            });
            for queue in wanted {
                if queues.binary_search(&queue).is_ok() {
                    targets.of.entry(queue).or_insert_with(|| Arc::clone(id));
                }
            }
        }
    }
    targets
}

/// Asks one strategy, which may be anybody's code.
fn ask(strategy: &dyn AllocateMessageQueueStrategy, asked: &Allocation<'_>) -> Result<Vec<MessageQueue>> {
    // A panic leaves nothing half done: the strategy only reads what it is given.
    catch_unwind(AssertUnwindSafe(|| strategy.allocate(asked))).unwrap_or_else(|_| {
        Err(Error::config("allocate", format!("the strategy {} panicked", strategy.name())))
    })
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
