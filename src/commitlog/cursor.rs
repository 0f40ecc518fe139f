//! What comes next in the log? One walk over records, blank records and file ends, for recovery, dispatch and index.

use std::sync::Arc;

use super::{CommitLog, LogFile};
use crate::message::record::{Record, Scanned, scan};
use crate::types::{PhysicalOffset, to_u64, to_usize};

/// A place in the log that moves forward record by record.
#[derive(Debug)]
pub(crate) struct Cursor {
    at: u64,
    file: Option<Arc<LogFile>>,
}

/// What a cursor found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A record whose structure is sound and that says of itself that it lies here. Checksums are not checked yet.
    Record(PhysicalOffset, Record<'a>),
    /// Bytes that are no record.
    Damage(PhysicalOffset, Box<str>),
    /// Nothing more before the limit: zeros, the end of the last file, or the limit itself.
    End(PhysicalOffset),
}

impl Cursor {
    /// Starts at a byte where a record starts.
    pub(crate) const fn new(at: PhysicalOffset) -> Self {
        Self { at: at.get(), file: None }
    }

    /// Returns where the next record starts.
    pub(crate) const fn at(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.at)
    }

    /// Goes to another place.
    pub(crate) fn jump(&mut self, at: PhysicalOffset) {
        self.at = at.get();
    }

    /// Returns what lies at the cursor and moves behind it if it is a record.
    ///
    /// `limit` is the end of what may be looked at: the published end while the log is in use.
    pub(crate) fn next<'a>(&'a mut self, log: &CommitLog, limit: PhysicalOffset) -> Found<'a> {
        loop {
            if self.at >= limit.get() || !self.find_file(log) {
                return Found::End(self.at());
            }
            let Some((start, end, len)) =
                self.file.as_ref().map(|file| (file.start(), file.end(), file.map().len()))
            else {
                return Found::End(self.at());
            };
            if self.at < start {
                return Found::Damage(self.at(), "the file that should be here is missing".into());
            }
            let from = to_usize(self.at.saturating_sub(start));
            let to = len.min(to_usize(limit.get().saturating_sub(start)));
            if !matches!(self.scan(from, to), Scanned::Blank) {
                return self.judge(from, to);
            }
            if log.files().starting_from(end).is_none() {
                // A blank record without a file after it is not kept: the next record may fit before it.
                return Found::End(self.at());
            }
            self.at = end;
        }
    }

    fn scan(&self, from: usize, to: usize) -> Scanned<'_> {
        self.file.as_ref().and_then(|file| file.map().bytes(from..to)).map_or(Scanned::End, scan)
    }

    fn judge(&mut self, from: usize, to: usize) -> Found<'_> {
        let at = self.at();
        let size = match self.scan(from, to) {
            Scanned::End | Scanned::Blank => return Found::End(at),
            Scanned::Fault(fault) => return Found::Damage(at, fault.to_string().into()),
            Scanned::Record(record) => match record.check_place(at) {
                Ok(()) => record.size(),
                Err(fault) => return Found::Damage(at, fault.to_string().into()),
            },
        };
        self.at = self.at.saturating_add(u64::from(size));
        match self.scan(from, to) {
            Scanned::Record(record) => Found::Record(at, record),
            _ => Found::End(at),
        }
    }

    /// Makes the current file the one in which the cursor lies, or the next one after a missing file.
    fn find_file(&mut self, log: &CommitLog) -> bool {
        let inside = |file: &Arc<LogFile>| {
            file.start() <= self.at && self.at < file.start().saturating_add(to_u64(file.map().len()))
        };
        if self.file.as_ref().is_some_and(inside) {
            return true;
        }
        self.file = log.files().at(self.at).or_else(|| log.files().starting_from(self.at));
        self.file.is_some()
    }
}
