//! What becomes of a message whose attempt failed?
//!
//! Every failed message of a clustering group that is not tried again in place is handed over here, and nowhere else: a
//! copy goes to the group's retry topic or to its dead letters, and only then is the original done (contract D14). Where
//! the copy cannot be stored, the message stays and is handed out again here a little later.

use std::time::Duration;

use super::lane::{Lane, PutAway, Ticket};
use super::settings::Mode;
use crate::cluster::Cluster;
use crate::commitlog::MessageView;
use crate::config::RetryPolicy;
use crate::delay::{Failed, NextAttempt};
use crate::error::Result;
use crate::types::GroupName;

/// How long a message waits whose copy could not be stored (RocketMQ waits as long before it consumes it again).
const STORE_WAIT: Duration = Duration::from_secs(5);

/// What a handler says of a message that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure<'a> {
    pub(super) next: NextAttempt,
    pub(super) reason: &'a str,
}

/// How often a member tries again, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Retries {
    policy: RetryPolicy,
    /// Whether the policy was chosen: in order, a message is tried without end unless somebody sets a limit.
    is_chosen: bool,
}

impl Retries {
    pub(super) const fn chosen(policy: RetryPolicy) -> Self {
        Self { policy, is_chosen: true }
    }

    /// Changes the number of retries alone.
    pub(super) fn with_limit(&self, count: u32) -> Self {
        Self::chosen(self.policy.clone().max_retries(count))
    }

    pub(super) fn check(&self) -> Result<()> {
        self.policy.check()
    }

    pub(super) const fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// Tells whether this attempt is the last one, where nothing is tried without end.
    pub(super) const fn is_last(&self, attempt: u32) -> bool {
        attempt > self.policy.retries()
    }

    /// Tells whether a message that fails at this attempt is given up rather than tried again in place.
    pub(super) const fn is_last_in_place(&self, attempt: u32) -> bool {
        self.is_chosen && attempt > self.policy.retries()
    }
}

/// Stores copies of messages that fail. Blocks as a send does; no lock may be held.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandBack<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) group: &'a GroupName,
    pub(super) retries: &'a Retries,
    pub(super) mode: Mode,
}

impl HandBack<'_> {
    /// Stores the copy, and says what is left to do here. The error is for who asked for the dead letters.
    pub(super) fn store(
        &self,
        lane: &Lane,
        message: &MessageView,
        ticket: &Ticket,
        failure: Failure<'_>,
    ) -> (PutAway, Result<()>) {
        let next = match self.mode {
            // What is given up in order goes straight to the dead letters.
            Mode::Orderly => NextAttempt::DeadLetter,
            Mode::Concurrent => failure.next,
        };
        let sent = self.cluster.send_back(&Failed {
            broker: lane.broker(),
            group: self.group,
            message,
            times: ticket.attempt.saturating_sub(1),
            policy: &self.retries.policy,
            next,
            reason: failure.reason,
        });
        match sent {
            Ok(_) => (PutAway::Stored, Ok(())),
            Err(error) => {
                let due = self.cluster.clock().monotonic().saturating_add(STORE_WAIT);
                let away = match self.mode {
                    Mode::Orderly => PutAway::InPlace(due),
                    Mode::Concurrent => PutAway::Until(due),
                };
                (away, Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f111_in_order_there_is_no_last_attempt_unless_a_limit_is_set() {
        let endless = Retries::default();
        assert!(!endless.is_last_in_place(u32::MAX));
        let twice = endless.with_limit(2);
        assert_eq!([1, 2, 3, 4].map(|attempt| twice.is_last_in_place(attempt)), [false, false, true, true]);
        assert!(Retries::chosen(RetryPolicy::new().waits([])).check().is_err());
    }
}
