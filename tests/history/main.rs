//! Does what a store did agree with what it promised, whatever its members and its process went through?
//!
//! A history is everything that happened, in order: what was sent, handed out, said of it, committed, and what was found in
//! the end. The checker knows nothing of the store; it compares a history with the invariants I1 to I19 and I22 of the
//! contract, and is itself tested against histories with a bug in them. A transaction (I13) is judged where transactions are
//! tested.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise"
)]

mod delivery;
mod event;
mod game;
mod ownership;
mod player;
mod runs;
mod seeded;
mod storage;

use event::{History, Violation};

/// Returns everything in a history that breaks a promise.
fn judge(history: &History) -> Vec<Violation> {
    let mut violations = storage::judge(history);
    violations.extend(delivery::judge(history));
    violations.extend(ownership::judge(history));
    violations
}
