//! WHO HOLDS IT NOW: which messages of a group are leased, until when, and who may acknowledge them?
//!
//! A message that is received from a simple consumer is leased: nobody else gets it until its invisible time is over, and
//! only who has the receipt can acknowledge it. A [`Ledger`] knows the leases of one queue, [`Leases`] is the file in which
//! those of one group on one broker survive the death of the process. The committed position never passes a message that
//! is not acknowledged, so whoever does not know the file delivers leased messages again.

mod file;
mod ledger;

pub(crate) use file::{CELLS, Leases, Token, Tokens, forget, forget_group};
pub(crate) use ledger::{Due, Ledger};

use std::time::Duration;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// The clock by which leases run.
    pub(crate) monotonic: Duration,
    /// The time of day in milliseconds since 1970, by which they are written down.
    pub(crate) wall_millis: i64,
}
