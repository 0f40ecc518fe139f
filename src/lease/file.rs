//! How do the leases of a group survive the death of the process?
//!
//! `pocketmq/leases-<group>` starts with 64 bytes, the first eight of which are `PMQLEA01`. Then come cells of 64 bytes,
//! each for a message that is leased, or that is acknowledged while one before it in its queue is not:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | CRC-32 of the rest; a cell without it holds nothing |
//! | 4 | 1: leased, 2: acknowledged |
//! | 8 | physical offset of the message |
//! | 8 | its store time |
//! | 4 | its queue number |
//! | 4 | CRC-32 of its topic's name |
//! | 8 | when the lease ends, in milliseconds since 1970 |
//! | 4 | for how many milliseconds it was granted |
//! | 4 | number of the attempt |
//! | 16 | token of the receipt |
//!
//! Every cell is a statement about a message that never changes. One that is out of date, or lost with the power, lets a
//! message come again, or wait until its time is over; it never hides one that was not acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::broker::Broker;
use crate::error::Result;
use crate::storage::MappedFile;
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::types::{GroupName, PhysicalOffset, QueueOffset, TopicName, to_u64};

const MAGIC: [u8; 8] = *b"PMQLEA01";
const HEADER_LEN: usize = 64;
const CELL_LEN: usize = 64;
/// Messages that a group may have leased on one broker, or acknowledged out of turn.
pub(crate) const CELLS: usize = 16_384;
const FILE_LEN: usize = HEADER_LEN + CELL_LEN * CELLS;
const LEASED: u32 = 1;
const ACKNOWLEDGED: u32 = 2;

/// What makes a receipt: nobody can guess it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

/// Makes tokens.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Keyed by the system's randomness, and never shown.
    keys: [RandomState; 2],
    count: AtomicU64,
}

impl Tokens {
    pub(crate) fn next(&self) -> Token {
        // Ordering: a number dispenser; nothing is published through it.
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut token = [0; 16];
        let halves = self.keys.iter().flat_map(|keys| keys.hash_one(number).to_be_bytes());
        token.iter_mut().zip(halves).for_each(|(to, from)| *to = from);
        Token(token)
    }
}

/// What the file says of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) physical_offset: PhysicalOffset,
    pub(crate) store_millis: i64,
    pub(crate) queue_id: u32,
    pub(crate) topic_crc: u32,
    pub(crate) attempt: u32,
    /// `None` once it is acknowledged.
    pub(crate) lease: Option<Term>,
}

/// How long a message is leased, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) until_millis: i64,
    pub(crate) granted_millis: u32,
    pub(crate) token: Token,
}

/// Where a cell lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

/// What was found in the file of one queue: each with the place of its message.
pub(crate) type Found = Vec<(QueueOffset, Slot, Cell)>;

/// The leases of one group on one broker.
#[derive(Debug)]
pub(crate) struct Leases {
    map: Arc<MappedFile>,
    free: Mutex<Vec<Slot>>,
    /// What was found at opening, until its queue is first looked at.
    found: Mutex<HashMap<(TopicName, u32), Found>>,
}

impl Leases {
    /// Opens the leases of a group, and drops those whose messages are gone.
    ///
    /// # Errors
    ///
    /// `Io`, `StoreFull`.
    pub(crate) fn open(broker: &Broker, group: &GroupName) -> Result<Self> {
        let map = broker.map_own(&name(group), to_u64(FILE_LEN))?;
        let leases = Self { map, free: Mutex::default(), found: Mutex::default() };
        if leases.map.bytes(0..8) != Some(&MAGIC) {
            leases.map.put(HEADER_LEN, &vec![0; FILE_LEN.saturating_sub(HEADER_LEN)])?;
            leases.map.put(0, &MAGIC)?;
        }
        let mut free = Vec::new();
        let mut found: HashMap<_, Found> = HashMap::new();
        for (slot, cell) in cells(&leases.map) {
            match cell.map(|cell| (cell, place_of(broker, &cell))) {
                Some((cell, Some((topic, offset)))) => {
                    found.entry((topic, cell.queue_id)).or_default().push((offset, slot, cell));
                }
                // Empty, torn, or of a message that nobody can receive any more.
                _ => free.push(slot),
            }
        }
        // The first ones first, so that few pages of the file are ever touched.
        free.reverse();
        *leases.free.lock() = free;
        *leases.found.lock() = found;
        Ok(leases)
    }

