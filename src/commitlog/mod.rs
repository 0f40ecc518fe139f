//! WHAT WAS SAID, IN ORDER: the commit log of one broker, shared by all its queues.
//!
//! The log is a row of files of one size. A record lies in one file; what is left of a file after its last record is
//! a blank record. Two positions move forward through it and never back: `end`, before which everything is published
//! to readers, and `flushed`, before which everything is on disk. The log knows nothing of queues or keys.

mod append;
mod cursor;
mod files;
mod flush;
mod group_commit;
#[cfg(test)]
mod tests;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use append::Appender;
pub(crate) use cursor::{Cursor, Found};
pub(crate) use files::{LogFile, LogFiles, LogOptions, used_percent};
pub(crate) use flush::FlushState;
pub(crate) use group_commit::{FlushWait, GroupCommit};
pub use view::MessageView;

use crate::error::{Error, Result};
use crate::message::record::Record;
use crate::storage::Disk;
use crate::sync::{AtomicU64, Ordering};
use crate::types::{PhysicalOffset, to_u64, to_usize};

/// Bytes that always stay free at the end of a file, for the blank record.
pub(crate) const BLANK_LEN: u64 = 8;

/// The commit log of one broker.
#[derive(Debug)]
pub(crate) struct CommitLog {
    files: LogFiles,
    end: AtomicU64,
    flush: FlushState,
}

impl CommitLog {
    /// Lists the files of a log. Until [`resume`](Self::resume) it is empty.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Self, Vec<String>)> {
        let (files, warnings) = LogFiles::open(disk, options)?;
        let start = files.start();
        Ok((Self { files, end: AtomicU64::new(start), flush: FlushState::new(start) }, warnings))
    }

    /// Takes over where recovery found the end: drops what lies beyond, and returns the writer.
    ///
    /// `flushed` is the point below which everything is known to be on disk.
    pub(crate) fn resume(
        &self,
        end: PhysicalOffset,
        flushed: PhysicalOffset,
        store_millis: i64,
    ) -> Result<Appender> {
        let file = self.files.cut(end.get())?;
        self.end.store(end.get(), Ordering::Release);
        self.flush.start_at(flushed.get().min(end.get()));
        Ok(Appender::new(file, end.get(), store_millis))
    }

    /// Returns the files.
    pub(crate) const fn files(&self) -> &LogFiles {
        &self.files
    }

    /// Returns the first byte that still exists.
    pub(crate) fn start(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.files.start())
    }

    /// Returns the byte before which everything is on disk.
    pub(crate) fn flushed(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.flush.flushed())
    }

    /// Returns the byte before which everything is published.
    pub(crate) fn end(&self) -> PhysicalOffset {
        // Ordering: partner of the store in `publish`; what lies below is written completely.
        PhysicalOffset::new(self.end.load(Ordering::Acquire))
    }

    /// Makes everything before `end` visible to readers of the log.
    pub(crate) fn publish(&self, end: u64) {
        // Ordering: partner of the load in `end`.
        self.end.store(end, Ordering::Release);
    }

    /// Writes everything published to disk and returns up to where that holds.
    ///
    /// # Errors
    ///
    /// `FlushFailed`, now and ever after, once a sync has failed: what the system says about later syncs of the same
    /// pages cannot be believed.
    pub(crate) fn flush(&self) -> Result<PhysicalOffset> {
        self.flush.flush(&self.files, || self.end().get()).map(PhysicalOffset::new)
    }

    /// Notes that a file could not be made: where a sync failed, the log takes nothing any more (contract D5), because
    /// the name of its file may never get to disk whatever a second sync says.
    pub(crate) fn note_failed_file(&self, error: &Error) {
        if matches!(error, Error::Io(failure) if failure.operation == "sync") {
            self.flush.fail();
        }
    }

    /// Returns up to where the log is safe if a sync has failed.
    pub(crate) fn failed(&self) -> Option<u64> {
        self.flush.failed()
    }

    /// Returns the published record that starts at `at`, of `size` bytes by what its queue unit says.
    ///
    /// `None` if there is none: the place lies outside the log, or the bytes there are no record of that size that
    /// says of itself that it lies there.
    pub(crate) fn view(&self, at: PhysicalOffset, size: Option<u32>) -> Option<MessageView> {
        let end = self.end().get();
        let file = self.files.at(at.get())?;
        let from = at.get().checked_sub(file.start())?;
        let published = end.checked_sub(file.start())?.min(to_u64(file.map().len()));
        let bytes = file.map().bytes(to_usize(from)..to_usize(published))?;
        let record = Record::parse(bytes).ok()?;
        if record.physical_offset() != at || size.is_some_and(|size| size != record.size()) {
            return None;
        }
        Some(MessageView::new(Arc::clone(file.map()), to_usize(from), record.layout()))
    }

    /// Returns the folder of the log.
    pub(crate) fn dir(&self) -> &PathBuf {
        self.files.dir()
    }
}
