//! What happens when the disk is full, or refuses a sync, or loses its power?

use std::fs;
use std::path::Path;

use super::damage::{copy_of, edit, log_file};
use super::*;
use crate::error::{Error, Outcome, Result};
use crate::storage::faulty::{Faults, FaultyDisk, Operation};
use crate::types::GroupName;

pub(super) const POLICIES: [FlushPolicy; 2] = [FlushPolicy::Async, FlushPolicy::Sync];

/// Opens a folder on a disk that can be told to fail.
pub(super) fn open_faulty(dir: &Path, config: StoreConfig) -> (Arc<Broker>, Arc<Faults>) {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let faults = Arc::clone(disk.faults());
    let broker = Broker::open(BrokerOptions { disk: Arc::new(disk), ..options(dir, config) }).unwrap();
    (broker, faults)
}

/// Opens a folder on a disk that does not fail any more.
pub(super) fn open_sound(dir: &Path, flush: FlushPolicy) -> Arc<Broker> {
    Broker::open(options(dir, config(flush))).unwrap()
}

/// Sends until the store refuses, adding what it took; returns the refusal.
fn send_until_refused(broker: &Broker, taken: &mut Vec<String>) -> Error {
    for _ in 0..1_000 {
        let body = format!("message {}", taken.len());
        match try_put(broker, "orders", 1, body.as_bytes(), &format!("key-{}", taken.len())) {
            Ok(_) => taken.push(body),
            Err(error) => return error,
        }
    }
    panic!("the store never refused");
}

fn send(broker: &Broker, taken: &mut Vec<String>) -> Result<Stored> {
    let body = format!("message {}", taken.len());
    let stored = try_put(broker, "orders", 1, body.as_bytes(), &format!("key-{}", taken.len()))?;
    taken.push(body);
    Ok(stored)
}

pub(super) fn send_many(broker: &Broker, taken: &mut Vec<String>, count: usize) {
    for _ in 0..count {
        send(broker, taken).unwrap();
    }
}

pub(super) fn position_key() -> PositionKey {
    PositionKey {
        topic: TopicName::new("orders").unwrap(),
        group: GroupName::new("readers").unwrap(),
        queue_id: 1,
    }
}

pub(super) fn commit(broker: &Broker, offset: u64) {
    let positions = broker.positions();
    let position = positions.position(&position_key(), QueueOffset::ZERO).unwrap();
    positions.commit(&position, QueueOffset::new(offset)).unwrap();
}

pub(super) fn committed(broker: &Broker) -> u64 {
    broker.positions().get(&position_key()).unwrap().get().get()
}

fn assert_full(error: &Error) {
    assert!(matches!(error, Error::StoreFull(_)), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotStored);
}

/// The log's file of the store, by a part of its path.
const LOG: &str = "commitlog/";

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Fills the disk by `fill`, and looks at everything that must go on meanwhile and afterwards.
fn d4_case(flush: FlushPolicy, free_space_min: u64, fill: impl Fn(&Faults)) {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { free_space_min: Some(free_space_min), ..config(flush) };
    let (broker, faults) = open_faulty(dir.path(), config);
    let mut taken = Vec::new();
    send_many(&broker, &mut taken, 30);
    fill(&faults);
    assert_full(&send_until_refused(&broker, &mut taken));
    let end = broker.log_range().1;
    for _ in 0..3 {
        assert_full(&send(&broker, &mut taken).unwrap_err());
    }
    assert_eq!(broker.log_range().1, end, "nothing is visible of what was refused");
    assert_found(&broker, &taken);
    commit(&broker, 20);
    assert!(matches!(broker.step(), Err(Error::StoreFull(_)) | Ok(())));
    assert_eq!(broker.log.failed(), None);
    assert_eq!(broker.flush_log().unwrap(), end, "what was taken gets to disk");
    for folder in [dir.path().join("pocketmq"), dir.path().join("consumequeue/orders/1")] {
        assert!(names_in(&folder).iter().all(|name| !name.ends_with(".tmp")), "{:?}", names_in(&folder));
    }
    faults.heal();
    send_many(&broker, &mut taken, 300);
    assert_found(&broker, &taken);
    assert_eq!(committed(&broker), 20);
    broker.flush().unwrap();
    assert_eq!(broker.health(), Health::Ok);
    broker.kill();
    drop(broker);
    assert_found(&open_sound(dir.path(), flush), &taken);
}

