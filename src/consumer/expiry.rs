//! Which messages are worth nothing any more when their turn comes, and where do they go?
//!
//! A message says itself when it expires ([`Message::expires_in`](crate::Message::expires_in)). It is looked at where it
//! is about to be handed out, the first time as after every failed attempt, and then goes to the group's dead letters
//! instead: the copy is stored before the original is done (contract D14). Where it cannot be stored, the message stays,
//! and is looked at again a little later.

use std::sync::Arc;

use super::lane::{Lane, Taken, Ticket};
use super::member::{Batch, Member};
use super::retry::Failure;
use crate::commitlog::MessageView;
use crate::delay::NextAttempt;

/// Why such a message is among the dead letters.
pub(super) const REASON: &str = "expired";

impl Member {
    /// Returns a message that may be handed out, and puts away one that has expired.
    pub(super) fn unless_expired(&self, lane: &Arc<Lane>, taken: Taken) -> Option<Taken> {
        if !self.has_expired(&taken.message) {
            return Some(taken);
        }
        self.give_up(lane, taken);
        None
    }

    /// Returns what may be handed out of a batch, and puts away what has expired.
    pub(super) fn without_expired(&self, mut batch: Batch) -> Option<Batch> {
        if !batch.messages.iter().any(|message| self.has_expired(message)) {
            return Some(batch);
        }
        let pairs: Vec<(MessageView, Ticket)> =
            batch.messages.drain(..).zip(batch.tickets.drain(..)).collect();
        for (message, ticket) in pairs {
            if let Some(Taken { message, ticket }) =
                self.unless_expired(&batch.lane, Taken { message, ticket })
            {
                batch.messages.push(message);
                batch.tickets.push(ticket);
            }
        }
        (!batch.messages.is_empty()).then_some(batch)
    }

    fn has_expired(&self, message: &MessageView) -> bool {
        message.expires_at_millis().is_some_and(|at| at <= self.wall_millis())
    }

    fn give_up(&self, lane: &Arc<Lane>, taken: Taken) {
        let failure = Failure { next: NextAttempt::DeadLetter, reason: REASON };
        // A copy that cannot be stored now is stored when the message comes again.
        let _ = self.fail(lane, taken, failure);
    }
}
