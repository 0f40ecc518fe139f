//! What does a simple consumer get of one queue, and what becomes of a message whose lease ends?

use std::sync::Arc;
use std::time::Duration;

use super::lane::Lane;
use super::retry::Retries;
use super::settings::Mode;
use crate::broker::{Position, PullRequest, PullStatus};
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::lease::{Due, Leases, Ledger, Now, Token, Tokens};
use crate::sync::Mutex;
use crate::types::{MessageQueue, QueueOffset};

/// Messages that one look at a queue reads at most (RocketMQ's limit of a pop).
const PAGE: usize = 32;
/// Pages without a wanted message that are looked at before the next queue gets its turn.
const EMPTY_PAGES_MAX: usize = 64;
/// Why a message is among the dead letters whose last lease has ended.
const LAPSED: &str = "not acknowledged before its invisible time was over";

/// One queue, over which messages are given out.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) lane: Arc<Lane>,
    position: Arc<Position>,
    leases: Arc<Leases>,
    ledger: Mutex<Ledger>,
}

/// How messages are given out.
#[derive(Debug, Clone, Copy)]
pub(super) struct GiveRules<'a> {
    pub(super) mode: Mode,
    pub(super) retries: &'a Retries,
    pub(super) tokens: &'a Tokens,
    pub(super) leases_max: usize,
    pub(super) invisible: Duration,
    pub(super) now: Now,
}

/// A message that was given out.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) message: MessageView,
    pub(super) attempt: u32,
    pub(super) token: Token,
}

/// A message that nobody gets any more: it is to be put away.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) message: MessageView,
    /// How often it failed before the attempt that was the last.
    pub(super) times: u32,
    pub(super) reason: &'static str,
}

/// What a look at a queue brought.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) given: Vec<Given>,
    pub(super) given_up: Vec<GivenUp>,
    /// The queue goes on behind what was looked at.
    pub(super) has_more: bool,
}

impl Desk {
    pub(super) fn open(lane: &Arc<Lane>, leases: &Arc<Leases>, now: Now) -> Result<Self> {
        let position = lane.position();
        let ledger = Mutex::new(Ledger::new(&lane.queue, position.get(), leases, now)?);
        Ok(Self { lane: Arc::clone(lane), position, leases: Arc::clone(leases), ledger })
    }

    pub(super) fn queue(&self) -> &MessageQueue {
        &self.lane.queue
    }

    /// Gives out up to `count` messages: those whose lease is over, then new ones. In order, nothing while somebody has
    /// one.
    pub(super) fn give(&self, rules: &GiveRules<'_>, count: usize) -> Result<Look> {
        let mut look = Look::default();
        let mut ledger = self.ledger.lock();
        let in_order = rules.mode == Mode::Orderly;
        // One whose position was moved is replaced by the next look at the group.
        let is_gone = ledger.is_forgotten() || !self.position.is_current();
        if is_gone || (in_order && ledger.is_busy(rules.now.monotonic)) {
            return Ok(look);
        }
        let given = self.give_again(&mut ledger, rules, &mut look, count);
        let given = given.and_then(|()| self.give_new(&mut ledger, rules, &mut look, count));
        let committed = self.commit(&mut ledger);
        // What is given out already must reach somebody; the error comes again.
        let is_empty = look.given.is_empty() && look.given_up.is_empty();
        if is_empty { given.and(committed).map(|()| look) } else { Ok(look) }
    }

    /// Gives out messages whose lease is over.
    fn give_again(
        &self,
        ledger: &mut Ledger,
        rules: &GiveRules<'_>,
        look: &mut Look,
        count: usize,
    ) -> Result<()> {
        let mut in_order = match rules.mode {
            Mode::Concurrent => Vec::new(),
            Mode::Orderly => ledger.due_in_order(),
        }
        .into_iter();
        while look.given.len() < count && !look.is_held_up(rules) {
            let due = match rules.mode {
                Mode::Concurrent => ledger.due(rules.now.monotonic),
                Mode::Orderly => in_order.next(),
            };
            let Some(Due { offset, attempt }) = due else { break };
            match self.lane.read(offset)? {
                Some(message) => {
                    if !self.turn(ledger, rules, look, (message, attempt, true))? {
                        break;
                    }
                }
                // Retention or damage has taken it, and nobody can handle it any more.
                None => ledger.pass_over(&self.leases, offset)?,
            }
        }
        Ok(())
    }

