//! When does old data go, and what stays whatever its age?

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};

/// RocketMQ's `fileReservedTime`.
const AGE_DEFAULT: Duration = Duration::from_secs(72 * 3_600);
/// A longer time than this is taken for a slip of the pen: ten thousand years.
const AGE_MAX: Duration = Duration::from_secs(10_000 * 366 * 86_400);

/// What becomes of messages that a registered group has not consumed when their time has come.
///
/// A group is registered where it has committed a position in the topic: it does so when its consumer is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Unconsumed {
    #[default]
    Keep,
    Delete,
}

/// How full the disk may become, in percent of its size (RocketMQ's three ratios).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskRatios {
    /// Above this, expired files go at any hour (RocketMQ's `diskMaxUsedSpaceRatio`, 75).
    pub expired: u8,
    /// Above this, the oldest files go even if they have not expired (`diskSpaceCleanForciblyRatio`, 85).
    pub unexpired: u8,
    /// Above this, sends are refused as well (`diskSpaceWarningLevelRatio`, 90).
    pub refuse: u8,
}

impl DiskRatios {
    /// Returns RocketMQ's own ratios: 75, 85 and 90 percent.
    #[must_use]
    pub const fn rocketmq() -> Self {
        Self { expired: 75, unexpired: 85, refuse: 90 }
    }
}

/// When old data goes: by age, by size, by the space that is left on the disk.
///
/// Data goes in whole files of the commit log, oldest first, ten in ten seconds at most, and never the file that is
/// written to; queues and index follow. Age is the time since the newest message of a file was stored, not the file's
/// own time, so a copied folder ages as its original does. A file that a registered group still has to consume from
/// stays in any case, unless [`delete_unconsumed`](Self::delete_unconsumed) says otherwise: RocketMQ never asks whether a
/// message was consumed.
///
/// Settings of the opening, not of the folder: state them each time.
///
/// ```
/// use pocketmq::{Retention, Store};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::builder(dir.path())
///     .retention(Retention::new().hours(72).max_bytes(50 << 30).keep_unconsumed())
///     .open()?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a retention does nothing until a store is opened with it"]
#[doc(alias = "fileReservedTime")]
pub struct Retention {
    /// `None`: for ever.
    pub(crate) age: Option<Duration>,
    pub(crate) topic_ages: BTreeMap<String, Option<Duration>>,
    pub(crate) bytes_max: Option<u64>,
    pub(crate) free_min: Option<u64>,
    pub(crate) ratios: Option<DiskRatios>,
    pub(crate) hour: Option<u8>,
    pub(crate) unconsumed: Unconsumed,
}

impl Default for Retention {
    fn default() -> Self {
        Self::new()
    }
}

impl Retention {
    /// Keeps messages for 72 hours as RocketMQ does, and longer what has not been consumed. This is what a store does
    /// that is told nothing.
    pub const fn new() -> Self {
        Self {
            age: Some(AGE_DEFAULT),
            topic_ages: BTreeMap::new(),
            bytes_max: None,
            free_min: None,
            ratios: None,
            hour: None,
            unconsumed: Unconsumed::Keep,
        }
    }

    /// Keeps everything for ever.
    pub fn forever() -> Self {
        Self { age: None, ..Self::new() }
    }

    /// Does as a RocketMQ broker with default settings: 72 hours; expired files go at 4 o'clock (UTC here, the local hour
    /// there) or when the disk is more than 75 % full, unexpired ones too above 85 %, and sends are refused above 90 %.
    /// Whether anybody has consumed a message counts for nothing.
    pub fn rocketmq() -> Self {
        Self {
            ratios: Some(DiskRatios::rocketmq()),
            hour: Some(4),
            unconsumed: Unconsumed::Delete,
            ..Self::new()
        }
    }

    /// Sets how long messages are kept, in hours. Default 72. More for what may have to be read again; less for what is
    /// worthless tomorrow.
    #[doc(alias = "fileReservedTime")]
    pub fn hours(self, hours: u32) -> Self {
        self.age(Duration::from_secs(u64::from(hours).saturating_mul(3_600)))
    }

    /// Sets how long messages are kept. Default 72 hours; 1 s to 10,000 years.
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Sets how long the messages of one topic are kept, in place of the general time; 1 s to 10,000 years.
    ///
    /// A topic that is kept longer keeps the files in which its messages lie, and with them everything else that lies
    /// there. A topic that is kept less long loses its messages for every reader when their time has come; their bytes
    /// go with the file. (RocketMQ's attribute `reserve.time`, which counts only for tiered storage there.)
    #[doc(alias = "reserve.time")]
    pub fn topic_age(mut self, topic: impl Into<String>, age: Duration) -> Self {
        self.topic_ages.insert(topic.into(), Some(age));
        self
    }

    /// Keeps the messages of one topic for ever. Only [`max_bytes`](Self::max_bytes) and a full disk end that.
    pub fn topic_forever(mut self, topic: impl Into<String>) -> Self {
        self.topic_ages.insert(topic.into(), None);
        self
    }

