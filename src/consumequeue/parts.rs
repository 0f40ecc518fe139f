//! Which files, and how much of them, list the messages of a queue before a byte of the log?

use std::path::PathBuf;

use super::ConsumeQueue;
use super::files;
use super::unit::{UNIT_LEN, Unit};
use crate::error::Result;
use crate::storage::file_name;
use crate::types::{PhysicalOffset, QueueOffset};

/// One file of a queue.
#[derive(Debug)]
pub(crate) struct QueuePart {
    pub(crate) path: PathBuf,
    /// Its bytes.
    pub(crate) len: u64,
    /// How many of them from its start hold units of messages before the limit.
    pub(crate) used: u64,
}

/// A queue as it was when the log ended at some byte.
#[derive(Debug)]
pub(crate) struct QueueParts {
    /// The offset that the next message got.
    pub(crate) end: QueueOffset,
    /// Where the last message starts; `None` in an empty queue.
    pub(crate) last: Option<PhysicalOffset>,
    /// Newest first: retention takes the oldest one first.
    pub(crate) parts: Vec<QueuePart>,
}

impl ConsumeQueue {
    /// Returns the files that list the messages before `limit`. Writers may go on meanwhile.
    pub(crate) fn parts_before(&self, limit: PhysicalOffset) -> Result<QueueParts> {
        // A damaged unit lies among those that are older: nobody damages what was just written.
        let is_before = |unit: Option<Unit>| Ok(unit.is_none_or(|unit| unit.physical_offset < limit));
        let end = self.partition(self.min_offset().get(), is_before)?;
        let last = match end.get().checked_sub(1) {
            Some(last) => self.get(QueueOffset::new(last))?.filter(|unit| !unit.is_blank()),
            None => None,
        };
        let (first, len) = (self.state.lock().first, self.shared.options.file_size);
        let dir = files::dir_of(&self.shared.options.dir, self.topic(), self.queue_id());
        let used_until = end.get().saturating_mul(UNIT_LEN);
        let mut parts = Vec::new();
        let mut start = first;
        while start < used_until {
            let used = used_until.saturating_sub(start).min(len);
            parts.push(QueuePart { path: dir.join(file_name(start)), len, used });
            start = start.saturating_add(len);
        }
        parts.reverse();
        Ok(QueueParts { end, last: last.map(|unit| unit.physical_offset), parts })
    }
}
