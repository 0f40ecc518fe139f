//! What happens to a log in which bytes are wrong?

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::RecoveryMode;
use crate::error::Error;

const MODES: [RecoveryMode; 3] =
    [RecoveryMode::Strict, RecoveryMode::TruncateTail, RecoveryMode::SkipDamaged];

/// Something that happens to a folder.
pub(super) type OnFolder = fn(&Path);

pub(super) fn open_with(dir: &Path, recovery: RecoveryMode) -> crate::error::Result<Arc<Broker>> {
    Broker::open(options(dir, StoreConfig { recovery, ..config(FlushPolicy::Async) }))
}

pub(super) fn log_file(dir: &Path, start: u64) -> PathBuf {
    dir.join("commitlog").join(crate::storage::file_name(start))
}

/// Changes a file in place.
pub(super) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    RealDisk.write_new(path, &bytes).unwrap();
}

/// Makes a folder with messages in queue 1 of `orders`, and returns where each lies and what it says.
pub(super) fn folder(flushed: bool, count: usize) -> (tempfile::TempDir, Vec<(usize, usize)>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let bodies = fill(&broker, count);
    let name = TopicName::new("orders").unwrap();
    let places = (0..count as u64)
        .map(|at| {
            let view = broker.message_in(&name, 1, QueueOffset::new(at)).unwrap().unwrap();
            (view.physical_offset().get() as usize, view.stored_size() as usize)
        })
        .collect();
    if flushed {
        broker.close().unwrap();
    } else {
        broker.kill();
    }
    (dir, places, bodies)
}

pub(super) fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(dir, copy.path());
    copy
}

/// Copies a folder with the times of its files, as a backup does.
fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            let times = fs::FileTimes::new().set_modified(entry.metadata().unwrap().modified().unwrap());
            fs::File::options().write(true).open(&target).unwrap().set_times(times).unwrap();
        }
    }
}

#[test]
fn c1_to_c17_any_changed_byte_of_a_flushed_record_is_found_and_only_that_message_can_be_lost() {
    let (dir, places, bodies) = folder(true, 20);
    let (start, size) = places[7];
    let mut expected = bodies;
    expected.remove(7);
    for position in 0..size {
        let copy = copy_of(dir.path());
        edit(&log_file(copy.path(), 0), |bytes| bytes[start + position] ^= 0x40);
        let error = open_with(copy.path(), RecoveryMode::Strict).unwrap_err();
        let Error::Corrupt(damage) = &error else { panic!("byte {position}: {error}") };
        assert_eq!(
            (damage.position, &damage.path),
            (start as u64, &log_file(copy.path(), 0)),
            "byte {position}"
        );
        assert!(
            open_with(copy.path(), RecoveryMode::TruncateTail).is_err(),
            "byte {position}: sound records follow"
        );
        let broker = open_with(copy.path(), RecoveryMode::SkipDamaged).unwrap();
        let lost = &broker.recovery().lost;
        assert_eq!(
            (lost.len(), lost[0].from.get(), lost[0].to.get()),
            (1, start as u64, (start + size) as u64)
        );
        assert_eq!(super::bodies(&broker, "orders", 1), expected, "byte {position}");
        assert_eq!(put(&broker, "orders", 1, b"next", "k").queue_offset, QueueOffset::new(20));
        broker.close().unwrap();
        let again = open_with(copy.path(), RecoveryMode::Strict).unwrap();
        assert_eq!(
            super::bodies(&again, "orders", 1).len(),
            expected.len() + 1,
            "what was skipped stays skipped"
        );
    }
}