    /// Gives out messages that nobody has had. What the filter does not want counts as consumed (contract V10).
    fn give_new(
        &self,
        ledger: &mut Ledger,
        rules: &GiveRules<'_>,
        look: &mut Look,
        count: usize,
    ) -> Result<()> {
        for _ in 0..EMPTY_PAGES_MAX {
            let wanted = count.saturating_sub(look.given.len()).min(PAGE);
            let count_max = wanted.min(self.leases.room(rules.leases_max));
            if count_max == 0 || look.is_held_up(rules) {
                return Ok(());
            }
            let pulled = self.lane.broker().pull(&PullRequest {
                topic: self.queue().topic(),
                queue_id: self.queue().queue_id(),
                offset: ledger.next(),
                count_max,
                filter: self.lane.filter(),
            })?;
            match pulled.status {
                PullStatus::NoNewMessage => return Ok(()),
                PullStatus::OffsetIllegal if pulled.next_offset == pulled.max_offset => {
                    return self.correct(ledger, pulled.next_offset);
                }
                PullStatus::OffsetIllegal => self.correct(ledger, pulled.next_offset)?,
                PullStatus::Found | PullStatus::NoMatchedMessage => {
                    for message in pulled.messages {
                        if !self.look_at(ledger, rules, look, self.lane.shown(message))? {
                            return Ok(());
                        }
                    }
                    ledger.look_from(pulled.next_offset);
                }
            }
        }
        look.has_more = true;
        Ok(())
    }

    /// Looks at the next message of the queue, and says whether to go on with the one behind it.
    fn look_at(
        &self,
        ledger: &mut Ledger,
        rules: &GiveRules<'_>,
        look: &mut Look,
        message: MessageView,
    ) -> Result<bool> {
        let offset = message.queue_offset();
        if look.is_held_up(rules) {
            return Ok(false);
        }
        let tried = match ledger.known(offset, rules.now.monotonic) {
            // It was leased before the store was opened.
            Some(Some(attempt)) => Some((attempt, true)),
            Some(None) => None,
            // A retried message counts its attempts over all its copies.
            None => Some((message.reconsume_times(), false)),
        };
        if let Some((attempt, again)) = tried
            && !self.turn(ledger, rules, look, (message, attempt, again))?
        {
            return Ok(false);
        }
        ledger.look_from(offset.plus(1));
        Ok(true)
    }

    /// Gives a message out whose turn it is, or sees to it that nobody gets it any more. `false` if there is no room.
    fn turn(
        &self,
        ledger: &mut Ledger,
        rules: &GiveRules<'_>,
        look: &mut Look,
        (message, attempt, again): (MessageView, u32, bool),
    ) -> Result<bool> {
        let offset = message.queue_offset();
        if self.lane.seen().contains(&message) {
            return ledger.pass_over(&self.leases, offset).map(|()| true);
        }
        let last = again && attempt > 0 && rules.is_last(attempt);
        let expired = message.expires_at_millis().is_some_and(|at| at <= rules.now.wall_millis);
        if last || expired {
            let times = if last { attempt.saturating_sub(1) } else { attempt };
            let reason = if last { LAPSED } else { super::expiry::REASON };
            if !ledger.begin_move(&self.leases, &message, attempt) {
                return Ok(false);
            }
            look.given_up.push(GivenUp { message, times, reason });
            return Ok(true);
        }
        let (attempt, token) = (attempt.saturating_add(1), rules.tokens.next());
        let lease = (rules.now, rules.invisible, token);
        let leased = ledger.lease(&self.leases, &message, attempt, lease)?;
        if leased {
            look.given.push(Given { message, attempt, token });
        }
        Ok(leased)
    }

