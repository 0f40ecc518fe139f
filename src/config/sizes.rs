//! How large is each kind of file? Sizes are RocketMQ's idea: all files of one kind in a folder have the same.

use crate::error::{Error, Result};

/// The smallest log file: room for one small record and the end marker.
const COMMIT_LOG_MIN: u64 = 4_096;
/// Bytes of a page, to which log files are aligned.
const PAGE: u64 = 4_096;

/// The sizes of the files of a new broker folder. A folder that exists keeps the sizes that its files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSizes {
    /// Bytes of a commit log file: a multiple of 4,096 below 2 GiB. Default 64 MiB; RocketMQ's
    /// `mappedFileSizeCommitLog` is 1 GiB.
    pub commit_log: u64,
    /// Messages that one file of a consume queue covers. Default 300,000, as RocketMQ
    /// (`mappedFileSizeConsumeQueue` is this times 20).
    pub consume_queue_units: u32,
    /// Hash slots of an index file. Default 500,000; RocketMQ's `maxHashSlotNum` is 5,000,000.
    pub index_slots: u32,
    /// Entries of an index file, one a key. Default 2,000,000; RocketMQ's `maxIndexNum` is 20,000,000.
    pub index_entries: u32,
}

impl Default for FileSizes {
    fn default() -> Self {
        Self {
            commit_log: 64 << 20,
            consume_queue_units: 300_000,
            index_slots: 500_000,
            index_entries: 2_000_000,
        }
    }
}

impl FileSizes {
    /// Returns RocketMQ's own sizes, for a folder that a broker with default settings will take over.
    #[must_use]
    pub const fn rocketmq() -> Self {
        Self {
            commit_log: 1 << 30,
            consume_queue_units: 300_000,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.commit_log < COMMIT_LOG_MIN
            || !self.commit_log.is_multiple_of(PAGE)
            || self.commit_log > u64::from(i32::MAX.unsigned_abs())
        {
            let reason = format!(
                "{}: a multiple of {PAGE} between {COMMIT_LOG_MIN} and 2 GiB is needed",
                self.commit_log
            );
            return Err(Error::config("file_sizes.commit_log", reason));
        }
        if self.consume_queue_units == 0 || self.consume_queue_units > 100_000_000 {
            return Err(Error::config("file_sizes.consume_queue_units", "must be between 1 and 100,000,000"));
        }
        let len = 40 + u64::from(self.index_slots) * 4 + u64::from(self.index_entries) * 20;
        if self.index_slots == 0 || self.index_entries < 2 || len > u64::from(i32::MAX.unsigned_abs()) {
            let reason =
                "needs at least 1 slot and 2 entries, and 40 + 4 × slots + 20 × entries bytes below 2 GiB";
            return Err(Error::config("file_sizes.index", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_a_log_file_size_that_cannot_work_is_refused() {
        for commit_log in [0, 1, 91, 4_095, 4_097, 1 << 31, u64::MAX] {
            assert!(FileSizes { commit_log, ..FileSizes::default() }.check().is_err(), "{commit_log}");
        }
        FileSizes { commit_log: 4_096, ..FileSizes::default() }.check().unwrap();
        assert!(FileSizes { consume_queue_units: 0, ..FileSizes::default() }.check().is_err());
    }

    #[test]
    fn b7_an_index_without_slots_or_above_two_gigabytes_is_refused() {
        for (index_slots, index_entries) in
            [(0, 10), (10, 0), (10, 1), (i32::MAX.unsigned_abs(), 10), (1, 1 << 30)]
        {
            let sizes = FileSizes { index_slots, index_entries, ..FileSizes::default() };
            assert!(sizes.check().is_err(), "{index_slots} {index_entries}");
        }
    }
}