#[test]
fn c1_c2_c13_c14_c16_impossible_lengths_and_magics_are_refused_without_a_panic() {
    let (dir, places, _) = folder(true, 20);
    let start = places[7].0;
    let body_len_at = start + 84;
    let topic_len_at = body_len_at + 4 + "message 7".len();
    let blank = 0xCBD4_3194_u32.to_be_bytes();
    let cases: [(usize, &[u8]); 16] = [
        (start, &0_u32.to_be_bytes()),
        (start, &1_u32.to_be_bytes()),
        (start, &90_u32.to_be_bytes()),
        (start, &(-1_i32).to_be_bytes()),
        (start, &i32::MAX.to_be_bytes()),
        (start, &20_000_u32.to_be_bytes()),
        (start + 4, &blank),
        (start + 4, &0xDAA3_20AB_u32.to_be_bytes()),
        (body_len_at, &(-1_i32).to_be_bytes()),
        (body_len_at, &i32::MAX.to_be_bytes()),
        (body_len_at, &0_u32.to_be_bytes()),
        (topic_len_at, &[0]),
        (topic_len_at, &[0x80]),
        (topic_len_at, &[0x7F]),
        (start + 36, &0x30_u32.to_be_bytes()),
        (start + 28, &1_u64.to_be_bytes()),
    ];
    for (position, bytes) in cases {
        let copy = copy_of(dir.path());
        edit(&log_file(copy.path(), 0), |file| file[position..position + bytes.len()].copy_from_slice(bytes));
        assert!(
            matches!(open_with(copy.path(), RecoveryMode::Strict), Err(Error::Corrupt(_))),
            "{position} {bytes:?}"
        );
        let broker = open_with(copy.path(), RecoveryMode::SkipDamaged).unwrap();
        assert_eq!(super::bodies(&broker, "orders", 1).len(), 19, "{position} {bytes:?}");
    }
}

#[test]
fn d2_damage_in_the_unflushed_part_cuts_the_log_there_in_every_mode() {
    let (dir, places, bodies) = folder(false, 20);
    for mode in MODES {
        for position in [0, 5, 30, 90, places[12].1 - 1] {
            let copy = copy_of(dir.path());
            edit(&log_file(copy.path(), 0), |bytes| bytes[places[12].0 + position] ^= 1);
            let broker = open_with(copy.path(), mode).unwrap();
            assert_eq!(super::bodies(&broker, "orders", 1), bodies[..12], "{mode:?} {position}");
            assert!(broker.recovery().lost.is_empty() && broker.recovery().cut_bytes > 0);
        }
    }
}

#[test]
fn d3_c18_what_one_recovery_cut_off_never_comes_back() {
    let (dir, places, bodies) = folder(false, 60);
    edit(&log_file(dir.path(), 0), |bytes| bytes[places[12].0] ^= 1);
    let broker = open(dir.path());
    // A record of the same length in the gap: behind it, the old ones would parse again.
    let body = bodies[12].clone();
    assert_eq!(put(&broker, "orders", 1, body.as_bytes(), "key-12").queue_offset, QueueOffset::new(12));
    broker.kill();
    drop(broker);
    let broker = open(dir.path());
    assert_eq!(super::bodies(&broker, "orders", 1), bodies[..13]);
    let name = TopicName::new("orders").unwrap();
    for n in 13..60 {
        assert!(broker.query_by_key(&name, &format!("key-{n}"), 0..=i64::MAX, 9).unwrap().is_empty(), "{n}");
    }
    let log = fs::read(log_file(dir.path(), 0)).unwrap();
    let end = broker.log_range().1.get() as usize;
    assert!(log[end..].iter().all(|byte| *byte == 0));
    let queue = fs::read(dir.path().join("consumequeue/orders/1/00000000000000000000")).unwrap();
    assert!(queue[13 * 20..].iter().all(|byte| *byte == 0));
}

#[test]
fn d8_truncate_tail_cuts_where_nothing_sound_follows() {
    let (dir, places, bodies) = folder(true, 20);
    edit(&log_file(dir.path(), 0), |bytes| bytes[places[19].0 + 89] ^= 1);
    assert!(open_with(dir.path(), RecoveryMode::Strict).is_err());
    let broker = open_with(dir.path(), RecoveryMode::TruncateTail).unwrap();
    assert_eq!(super::bodies(&broker, "orders", 1), bodies[..19]);
    assert_eq!(broker.recovery().lost.len(), 1);
}

