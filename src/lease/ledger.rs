//! Which messages of one queue are leased, which are acknowledged out of turn, and how far has the group come?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Now;
use super::file::{Cell, Leases, Slot, Term, Token, topic_crc};
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::types::{MessageQueue, PhysicalOffset, QueueOffset};

/// The longest that a lease may be granted for, in milliseconds, whatever a file says: 12 hours.
const GRANTED_MILLIS_MAX: u32 = 12 * 3_600 * 1_000;

/// The leases of one queue.
#[derive(Debug)]
pub(crate) struct Ledger {
    queue: MessageQueue,
    topic_crc: u32,
    /// The first message that is not acknowledged, as it was committed last.
    base: QueueOffset,
    /// What lies here and behind has not been looked at.
    next: QueueOffset,
    held: BTreeMap<QueueOffset, Held>,
    /// When each lease ends.
    ends: BTreeSet<(Duration, QueueOffset)>,
    /// Messages that are being put away.
    moving: usize,
    /// Whether everything was forgotten: nothing is given out, and nothing passed, any more.
    forgotten: bool,
}

/// One message that is not passed.
#[derive(Debug, Clone, Copy)]
struct Held {
    slot: Option<Slot>,
    physical_offset: PhysicalOffset,
    store_millis: i64,
    /// How often it was tried, all its copies counted.
    attempt: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody else gets it before this time. Without a token, nobody has it: it waits.
    Leased { until: Duration, token: Option<Token> },
    /// It is given up and being put away.
    Moving,
    /// It is acknowledged, and one before it is not.
    Acknowledged,
}

/// A message whose lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) offset: QueueOffset,
    /// How often it was tried.
    pub(crate) attempt: u32,
}

impl Ledger {
    /// Begins at a committed position, with what the file says of the queue.
    pub(crate) fn new(queue: &MessageQueue, base: QueueOffset, leases: &Leases, now: Now) -> Result<Self> {
        let mut ledger = Self {
            queue: queue.clone(),
            topic_crc: topic_crc(queue.topic()),
            base,
            next: base,
            held: BTreeMap::new(),
            ends: BTreeSet::new(),
            moving: 0,
            forgotten: false,
        };
        for (offset, slot, cell) in leases.take_found(queue.topic(), queue.queue_id()) {
            if offset < base || ledger.held.contains_key(&offset) {
                leases.release(slot)?;
            } else {
                ledger.restore(offset, slot, &cell, now);
            }
        }
        Ok(ledger)
    }

    fn restore(&mut self, offset: QueueOffset, slot: Slot, cell: &Cell, now: Now) {
        let Cell { physical_offset, store_millis, attempt, .. } = *cell;
        let state = match cell.lease {
            None => State::Acknowledged,
            Some(Term { until_millis, granted_millis, token }) => {
                // A clock that was set cannot make a lease longer than it was granted for.
                let left = until_millis.saturating_sub(now.wall_millis);
                let granted = i64::from(granted_millis.min(GRANTED_MILLIS_MAX));
                let left = u64::try_from(left.clamp(0, granted)).unwrap_or(0);
                let until = now.monotonic.saturating_add(Duration::from_millis(left));
                State::Leased { until, token: Some(token) }
            }
        };
        self.set(offset, Held { slot: Some(slot), physical_offset, store_millis, attempt, state });
    }

    /// Returns the place from which on nothing has been looked at.
    pub(crate) const fn next(&self) -> QueueOffset {
        self.next
    }

    /// Goes on elsewhere: everything before was looked at, or is gone.
    pub(crate) const fn look_from(&mut self, next: QueueOffset) {
        self.next = next;
    }

    /// Begins anew elsewhere, if nothing is held.
    pub(crate) fn move_to(&mut self, place: QueueOffset) -> bool {
        if self.held.is_empty() {
            (self.base, self.next) = (place, place);
        }
        self.held.is_empty()
    }

    /// Tells whether somebody has a message of the queue, or may get one back into it: in order, nobody else gets one.
    pub(crate) fn is_busy(&self, now: Duration) -> bool {
        self.moving > 0 || self.ends.last().is_some_and(|(until, _)| *until > now)
    }

