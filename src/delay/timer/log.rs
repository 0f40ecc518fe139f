//! Which timers does a slot of the wheel have? RocketMQ's folder `timerlog/`.
//!
//! Entries of 52 bytes, appended and never changed; those of one slot form a chain from the last to the first:
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | 52 |
//! | 4–11 | position of the entry before it in its slot, −1 for none |
//! | 12–15 | 1; plus 2: it comes round once more (*roll*); plus 4: it cancels another |
//! | 16–23 | the second in which it was written, in milliseconds |
//! | 24–27 | milliseconds from there to its slot |
//! | 28–35 | physical offset of the message |
//! | 36–39 | size of its record |
//! | 40–43 | hash of the topic that it is for |
//! | 44–51 | 0 |
//!
//! A file ends where an entry and 16 bytes more do not fit: the rest is said in 4 bytes, 8 bytes are 0, and the next 4 are
//! the magic of a blank record.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::storage::{Access, Disk, Durable, EntryKind, MappedFile, NewFile, file_name, parse_file_name};
use crate::types::{PhysicalOffset, to_usize};

/// Bytes of an entry.
pub(super) const UNIT_LEN: u64 = 52;
/// Bytes that say that a file ends here.
const BLANK_LEN: u64 = 16;
const BLANK_MAGIC: [u8; 4] = [0xCB, 0xD4, 0x31, 0x94];
/// The bit that every entry has.
const PLAIN: u32 = 1;
/// The bit of an entry that comes round once more.
pub(super) const ROLL: u32 = 2;
/// The bit of an entry that cancels another.
pub(super) const CANCEL: u32 = 4;
/// Bytes that get blocks together.
const STEP: u64 = 1 << 20;
/// Files that are mapped at once.
const MAPS_MAX: usize = 4;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) prev: Option<u64>,
    /// `ROLL` and `CANCEL`, or neither.
    pub(super) bits: u32,
    pub(super) written_millis: i64,
    pub(super) ahead_millis: i32,
    pub(super) physical: PhysicalOffset,
    pub(super) size: u32,
    pub(super) topic_hash: i32,
}

impl Unit {
    /// Returns the second whose slot it is in.
    pub(super) fn second(&self) -> i64 {
        self.written_millis.saturating_add(i64::from(self.ahead_millis)).div_euclid(1_000)
    }

    pub(super) const fn rolls(&self) -> bool {
        self.bits & ROLL != 0
    }

    /// Tells whether it cancels another one when its time has come.
    pub(super) const fn cancels(&self) -> bool {
        self.bits & (CANCEL | ROLL) == CANCEL
    }

    fn encode(&self) -> [u8; to_usize(UNIT_LEN)] {
        let mut bytes = [0; to_usize(UNIT_LEN)];
        let fields: [&[u8]; 9] = [
            &52_u32.to_be_bytes(),
            &self.prev.unwrap_or(u64::MAX).to_be_bytes(),
            &(PLAIN | self.bits).to_be_bytes(),
            &self.written_millis.to_be_bytes(),
            &self.ahead_millis.to_be_bytes(),
            &self.physical.get().to_be_bytes(),
            &self.size.to_be_bytes(),
            &self.topic_hash.to_be_bytes(),
            &[0; 8],
        ];
        let all = fields.into_iter().flatten().copied();
        for (place, byte) in bytes.iter_mut().zip(all) {
            *place = byte;
        }
        bytes
    }

