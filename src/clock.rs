//! What time is it? Everything that depends on time asks a [`Clock`], so that a test can move it by hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A source of time. A store asks one for everything: store timestamps, flush intervals, retries.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the time of day in milliseconds since 1970, UTC. It may jump.
    fn wall_millis(&self) -> i64;

    /// Returns the time since some fixed moment. It never goes back.
    fn monotonic(&self) -> Duration;
}

/// The clock of the machine.
///
/// The time of day is read coarsely (it advances in steps of 1 to 4 ms), because a message is stored in less time
/// than a precise reading takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_millis(&self) -> i64 {
        read(ClockId::CLOCK_REALTIME_COARSE)
            .map_or(0, |(seconds, nanos)| seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
    }

    fn monotonic(&self) -> Duration {
        let (seconds, nanos) = read(ClockId::CLOCK_MONOTONIC).unwrap_or_default();
        Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0))
    }
}

fn read(clock: ClockId) -> Option<(i64, i64)> {
    clock_gettime(clock).ok().map(|time| (time.tv_sec(), time.tv_nsec()))
}

/// The time by which messages are due: the time of day read once, plus the monotonic time since. A clock that is set
/// while the store is open makes nothing early or late.
#[derive(Debug)]
pub(crate) struct SteadyClock {
    clock: Arc<dyn Clock>,
    opened: (i64, Duration),
}

impl SteadyClock {
    /// Starts with the time of day that the clock has now.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let opened = (clock.wall_millis(), clock.monotonic());
        Self { clock, opened }
    }

    /// Returns the clock itself.
    pub(crate) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Returns the time, in milliseconds since 1970.
    pub(crate) fn now_millis(&self) -> i64 {
        let (wall, monotonic) = self.opened;
        let since = self.clock.monotonic().saturating_sub(monotonic);
        wall.saturating_add(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns how much of the present millisecond is over.
    pub(crate) fn past_milli(&self) -> Duration {
        let since = self.clock.monotonic().saturating_sub(self.opened.1);
        Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000))
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    wall_millis: AtomicI64,
    monotonic_nanos: AtomicU64,
}

impl ManualClock {
    /// Starts at a time of day, in milliseconds since 1970.
    #[must_use]
    pub const fn new(wall_millis: i64) -> Self {
        Self { wall_millis: AtomicI64::new(wall_millis), monotonic_nanos: AtomicU64::new(0) }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        self.wall_millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.monotonic_nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Lets the time of day jump, as a wrong clock that is set right does; the monotonic time stays.
    pub fn set_wall_millis(&self, wall_millis: i64) {
        self.wall_millis.store(wall_millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_millis(&self) -> i64 {
        self.wall_millis.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = ManualClock::new(1_000);
        clock.advance(Duration::from_millis(250));
        assert_eq!((clock.wall_millis(), clock.monotonic()), (1_250, Duration::from_millis(250)));
        clock.set_wall_millis(5);
        assert_eq!((clock.wall_millis(), clock.monotonic()), (5, Duration::from_millis(250)));
    }

    #[test]
    fn the_system_clock_tells_a_time_after_2020() {
        assert!(SystemClock.wall_millis() > 1_577_836_800_000);
        assert!(SystemClock.monotonic() <= SystemClock.monotonic());
    }
}
