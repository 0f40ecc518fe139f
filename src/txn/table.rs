//! Which half messages of a broker are undecided, and when is somebody to be asked about each?
//!
//! The topic of half messages is the truth; this is what is known of its part that is not done with. Everything before
//! `seen` is either here or decided. A decision that comes before the half message has been seen waits in `ahead`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::message::MessageId;
use crate::sync::{AtomicU8, AtomicU64, Ordering};
use crate::types::{GroupName, PhysicalOffset, QueueOffset};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Committed,
    RolledBack,
    /// Nobody knew after all checks.
    GivenUp,
    /// Its half message is not there any more, or has nowhere to go.
    Gone,
}

/// What a transaction's handle and its checks hold of it: where the half message is now, and how it ended.
#[derive(Debug)]
pub(crate) struct Ticket {
    at: AtomicU64,
    ended: AtomicU8,
}

impl Ticket {
    pub(super) fn new(at: QueueOffset) -> Arc<Self> {
        Arc::new(Self { at: AtomicU64::new(at.get()), ended: AtomicU8::new(0) })
    }

    /// Makes the ticket of a transaction that was decided before anybody could hold it.
    pub(super) fn lost(at: QueueOffset) -> Arc<Self> {
        let ticket = Self::new(at);
        ticket.end(Ended::Gone);
        ticket
    }

    /// Returns the offset of the half message. Changes only under the lock of the table.
    pub(super) fn at(&self) -> QueueOffset {
        QueueOffset::new(self.at.load(Ordering::Acquire))
    }

    /// Returns how the transaction ended, `None` while it is undecided.
    pub(crate) fn ended(&self) -> Option<Ended> {
        match self.ended.load(Ordering::Acquire) {
            1 => Some(Ended::Committed),
            2 => Some(Ended::RolledBack),
            3 => Some(Ended::GivenUp),
            4 => Some(Ended::Gone),
            _ => None,
        }
    }

    fn end(&self, ended: Ended) {
        let number = match ended {
            Ended::Committed => 1,
            Ended::RolledBack => 2,
            Ended::GivenUp => 3,
            Ended::Gone => 4,
        };
        self.ended.store(number, Ordering::Release);
    }
}

/// One undecided half message.
#[derive(Debug, Clone)]
pub(super) struct Half {
    pub(super) physical: PhysicalOffset,
    pub(super) id: MessageId,
    pub(super) group: GroupName,
    /// How often a producer was asked.
    pub(super) checks: u32,
    /// When a producer is to be asked next, on the monotonic clock; `None` while one is being asked.
    pub(super) due: Option<Duration>,
    /// When the half message is stored once more so that its file may go.
    pub(super) carry_at: Duration,
    pub(super) ticket: Arc<Ticket>,
}

/// Up to where everything is done with, and which part of the log must be flushed before that may be said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) halves: QueueOffset,
    pub(super) ops: QueueOffset,
    pub(super) log_end: PhysicalOffset,
}

/// The undecided half messages of one broker.
#[derive(Debug, Default)]
pub(super) struct Table {
    halves: BTreeMap<QueueOffset, Half>,
    /// Of each group the half messages that wait for a check, by the time at which they are due.
    waiting: HashMap<GroupName, BTreeSet<(Duration, QueueOffset)>>,
    /// Everything before this has been looked at.
    pub(super) seen: QueueOffset,
    ahead: HashSet<QueueOffset>,
    /// Half messages that are decided, or stored once more, and not written down as such yet.
    pub(super) unwritten: BTreeSet<QueueOffset>,
    /// Whether anything was begun or decided since the store was opened.
    pub(super) touched: bool,
    /// Every decision that is written concerns a half message before this.
    pub(super) named: QueueOffset,
    /// Up to where decisions were written at some time, and which half messages they concern: those before the other place.
    pub(super) ops_mark: Option<(QueueOffset, QueueOffset)>,
    /// What the positions say.
    pub(super) done: (QueueOffset, QueueOffset),
    /// What they shall say when the log is flushed.
    pub(super) pending: Option<Done>,
}