#[test]
fn d4_e1_e5_a_full_disk_refuses_sends_before_anything_is_visible_until_space_is_back() {
    for flush in POLICIES {
        d4_case(flush, 0, |faults| faults.fill_within(""));
        d4_case(flush, 0, |faults| faults.fill_within("commitlog"));
        d4_case(flush, 1 << 20, |faults| faults.set_room(Some(1 << 19)));
    }
}

#[test]
fn d4_e2_a_queue_without_room_refuses_before_the_log_is_touched() {
    for flush in POLICIES {
        d4_case(flush, 0, |faults| faults.fill_within("orders"));
    }
}

#[test]
fn d4_e3_an_index_without_room_refuses_nothing_and_lookups_read_the_log() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, faults) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 30);
        assert_found(&broker, &taken);
        faults.fill_within("index");
        send_many(&broker, &mut taken, 200);
        assert_found(&broker, &taken);
        assert!(matches!(broker.health(), Health::Degraded(_)), "{:?}", broker.health());
        broker.flush().unwrap();
        faults.heal();
        assert_found(&broker, &taken);
        assert_eq!(broker.health(), Health::Ok);
        broker.close().unwrap();
        drop(broker);
        assert_found(&open_sound(dir.path(), flush), &taken);
    }
}

#[test]
fn d5_a_failed_sync_of_the_log_ends_sending_for_good_and_only_opening_heals() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, faults) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 30);
        broker.flush().unwrap();
        let durable = broker.log_range().1.get();
        faults.fail_within(Operation::MapSync, LOG);
        let before = faults.count_within(Operation::MapSync, LOG);
        let marks = broker.watermark.get();
        // The message during which the sync fails is in the log, whatever its sender is told.
        let in_doubt = match flush {
            FlushPolicy::Async => {
                send(&broker, &mut taken).unwrap();
                broker.flush().unwrap_err()
            }
            FlushPolicy::Sync => try_put(&broker, "orders", 1, b"message 30", "key-30").unwrap_err(),
        };
        let refused = |error: &Error| match error {
            Error::FlushFailed { durable_offset, outcome } => (*durable_offset, *outcome),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&in_doubt), (durable, Outcome::MayExist));
        // The device works again, and it makes no difference.
        faults.heal();
        for _ in 0..3 {
            let later = send(&broker, &mut Vec::new()).unwrap_err();
            assert_eq!(refused(&later), (durable, Outcome::NotStored));
            assert_eq!(refused(&broker.flush().unwrap_err()).0, durable);
            assert_eq!(refused(&broker.step().unwrap_err()).0, durable);
        }
        assert_eq!(broker.health(), Health::Failed { durable_offset: durable });
        assert_found(&broker, &taken);
        assert_eq!(refused(&broker.close().unwrap_err()).0, durable);
        assert_eq!(faults.count_within(Operation::MapSync, LOG), before + 1, "no second sync");
        assert_eq!(faults.count_within(Operation::FileSync, LOG), 0);
        assert_eq!(broker.watermark.get(), marks, "no mark advances");
        assert!(dir.path().join("abort").exists());
        let end = broker.log_range().1.get();
        drop(broker);

        let (broker, faults) = open_faulty(dir.path(), config(flush));
        assert_eq!(broker.recovery().last_stop, LastStop::Crash);
        assert_eq!(broker.recovery().rewritten_bytes, end - durable);
        assert!(faults.count_within(Operation::MapSync, LOG) >= 1, "what was rewritten is synced");
        if flush == FlushPolicy::Sync {
            taken.push("message 30".to_owned());
        }
        assert_found(&broker, &taken);
        send_many(&broker, &mut taken, 3);
        broker.close().unwrap();
        assert!(!dir.path().join("abort").exists());
    }
}

#[test]
fn d5_whoever_waits_for_the_sync_that_fails_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Sync));
    put(&broker, "orders", 0, b"safe", "k");
    let durable = broker.log_range().1.get();
    faults.fail_within(Operation::MapSync, LOG);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let broker = Arc::clone(&broker);
            std::thread::spawn(move || try_put(&broker, "orders", 0, b"x", "k").unwrap_err())
        })
        .collect();
    let mut in_doubt = 0_u64;
    for sender in senders {
        match sender.join().unwrap() {
            Error::FlushFailed { durable_offset, outcome } => {
                assert_eq!(durable_offset, durable);
                in_doubt += u64::from(outcome == Outcome::MayExist);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bodies(&broker, "orders", 0), ["safe"], "V1: nothing unflushed is seen");
    assert!(broker.close().is_err());
    drop(broker);
    let broker = open_sound(dir.path(), FlushPolicy::Sync);
    let found = bodies(&broker, "orders", 0).len() as u64;
    assert_eq!(found, 1 + in_doubt, "exactly those that may exist are there, as the machine did not stop");
}

#[test]
fn d5_a_new_log_file_whose_name_cannot_be_synced_ends_sending() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, faults) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 3);
        faults.fail_once_within(Operation::DirSync, "commitlog");
        let error = send_until_refused(&broker, &mut taken);
        assert_eq!(error.outcome(), Outcome::NotStored);
        let later = send(&broker, &mut Vec::new()).unwrap_err();
        assert!(matches!(later, Error::FlushFailed { outcome: Outcome::NotStored, .. }), "{later:?}");
        assert_found(&broker, &taken);
        assert!(broker.close().is_err());
        drop(broker);
        assert_found(&open_sound(dir.path(), flush), &taken);
    }
}

