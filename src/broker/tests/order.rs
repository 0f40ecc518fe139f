//! Does the second step never come before the first: removed before it is safe, told before it is visible?

use super::disk::position_key;
use super::retention::{Bench, HOUR};
use super::*;
use crate::config::Retention;
use crate::consumequeue::Unit;
use crate::storage::faulty::Operation;
use crate::types::GroupName;

fn is_of_log(path: &Path) -> bool {
    path.to_string_lossy().contains("/commitlog/")
}

#[test]
fn d14_what_took_the_place_of_a_message_is_on_disk_before_the_file_of_the_message_goes() {
    for sync_fails in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), Retention::default());
        bench.send("orders", 0..200);
        bench.clock.advance(HOUR * 73);
        // A copy of something that is about to go; nobody has flushed it.
        put(&bench.broker, "copies", 1, b"copy", "copy");
        assert!(bench.broker.flushed() < bench.broker.log_range().1);
        bench.faults.take_asked();
        if sync_fails {
            bench.faults.fail_within(Operation::MapSync, "/commitlog/");
            bench.broker.retain().unwrap_err();
            assert_eq!(bench.faults.count_within(Operation::Remove, "/commitlog/"), 0, "nothing has gone");
            assert_eq!(bench.range("orders"), (0, 200));
            continue;
        }
        assert!(bench.retain().expired_files > 0);
        assert_eq!(bench.broker.flushed(), bench.broker.log_range().1);
        let asked = bench.faults.take_asked();
        let first = |operation| asked.iter().position(|(asked, path)| *asked == operation && is_of_log(path));
        assert!(first(Operation::MapSync).unwrap() < first(Operation::Remove).unwrap(), "{asked:?}");
    }
}

#[test]
fn dead_letters_expire_also_where_some_were_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::default());
    let letters = TopicName::dead_letters_of(&GroupName::new("readers").unwrap());
    bench.send(letters.as_str(), 0..200);
    // A redrive notes here how far it has come. That makes the group no consumer of its dead letters.
    let key = PositionKey { topic: letters.clone(), ..position_key() };
    let position = bench.broker.positions().position(&key, QueueOffset::ZERO).unwrap();
    bench.broker.positions().commit(&position, QueueOffset::new(3)).unwrap();
    bench.clock.advance(HOUR * 73);
    let report = bench.retain();
    assert!(report.expired_files > 2 && report.held.is_none() && report.lost.is_empty(), "{report}");
    assert!(bench.range(letters.as_str()).0 > 100);
}

#[test]
fn v1_who_is_told_that_a_message_is_flushed_can_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(options(dir.path(), config(FlushPolicy::Sync))).unwrap();
    let name = TopicName::new("orders").unwrap();
    let topic = broker.add_topic(&name, TopicConfig::queues(4)).unwrap();
    for told_at_once in [true, false] {
        let stored = broker.put(&topic, 1, &message(b"hello"), WaitForFlush::Later).unwrap();
        assert_eq!(
            broker.queue_range(&name, 1).unwrap_or_default().1,
            stored.queue_offset,
            "not visible yet"
        );
        // By somebody who has not come to writing the units: before the call is left, or after.
        let flush = || broker.log.flush().unwrap();
        if told_at_once {
            flush();
        }
        let (told, seen) = crossbeam_channel::bounded(1);
        let (here, queue) = (Arc::clone(&broker), name.clone());
        let call = move |outcome: crate::error::Result<()>| {
            let end = here.queue_range(&queue, 1).unwrap_or_default().1;
            told.send((outcome.is_ok(), end)).unwrap();
            None
        };
        broker.when_flushed(stored.end, Box::new(call));
        if !told_at_once {
            assert!(seen.try_recv().is_err());
            flush();
            broker.tell_flushed();
        }
        assert_eq!(seen.try_recv().unwrap(), (true, stored.queue_offset.plus(1)));
    }
}

#[test]
fn a_queue_is_healed_also_where_retention_takes_files_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::forever());
    bench.send("orders", 0..200);
    let broker = &bench.broker;
    let queue = broker.queues.get(&position_key().topic, 1).unwrap();
    let damaged = QueueOffset::new(150);
    let right = queue.get(damaged).unwrap().unwrap();
    queue.confirm(damaged, Unit { tags_code: right.tags_code + 1, ..right }).unwrap();
    let (log, gone) = (Arc::clone(broker), crate::sync::Mutex::new(0));
    bench.faults.meanwhile(move |operation, path| {
        let is_a_look = operation == Operation::Map && path.to_string_lossy().contains("/consumequeue/");
        let Some(mut gone) = gone.try_lock().filter(|gone| is_a_look && **gone == 0) else { return };
        for _ in 0..2 {
            let (file, _) = log.log.files().oldest().unwrap();
            log.log.files().remove_oldest(&file).unwrap();
            *gone += 1;
        }
    });
    let before = broker.log.start();
    assert_eq!(broker.heal_queue(&position_key().topic, 1).unwrap(), 1);
    assert!(broker.log.start() > before, "files have gone meanwhile");
    assert_eq!(queue.get(damaged).unwrap(), Some(right));
}
