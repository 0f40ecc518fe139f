//! What happens when queues or the index are wrong, short, long or gone? They are made again from the log.

use std::fs;
use std::path::Path;

use super::damage::{OnFolder, copy_of, edit, folder};
use super::*;

/// Something that happens to the bytes of a unit.
type OnBytes = fn(&mut [u8]);

fn queue_file(dir: &Path, start: u64) -> std::path::PathBuf {
    dir.join("consumequeue/orders/1").join(crate::storage::file_name(start))
}

fn index_file(dir: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("index")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

/// Opens the folder and finds everything, by place and by key; then once more after a clean stop.
fn assert_whole(dir: &Path, expected: &[String], what: &str) {
    for round in 0..2 {
        let broker = open(dir);
        assert_eq!(super::bodies(&broker, "orders", 1), expected, "{what}, opening {round}");
        assert_found(&broker, expected);
        let next = put(&broker, "other", 0, b"x", "k");
        assert_eq!(next.queue_offset, QueueOffset::new(round), "{what}");
        broker.close().unwrap();
    }
}

#[test]
fn c19_to_c22_a_wrong_unit_is_mended_when_it_is_read() {
    let (dir, _, bodies) = folder(true, 45);
    let unit = |n: usize| n * 20..n * 20 + 20;
    let changes: [(&str, OnBytes); 9] = [
        ("C19 offset negative", |unit| unit[0] = 0x80),
        ("C19 offset beyond the end", |unit| unit[4] = 0x7F),
        ("C19 offset inside a record", |unit| unit[7] ^= 4),
        ("C20 size zero", |unit| unit[8..12].fill(0)),
        ("C20 size negative", |unit| unit[8] = 0x80),
        ("C20 size of another record", |unit| unit[11] ^= 1),
        ("C22 a zero unit", |unit| unit.fill(0)),
        ("C19 the offset of another queue", |unit| unit[0..8].fill(0)),
        ("C22 nonsense", |unit| unit.fill(0x55)),
    ];
    for (what, change) in changes {
        let copy = copy_of(dir.path());
        edit(&queue_file(copy.path(), 0), |bytes| change(&mut bytes[unit(20)]));
        assert_whole(copy.path(), &bodies, what);
    }
}

#[test]
fn c21_a_flipped_tag_code_does_not_deliver_a_wrong_message() {
    let (dir, _, _) = folder(true, 45);
    let other = crate::message::tags::tags_code(Some("odd")).to_be_bytes();
    edit(&queue_file(dir.path(), 0), |bytes| bytes[20 * 20 + 12..20 * 20 + 20].copy_from_slice(&other));
    let broker = open(dir.path());
    let name = TopicName::new("orders").unwrap();
    let filter = Filter::from("odd");
    let request =
        PullRequest { topic: &name, queue_id: 1, offset: QueueOffset::ZERO, count_max: 99, filter: &filter };
    assert!(broker.pull(&request).unwrap().messages.is_empty());
}

#[test]
fn c22_duplicate_and_swapped_units_are_mended() {
    let (dir, _, bodies) = folder(true, 45);
    let swapped = copy_of(dir.path());
    edit(&queue_file(swapped.path(), 0), |bytes| {
        let (one, two) = (bytes[200..220].to_vec(), bytes[220..240].to_vec());
        bytes[200..220].copy_from_slice(&two);
        bytes[220..240].copy_from_slice(&one);
    });
    assert_whole(swapped.path(), &bodies, "swapped");
    edit(&queue_file(dir.path(), 0), |bytes| bytes.copy_within(200..220, 220));
    assert_whole(dir.path(), &bodies, "duplicate");
}

#[test]
fn c23_a_queue_that_is_longer_than_the_log_is_cut() {
    let (dir, places, bodies) = folder(false, 45);
    // The log lost its tail; the queue still names it.
    edit(&super::damage::log_file(dir.path(), 0), |bytes| bytes[places[30].0..].fill(0));
    let broker = open(dir.path());
    assert_eq!(super::bodies(&broker, "orders", 1), bodies[..30]);
    let queue = fs::read(queue_file(dir.path(), 0)).unwrap();
    assert!(queue[30 * 20..].iter().all(|byte| *byte == 0), "no phantom is left for the next recovery");
}

#[test]
fn c24_c25_a_queue_that_is_shorter_than_the_log_is_filled_after_a_clean_stop_too() {
    let (dir, _, bodies) = folder(true, 130);
    let changes: [(&str, OnFolder); 6] = [
        ("C24 the last units are gone", |dir| {
            edit(&queue_file(dir, 2_000), |bytes| bytes[20 * 20..].fill(0))
        }),
        ("C25 the last file is empty", |dir| edit(&queue_file(dir, 2_000), Vec::clear)),
        ("C25 the last file is short", |dir| edit(&queue_file(dir, 2_000), |bytes| bytes.truncate(500))),
        ("C25 an extra empty file", |dir| drop(fs::File::create(queue_file(dir, 3_000)).unwrap())),
        ("a middle file is gone", |dir| fs::remove_file(queue_file(dir, 1_000)).unwrap()),
        ("C50 the whole queue is gone", |dir| fs::remove_dir_all(dir.join("consumequeue/orders")).unwrap()),
    ];
    for (what, change) in changes {
        let copy = copy_of(dir.path());
        change(copy.path());
        assert_whole(copy.path(), &bodies, what);
    }
}

#[test]
fn c50_everything_that_is_derived_may_be_deleted() {
    let (dir, _, bodies) = folder(true, 130);
    for gone in
        ["consumequeue", "index", "checkpoint", "pocketmq/watermark", "pocketmq/queues", "pocketmq/checksums"]
    {
        let copy = copy_of(dir.path());
        let path = copy.path().join(gone);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        assert_whole(copy.path(), &bodies, gone);
    }
    fs::remove_dir_all(dir.path().join("pocketmq")).unwrap();
    assert_whole(dir.path(), &bodies, "our own folder");
}

#[test]
fn c50_all_queues_may_be_deleted_after_the_death_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let bodies: Vec<_> = (0..9).map(|n| format!("body {n}")).collect();
    for (n, body) in bodies.iter().enumerate() {
        put(&broker, "orders", 1, body.as_bytes(), &format!("key-{n}"));
    }
    // Everything is synced and said to be; nothing was noted of where queues end.
    broker.checkpoint_now(true).unwrap();
    broker.kill();
    fs::remove_dir_all(dir.path().join("consumequeue")).unwrap();
    assert_eq!(super::bodies(&open(dir.path()), "orders", 1), bodies);
}