#[test]
fn c17_a_lost_page_in_the_flushed_part_is_reported_and_can_be_skipped() {
    let (dir, places, bodies) = folder(true, 60);
    let page = 4_096..8_192;
    edit(&log_file(dir.path(), 0), |bytes| bytes[page.clone()].fill(0));
    assert!(open_with(dir.path(), RecoveryMode::Strict).is_err());
    let broker = open_with(dir.path(), RecoveryMode::SkipDamaged).unwrap();
    let survives = |(start, size): &(usize, usize)| start + size <= page.start || *start >= page.end;
    let expected: Vec<_> = bodies
        .iter()
        .zip(&places)
        .filter(|(_, place)| survives(place))
        .map(|(body, _)| body.clone())
        .collect();
    assert_eq!(super::bodies(&broker, "orders", 1), expected);
    assert_eq!(put(&broker, "orders", 1, b"next", "k").queue_offset, QueueOffset::new(60));
}

#[test]
fn c42_a_missing_file_is_reported_by_its_place_in_the_row() {
    let (dir, places, bodies) = folder(true, 400);
    let count = fs::read_dir(dir.path().join("commitlog")).unwrap().count() as u64;
    assert!(count >= 4, "{count}");
    let first = copy_of(dir.path());
    fs::remove_file(log_file(first.path(), 0)).unwrap();
    let broker = open_with(first.path(), RecoveryMode::Strict).unwrap();
    let kept: Vec<_> = bodies
        .iter()
        .zip(&places)
        .filter(|(_, place)| place.0 >= 16_384)
        .map(|(body, _)| body.clone())
        .collect();
    assert_eq!(super::bodies(&broker, "orders", 1), kept);
    let name = TopicName::new("orders").unwrap();
    assert_eq!(broker.queue_range(&name, 1).unwrap().0.get() as usize, bodies.len() - kept.len());
    let middle = copy_of(dir.path());
    fs::remove_file(log_file(middle.path(), 16_384)).unwrap();
    assert!(matches!(open_with(middle.path(), RecoveryMode::Strict), Err(Error::Corrupt(_))));
    let last = copy_of(dir.path());
    fs::remove_file(log_file(last.path(), (count - 1) * 16_384)).unwrap();
    assert!(matches!(open_with(last.path(), RecoveryMode::Strict), Err(Error::Corrupt(_))));
}

#[test]
fn c42_a_hole_can_be_skipped() {
    let (dir, places, bodies) = folder(true, 400);
    fs::remove_file(log_file(dir.path(), 16_384)).unwrap();
    // The walk begins below the hole where the folder was written by somebody else.
    fs::remove_file(dir.path().join("pocketmq/owner")).unwrap();
    let broker = open_with(dir.path(), RecoveryMode::SkipDamaged).unwrap();
    let kept: Vec<_> = bodies
        .iter()
        .zip(&places)
        .filter(|(_, place)| !(16_384..32_768).contains(&place.0))
        .map(|(body, _)| body.clone())
        .collect();
    assert_eq!(super::bodies(&broker, "orders", 1), kept);
}

#[test]
fn c43_c44_c46_a_log_file_of_a_wrong_length_name_or_kind_is_refused_by_name() {
    let (dir, _, _) = folder(true, 400);
    let changes: [(&str, OnFolder); 7] = [
        ("shorter by one", |dir| edit(&log_file(dir, 0), |bytes| bytes.truncate(16_383))),
        ("longer by one", |dir| edit(&log_file(dir, 0), |bytes| bytes.push(0))),
        ("half", |dir| edit(&log_file(dir, 16_384), |bytes| bytes.truncate(8_192))),
        ("double", |dir| edit(&log_file(dir, 16_384), |bytes| bytes.resize(32_768, 0))),
        ("19 digits", |dir| {
            fs::rename(log_file(dir, 16_384), dir.join("commitlog/0000000000000016384")).unwrap()
        }),
        ("no multiple", |dir| fs::rename(log_file(dir, 16_384), log_file(dir, 16_385)).unwrap()),
        ("a folder", |dir| {
            fs::remove_file(log_file(dir, 16_384)).unwrap();
            fs::create_dir(log_file(dir, 16_384)).unwrap();
        }),
    ];
    for (what, change) in changes {
        let copy = copy_of(dir.path());
        change(copy.path());
        let error = open_with(copy.path(), RecoveryMode::Strict).unwrap_err();
        assert!(
            error.to_string().contains("commitlog") || error.to_string().contains("mappedFileSize"),
            "{what}: {error}"
        );
    }
    let symlink = copy_of(dir.path());
    let target = symlink.path().join("elsewhere");
    fs::rename(log_file(symlink.path(), 0), &target).unwrap();
    std::os::unix::fs::symlink(&target, log_file(symlink.path(), 0)).unwrap();
    assert!(open_with(symlink.path(), RecoveryMode::Strict).is_err());
}

