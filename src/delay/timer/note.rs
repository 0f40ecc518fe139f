//! How far have the timers come, and how does that survive a crash?
//!
//! `pocketmq/timer` says it after every step; it survives the death of the process. In two slots:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | the end of the commit log when this was noted |
//! | 8 | 1 where wheel and timer log are on disk just so, because the store was closed; else 0 |
//! | 8 | the second of the wheel that is being delivered: all before it are done |
//! | 8, 8 | the last that was delivered of it: when it was due, and its place in the timers' queue |
//! | 8 | the first place of the timers' queue that is not in the wheel |
//! | 8 | the end of the timer log |
//! | 8 | entries in later seconds of the wheel |
//! | 8 | the last second that has any |
//! | 8 | the first place of the timers' queue whose message is still needed |
//!
//! RocketMQ's `config/timercheck` (4,096 bytes) says less, for whoever opens the folder next, every few seconds and behind
//! a flush:
//!
//! | bytes | field |
//! |---|---|
//! | 0–7 | the second that is to be delivered next, in milliseconds |
//! | 8–15 | the end of the timer log |
//! | 16–23 | the first place of the timers' queue that is not in the wheel |
//! | 24–31 | the same of the master |
//! | 32–39, 40–47, 48–55 | version: of the state, its time in milliseconds, its count |
//!
//! After a power loss the commit log may end before the deliveries that the first speaks of: then the second counts.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::storage::{Access, Disk, Durable, EntryKind, MappedFile, NewFile};
use crate::types::{PhysicalOffset, QueueOffset};

/// Bytes of a note.
pub(super) const NOTE_LEN: usize = 10 * 8;
const CHECK_LEN: u64 = 4_096;

/// What `pocketmq/timer` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) log_end: PhysicalOffset,
    pub(super) clean: bool,
    pub(super) progress: Progress,
    pub(super) timer_log_end: u64,
    pub(super) ahead: u64,
    pub(super) horizon: i64,
    pub(super) needed: QueueOffset,
}

/// How far the timers have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The second of the wheel that is being delivered.
    pub(super) second: i64,
    /// The last that was delivered of it.
    pub(super) last: (i64, QueueOffset),
    /// The first place of the timers' queue that is not in the wheel.
    pub(super) taken: QueueOffset,
}

impl Progress {
    /// At the start of a second.
    pub(super) const fn at(second: i64, taken: QueueOffset) -> Self {
        Self { second, last: (second.saturating_mul(1_000), QueueOffset::ZERO), taken }
    }

    /// Tells whether what is due then, from this place of the queue, has had its turn.
    pub(super) fn has_passed(&self, second: i64, key: (i64, QueueOffset)) -> bool {
        second < self.second || (second == self.second && key <= self.last)
    }
}

impl Note {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Progress { second, last, taken } = self.progress;
        let fields = [
            self.log_end.get(),
            u64::from(self.clean),
            second.cast_unsigned(),
            last.0.cast_unsigned(),
            last.1.get(),
            taken.get(),
            self.timer_log_end,
            self.ahead,
            self.horizon.cast_unsigned(),
            self.needed.get(),
        ];
        fields.iter().flat_map(|field| field.to_be_bytes()).collect()
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let (numbers, _) = payload.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let mut next = || numbers.next();
        let (log_end, clean) = (PhysicalOffset::new(next()?), next()? == 1);
        let second = next()?.cast_signed();
        let last = (next()?.cast_signed(), QueueOffset::new(next()?));
        let taken = QueueOffset::new(next()?);
        let progress = Progress { second, last, taken };
        let (timer_log_end, ahead) = (next()?, next()?);
        let (horizon, needed) = (next()?.cast_signed(), QueueOffset::new(next()?));
        Some(Self { log_end, clean, progress, timer_log_end, ahead, horizon, needed })
    }
}

/// What `config/timercheck` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) next_millis: i64,
    pub(super) timer_log_end: u64,
    pub(super) taken: QueueOffset,
}

/// The file `config/timercheck`.
#[derive(Debug)]
pub(super) struct CheckFile(Arc<MappedFile>);

impl CheckFile {
    /// Opens the file, making it where it is missing or has another length.
    pub(super) fn open(disk: &Arc<dyn Disk>, path: &Path, temp_dir: &Path) -> Result<Self> {
        let found = disk.metadata(path)?;
        if found.is_none_or(|found| found.kind != EntryKind::File || found.len != CHECK_LEN) {
            if found.is_some_and(|found| found.kind == EntryKind::File) {
                disk.remove_file(path)?;
            }
            NewFile { path, temp_dir, len: CHECK_LEN, first_blocks: CHECK_LEN, durable: Durable::Yes }
                .create(disk.as_ref())?;
        }
        disk.allocate(path, 0..CHECK_LEN)?;
        Ok(Self(disk.map(path, 0..CHECK_LEN, Access::Random)?))
    }

    /// Reads the marks; `None` where nobody has written any.
    pub(super) fn load(&self) -> Option<Check> {
        let cell = |position| self.0.load_u64(position);
        let next_millis = cell(0)?.cast_signed();
        let taken = i64::try_from(cell(16)?).ok()?;
        let known = next_millis > 0 && next_millis % 1_000 == 0;
        known.then(|| Check {
            next_millis,
            timer_log_end: cell(8).unwrap_or(0),
            taken: QueueOffset::new(taken.unsigned_abs()),
        })
    }

    /// Writes the marks. Durable on return.
    pub(super) fn store(&self, check: &Check, now_millis: i64) -> Result<()> {
        let count = self.0.load_u64(48).unwrap_or(0).saturating_add(1);
        let taken = check.taken.get();
        let cells = [
            (0, check.next_millis.cast_unsigned()),
            (8, check.timer_log_end),
            (16, taken),
            (24, taken),
            (40, now_millis.cast_unsigned()),
            (48, count),
        ];
        cells.into_iter().try_for_each(|(position, value)| self.0.store_u64(position, value))?;
        self.0.sync(0..self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    #[test]
    fn a_note_is_read_back_and_a_short_one_is_none() {
        let progress =
            Progress { second: -3, last: (i64::MIN, QueueOffset::new(8)), taken: QueueOffset::new(9) };
        let log_end = PhysicalOffset::new(5);
        let note = Note {
            log_end,
            clean: true,
            progress,
            timer_log_end: 52,
            ahead: 1,
            horizon: 6,
            needed: QueueOffset::new(4),
        };
        let encoded = note.encode();
        assert_eq!((encoded.len(), Note::decode(&encoded)), (NOTE_LEN, Some(note)));
        assert_eq!(Note::decode(&encoded[..70]), None);
    }

    #[test]
    fn marks_are_where_rocketmq_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let path = dir.path().join("timercheck");
        let file = CheckFile::open(&disk, &path, dir.path()).unwrap();
        assert_eq!(file.load(), None);
        let check = Check { next_millis: 1_795_448_396_000, timer_log_end: 312, taken: QueueOffset::new(6) };
        file.store(&check, 1_795_448_396_346).unwrap();
        assert_eq!(file.load(), Some(check));
        let hex: String = std::fs::read(&path).unwrap()[..56].iter().map(|b| format!("{b:02x}")).collect();
        let golden = "000001a2091058e0000000000000013800000000000000060000000000000006";
        assert_eq!(
            hex,
            format!("{golden}0000000000000000000001a20910 5a3a0000000000000001").replace(' ', "")
        );
    }
}
