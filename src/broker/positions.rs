//! How far has each consumer group come, and how does that survive the death of the process?
//!
//! Every committed position is a cell in a mapped file of ours, so a commit is one store into memory that outlives
//! the process (contract D10), and RocketMQ's `consumerOffset.json` is written from it every few seconds.
//! `pocketmq/positions` starts with 64 bytes, the first eight of which are `PMQPOS01`. Then come entries:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | length of the entry, a multiple of 8; 0 ends the file; written last |
//! | 4 | CRC-32 of everything from the queue number to the end of the group's name |
//! | 8 | the position: the next queue offset to consume |
//! | 4 | queue number |
//! | 2 | length of the topic's name |
//! | 2 | length of the group's name |
//! | n | topic, group, zeros up to the length |

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::positions_json::PositionsJson;
use crate::error::{Error, Result};
use crate::storage::{Access, Disk, Durable, MappedFile, NewFile};
use crate::sync::{Arrivals, AtomicBool, AtomicU64, Mutex, Ordering, RwLock};
use crate::types::{GroupName, QueueOffset, TopicName, to_u64, to_usize};

const MAGIC: [u8; 8] = *b"PMQPOS01";
/// The name of the file while it is being written.
const NEW: &str = "positions.new";
const HEADER_LEN: usize = 64;
/// The place of a position that has been removed.
const NOWHERE: u64 = u64::MAX;
/// Bytes of an entry before the names.
const ENTRY_HEAD: usize = 24;
const FILE_LEN_MIN: u64 = 64 << 10;
/// The longest file that is believed.
const FILE_LEN_MAX: u64 = 4 << 30;

/// Whose position in which queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PositionKey {
    /// The topic.
    pub(crate) topic: TopicName,
    /// The consumer group.
    pub(crate) group: GroupName,
    /// The queue.
    pub(crate) queue_id: u32,
}

/// What the file of positions says.
#[derive(Debug, Default)]
pub(crate) struct StoredPositions {
    /// Every entry before the first one that is not whole.
    pub(crate) entries: Vec<(PositionKey, QueueOffset)>,
    /// Whether something that is no entry follows them.
    pub(crate) damaged: bool,
}

/// One committed position.
#[derive(Debug)]
pub(crate) struct Position {
    value: AtomicU64,
    /// Where its cell lies in the file.
    place: AtomicU64,
    /// The byte before which the log has to be on disk until the cell may say the same; 0 where it does.
    waits_for: AtomicU64,
    /// What the cell says where it waits.
    written: AtomicU64,
}

impl Position {
    /// Returns the next queue offset to consume.
    pub(crate) fn get(&self) -> QueueOffset {
        QueueOffset::new(self.value.load(Ordering::Acquire))
    }

    fn new(value: QueueOffset, place: u64) -> Self {
        let (value, waits) = (AtomicU64::new(value.get()), || AtomicU64::new(0));
        Self { value, place: AtomicU64::new(place), waits_for: waits(), written: waits() }
    }

    /// Returns the byte before which the log has to be on disk until the file may say what this says.
    pub(super) fn waits_for(&self) -> Option<u64> {
        Some(self.waits_for.load(Ordering::Acquire)).filter(|end| *end > 0)
    }

    /// Returns what the file may say.
    fn settled(&self) -> QueueOffset {
        match self.waits_for() {
            Some(_) => QueueOffset::new(self.written.load(Ordering::Acquire)),
            None => self.get(),
        }
    }

    /// Tells whether commits still count: not once the position was reset, or its topic deleted. Who holds this goes on
    /// from the position that the table has then.
    pub(crate) fn is_current(&self) -> bool {
        self.place.load(Ordering::Acquire) != NOWHERE
    }
}

/// A position that waits for the flush of a message, and how far its cell has followed it.
#[derive(Debug)]
struct Waiting {
    position: Arc<Position>,
    /// What it was at some time, and the byte before which the log has to be on disk until the cell may say that: so the
    /// cell follows also a position that moves on before each flush ends.
    candidate: Option<(u64, u64)>,
    /// Every acknowledgement in the log before this byte is in the cell.
    covered: u64,
}

#[derive(Debug)]
struct File {
    map: Arc<MappedFile>,
    end: usize,
}

