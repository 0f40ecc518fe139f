//! How long does each delay level wait?

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};

/// RocketMQ's own levels (`messageDelayLevel`).
const ROCKETMQ: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";
/// Each level has a queue of `SCHEDULE_TOPIC_XXXX`, and RocketMQ gives that topic so many.
pub(crate) const DELAY_LEVELS_MAX: usize = 18;
/// The longest wait that a level may have, in days.
const DAYS_MAX: u64 = 36_500;

/// The delays of the levels, from level 1 on, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DelayLevels(Arc<[i64]>);

impl Default for DelayLevels {
    fn default() -> Self {
        Self::parse(ROCKETMQ).unwrap_or_else(|_| Self(Arc::from([1_000])))
    }
}

impl DelayLevels {
    /// Reads what RocketMQ's `messageDelayLevel` may say: delays separated by blanks, each a number and one of the
    /// units `s`, `m`, `h` and `d`.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` names the part that is none.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let levels = text.split_whitespace().map(millis_of).collect::<Result<Vec<_>>>()?;
        if levels.is_empty() {
            return Err(Error::config(
                "delay_levels",
                "names no level: write \"1s 5s 10s\", or leave it out",
            ));
        }
        if let Some(beyond) = text.split_whitespace().nth(DELAY_LEVELS_MAX) {
            let reason = format!("{beyond:?} is level 19, and there are at most {DELAY_LEVELS_MAX}");
            return Err(Error::config("delay_levels", reason));
        }
        Ok(Self(levels.into()))
    }

    /// Returns how many levels there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Returns the level that a message gets who asks for this one: a number above the last means the last.
    pub(crate) fn cap(&self, level: u32) -> u32 {
        level.min(self.count())
    }

    /// Returns the delay of a level, in milliseconds; that of the last for every number above. `None` for 0.
    pub(crate) fn millis(&self, level: u32) -> Option<i64> {
        let index = usize::try_from(self.cap(level)).ok()?.checked_sub(1)?;
        self.0.get(index).copied()
    }

    /// Returns the level with the shortest delay that is not shorter than `wait`, the longest where all are.
    pub(crate) fn at_least(&self, wait: Duration) -> u32 {
        let wanted = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let levels = || (1..=self.count()).zip(self.0.iter().copied());
        let long_enough = levels().filter(|(_, millis)| *millis >= wanted).min_by_key(|(_, millis)| *millis);
        long_enough.or_else(|| levels().max_by_key(|(_, millis)| *millis)).map_or(1, |(level, _)| level)
    }

    /// Returns the shortest delay.
    pub(crate) fn shortest(&self) -> Duration {
        let shortest = self.0.iter().copied().min().and_then(|millis| u64::try_from(millis).ok());
        Duration::from_millis(shortest.unwrap_or(0))
    }
}

fn millis_of(token: &str) -> Result<i64> {
    let wrong = |reason: String| Err(Error::config("delay_levels", reason));
    let unit = match token.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return wrong(format!("{token:?} does not end in s, m, h or d")),
    };
    let digits = token.get(..token.len().saturating_sub(1)).unwrap_or_default();
    let Ok(number) = digits.parse::<u64>() else {
        return wrong(format!("{token:?} is not a number and a unit"));
    };
    match number.checked_mul(unit).filter(|millis| *millis <= DAYS_MAX * 86_400_000) {
        Some(millis) => Ok(i64::try_from(millis).unwrap_or(i64::MAX)),
        None => wrong(format!("{token:?} is longer than {DAYS_MAX}d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f142_the_levels_are_rocketmqs_unless_told_otherwise() {
        let levels = DelayLevels::default();
        let seconds: Vec<_> = (1..=18).map(|level| levels.millis(level).unwrap() / 1_000).collect();
        let expected =
            [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
        assert_eq!(seconds, expected);
        assert_eq!((levels.count(), levels.millis(0)), (18, None));
    }

    #[test]
    fn a14_a_level_above_the_last_is_the_last() {
        let levels = DelayLevels::default();
        assert_eq!((levels.cap(19), levels.cap(u32::MAX), levels.cap(0)), (18, 18, 0));
        assert_eq!(levels.millis(19), Some(7_200_000));
    }

    #[test]
    fn a_wait_is_rounded_up_to_a_level() {
        let levels = DelayLevels::parse("1m 1s 5s").unwrap();
        let level = |millis| levels.at_least(Duration::from_millis(millis));
        assert_eq!([0, 1_000, 1_001, 5_000, 59_000].map(level), [2, 2, 3, 3, 1]);
        assert_eq!(level(u64::MAX), 1);
        assert_eq!(levels.shortest(), Duration::from_secs(1));
    }

    #[test]
    fn b9_a_table_that_is_none_is_refused_by_the_part_that_is_wrong() {
        let forty = ["1s"; 40].join(" ");
        let cases = [
            ("", "names no level"),
            ("  ", "names no level"),
            ("1s 5x", "\"5x\" does not end in"),
            ("1s s", "\"s\" is not a number"),
            ("-1s", "\"-1s\" is not a number"),
            ("1s é", "\"é\" does not end in"),
            (forty.as_str(), "\"1s\" is level 19"),
            ("99999999999d", "\"99999999999d\" is longer"),
            ("99999999999999999999999d", "is not a number"),
        ];
        for (text, what) in cases {
            let error = DelayLevels::parse(text).unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { field: "delay_levels", .. }), "{error}");
            assert!(error.to_string().contains(what), "{text:?}: {error}");
        }
        assert_eq!(DelayLevels::parse(" 2d\t0s ").unwrap().millis(1), Some(172_800_000));
    }
}
