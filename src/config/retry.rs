//! How often, and after which waits, does a group try a message again that it could not handle?

use std::time::Duration;

use super::DelayLevels;
use crate::error::{Error, Result};

/// The delay level of the first retry: 10 s.
const FIRST_LEVEL: u32 = 3;
/// RocketMQ's own number of retries.
const RETRIES: u32 = 16;

/// When a message that failed is delivered again, and when it is given up (RocketMQ's `maxReconsumeTimes` and
/// `groupRetryPolicy`).
///
/// The default is RocketMQ's: after 10 s, 30 s, 1 min … 2 h (delay levels 3 to 18), 16 times; the message that fails
/// once more goes to the dead letters. Retries wait in delay levels on disk, so every wait is rounded up to the next
/// level, and none is longer than the longest.
///
/// ```
/// use pocketmq::RetryPolicy;
/// use std::time::Duration;
///
/// let quick = RetryPolicy::new().max_retries(3).waits([Duration::from_secs(1), Duration::from_secs(5)]);
/// let patient = RetryPolicy::new().exponential(Duration::from_secs(5), 2, Duration::from_secs(7_200));
/// assert_ne!(quick, patient);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "maxReconsumeTimes")]
#[doc(alias = "groupRetryPolicy")]
#[must_use]
pub struct RetryPolicy {
    retries: u32,
    waits: Waits,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Waits {
    Ladder,
    Listed(Box<[Duration]>),
    Exponential { first: Duration, factor: u32, longest: Duration },
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl RetryPolicy {
    /// Returns RocketMQ's policy.
    pub const fn new() -> Self {
        Self { retries: RETRIES, waits: Waits::Ladder }
    }

    /// Sets how often a message is tried again before it goes to the dead letters. Default 16, which makes 17
    /// deliveries; any number, 0 for none: the first failure is the last.
    #[doc(alias = "retryMaxTimes")]
    pub const fn max_retries(mut self, count: u32) -> Self {
        self.retries = count;
        self
    }

    /// Sets the wait before each retry; the last one counts for all that follow. Default: RocketMQ's ladder. At least
    /// one.
    #[doc(alias = "CustomizedRetryPolicy")]
    pub fn waits(mut self, waits: impl IntoIterator<Item = Duration>) -> Self {
        self.waits = Waits::Listed(waits.into_iter().collect());
        self
    }

    /// Lets each wait be `factor` times the one before it, from `first` on and never above `longest`. A factor of 0
    /// counts as 1.
    #[doc(alias = "ExponentialRetryPolicy")]
    pub fn exponential(mut self, first: Duration, factor: u32, longest: Duration) -> Self {
        self.waits = Waits::Exponential { first, factor, longest };
        self
    }

    /// Checks that there is a wait.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.waits {
            Waits::Listed(waits) if waits.is_empty() => {
                Err(Error::config("retry_policy", "has no wait: name at least one, or leave waits() out"))
            }
            _ => Ok(()),
        }
    }

    /// Returns how often a message is tried again.
    pub(crate) const fn retries(&self) -> u32 {
        self.retries
    }

    /// Returns the delay level of the next attempt of a message that was consumed in vain so often before this time.
    pub(crate) fn level(&self, levels: &DelayLevels, reconsume_times: u32) -> u32 {
        match &self.waits {
            Waits::Ladder => levels.cap(FIRST_LEVEL.saturating_add(reconsume_times)),
            Waits::Listed(waits) => {
                let place = usize::try_from(reconsume_times).unwrap_or(usize::MAX);
                levels.at_least(waits.get(place).or(waits.last()).copied().unwrap_or_default())
            }
            Waits::Exponential { first, factor, longest } => {
                let times = (*factor).max(1).saturating_pow(reconsume_times);
                levels.at_least(first.saturating_mul(times).min(*longest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels_of(policy: &RetryPolicy, times: impl IntoIterator<Item = u32>) -> Vec<u32> {
        times.into_iter().map(|times| policy.level(&DelayLevels::default(), times)).collect()
    }

    #[test]
    fn f102_retries_climb_from_level_3_to_18() {
        assert_eq!(levels_of(&RetryPolicy::new(), 0..17), (3..19).chain([18]).collect::<Vec<_>>());
        assert_eq!(levels_of(&RetryPolicy::new(), [u32::MAX]), [18]);
    }

    #[test]
    fn e22_waits_are_rounded_up_to_levels_and_the_last_one_repeats() {
        let policy = RetryPolicy::new().waits([1, 4, 90].map(Duration::from_secs));
        assert_eq!(levels_of(&policy, 0..5), [1, 2, 6, 6, 6]);
        assert!(RetryPolicy::new().waits([]).check().is_err());
        policy.check().unwrap();
    }

    #[test]
    fn e22_exponential_waits_double_up_to_the_longest() {
        let policy = RetryPolicy::new().exponential(Duration::from_secs(5), 2, Duration::from_secs(60));
        assert_eq!(levels_of(&policy, [0, 1, 2, 3, 4, 1_000]), [2, 3, 4, 5, 5, 5]);
        let flat = RetryPolicy::new().exponential(Duration::from_secs(5), 0, Duration::MAX);
        assert_eq!(levels_of(&flat, [0, 9]), [2, 2]);
    }
}
