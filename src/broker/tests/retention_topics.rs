//! Does a topic keep its messages as long as it is told to, and do those of deleted topics and jumping clocks go rightly?

use std::fs;

use super::disk::commit;
use super::retention::{Bench, HOUR, START};
use super::*;
use crate::config::Retention;

#[test]
fn e24_a_topic_that_is_kept_longer_keeps_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new().topic_age("audit", HOUR * 200));
    bench.send("orders", 0..100);
    bench.send("audit", 0..1);
    bench.send("orders", 100..200);
    bench.clock.advance(HOUR * 100);
    bench.send("orders", 200..210);
    bench.retain();
    assert_eq!(bench.range("audit"), (0, 1));
    assert!((1..=100).contains(&bench.range("orders").0), "{:?}", bench.range("orders"));
    bench.check("audit", 1);
    bench.clock.advance(HOUR * 101);
    bench.send("orders", 210..220);
    bench.retain();
    assert_eq!(bench.range("audit"), (1, 1));

    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new().topic_forever("audit"));
    bench.send("audit", 0..1);
    bench.send("orders", 0..200);
    bench.clock.advance(HOUR * 100_000);
    assert!(bench.retain().is_empty());
}

#[test]
fn e24_a_topic_that_is_kept_less_long_loses_its_messages_before_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new().topic_age("prices", HOUR));
    bench.send("prices", 0..120);
    bench.send("orders", 0..10);
    bench.clock.advance(HOUR / 2);
    bench.send("prices", 120..130);
    bench.clock.advance(HOUR / 2);
    let report = bench.retain();
    assert_eq!((report.messages, report.queue_files), (120, 2), "{report}");
    assert_eq!((bench.range("prices"), bench.range("orders")), ((120, 130), (0, 10)));
    bench.check("prices", 130);
    bench.check("orders", 10);
    // The file in which nothing can be reached any more goes, the one with an order stays.
    assert!(report.dead_files >= 1, "{report}");
    let bench = bench.close(dir.path());
    assert_eq!(bench.range("prices"), (120, 130));
    let bench = bench.kill(dir.path());
    bench.check("prices", 130);
    // Its place counts only for the queue that it was noted for.
    bench.broker.delete_topic(&TopicName::new("prices").unwrap()).unwrap();
    bench.send("prices", 0..3);
    bench.check("prices", 3);
    let bench = bench.kill(dir.path());
    bench.check("prices", 3);
}

#[test]
fn e24_a_topic_that_is_kept_less_long_waits_for_its_groups() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new().topic_age("orders", HOUR));
    bench.send("orders", 0..120);
    commit(&bench.broker, 70);
    bench.clock.advance(HOUR);
    assert_eq!(bench.retain().messages, 70);
    assert_eq!(bench.range("orders"), (70, 120));
    bench.broker.close().unwrap();
    // Another broker has been at it: what it made of the queue counts.
    fs::remove_file(dir.path().join("pocketmq/owner")).unwrap();
    let bench =
        Bench::open_with(dir.path(), Retention::new(), FlushPolicy::Async, bench.clock.clone()).unwrap();
    assert!(bench.broker.recovery().foreign);
    assert!(bench.range("orders").0 < 70, "{:?}", bench.range("orders"));
}

#[test]
fn d20_the_files_of_deleted_topics_go_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::forever());
    bench.send("old", 0..200);
    bench.send("orders", 0..10);
    bench.retain();
    assert!(bench.retain().is_empty());
    bench.broker.delete_topic(&TopicName::new("old").unwrap()).unwrap();
    let report = bench.retain();
    assert!(report.dead_files >= 3, "{report}");
    bench.check("orders", 10);
    assert!(bench.retain().is_empty());
    let deleted = fs::read_to_string(dir.path().join("pocketmq/deleted")).unwrap();
    assert!(deleted.contains("old"), "a part of it is still there");
}

#[test]
fn g2_a_clock_that_jumps_a_year_ahead_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..200);
    bench.clock.set_wall_millis(START + 366 * 86_400_000);
    bench.send("orders", 200..210);
    assert!(bench.retain().is_empty());
    let health = bench.broker.health();
    assert!(matches!(&health, Health::Degraded(parts) if parts[0].contains("clock")), "{health:?}");
    bench.clock.set_wall_millis(START);
    assert!(bench.retain().is_empty());
    assert_eq!(bench.broker.health(), Health::Ok);
    bench.clock.advance(HOUR * 73);
    assert!(bench.retain().expired_files > 0);
    bench.check("orders", 210);
}