    /// Tells whether nothing is known here any more, whoever still has hold of it.
    pub(crate) const fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Returns when the next lease ends.
    pub(crate) fn next_end(&self) -> Option<Duration> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Returns when the last lease ends: before that, nothing comes in order.
    pub(crate) fn last_end(&self) -> Option<Duration> {
        self.ends.last().map(|(until, _)| *until)
    }

    /// Returns the message whose lease ended first.
    pub(crate) fn due(&self, now: Duration) -> Option<Due> {
        let (until, offset) = self.ends.first()?;
        let held = self.held.get(offset)?;
        (*until <= now).then_some(Due { offset: *offset, attempt: held.attempt })
    }

    /// Returns the messages that are not acknowledged, of those that have been looked at, in order. For a queue that is not
    /// busy.
    pub(crate) fn due_in_order(&self) -> Vec<Due> {
        let held = self.held.range(..self.next).filter(|(_, held)| held.state != State::Acknowledged);
        held.map(|(offset, held)| Due { offset: *offset, attempt: held.attempt }).collect()
    }

    /// Returns what is known of a message: nothing, that it need not be looked at now, or how often it was tried.
    pub(crate) fn known(&self, offset: QueueOffset, now: Duration) -> Option<Option<u32>> {
        self.held.get(&offset).map(|held| match held.state {
            State::Leased { until, .. } if until <= now => Some(held.attempt),
            _ => None,
        })
    }

    /// Leases a message, and writes that down. It survives the death of the process when this returns. `false` if there
    /// is no room.
    pub(crate) fn lease(
        &mut self,
        leases: &Leases,
        message: &MessageView,
        attempt: u32,
        (now, invisible, token): (Now, Duration, Token),
    ) -> Result<bool> {
        let offset = message.queue_offset();
        let slot = match self.held.get(&offset).and_then(|held| held.slot) {
            Some(slot) => Some(slot),
            None => leases.reserve(),
        };
        let Some(slot) = slot else { return Ok(false) };
        let held = Held {
            slot: Some(slot),
            physical_offset: message.physical_offset(),
            store_millis: message.store_millis(),
            attempt,
            state: State::Acknowledged,
        };
        self.grant(leases, offset, held, (now, invisible, token))?;
        Ok(true)
    }

    fn grant(
        &mut self,
        leases: &Leases,
        offset: QueueOffset,
        held: Held,
        (now, invisible, token): (Now, Duration, Token),
    ) -> Result<()> {
        let until = now.monotonic.saturating_add(invisible);
        let millis = u32::try_from(invisible.as_millis()).unwrap_or(GRANTED_MILLIS_MAX);
        let until_millis = now.wall_millis.saturating_add(i64::from(millis));
        let term = Term { until_millis, granted_millis: millis, token };
        if let Some(slot) = held.slot {
            leases.put(slot, &self.cell(&held, Some(term)))?;
        }
        self.set(offset, Held { state: State::Leased { until, token: Some(token) }, ..held });
        Ok(())
    }

    fn cell(&self, held: &Held, lease: Option<Term>) -> Cell {
        Cell {
            physical_offset: held.physical_offset,
            store_millis: held.store_millis,
            queue_id: self.queue.queue_id(),
            topic_crc: self.topic_crc,
            attempt: held.attempt,
            lease,
        }
    }

    /// Notes that a message is given up and about to be put away: nobody gets it meanwhile, and the position does not pass
    /// it. `false` if there is no room to write down that it is away.
    pub(crate) fn begin_move(&mut self, leases: &Leases, message: &MessageView, attempt: u32) -> bool {
        let offset = message.queue_offset();
        let known = self.held.get(&offset).and_then(|held| held.slot);
        let Some(slot) = known.or_else(|| leases.reserve()) else { return false };
        let (physical_offset, store_millis) = (message.physical_offset(), message.store_millis());
        let slot = Some(slot);
        self.set(offset, Held { slot, physical_offset, store_millis, attempt, state: State::Moving });
        true
    }

    /// Ends what [`begin_move`](Self::begin_move) began: the message is elsewhere, or waits here until then.
    pub(crate) fn end_move(
        &mut self,
        leases: &Leases,
        offset: QueueOffset,
        again: Option<Duration>,
    ) -> Result<()> {
        let Some(held) = self.held.get(&offset).copied().filter(|held| held.state == State::Moving) else {
            return Ok(());
        };
        match again {
            Some(until) => {
                self.set(offset, Held { state: State::Leased { until, token: None }, ..held });
                Ok(())
            }
            None => self.acknowledged(leases, offset, held),
        }
    }