impl Waiting {
    /// Lets the cell say as much as it may, and tells whether it says everything.
    fn settle(&mut self, flushed: u64, map: &MappedFile, dirty: &AtomicBool) -> bool {
        let position = &self.position;
        let place = position.place.load(Ordering::Relaxed);
        if place == NOWHERE {
            return true;
        }
        let newest = (position.get().get(), position.waits_for.load(Ordering::Acquire));
        let candidate = Some(newest).filter(|(_, end)| *end <= flushed).or(self.candidate);
        if let Some((value, end)) = candidate.filter(|(_, end)| *end <= flushed) {
            if map.store_u64(to_usize(place), value).is_err() {
                return false;
            }
            dirty.store(true, Ordering::Release);
            position.written.store(value, Ordering::Release);
            (self.candidate, self.covered) = (None, end);
        }
        if newest.1 <= flushed {
            position.waits_for.store(0, Ordering::Release);
            return true;
        }
        self.candidate.get_or_insert(newest);
        false
    }
}

/// All committed positions of one broker.
#[derive(Debug)]
pub(crate) struct Positions {
    disk: Arc<dyn Disk>,
    own: PathBuf,
    table: RwLock<HashMap<PositionKey, Arc<Position>>>,
    file: RwLock<File>,
    json: Mutex<PositionsJson>,
    dirty: AtomicBool,
    /// How often an entry was added or removed.
    changes: AtomicU64,
    /// Whether somebody waits for groups to move on, so that commits tell.
    watched: AtomicBool,
    /// How often a group has moved on since, and how often one has gone back.
    moves: AtomicU64,
    setbacks: AtomicU64,
    freed: Arrivals,
    /// Positions that wait for the flush of a message.
    waiting: Mutex<Vec<Waiting>>,
    any_waits: AtomicBool,
    /// A sync of the file failed: what the system calls clean may not be on disk, so the file is written anew.
    suspect: AtomicBool,
}

impl Positions {
    /// Reads what the file of positions says, without touching it. Whether to believe it is the caller's decision.
    pub(crate) fn peek(disk: &dyn Disk, own: &Path) -> Result<StoredPositions> {
        let path = own.join("positions");
        match disk.metadata(&path)? {
            Some(found) if (to_u64(HEADER_LEN)..=FILE_LEN_MAX).contains(&found.len) => {
                Ok(read_entries(disk.map(&path, 0..found.len, Access::Random)?.as_ref()))
            }
            _ => Ok(StoredPositions::default()),
        }
    }

