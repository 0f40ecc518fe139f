//! WHAT AN OPERATOR ASKS AND DOES: answers as plain structs, positions moved by hand, what is unused removed, copies of a
//! running store.
//!
//! Nothing here costs a sender or a consumer anything: every number is derived from offsets that are there anyway.

mod alarm;
mod browse;
mod cleaning;
#[cfg(feature = "metrics")]
mod figures;
mod groups;
mod halves;
mod positions;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;
mod topics;
mod track;

use std::fmt;
use std::sync::Arc;

pub use alarm::{LagAlarm, LagState, LagThreshold, LagWatch};
pub use browse::{Browse, BrowseMessages};
pub use cleaning::{Cleaned, DeletedGroup};
pub use groups::{GroupInfo, GroupLag, QueueProgress};
pub use halves::HalfMessage;
pub use positions::MovedPosition;
pub use snapshot::SnapshotReport;
pub(crate) use snapshot::take_snapshot;
pub use stats::{BrokerStats, ConsumeStats, Rate, Rates, Stats, TopicStats};
pub use topics::{QueueInfo, TopicInfo};
pub use track::{MessageTrack, TrackState};

use crate::cluster::Cluster;

/// What an operator asks and does: [`Store::admin`](crate::Store::admin) hands it out.
///
/// A handle: cheap to clone, and it keeps the store open.
///
/// ```
/// use pocketmq::{Message, Store, TopicConfig};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// store.create_topic("orders", TopicConfig::queues(4))?;
/// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
/// store.producer("shop")?.send(Message::new("orders", "hello"))?;
/// let lag = store.admin().lag("billing")?;
/// assert_eq!(lag.messages(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "MQAdminExt")]
#[doc(alias = "DefaultMQAdminExt")]
#[doc(alias = "mqadmin")]
pub struct Admin {
    cluster: Arc<Cluster>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Self {
        Self { cluster: Arc::clone(cluster) }
    }
}
