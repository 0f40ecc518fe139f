//! How do a message and the acknowledgement of another one survive together, or not at all?
//!
//! The acknowledgement travels in a property of the message that is sent, `group topic queue next`: so it is in the log
//! whenever the message is. The position itself moves in memory at once, and in its file only when the message is on disk,
//! so that it never says more than the log. After a crash the opening reads the acknowledgements that the log holds and
//! raises the positions to them.
//!
//! `pocketmq/acks` (two slots, 8 bytes each) is made by the first such message. It says from which byte of the log on
//! acknowledgements may not be in the file of positions yet: earlier ones must not be read again, because somebody may
//! have moved a position back since.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{Broker, Position, PositionKey, Stored};
use crate::commitlog::FlushWait;
use crate::config::FlushPolicy;
use crate::error::{Error, Result};
use crate::message::properties::name;
use crate::message::record::Record;
use crate::storage::{Disk, TwoSlots};
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::types::{BrokerName, GroupName, QueueOffset, TopicName};

const FILE: &str = "acks";
const LEN: usize = 8;

/// An acknowledgement that is to travel with a message.
#[derive(Debug, Clone)]
pub(crate) struct JoinedAck {
    /// The broker that has the position: the message goes there too.
    pub(crate) broker: BrokerName,
    pub(crate) key: PositionKey,
    pub(crate) position: Arc<Position>,
    /// Where the group is once the message is stored.
    pub(crate) next: QueueOffset,
}

impl JoinedAck {
    /// Returns the value of the property in which it travels.
    pub(crate) fn property(&self) -> String {
        let PositionKey { topic, group, queue_id } = &self.key;
        format!("{group} {topic} {queue_id} {}", self.next)
    }
}

/// What a broker knows of acknowledgements that travel.
#[derive(Debug, Default)]
pub(super) struct Joined {
    slots: Mutex<Option<TwoSlots>>,
    /// Held by whoever stores such a message; alone by whoever moves a position.
    moving: RwLock<()>,
    /// Where the log ended before each of those that are being stored.
    under_way: Mutex<Vec<u64>>,
    /// What the file says.
    from: AtomicU64,
}

/// The acknowledgements that an opening finds in the log.
#[derive(Debug, Default)]
pub(super) struct FoundAcks {
    from: u64,
    next: HashMap<PositionKey, QueueOffset>,
}

impl FoundAcks {
    /// Begins where the file says; nothing where there never was such a message.
    pub(super) fn peek(disk: &Arc<dyn Disk>, own: &Path) -> Result<Option<Self>> {
        if disk.metadata(&own.join(FILE))?.is_none() {
            return Ok(None);
        }
        let slots = TwoSlots::open(disk, &own.join(FILE), own, LEN)?;
        let stored =
            slots.load().and_then(|bytes| bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)));
        // A file that says nothing was being made, and no such message has been stored.
        Ok(stored.map(|from| Self { from, next: HashMap::new() }))
    }

    /// Returns from where on the log has to be read.
    pub(super) const fn from(&self) -> u64 {
        self.from
    }

    /// Takes note of what a record acknowledges.
    pub(super) fn note(&mut self, record: &Record<'_>) {
        if record.physical_offset().get() < self.from {
            return;
        }
        if let Some((key, next)) = record.properties().get(name::ACK).and_then(parse) {
            let known = self.next.entry(key).or_insert(next);
            *known = next.max(*known);
        }
    }

    /// Raises positions to what was acknowledged. One that does not exist any more is left alone.
    pub(super) fn raise(&self, positions: &mut [(PositionKey, QueueOffset)]) {
        for (key, offset) in positions {
            if let Some(next) = self.next.get(key) {
                *offset = (*next).max(*offset);
            }
        }
    }
}

fn parse(value: &str) -> Option<(PositionKey, QueueOffset)> {
    let mut words = value.split(' ');
    let group = GroupName::stored(words.next()?).ok()?;
    let topic = TopicName::new(words.next()?).ok()?;
    let queue_id = words.next()?.parse().ok()?;
    let next = QueueOffset::new(words.next()?.parse().ok()?);
    words.next().is_none().then_some((PositionKey { topic, group, queue_id }, next))
}

impl Joined {
    /// Keeps messages that carry acknowledgements out, while a position is moved.
    pub(super) fn keep_out(&self) -> RwLockWriteGuard<'_, ()> {
        self.moving.write()
    }

    /// Returns the byte before which every acknowledgement will be in the file of positions once those are settled and
    /// written whose messages are on disk.
    pub(super) fn mark(&self, end: u64) -> u64 {
        // Looked at after the end was taken: what begins from here on is stored behind it.
        self.under_way.lock().iter().copied().min().map_or(end, |first| first.min(end))
    }

    /// Says from where on acknowledgements may be missing in the file of positions. Durable on return.
    fn store(&self, from: u64) -> Result<()> {
        if let Some(slots) = &*self.slots.lock()
            && self.from.load(Ordering::Acquire) != from
        {
            slots.store(&from.to_be_bytes())?;
            slots.sync()?;
            self.from.store(from, Ordering::Release);
        }
        Ok(())
    }

    fn is_used(&self) -> bool {
        self.slots.lock().is_some()
    }
}

/// A message with an acknowledgement that is being stored.
struct UnderWay<'a> {
    joined: &'a Joined,
    start: u64,
    _moving: RwLockReadGuard<'a, ()>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.joined.under_way.lock();
        if let Some(place) = under_way.iter().position(|start| *start == self.start) {
            under_way.swap_remove(place);
        }
    }
}

impl Broker {
    /// Goes on with a file of acknowledgements that is there, from the end of the log: what was before is in the positions.
    pub(super) fn continue_joined(&self) -> Result<()> {
        if self.has_own(FILE)? {
            self.open_joined()?;
        }
        Ok(())
    }

