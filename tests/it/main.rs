//! Does the crate keep its promises, seen from outside? One binary for all integration tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod broadcast;
mod consume;
mod dedup;
mod delay;
#[cfg(feature = "tracing")]
mod events;
mod expiry;
#[cfg(feature = "metrics")]
mod figures;
mod filter;
mod golden;
mod groups;
mod joined;
mod lookup;
mod memory;
mod model;
mod operations;
mod orderly;
mod own_fixture;
mod positions;
mod pull;
mod push;
mod redelivery;
mod request;
mod retry;
mod sending;
mod simple;
mod snapshot;
#[cfg(feature = "async")]
mod stream;
mod timer;
mod timer_files;
mod transactions;
mod verify;