impl Table {
    /// Starts empty, with both topics done with up to here.
    pub(super) fn starting_at(halves: QueueOffset, ops: QueueOffset) -> Self {
        Self { seen: halves, done: (halves, ops), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.halves.len()
    }

    pub(super) fn get(&self, at: QueueOffset) -> Option<&Half> {
        self.halves.get(&at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (QueueOffset, &Half)> {
        self.halves.iter().map(|(at, half)| (*at, half))
    }

    /// Lists a half message, unless it is listed or decided already. Returns its ticket.
    pub(super) fn insert(&mut self, at: QueueOffset, half: Half) -> Arc<Ticket> {
        if let Some(known) = self.halves.get(&at) {
            return Arc::clone(&known.ticket);
        }
        let ticket = Arc::clone(&half.ticket);
        if let Some(due) = half.due {
            self.waiting.entry(half.group.clone()).or_default().insert((due, at));
        }
        self.halves.insert(at, half);
        ticket
    }

    /// Tells whether the half message at this place is known: listed, or decided before it was seen.
    pub(super) fn knows(&self, at: QueueOffset) -> bool {
        self.halves.contains_key(&at) || self.ahead.contains(&at)
    }

    /// Moves on behind a half message that has been looked at.
    pub(super) fn pass(&mut self, at: QueueOffset) {
        self.ahead.remove(&at);
        self.seen = at.plus(1);
    }

    /// Takes a half message off the list: it is decided, or stored elsewhere.
    pub(super) fn remove(&mut self, at: QueueOffset) -> Option<Half> {
        let half = self.halves.remove(&at)?;
        self.unlist(&half, at);
        if at >= self.seen {
            self.ahead.insert(at);
        }
        Some(half)
    }

    /// Ends a transaction.
    pub(super) fn end(&mut self, at: QueueOffset, ended: Ended) {
        if let Some(half) = self.remove(at) {
            half.ticket.end(ended);
        }
    }

    /// Has a half message lie elsewhere: it was stored once more.
    pub(super) fn move_to(&mut self, from: QueueOffset, (to, half): (QueueOffset, Half)) {
        self.remove(from);
        half.ticket.at.store(to.get(), Ordering::Release);
        self.insert(to, half);
    }

    /// Sets when a half message is due; never while somebody is being asked about it.
    pub(super) fn set_due(&mut self, at: QueueOffset, due: Option<Duration>) {
        let Some(half) = self.halves.get_mut(&at) else { return };
        let before = half.clone();
        half.due = due;
        let group = half.group.clone();
        self.unlist(&before, at);
        if let Some(due) = due {
            self.waiting.entry(group).or_default().insert((due, at));
        }
    }

    /// Takes back a check that was counted and not made.
    pub(super) fn uncount(&mut self, at: QueueOffset) {
        if let Some(half) = self.halves.get_mut(&at) {
            half.checks = half.checks.saturating_sub(1);
        }
    }

    fn unlist(&mut self, half: &Half, at: QueueOffset) {
        let Some(due) = half.due else { return };
        if let Some(of_group) = self.waiting.get_mut(&half.group) {
            of_group.remove(&(due, at));
            if of_group.is_empty() {
                self.waiting.remove(&half.group);
            }
        }
    }

    /// Returns the groups that have half messages waiting for a check.
    pub(super) fn groups(&self) -> Vec<GroupName> {
        self.waiting.keys().cloned().collect()
    }

    /// Returns the half message of a group that is due first, and when.
    pub(super) fn first_due(&self, group: &GroupName) -> Option<(Duration, QueueOffset)> {
        self.waiting.get(group)?.first().copied()
    }

    /// Returns the oldest half message if it has to be carried on by now.
    pub(super) fn first_to_carry(&self, now: Duration) -> Option<QueueOffset> {
        let (at, half) = self.halves.first_key_value()?;
        (half.carry_at <= now).then_some(*at)
    }

    /// Returns the first place of the topic that is not done with.
    pub(super) fn first_undone(&self) -> QueueOffset {
        let undecided = self.halves.keys().next().copied();
        let unwritten = self.unwritten.first().copied();
        self.seen.min(undecided.unwrap_or(self.seen)).min(unwritten.unwrap_or(self.seen))
    }

    /// Returns how many decisions wait for their half message to be seen.
    pub(super) fn ahead(&self) -> usize {
        self.ahead.len()
    }
}
