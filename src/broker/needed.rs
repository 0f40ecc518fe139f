//! Which part of a queue and of the log does somebody still need?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Broker;
use super::deletions::Unread;
use super::halves::TRANSACTION_GROUP;
use crate::consumequeue::ConsumeQueue;
use crate::error::Result;
use crate::types::{
    GroupName, HALF_TOPIC, OP_TOPIC, PhysicalOffset, QueueOffset, SCHEDULE_TOPIC, TIMER_TOPIC, TopicName,
};

/// The name under which the delivery of delayed messages stands among the groups.
const DELAY_GROUP: &str = "CID_RMQ_SYS_SCHEDULE";
/// The same for messages with a time of their own.
const TIMER_GROUP: &str = "CID_RMQ_SYS_TIMER";

/// Where every registered group stands, by topic.
#[derive(Debug)]
pub(super) struct Standings {
    topics: BTreeMap<TopicName, Topic>,
}

/// Where the groups of one topic stand.
#[derive(Debug, Default)]
struct Topic {
    groups: BTreeSet<GroupName>,
    positions: BTreeMap<u32, BTreeMap<GroupName, QueueOffset>>,
}

impl Standings {
    /// Returns the topics that registered groups consume.
    pub(super) fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.keys()
    }

    /// Returns each group of a queue with the first place that it has not consumed. A group that has committed nothing in
    /// this queue, but in another one of the topic, has consumed nothing here.
    pub(super) fn of(&self, queue: &ConsumeQueue) -> Vec<(&GroupName, QueueOffset)> {
        let Some(topic) = self.topics.get(queue.topic()) else { return Vec::new() };
        let positions = topic.positions.get(&queue.queue_id());
        let stands = |group| positions.and_then(|all| all.get(group)).copied().unwrap_or_default();
        topic.groups.iter().map(|group| (group, stands(group))).collect()
    }

    /// Returns the group that is furthest behind in a queue, if one has not consumed everything.
    pub(super) fn last_of(&self, queue: &ConsumeQueue) -> Option<Unread> {
        let (group, position) = self.of(queue).into_iter().min_by_key(|(_, position)| *position)?;
        let unread = unread(queue, group, position, queue.max_offset());
        (unread.messages > 0).then_some(unread)
    }

    /// Returns what the groups of a queue have not consumed of what lies before a place.
    pub(super) fn unread_before(&self, queue: &ConsumeQueue, place: QueueOffset) -> Vec<Unread> {
        let all = self.of(queue).into_iter();
        let unread = all.map(|(group, position)| unread(queue, group, position, place));
        unread.filter(|unread| unread.messages > 0).collect()
    }
}

fn unread(queue: &ConsumeQueue, group: &GroupName, position: QueueOffset, until: QueueOffset) -> Unread {
    let from = position.max(queue.min_offset());
    Unread {
        group: group.clone(),
        topic: queue.topic().clone(),
        queue_id: queue.queue_id(),
        position,
        messages: until.since(from),
    }
}

impl Broker {
    /// Looks where every registered group stands now.
    pub(super) fn standings(&self) -> Standings {
        let mut topics: BTreeMap<TopicName, Topic> = BTreeMap::new();
        // Dead letters stay until they expire, however many of them were given back.
        let wanted = self.positions.all().into_iter().filter(|(key, _)| !key.topic.is_dead_letters());
        for (key, position) in wanted {
            let topic = topics.entry(key.topic).or_default();
            topic.groups.insert(key.group.clone());
            topic.positions.entry(key.queue_id).or_default().insert(key.group, position);
        }
        self.add_delay_levels(&mut topics);
        self.add_timers(&mut topics);
        self.add_transactions(&mut topics);
        Standings { topics }
    }

    /// Lets the delivery of delayed messages stand as a group does: what waits is needed.
    fn add_delay_levels(&self, topics: &mut BTreeMap<TopicName, Topic>) {
        let Some(schedule) = self.topic(SCHEDULE_TOPIC) else { return };
        let Ok(group) = GroupName::stored(DELAY_GROUP) else { return };
        let topic = topics.entry(schedule.name().clone()).or_default();
        topic.groups.insert(group.clone());
        for (queue_id, delivered) in (0_u32..).zip(self.delivered_of_levels()) {
            topic.positions.entry(queue_id).or_default().insert(group.clone(), delivered);
        }
    }

    /// The same for timers.
    fn add_timers(&self, topics: &mut BTreeMap<TopicName, Topic>) {
        let Some(timers) = self.topic(TIMER_TOPIC) else { return };
        let Ok(group) = GroupName::stored(TIMER_GROUP) else { return };
        let topic = topics.entry(timers.name().clone()).or_default();
        topic.groups.insert(group.clone());
        topic.positions.entry(0).or_default().insert(group, self.timers_needed());
    }

    /// The same for undecided transactions, and for the records that say which are decided: a position is written only when
    /// something is done with.
    fn add_transactions(&self, topics: &mut BTreeMap<TopicName, Topic>) {
        let Ok(group) = GroupName::stored(TRANSACTION_GROUP) else { return };
        for name in [HALF_TOPIC, OP_TOPIC] {
            let Some(topic) = self.topic(name) else { continue };
            topics.entry(topic.name().clone()).or_default().groups.insert(group.clone());
        }
    }

    /// Returns the first byte of the log that a registered group has not consumed, and which.
    pub(super) fn unconsumed_from(&self, standings: &Standings) -> Result<Option<(PhysicalOffset, Unread)>> {
        let mut first: Option<(PhysicalOffset, Unread)> = None;
        for queue in standings.topics().flat_map(|topic| self.queues.of_topic(topic)) {
            let Some(unread) = standings.last_of(&queue) else { continue };
            if let Some(at) = queue.physical_from(unread.position)?
                && first.as_ref().is_none_or(|(earlier, _)| at < *earlier)
            {
                first = Some((at, unread));
            }
        }
        Ok(first)
    }

    /// Returns the first byte of the log that a topic keeps which has a longer time than the others.
    pub(super) fn kept_longer_from(&self, now_millis: i64) -> Result<PhysicalOffset> {
        let retention = &self.config.retention;
        let mut first = PhysicalOffset::MAX;
        for (name, age) in &retention.topic_ages {
            let longer = match (age, retention.age) {
                (None, _) => true,
                (Some(own), Some(general)) => *own > general,
                (Some(_), None) => false,
            };
            let Some(topic) = self.topic(name).filter(|_| longer) else { continue };
            for queue in self.queues.of_topic(topic.name()) {
                let from = match age {
                    Some(age) => self.unexpired_from(&queue, cutoff(now_millis, *age))?,
                    None => queue.min_offset(),
                };
                first = queue.physical_from(from)?.map_or(first, |at| first.min(at));
            }
        }
        Ok(first)
    }

    /// Returns the first place of a queue whose message was stored after a time.
    pub(super) fn unexpired_from(
        &self,
        queue: &Arc<ConsumeQueue>,
        cutoff_millis: i64,
    ) -> Result<QueueOffset> {
        self.offset_at(queue.topic(), queue.queue_id(), cutoff_millis.saturating_add(1))
    }

    /// Returns the first byte of the log that any queue still leads to.
    pub(super) fn reachable_from(&self) -> Result<PhysicalOffset> {
        let mut first = PhysicalOffset::MAX;
        for queue in self.queues.all() {
            first = queue.physical_from(queue.min_offset())?.map_or(first, |at| first.min(at));
        }
        Ok(first)
    }
}

/// Returns the time at which the messages were stored that expire now.
pub(super) fn cutoff(now_millis: i64, age: std::time::Duration) -> i64 {
    now_millis.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}
