//! How much waits in a queue for the groups that are registered for it?

use std::collections::HashMap;
use std::sync::Arc;

use super::{Broker, Position};
use crate::consumequeue::ConsumeQueue;
use crate::error::Result;
use crate::types::{QueueOffset, TopicName, to_u64};

/// Units that are read at once.
const PAGE: usize = 1_000;

/// What waits somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), bytes: self.bytes.saturating_add(other.bytes) }
    }

    const fn less(self, other: Self) -> Self {
        Self { count: self.count.saturating_sub(other.count), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// What waits in one queue, as it was counted last: only what has changed is counted again.
#[derive(Debug)]
pub(super) struct Tally {
    queue: Arc<ConsumeQueue>,
    /// Where each group stands. A group that has committed in another queue of the topic only stands at the beginning.
    positions: Vec<Option<Arc<Position>>>,
    low: QueueOffset,
    end: QueueOffset,
    bytes: u64,
    /// Whether anybody asks for bytes, for which every unit is read.
    counts_bytes: bool,
}

impl Tally {
    fn new(queue: Arc<ConsumeQueue>, counts_bytes: bool) -> Self {
        let low = queue.min_offset();
        Self { queue, positions: Vec::new(), low, end: low, bytes: 0, counts_bytes }
    }

    /// Returns the queue.
    pub(super) const fn queue(&self) -> &Arc<ConsumeQueue> {
        &self.queue
    }

    /// Returns the first place whose message waits.
    fn first_waiting(&self) -> QueueOffset {
        let place = |position: &Option<Arc<Position>>| {
            position.as_ref().map_or(QueueOffset::ZERO, |position| position.get())
        };
        let slowest = self.positions.iter().map(place).min().unwrap_or_default();
        slowest.max(self.queue.min_offset()).min(self.queue.max_offset())
    }

    /// Counts what waits now.
    pub(super) fn count(&mut self) -> Result<Amount> {
        let (low, end) = (self.first_waiting(), self.queue.max_offset());
        if self.counts_bytes {
            if low < self.low || end < self.end || low > self.end {
                // A group went back, or the queue was made anew, or all that was counted is done.
                self.bytes = self.bytes_between(low, end)?;
            } else {
                let gone = self.bytes_between(self.low, low)?;
                let new = self.bytes_between(self.end, end)?;
                self.bytes = self.bytes.saturating_add(new).saturating_sub(gone);
            }
        }
        (self.low, self.end) = (low, end);
        Ok(self.amount())
    }

    fn amount(&self) -> Amount {
        Amount { count: self.end.since(self.low), bytes: self.bytes }
    }

    fn bytes_between(&self, from: QueueOffset, to: QueueOffset) -> Result<u64> {
        let (mut at, mut bytes) = (from, 0_u64);
        let mut units = Vec::new();
        while at < to {
            units.clear();
            let count = usize::try_from(to.since(at)).unwrap_or(PAGE).min(PAGE);
            self.queue.read(at, count, &mut units)?;
            if units.is_empty() {
                break;
            }
            let sizes = units.iter().filter(|unit| !unit.is_blank()).map(|unit| u64::from(unit.size));
            bytes = bytes.saturating_add(sizes.sum());
            at = at.plus(to_u64(units.len()));
        }
        Ok(bytes)
    }

    /// Returns where in the log the oldest message lies that waits.
    pub(super) fn oldest(&self) -> Result<Option<u64>> {
        Ok(self.queue.physical_from(self.low)?.map(crate::types::PhysicalOffset::get))
    }

    /// Returns the place up to which the oldest messages must go so that `excess` of them is gone, but none that lies at
    /// or behind `until` in the log; at least the oldest one goes.
    pub(super) fn place_behind(&self, excess: Amount, until: u64) -> Result<QueueOffset> {
        let (mut at, mut gone) = (self.low, Amount::default());
        let mut units = Vec::new();
        while at < self.end && (gone.count < excess.count || gone.bytes < excess.bytes) {
            units.clear();
            self.queue.read(at, 1, &mut units)?;
            let Some(unit) = units.first() else { break };
            if at > self.low && unit.physical_offset.get() >= until {
                break;
            }
            gone = gone.plus(Amount { count: 1, bytes: u64::from(unit.size) });
            at = at.plus(1);
        }
        Ok(at)
    }

    /// Counts what groups had not consumed before a place, once for each group.
    pub(super) fn unconsumed_before(&self, place: QueueOffset) -> u64 {
        let from = |position: &Option<Arc<Position>>| {
            let at = position.as_ref().map_or(QueueOffset::ZERO, |position| position.get());
            at.max(self.queue.min_offset())
        };
        self.positions.iter().map(|position| place.since(from(position))).sum()
    }
}

/// What waits in the queues of one limit.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    list: Vec<Tally>,
    /// The state of the tables of queues and positions for which the list was made.
    made_for: Option<(u64, u64)>,
}

impl Tallies {
    /// Lists the queues that `chosen` chooses and the positions in them, where any were added or removed.
    pub(super) fn follow(
        &mut self,
        broker: &Broker,
        counts_bytes: bool,
        chosen: &dyn Fn(&ConsumeQueue) -> bool,
    ) {
        let now = (broker.queues.changes(), broker.positions.changes());
        if self.made_for == Some(now) {
            return;
        }
        let positions = broker.positions.by_queue();
        let mut known: HashMap<(TopicName, u32), Tally> = std::mem::take(&mut self.list)
            .into_iter()
            .map(|tally| ((tally.queue.topic().clone(), tally.queue.queue_id()), tally))
            .collect();
        for queue in broker.queues.all().into_iter().filter(|queue| chosen(queue)) {
            let key = (queue.topic().clone(), queue.queue_id());
            let mut tally = match known.remove(&key) {
                Some(tally) if Arc::ptr_eq(&tally.queue, &queue) => tally,
                _ => Tally::new(queue, counts_bytes),
            };
            tally.positions = positions.of(&key.0, key.1);
            self.list.push(tally);
        }
        self.made_for = Some(now);
    }

    /// Counts what waits in all of them.
    pub(super) fn count(&mut self) -> Result<Amount> {
        let mut sum = Amount::default();
        for tally in &mut self.list {
            sum = sum.plus(tally.count()?);
        }
        Ok(sum)
    }

    /// Chooses the oldest messages that must go for `excess` to be gone, from the queue in which the oldest lies, as far
    /// as they are the oldest of all. `None` if nothing waits.
    pub(super) fn oldest(&self, excess: Amount) -> Result<Option<(&Tally, QueueOffset)>> {
        let mut heads = Vec::with_capacity(self.list.len());
        for tally in &self.list {
            heads.extend(tally.oldest()?.map(|at| (at, tally)));
        }
        heads.sort_by_key(|(at, _)| *at);
        let Some((_, oldest)) = heads.first() else { return Ok(None) };
        let until = heads.get(1).map_or(u64::MAX, |(at, _)| *at);
        Ok(Some((oldest, oldest.place_behind(excess, until)?)))
    }
}

/// Returns what is above a limit.
pub(super) fn excess(waiting: Amount, count_max: u64, bytes_max: u64) -> Amount {
    waiting.less(Amount { count: count_max, bytes: bytes_max })
}