#[test]
fn d6_queues_that_cannot_be_synced_are_made_again_by_the_next_opening() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, faults) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 30);
        broker.flush().unwrap();
        let marks = broker.watermark.get();
        send_many(&broker, &mut taken, 30);
        faults.fail_once_within(Operation::FileSync, "consumequeue");
        assert!(matches!(broker.flush(), Err(Error::Io(_))));
        let synced = faults.count_within(Operation::FileSync, "consumequeue");
        send_many(&broker, &mut taken, 30);
        // The device works again: what it would say about the same pages cannot be believed.
        assert!(broker.flush().is_err());
        assert_eq!(faults.count_within(Operation::FileSync, "consumequeue"), synced, "no second sync");
        assert!(matches!(broker.health(), Health::Degraded(_)), "{:?}", broker.health());
        let now = broker.watermark.get();
        assert_eq!((now.queues, now.log), (marks.queues, broker.log_range().1.get()));
        let checkpoint = fs::read(dir.path().join("checkpoint")).unwrap();
        assert_eq!(checkpoint[8..16], [0; 8], "RocketMQ is told to make them again too");
        assert_found(&broker, &taken);
        assert!(broker.close().is_err());
        assert!(dir.path().join("abort").exists());
        drop(broker);
        // What was not synced is gone after power loss.
        let queue = dir.path().join("consumequeue/orders/1/00000000000000000000");
        edit(&queue, |bytes| bytes[30 * 20..].fill(0));
        let broker = open_sound(dir.path(), flush);
        assert!(broker.recovery().units_rebuilt >= 60, "{}", broker.recovery());
        assert_found(&broker, &taken);
        assert_eq!(broker.health(), Health::Ok);
        broker.close().unwrap();
    }
}

#[test]
fn d6_an_index_that_cannot_be_synced_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
    let mut taken = Vec::new();
    send_many(&broker, &mut taken, 30);
    assert_found(&broker, &taken);
    broker.flush().unwrap();
    let mark = broker.watermark.get().index;
    send_many(&broker, &mut taken, 30);
    assert_found(&broker, &taken);
    faults.fail_once_within(Operation::MapSync, "index/");
    broker.flush().unwrap();
    broker.flush().unwrap();
    assert!(matches!(broker.health(), Health::Degraded(_)), "{:?}", broker.health());
    assert_eq!(broker.watermark.get().index, mark);
    assert_eq!(broker.watermark.get().queues, broker.log_range().1.get(), "the rest goes on");
    send_many(&broker, &mut taken, 30);
    assert_found(&broker, &taken);
    assert!(broker.close().is_err());
    assert!(dir.path().join("abort").exists());
    drop(broker);
    let broker = open_sound(dir.path(), FlushPolicy::Async);
    assert!(broker.recovery().index_from.get() <= mark);
    assert_found(&broker, &taken);
    assert_eq!(broker.health(), Health::Ok);
}

#[test]
fn d6_a_checkpoint_that_cannot_be_synced_is_told_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
    let mut taken = Vec::new();
    send_many(&broker, &mut taken, 30);
    faults.fail_once_within(Operation::MapSync, "checkpoint");
    assert!(matches!(broker.flush(), Err(Error::Io(_))));
    assert!(matches!(broker.health(), Health::Degraded(_)), "{:?}", broker.health());
    send_many(&broker, &mut taken, 30);
    broker.flush().unwrap();
    assert_eq!(broker.health(), Health::Ok);
    broker.close().unwrap();
    drop(broker);
    assert_found(&open_sound(dir.path(), FlushPolicy::Async), &taken);
}

