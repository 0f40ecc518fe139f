//! Is what was removed by hand gone for good, and what was not still there, whatever step of it fails?

use super::disk::{commit, open_faulty, open_sound, position_key};
use super::*;
use crate::storage::faulty::Operation;

const OPERATIONS: [Operation; 9] = [
    Operation::MapSync,
    Operation::FileSync,
    Operation::DirSync,
    Operation::Allocate,
    Operation::Create,
    Operation::Link,
    Operation::Rename,
    Operation::Remove,
    Operation::Map,
];

type Removal = fn(&Broker, &TopicName) -> crate::error::Result<bool>;

/// Fills a topic over two files of its queue, whose first messages are given up.
fn fill_late(broker: &Broker) -> Vec<String> {
    let expected = fill(broker, 60);
    let queue = broker.queues.get(&position_key().topic, 1).unwrap();
    assert_eq!(broker.minimums.raise(&queue, QueueOffset::new(5)), 5);
    commit(broker, 30);
    broker.flush().unwrap();
    expected[5..].to_vec()
}

fn position(broker: &Broker) -> u64 {
    broker.positions().get(&position_key()).map_or(0, |position| position.get().get())
}

/// Removes with one failure somewhere. Returns whether the failure happened.
fn remove_with_a_failure(remove: Removal, operation: Operation, earlier: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
    let before = fill_late(&broker);
    let topic = position_key().topic;
    let what = format!("{operation:?} {earlier}");
    faults.take_asked();
    faults.fail_nth_within(operation, "", earlier);
    let removed = remove(&broker, &topic);
    let happened = faults.count(operation) > earlier;
    faults.heal();
    let mut again = Vec::new();
    for n in 0..3 {
        let body = format!("again {n}");
        if let Ok(stored) = try_put(&broker, "orders", 1, body.as_bytes(), "key") {
            assert!(removed.is_err() || stored.queue_offset == QueueOffset::new(n), "{what}");
            again.push(body);
        }
    }
    assert!(removed.is_err() || again.len() == 3, "{what}: {removed:?}");
    let seen = bodies(&broker, "orders", 1);
    broker.kill();
    drop(broker);
    let broker = open_sound(dir.path(), FlushPolicy::Async);
    let found = bodies(&broker, "orders", 1);
    let all = [before, again.clone()].concat();
    if removed.is_ok() {
        assert_eq!((&found, &seen, position(&broker)), (&again, &again, 0), "{what}");
    } else {
        // All of it or nothing; and what was put after the failure is there.
        assert!(found == again || found.ends_with(&all), "{what}: {found:?}");
        assert!(found != again || position(&broker) == 0 || again.is_empty(), "{what}: a position is left");
        remove(&broker, &topic).unwrap();
        assert!(bodies(&broker, "orders", 1).is_empty(), "{what}");
    }
    happened
}

#[test]
fn d20_a_deletion_and_a_purge_that_fail_at_any_step_leave_all_or_nothing_and_can_be_repeated() {
    for remove in [Broker::delete_topic as Removal, Broker::purge_topic as Removal] {
        let mut failed = 0;
        for operation in OPERATIONS {
            for earlier in 0.. {
                if !remove_with_a_failure(remove, operation, earlier) {
                    break;
                }
                failed += 1;
            }
        }
        assert!(failed > 20, "only {failed} failures happened");
    }
}

#[test]
fn d20_a_removal_that_is_repeated_in_the_same_store_is_as_good_as_one_that_did_not_fail() {
    for remove in [Broker::delete_topic as Removal, Broker::purge_topic as Removal] {
        for operation in [Operation::Remove, Operation::DirSync, Operation::Create] {
            let dir = tempfile::tempdir().unwrap();
            let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
            fill_late(&broker);
            let topic = position_key().topic;
            let within = if operation == Operation::Create { "deleted" } else { "consumequeue" };
            faults.fail_once_within(operation, within);
            remove(&broker, &topic).unwrap_err();
            assert!(remove(&broker, &topic).unwrap());
            assert_eq!(put(&broker, "orders", 1, b"again", "key").queue_offset, QueueOffset::ZERO);
            broker.kill();
            drop(broker);
            let broker = open_sound(dir.path(), FlushPolicy::Async);
            assert_eq!((bodies(&broker, "orders", 1), position(&broker)), (vec!["again".to_owned()], 0));
        }
    }
}

#[test]
fn a_place_where_a_queue_began_goes_with_the_topic() {
    for remove in [Broker::delete_topic as Removal, Broker::purge_topic as Removal] {
        let dir = tempfile::tempdir().unwrap();
        let broker = open_sound(dir.path(), FlushPolicy::Async);
        fill_late(&broker);
        assert!(remove(&broker, &position_key().topic).unwrap());
        let expected = fill(&broker, 10);
        broker.flush().unwrap();
        broker.kill();
        drop(broker);
        assert_eq!(bodies(&open_sound(dir.path(), FlushPolicy::Async), "orders", 1), expected);
    }
}

#[test]
fn a_queue_whose_deletion_fails_at_any_step_has_all_its_messages_or_none_and_keeps_its_numbers() {
    let mut failed = 0;
    for operation in OPERATIONS {
        for earlier in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
            let before = fill_late(&broker);
            let topic = position_key().topic;
            faults.take_asked();
            faults.fail_nth_within(operation, "", earlier);
            let deleted = broker.delete_queue(&topic, 1);
            let happened = faults.count(operation) > earlier;
            faults.heal();
            broker.kill();
            drop(broker);
            let broker = open_sound(dir.path(), FlushPolicy::Async);
            let found = bodies(&broker, "orders", 1);
            let what = format!("{operation:?} {earlier}: {deleted:?}, {} left", found.len());
            assert!(found.is_empty() || (deleted.is_err() && found == before), "{what}");
            broker.delete_queue(&topic, 1).unwrap();
            assert_eq!(
                put(&broker, "orders", 1, b"next", "key").queue_offset,
                QueueOffset::new(60),
                "{what}"
            );
            assert_eq!(bodies(&broker, "orders", 1), ["next"], "{what}");
            if !happened {
                break;
            }
            failed += 1;
        }
    }
    assert!(failed > 10, "only {failed} failures happened");
}
