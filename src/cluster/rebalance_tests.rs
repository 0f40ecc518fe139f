//! Does a queue have one owner at most, whatever members do?

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::cluster::allocate::Allocate;
use crate::types::{BrokerName, TopicName};

fn queues(count: u32) -> Vec<MessageQueue> {
    let (topic, broker) = (TopicName::new("orders").unwrap(), BrokerName::new("a").unwrap());
    (0..count).map(|id| MessageQueue::new(topic.clone(), broker.clone(), id)).collect()
}

fn candidate(id: usize) -> Candidate {
    Candidate { id: Arc::from(format!("m{id}")), strategy: Arc::new(Allocate::Averagely) }
}

const NOW: Duration = Duration::from_secs(100);

fn aim(claims: &mut Claims, queue: &MessageQueue, target: Option<&str>, busy: bool) -> Gate {
    let target = target.map(MemberId::from);
    claims.aim(queue, Aim { target: target.as_ref(), busy, until: NOW })
}

#[test]
fn a_free_queue_is_given_at_once_and_an_idle_one_moves_at_once() {
    let (mut claims, queue) = (Claims::default(), &queues(1)[0]);
    assert_eq!(aim(&mut claims, queue, Some("a"), false), Gate::Open(1));
    assert_eq!(aim(&mut claims, queue, Some("a"), true), Gate::Open(1));
    assert_eq!(aim(&mut claims, queue, Some("b"), false), Gate::Open(2));
    assert_eq!(aim(&mut claims, queue, None, false), Gate::Shut);
    assert_eq!(aim(&mut claims, queue, Some("a"), false), Gate::Open(4));
}

#[test]
fn a_busy_queue_waits_for_its_owner_and_no_longer_than_the_deadline() {
    let (mut claims, queue) = (Claims::default(), &queues(1)[0]);
    aim(&mut claims, queue, Some("a"), false);
    assert_eq!(aim(&mut claims, queue, Some("b"), true), Gate::Closing(1));
    assert_eq!(claims.owners().get(queue).map(AsRef::as_ref), Some("a"));
    assert_eq!((claims.owned_by("a").count(), claims.owned_by("b").count()), (0, 0));
    assert_eq!((claims.next_deadline(), claims.overdue(NOW).len()), (Some(NOW), 1));
    assert!(claims.overdue(NOW - Duration::from_nanos(1)).is_empty());
    assert_eq!(claims.let_go(queue), Gate::Open(2));
    assert_eq!(claims.owned_by("b").collect::<Vec<_>>(), [(queue, 2)]);
    assert_eq!(claims.let_go(queue), Gate::Open(2), "letting go twice changes nothing");
}

#[test]
fn an_owner_that_is_to_keep_its_queue_after_all_keeps_its_epoch() {
    let (mut claims, queue) = (Claims::default(), &queues(1)[0]);
    aim(&mut claims, queue, Some("a"), false);
    aim(&mut claims, queue, Some("b"), true);
    assert_eq!(aim(&mut claims, queue, Some("a"), true), Gate::Open(1));
    assert_eq!(claims.next_deadline(), None);
}

#[test]
fn a_strategy_that_fails_or_panics_leaves_its_member_what_it_has() {
    #[derive(Debug)]
    struct Broken;
    impl AllocateMessageQueueStrategy for Broken {
        fn name(&self) -> &str {
            "BROKEN"
        }
        fn allocate(&self, asked: &Allocation<'_>) -> Result<Vec<MessageQueue>> {
            assert!(asked.members.len() < 2, "a bug of the user's");
            Ok(asked.queues.to_vec())
        }
    }
    let broken = |id: &str| Candidate { id: Arc::from(id), strategy: Arc::new(Broken) };
    let all = queues(3);
    let alone = targets(&[broken("a")], std::slice::from_ref(&all), &BTreeMap::new());
    assert_eq!((alone.of.len(), alone.failed.len()), (3, 0));
    let two = targets(&[broken("a"), broken("b")], &[all], &alone.of);
    assert_eq!((two.of, two.failed.len()), (alone.of, 2));
    assert!(two.failed[0].1.to_string().contains("BROKEN panicked"), "{}", two.failed[0].1);
}

proptest! {
    /// Members come, go, are slow, and let go in any order: what carries the newest epoch is with one member only.
    #[test]
    fn a_queue_never_has_two_owners(steps in proptest::collection::vec((0_usize..4, 0_usize..5, any::<bool>()), 1..80)) {
        let all = queues(6);
        let mut claims = Claims::default();
        let mut members: BTreeMap<usize, Candidate> = BTreeMap::new();
        // For each queue: who believes to own it, with which epoch. Only a gate that is open is believed.
        let mut believed: HashMap<MessageQueue, (MemberId, u64)> = HashMap::new();
        for (action, who, busy) in steps {
            match action {
                0 => drop(members.insert(who, candidate(who))),
                1 => drop(members.remove(&who)),
                _ => {}
            }
            let candidates: Vec<_> = members.values().cloned().collect();
            let wanted = targets(&candidates, std::slice::from_ref(&all), &claims.owners());
            for queue in &all {
                let before = claims.map.get(queue).cloned().unwrap_or_default();
                let gate = match action {
                    2 => claims.let_go(queue),
                    _ => claims.aim(queue, Aim { target: wanted.of.get(queue), busy, until: NOW }),
                };
                let after = claims.map.get(queue).cloned().unwrap_or_default();
                prop_assert!(after.epoch >= before.epoch);
                prop_assert_eq!(before.owner != after.owner, after.epoch > before.epoch, "an epoch is one owner's");
                if let Gate::Open(epoch) = gate {
                    let owner = after.owner.unwrap();
                    let known = believed.insert(queue.clone(), (owner.clone(), epoch));
                    if let Some((other, seen)) = known {
                        prop_assert!(seen < epoch || other == owner, "{} and {} own {}", other, owner, queue);
                    }
                }
            }
            if candidates.is_empty() {
                prop_assert!(all.iter().all(|queue| claims.owned_by(queue.topic().as_str()).next().is_none()));
            }
        }
    }
}
