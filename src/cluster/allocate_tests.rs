//! Do the strategies divide queues as RocketMQ's do, and does nothing move that need not?

use proptest::prelude::*;

use super::*;
use crate::types::BrokerName;

type Owners = BTreeMap<MessageQueue, Arc<str>>;

fn queues_on(broker: &str, count: u32) -> Vec<MessageQueue> {
    let (topic, broker) = (TopicName::new("TopicTest").unwrap(), BrokerName::new(broker).unwrap());
    (0..count).map(|id| MessageQueue::new(topic.clone(), broker.clone(), id)).collect()
}

fn members(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn numbered(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| Arc::from(format!("member-{n:03}"))).collect()
}

fn ask(
    strategy: &Allocate,
    queues: &[MessageQueue],
    members: &[Arc<str>],
    member: &str,
    owners: &Owners,
) -> Result<Vec<MessageQueue>> {
    let topic = &TopicName::new("TopicTest").unwrap();
    strategy.allocate(&Allocation { topic, member, queues, members, owners })
}

/// Everybody's share, in numbers of queues.
fn shares(strategy: &Allocate, queues: &[MessageQueue], members: &[Arc<str>]) -> Vec<Vec<u32>> {
    let of = |member: &Arc<str>| ask(strategy, queues, members, member, &Owners::new()).unwrap();
    members.iter().map(|member| of(member).iter().map(MessageQueue::queue_id).collect()).collect()
}

/// Everybody's share at once.
fn divide(strategy: &Allocate, queues: &[MessageQueue], members: &[Arc<str>], owners: &Owners) -> Owners {
    let mut divided = Owners::new();
    for member in members {
        for queue in ask(strategy, queues, members, member, owners).unwrap() {
            assert!(divided.insert(queue, Arc::clone(member)).is_none(), "no queue has two owners");
        }
    }
    divided
}

