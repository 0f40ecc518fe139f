//! What happens to a folder that was copied, linked, mixed or told strange things? It opens, or says what is wrong.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::damage::{copy_of, folder, log_file};
use super::*;

fn try_open(dir: &Path) -> Result<Arc<Broker>> {
    Broker::open(options(dir, config(FlushPolicy::Async)))
}

#[test]
fn b2_queue_files_of_two_sizes_are_refused_naming_one_and_both_sizes() {
    let (dir, _, _) = folder(true, 120);
    let first = dir.path().join("consumequeue/orders/1").join(crate::storage::file_name(0));
    let stranger = dir.path().join("consumequeue/orders/2");
    fs::create_dir_all(&stranger).unwrap();
    // Two files, as a short last file counts as absent.
    for start in [0, 2_000] {
        fs::write(stranger.join(crate::storage::file_name(start)), vec![0; 2_000]).unwrap();
    }
    let before = fs::read(&first).unwrap();
    let error = try_open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("2000") && error.contains("1000") && error.contains("consumequeue"), "{error}");
    assert_eq!(fs::read(&first).unwrap(), before);
    assert_eq!(fs::read(stranger.join(crate::storage::file_name(0))).unwrap(), vec![0; 2_000]);
}

#[test]
fn b3_a_queue_file_size_that_is_no_multiple_of_a_unit_is_rounded_up() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("broker.conf"), "mappedFileSizeConsumeQueue=1999\n").unwrap();
    let broker = open(dir.path());
    put(&broker, "orders", 1, b"x", "k");
    broker.close().unwrap();
    let file = dir.path().join("consumequeue/orders/1").join(crate::storage::file_name(0));
    assert_eq!(fs::metadata(&file).unwrap().len(), 2_000);
    let conf = fs::read_to_string(dir.path().join("broker.conf")).unwrap();
    assert!(conf.contains("mappedFileSizeConsumeQueue=2000"), "{conf}");
    assert_eq!(bodies(&open(dir.path()), "orders", 1), ["x"]);
}

#[test]
fn b8_a_disk_ratio_of_rocketmqs_is_kept_and_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "diskMaxUsedSpaceRatio=NaN\ndiskSpaceWarningLevelRatio=-1\ndiskSpaceCleanForciblyRatio=7\n";
    fs::write(dir.path().join("broker.conf"), lines).unwrap();
    let broker = open(dir.path());
    put(&broker, "orders", 1, b"x", "k");
    broker.close().unwrap();
    let conf = fs::read_to_string(dir.path().join("broker.conf")).unwrap();
    assert!(lines.lines().all(|line| conf.contains(line)), "{conf}");
}

#[test]
fn b14_a_copy_with_the_lock_and_the_abort_of_another_opens() {
    let (dir, _, expected) = folder(false, 20);
    let copy = copy_of(dir.path());
    fs::write(copy.path().join("abort"), "1").unwrap();
    fs::write(copy.path().join("lock"), "lock").unwrap();
    let broker = open(copy.path());
    assert_eq!(broker.recovery().last_stop, LastStop::Crash);
    assert_eq!(bodies(&broker, "orders", 1), expected);
    broker.close().unwrap();
    assert!(!copy.path().join("abort").exists());
}

#[test]
fn c26_strange_folders_among_the_queues_are_ignored_and_never_deleted() {
    let (dir, _, expected) = folder(true, 20);
    let queues = dir.path().join("consumequeue");
    let strange = ["orders/abc", "orders/-1", "orders/99999999999", "un.known", "unknown/0"];
    for name in strange {
        fs::create_dir_all(queues.join(name)).unwrap();
        fs::write(queues.join(name).join("note"), "mine").unwrap();
    }
    let broker = open(dir.path());
    assert_eq!(bodies(&broker, "orders", 1), expected);
    let warnings = broker.recovery().warnings.join("\n");
    assert!(
        warnings.contains("abc") && warnings.contains("-1") && warnings.contains("un.known"),
        "{warnings}"
    );
    broker.close().unwrap();
    for name in strange {
        assert_eq!(fs::read_to_string(queues.join(name).join("note")).unwrap(), "mine", "{name}");
    }
}

#[test]
fn c48_a_linked_file_opens_and_what_another_program_changes_in_it_is_found_when_it_is_read() {
    let (dir, places, _) = folder(true, 300);
    fs::hard_link(log_file(dir.path(), 0), dir.path().join("linked")).unwrap();
    let broker = open(dir.path());
    let (start, size) = places[3];
    let at = PhysicalOffset::new(start as u64);
    assert!(broker.recovery().scanned_from > at, "the first file is too young for this test");
    assert!(broker.message_at(at).is_some());
    let other = fs::File::options().write(true).open(dir.path().join("linked")).unwrap();
    other.write_at(b"!", (start + size - 30) as u64).unwrap();
    assert!(broker.message_at(at).is_none());
    let name = TopicName::new("orders").unwrap();
    assert!(!matches!(broker.message_in(&name, 1, QueueOffset::new(3)), Ok(Some(_))));
    assert!(broker.message_in(&name, 1, QueueOffset::new(4)).unwrap().is_some());
}