    /// Goes on elsewhere: what lay before is gone, or what was committed lies beyond the end.
    fn correct(&self, ledger: &mut Ledger, next: QueueOffset) -> Result<()> {
        if ledger.move_to(next) {
            return self.lane.broker().commit_position(&self.position, next);
        }
        if next > ledger.next() {
            ledger.look_from(next);
        }
        Ok(())
    }

    /// Commits everything up to the first message that is not acknowledged.
    fn commit(&self, ledger: &mut Ledger) -> Result<()> {
        if let Some(next) = ledger.pass() {
            self.lane.broker().commit_position(&self.position, next)?;
        }
        ledger.drop_passed(&self.leases)
    }

    /// Ends what was begun with a message that was given up: it is stored elsewhere, or comes again then.
    pub(super) fn put_away(&self, offset: QueueOffset, again: Option<Duration>) -> Result<()> {
        let mut ledger = self.ledger.lock();
        ledger.end_move(&self.leases, offset, again)?;
        self.commit(&mut ledger)
    }

    /// Notes that a message is handled. `false` if the token is not that of its lease, or its time is over.
    pub(super) fn acknowledge(&self, place: (QueueOffset, Token), now: Now) -> Result<bool> {
        let mut ledger = self.ledger.lock();
        if !self.position.is_current() || ledger.attempt(place.0, place.1, now).is_none() {
            return Ok(false);
        }
        // It is handled, also where that cannot be noted for the next time.
        let noted = self.lane.seen().note(|| self.lane.read(place.0));
        let acknowledged = ledger.acknowledge(&self.leases, place, now)?;
        self.commit(&mut ledger).and(noted).map(|()| acknowledged)
    }

    /// Grants a lease anew. `false` as for [`acknowledge`](Self::acknowledge).
    pub(super) fn change(
        &self,
        place: (QueueOffset, Token),
        (now, invisible, next): (Now, Duration, Token),
    ) -> Result<bool> {
        let mut ledger = self.ledger.lock();
        Ok(self.position.is_current() && ledger.change(&self.leases, place, (now, invisible, next))?)
    }

    /// Takes a message back from who has it, to be put away. Nothing as for [`acknowledge`](Self::acknowledge).
    pub(super) fn give_up(&self, place: (QueueOffset, Token), now: Now) -> Result<Option<GivenUp>> {
        let mut ledger = self.ledger.lock();
        let attempt = ledger.attempt(place.0, place.1, now).filter(|_| self.position.is_current());
        let Some(attempt) = attempt else { return Ok(None) };
        let Some(message) = self.lane.read(place.0)? else { return Ok(None) };
        // It is leased, so it has its room.
        ledger.begin_move(&self.leases, &message, attempt);
        Ok(Some(GivenUp { message, times: attempt.saturating_sub(1), reason: "" }))
    }

    /// Returns when the end of a lease lets something be given out: in order, only the last one does.
    pub(super) fn next_end(&self, mode: Mode) -> Option<Duration> {
        let ledger = self.ledger.lock();
        match mode {
            Mode::Concurrent => ledger.next_end(),
            Mode::Orderly => ledger.last_end(),
        }
    }

    /// Forgets all leases: the position was moved, or the topic is another one.
    pub(super) fn forget(&self) {
        self.ledger.lock().drop_all(&self.leases);
    }
}

impl GiveRules<'_> {
    /// Tells whether nobody gets a message any more that was tried so often.
    const fn is_last(&self, attempt: u32) -> bool {
        match self.mode {
            Mode::Concurrent => self.retries.is_last(attempt),
            Mode::Orderly => self.retries.is_last_in_place(attempt),
        }
    }
}

impl Look {
    /// Tells whether nothing more is given out before what is given up is elsewhere: in order, what follows has to wait.
    const fn is_held_up(&self, rules: &GiveRules<'_>) -> bool {
        matches!(rules.mode, Mode::Orderly) && !self.given_up.is_empty()
    }
}
