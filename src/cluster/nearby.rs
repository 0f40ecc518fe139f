//! How do queues stay in the room of the members that consume them?

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::allocate::{AllocateMessageQueueStrategy, Allocation};
use crate::error::Result;
use crate::types::{BrokerName, MessageQueue};

/// Says in which room a broker stands.
type RoomOfBroker = Arc<dyn Fn(&BrokerName) -> String + Send + Sync>;
/// Says in which room a member runs.
type RoomOfMember = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Gives the queues of a room to the members of that room, and those of a room without a member to all (RocketMQ's
/// `AllocateMachineRoomNearby`). Who gets which of them another strategy says.
///
/// ```
/// # fn main() -> pocketmq::Result<()> {
/// use pocketmq::{Allocate, MachineRoomNearby, Store};
///
/// let store = Store::in_memory()?;
/// let room = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
/// let nearby = MachineRoomNearby::new(Allocate::Averagely, move |broker| room(broker.as_str()), room);
/// let consumer = store.consumer("billing").subscribe("orders", "*").instance("east-1").allocate(nearby).build()?;
/// # drop(consumer);
/// # store.close()
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "AllocateMachineRoomNearby")]
#[doc(alias = "MachineRoomResolver")]
pub struct MachineRoomNearby {
    within: Arc<dyn AllocateMessageQueueStrategy>,
    name: String,
    room_of_broker: RoomOfBroker,
    room_of_member: RoomOfMember,
}

impl MachineRoomNearby {
    /// Makes the strategy: `within` divides the queues of a room among its members, and the rest among all; the closures say
    /// in which room a broker and a member are. All members of a group must be told the same.
    #[must_use]
    pub fn new(
        within: impl AllocateMessageQueueStrategy + 'static,
        room_of_broker: impl Fn(&BrokerName) -> String + Send + Sync + 'static,
        room_of_member: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let name = format!("MACHINE_ROOM_NEARBY-{}", within.name());
        let (room_of_broker, room_of_member) = (Arc::new(room_of_broker), Arc::new(room_of_member));
        Self { within: Arc::new(within), name, room_of_broker, room_of_member }
    }
}

impl fmt::Debug for MachineRoomNearby {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MachineRoomNearby").field("within", &self.within).finish_non_exhaustive()
    }
}

impl AllocateMessageQueueStrategy for MachineRoomNearby {
    fn name(&self) -> &str {
        &self.name
    }

    fn allocate(&self, asked: &Allocation<'_>) -> Result<Vec<MessageQueue>> {
        let mut queues: BTreeMap<String, Vec<MessageQueue>> = BTreeMap::new();
        for queue in asked.queues {
            queues.entry((self.room_of_broker)(queue.broker())).or_default().push(queue.clone());
        }
        let mut members: BTreeMap<String, Vec<Arc<str>>> = BTreeMap::new();
        for member in asked.members {
            members.entry((self.room_of_member)(member)).or_default().push(Arc::clone(member));
        }
        let mut own = Vec::new();
        let mine = (self.room_of_member)(asked.member);
        for (room, queues) in &queues {
            let members = match members.get(room) {
                Some(members) if *room == mine => members.as_slice(),
                Some(_) => continue,
                None => asked.members,
            };
            own.extend(self.within.allocate(&Allocation { queues, members, ..*asked })?);
        }
        own.sort();
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocate::Allocate;
    use super::*;
    use crate::types::TopicName;

    fn room(name: &str) -> String {
        name.split('-').next().unwrap_or_default().to_owned()
    }

    /// Returns what each member has, as broker and number.
    fn shares(brokers: &[&str], names: &[&str]) -> Vec<Vec<String>> {
        let topic = TopicName::new("orders").unwrap();
        let queue =
            |broker: &&str, id| MessageQueue::new(topic.clone(), BrokerName::new(broker).unwrap(), id);
        let queues: Vec<_> =
            brokers.iter().flat_map(|broker| (0..4).map(move |id| queue(broker, id))).collect();
        let members: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        let nearby = MachineRoomNearby::new(Allocate::Averagely, |broker| room(broker.as_str()), room);
        assert_eq!(nearby.name(), "MACHINE_ROOM_NEARBY-AVG");
        let owners = BTreeMap::new();
        let share = |member: &&str| {
            let (topic, queues, members) = (&topic, queues.as_slice(), members.as_slice());
            let asked = Allocation { topic, member, queues, members, owners: &owners };
            let own = nearby.allocate(&asked).unwrap();
            own.iter().map(|queue| format!("{}:{}", queue.broker(), queue.queue_id())).collect()
        };
        names.iter().map(share).collect()
    }

    #[test]
    fn f84_the_queues_of_a_room_go_to_its_members_and_those_of_an_empty_room_to_all() {
        let [one, two, three]: [Vec<String>; 3] =
            shares(&["east-a", "west-a"], &["east-1", "east-2", "west-1"]).try_into().unwrap();
        assert_eq!(one, ["east-a:0", "east-a:1"]);
        assert_eq!(two, ["east-a:2", "east-a:3"]);
        assert_eq!(three, ["west-a:0", "west-a:1", "west-a:2", "west-a:3"]);
        let [one, two]: [Vec<String>; 2] =
            shares(&["east-a", "north-a"], &["east-1", "west-1"]).try_into().unwrap();
        assert_eq!(one, ["east-a:0", "east-a:1", "east-a:2", "east-a:3", "north-a:0", "north-a:1"]);
        assert_eq!(two, ["north-a:2", "north-a:3"]);
    }
}
