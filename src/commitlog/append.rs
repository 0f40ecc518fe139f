//! How does a record get to the end of the log?

use std::sync::Arc;

use super::{BLANK_LEN, CommitLog, LogFile};
use crate::error::{Error, Result};
use crate::message::draft::{Draft, encode_blank};
use crate::types::{PhysicalOffset, QueueOffset, to_usize};

/// The longest part of the next record that is asked for ahead: what the first-level cache spares.
const EXPECTED_MAX: usize = 4_096;

/// The one writer of a log. The broker keeps it under its put lock.
#[derive(Debug)]
pub(crate) struct Appender {
    file: Arc<LogFile>,
    end: u64,
    store_millis: i64,
}

impl Appender {
    pub(super) const fn new(file: Arc<LogFile>, end: u64, store_millis: i64) -> Self {
        Self { file, end, store_millis }
    }

    /// Returns where the next record goes.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Returns how many bytes with real blocks lie between the end and the next allocation.
    pub(crate) fn allocated_ahead(&self) -> u64 {
        self.file.start().saturating_add(self.file.allocated()).saturating_sub(self.end)
    }

    /// Returns the file in which the next record goes.
    pub(crate) const fn file(&self) -> &Arc<LogFile> {
        &self.file
    }

    /// Returns the store time of the last record.
    pub(crate) const fn store_millis(&self) -> i64 {
        self.store_millis
    }

    /// Sees to it that `size` bytes in a row can be written: rolls to the next file where they do not fit, and has
    /// real blocks behind them. Nothing is visible yet, and after an error nothing has changed.
    pub(crate) fn make_room(&mut self, log: &CommitLog, size: u64) -> Result<()> {
        let needed = size.saturating_add(BLANK_LEN);
        if needed > log.files().file_size() {
            let max = log.files().file_size().saturating_sub(BLANK_LEN);
            return Err(Error::MessageTooLarge { len: size, max });
        }
        if needed > self.file.end().saturating_sub(self.end) {
            self.roll(log)?;
        }
        let position = self.end.saturating_sub(self.file.start());
        if position.saturating_add(needed) > self.file.allocated() {
            log.files().allocate(&self.file, position.saturating_add(needed))?;
        }
        Ok(())
    }

    /// Ends this file with a blank record and goes on in the next one.
    #[cold]
    fn roll(&mut self, log: &CommitLog) -> Result<()> {
        let rest = self.file.end().saturating_sub(self.end);
        let position = self.end.saturating_sub(self.file.start());
        if rest >= BLANK_LEN {
            log.files().allocate(&self.file, position.saturating_add(BLANK_LEN))?;
        }
        // Crash: the next file stands before the blank record is written, and an unused file is harmless.
        let next = log.files().next().inspect_err(|error| log.note_failed_file(error))?;
        if rest >= BLANK_LEN {
            let blank = encode_blank(u32::try_from(rest).unwrap_or(u32::MAX));
            self.file.map().put(to_usize(position), &blank)?;
        }
        self.end = next.start();
        self.file = next;
        log.publish(self.end);
        Ok(())
    }

    /// Returns the store time for the next record: `now`, but never earlier than the last one.
    pub(crate) fn stamp(&mut self, now: i64) -> i64 {
        self.store_millis = self.store_millis.max(now);
        self.store_millis
    }

    /// Writes a record into the room that was made for it. It is visible once the log publishes beyond it.
    pub(crate) fn write(
        &mut self,
        draft: &Draft<'_>,
        buffer: &mut [u8],
        at: QueueOffset,
        store_millis: i64,
    ) -> Result<PhysicalOffset> {
        let physical = PhysicalOffset::new(self.end);
        draft.seal(buffer, at, physical, store_millis);
        let mut position = to_usize(self.end.saturating_sub(self.file.start()));
        for piece in draft.pieces(buffer) {
            self.file.map().put(position, piece)?;
            position = position.saturating_add(piece.len());
        }
        let size = to_usize(u64::from(draft.size()));
        self.end = self.end.saturating_add(u64::from(draft.size()));
        // The next record is likely to be as long.
        self.file.map().expect_write(position, size.min(EXPECTED_MAX));
        Ok(physical)
    }
}