#[test]
fn d10_e4_positions_that_cannot_be_written_are_told_and_the_old_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
    let mut taken = Vec::new();
    send_many(&broker, &mut taken, 30);
    commit(&broker, 10);
    broker.flush().unwrap();
    let path = dir.path().join("config/consumerOffset.json");
    let before = fs::read(&path).unwrap();
    for step in 0..5 {
        commit(&broker, 20 + step);
        match step {
            0 => faults.fill_within("consumerOffset"),
            1 => faults.fail_once_within(Operation::Rename, "consumerOffset.json"),
            2 => faults.fail_once_within(Operation::MapSync, "pocketmq/positions"),
            3 => faults.fail_once_within(Operation::MapSync, "pocketmq/owner"),
            _ => faults.fill_within("positions"),
        }
        let failed = broker.flush();
        if step == 4 {
            // The file of positions is as large as it must be.
            failed.unwrap();
            break;
        }
        let error = failed.unwrap_err();
        assert!(matches!(error, Error::OffsetNotPersisted(_)) && error.is_retryable(), "{step}: {error:?}");
        assert!(matches!(broker.health(), Health::Degraded(_)));
        assert_eq!(fs::read(&path).unwrap(), before, "{step}");
        assert_eq!(committed(&broker), 20 + step);
        send_many(&broker, &mut taken, 1);
        // A kill now: nothing below the committed position comes again.
        let copy = copy_of(dir.path());
        let killed = open_sound(copy.path(), FlushPolicy::Async);
        assert!(!killed.recovery().foreign);
        assert_eq!(committed(&killed), 20 + step, "{step}");
        drop(killed);
        faults.heal();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("24"), "{text}");
    broker.flush().unwrap();
    assert_eq!(broker.health(), Health::Ok);
    commit(&broker, 25);
    faults.fill_within("consumerOffset");
    assert!(broker.flush().is_err());
    broker.kill();
    drop(broker);
    let broker = open_sound(dir.path(), FlushPolicy::Async);
    assert_eq!(committed(&broker), 25, "a committed position survives the death of the process");
    assert_found(&broker, &taken);
}

#[test]
fn d17_a_close_that_fails_anywhere_says_so_and_keeps_abort() {
    let failures: [(&str, Operation, &str); 10] = [
        ("log", Operation::MapSync, LOG),
        ("queues", Operation::FileSync, "consumequeue/"),
        ("names of queues", Operation::DirSync, "consumequeue"),
        ("index", Operation::MapSync, "index/"),
        ("positions", Operation::MapSync, "pocketmq/positions"),
        ("positions of RocketMQ", Operation::Rename, "consumerOffset.json"),
        ("checkpoint", Operation::MapSync, "checkpoint"),
        ("watermark", Operation::MapSync, "watermark"),
        ("ends of queues", Operation::Rename, "pocketmq/queues"),
        ("abort", Operation::Remove, "abort"),
    ];
    for flush in POLICIES {
        for (what, operation, within) in failures {
            if (what, flush) == ("log", FlushPolicy::Sync) {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let (broker, faults) = open_faulty(dir.path(), config(flush));
            let mut taken = Vec::new();
            send_many(&broker, &mut taken, 30);
            commit(&broker, 7);
            faults.fail_once_within(operation, within);
            let error = broker.close().unwrap_err();
            assert!(dir.path().join("abort").exists(), "{what}: {error}");
            broker.close().unwrap();
            drop(broker);
            let broker = open_sound(dir.path(), flush);
            assert_eq!(broker.recovery().last_stop, LastStop::Crash, "{what}");
            assert_found(&broker, &taken);
            assert_eq!(committed(&broker), 7, "{what}");
            broker.close().unwrap();
            assert!(!dir.path().join("abort").exists());
        }
    }
}

#[test]
fn d17_a_close_in_which_any_sync_of_a_folder_fails_keeps_abort() {
    let dir = tempfile::tempdir().unwrap();
    let mut taken = Vec::new();
    // Every sync of a folder fails once, the one that makes the removal of `abort` durable last.
    for earlier in 0.. {
        let (broker, faults) = open_faulty(dir.path(), config(FlushPolicy::Async));
        send_many(&broker, &mut taken, 3);
        commit(&broker, earlier);
        faults.fail_after(Operation::DirSync, earlier);
        if broker.close().is_ok() {
            assert!(earlier >= 5, "{earlier}");
            break;
        }
        assert!(dir.path().join("abort").exists(), "after {earlier}");
        drop(broker);
    }
    assert_found(&open(dir.path()), &taken);
}

#[test]
fn d17_a_close_goes_from_the_log_to_the_mark_of_a_clean_stop() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, faults) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 30);
        commit(&broker, 7);
        faults.take_asked();
        broker.close().unwrap();
        let asked = faults.take_asked();
        let steps = [
            (Operation::MapSync, LOG),
            (Operation::FileSync, "consumequeue/"),
            (Operation::MapSync, "index/"),
            (Operation::MapSync, "pocketmq/positions"),
            (Operation::Rename, "config/consumerOffset.json"),
            (Operation::MapSync, "watermark"),
            (Operation::MapSync, "checkpoint"),
            (Operation::Remove, "abort"),
        ];
        let place = |(operation, within): (Operation, &str)| {
            asked
                .iter()
                .position(|(asked, path)| *asked == operation && path.to_string_lossy().contains(within))
        };
        let places: Vec<_> = steps.iter().filter_map(|step| place(*step)).collect();
        let expected = if flush == FlushPolicy::Sync { steps.len() - 1 } else { steps.len() };
        assert!(places.len() >= expected && places.is_sorted(), "{places:?} {asked:?}");
        let (last, path) = asked.last().unwrap();
        assert_eq!((*last, path.as_path()), (Operation::DirSync, dir.path()), "the removal is made durable");
    }
}

