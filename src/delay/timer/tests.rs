//! Does one failure of the disk, at whatever step it comes, lose a timer or make one early?

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::super::tests::{Shard, clock, open};
use super::*;
use crate::broker::{PutMessage, Timed};
use crate::config::{FlushPolicy, TopicConfig};
use crate::message::properties::IndexTexts;
use crate::message::sys_flag::SysFlag;
use crate::storage::faulty::Operation;
use crate::types::PhysicalOffset;

const OPERATIONS: [Operation; 8] = [
    Operation::MapSync,
    Operation::FileSync,
    Operation::DirSync,
    Operation::Allocate,
    Operation::Create,
    Operation::Rename,
    Operation::Remove,
    Operation::Map,
];
const COUNT: i64 = 24;

fn timer(shard: &Shard, number: i64, due_millis: i64) -> Result<()> {
    let name = TopicName::new("orders").unwrap();
    let known = shard.broker.topic("orders");
    let topic = match known {
        Some(topic) => topic,
        None => shard.broker.set_topic(&name, TopicConfig::queues(1))?,
    };
    let body = number.to_string();
    let message = PutMessage {
        flag: 0,
        sys_flag: SysFlag::NONE,
        now_millis: None,
        born_millis: due_millis,
        born_host: "127.0.0.1:0".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: PhysicalOffset::ZERO,
        body: body.as_bytes(),
        properties: b"KEYS\x01k\x02",
        index_texts: IndexTexts { unique: None, keys: "k" },
        tags_code: 0,
    };
    shard.broker.put_timed(&topic, 0, &message, Timed { due_millis, wait: WaitForFlush::Yes }).map(drop)
}

/// Returns how often each came, and checks that none came early.
fn came(shard: &Shard) -> BTreeMap<i64, u32> {
    let name = TopicName::new("orders").unwrap();
    let (min, max) = shard.broker.queue_range(&name, 0).unwrap_or_default();
    let mut count = BTreeMap::new();
    for at in min.get()..max.get() {
        let message = shard.broker.message_in(&name, 0, QueueOffset::new(at)).unwrap().unwrap();
        // It was born when it is due; the store time is when it came.
        assert!(message.store_millis() >= message.born_millis(), "early");
        *count.entry(message.body_str().unwrap().parse().unwrap()).or_default() += 1;
    }
    count
}

/// Sends timers over some seconds and two rounds of the wheel, and delivers some; says how many were stored.
fn work(shard: &Shard) -> Vec<i64> {
    let start = shard.delays.now_millis();
    let mut stored = Vec::new();
    for number in 0..COUNT {
        let ahead = if number % 8 == 7 { 3 * 86_400_000 } else { number * 150 };
        if timer(shard, number, start + 1 + ahead).is_ok() {
            stored.push(number);
        }
        if number % 5 == 0 {
            shard.clock.advance(Duration::from_millis(200));
            // What fails is tried again.
            let _ = shard.delays.step();
        }
    }
    for _ in 0..3 {
        shard.clock.advance(Duration::from_secs(6));
        let _ = shard.delays.step();
    }
    let _ = shard.delays.persist();
    stored
}

fn finish(dir: &Path, shard: Shard, stored: &[i64], what: &str) {
    let clock = Arc::clone(&shard.clock);
    shard.broker.kill();
    drop(shard);
    let shard = open(dir, &clock, FlushPolicy::Async);
    for _ in 0..5 {
        clock.advance(Duration::from_secs(86_400));
        loop {
            let (stepped, result) = shard.delays.step();
            result.unwrap();
            if stepped.next_due != Some(Duration::ZERO) {
                break;
            }
        }
    }
    let count = came(&shard);
    for number in stored {
        assert!(count.contains_key(number), "{what}: {number} is lost, of {stored:?}");
    }
    shard.broker.kill();
}

#[test]
fn d4_one_failure_of_the_timers_files_at_any_step_loses_no_timer_and_makes_none_early() {
    for operation in OPERATIONS {
        for within in ["timerwheel", "timerlog", "timercheck", "pocketmq/timer"] {
            for earlier in 0..40 {
                let dir = tempfile::tempdir().unwrap();
                let shard = open(dir.path(), &clock(), FlushPolicy::Async);
                let before = shard.faults.count_within(operation, within);
                shard.faults.fail_nth_within(operation, within, earlier);
                let stored = work(&shard);
                assert_eq!(stored.len(), usize::try_from(COUNT).unwrap(), "a send needs none of these files");
                let asked = shard.faults.count_within(operation, within) - before;
                finish(dir.path(), shard, &stored, &format!("{operation:?} {earlier} of {within}"));
                if asked <= earlier {
                    break;
                }
            }
        }
    }
}

#[test]
fn e3_a_disk_without_room_for_the_wheel_holds_timers_until_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path(), &clock(), FlushPolicy::Async);
    shard.faults.fill_within("timerlog");
    let start = shard.delays.now_millis();
    timer(&shard, 1, start + 500).unwrap();
    assert!(matches!(shard.delays.step().1, Err(Error::StoreFull(_))));
    assert!(shard.delays.trouble().is_some());
    shard.clock.advance(Duration::from_secs(2));
    assert!(shard.delays.step().1.is_err());
    shard.faults.heal();
    shard.delays.step().1.unwrap();
    assert_eq!((came(&shard).len(), shard.delays.trouble()), (1, None));
}

#[test]
fn a_second_with_more_timers_than_are_sorted_at_once_comes_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path(), &clock(), FlushPolicy::Async);
    let start = shard.delays.now_millis();
    let count = i64::try_from(2 * WINDOW_MAX).unwrap() + 1_000;
    for number in 0..count {
        timer(&shard, number, start + 1_001 + number * 7 % 1_000).unwrap();
    }
    let mut steps = 0;
    while shard.broker.pending_timers() > 0 || steps == 0 {
        shard.delays.step().1.unwrap();
        steps += 1;
        if steps == 20 {
            shard.clock.advance(Duration::from_secs(3));
        }
        assert!(steps < 1_000);
    }
    let name = TopicName::new("orders").unwrap();
    let (_, end) = shard.broker.queue_range(&name, 0).unwrap();
    assert_eq!(i64::try_from(end.get()).unwrap(), count);
    let mut last = (0, 0);
    for at in 0..end.get() {
        let message = shard.broker.message_in(&name, 0, QueueOffset::new(at)).unwrap().unwrap();
        let key = (message.born_millis(), message.body_str().unwrap().parse::<i64>().unwrap());
        assert!(key > last, "{key:?} behind {last:?}");
        last = key;
    }
}
