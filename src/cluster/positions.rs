//! How is the position of a group moved from outside, so that its running members follow at once?

use super::{Cluster, RouteQueue};
use crate::broker::PositionKey;
use crate::error::Result;
use crate::types::{GroupName, QueueOffset, TopicName};

/// Returns under which key the position of a group in a queue is kept.
pub(crate) fn position_key(group: &GroupName, entry: &RouteQueue) -> PositionKey {
    let (topic, queue_id) = (entry.queue().topic().clone(), entry.queue().queue_id());
    PositionKey { topic, group: group.clone(), queue_id }
}

impl Cluster {
    /// Moves the position of a group in queues of one topic. Members that run are told, and go on from there; what they
    /// have under way is not committed any more.
    pub(crate) fn reset_positions(
        &self,
        group: &GroupName,
        topic: &TopicName,
        moves: &[(&RouteQueue, QueueOffset)],
    ) -> Result<()> {
        let mut result = Ok(());
        for (entry, offset) in moves {
            result = result.and(entry.broker.positions().reset(&position_key(group, entry), *offset));
        }
        // Also after a failure: some queues were moved.
        let _changing = self.changes.lock();
        self.changed(topic);
        result
    }
}