    /// Starts with these positions, in a new file in place of the old one. Durable on return.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        own: PathBuf,
        json: PositionsJson,
        entries: Vec<(PositionKey, QueueOffset)>,
    ) -> Result<Self> {
        let table = entries.into_iter().map(|(key, offset)| (key, Arc::new(Position::new(offset, 0))));
        let table: HashMap<_, _> = table.collect();
        let file = RwLock::new(write_file(disk.as_ref(), &own, &table)?);
        disk.sync_dir(&own)?;
        let disk = Arc::clone(disk);
        let (table, json) = (RwLock::new(table), Mutex::new(json));
        let (dirty, suspect) = (AtomicBool::new(true), AtomicBool::new(false));
        let (changes, moves, setbacks) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let (watched, freed) = (AtomicBool::new(false), Arrivals::default());
        let (waiting, any_waits) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self {
            disk,
            own,
            table,
            file,
            json,
            dirty,
            changes,
            watched,
            moves,
            setbacks,
            freed,
            waiting,
            any_waits,
            suspect,
        })
    }

    /// Makes the files of these positions in the folder of a copy. The JSON file is written with the next persist.
    pub(crate) fn create_copy(
        &self,
        disk: &Arc<dyn Disk>,
        own: PathBuf,
        path: PathBuf,
        entries: Vec<(PositionKey, QueueOffset)>,
    ) -> Result<Self> {
        let json = self.json.lock().at(disk, path, own.clone());
        Self::create(disk, own, json, entries)
    }

    /// Returns a committed position.
    pub(crate) fn get(&self, key: &PositionKey) -> Option<Arc<Position>> {
        self.table.read().get(key).cloned()
    }

    /// Returns a position, made with the value `first` where the group has none yet.
    pub(crate) fn position(&self, key: &PositionKey, first: QueueOffset) -> Result<Arc<Position>> {
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        let mut table = self.table.write();
        if let Some(known) = table.get(key) {
            return Ok(Arc::clone(known));
        }
        let place = self.append(key, first)?;
        let new = Arc::new(Position::new(first, place));
        table.insert(key.clone(), Arc::clone(&new));
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.dirty.store(true, Ordering::Release);
        Ok(new)
    }

    /// Moves a position whose message is in the log and not on disk: the file says so once everything before `end` is.
    pub(super) fn commit_behind(&self, position: &Arc<Position>, next: QueueOffset, end: u64) {
        let mut waiting = self.waiting.lock();
        if position.waits_for().is_none() {
            position.written.store(position.get().get(), Ordering::Release);
            waiting.push(Waiting { position: Arc::clone(position), candidate: None, covered: 0 });
        }
        position.waits_for.fetch_max(end.max(1), Ordering::AcqRel);
        self.any_waits.store(true, Ordering::Release);
        position.value.store(next.get(), Ordering::Release);
        drop(waiting);
        if self.watched.load(Ordering::Relaxed) {
            self.tell();
        }
    }

    /// Tells whether a position waits for a flush.
    pub(super) fn any_waits(&self) -> bool {
        self.any_waits.load(Ordering::Acquire)
    }

    /// Writes what the positions were that wait for nothing more than a flush up to this byte. Returns the byte before which
    /// every acknowledgement is in the file now, where some are not.
    pub(super) fn settle(&self, flushed: u64) -> Option<u64> {
        let mut waiting = self.waiting.lock();
        let file = self.file.read();
        waiting.retain_mut(|waiting| !waiting.settle(flushed, &file.map, &self.dirty));
        self.any_waits.store(!waiting.is_empty(), Ordering::Release);
        waiting.iter().map(|waiting| waiting.covered).min()
    }

    /// Stores a position. It survives the death of the process when this returns, and power loss after the next
    /// persist. Not for one that waits for a flush.
    pub(in crate::broker) fn commit(&self, position: &Position, next: QueueOffset) -> Result<()> {
        let file = self.file.read();
        let before = position.value.swap(next.get(), Ordering::AcqRel);
        let place = position.place.load(Ordering::Relaxed);
        if place == NOWHERE {
            return Ok(());
        }
        file.map.store_u64(to_usize(place), next.get())?;
        self.dirty.store(true, Ordering::Release);
        if self.watched.load(Ordering::Relaxed) {
            if next.get() < before {
                self.setbacks.fetch_add(1, Ordering::AcqRel);
            }
            self.tell();
        }
        Ok(())
    }

    /// Returns how often more may have come to wait without a message: a group went back, or a new one came.
    pub(super) fn setbacks(&self) -> u64 {
        self.setbacks.load(Ordering::Acquire).saturating_add(self.changes())
    }

    /// Lets commits tell who waits for groups to move on. Until then they pay one look at a flag.
    pub(super) fn watch(&self) {
        self.watched.store(true, Ordering::Relaxed);
    }

    /// Returns how often groups have moved on, or positions or data have gone.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// Returns the wake-up of those who wait for it.
    pub(super) const fn freed(&self) -> &Arrivals {
        &self.freed
    }

    /// Tells those who wait that there may be room.
    #[cold]
    pub(super) fn tell(&self) {
        self.moves.fetch_add(1, Ordering::AcqRel);
        self.freed.notify();
    }

    /// Returns how often an entry was added or removed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Returns the positions, by topic and queue.
    pub(super) fn by_queue(&self) -> PositionsByQueue {
        let mut all = PositionsByQueue::default();
        for (key, position) in self.table.read().iter() {
            let groups = all.0.entry(key.topic.clone()).or_default();
            let queues = groups.entry(key.group.clone()).or_default();
            queues.insert(key.queue_id, Arc::clone(position));
        }
        all
    }

    /// Moves a position from outside, making it where there is none: whoever commits to the one that was there before is
    /// not heard any more. It survives the death of the process when this returns, and power loss after the next
    /// persist.
    pub(super) fn reset(&self, key: &PositionKey, next: QueueOffset) -> Result<()> {
        let mut table = self.table.write();
        let Some(old) = table.get(key).cloned() else {
            drop(table);
            let made = self.position(key, next)?;
            return self.commit(&made, next);
        };
        // Nobody commits meanwhile: a commit holds this lock too.
        let file = self.file.write();
        let place = old.place.load(Ordering::Relaxed);
        file.map.store_u64(to_usize(place), next.get())?;
        old.place.store(NOWHERE, Ordering::Release);
        table.insert(key.clone(), Arc::new(Position::new(next, place)));
        self.dirty.store(true, Ordering::Release);
        drop((file, table));
        // As if an entry had come and one had gone: who keeps the old ones looks again.
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.tell();
        Ok(())
    }

    /// Returns everything, by topic, group and queue.
    pub(crate) fn all(&self) -> Vec<(PositionKey, QueueOffset)> {
        let table = self.table.read();
        let mut all: Vec<_> = table.iter().map(|(key, position)| (key.clone(), position.get())).collect();
        all.sort();
        all
    }

    /// Returns what the file may say, by topic, group and queue.
    fn all_settled(&self) -> Vec<(PositionKey, QueueOffset)> {
        let table = self.table.read();
        let mut all: Vec<_> = table.iter().map(|(key, position)| (key.clone(), position.settled())).collect();
        all.sort();
        all
    }

    /// Forgets the positions in one topic.
    pub(crate) fn remove_topic(&self, topic: &TopicName) -> Result<()> {
        self.remove_where(&|key| key.topic == *topic).map(drop)
    }

    /// Forgets positions. Returns how many.
    pub(crate) fn remove_where(&self, unwanted: &dyn Fn(&PositionKey) -> bool) -> Result<usize> {
        let mut table = self.table.write();
        let mut file = self.file.write();
        let before = table.len();
        table.retain(|key, position| {
            let stays = !unwanted(key);
            if !stays {
                // Who holds it still must not store into the new file, where its place is another's.
                position.place.store(NOWHERE, Ordering::Relaxed);
            }
            stays
        });
        self.dirty.store(true, Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.tell();
        let written = write_file(self.disk.as_ref(), &self.own, &table).and_then(|new| {
            *file = new;
            self.disk.sync_dir(&self.own)
        });
        // What was to go is in the old file still: the next sync writes it anew.
        written.inspect_err(|_| self.suspect.store(true, Ordering::Release))?;
        Ok(before.saturating_sub(table.len()))
    }

    fn write_anew(&self, table: &HashMap<PositionKey, Arc<Position>>) -> Result<()> {
        let mut file = self.file.write();
        *file = write_file(self.disk.as_ref(), &self.own, table)?;
        self.disk.sync_dir(&self.own)
    }

    /// Syncs the file of positions, or writes it anew where a sync has failed.
    pub(crate) fn sync(&self) -> Result<()> {
        let synced = if self.suspect.load(Ordering::Acquire) {
            self.write_anew(&self.table.read())
        } else {
            let file = self.file.read();
            file.map.sync(0..file.end)
        };
        self.suspect.store(synced.is_err(), Ordering::Release);
        synced
    }

    /// Writes `consumerOffset.json` if positions have changed. `announce` is told the CRC of the new file before it
    /// replaces the old one. Durable on return.
    pub(crate) fn persist(&self, announce: impl FnOnce(u32) -> Result<()>) -> Result<bool> {
        // Held over the look at `dirty`: who finds nothing to write knows that it is written.
        let mut json = self.json.lock();
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(false);
        }
        // The mapped file is never older on disk than the other one, so it may win whenever it is ours.
        let written = self.sync().and_then(|()| json.save(&self.all_settled(), announce));
        if let Err(error) = written {
            self.dirty.store(true, Ordering::Release);
            return Err(Error::OffsetNotPersisted(error.to_string().into()));
        }
        Ok(true)
    }

    /// Adds an entry to the file, making the file larger where it is full. Returns the place of the cell.
    fn append(&self, key: &PositionKey, offset: QueueOffset) -> Result<u64> {
        let entry = encode(key, offset);
        let mut file = self.file.write();
        if file.end.saturating_add(entry.len()).saturating_add(8) > file.map.len() {
            self.grow(&mut file)?;
        }
        put_entry(&mut file, &entry)
    }

    /// Replaces the file by one twice as long. The cells keep their places.
    fn grow(&self, file: &mut File) -> Result<()> {
        let len = to_u64(file.map.len()).saturating_mul(2);
        let mut larger = create(self.disk.as_ref(), &self.own, len)?;
        let old = file.map.bytes(HEADER_LEN..file.end).unwrap_or_default();
        larger.map.put(HEADER_LEN, old)?;
        larger.end = file.end;
        larger.map.sync(0..larger.end)?;
        self.disk.rename(&self.own.join(NEW), &self.own.join("positions"))?;
        // Whatever comes now, the name leads to the larger one.
        *file = larger;
        self.disk.sync_dir(&self.own)
    }
}