#[test]
fn c27_to_c30_a_damaged_index_never_gives_a_wrong_answer() {
    let (dir, _, bodies) = folder(true, 45);
    let slots = 40..40 + 16 * 4;
    let entry = |n: usize| 40 + 16 * 4 + n * 20;
    let huge = i32::MAX.to_be_bytes();
    let cases: Vec<(&str, usize, Vec<u8>)> = vec![
        ("C27 begin time", 0, vec![0xFF; 8]),
        ("C27 end time", 8, vec![0x7F; 8]),
        ("C27 begin place", 16, vec![0x7F; 8]),
        ("C27 end place", 24, vec![0xFF; 8]),
        ("C27 slot count", 32, huge.to_vec()),
        ("C27 entry count zero", 36, vec![0; 4]),
        ("C27 entry count negative", 36, vec![0xFF; 4]),
        ("C27 entry count huge", 36, huge.to_vec()),
        ("C28 slots beyond the count", slots.start, huge.repeat(16)),
        ("C28 negative slots", slots.start, vec![0xFF; 64]),
        ("C28 a hash flipped", entry(5), vec![0x55; 4]),
        ("C29 a chain to itself", entry(5) + 16, 5_u32.to_be_bytes().to_vec()),
        ("C29 a chain forward", entry(5) + 16, 30_u32.to_be_bytes().to_vec()),
        ("C30 a bogus place", entry(5) + 4, vec![0x01; 8]),
    ];
    for (what, position, bytes) in cases {
        let copy = copy_of(dir.path());
        edit(&index_file(copy.path()), |file| file[position..position + bytes.len()].copy_from_slice(&bytes));
        let broker = open(copy.path());
        assert_eq!(super::bodies(&broker, "orders", 1), bodies, "{what}");
        let name = TopicName::new("orders").unwrap();
        for (n, body) in bodies.iter().enumerate() {
            let found = broker.query_by_key(&name, &format!("key-{n}"), 0..=i64::MAX, 9).unwrap();
            assert!(found.iter().all(|view| view.body_str().unwrap() == *body), "{what}: key-{n}");
        }
        broker.close().unwrap();
    }
}

