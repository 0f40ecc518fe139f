//! How does the log get to disk, and what happens when that fails?

use super::LogFiles;
use crate::error::{Error, Outcome, Result};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::types::to_usize;

/// Up to where the log is on disk, and whether that can still grow.
#[derive(Debug)]
pub(crate) struct FlushState {
    flushed: AtomicU64,
    failed: AtomicBool,
    /// Held while a flush runs: there is one at a time.
    running: Mutex<()>,
}

impl FlushState {
    pub(super) const fn new(flushed: u64) -> Self {
        Self { flushed: AtomicU64::new(flushed), failed: AtomicBool::new(false), running: Mutex::new(()) }
    }

    pub(super) fn start_at(&self, flushed: u64) {
        self.flushed.store(flushed, Ordering::Release);
    }

    pub(super) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    pub(super) fn failed(&self) -> Option<u64> {
        self.failed.load(Ordering::Acquire).then(|| self.flushed())
    }

    /// Lets every later flush fail.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Syncs everything between the last flush and what `end` returns once it is this flush's turn.
    ///
    /// The first failure is final (contract D5): after it the kernel holds pages that look clean and are not on
    /// disk, so a second sync would report success for bytes that a power loss takes away.
    pub(super) fn flush(&self, files: &LogFiles, end: impl Fn() -> u64) -> Result<u64> {
        let _turn = self.running.lock();
        let from = self.flushed();
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::FlushFailed { durable_offset: from, outcome: Outcome::MayExist });
        }
        let to = end();
        for file in files.within(from, to) {
            let first = to_usize(from.saturating_sub(file.start()));
            let last = to_usize(to.saturating_sub(file.start())).min(file.map().len());
            if file.map().sync(first..last).is_err() {
                self.failed.store(true, Ordering::Release);
                return Err(Error::FlushFailed { durable_offset: from, outcome: Outcome::MayExist });
            }
        }
        self.flushed.store(to.max(from), Ordering::Release);
        Ok(to.max(from))
    }
}