    /// Takes what was found of one queue at the opening. Each place is the caller's from then on.
    pub(crate) fn take_found(&self, topic: &TopicName, queue_id: u32) -> Found {
        self.found.lock().remove(&(topic.clone(), queue_id)).unwrap_or_default()
    }

    /// Returns how many messages more can be leased.
    pub(crate) fn room(&self, limit: usize) -> usize {
        let free = self.free.lock().len();
        // What was found of queues from which nobody receives gives way.
        let unclaimed: usize = self.found.lock().values().map(Vec::len).sum();
        limit.saturating_sub(CELLS.saturating_sub(free).saturating_sub(unclaimed))
    }

    /// Takes a free place, or one of a queue from which nobody has received since the opening.
    pub(crate) fn reserve(&self) -> Option<Slot> {
        let free = self.free.lock().pop();
        free.or_else(|| self.found.lock().values_mut().find_map(Vec::pop).map(|(_, slot, _)| slot))
    }

    /// Writes a cell. It survives the death of the process when this returns.
    pub(crate) fn put(&self, slot: Slot, cell: &Cell) -> Result<()> {
        self.map.put(position(slot), &encode(cell))
    }

    /// Empties a cell and gives its place back.
    pub(crate) fn release(&self, slot: Slot) -> Result<()> {
        // Not while it still says something: whoever gets the place overwrites it.
        self.map.put(position(slot), &[0; CELL_LEN])?;
        self.free.lock().push(slot);
        Ok(())
    }
}

fn name(group: &GroupName) -> String {
    format!("leases-{group}")
}

/// Forgets what a group has leased and acknowledged out of turn in a queue: its position has been moved from outside.
pub(crate) fn forget(broker: &Broker, group: &GroupName, topic: &TopicName, queue_id: u32) -> Result<()> {
    let topic_crc = topic_crc(topic);
    empty(broker, group, |cell| cell.queue_id == queue_id && cell.topic_crc == topic_crc)
}

/// Forgets everything that a group has leased.
pub(crate) fn forget_group(broker: &Broker, group: &GroupName) -> Result<()> {
    empty(broker, group, |_| true)
}

fn empty(broker: &Broker, group: &GroupName, unwanted: impl Fn(&Cell) -> bool) -> Result<()> {
    let name = name(group);
    if !broker.has_own(&name)? {
        return Ok(());
    }
    let map = broker.map_own(&name, to_u64(FILE_LEN))?;
    for (slot, cell) in cells(&map) {
        if cell.is_some_and(|cell| unwanted(&cell)) {
            map.put(position(slot), &[0; CELL_LEN])?;
        }
    }
    Ok(())
}

/// Returns the topic and the place of the message that a cell names, if it is still the one that was leased.
fn place_of(broker: &Broker, cell: &Cell) -> Option<(TopicName, QueueOffset)> {
    let message = broker.message_at(cell.physical_offset)?;
    let topic = TopicName::new(message.record().topic()).ok()?;
    let is_same = message.store_millis() == cell.store_millis
        && message.queue_id() == cell.queue_id
        && topic_crc(&topic) == cell.topic_crc;
    let offset = message.queue_offset();
    // A topic that was deleted and made again has other messages in these places.
    let listed = broker.unit_in(&topic, cell.queue_id, offset).ok().flatten()?;
    (is_same && listed.physical_offset == cell.physical_offset).then_some((topic, offset))
}

pub(super) fn topic_crc(topic: &TopicName) -> u32 {
    crc32fast::hash(topic.as_str().as_bytes())
}

fn position(slot: Slot) -> usize {
    crate::types::to_usize(u64::from(slot.0)).saturating_mul(CELL_LEN).saturating_add(HEADER_LEN)
}