    /// Opens the file, making it where it is missing. Durable on return.
    fn open_joined(&self) -> Result<()> {
        let mut slots = self.joined.slots.lock();
        if slots.is_none() {
            let opened = self.open_slots(FILE, LEN)?;
            let end = self.log.end().get();
            opened.store(&end.to_be_bytes())?;
            opened.sync()?;
            self.joined.from.store(end, Ordering::Release);
            *slots = Some(opened);
        }
        Ok(())
    }

    /// Stores a message, by `put`, that carries an acknowledgement, and moves the position. `put` must not wait for a
    /// flush; this does, where `waits` says so.
    ///
    /// # Errors
    ///
    /// Those of a put: nothing is acknowledged then, unless the outcome is `MayExist`, where the next opening decides about
    /// both. `InvalidReceipt` where the position was moved meanwhile: nothing is stored.
    pub(crate) fn put_joined(
        &self,
        ack: &JoinedAck,
        waits: bool,
        put: impl FnOnce() -> Result<Stored>,
    ) -> Result<Stored> {
        self.check_writable()?;
        self.open_joined()?;
        let stored = {
            let _under_way = self.begin_joined();
            if !ack.position.is_current() {
                let moved = "of a message whose group was moved to another place meanwhile";
                return Err(Error::InvalidReceipt(moved.into()));
            }
            let stored = put()?;
            self.positions.commit_behind(&ack.position, ack.next, stored.end.get());
            stored
        };
        let (mut flushed, waits) = (FlushWait::Flushed, waits && self.config.flush == FlushPolicy::Sync);
        if waits {
            flushed = self.wait_for_flush(stored.end, self.flush_deadline())?;
            self.settle_positions();
        } else if self.config.flush == FlushPolicy::Sync {
            self.kick_flush();
        }
        Ok(Stored { flushed, waited: waits, ..stored })
    }

    fn begin_joined(&self) -> UnderWay<'_> {
        let moving = self.joined.moving.read();
        let mut under_way = self.joined.under_way.lock();
        // Under the lock: whoever marks the log's end before this finds a start that lies no further back.
        let start = self.log.end().get();
        under_way.push(start);
        UnderWay { joined: &self.joined, start, _moving: moving }
    }

    /// Stores a position. It survives the death of the process when this returns, and power loss after the next persist.
    /// Where one before it still waits for the flush of its message, this flushes.
    pub(crate) fn commit_position(&self, position: &Position, next: QueueOffset) -> Result<()> {
        // Who goes back is not to be raised again by what the log acknowledges.
        let _alone = if next < position.get() { Some(self.settle_for_move()?) } else { None };
        if let Some(end) = position.waits_for() {
            if self.log.flushed().get() < end {
                self.flush_and_dispatch()?;
            }
            self.settle_positions();
        }
        self.positions.commit(position, next)
    }

    /// Stores a position that passes nothing but what nobody wants: it may be on disk later.
    pub(crate) fn pass_position(&self, position: &Arc<Position>, next: QueueOffset) -> Result<()> {
        match position.waits_for() {
            Some(end) => {
                self.positions.commit_behind(position, next, end);
                self.settle_positions();
                Ok(())
            }
            None => self.positions.commit(position, next),
        }
    }

    /// Writes the positions whose messages are on disk. Costs a load when none waits. Returns the byte before which every
    /// acknowledgement is in their file, where some are not.
    pub(super) fn settle_positions(&self) -> Option<u64> {
        if self.positions.any_waits() { self.positions.settle(self.log.flushed().get()) } else { None }
    }

    /// Notes that all acknowledgements before a byte are on disk with the positions.
    pub(super) fn note_joined(&self, from: u64) -> Result<()> {
        self.joined.store(from.max(self.joined.from.load(Ordering::Acquire)))
    }

    /// Writes, into a copy whose positions are taken afterwards, from where on its log may acknowledge more than its positions do.
    pub(super) fn copy_joined(&self, disk: &Arc<dyn Disk>, own: &Path) -> Result<()> {
        if !self.joined.is_used() {
            return Ok(());
        }
        let slots = TwoSlots::open(disk, &own.join(FILE), own, LEN)?;
        slots.store(&self.joined.from.load(Ordering::Acquire).to_be_bytes())?;
        slots.sync()
    }

    /// Sees to it that what the log acknowledges by now is not acknowledged again by the next opening, and keeps such
    /// messages out: for whoever moves positions.
    ///
    /// # Errors
    ///
    /// `FlushFailed`, `Io`: nothing may be moved then.
    pub(super) fn settle_for_move(&self) -> Result<RwLockWriteGuard<'_, ()>> {
        let alone = self.joined.keep_out();
        if self.joined.is_used() {
            let flushed = self.flush_and_dispatch()?;
            self.settle_positions();
            self.positions.sync()?;
            self.note_joined(flushed.get())?;
        }
        Ok(alone)
    }

    /// Moves a position from outside. See [`Positions::reset`](super::Positions::reset).
    pub(crate) fn reset_position(&self, key: &PositionKey, next: QueueOffset) -> Result<()> {
        let _alone = self.settle_for_move()?;
        self.positions.reset(key, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_read_as_it_travels_and_nothing_else_is_one() {
        let (topic, group) = (TopicName::new("orders").unwrap(), GroupName::new("billing").unwrap());
        let key = PositionKey { topic, group, queue_id: 3 };
        assert_eq!(parse("billing orders 3 17"), Some((key, QueueOffset::new(17))));
        for wrong in
            ["", "billing orders 3", "billing orders x 17", "b o 3 17 1", "b  3 17", "b o/ 3 17", "b o 3 -1"]
        {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