    /// Notes that nobody need handle a message: it is gone, or was handled before.
    pub(crate) fn pass_over(&mut self, leases: &Leases, offset: QueueOffset) -> Result<()> {
        match self.held.get(&offset).copied() {
            Some(held) => self.acknowledged(leases, offset, held),
            None => Ok(()),
        }
    }

    /// Notes that a message is handled, if the token is that of its lease and its time is not over. Says whether it was.
    pub(crate) fn acknowledge(
        &mut self,
        leases: &Leases,
        (offset, token): (QueueOffset, Token),
        now: Now,
    ) -> Result<bool> {
        let Some(held) = self.leased(offset, token, now) else { return Ok(false) };
        self.acknowledged(leases, offset, held).map(|()| true)
    }

    fn acknowledged(&mut self, leases: &Leases, offset: QueueOffset, held: Held) -> Result<()> {
        self.set(offset, Held { state: State::Acknowledged, ..held });
        match held.slot {
            // What the position passes at once need not be written down. It passes nothing that has not been looked at, such
            // as what was leased before the opening.
            Some(slot) if offset > self.base || offset >= self.next => {
                leases.put(slot, &self.cell(&held, None))
            }
            _ => Ok(()),
        }
    }

    /// Grants a lease anew, from now on and with another token. Says whether it was one.
    pub(crate) fn change(
        &mut self,
        leases: &Leases,
        (offset, token): (QueueOffset, Token),
        (now, invisible, next): (Now, Duration, Token),
    ) -> Result<bool> {
        let Some(held) = self.leased(offset, token, now) else { return Ok(false) };
        self.grant(leases, offset, held, (now, invisible, next)).map(|()| true)
    }

    /// Returns the number of the attempt of a message, if the token is that of its lease and its time is not over.
    pub(crate) fn attempt(&self, offset: QueueOffset, token: Token, now: Now) -> Option<u32> {
        self.leased(offset, token, now).map(|held| held.attempt)
    }

    fn leased(&self, offset: QueueOffset, token: Token, now: Now) -> Option<Held> {
        let held = self.held.get(&offset)?;
        let is_its = matches!(held.state, State::Leased { until, token: Some(known) } if known == token && until > now.monotonic);
        is_its.then_some(*held)
    }

    /// Passes what is acknowledged at the front, and returns where the group is now if it has moved on. The places in the
    /// file go with [`drop_passed`](Self::drop_passed), once that is committed.
    pub(crate) fn pass(&mut self) -> Option<QueueOffset> {
        let mut held = self.held.iter();
        let first = held.find(|(_, held)| held.state != State::Acknowledged).map(|(offset, _)| *offset);
        // Restored ones may lie beyond what has been looked at.
        let place = first.map_or(self.next, |first| first.min(self.next)).max(self.base);
        let moved = place > self.base;
        self.base = place;
        moved.then_some(place)
    }

    /// Forgets what the position has passed.
    pub(crate) fn drop_passed(&mut self, leases: &Leases) -> Result<()> {
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() >= self.base {
                break;
            }
            if let Some(slot) = entry.remove().slot {
                leases.release(slot)?;
            }
        }
        Ok(())
    }

    /// Forgets everything: the position was moved from outside, or the topic is another one.
    pub(crate) fn drop_all(&mut self, leases: &Leases) {
        self.ends.clear();
        self.moving = 0;
        // Who is about to commit has nothing to commit: what was not acknowledged is not passed.
        self.next = self.base;
        self.forgotten = true;
        for (_, held) in std::mem::take(&mut self.held) {
            if let Some(slot) = held.slot {
                // What cannot be emptied is found to be out of date by the next opening.
                let _ = leases.release(slot);
            }
        }
    }

    fn set(&mut self, offset: QueueOffset, held: Held) {
        match self.held.insert(offset, held).map(|before| before.state) {
            Some(State::Leased { until, .. }) => drop(self.ends.remove(&(until, offset))),
            Some(State::Moving) => self.moving = self.moving.saturating_sub(1),
            Some(State::Acknowledged) | None => {}
        }
        match held.state {
            State::Leased { until, .. } => drop(self.ends.insert((until, offset))),
            State::Moving => self.moving = self.moving.saturating_add(1),
            State::Acknowledged => {}
        }
    }
}