fn cells(map: &MappedFile) -> Vec<(Slot, Option<Cell>)> {
    // A copy: cells may be written while they are read.
    let bytes = map.bytes(HEADER_LEN..FILE_LEN).unwrap_or_default().to_vec();
    (0..).map(Slot).zip(bytes.as_chunks::<CELL_LEN>().0.iter().map(decode)).collect()
}

fn encode(cell: &Cell) -> [u8; CELL_LEN] {
    let (state, term) = match cell.lease {
        Some(term) => (LEASED, term),
        None => (ACKNOWLEDGED, Term { until_millis: 0, granted_millis: 0, token: Token([0; 16]) }),
    };
    let rest = [
        &state.to_be_bytes()[..],
        &cell.physical_offset.get().to_be_bytes(),
        &cell.store_millis.to_be_bytes(),
        &cell.queue_id.to_be_bytes(),
        &cell.topic_crc.to_be_bytes(),
        &term.until_millis.to_be_bytes(),
        &term.granted_millis.to_be_bytes(),
        &cell.attempt.to_be_bytes(),
        &term.token.0,
    ]
    .concat();
    let mut bytes = [0; CELL_LEN];
    let crc = crc32fast::hash(&rest).to_be_bytes();
    bytes.iter_mut().zip(crc.into_iter().chain(rest)).for_each(|(to, from)| *to = from);
    bytes
}

fn decode(bytes: &[u8; CELL_LEN]) -> Option<Cell> {
    let (crc, rest) = bytes.split_first_chunk()?;
    if crc32fast::hash(rest.get(..60)?) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (state, rest) = rest.split_first_chunk()?;
    let (physical, rest) = rest.split_first_chunk()?;
    let (store_millis, rest) = rest.split_first_chunk()?;
    let (queue_id, rest) = rest.split_first_chunk()?;
    let (topic_crc, rest) = rest.split_first_chunk()?;
    let (until, rest) = rest.split_first_chunk()?;
    let (granted, rest) = rest.split_first_chunk()?;
    let (attempt, rest) = rest.split_first_chunk()?;
    let term = Term {
        until_millis: i64::from_be_bytes(*until),
        granted_millis: u32::from_be_bytes(*granted),
        token: Token(*rest.first_chunk()?),
    };
    let lease = match u32::from_be_bytes(*state) {
        LEASED => Some(term),
        ACKNOWLEDGED => None,
        _ => return None,
    };
    Some(Cell {
        physical_offset: PhysicalOffset::new(u64::from_be_bytes(*physical)),
        store_millis: i64::from_be_bytes(*store_millis),
        queue_id: u32::from_be_bytes(*queue_id),
        topic_crc: u32::from_be_bytes(*topic_crc),
        attempt: u32::from_be_bytes(*attempt),
        lease,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(lease: Option<Term>) -> Cell {
        let physical_offset = PhysicalOffset::new(4_711);
        Cell { physical_offset, store_millis: 17, queue_id: 3, topic_crc: 99, attempt: 2, lease }
    }

    #[test]
    fn a_cell_is_read_as_it_was_written_and_a_torn_one_holds_nothing() {
        let term = Term { until_millis: -5, granted_millis: 60_000, token: Token([7; 16]) };
        for known in [cell(Some(term)), cell(None)] {
            let bytes = encode(&known);
            assert_eq!(decode(&bytes), Some(known));
            for place in 0..CELL_LEN {
                let mut torn = bytes;
                torn[place] ^= 0x40;
                assert_eq!(decode(&torn), None, "byte {place}");
            }
        }
        assert_eq!(decode(&[0; CELL_LEN]), None);
    }

    #[test]
    fn tokens_differ_and_are_not_shown() {
        let tokens = Tokens::default();
        let made: std::collections::HashSet<_> = (0..1_000).map(|_| tokens.next().0).collect();
        assert_eq!(made.len(), 1_000);
        assert_ne!(Tokens::default().next(), Tokens::default().next());
        assert_eq!(format!("{:?}", tokens.next()), "Token");
    }
}
