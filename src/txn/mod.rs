//! HALF, OP, CHECK: what is undecided, how is it decided once and for all, and who is asked when nobody decides?
//!
//! A half message is stored first. Then local work is done, and its outcome decides: a commit stores the message in its
//! topic, and either way a record says that the half message is decided. Whoever comes first decides: the producer, the
//! answer to a check, an operator. A half message whose decision does not come is checked: it is stored once more, with
//! the number of its checks, and a producer of its group is asked.
//!
//! Everything about a transaction is in the log, so it goes on after a crash, here or in a broker of RocketMQ's.

mod checks;
mod listener;
mod load;
mod step;
mod table;
#[cfg(test)]
mod tests;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use checks::{CheckPool, Checkers, PoolSize};
pub use listener::{LocalTransactionState, TransactionListener};
pub(crate) use step::Stepped;
pub(crate) use table::{Ended, Ticket};
use table::{Half, Table};
pub(crate) use worker::Worker;

use crate::broker::{Broker, Committed, PutMessage, Stored, TopicOfBroker, WaitForFlush};
use crate::clock::Clock;
use crate::commitlog::MessageView;
use crate::config::TransactionPolicy;
use crate::error::{Error, Result};
use crate::message::properties::name;
use crate::message::{MessageId, Properties};
use crate::sync::{Arrivals, Mutex, OnceLock};
use crate::types::{GroupName, HALF_TOPIC, OP_TOPIC, QueueOffset, TopicName};

/// Decisions that may wait for their half message to be seen before whoever decides looks himself.
const AHEAD_MAX: usize = 65_536;
/// How long a half message lies before it is stored once more, so that retention is not held up.
const CARRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// How a transaction is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Commit,
    Rollback,
}

/// An undecided transaction as an operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Undecided {
    pub(crate) group: GroupName,
    pub(crate) checks: u32,
    pub(crate) message: MessageView,
}

/// The transactions of one broker.
pub(crate) struct Transactions {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
    policy: TransactionPolicy,
    checkers: Arc<Checkers>,
    /// Told when there is something to look after again.
    arrivals: Arc<Arrivals>,
    halves: TopicName,
    ops: TopicName,
    table: Mutex<Table>,
    trouble: Mutex<Option<String>>,
    /// Told of a topic that had to be made for a message.
    made: OnceLock<TopicMade>,
}

/// Told of a topic that had to be made for a message.
type TopicMade = Box<dyn Fn(&TopicName) + Send + Sync>;

impl fmt::Debug for Transactions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let undecided = self.table.lock().len();
        formatter.debug_struct("Transactions").field("undecided", &undecided).finish_non_exhaustive()
    }
}

impl Transactions {
    /// Finds what is undecided in a broker, whoever began it. Says in `warnings` what was odd. Writes nothing.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`.
    pub(crate) fn open(
        broker: &Arc<Broker>,
        (clock, policy): (&Arc<dyn Clock>, TransactionPolicy),
        (checkers, arrivals): (&Arc<Checkers>, &Arc<Arrivals>),
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let this = Self {
            broker: Arc::clone(broker),
            clock: Arc::clone(clock),
            policy,
            checkers: Arc::clone(checkers),
            arrivals: Arc::clone(arrivals),
            halves: TopicName::new(HALF_TOPIC)?,
            ops: TopicName::new(OP_TOPIC)?,
            table: Mutex::default(),
            trouble: Mutex::default(),
            made: OnceLock::new(),
        };
        let loaded = this.load(warnings)?;
        *this.table.lock() = loaded;
        Ok(this)
    }

    /// Says who is told of a topic that had to be made for a message, because the folder does not list it. The first one
    /// stays.
    pub(crate) fn tell_of_topics(&self, told: TopicMade) {
        let _ = self.made.set(told);
    }

    /// Tells whether something is undecided, or decided and not written down.
    pub(crate) fn has_work(&self) -> bool {
        let table = self.table.lock();
        table.len() > 0 || !table.unwritten.is_empty()
    }