/// The positions of each group, by topic, group and queue.
#[derive(Debug, Default)]
pub(super) struct PositionsByQueue(HashMap<TopicName, HashMap<GroupName, HashMap<u32, Arc<Position>>>>);

impl PositionsByQueue {
    /// Returns where each group of a topic stands in a queue; `None` for a group that has committed nothing in it.
    pub(super) fn of(&self, topic: &TopicName, queue_id: u32) -> Vec<Option<Arc<Position>>> {
        let groups = self.0.get(topic).into_iter().flat_map(HashMap::values);
        groups.map(|queues| queues.get(&queue_id).cloned()).collect()
    }
}

/// Writes the file anew from a table, and tells every position where its cell lies.
fn write_file(disk: &dyn Disk, own: &Path, table: &HashMap<PositionKey, Arc<Position>>) -> Result<File> {
    let needed = table.iter().map(|(key, position)| encode(key, position.get()).len()).sum::<usize>();
    let needed = to_u64(needed.saturating_add(HEADER_LEN).saturating_add(8));
    let mut file = create(disk, own, needed.next_power_of_two().max(FILE_LEN_MIN))?;
    let mut places = Vec::with_capacity(table.len());
    for (key, position) in table {
        places.push((position, put_entry(&mut file, &encode(key, position.settled()))?));
    }
    file.map.sync(0..file.end)?;
    disk.rename(&own.join(NEW), &own.join("positions"))?;
    // Only now: until the new file stands, the cells are those of the old one.
    for (position, place) in places {
        position.place.store(place, Ordering::Relaxed);
    }
    Ok(file)
}

