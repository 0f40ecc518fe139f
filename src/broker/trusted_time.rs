//! What time is it for a deletion, which cannot be taken back, if the clock may be wrong?

use std::time::Duration;

use crate::clock::Clock;

/// A clock that jumps ahead by more than this is not believed at once.
const JUMP: i64 = 3_600_000;
/// It is believed once it has stayed there for so long.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// The time of day as far as it is trusted (case G2).
///
/// A clock that jumps a year ahead makes everything look expired. So what the time of day gains on the monotonic time is
/// followed by an hour at most, until it has lasted for a day. A clock that goes back is followed at once: then data
/// only stays longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrustedTime {
    /// Wall time less monotonic time, in milliseconds, as far as it is believed.
    lead: i64,
    /// A larger one that is not believed yet, and since when it has been there.
    doubted: Option<(i64, Duration)>,
}

impl TrustedTime {
    /// Trusts the clock as it is now.
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { lead: lead(clock), doubted: None }
    }

    /// Returns the time of day in milliseconds since 1970.
    pub(super) fn now_millis(&mut self, clock: &dyn Clock) -> i64 {
        let (now, lead) = (clock.monotonic(), lead(clock));
        if lead <= self.lead.saturating_add(JUMP) {
            (self.lead, self.doubted) = (lead, None);
            return clock.wall_millis();
        }
        let since = match self.doubted {
            Some((doubted, since)) if lead.saturating_sub(doubted) <= JUMP => since,
            _ => now,
        };
        if now.saturating_sub(since) >= BELIEVED_AFTER {
            (self.lead, self.doubted) = (lead, None);
            return clock.wall_millis();
        }
        self.doubted = Some((lead, since));
        self.lead.saturating_add(millis(now))
    }

    /// Tells whether the clock shows a time that is not believed.
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.doubted.is_some()
    }
}

fn lead(clock: &dyn Clock) -> i64 {
    clock.wall_millis().saturating_sub(millis(clock.monotonic()))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3_600);
    const START: i64 = 1_700_000_000_000;

    #[test]
    fn g2_a_jump_ahead_is_not_believed_before_it_has_lasted_for_a_day() {
        let clock = ManualClock::new(START);
        let mut time = TrustedTime::new(&clock);
        clock.advance(HOUR * 100);
        assert_eq!(time.now_millis(&clock), START + 360_000_000);
        clock.set_wall_millis(START + 366 * 86_400_000);
        assert_eq!(time.now_millis(&clock), START + 360_000_000);
        assert!(time.is_in_doubt());
        clock.advance(HOUR * 23);
        assert_eq!(time.now_millis(&clock), START + 123 * 3_600_000);
        clock.advance(HOUR);
        assert_eq!(time.now_millis(&clock), clock.wall_millis());
        assert!(!time.is_in_doubt());
    }

    #[test]
    fn g2_a_jump_that_is_taken_back_leaves_nothing_and_a_small_one_is_followed() {
        let clock = ManualClock::new(START);
        let mut time = TrustedTime::new(&clock);
        clock.set_wall_millis(i64::MAX);
        assert_eq!(time.now_millis(&clock), START);
        clock.set_wall_millis(START + 5_000);
        assert_eq!(time.now_millis(&clock), START + 5_000);
        assert!(!time.is_in_doubt());
        clock.set_wall_millis(-5);
        assert_eq!(time.now_millis(&clock), -5);
        clock.set_wall_millis(i64::MIN);
        assert_eq!(time.now_millis(&clock), i64::MIN);
    }
}
