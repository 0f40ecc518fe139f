//! Where does the log really end, and is everything before that sound?
//!
//! One walk reads and verifies the log from the lowest point that is not known to be safe. Bytes that are no record
//! end the log if they lie where nothing had been flushed: that is what a crash leaves. Elsewhere they are damage, and
//! the recovery mode decides (contract D8).

use std::path::Path;

use super::checksums::Checksums;
use super::joined::FoundAcks;
use super::report::{LostRange, RecoveryProgress, RecoveryReport};
use crate::commitlog::{CommitLog, Cursor, Found};
use crate::config::RecoveryMode;
use crate::error::{Error, Result};
use crate::message::record::{MAGIC_V1, MAGIC_V2, Record, RecordFault};
use crate::types::{PhysicalOffset, to_u64, to_usize};

/// Bytes between two reports of progress.
const PROGRESS_STEP: u64 = 64 << 20;

/// Up to where the log is known to have been on disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum DurablePoint {
    /// Our own watermark: everything before this byte.
    Byte(u64),
    /// The checkpoint of another broker: every record stored at this time or before.
    StoreTime(i64),
}

/// What the walk found.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Where the log ends.
    pub(super) end: u64,
    /// Everything before this is known to be on disk.
    pub(super) durable: u64,
    /// The store time of the last record, 0 if there is none.
    pub(super) store_millis: i64,
    /// Ranges that hold no record and are to be filled, so that the log can be walked over them.
    pub(super) fills: Vec<(u64, u64)>,
}

/// One walk over the log.
pub(super) struct Walk<'a> {
    pub(super) log: &'a CommitLog,
    pub(super) checksums: &'a Checksums,
    pub(super) mode: RecoveryMode,
    pub(super) durable: DurablePoint,
    /// Queue units name records at least up to here.
    pub(super) named_until: u64,
    /// What messages acknowledge, where any ever did.
    pub(super) acks: Option<&'a mut FoundAcks>,
    pub(super) progress: Option<&'a (dyn Fn(&RecoveryProgress) + Send + Sync)>,
    pub(super) report: &'a mut RecoveryReport,
}