/// Makes an empty file of positions beside the old one, which it replaces once it is filled and renamed.
fn create(disk: &dyn Disk, own: &Path, len: u64) -> Result<File> {
    let made = own.join(NEW);
    if disk.metadata(&made)?.is_some() {
        disk.remove_file(&made)?;
    }
    NewFile { path: &made, temp_dir: own, len, first_blocks: len, durable: Durable::No }.create(disk)?;
    let map = disk.map(&made, 0..len, Access::Random)?;
    map.put(0, &MAGIC)?;
    Ok(File { map, end: HEADER_LEN })
}

/// Writes an entry: the length last, so that a process that dies in between leaves no half entry.
fn put_entry(file: &mut File, entry: &[u8]) -> Result<u64> {
    let at = file.end;
    file.map.put(at.saturating_add(4), entry.get(4..).unwrap_or_default())?;
    file.map.store_u32(at, u32::try_from(entry.len()).unwrap_or(0))?;
    file.end = at.saturating_add(entry.len());
    Ok(to_u64(at.saturating_add(8)))
}

fn encode(key: &PositionKey, offset: QueueOffset) -> Vec<u8> {
    let (topic, group) = (key.topic.as_str().as_bytes(), key.group.as_str().as_bytes());
    let mut named = key.queue_id.to_be_bytes().to_vec();
    for name in [topic, group] {
        named.extend(u16::try_from(name.len()).unwrap_or(0).to_be_bytes());
    }
    named.extend([topic, group].concat());
    let len = ENTRY_HEAD.saturating_add(topic.len()).saturating_add(group.len()).next_multiple_of(8);
    let mut entry = u32::try_from(len).unwrap_or(0).to_be_bytes().to_vec();
    entry.extend(crc32fast::hash(&named).to_be_bytes());
    entry.extend(offset.get().to_be_bytes());
    entry.extend(named);
    entry.resize(len, 0);
    entry
}

/// Reads entries up to the first one that is not whole.
fn read_entries(map: &MappedFile) -> StoredPositions {
    let bytes = map.bytes(0..map.len()).unwrap_or_default();
    if !bytes.starts_with(&MAGIC) {
        return StoredPositions::default();
    }
    let mut rest = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut entries = Vec::new();
    while let Some((entry, len)) = decode(rest) {
        entries.push(entry);
        rest = rest.get(len..).unwrap_or_default();
    }
    let damaged = rest.iter().take(4).any(|byte| *byte != 0);
    StoredPositions { entries, damaged }
}

fn decode(rest: &[u8]) -> Option<((PositionKey, QueueOffset), usize)> {
    let (len, after) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    if len < ENTRY_HEAD || len > rest.len() || !len.is_multiple_of(8) {
        return None;
    }
    let (crc, after) = after.split_first_chunk()?;
    let (offset, named) = after.split_first_chunk()?;
    let (queue_id, after) = named.split_first_chunk()?;
    let (topic_len, after) = after.split_first_chunk()?;
    let (group_len, names) = after.split_first_chunk()?;
    let (topic, names) = names.split_at_checked(usize::from(u16::from_be_bytes(*topic_len)))?;
    let group = names.get(..usize::from(u16::from_be_bytes(*group_len)))?;
    let covered = 8_usize.checked_add(topic.len())?.checked_add(group.len())?;
    if crc32fast::hash(named.get(..covered)?) != u32::from_be_bytes(*crc) {
        return None;
    }
    let key = PositionKey {
        topic: TopicName::new(std::str::from_utf8(topic).ok()?).ok()?,
        group: GroupName::stored(std::str::from_utf8(group).ok()?).ok()?,
        queue_id: u32::from_be_bytes(*queue_id),
    };
    Some(((key, QueueOffset::new(u64::from_be_bytes(*offset))), len))
}
