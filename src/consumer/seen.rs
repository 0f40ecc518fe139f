//! Does a group hand out what it has handled before?

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::commitlog::MessageView;
use crate::dedup::{Handled, SameBy};
use crate::error::Result;
use crate::types::GroupName;

/// What a group has handled, where it hands out nothing twice; nothing where it does not care.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Option<Arc<Handled>>);

impl Seen {
    /// Opens what was handled under this name.
    pub(super) fn open(
        cluster: &Cluster,
        keeper: &GroupName,
        same: Option<(SameBy, Duration)>,
    ) -> Result<Self> {
        let (Some(same), Some(broker)) = (same, cluster.brokers().first()) else { return Ok(Self(None)) };
        Handled::open(broker, cluster.clock(), keeper, same).map(|handled| Self(Some(Arc::new(handled))))
    }

    /// Tells whether the group has handled a message before.
    pub(super) fn contains(&self, message: &MessageView) -> bool {
        self.0.as_ref().is_some_and(|handled| handled.contains(message))
    }

    /// Notes that the group has handled the message that `read` returns. It is not read where nobody cares.
    pub(super) fn note(&self, read: impl FnOnce() -> Result<Option<MessageView>>) -> Result<()> {
        let Some(handled) = &self.0 else { return Ok(()) };
        read()?.map_or(Ok(()), |message| handled.insert(&message))
    }
}
