//! What does the index list, one entry after the other, as the log has their messages?

use std::sync::Arc;

use super::Index;
use super::file::IndexFile;
use crate::error::Result;
use crate::types::PhysicalOffset;

/// All entries, oldest first.
#[derive(Debug)]
pub(crate) struct Entries {
    /// The rest of the files, the next one last.
    files: Vec<Arc<IndexFile>>,
    number: u32,
}

impl Index {
    /// Starts at the oldest entry.
    pub(crate) fn entries(&self) -> Entries {
        Entries { files: self.files.read().iter().rev().cloned().collect(), number: 1 }
    }
}

impl Entries {
    /// Returns the next entry: where its message lies, and the hash of its key.
    pub(crate) fn next(&mut self) -> Result<Option<(PhysicalOffset, u32)>> {
        while let Some(file) = self.files.last() {
            if self.number < file.next()? {
                let entry = file.entry(self.number)?;
                self.number = self.number.saturating_add(1);
                return Ok(Some((PhysicalOffset::new(entry.physical), entry.hash)));
            }
            self.files.pop();
            self.number = 1;
        }
        Ok(None)
    }
}
