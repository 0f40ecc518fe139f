//! When is a producer asked what became of a transaction, and when is nobody asked any more?

use std::time::Duration;

use crate::error::{Error, Result};

/// The longest time that may be set.
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// The shortest time between two checks of one transaction.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The most undecided transactions that may be allowed for a broker.
const UNDECIDED_MAX: usize = 100_000_000;

/// How undecided transactions are checked back.
///
/// The defaults are RocketMQ's: a half message whose decision has not come after 6 s is checked, then every 30 s, at most 15
/// times. Then it is given up: it goes to `TRANS_CHECK_MAX_TIME_TOPIC` and is never delivered, unless somebody brings it
/// back. Only checks that a producer was really asked count; without a producer of its group a half message waits.
///
/// ```
/// use pocketmq::{Store, TransactionPolicy};
/// use std::time::Duration;
///
/// # let dir = tempfile::tempdir()?;
/// let policy = TransactionPolicy::new().immunity(Duration::from_secs(60)).checks_max(5);
/// let store = Store::builder(dir.path()).transactions(policy).open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct TransactionPolicy {
    pub(crate) immunity: Duration,
    pub(crate) check_interval: Duration,
    pub(crate) checks_max: u32,
    pub(crate) undecided_max: usize,
}

impl Default for TransactionPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl TransactionPolicy {
    /// Returns RocketMQ's policy.
    pub const fn new() -> Self {
        Self {
            immunity: Duration::from_secs(6),
            check_interval: Duration::from_secs(30),
            checks_max: 15,
            undecided_max: 100_000,
        }
    }

    /// Sets how old a half message is before its producer is asked for the first time. Default 6 s; at most 30 days. Longer
    /// than local work takes, or the work is asked about while it runs. A message can have its own, in whole seconds,
    /// with the property `CHECK_IMMUNITY_TIME_IN_SECONDS`.
    #[doc(alias = "transactionTimeOut")]
    pub const fn immunity(mut self, time: Duration) -> Self {
        self.immunity = time;
        self
    }

    /// Sets the time from one check of a transaction to the next. Default 30 s, as RocketMQ 5; 10 ms to 30 days.
    #[doc(alias = "transactionCheckInterval")]
    pub const fn check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = interval;
        self
    }

    /// Sets how often a producer is asked before a transaction is given up. Default 15; 1 to 1,000.
    #[doc(alias = "transactionCheckMax")]
    pub const fn checks_max(mut self, count: u32) -> Self {
        self.checks_max = count;
        self
    }

    /// Sets how many transactions may be undecided on each broker: one more is `StoreBusy`. Default 100,000; 1 to
    /// 100,000,000. Each takes about 300 bytes of memory.
    pub const fn undecided_max(mut self, count: usize) -> Self {
        self.undecided_max = count;
        self
    }

    /// Checks every setting against its range.
    pub(super) fn check(&self) -> Result<()> {
        if self.immunity > TIME_MAX {
            return Err(Error::config("transactions.immunity", "must be at most 30 days"));
        }
        if !(INTERVAL_MIN..=TIME_MAX).contains(&self.check_interval) {
            return Err(Error::config("transactions.check_interval", "must be between 10 ms and 30 days"));
        }
        if !(1..=1_000).contains(&self.checks_max) {
            return Err(Error::config("transactions.checks_max", "must be 1 to 1,000"));
        }
        if !(1..=UNDECIDED_MAX).contains(&self.undecided_max) {
            return Err(Error::config("transactions.undecided_max", "must be 1 to 100,000,000"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_a_policy_that_makes_no_sense_is_refused_by_name() {
        let policy = TransactionPolicy::new();
        policy.check().unwrap();
        let day = Duration::from_secs(24 * 3_600);
        for (wrong, named) in [
            (policy.immunity(31 * day), "transactions.immunity"),
            (policy.check_interval(Duration::ZERO), "transactions.check_interval"),
            (policy.check_interval(31 * day), "transactions.check_interval"),
            (policy.checks_max(0), "transactions.checks_max"),
            (policy.checks_max(1_001), "transactions.checks_max"),
            (policy.undecided_max(0), "transactions.undecided_max"),
        ] {
            let error = wrong.check().unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { field, .. } if field == named), "{error}");
        }
        policy.immunity(Duration::ZERO).check().unwrap();
    }

    #[test]
    fn f136_f137_the_defaults_are_rocketmqs() {
        let TransactionPolicy { immunity, check_interval, checks_max, .. } = TransactionPolicy::default();
        assert_eq!((immunity.as_secs(), check_interval.as_secs(), checks_max), (6, 30, 15));
    }
}
