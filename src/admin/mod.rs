//! WHAT AN OPERATOR ASKS AND DOES: answers as plain structs, copies of a running store, checks of a folder.

mod snapshot;
#[cfg(test)]
mod tests;

pub use snapshot::SnapshotReport;
pub(crate) use snapshot::take_snapshot;
