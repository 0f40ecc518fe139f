//! What did an opening find, and what did it do about it?

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::events;
use crate::types::{BrokerName, PhysicalOffset};

/// How the last user of a broker folder left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LastStop {
    /// There was nothing: the folder is new.
    New,
    /// The store was closed.
    Clean,
    /// The process ended without closing it, or the power failed.
    Crash,
}

/// A part of the log that could not be read, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// Where it starts.
    pub from: PhysicalOffset,
    /// Where it ends.
    pub to: PhysicalOffset,
    /// The file in which it starts.
    pub file: PathBuf,
    /// What was wrong.
    pub what: String,
}

/// What the opening of one broker folder found and did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The broker.
    pub broker: BrokerName,
    /// How it had been left.
    pub last_stop: LastStop,
    /// Whether a RocketMQ broker, or a version that keeps no record of it, wrote here last.
    pub foreign: bool,
    /// From where on the log was read and verified.
    pub scanned_from: PhysicalOffset,
    /// Where the log ends now.
    pub end: PhysicalOffset,
    /// Records that were read and verified.
    pub records: u64,
    /// Bytes beyond the end that held something and are gone: a torn tail.
    pub cut_bytes: u64,
    /// What was cut off or skipped although it had been flushed.
    pub lost: Vec<LostRange>,
    /// Bytes that were written again and synced because nobody knew whether they were on disk.
    pub rewritten_bytes: u64,
    /// Queue units that were missing or wrong and were made again.
    pub units_rebuilt: u64,
    /// From where on the index of keys is made again, in the background or by the first lookup that needs it.
    pub index_from: PhysicalOffset,
    /// Everything else that a person should know: strange files, clamped positions, backups that were used.
    pub warnings: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl RecoveryReport {
    pub(crate) const fn new(broker: BrokerName) -> Self {
        Self {
            broker,
            last_stop: LastStop::New,
            foreign: false,
            scanned_from: PhysicalOffset::ZERO,
            end: PhysicalOffset::ZERO,
            records: 0,
            cut_bytes: 0,
            lost: Vec::new(),
            rewritten_bytes: 0,
            units_rebuilt: 0,
            index_from: PhysicalOffset::ZERO,
            warnings: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

impl RecoveryReport {
    /// Tells whoever listens what the opening has found.
    pub(super) fn tell(&self) {
        events::opened(&self.broker, self);
        self.warnings.iter().for_each(|warning| events::warned(&self.broker, warning));
        self.lost.iter().for_each(|lost| events::lost(&self.broker, &lost.from, &lost.to, &lost.what));
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = match self.last_stop {
            LastStop::New => "new",
            LastStop::Clean => "left clean",
            LastStop::Crash => "left by a crash",
        };
        write!(
            formatter,
            "{}: {left}, {} records verified from byte {} to {} in {:.3} s",
            self.broker,
            self.records,
            self.scanned_from,
            self.end,
            self.took.as_secs_f64()
        )?;
        let parts = [
            (self.cut_bytes, "bytes of a torn tail cut off"),
            (self.rewritten_bytes, "bytes synced again"),
            (self.units_rebuilt, "queue units rebuilt"),
            (self.end.since(self.index_from), "bytes of log to be indexed again"),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(formatter, ", {count} {what}")?;
        }
        for lost in &self.lost {
            write!(formatter, "; lost bytes {} to {}: {}", lost.from, lost.to, lost.what)?;
        }
        self.warnings.iter().try_for_each(|warning| write!(formatter, "; {warning}"))
    }
}

/// How far a long opening has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryProgress {
    /// The broker that is being opened.
    pub broker: BrokerName,
    /// Bytes of the log that have been read.
    pub done_bytes: u64,
    /// Bytes of the log that will be read.
    pub total_bytes: u64,
}