#[test]
fn f84_averagely_gives_pages_and_the_first_ones_one_more() {
    let counts = |queues, count| {
        let shares = shares(&Allocate::Averagely, &queues_on("a", queues), &numbered(count));
        shares.iter().map(Vec::len).collect::<Vec<_>>()
    };
    let eight = shares(&Allocate::Averagely, &queues_on("a", 8), &numbered(3));
    assert_eq!(eight, [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
    assert_eq!(counts(5, 2), [3, 2], "F85");
    assert_eq!(counts(10, 4), [3, 3, 2, 2], "F85");
    assert_eq!(counts(3, 5), [1, 1, 1, 0, 0], "F86");
}

#[test]
fn t_c12_by_circle_deals_queues_as_cards() {
    let eight = shares(&Allocate::AveragelyByCircle, &queues_on("a", 8), &numbered(3));
    assert_eq!(eight, [vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]]);
    let ten = shares(&Allocate::AveragelyByCircle, &queues_on("a", 10), &numbered(4));
    assert_eq!(ten, [vec![0, 4, 8], vec![1, 5, 9], vec![2, 6], vec![3, 7]]);
}

#[test]
fn t_c13_by_config_gives_everybody_the_list() {
    let listed = queues_on("a", 2);
    let two = shares(&Allocate::Config(listed), &queues_on("a", 8), &numbered(2));
    assert_eq!(two, [vec![0, 1], vec![0, 1]]);
}

#[test]
fn t_c14_by_machine_room_gives_pages_of_the_rooms_and_deals_the_rest() {
    let mut all = queues_on("room1|a", 5);
    all.extend(queues_on("room2|a", 5));
    let rooms = Allocate::MachineRoom(BTreeSet::from(["room1".to_owned()]));
    assert_eq!(shares(&rooms, &all, &numbered(2)), [vec![0, 1, 4], vec![2, 3]]);
    let eight = shares(&rooms, &queues_on("room1|a", 8), &numbered(3));
    assert_eq!(eight, [vec![0, 1, 6], vec![2, 3, 7], vec![4, 5]]);
    assert_eq!(shares(&rooms, &queues_on("room3|a", 8), &numbered(1)), [Vec::<u32>::new()]);
}

#[test]
fn by_consistent_hash_equals_rocketmq_for_its_vector() {
    let ring = Allocate::ConsistentHash { virtual_nodes: 10 };
    let clients = members(&["10.0.0.1@1", "10.0.0.2@1", "10.0.0.3@1"]);
    let eight = shares(&ring, &queues_on("broker-a", 8), &clients);
    assert_eq!(eight, [vec![1, 4, 5], vec![0, 6, 7], vec![2, 3]]);
}

#[test]
fn f87_without_a_name_queues_or_members_a_strategy_says_so_and_a_stranger_gets_nothing() {
    let (queues, names, owners) = (queues_on("a", 4), numbered(2), Owners::new());
    for strategy in [
        Allocate::Averagely,
        Allocate::AveragelyByCircle,
        Allocate::Config(Vec::new()),
        Allocate::ConsistentHash { virtual_nodes: 10 },
        Allocate::MachineRoom(BTreeSet::new()),
        Allocate::Sticky,
    ] {
        assert!(ask(&strategy, &queues, &names, "", &owners).is_err(), "{strategy:?}");
        assert!(ask(&strategy, &[], &names, "member-000", &owners).is_err(), "{strategy:?}");
        assert!(ask(&strategy, &queues, &[], "member-000", &owners).is_err(), "{strategy:?}");
        assert!(ask(&strategy, &queues, &names, "stranger", &owners).unwrap().is_empty(), "{strategy:?}");
    }
}

#[test]
fn sticky_moves_only_what_evenness_asks_for() {
    let queues = queues_on("a", 8);
    let (one, two, three) = (numbered(1), numbered(2), numbered(3));
    let moved = |before: &Owners, after: &Owners| {
        before.iter().filter(|(queue, owner)| after.get(queue) != Some(owner)).count()
    };
    let first = divide(&Allocate::Sticky, &queues, &one, &Owners::new());
    let second = divide(&Allocate::Sticky, &queues, &two, &first);
    let third = divide(&Allocate::Sticky, &queues, &three, &second);
    assert_eq!((moved(&first, &second), moved(&second, &third)), (4, 2));
    // The page strategy moves three queues for the same third member.
    let pages = divide(&Allocate::Averagely, &queues, &two, &Owners::new());
    assert_eq!(moved(&pages, &divide(&Allocate::Averagely, &queues, &three, &pages)), 3);
}

proptest! {
    #[test]
    fn every_even_strategy_gives_every_queue_to_one_member(queues in 1_u32..40, count in 1_usize..12) {
        let (queues, names) = (queues_on("a", queues), numbered(count));
        for strategy in [Allocate::Averagely, Allocate::AveragelyByCircle, Allocate::Sticky] {
            let divided = divide(&strategy, &queues, &names, &Owners::new());
            prop_assert_eq!(divided.len(), queues.len());
            let sizes: Vec<_> =
                names.iter().map(|name| divided.values().filter(|owner| *owner == name).count()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
        }
    }

    #[test]
    fn t_c15_a_ring_moves_only_the_queues_of_who_comes_or_goes(queues in 1_u32..21, count in 2_usize..21) {
        let (queues, names) = (queues_on("a", queues), numbered(count));
        let ring = Allocate::ConsistentHash { virtual_nodes: 3 };
        let all = divide(&ring, &queues, &names, &Owners::new());
        prop_assert_eq!(all.len(), queues.len());
        let (last, rest) = names.split_last().unwrap();
        let fewer = divide(&ring, &queues, rest, &all);
        for (queue, owner) in &all {
            prop_assert!(owner == last || fewer.get(queue) == Some(owner), "{}", queue);
        }
    }

    #[test]
    fn sticky_stays_even_whoever_had_what(
        held in proptest::collection::vec(0_usize..6, 1..30),
        count in 1_usize..6,
    ) {
        let queues = queues_on("a", held.len().try_into().unwrap());
        let (before, names) = (numbered(6), numbered(count));
        let owners: Owners =
            queues.iter().cloned().zip(held.iter().map(|owner| Arc::clone(&before[*owner]))).collect();
        let after = divide(&Allocate::Sticky, &queues, &names, &owners);
        prop_assert_eq!(after.len(), queues.len());
        let size = |owners: &Owners, name| owners.values().filter(|owner| *owner == name).count();
        let share = queues.len() / count;
        let mut kept = 0;
        for name in &names {
            prop_assert!((share..=share + 1).contains(&size(&after, name)));
            kept += size(&owners, name).min(size(&after, name));
        }
        let stayed = queues.iter().filter(|queue| owners.get(queue) == after.get(queue)).count();
        prop_assert_eq!(stayed, kept, "nothing moves that could have stayed");
    }
}
