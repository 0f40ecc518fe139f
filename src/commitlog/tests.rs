//! Does the log keep its promises on disk: where a file ends, what a cut leaves, who waits for which flush?

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use super::*;
use crate::error::{Error, Outcome};
use crate::message::draft::{Coverage, Draft, DraftFields};
use crate::message::sys_flag::SysFlag;
use crate::storage::faulty::{FaultyDisk, Operation};
use crate::storage::{RealDisk, file_name};
use crate::types::QueueOffset;

const FILE: u64 = 4_096;
const BLANK_MAGIC: [u8; 4] = [0xCB, 0xD4, 0x31, 0x94];

fn open_on(dir: &Path, disk: Arc<dyn Disk>) -> CommitLog {
    let (dir, temp_dir) = (dir.join("commitlog"), dir.join("temp"));
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(&temp_dir).unwrap();
    CommitLog::open(disk, LogOptions { dir, temp_dir, file_size: FILE, free_min: 0, used_percent_max: 100 })
        .unwrap()
        .0
}

/// Opens a log that ends at `end`, and its writer.
fn open(dir: &Path, end: u64) -> (CommitLog, Appender) {
    let log = open_on(dir, Arc::new(RealDisk));
    let appender = log.resume(PhysicalOffset::new(end), PhysicalOffset::new(end), 0).unwrap();
    (log, appender)
}

fn fields(body: &[u8]) -> DraftFields<'_> {
    DraftFields {
        topic: "orders",
        queue_id: 1,
        flag: 0,
        sys_flag: SysFlag::NONE,
        born_millis: 1,
        born_host: "127.0.0.1:0".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: PhysicalOffset::ZERO,
        body,
        properties: b"",
    }
}

/// Appends and publishes a record of exactly `size` bytes.
fn append(log: &CommitLog, appender: &mut Appender, size: u64) -> Result<u64> {
    let around = u64::from(Draft::size_of(&fields(b"x"), Coverage::BodyOnly).unwrap()) - 1;
    let body = vec![7; to_usize(size - around)];
    let mut buffer = Vec::new();
    let draft = Draft::new(&fields(&body), Coverage::BodyOnly, &mut buffer).unwrap();
    assert_eq!(u64::from(draft.size()), size);
    appender.make_room(log, size)?;
    let at = appender.write(&draft, &mut buffer, QueueOffset::ZERO, 1)?;
    log.publish(appender.end());
    Ok(at.get())
}

fn append_all(log: &CommitLog, appender: &mut Appender, sizes: &[u64]) -> Vec<u64> {
    sizes.iter().map(|size| append(log, appender, *size).unwrap()).collect()
}

fn on_disk(dir: &Path, start: u64) -> Vec<u8> {
    fs::read(dir.join("commitlog").join(file_name(start))).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("commitlog")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns where the records lie that a cursor finds, and what stopped it.
fn walk(log: &CommitLog, cursor: &mut Cursor, limit: u64) -> (Vec<u64>, String) {
    let mut places = Vec::new();
    loop {
        match cursor.next(log, PhysicalOffset::new(limit)) {
            Found::Record(at, _) => places.push(at.get()),
            Found::Damage(at, what) => return (places, format!("{}: {what}", at.get())),
            Found::End(at) => return (places, format!("{}: end", at.get())),
        }
    }
}

#[test]
fn a_record_that_does_not_fit_leaves_a_blank_record_with_the_size_of_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut appender) = open(dir.path(), 0);
    assert_eq!(append_all(&log, &mut appender, &[1_000; 5]), [0, 1_000, 2_000, 3_000, FILE]);
    let first = on_disk(dir.path(), 0);
    assert_eq!(first[4_000..4_004], 96_u32.to_be_bytes());
    assert_eq!(first[4_004..4_008], BLANK_MAGIC);
    assert!(first[4_008..].iter().all(|byte| *byte == 0));
    let second = on_disk(dir.path(), FILE);
    assert_eq!(second[..4], 1_000_u32.to_be_bytes());
    assert!(second[1_000..].iter().all(|byte| *byte == 0));
    assert_eq!((second.len(), appender.end(), log.end().get()), (4_096, FILE + 1_000, FILE + 1_000));
}

