//! Does a queue give back what was put into it, across windows, files, cuts and evictions, and stay small?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::storage::RealDisk;
use crate::types::{PhysicalOffset, QueueOffset};

fn open(dir: &Path, file_size: u64, maps_max: usize) -> ConsumeQueues {
    let (queues, temp_dir) = (dir.join("consumequeue"), dir.join("own"));
    fs::create_dir_all(&queues).unwrap();
    fs::create_dir_all(&temp_dir).unwrap();
    let options = QueueOptions { dir: queues, temp_dir, file_size, maps_max };
    ConsumeQueues::open(Arc::new(RealDisk), options).unwrap().0
}

fn unit(n: u64) -> Unit {
    Unit {
        physical_offset: PhysicalOffset::new(n * 100 + 1),
        size: 100,
        tags_code: i64::try_from(n).unwrap(),
    }
}

fn fill(queue: &ConsumeQueue, range: std::ops::Range<u64>) {
    for n in range {
        queue.append(QueueOffset::new(n), unit(n)).unwrap();
    }
}

fn read_all(queue: &ConsumeQueue) -> Vec<Unit> {
    let mut units = Vec::new();
    let from = queue.min_offset();
    queue.read(from, usize::MAX / 32, &mut units).unwrap();
    units
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

#[test]
fn units_cross_window_and_file_borders_and_survive_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    // 200,000 bytes are three windows and a bit; 10,000 units a file.
    let queues = open(dir.path(), 200_000, 100);
    let queue = queues.get_or_create(&topic("t"), 3).unwrap();
    fill(&queue, 0..25_000);
    let expected: Vec<_> = (0..25_000).map(unit).collect();
    assert!(read_all(&queue) == expected);
    for at in [0, 3_276, 3_277, 9_999, 10_000, 24_999] {
        assert_eq!(queue.get(QueueOffset::new(at)).unwrap(), Some(unit(at)), "{at}");
    }
    assert_eq!(queue.get(QueueOffset::new(25_000)).unwrap(), None);
    queues.sync().unwrap();
    drop((queue, queues));
    let queues = open(dir.path(), 200_000, 100);
    let queue = queues.get(&topic("t"), 3).unwrap();
    assert_eq!((queue.min_offset().get(), queue.max_offset().get()), (0, 25_000));
    assert!(read_all(&queue) == expected);
    fill(&queue, 25_000..25_010);
    assert_eq!(queue.last().unwrap(), Some((QueueOffset::new(25_009), unit(25_009))));
}

#[test]
fn t_k16_a_unit_that_is_there_already_is_only_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), 2_000, 100).get_or_create(&topic("t"), 0).unwrap();
    fill(&queue, 0..150);
    let confirm = |at: u64, unit| queue.confirm(QueueOffset::new(at), unit).unwrap();
    assert_eq!(confirm(40, unit(40)), Confirmed::Same);
    assert_eq!(confirm(40, unit(41)), Confirmed::Replaced);
    assert_eq!(confirm(40, unit(40)), Confirmed::Replaced);
    assert_eq!(confirm(150, unit(150)), Confirmed::Appended);
    assert_eq!(confirm(152, unit(152)), Confirmed::Gap);
    assert_eq!(queue.max_offset().get(), 151);
    assert!(queue.append(QueueOffset::new(9), unit(9)).is_err(), "only the next one is appended");
}

#[test]
fn a_queue_may_begin_above_zero_with_its_places_before_filled() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), 2_000, 100).get_or_create(&topic("t"), 0).unwrap();
    assert_eq!(queue.confirm(QueueOffset::new(1_234), unit(1_234)).unwrap(), Confirmed::Appended);
    assert_eq!((queue.min_offset().get(), queue.max_offset().get()), (1_234, 1_235));
    let file = dir.path().join("consumequeue/t/0/00000000000000024000");
    let bytes = fs::read(file).unwrap();
    assert_eq!(bytes[..20], *b"\0\0\0\0\0\0\0\0\x7F\xFF\xFF\xFF\0\0\0\0\0\0\0\0", "format, section 4.2");
    let again = open(dir.path(), 2_000, 100).get(&topic("t"), 0).unwrap();
    again.raise_min(PhysicalOffset::ZERO).unwrap();
    assert_eq!((again.min_offset().get(), again.max_offset().get()), (1_234, 1_235));
}