#[test]
fn c43_c45_an_empty_last_file_and_stray_files_do_no_harm() {
    let (dir, _, bodies) = folder(true, 300);
    let count = fs::read_dir(dir.path().join("commitlog")).unwrap().count() as u64;
    fs::File::create(log_file(dir.path(), count * 16_384)).unwrap();
    let strays = ["commitlog/.DS_Store", "commitlog/x~", "consumequeue/orders/1/y.tmp", "consumequeue/notes"];
    for stray in strays {
        fs::File::create(dir.path().join(stray)).unwrap();
    }
    fs::create_dir(dir.path().join("commitlog/dir")).unwrap();
    for queue in ["abc", "-1", "99999999999", "01"] {
        fs::create_dir(dir.path().join("consumequeue/orders").join(queue)).unwrap();
    }
    fs::create_dir_all(dir.path().join("consumequeue/bad topic/0")).unwrap();
    let broker = open(dir.path());
    assert_eq!(super::bodies(&broker, "orders", 1), bodies);
    // The log rolls over the empty file.
    for _ in 0..200 {
        put(&broker, "other", 0, &[7; 200], "k");
    }
    assert!(broker.recovery().warnings.len() >= 9, "{:?}", broker.recovery().warnings);
    for n in 0..150 {
        put(&broker, "orders", 1, format!("later {n}").as_bytes(), "later");
    }
    assert!(broker.log_range().1.get() > count * 16_384, "the empty file is taken over");
    broker.close().unwrap();
    assert!(strays.iter().all(|stray| dir.path().join(stray).exists()), "nothing strange is deleted");
}

#[test]
fn c47_swapped_files_are_detected() {
    let (dir, _, _) = folder(true, 400);
    let (one, two) = (log_file(dir.path(), 0), log_file(dir.path(), 16_384));
    let spare = dir.path().join("spare");
    fs::rename(&one, &spare).unwrap();
    fs::rename(&two, &one).unwrap();
    fs::rename(&spare, &two).unwrap();
    fs::remove_file(dir.path().join("pocketmq/owner")).unwrap();
    let error = open_with(dir.path(), RecoveryMode::Strict).unwrap_err();
    assert!(error.to_string().contains("lies elsewhere"), "{error}");
}

#[test]
fn c51_a_log_that_is_gone_while_queues_are_there_is_refused() {
    let (dir, _, _) = folder(true, 20);
    fs::remove_dir_all(dir.path().join("commitlog")).unwrap();
    let error = open_with(dir.path(), RecoveryMode::Strict).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)) && error.to_string().contains("no log file"), "{error}");
}

#[test]
fn c33_a_deleted_abort_does_not_make_a_crash_a_clean_stop() {
    let (dir, places, bodies) = folder(false, 20);
    fs::remove_file(dir.path().join("abort")).unwrap();
    edit(&log_file(dir.path(), 0), |bytes| bytes[places[15].0 + 20] ^= 1);
    let broker = open(dir.path());
    assert_eq!(super::bodies(&broker, "orders", 1), bodies[..15]);
}

#[test]
fn c34_c35_abort_and_lock_of_another_kind_are_refused() {
    let (dir, _, _) = folder(true, 5);
    fs::create_dir(dir.path().join("abort")).unwrap();
    assert!(matches!(open_with(dir.path(), RecoveryMode::Strict), Err(Error::Corrupt(_))));
    fs::remove_dir(dir.path().join("abort")).unwrap();
    let lock = dir.path().join("lock");
    fs::remove_file(&lock).unwrap();
    let canary = dir.path().join("canary");
    fs::File::create(&canary).unwrap();
    std::os::unix::fs::symlink(&canary, &lock).unwrap();
    assert!(open_with(dir.path(), RecoveryMode::Strict).is_err());
    assert_eq!(fs::metadata(&canary).unwrap().len(), 0);
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert!(open_with(dir.path(), RecoveryMode::Strict).is_err());
}