#[test]
fn a_record_may_fill_a_file_up_to_the_eight_bytes_of_the_blank_record_and_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut appender) = open(dir.path(), 0);
    let error = append(&log, &mut appender, FILE - 7).unwrap_err();
    assert!(matches!(error, Error::MessageTooLarge { len: 4_089, max: 4_088 }), "{error}");
    assert_eq!((appender.end(), error.outcome()), (0, Outcome::NotStored));
    assert_eq!(append_all(&log, &mut appender, &[FILE - 8, 200]), [0, FILE]);
    let first = on_disk(dir.path(), 0);
    assert_eq!(first[4_088..4_092], 8_u32.to_be_bytes());
    assert_eq!(first[4_092..], BLANK_MAGIC);
    // Eight bytes are left again, now behind several records.
    assert_eq!(append_all(&log, &mut appender, &[1_888, 2_000, 200]), [FILE + 200, FILE + 2_088, 2 * FILE]);
    assert_eq!(on_disk(dir.path(), FILE)[4_092..], BLANK_MAGIC);
}

#[test]
fn a_cursor_goes_over_the_border_of_a_file_and_stops_at_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut appender) = open(dir.path(), 0);
    let places = append_all(&log, &mut appender, &[1_500; 6]);
    assert_eq!(places, [0, 1_500, FILE, FILE + 1_500, 2 * FILE, 2 * FILE + 1_500]);
    let end = log.end().get();
    assert_eq!(walk(&log, &mut Cursor::new(log.start()), end), (places.clone(), format!("{end}: end")));
    // Without a limit the zeros behind the last record end the walk.
    let limit = log.files().limit();
    assert_eq!(walk(&log, &mut Cursor::new(log.start()), limit), (places.clone(), format!("{end}: end")));
    drop((log, appender));
    fs::remove_file(dir.path().join("commitlog").join(file_name(FILE))).unwrap();
    let log = open_on(dir.path(), Arc::new(RealDisk));
    assert_eq!(log.files().holes(), [(FILE, 2 * FILE)]);
    let mut cursor = Cursor::new(log.start());
    let (found, stop) = walk(&log, &mut cursor, limit);
    assert_eq!(found, places[..2]);
    assert!(stop.starts_with("4096: ") && stop.contains("missing"), "{stop}");
    cursor.jump(PhysicalOffset::new(2 * FILE));
    assert_eq!(walk(&log, &mut cursor, limit).0, places[4..]);
}

#[test]
fn d3_a_cut_removes_later_files_and_zeroes_the_rest_of_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut appender) = open(dir.path(), 0);
    append_all(&log, &mut appender, &[1_000; 12]);
    assert_eq!(names(dir.path()).len(), 3);
    let before = on_disk(dir.path(), 0);
    drop((log, appender));
    let (log, mut appender) = open(dir.path(), 2_000);
    assert_eq!(names(dir.path()), [file_name(0)]);
    let after = on_disk(dir.path(), 0);
    assert_eq!(after[..2_000], before[..2_000]);
    assert!(after.len() == 4_096 && after[2_000..].iter().all(|byte| *byte == 0));
    // What follows is written there as if nothing had ever been.
    assert_eq!(append_all(&log, &mut appender, &[1_000, 1_000, 1_000]), [2_000, 3_000, FILE]);
    let end = log.end().get();
    assert_eq!(walk(&log, &mut Cursor::new(log.start()), end).0, [0, 1_000, 2_000, 3_000, FILE]);
}

#[test]
fn d3_a_cut_at_the_border_of_a_file_keeps_that_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut appender) = open(dir.path(), 0);
    append_all(&log, &mut appender, &[1_000; 12]);
    let before = on_disk(dir.path(), 0);
    drop((log, appender));
    let (log, mut appender) = open(dir.path(), FILE);
    assert_eq!(on_disk(dir.path(), 0), before);
    assert!(on_disk(dir.path(), FILE).iter().all(|byte| *byte == 0));
    assert_eq!(names(dir.path()), [file_name(0), file_name(FILE)]);
    assert_eq!(append(&log, &mut appender, 1_000).unwrap(), FILE);
}