#[test]
fn d1_a_kill_at_any_moment_keeps_everything_that_was_acked() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let mut taken = Vec::new();
        for round in 0..6 {
            let broker = open_sound(dir.path(), flush);
            if round > 0 {
                assert_found(&broker, &taken);
            }
            send_many(&broker, &mut taken, 40 + round);
            if round % 2 == 1 {
                broker.step().unwrap();
            }
            commit(&broker, taken.len() as u64);
            broker.kill();
            drop(broker);
            let broker = open_sound(dir.path(), flush);
            assert_eq!(committed(&broker), taken.len() as u64);
            broker.kill();
        }
        assert_found(&open_sound(dir.path(), flush), &taken);
    }
}

/// Takes from the log of a folder what was not on disk, as power loss does, but for the sectors that `kept` spares.
fn lose_power(dir: &Path, flushed: u64, kept: impl Fn(u64) -> bool) {
    for name in names_in(&dir.join("commitlog")) {
        let start: u64 = name.parse().unwrap();
        edit(&log_file(dir, start), |bytes| {
            for (sector, chunk) in bytes.chunks_mut(512).enumerate() {
                let from = start + 512 * sector as u64;
                let safe = flushed.saturating_sub(from).min(512) as usize;
                if !kept(from) {
                    chunk[safe..].fill(0);
                }
            }
        });
    }
}

#[test]
fn d2_power_loss_leaves_a_prefix_with_everything_flushed() {
    for flush in POLICIES {
        let dir = tempfile::tempdir().unwrap();
        let (broker, _) = open_faulty(dir.path(), config(flush));
        let mut taken = Vec::new();
        send_many(&broker, &mut taken, 150);
        broker.flush().unwrap();
        send_many(&broker, &mut taken, 20);
        let flushed = broker.flush_log().unwrap().get();
        let safe = taken.len();
        if flush == FlushPolicy::Async {
            send_many(&broker, &mut taken, 150);
        }
        let units_synced = 150 * 20;
        broker.kill();
        drop(broker);
        for case in 0_u64..24 {
            let copy = copy_of(dir.path());
            // Which sectors got to disk before the power went, by a different rule each time.
            lose_power(copy.path(), flushed, |from| {
                case > 0 && ((from / 512 * 2_654_435_761) >> 7) % 24 < case
            });
            let queues = copy.path().join("consumequeue/orders/1");
            for name in names_in(&queues).iter().filter(|_| case % 3 != 1) {
                let start: u64 = name.parse().unwrap();
                let spared = u64::saturating_sub(units_synced, start) as usize;
                edit(&queues.join(name), |bytes| {
                    let spared = spared.min(bytes.len());
                    bytes[spared..].fill(0);
                });
            }
            if case % 3 == 2 {
                fs::remove_dir_all(copy.path().join("index")).unwrap();
            }
            let broker = open_sound(copy.path(), flush);
            let found = bodies(&broker, "orders", 1);
            assert!(found.len() >= safe, "{case}: {} of {safe} flushed ones", found.len());
            assert_eq!(found, taken[..found.len()], "{case}: a prefix");
            assert_found(&broker, &taken[..found.len()]);
            let next = put(&broker, "orders", 1, b"next", "next").queue_offset;
            assert_eq!(next, QueueOffset::new(found.len() as u64), "{case}");
            broker.kill();
        }
    }
}