    /// Reads an entry; `None` for bytes that are none.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (prev, rest) = rest.split_first_chunk::<8>()?;
        let (bits, rest) = rest.split_first_chunk::<4>()?;
        let (written, rest) = rest.split_first_chunk::<8>()?;
        let (ahead, rest) = rest.split_first_chunk::<4>()?;
        let (physical, rest) = rest.split_first_chunk::<8>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let bits = u32::from_be_bytes(*bits);
        let sound = u32::from_be_bytes(*len) == 52 && bits & PLAIN != 0 && bits < 8;
        let physical = i64::from_be_bytes(*physical);
        sound.then_some(Self {
            prev: u64::try_from(i64::from_be_bytes(*prev)).ok(),
            bits: bits & !PLAIN,
            written_millis: i64::from_be_bytes(*written),
            ahead_millis: i32::from_be_bytes(*ahead),
            physical: PhysicalOffset::new(u64::try_from(physical).ok()?),
            size: u32::from_be_bytes(*size),
            topic_hash: i32::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

/// The timer log.
#[derive(Debug)]
pub(super) struct TimerLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    temp_dir: PathBuf,
    file_size: u64,
    /// Where the files start, in order, without a gap.
    starts: VecDeque<u64>,
    /// Files that are mapped, the one used last at the end.
    maps: VecDeque<(u64, Arc<MappedFile>)>,
    /// Where the next entry goes.
    end: u64,
    /// Bytes before this have blocks.
    allocated: u64,
}

impl TimerLog {
    /// Finds the files. Files that do not fit each other are no log: then it is empty, and the caller must begin anew.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        dir: PathBuf,
        temp_dir: PathBuf,
        file_size: u64,
    ) -> Result<Self> {
        let mut files: Vec<(u64, u64)> = Vec::new();
        for entry in disk.list(&dir)?.unwrap_or_default() {
            if let Some(start) = parse_file_name(&entry.name).filter(|_| entry.kind == EntryKind::File) {
                files.push((start, entry.len));
            }
        }
        files.sort_unstable();
        let size = files.first().map_or(file_size, |(_, len)| *len);
        let fits = |pair: &[(u64, u64)]| matches!(pair, [(a, _), (b, len)] if *len == size && a.checked_add(size) == Some(*b));
        let whole = files.windows(2).all(fits) && size >= UNIT_LEN.saturating_add(BLANK_LEN);
        let starts: VecDeque<u64> =
            if whole { files.iter().map(|(start, _)| *start).collect() } else { VecDeque::new() };
        let file_size = if whole { size } else { file_size };
        let end = starts.front().copied().unwrap_or(0);
        let (disk, maps) = (Arc::clone(disk), VecDeque::new());
        Ok(Self { disk, dir, temp_dir, file_size, starts, maps, end, allocated: 0 })
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.maps.clear();
        for entry in self.disk.list(&self.dir)?.unwrap_or_default() {
            if entry.kind == EntryKind::File && parse_file_name(&entry.name).is_some() {
                self.disk.remove_file(&self.dir.join(&entry.name))?;
            }
        }
        (self.end, self.allocated) = (0, 0);
        self.starts.clear();
        Ok(())
    }

    /// Returns where the first file starts.
    pub(super) fn start(&self) -> u64 {
        self.starts.front().copied().unwrap_or(self.end)
    }

    /// Returns where the next entry goes.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the byte behind the last file.
    pub(super) fn limit(&self) -> u64 {
        self.starts.back().map_or(self.end, |start| start.saturating_add(self.file_size))
    }

    /// Goes on writing here: what lies behind is no entry, or is one that nobody knows.
    pub(super) fn resume(&mut self, end: u64) {
        (self.end, self.allocated) = (end, end);
    }

    /// Appends an entry and returns its position.
    pub(super) fn append(&mut self, unit: &Unit) -> Result<u64> {
        if self.end == self.limit() {
            self.add_file()?;
        }
        let left = self.file_end().saturating_sub(self.end);
        if left < UNIT_LEN.saturating_add(BLANK_LEN) {
            let mut blank = u32::try_from(left).unwrap_or(0).to_be_bytes().to_vec();
            blank.extend([0; 8]);
            blank.extend(BLANK_MAGIC);
            self.put(&blank)?;
            self.end = self.file_end();
            // Also a file that was made once, and went unused.
            if self.end == self.limit() {
                self.add_file()?;
            }
        }
        self.put(&unit.encode())?;
        let position = self.end;
        self.end = position.saturating_add(UNIT_LEN);
        Ok(position)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let start = self.start_of(self.end);
        let path = self.dir.join(file_name(start));
        let needed = self.end.saturating_add(UNIT_LEN);
        if needed > self.allocated {
            let to = self.end.saturating_add(STEP).min(self.file_end());
            self.disk.allocate(&path, self.end.saturating_sub(start)..to.saturating_sub(start))?;
            self.allocated = to;
        }
        let position = to_usize(self.end.saturating_sub(start));
        self.map(start)?.put(position, bytes)
    }

    fn add_file(&mut self) -> Result<()> {
        self.disk.create_dir_all(&self.dir)?;
        let path = self.dir.join(file_name(self.end));
        let first_blocks = STEP.min(self.file_size);
        NewFile {
            path: &path,
            temp_dir: &self.temp_dir,
            len: self.file_size,
            first_blocks,
            durable: Durable::No,
        }
        .create(self.disk.as_ref())?;
        self.starts.push_back(self.end);
        self.allocated = self.end.saturating_add(first_blocks);
        Ok(())
    }

    /// Returns the start of the file that a position lies in.
    fn start_of(&self, position: u64) -> u64 {
        let first = self.start();
        let files = position.saturating_sub(first).checked_div(self.file_size).unwrap_or(0);
        first.saturating_add(files.saturating_mul(self.file_size))
    }

    /// Returns where the file ends in which the next entry goes.
    fn file_end(&self) -> u64 {
        self.start_of(self.end).saturating_add(self.file_size)
    }

    fn map(&mut self, start: u64) -> Result<Arc<MappedFile>> {
        if let Some((last, map)) = self.maps.back()
            && *last == start
        {
            return Ok(Arc::clone(map));
        }
        let found = self.maps.iter().position(|(known, _)| *known == start);
        let entry = match found.and_then(|place| self.maps.remove(place)) {
            Some(entry) => entry,
            None => {
                let path = self.dir.join(file_name(start));
                (start, self.disk.map(&path, 0..self.file_size, Access::Random)?)
            }
        };
        let map = Arc::clone(&entry.1);
        self.maps.push_back(entry);
        if self.maps.len() > MAPS_MAX {
            self.maps.pop_front();
        }
        Ok(map)
    }

    /// Returns the entry at a position, if there is one.
    pub(super) fn get(&mut self, position: u64) -> Result<Option<Unit>> {
        if position < self.start() || position.saturating_add(UNIT_LEN) > self.limit() {
            return Ok(None);
        }
        let start = self.start_of(position);
        let from = to_usize(position.saturating_sub(start));
        let map = self.map(start)?;
        Ok(map.bytes(from..from.saturating_add(to_usize(UNIT_LEN))).and_then(Unit::decode))
    }

    /// Returns where the entry behind this one starts.
    pub(super) fn behind(&self, position: u64) -> u64 {
        let next = position.saturating_add(UNIT_LEN);
        let file_end = self.start_of(position).saturating_add(self.file_size);
        let fits = next.saturating_add(UNIT_LEN).saturating_add(BLANK_LEN) <= file_end;
        if fits { next } else { file_end }
    }

    /// Removes the oldest file if `is_done` says so of its last entry, and there is another one.
    pub(super) fn drop_oldest(&mut self, is_done: impl Fn(&Unit) -> bool) -> Result<bool> {
        let (Some(first), Some(second)) = (self.starts.front().copied(), self.starts.get(1).copied()) else {
            return Ok(false);
        };
        let units = self.file_size.saturating_sub(BLANK_LEN) / UNIT_LEN;
        let last = first.saturating_add(units.saturating_sub(1).saturating_mul(UNIT_LEN));
        let done = self.end >= second && self.get(last)?.is_some_and(|unit| is_done(&unit));
        if done {
            self.maps.retain(|(start, _)| *start != first);
            self.disk.remove_file(&self.dir.join(file_name(first)))?;
            self.starts.pop_front();
        }
        Ok(done)
    }

    /// Makes everything that was appended durable, from the file on in which `from` lies.
    pub(super) fn sync_from(&mut self, from: u64) -> Result<()> {
        let first = self.start_of(from.max(self.start()));
        let starts: Vec<u64> =
            self.starts.iter().copied().filter(|start| *start >= first && *start < self.end).collect();
        for start in starts {
            let len = to_usize(self.end.min(start.saturating_add(self.file_size)).saturating_sub(start));
            self.map(start)?.sync(0..len)?;
        }
        if self.disk.metadata(&self.dir)?.is_some() {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    fn unit(prev: Option<u64>, physical: u64) -> Unit {
        Unit {
            prev,
            bits: 0,
            written_millis: 1_795_448_361_000,
            ahead_millis: 3_000,
            physical: PhysicalOffset::new(physical),
            size: 354,
            topic_hash: 0x061F_C28C,
        }
    }

    #[test]
    fn an_entry_has_the_bytes_that_rocketmq_wrote() {
        // The second one of the log of apache-5.4.0-clean.
        let golden = "000000340000000000000000000000010000 01a2090fd02800000bb800000000000f30f400000162061fc28c0000000000000000";
        let bytes: String =
            unit(Some(0), 995_572).encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes, golden.replace(' ', ""));
        let none = unit(None, 1);
        assert_eq!(Unit::decode(&none.encode()), Some(none));
        let back = Unit { ahead_millis: -7_000, bits: ROLL | CANCEL, ..none };
        assert_eq!(Unit::decode(&back.encode()), Some(back));
        assert_eq!(back.second(), 1_795_448_354);
        for broken in [[0; 52], [0xFF; 52]] {
            assert_eq!(Unit::decode(&broken), None);
        }
    }

    #[test]
    fn t_i7_entries_are_read_back_across_files_and_after_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let folder = dir.path().join("timerlog");
        let open = || TimerLog::open(&disk, folder.clone(), dir.path().to_path_buf(), 52 * 3 + 20).unwrap();
        let mut log = open();
        let places: Vec<u64> = (0..10).map(|n| log.append(&unit(None, n)).unwrap()).collect();
        assert_eq!(places[..5], [0, 52, 104, 176, 228]);
        assert_eq!((log.behind(52), log.behind(104), log.limit()), (104, 176, 704));
        log.sync_from(0).unwrap();
        let end = log.end();
        drop(log);
        let mut log = open();
        log.resume(end);
        for (n, place) in (0..).zip(&places) {
            assert_eq!(log.get(*place).unwrap().unwrap().physical.get(), n);
        }
        assert_eq!(log.get(156).unwrap(), None, "the end of a file");
        assert!(log.drop_oldest(|last| last.physical.get() == 2).unwrap());
        assert!(!log.drop_oldest(|_| false).unwrap());
        assert_eq!((log.start(), log.get(0).unwrap()), (176, None));
        assert_eq!(log.append(&unit(None, 77)).unwrap(), end);
        log.clear().unwrap();
        assert_eq!((log.start(), log.append(&unit(None, 5)).unwrap()), (0, 0));
    }

    #[test]
    fn a_log_that_goes_on_in_a_file_before_the_last_one_goes_on_into_that() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let folder = dir.path().join("timerlog");
        let mut log = TimerLog::open(&disk, folder, dir.path().to_path_buf(), 52 * 3 + 20).unwrap();
        let append =
            |log: &mut TimerLog| (0..4).map(|n| log.append(&unit(None, n)).unwrap()).collect::<Vec<_>>();
        assert_eq!(append(&mut log), [0, 52, 104, 176]);
        log.resume(52);
        assert_eq!(append(&mut log), [52, 104, 176, 228]);
        assert_eq!((log.limit(), log.get(228).unwrap().unwrap().physical.get()), (352, 3));
    }
}