#[test]
fn c31_index_files_of_a_wrong_length_or_name_are_made_again() {
    let (dir, _, bodies) = folder(true, 130);
    let short = copy_of(dir.path());
    edit(&index_file(short.path()), |bytes| bytes.truncate(100));
    assert_whole(short.path(), &bodies, "short");
    let strange = copy_of(dir.path());
    fs::File::create(strange.path().join("index/notes.txt")).unwrap();
    fs::create_dir(strange.path().join("index/20231114221320000x")).unwrap();
    assert_whole(strange.path(), &bodies, "strange names");
}

#[test]
fn an_index_that_cannot_grow_leaves_lookups_right() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let bodies = fill(&broker, 40);
    broker.index_failed.store(true, Ordering::Release);
    assert!(matches!(broker.health(), Health::Degraded(_)));
    assert_found(&broker, &bodies);
    assert_eq!(broker.health(), Health::Ok, "a lookup lets the index catch up");
}

#[test]
fn t_k16_a_rebuild_of_what_is_right_changes_nothing() {
    let (dir, _, bodies) = folder(true, 130);
    let before: Vec<_> =
        [0, 1_000, 2_000].map(|start| fs::read(queue_file(dir.path(), start)).unwrap()).into();
    fs::remove_file(dir.path().join("pocketmq/owner")).unwrap();
    let broker = open(dir.path());
    assert!(broker.recovery().foreign);
    assert_eq!(super::bodies(&broker, "orders", 1), bodies);
    broker.close().unwrap();
    let after: Vec<_> =
        [0, 1_000, 2_000].map(|start| fs::read(queue_file(dir.path(), start)).unwrap()).into();
    assert!(before == after);
}

#[test]
fn the_index_is_the_same_from_the_hands_of_the_senders_and_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let keys: Vec<_> = (0..400).map(|n| format!("key-{n}")).collect();
    for n in 0..120 {
        // Many keys now and then, so that what waits for the indexer overflows; a key that is no ASCII; none at all.
        let key = match n % 3 {
            0 => keys.join(" "),
            1 => format!("ключ-{n}"),
            _ => String::new(),
        };
        put(&broker, "orders", n % 2, format!("body {n}").repeat(20).as_bytes(), &key);
        if n % 50 == 20 {
            assert_eq!(query(&broker, "key-7").len(), usize::try_from(n / 3 + 1).unwrap());
        }
    }
    broker.close().unwrap();
    let from_senders = fs::read(index_file(dir.path())).unwrap();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let broker = open(dir.path());
    assert_eq!(query(&broker, "key-7").len(), 40);
    broker.close().unwrap();
    assert!(fs::read(index_file(dir.path())).unwrap() == from_senders, "the index files differ");
}

fn query(broker: &Broker, key: &str) -> Vec<crate::commitlog::MessageView> {
    broker.query_by_key(&TopicName::new("orders").unwrap(), key, 0..=i64::MAX, 1_000).unwrap()
}