    /// Sets how many bytes the commit log of each broker may have: above that the oldest files go, expired or not.
    /// Default: no limit. At least two log files. Queue files come on top, 20 bytes a message, and the index.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    /// Sets how many bytes should stay free on the disk: below that the oldest files go, expired or not, whoever filled
    /// the disk. Default: nothing goes for that reason, and sends are refused below the reserve
    /// ([`StoreBuilder::free_space_min`](crate::StoreBuilder::free_space_min)). Set it above the reserve.
    pub const fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.free_min = Some(bytes);
        self
    }

    /// Sets how full the disk may become. Default: no ratios, so that another program that fills the disk never costs a
    /// message. Each 1 to 100, none smaller than the one before.
    pub const fn disk_ratios(mut self, ratios: DiskRatios) -> Self {
        self.ratios = Some(ratios);
        self
    }

    /// Lets expired files go during one hour of the day only, 0 to 23, UTC. Default: as soon as they have expired. For
    /// disks that have a quiet hour; what goes for its size or for space goes at any hour.
    #[doc(alias = "deleteWhen")]
    pub const fn at_hour_utc(mut self, hour: u8) -> Self {
        self.hour = Some(hour);
        self
    }

    /// Keeps what a registered group has not consumed, whatever its age and however large the log. The default. A group
    /// that never comes back holds its messages until it is deleted or moved on;
    /// [`RetentionReport::held`](crate::RetentionReport) names it.
    pub const fn keep_unconsumed(mut self) -> Self {
        self.unconsumed = Unconsumed::Keep;
        self
    }

    /// Lets data go whether it has been consumed or not, as RocketMQ does. The report counts what groups lost.
    pub const fn delete_unconsumed(mut self) -> Self {
        self.unconsumed = Unconsumed::Delete;
        self
    }

    /// Checks every setting against its range.
    pub(crate) fn check(&self) -> Result<()> {
        let ages = self.topic_ages.values().copied().chain([self.age]).flatten();
        for age in ages {
            if age < Duration::from_secs(1) || age > AGE_MAX {
                return Err(Error::config("retention.age", "must be between 1 s and 10,000 years"));
            }
        }
        if let Some(wrong) = self.topic_ages.keys().find(|name| crate::types::TopicName::new(name).is_err()) {
            return Err(Error::config("retention.topic_age", format!("{wrong:?} is no topic's name")));
        }
        if let Some(DiskRatios { expired, unexpired, refuse }) = self.ratios
            && !(1 <= expired && expired <= unexpired && unexpired <= refuse && refuse <= 100)
        {
            let reason =
                format!("{expired}, {unexpired} and {refuse} percent: each 1 to 100, in ascending order");
            return Err(Error::config("retention.disk_ratios", reason));
        }
        if self.hour.is_some_and(|hour| hour > 23) {
            return Err(Error::config("retention.at_hour_utc", "must be between 0 and 23"));
        }
        Ok(())
    }

    /// Checks what depends on the size of the log's files, which only the folder knows.
    pub(crate) fn check_file_size(&self, file_size: u64) -> Result<()> {
        match self.bytes_max {
            Some(bytes) if bytes < file_size.saturating_mul(2) => {
                let reason = format!(
                    "{bytes} bytes, and a file of the log has {file_size}: at least two files are needed"
                );
                Err(Error::config("retention.max_bytes", reason))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f65_the_defaults_are_rocketmqs_72_hours_but_what_is_unconsumed_stays() {
        let retention = Retention::new();
        assert_eq!(retention.age, Some(Duration::from_secs(259_200)));
        assert_eq!((retention.unconsumed, retention.ratios), (Unconsumed::Keep, None));
        let theirs = Retention::rocketmq();
        assert_eq!(theirs.ratios, Some(DiskRatios { expired: 75, unexpired: 85, refuse: 90 }));
        assert_eq!(
            (theirs.unconsumed, theirs.hour, theirs.age),
            (Unconsumed::Delete, Some(4), retention.age)
        );
        theirs.check().unwrap();
        Retention::forever().check().unwrap();
    }

    #[test]
    fn b6_a_retention_that_makes_no_sense_is_refused_by_name() {
        let ratios = |expired, unexpired, refuse| {
            Retention::new().disk_ratios(DiskRatios { expired, unexpired, refuse })
        };
        for (wrong, named) in [
            (Retention::new().hours(0), "retention.age"),
            (Retention::new().age(Duration::MAX), "retention.age"),
            (Retention::new().topic_age("orders", Duration::ZERO), "retention.age"),
            (Retention::new().topic_forever("no name"), "retention.topic_age"),
            (ratios(0, 85, 90), "retention.disk_ratios"),
            (ratios(75, 70, 90), "retention.disk_ratios"),
            (ratios(75, 85, 101), "retention.disk_ratios"),
            (Retention::new().at_hour_utc(24), "retention.at_hour_utc"),
        ] {
            let error = wrong.check().unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { field, .. } if field == named), "{error}");
        }
        assert!(Retention::new().max_bytes(8_191).check_file_size(4_096).is_err());
        Retention::new().max_bytes(8_192).check_file_size(4_096).unwrap();
    }
}
