//! Which messages has a group handled lately, and how does that survive the death of the process?
//!
//! `pocketmq/handled-<group>` is a ring of cells that are overwritten, the oldest first. It starts with 64 bytes: the
//! eight of `PMQDUP01`, a number of 8 bytes that makes the hashes of this file its own, and 8 bytes that tell whether
//! hashing still works as it did. A cell is 32 bytes:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | CRC-32 of the rest; a cell without it holds nothing |
//! | 4 | zeros |
//! | 8 | when the message was handled, in milliseconds since 1970 |
//! | 16 | hash of the message's id or keys |

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::SameBy;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::storage::MappedFile;
use crate::sync::Mutex;
use crate::types::{GroupName, to_u64};

const MAGIC: [u8; 8] = *b"PMQDUP01";
const HEADER_LEN: usize = 64;
const CELL_LEN: usize = 32;
/// Messages that are remembered, at most.
const CELLS: usize = 32_768;
const FILE_LEN: usize = HEADER_LEN + CELL_LEN * CELLS;

type Hash = [u8; 16];

/// What one group has handled.
#[derive(Debug)]
pub(crate) struct Handled {
    same_by: SameBy,
    window_millis: i64,
    clock: Arc<dyn Clock>,
    seed: u64,
    map: Arc<MappedFile>,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// When each was handled.
    known: HashMap<Hash, i64>,
    /// What each cell holds.
    cells: Vec<Option<(Hash, i64)>>,
    next: usize,
}

impl Handled {
    /// Opens what a group has handled, in the folder of a broker.
    ///
    /// # Errors
    ///
    /// `Io`, `StoreFull`.
    pub(crate) fn open(
        broker: &Broker,
        clock: &Arc<dyn Clock>,
        group: &GroupName,
        (same_by, window): (SameBy, Duration),
    ) -> Result<Self> {
        let map = broker.map_own(&format!("handled-{group}"), to_u64(FILE_LEN))?;
        let seed = match seed_of(&map) {
            Some(seed) => seed,
            None => make(&map)?,
        };
        let ring = Mutex::new(Ring::read(&map));
        let window_millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        Ok(Self { same_by, window_millis, clock: Arc::clone(clock), seed, map, ring })
    }

    /// Tells whether the group has handled this message, or the same one, within the window.
    pub(crate) fn contains(&self, message: &MessageView) -> bool {
        let Some(hash) = self.hash_of(message) else { return false };
        let since = self.clock.wall_millis().saturating_sub(self.window_millis);
        self.ring.lock().known.get(&hash).is_some_and(|when| *when >= since)
    }

    /// Notes that the group has handled a message. It survives the death of the process when this returns, and power
    /// loss once the system has written it out by itself.
    pub(crate) fn insert(&self, message: &MessageView) -> Result<()> {
        let Some(hash) = self.hash_of(message) else { return Ok(()) };
        let now = self.clock.wall_millis();
        let mut ring = self.ring.lock();
        let place = ring.take_cell(hash, now);
        self.map.put(HEADER_LEN.saturating_add(place.saturating_mul(CELL_LEN)), &encode(&hash, now))
    }

    fn hash_of(&self, message: &MessageView) -> Option<Hash> {
        Some(hash(self.seed, self.same_by.text_of(message)?.as_bytes()))
    }
}

impl Ring {
    fn read(map: &MappedFile) -> Self {
        let mut ring = Self { cells: vec![None; CELLS], ..Self::default() };
        let bytes = map.bytes(HEADER_LEN..FILE_LEN).unwrap_or_default().to_vec();
        let mut newest = i64::MIN;
        for (place, cell) in bytes.as_chunks::<CELL_LEN>().0.iter().enumerate() {
            let Some((hash, when)) = decode(cell) else { continue };
            if let Some(held) = ring.cells.get_mut(place) {
                *held = Some((hash, when));
            }
            ring.known.entry(hash).and_modify(|known| *known = when.max(*known)).or_insert(when);
            if when >= newest {
                newest = when;
                ring.next = place.saturating_add(1);
            }
        }
        ring.next %= CELLS;
        ring
    }

    /// Returns the cell for a message, and forgets the one that was there.
    fn take_cell(&mut self, hash: Hash, now: i64) -> usize {
        let place = self.next;
        self.next = place.saturating_add(1) % CELLS;
        if let Some(held) = self.cells.get_mut(place)
            && let Some((old, when)) = held.replace((hash, now))
            && self.known.get(&old) == Some(&when)
        {
            self.known.remove(&old);
        }
        self.known.insert(hash, now);
        place
    }
}

fn encode(hash: &Hash, when: i64) -> [u8; CELL_LEN] {
    let mut cell = [0; CELL_LEN];
    let rest = [&[0; 4][..], &when.to_be_bytes(), hash].concat();
    let crc = crc32fast::hash(&rest).to_be_bytes();
    for (place, byte) in cell.iter_mut().zip(crc.into_iter().chain(rest)) {
        *place = byte;
    }
    cell
}

fn decode(cell: &[u8; CELL_LEN]) -> Option<(Hash, i64)> {
    let (crc, rest) = cell.split_first_chunk()?;
    if crc32fast::hash(rest) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (when, hash) = rest.get(4..)?.split_first_chunk()?;
    let when = i64::from_be_bytes(*when);
    // A cell of zeros has no checksum of zeros, but be sure.
    (when != 0).then_some((*hash.first_chunk()?, when))
}

/// Hashes a text with the number of the file: nobody who does not know it can make two texts alike.
fn hash(seed: u64, text: &[u8]) -> Hash {
    let half = |number: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        hasher.write_u64(number);
        hasher.write(text);
        hasher.finish().to_be_bytes()
    };
    let mut whole = Hash::default();
    for (place, byte) in whole.iter_mut().zip(half(0).into_iter().chain(half(1))) {
        *place = byte;
    }
    whole
}

/// Returns what tells whether a later version hashes as this one.
fn probe(seed: u64) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = hash(seed, b"pocketmq");
    [a, b, c, d, e, f, g, h]
}

/// Returns the number of the file, if it is one and its hashes can still be made.
fn seed_of(map: &MappedFile) -> Option<u64> {
    let header = map.bytes(0..HEADER_LEN)?.to_vec();
    let (magic, rest) = header.split_first_chunk::<8>()?;
    let (seed, rest) = rest.split_first_chunk::<8>()?;
    let seed = u64::from_be_bytes(*seed);
    (*magic == MAGIC && *rest.first_chunk::<8>()? == probe(seed)).then_some(seed)
}

/// Makes the file anew, with nothing in it.
fn make(map: &MappedFile) -> Result<u64> {
    let seed = RandomState::new().hash_one(0_u64);
    map.put(HEADER_LEN, &vec![0; FILE_LEN.saturating_sub(HEADER_LEN)])?;
    map.put(0, &[&MAGIC[..], &seed.to_be_bytes(), &probe(seed)].concat())?;
    Ok(seed)
}
