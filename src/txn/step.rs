//! What is done about undecided transactions now and then?
//!
//! One step looks at new half messages, has those checked that are due, stores once more what has lain for long, and says
//! how far everything is done with, behind the flush of what says so.

use std::sync::Arc;
use std::time::Duration;

use super::checks::{CheckJob, CheckPool, Place};
use super::table::{Done, Ended, Half, Table};
use super::{Decision, LocalTransactionState, Ticket, Transactions};
use crate::error::Result;
use crate::events::transaction_given_up;
use crate::types::QueueOffset;

/// How soon to look again where a producer has no room for another check.
const WHEN_FULL: Duration = Duration::from_millis(100);
/// How soon to look again where something is not said to be done with yet.
const WHEN_UNSETTLED: Duration = Duration::from_secs(1);
/// Half messages that one step stores once more because they have lain for long.
const CARRIED_MAX: usize = 1_000;

/// What a step did, and when the next one has something to do.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Stepped {
    /// How long it is until something is to be done; `None` where nothing is undecided.
    pub(crate) next: Option<Duration>,
}

impl Stepped {
    fn wait(&mut self, wait: Duration) {
        self.next = Some(self.next.map_or(wait, |other| other.min(wait)));
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        if let Some(wait) = other.next {
            self.wait(wait);
        }
        self
    }
}

/// A check that is to be made: by whom, of what.
type Asked = (Arc<CheckPool>, Place, CheckJob);

impl Transactions {
    /// Does what is due. Where the store takes nothing, checks are made later.
    ///
    /// # Errors
    ///
    /// The first one of a put or a read.
    pub(crate) fn step(self: &Arc<Self>) -> (Stepped, Result<()>) {
        let mut stepped = Stepped::default();
        if self.broker.check_writable().is_err() {
            return (stepped, Ok(()));
        }
        let mut asked = Vec::new();
        let mut table = self.table.lock();
        let worked = self.work(&mut table, &mut stepped, &mut asked);
        if worked.is_err() {
            stepped.wait(WHEN_UNSETTLED);
        }
        drop(table);
        // Without the lock: a pool that is closing gives its jobs back at once.
        for (pool, place, job) in asked {
            pool.ask(place, job);
        }
        *self.trouble.lock() = worked.as_ref().err().map(|error| format!("transactions: {error}"));
        (stepped, worked)
    }

    fn work(
        self: &Arc<Self>,
        table: &mut Table,
        stepped: &mut Stepped,
        asked: &mut Vec<Asked>,
    ) -> Result<()> {
        self.look(table, &mut Vec::new())?;
        self.write_unwritten(table)?;
        // What cannot be done for one half message keeps nothing from the others.
        let mut worked = self.carry(table);
        let now = self.clock.monotonic();
        for group in table.groups() {
            while let Some((due, at)) = table.first_due(&group) {
                let Some(pool) = self.checkers.of(&group) else {
                    break;
                };
                if due > now {
                    stepped.wait(due.saturating_sub(now));
                    break;
                }
                let Some(place) = pool.reserve() else {
                    stepped.wait(WHEN_FULL);
                    break;
                };
                match self.check(table, at) {
                    Ok(job) => asked.extend(job.map(|job| (pool, place, job))),
                    Err(error) => {
                        table.set_due(at, Some(now.saturating_add(WHEN_UNSETTLED)));
                        worked = worked.and(Err(error));
                    }
                }
            }
        }
        worked.and(self.settle(table, stepped))
    }

    /// Has a half message checked: stores it once more with one check more, which survives a crash, and makes the job.
    /// One that was checked often enough is given up.
    fn check(self: &Arc<Self>, table: &mut Table, at: QueueOffset) -> Result<Option<CheckJob>> {
        let Some(half) = table.get(at).cloned() else { return Ok(None) };
        let Some(view) = self.broker.half_at(half.physical, at) else {
            table.end(at, Ended::Gone);
            return Ok(None);
        };
        if half.checks >= self.policy.checks_max {
            self.broker.put_given_up(&view, half.checks)?;
            transaction_given_up(&half.group, &half.id, &half.checks);
            table.end(at, Ended::GivenUp);
            table.unwritten.insert(at);
            self.write_unwritten(table)?;
            return Ok(None);
        }
        let ticket = Arc::clone(&half.ticket);
        let checked = Half { checks: half.checks.saturating_add(1), due: None, ..half };
        let Some(at) = self.store_again(table, (at, checked))? else { return Ok(None) };
        // What the listener sees is the new one, but for what a flush still has to show.
        let message = table.get(at).and_then(|half| self.broker.half_at(half.physical, at)).unwrap_or(view);
        Ok(Some(CheckJob::new(self, &ticket, message.showing_original_topic())))
    }

