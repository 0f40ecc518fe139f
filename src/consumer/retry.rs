//! When does a failed message come back?
//!
//! After RocketMQ's ladder, its delay levels 3 to 18. It waits in memory, and the committed position stays before it, so
//! a restart brings it back at once. (Retry topic and dead letters take this place over once delayed messages exist.)

use std::time::Duration;

/// The waits after the first, second, … failure, in seconds.
const LADDER_SECONDS: [u64; 16] =
    [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];

/// Returns how long a message waits after its attempt number `attempt` failed, counted from 1.
pub(super) fn wait_after(attempt: u32) -> Duration {
    let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    Duration::from_secs(LADDER_SECONDS.get(place).or(LADDER_SECONDS.last()).copied().unwrap_or(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v8_failed_messages_come_back_after_rocketmqs_ladder() {
        let waits = [1, 2, 3, 16, 17, u32::MAX].map(|attempt| wait_after(attempt).as_secs());
        assert_eq!(waits, [10, 30, 60, 7_200, 7_200, 7_200]);
    }
}