    /// Returns the broker.
    pub(crate) const fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Begins a transaction: stores the half message. Blocks as a put does.
    ///
    /// # Errors
    ///
    /// Those of a put; `StoreBusy` where too many are undecided.
    pub(crate) fn begin(
        &self,
        to: (&TopicOfBroker, u32),
        message: &PutMessage<'_>,
        group: &GroupName,
        wait: WaitForFlush,
    ) -> Result<(Stored, Arc<Ticket>)> {
        let max = self.policy.undecided_max;
        if self.table.lock().len() >= max {
            let reason = format!(
                "{max} transactions are undecided: decide some, wait for their checks, or raise undecided_max"
            );
            return Err(Error::StoreBusy(reason.into()));
        }
        let id = message.index_texts.unique.and_then(MessageId::from_hex);
        let immunity = self.immunity_of(Properties::new(message.properties));
        let stored = self.broker.put_half(to, message, group, wait)?;
        let now = self.clock.monotonic();
        let at = stored.queue_offset;
        let ticket = Ticket::new(at);
        let half = Half {
            physical: stored.physical_offset,
            id: id.unwrap_or_else(|| {
                crate::message::ids::offset_id(self.broker.host(), stored.physical_offset)
            }),
            group: group.clone(),
            checks: 0,
            due: Some(now.saturating_add(immunity)),
            carry_at: now.saturating_add(self.carry_after()),
            ticket: Arc::clone(&ticket),
        };
        let mut table = self.table.lock();
        table.touched = true;
        let ticket = if at < table.seen && table.get(at).is_none() {
            // A check was faster than this, which needs an immunity of nothing.
            Ticket::lost(at)
        } else {
            table.insert(at, half)
        };
        drop(table);
        self.arrivals.notify();
        Ok((stored, ticket))
    }

    /// Decides a transaction, once: the first decision counts, and the same one again changes nothing. Blocks as a put
    /// does, under sync flush also for the flush.
    ///
    /// # Errors
    ///
    /// `TransactionRefused` where it ended otherwise; `TopicNotFound` for a commit whose topic was deleted, which ends
    /// the transaction; those of a put: it is undecided then, and will be checked.
    pub(crate) fn decide(&self, ticket: &Ticket, decision: Decision) -> Result<()> {
        let mut made = None;
        let decided = self.decide_locked(ticket, decision, &mut made);
        if let (Some(topic), Some(told)) = (made, self.made.get()) {
            told(&topic);
        }
        let (end, result) = decided?;
        if let Some(stored) = end {
            // Whether the flush was in time changes nothing: what a power loss takes is checked again.
            self.broker.settle_transaction(&stored)?;
        }
        result
    }

    fn commit(&self, view: &MessageView, made: &mut Option<TopicName>) -> Result<Committed> {
        let topic = view.original_topic();
        if self.broker.topic(topic).is_none() {
            *made = TopicName::new(topic).ok();
        }
        self.broker.put_committed(view)
    }

    fn decide_locked(
        &self,
        ticket: &Ticket,
        decision: Decision,
        made: &mut Option<TopicName>,
    ) -> Result<(Option<Stored>, Result<()>)> {
        let mut table = self.table.lock();
        if let Some(ended) = ticket.ended() {
            return refuse(ended, decision).map(|()| (None, Ok(())));
        }
        let at = ticket.at();
        self.write_unwritten(&mut table)?;
        let view = table.get(at).and_then(|half| self.broker.half_at(half.physical, at));
        let Some(view) = view else {
            table.end(at, Ended::Gone);
            return Err(refused("its half message is not there any more"));
        };
        if table.ahead() >= AHEAD_MAX {
            self.look(&mut table, &mut Vec::new())?;
        }
        let committed = match decision {
            Decision::Commit => Some(self.commit(&view, made)?),
            Decision::Rollback => None,
        };
        let written = self.write_op(&mut table, at);
        match (committed, written) {
            (Some(Committed::TopicDeleted), written) => {
                written?;
                table.end(at, Ended::Gone);
                let topic = view.original_topic();
                Ok((None, Err(Error::TopicNotFound(topic.into()))))
            }
            (Some(Committed::Stored(message)), written) => {
                // Crash: between the message and this record the commit is repeated by a check (contract D12).
                let last = written.unwrap_or_else(|_| {
                    table.unwritten.insert(at);
                    message
                });
                table.end(at, Ended::Committed);
                Ok((Some(last), Ok(())))
            }
            (None, written) => {
                let last = written?;
                table.end(at, Ended::RolledBack);
                Ok((Some(last), Ok(())))
            }
        }
    }