    /// Stores a half message once more, and says of the old one that it is done with. Returns the new place; nothing
    /// where its topic was deleted, which ends the transaction.
    fn store_again(
        &self,
        table: &mut Table,
        (from, half): (QueueOffset, Half),
    ) -> Result<Option<QueueOffset>> {
        let Some(view) = self.broker.half_at(half.physical, from) else {
            table.end(from, Ended::Gone);
            return Ok(None);
        };
        let target = crate::broker::target_of(&view);
        if target.is_none_or(|(topic, _)| self.broker.is_deleted_with(&topic, half.physical)) {
            // The copy would lie behind the deletion, and be taken for a message of a new topic.
            table.end(from, Ended::Gone);
            table.unwritten.insert(from);
            return self.write_unwritten(table).map(|()| None);
        }
        let stored = self.broker.put_half_again(&view, half.checks)?;
        let to = stored.queue_offset;
        let carry_at = self.clock.monotonic().saturating_add(self.carry_after());
        let moved = Half { physical: stored.physical_offset, carry_at, ..half };
        table.move_to(from, (to, moved));
        // Crash: before the old one is written down both are undecided, and the next opening takes the newer one.
        table.unwritten.insert(from);
        self.write_unwritten(table)?;
        Ok(Some(to))
    }

    /// Stores once more what has lain for long, so that the log need not be kept for it.
    fn carry(&self, table: &mut Table) -> Result<()> {
        let now = self.clock.monotonic();
        for _ in 0..CARRIED_MAX {
            let Some(at) = table.first_to_carry(now) else { break };
            if let Some(half) = table.get(at).cloned() {
                self.store_again(table, (at, half))?;
            }
        }
        Ok(())
    }

    /// Says how far both topics are done with. What says so must be flushed first: else a power loss could take a
    /// decision and leave the word that nobody need look for it.
    fn settle(&self, table: &mut Table, stepped: &mut Stepped) -> Result<()> {
        if let Some(done) = table.pending
            && self.broker.flushed() >= done.log_end
        {
            self.say(table, done)?;
        }
        if table.pending.is_none() {
            let done = self.done_by_now(table);
            if (done.halves, done.ops) != table.done {
                table.pending = Some(done);
            }
        }
        if table.pending.is_some() || table.len() > 0 {
            stepped.wait(WHEN_UNSETTLED);
        }
        Ok(())
    }

    /// Returns how far both topics are done with, and what must be flushed before that may be said.
    fn done_by_now(&self, table: &mut Table) -> Done {
        // Decisions are written under the table's lock: all that are taken are in the log by now.
        let log_end = self.broker.log_range().1;
        let (_, ops_end) = self.broker.queue_range(&self.ops, 0).unwrap_or_default();
        let halves = table.first_undone();
        let written = (ops_end, table.named);
        let (mark, named) = *table.ops_mark.get_or_insert(written);
        let mut ops = table.done.1;
        if halves >= named {
            ops = ops.max(mark);
            table.ops_mark = None;
        }
        Done { halves, ops, log_end }
    }

    fn say(&self, table: &mut Table, done: Done) -> Result<()> {
        self.broker.set_transactions_done(&self.halves, done.halves)?;
        self.broker.set_transactions_done(&self.ops, done.ops)?;
        table.done = (done.halves, done.ops);
        table.pending = None;
        Ok(())
    }

    /// Writes down how far both topics are done with, before the store closes.
    pub(crate) fn persist(&self) -> Result<()> {
        if self.broker.check_writable().is_err() {
            return Ok(());
        }
        let mut table = self.table.lock();
        self.look(&mut table, &mut Vec::new())?;
        self.write_unwritten(&mut table)?;
        if !table.touched {
            // A folder that was only opened stays as it is.
            return Ok(());
        }
        let mut done = self.done_by_now(&mut table);
        if table.ops_mark.is_none() {
            // Once for an older mark, once for now.
            done = self.done_by_now(&mut table);
        }
        if (done.halves, done.ops) == table.done {
            return Ok(());
        }
        self.broker.wait_for_flush(done.log_end, None)?;
        self.say(&mut table, done)
    }

    /// Takes the answer to a check. What cannot be stored now is asked again.
    pub(super) fn answered(&self, ticket: &Ticket, answer: LocalTransactionState) {
        let decision = match answer {
            LocalTransactionState::Commit => Some(Decision::Commit),
            LocalTransactionState::Rollback => Some(Decision::Rollback),
            LocalTransactionState::Unknown => None,
        };
        if let Some(decision) = decision {
            // Refused: somebody else was faster. Anything else: undecided still, and due again below.
            let _ = self.decide(ticket, decision);
        }
        let due = self.clock.monotonic().saturating_add(self.policy.check_interval);
        let mut table = self.table.lock();
        if ticket.ended().is_none() {
            table.set_due(ticket.at(), Some(due));
        }
    }

    /// Takes back a check that nobody made: it does not count, and is due at once.
    pub(super) fn give_back(&self, ticket: &Ticket) {
        let now = self.clock.monotonic();
        let mut table = self.table.lock();
        if ticket.ended().is_none() {
            table.uncount(ticket.at());
            table.set_due(ticket.at(), Some(now));
        }
    }
}
