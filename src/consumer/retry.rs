//! What becomes of a message whose attempt failed?
//!
//! Every failed delivery of a clustering group that consumes concurrently is handed over here, and nowhere else. It
//! waits in memory after RocketMQ's ladder, its delay levels 3 to 18, or as long as its consumer says; the committed
//! position stays before it, so a restart brings it back at once.

use std::time::Duration;

use super::lane::{PutAway, Ticket};
use crate::clock::Clock;

/// The waits after the first, second, … failure, in seconds.
const LADDER_SECONDS: [u64; 16] =
    [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];

/// When a message that failed is to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wait {
    /// After the next step of the ladder.
    #[default]
    Ladder,
    /// After the wait that its consumer chose.
    For(Duration),
}

/// Puts a message away whose attempt failed, and says where it is now.
pub(super) fn hand_back(clock: &dyn Clock, ticket: &Ticket, wait: Wait) -> PutAway {
    let wait = match wait {
        Wait::Ladder => wait_after(ticket.attempt),
        Wait::For(wait) => wait,
    };
    PutAway::Until(clock.monotonic().saturating_add(wait))
}

/// Returns how long a message waits after its attempt number `attempt` failed, counted from 1.
fn wait_after(attempt: u32) -> Duration {
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