#[test]
fn a_cut_keeps_the_units_before_the_limit_and_leaves_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open(dir.path(), 2_000, 100);
    let queue = queues.get_or_create(&topic("t"), 0).unwrap();
    for kept in [350_u64, 300, 250, 101, 100, 99, 0] {
        fill(&queue, queue.max_offset().get()..400);
        assert_eq!(queue.cut_from(PhysicalOffset::new(kept * 100 + 1)).unwrap(), 400 - kept);
        assert_eq!(queue.max_offset().get(), kept);
        assert!(read_all(&queue) == (0..kept).map(unit).collect::<Vec<_>>(), "{kept}");
        let again = open(dir.path(), 2_000, 100).get(&topic("t"), 0).unwrap();
        assert_eq!(again.max_offset().get(), kept);
    }
    fill(&queue, 0..150);
    queue.clear().unwrap();
    assert_eq!((queue.min_offset().get(), queue.max_offset().get()), (0, 0));
    assert_eq!(fs::read_dir(dir.path().join("consumequeue/t/0")).unwrap().count(), 0);
}

#[test]
fn t_k16_the_first_offset_follows_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), 2_000, 100).get_or_create(&topic("t"), 0).unwrap();
    fill(&queue, 0..250);
    for (log_min, min) in
        [(0, 0), (1, 0), (2, 1), (10_001, 100), (24_901, 249), (24_902, 250), (u64::MAX >> 1, 250)]
    {
        queue.raise_min(PhysicalOffset::new(log_min)).unwrap();
        assert_eq!(queue.min_offset().get(), min, "{log_min}");
    }
}

#[test]
fn maps_are_given_up_when_there_are_too_many_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open(dir.path(), 2_000, 16);
    for round in 0..3_u64 {
        for id in 0..100 {
            let queue = queues.get_or_create(&topic("t"), id).unwrap();
            fill(&queue, round..round + 1);
        }
        assert!(queues.maps() <= 17, "{}", queues.maps());
    }
    for id in 0..100 {
        assert!(read_all(&queues.get(&topic("t"), id).unwrap()) == (0..3).map(unit).collect::<Vec<_>>());
    }
    queues.sync().unwrap();
    drop(queues);
    assert!(open(dir.path(), 2_000, 16).all().iter().all(|queue| queue.max_offset().get() == 3));
}

/// Counts the open descriptors of files below a folder.
fn descriptors_below(dir: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| fs::read_link(entry.unwrap().path()));
    open.filter(|target| target.as_ref().is_ok_and(|target| target.starts_with(dir))).count()
}

fn blocks_below(dir: &Path) -> u64 {
    let own = fs::metadata(dir).unwrap().blocks() * 512;
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    own + entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => blocks_below(&entry.path()),
            false => entry.metadata().unwrap().blocks() * 512,
        })
        .sum::<u64>()
}

#[test]
fn ten_thousand_idle_queues_of_one_message_stay_small() {
    const COUNT: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let queues = open(dir.path(), 6_000_000, crate::config::StoreConfig::default().queue_maps_max);
    for n in 0..COUNT {
        let name = topic(&format!("topic-{}", n / 1_000));
        let queue = queues.get_or_create(&name, u32::try_from(n % 1_000).unwrap()).unwrap();
        fill(&queue, 0..1);
    }
    let disk = blocks_below(&dir.path().join("consumequeue")) / COUNT;
    let (opened, maps) = (descriptors_below(dir.path()), queues.maps());
    println!("an idle queue: {disk} bytes of disk; {COUNT} of them: {opened} descriptors, {maps} maps");
    // A file of one block, and its folder; the folders of ten topics are shared.
    assert!(disk <= 8_192 + 512, "{disk} bytes of disk a queue");
    assert!(maps <= 4_097, "at most one a queue, and no more than the limit");
    assert_eq!(opened, 0);
}

#[test]
fn e2_room_in_a_later_file_of_a_reopened_queue_has_real_blocks_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    // 200,000 is no multiple of a block, so that blocks of the second file are none of the queue.
    let queues = open(dir.path(), 200_000, 100);
    fill(&queues.get_or_create(&topic("t"), 0).unwrap(), 0..10_100);
    drop(queues);
    let queue = open(dir.path(), 200_000, 100).get(&topic("t"), 0).unwrap();
    queue.tail().prepare(110).unwrap();
    let second = fs::metadata(dir.path().join("consumequeue/t/0/00000000000000200000")).unwrap();
    assert!(second.blocks() * 512 >= 210 * 20, "{} bytes for 210 units", second.blocks() * 512);
}