impl Walk<'_> {
    /// Walks from a byte at which a record starts.
    pub(super) fn run(&mut self, from: u64) -> Result<Verdict> {
        let limit = PhysicalOffset::new(self.log.files().limit());
        let mut cursor = Cursor::new(PhysicalOffset::new(from));
        let mut verdict = Verdict { end: from, durable: from, store_millis: 0, fills: Vec::new() };
        let mut next_report = from.saturating_add(PROGRESS_STEP);
        loop {
            let (at, what) = match cursor.next(self.log, limit) {
                Found::Record(at, record) => match check(self.checksums, &record) {
                    Ok(()) => {
                        self.note(&record, &mut verdict);
                        if at.get() > next_report {
                            self.tell(at.get().saturating_sub(from), limit.get().saturating_sub(from));
                            next_report = at.get().saturating_add(PROGRESS_STEP);
                        }
                        continue;
                    }
                    Err(fault) => (at, fault.to_string()),
                },
                Found::Damage(at, what) => (at, what.into_string()),
                Found::End(at) if self.may_end(at.get()) => return Ok(self.ended(verdict, at.get())),
                Found::End(at) => (at, "there is nothing where messages had been flushed".to_owned()),
            };
            match self.judge(at.get(), what)? {
                Some(next) => {
                    verdict.fills.push((at.get(), next));
                    cursor.jump(PhysicalOffset::new(next));
                }
                None => return Ok(self.ended(verdict, at.get())),
            }
        }
    }

    fn note(&mut self, record: &Record<'_>, verdict: &mut Verdict) {
        self.report.records = self.report.records.saturating_add(1);
        if let Some(acks) = &mut self.acks {
            acks.note(record);
        }
        verdict.store_millis = verdict.store_millis.max(record.store_millis());
        let end = record.physical_offset().get().saturating_add(u64::from(record.size()));
        if matches!(self.durable, DurablePoint::StoreTime(millis) if record.store_millis() <= millis) {
            verdict.durable = end;
        }
    }

    fn ended(&self, mut verdict: Verdict, end: u64) -> Verdict {
        verdict.end = end;
        if let DurablePoint::Byte(byte) = self.durable {
            verdict.durable = byte;
        }
        verdict.durable = verdict.durable.min(end);
        verdict
    }

    fn tell(&self, done_bytes: u64, total_bytes: u64) {
        if let Some(progress) = self.progress {
            progress(&RecoveryProgress { broker: self.report.broker.clone(), done_bytes, total_bytes });
        }
    }

    /// Tells whether nothing that had been flushed can lie at or behind a place where there is no record.
    fn may_end(&self, at: u64) -> bool {
        match self.durable {
            DurablePoint::Byte(byte) => at >= byte,
            DurablePoint::StoreTime(_) => {
                self.named_until <= at
                    && !self
                        .log
                        .files()
                        .starts()
                        .into_iter()
                        .any(|start| start > at && self.sound_at(start).is_some())
            }
        }
    }

    /// Decides about bytes that are no record: `None` cuts the log there, else it goes on where this says.
    fn judge(&mut self, at: u64, what: String) -> Result<Option<u64>> {
        let next = self.find_record(at.saturating_add(1));
        let was_flushed = |(place, millis): (u64, i64)| match self.durable {
            DurablePoint::Byte(byte) => place < byte,
            DurablePoint::StoreTime(durable) => millis <= durable,
        };
        let flushed = match self.durable {
            DurablePoint::Byte(byte) => at < byte,
            DurablePoint::StoreTime(_) => next.is_some_and(was_flushed),
        };
        if !flushed {
            return Ok(None);
        }
        let beyond_is_flushed = next.is_some_and(was_flushed);
        match self.mode {
            RecoveryMode::TruncateTail if !beyond_is_flushed => {
                self.lose(at, self.log.files().limit(), what);
                Ok(None)
            }
            RecoveryMode::SkipDamaged => {
                let to = next.map_or(self.log.files().limit(), |(place, _)| place);
                self.lose(at, to, what);
                Ok(next.map(|(place, _)| place))
            }
            RecoveryMode::Strict | RecoveryMode::TruncateTail => {
                let (path, position) = self.place(at);
                let cure = "restore the file from a backup, or open with RecoveryMode::SkipDamaged to lose only what is damaged";
                Err(Error::corrupt(&path, position, format!("{what}, at byte {at} of the log; {cure}")))
            }
        }
    }

    fn lose(&mut self, from: u64, to: u64, what: String) {
        let (file, _) = self.place(from);
        self.report.lost.push(LostRange {
            from: PhysicalOffset::new(from),
            to: PhysicalOffset::new(to),
            file,
            what,
        });
    }

    /// Names the file and the position in it.
    fn place(&self, at: u64) -> (std::path::PathBuf, u64) {
        match self.log.files().at(at) {
            Some(file) => (file.map().path().to_path_buf(), at.saturating_sub(file.start())),
            None => (Path::new(self.log.dir()).join(crate::storage::file_name(at)), 0),
        }
    }

    /// Returns the first place at or behind `from` where a sound record lies, and its store time.
    fn find_record(&self, from: u64) -> Option<(u64, i64)> {
        let mut at = from;
        loop {
            let file = self.log.files().at(at).or_else(|| self.log.files().starting_from(at))?;
            at = at.max(file.start());
            let bytes = file.map().bytes(to_usize(at.saturating_sub(file.start()))..file.map().len())?;
            for place in magics(bytes) {
                let place = at.saturating_add(to_u64(place));
                if let Some(millis) = self.sound_at(place) {
                    return Some((place, millis));
                }
            }
            at = file.end();
        }
    }

    /// Returns the store time of the record at a place, if there is a sound one that says that it lies there.
    fn sound_at(&self, at: u64) -> Option<i64> {
        let file = self.log.files().at(at)?;
        let bytes = file.map().bytes(to_usize(at.saturating_sub(file.start()))..file.map().len())?;
        let record = Record::parse(bytes).ok()?;
        let sound = record.physical_offset().get() == at && check(self.checksums, &record).is_ok();
        sound.then(|| record.store_millis())
    }
}

/// Returns the places from which on a magic number lies four bytes further.
fn magics(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let known = [MAGIC_V1.to_be_bytes(), MAGIC_V2.to_be_bytes()];
    let places = bytes.windows(8).enumerate();
    places
        .filter(move |(_, window)| known.iter().any(|magic| window.ends_with(magic)))
        .map(|(place, _)| place)
}

/// Checks the checksums of a record.
pub(super) fn check(checksums: &Checksums, record: &Record<'_>) -> std::result::Result<(), RecordFault> {
    record.check_body_crc()?;
    if checksums.demands(record.physical_offset().get()) {
        record.check_whole_crc()?;
    }
    Ok(())
}