    fn write_op(&self, table: &mut Table, at: QueueOffset) -> Result<Stored> {
        table.touched = true;
        table.named = table.named.max(at.plus(1));
        self.broker.put_op(at)
    }

    /// Writes down what is decided, or stored once more, and could not be written down before.
    fn write_unwritten(&self, table: &mut Table) -> Result<()> {
        while let Some(at) = table.unwritten.first().copied() {
            self.write_op(table, at)?;
            table.unwritten.remove(&at);
        }
        Ok(())
    }

    /// Lists what is undecided: at most so many, oldest first.
    pub(crate) fn undecided(&self, count_max: usize) -> Result<Vec<Undecided>> {
        let mut table = self.table.lock();
        self.look(&mut table, &mut Vec::new())?;
        let found = table.iter().filter_map(|(at, half)| {
            let message = self.broker.half_at(half.physical, at)?.showing_original_topic();
            Some(Undecided { group: half.group.clone(), checks: half.checks, message })
        });
        Ok(found.take(count_max).collect())
    }

    /// Finds an undecided transaction by the unique id of its message.
    pub(crate) fn find(&self, id: MessageId) -> Result<Option<Arc<Ticket>>> {
        let mut table = self.table.lock();
        self.look(&mut table, &mut Vec::new())?;
        let found = table.iter().find(|(_, half)| half.id == id);
        Ok(found.map(|(_, half)| Arc::clone(&half.ticket)))
    }

    /// Makes a message undecided again that was given up: it is checked as if it had never been.
    ///
    /// # Errors
    ///
    /// Those of a put; `TopicNotFound` where its topic was deleted since, `InvalidArgument` where it is undecided.
    pub(crate) fn bring_back(&self, given_up: &MessageView) -> Result<()> {
        let target = crate::broker::target_of(given_up);
        if target.is_none_or(|(topic, _)| self.broker.is_deleted_with(&topic, given_up.physical_offset())) {
            // The copy would lie behind the deletion, and be taken for a message of a new topic (contract D20).
            return Err(Error::TopicNotFound(given_up.original_topic().into()));
        }
        // Under the lock until it is listed: of two who bring one back at once, the second one finds it.
        let mut table = self.table.lock();
        self.look(&mut table, &mut Vec::new())?;
        if table.iter().any(|(_, half)| half.id == given_up.message_id()) {
            return Err(Error::argument("id", "the transaction is undecided: nothing needs to come back"));
        }
        let stored = self.broker.put_half_again(given_up, 0)?;
        self.broker.settle_transaction(&stored)?;
        let result = self.look(&mut table, &mut Vec::new());
        drop(table);
        self.arrivals.notify();
        result
    }

    /// Returns what kept the last step from its work.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Returns how long nobody is asked about a message.
    fn immunity_of(&self, properties: Properties<'_>) -> Duration {
        let own = properties.get(name::CHECK_IMMUNITY).and_then(|seconds| seconds.parse().ok());
        own.map_or(self.policy.immunity, Duration::from_secs)
    }

    /// Returns how long a half message may lie: well within the time after which its file may go.
    fn carry_after(&self) -> Duration {
        self.broker.messages_kept_for().map_or(CARRY_AFTER, |kept| CARRY_AFTER.min(kept / 2))
    }
}

/// Lets a decision pass that was taken before, and refuses another one.
fn refuse(ended: Ended, decision: Decision) -> Result<()> {
    match (ended, decision) {
        (Ended::Committed, Decision::Commit) | (Ended::RolledBack, Decision::Rollback) => Ok(()),
        (Ended::Committed, Decision::Rollback) => Err(refused("it is committed already")),
        (Ended::RolledBack, Decision::Commit) => Err(refused("it is rolled back already")),
        (Ended::GivenUp, _) => Err(refused(
            "nobody knew its outcome when it was checked, so it was given up: bring it back with Admin::resume_half_message",
        )),
        (Ended::Gone, _) => Err(refused("it is decided already, or its half message is gone")),
    }
}

fn refused(reason: &str) -> Error {
    Error::TransactionRefused(reason.into())
}
