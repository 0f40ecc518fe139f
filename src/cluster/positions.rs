//! How do the running members of a group learn that its position was moved from outside?

use super::Cluster;
use crate::types::TopicName;

impl Cluster {
    /// Tells the members that run, of whatever group, that positions in a topic were moved: they go on from there, and
    /// what they have under way is not committed any more.
    pub(crate) fn tell_moved(&self, topic: &TopicName) {
        let _changing = self.changes.lock();
        self.changed(topic);
    }
}