#[test]
fn a_file_that_was_made_ahead_is_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut appender) = open(dir.path(), 0);
    let ahead = log.files().make_ahead().unwrap();
    assert_eq!(ahead.start(), FILE);
    assert_eq!(names(dir.path()), [file_name(0), file_name(FILE)]);
    assert_eq!(log.files().starts(), [0], "it waits, and is no part of the log yet");
    append_all(&log, &mut appender, &[1_000; 5]);
    assert!(Arc::ptr_eq(appender.file(), &ahead));
    log.files().drop_ahead().unwrap();
    assert_eq!(names(dir.path()).len(), 2, "what is used is not dropped");
}

#[test]
fn a_file_that_was_made_ahead_and_not_used_goes_at_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut appender) = open(dir.path(), 0);
    append(&log, &mut appender, 1_000).unwrap();
    log.files().make_ahead().unwrap();
    log.files().drop_ahead().unwrap();
    assert_eq!(names(dir.path()), [file_name(0)]);
    append_all(&log, &mut appender, &[1_000; 4]);
    assert_eq!(names(dir.path()), [file_name(0), file_name(FILE)], "the roll makes it anew");
}

#[test]
fn all_who_wait_while_a_flush_runs_share_the_next_one() {
    const SENDERS: u64 = 16;
    let commit = GroupCommit::default();
    let (published, flushed, rounds) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (started, has_started) = mpsc::channel();
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = crate::sync::Mutex::new(gate);
    let send = || {
        let end = PhysicalOffset::new(published.fetch_add(1, Ordering::SeqCst) + 1);
        started.send(()).unwrap();
        let flush = || {
            let to = published.load(Ordering::SeqCst);
            if rounds.fetch_add(1, Ordering::SeqCst) == 0 {
                started.send(()).unwrap();
                gate.lock().recv().unwrap();
            }
            flushed.fetch_max(to, Ordering::SeqCst);
            Ok(PhysicalOffset::new(to))
        };
        let covered = || PhysicalOffset::new(flushed.load(Ordering::SeqCst));
        assert_eq!(commit.wait(end, None, covered, flush).unwrap(), FlushWait::Flushed);
        assert!(covered() >= end, "nobody returns before its message is on disk");
    };
    std::thread::scope(|scope| {
        scope.spawn(send);
        // The first sender is in, and its flush runs.
        has_started.recv().unwrap();
        has_started.recv().unwrap();
        for _ in 1..SENDERS {
            scope.spawn(send);
        }
        (1..SENDERS).for_each(|_| has_started.recv().unwrap());
        assert_eq!(rounds.load(Ordering::SeqCst), 1, "one flush at a time");
        open_gate.send(()).unwrap();
    });
    assert_eq!((rounds.into_inner(), flushed.into_inner()), (2, SENDERS));
}

#[test]
fn a_leader_whose_flush_fails_leaves_nobody_asleep() {
    let commit = GroupCommit::default();
    let end = PhysicalOffset::new(1);
    let fail = || Err(Error::FlushFailed { durable_offset: 0, outcome: Outcome::MayExist });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(commit.wait(end, None, || PhysicalOffset::ZERO, fail).is_err()));
        }
    });
}

#[test]
fn d5_a_failed_flush_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let faults = Arc::clone(disk.faults());
    let log = open_on(dir.path(), Arc::new(disk));
    let mut appender = log.resume(PhysicalOffset::ZERO, PhysicalOffset::ZERO, 0).unwrap();
    append(&log, &mut appender, 500).unwrap();
    assert_eq!((log.flush().unwrap().get(), log.failed()), (500, None));
    append(&log, &mut appender, 500).unwrap();
    faults.fail_after(Operation::MapSync, 0);
    let is_final = |result: Result<PhysicalOffset>| {
        matches!(result, Err(Error::FlushFailed { durable_offset: 500, outcome: Outcome::MayExist }))
    };
    assert!(is_final(log.flush()));
    faults.heal();
    let syncs = faults.count(Operation::MapSync);
    assert!(is_final(log.flush()) && is_final(log.flush()));
    assert_eq!(faults.count(Operation::MapSync), syncs, "nobody asks the disk again");
    assert_eq!(log.failed(), Some(500));
}
