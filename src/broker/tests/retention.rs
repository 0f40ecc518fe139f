//! Does old data go on time, never early, and in every order in which a crash can hit it?

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::damage::copy_of;
use super::disk::{commit, position_key};
use super::*;
use crate::config::{DiskRatios, Retention};
use crate::error::{Error, Result};
use crate::storage::faulty::{Faults, FaultyDisk, Operation};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const START: i64 = 1_700_000_000_000;

/// A broker on a clock and a disk that a test drives.
pub(super) struct Bench {
    pub(super) broker: Arc<Broker>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) faults: Arc<Faults>,
    pub(super) retention: Retention,
    pub(super) flush: FlushPolicy,
}

impl Bench {
    pub(super) fn open(dir: &Path, retention: Retention) -> Self {
        Self::open_with(dir, retention, FlushPolicy::Async, Arc::new(ManualClock::new(START))).unwrap()
    }

    pub(super) fn open_with(
        dir: &Path,
        retention: Retention,
        flush: FlushPolicy,
        clock: Arc<ManualClock>,
    ) -> Result<Self> {
        let disk = FaultyDisk::new(Arc::new(RealDisk));
        let faults = Arc::clone(disk.faults());
        let config = StoreConfig { retention: retention.clone(), ..config(flush) };
        let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let options = BrokerOptions { disk: Arc::new(disk), clock: hands, ..options(dir, config) };
        Ok(Self { broker: Broker::open(options)?, clock, faults, retention, flush })
    }

    /// Stops as SIGKILL does, and opens the folder again on a disk that does not fail.
    pub(super) fn kill(self, dir: &Path) -> Self {
        self.broker.kill();
        drop(self.broker);
        Self::open_with(dir, self.retention, self.flush, self.clock).unwrap()
    }

    pub(super) fn close(self, dir: &Path) -> Self {
        self.broker.close().unwrap();
        drop(self.broker);
        Self::open_with(dir, self.retention, self.flush, self.clock).unwrap()
    }

    /// Sends messages of about 300 bytes, 50 to a file, and flushes.
    pub(super) fn send(&self, topic: &str, range: std::ops::Range<usize>) {
        for n in range {
            put(&self.broker, topic, 1, body(n).as_bytes(), &format!("key-{n}"));
        }
        self.broker.flush().unwrap();
    }

    pub(super) fn range(&self, topic: &str) -> (u64, u64) {
        let (min, max) = self.broker.queue_range(&TopicName::new(topic).unwrap(), 1).unwrap();
        (min.get(), max.get())
    }

    pub(super) fn retain(&self) -> RetentionReport {
        self.broker.retain().unwrap()
    }

    pub(super) fn files(&self) -> usize {
        self.broker.log.files().starts().len()
    }

    /// Checks that the queue holds exactly the messages from its first place on, that each is found by its key, and
    /// that nothing before it is.
    pub(super) fn check(&self, topic: &str, end: usize) {
        let (min, max) = self.range(topic);
        assert_eq!(max, end as u64);
        let min = usize::try_from(min).unwrap();
        assert_eq!(bodies(&self.broker, topic, 1), (min..end).map(body).collect::<Vec<_>>());
        let name = TopicName::new(topic).unwrap();
        for n in [0, min.saturating_sub(1), min, end - 1] {
            let found = self.broker.query_by_key(&name, &format!("key-{n}"), 0..=i64::MAX, 8).unwrap();
            assert_eq!(found.len(), usize::from(n >= min && n < end), "key-{n}, queue from {min}");
            let at = QueueOffset::new(n as u64);
            assert_eq!(self.broker.message_in(&name, 1, at).unwrap().is_some(), n >= min && n < end);
        }
        let first = self.broker.message_in(&name, 1, QueueOffset::new(min as u64)).unwrap();
        assert!(first.is_none_or(|first| first.physical_offset() >= self.broker.log.start()));
    }
}

fn body(n: usize) -> String {
    format!("message {n} {}", "x".repeat(130))
}

/// Checks what a RocketMQ broker needs of a row of files: names that follow each other by the files' length.
fn assert_row(dir: &Path, len: u64) {
    let mut starts: Vec<u64> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().len(), len);
            entry.file_name().to_str().unwrap().parse().unwrap()
        })
        .collect();
    starts.sort_unstable();
    assert!(starts.iter().all(|start| start % len == 0), "{starts:?}");
    assert!(starts.windows(2).all(|pair| pair[1] == pair[0] + len), "{starts:?}");
}

#[test]
fn f65_f66_files_go_when_all_in_them_is_72_hours_old_and_queues_and_index_follow() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let bench = Bench::open_with(dir.path(), Retention::new(), flush, clock).unwrap();
        bench.send("orders", 0..200);
        bench.clock.advance(HOUR * 24);
        bench.send("orders", 200..400);
        let files = bench.files();
        assert!(files >= 7, "{files}");
        bench.clock.advance(HOUR * 48 - Duration::from_millis(1));
        assert!(bench.retain().is_empty());
        assert_eq!((bench.files(), bench.range("orders")), (files, (0, 400)));

        bench.clock.advance(Duration::from_millis(1));
        let report = bench.retain();
        assert_eq!((report.expired_files, report.log_files()), (3, 3), "{report}");
        assert_eq!(report.bytes, 3 * 16_384);
        assert_eq!(report.messages, bench.range("orders").0);
        assert!((100..200).contains(&report.messages), "{report}");
        assert_eq!(report.queue_files, report.messages / 50, "50 units a file of the queue");
        assert!(report.lost.is_empty() && report.held.is_none());
        bench.check("orders", 400);
        assert_row(&dir.path().join("commitlog"), 16_384);
        assert_row(&dir.path().join("consumequeue/orders/1"), 1_000);

        // Everything has expired: the file that is written to stays.
        bench.clock.advance(HOUR * 1_000);
        while !bench.retain().is_empty() {}
        assert_eq!(bench.files(), 1);
        bench.check("orders", 400);
        let totals = bench.broker.deletions();
        assert_eq!((totals.log_files, totals.messages), (files as u64 - 1, bench.range("orders").0));
        let range = bench.range("orders");
        let bench = bench.close(dir.path());
        assert_eq!(bench.range("orders"), range, "also after a clean stop");
        let bench = bench.kill(dir.path());
        assert_eq!(bench.range("orders"), range, "also after a crash");
        bench.check("orders", 400);
        bench.send("orders", 400..500);
        bench.check("orders", 500);
    }
}

#[test]
fn f66_a_queue_without_messages_keeps_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("idle", 0..7);
    bench.send("orders", 0..200);
    bench.clock.advance(HOUR * 73);
    bench.send("orders", 200..210);
    bench.retain();
    assert_eq!(bench.range("idle"), (7, 7));
    let bench = bench.kill(dir.path());
    assert_eq!(bench.range("idle"), (7, 7));
    assert_eq!(put(&bench.broker, "idle", 1, b"next", "k").queue_offset, QueueOffset::new(7));
    assert_eq!(bodies(&bench.broker, "idle", 1), ["next"]);
}

#[test]
fn c50_what_is_derived_is_made_again_from_a_log_that_begins_above_zero() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..200);
    bench.clock.advance(HOUR * 73);
    bench.send("orders", 200..300);
    assert!(bench.retain().log_files() >= 3);
    let range = bench.range("orders");
    bench.broker.close().unwrap();
    for folder in ["consumequeue", "index"] {
        fs::remove_dir_all(dir.path().join(folder)).unwrap();
    }
    let bench =
        Bench::open_with(dir.path(), Retention::new(), FlushPolicy::Async, bench.clock.clone()).unwrap();
    assert_eq!(bench.range("orders"), range);
    bench.check("orders", 300);
}

#[test]
fn d16_what_a_registered_group_has_not_consumed_stays_and_the_report_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new().max_bytes(3 * 16_384));
    bench.send("orders", 0..300);
    commit(&bench.broker, 0);
    bench.clock.advance(HOUR * 100);
    let report = bench.retain();
    assert!(report.is_empty(), "{report}");
    let held = report.held.unwrap();
    assert_eq!((held.group.as_str(), held.topic.as_str(), held.queue_id), ("readers", "orders", 1));
    assert_eq!((held.position.get(), held.messages), (0, 300));
    assert!(held.to_string().contains("group readers has not consumed"), "{held}");

    commit(&bench.broker, 120);
    let report = bench.retain();
    assert!(report.log_files() > 0 && report.lost.is_empty(), "{report}");
    assert!(bench.range("orders").0 <= 120);
    assert_eq!(report.held.unwrap().position.get(), 120);
    bench.check("orders", 300);

    // A group that has committed in another queue of the topic has consumed nothing here.
    let key = PositionKey { queue_id: 0, ..position_key() };
    bench.broker.positions().remove_topic(&key.topic).unwrap();
    bench.broker.positions().position(&key, QueueOffset::ZERO).unwrap();
    assert!(bench.retain().is_empty());
    commit(&bench.broker, 300);
    assert!(bench.retain().held.is_none());
    assert_eq!(bench.files(), 1);
}

#[test]
fn d16_what_is_not_consumed_goes_only_if_told_so_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new().delete_unconsumed());
    bench.send("orders", 0..300);
    commit(&bench.broker, 20);
    bench.clock.advance(HOUR * 100);
    let report = bench.retain();
    let min = bench.range("orders").0;
    assert!(min > 100, "{report}");
    let [lost] = report.lost.as_slice() else { panic!("{report}") };
    assert_eq!((lost.position.get(), lost.messages), (20, min - 20));
    assert_eq!(bench.broker.deletions().unconsumed, min - 20);
    assert!(report.to_string().contains("lost: "), "{report}");
}

#[test]
fn f65_the_log_keeps_within_its_bytes_oldest_file_first_and_never_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new().max_bytes(3 * 16_384));
    for round in 0..8 {
        bench.send("orders", round * 60..(round + 1) * 60);
        let report = bench.retain();
        assert_eq!(report.surplus_files, report.log_files());
        assert!(bench.files() <= 3);
        bench.check("orders", (round + 1) * 60);
    }
    assert_row(&dir.path().join("commitlog"), 16_384);
    let too_small = Retention::new().max_bytes(16_384);
    let error = Bench::open_with(&copy_of(dir.path()).path().join("x"), too_small, bench.flush, bench.clock);
    assert!(matches!(error, Err(Error::InvalidConfig { field: "retention.max_bytes", .. })));
}

#[test]
fn t_k13_forced_by_a_full_disk_ten_files_go_in_a_pass_whatever_their_age() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::rocketmq());
    bench.send("orders", 0..1_300);
    let files = bench.files();
    assert!(files > 21, "{files}");
    bench.faults.set_total(1_000 << 20);
    bench.faults.set_room(Some(160 << 20));
    assert!(bench.retain().is_empty(), "84 % is not enough for what has not expired");
    bench.faults.set_room(Some(149 << 20));
    for pass in 1..=2 {
        let report = bench.retain();
        assert_eq!((report.space_files, bench.files()), (10, files - pass * 10));
    }
    bench.faults.set_room(Some(500 << 20));
    assert!(bench.retain().is_empty());
    bench.check("orders", 1_300);
}

#[test]
fn f65_above_the_first_ratio_expired_files_go_at_any_hour_and_else_at_four() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::rocketmq());
    bench.send("orders", 0..200);
    bench.faults.set_total(1_000 << 20);
    bench.faults.set_room(Some(400 << 20));
    // The test begins at 22:13:20.
    bench.clock.advance(HOUR * 73);
    assert!(bench.retain().is_empty(), "expired, but at another hour");
    let copied = copy_of(dir.path());
    let other = Bench::open_with(
        copied.path(),
        Retention::rocketmq(),
        FlushPolicy::Async,
        Arc::new(ManualClock::new(START + 73 * 3_600_000)),
    )
    .unwrap();
    other.faults.set_total(1_000 << 20);
    other.faults.set_room(Some(240 << 20));
    assert!(other.retain().expired_files > 0, "76 % full");
    bench.clock.advance(HOUR * 4 + HOUR / 2);
    assert!(bench.retain().is_empty(), "03:43");
    bench.clock.advance(HOUR / 2);
    assert!(bench.retain().expired_files > 0, "04:13");
}

#[test]
fn t_k14_above_the_last_ratio_sends_are_refused_and_below_it_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let ratios = DiskRatios::rocketmq();
    let bench = Bench::open(dir.path(), Retention::forever().disk_ratios(ratios).keep_unconsumed());
    bench.send("orders", 0..1);
    commit(&bench.broker, 0);
    bench.faults.set_total(1_000 << 20);
    bench.faults.set_room(Some(99 << 20));
    let refused = (0..100_000).find_map(|_| try_put(&bench.broker, "orders", 1, &[1; 1_000], "k").err());
    let refused = refused.unwrap();
    assert!(
        matches!(&refused, Error::StoreFull(reason) if reason.as_str().contains("91 % full")),
        "{refused}"
    );
    assert!(try_put(&bench.broker, "orders", 1, &[1; 1_000], "k").is_err());
    bench.faults.set_room(Some(101 << 20));
    put(&bench.broker, "orders", 1, &[1; 1_000], "k");
}

#[test]
fn d4_a_store_above_the_last_ratio_opens_for_reading_and_refuses_sends() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::rocketmq());
    bench.send("orders", 0..20);
    bench.broker.kill();
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    disk.faults().set_total(1_000 << 20);
    disk.faults().set_room(Some(50 << 20));
    let config = StoreConfig { retention: Retention::rocketmq(), ..config(FlushPolicy::Async) };
    let broker = Broker::open(BrokerOptions { disk: Arc::new(disk), ..options(dir.path(), config) }).unwrap();
    assert_eq!(bodies(&broker, "orders", 1), (0..20).map(body).collect::<Vec<_>>());
    let refused = (0..100_000).find_map(|_| try_put(&broker, "orders", 1, &[1; 1_000], "k").err()).unwrap();
    assert!(matches!(&refused, Error::StoreFull(_)), "{refused}");
}

#[test]
fn d4_files_go_to_keep_space_free_only_if_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..300);
    bench.faults.set_room(Some(1 << 20));
    assert!(bench.retain().is_empty(), "nothing unexpired goes however full the disk is");
    bench.broker.close().unwrap();
    let asked = Retention::new().min_free_bytes(2 << 20);
    let bench = Bench::open_with(dir.path(), asked, FlushPolicy::Async, bench.clock.clone()).unwrap();
    bench.faults.set_room(Some(1 << 20));
    commit(&bench.broker, 100);
    let report = bench.retain();
    assert!(report.space_files > 0 && report.held.is_some(), "{report}");
    bench.check("orders", 300);
}

#[test]
fn d16_a_message_of_a_deleted_file_stays_readable_to_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..200);
    let name = TopicName::new("orders").unwrap();
    let held = bench.broker.message_in(&name, 1, QueueOffset::new(3)).unwrap().unwrap();
    bench.clock.advance(HOUR * 73);
    bench.send("orders", 200..210);
    assert!(bench.retain().log_files() > 2);
    assert_eq!(held.body_str().unwrap(), body(3));
    assert!(bench.broker.message_in(&name, 1, QueueOffset::new(3)).unwrap().is_none());
    assert!(bench.broker.message_at(held.physical_offset()).is_none());
    bench.broker.close().unwrap();
    assert_eq!(held.body_str().unwrap(), body(3));
}

#[test]
fn d16_f77_a_pull_from_what_is_gone_says_where_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..200);
    bench.clock.advance(HOUR * 73);
    bench.send("orders", 200..210);
    let name = TopicName::new("orders").unwrap();
    let filter = Filter::all();
    let pull = || {
        let offset = QueueOffset::new(5);
        let request = PullRequest { topic: &name, queue_id: 1, offset, count_max: 32, filter: &filter };
        bench.broker.pull(&request).unwrap()
    };
    // The log has gone, the queue has not followed yet: what a pull meets that runs beside a pass.
    let (oldest, next) = bench.broker.log.files().oldest().unwrap();
    bench.broker.log.files().remove_oldest(&oldest).unwrap();
    let early = pull();
    assert_eq!((early.status, early.messages.len()), (PullStatus::OffsetIllegal, 0));
    let first = bench.broker.message_in(&name, 1, early.next_offset).unwrap().unwrap();
    assert_eq!(first.physical_offset().get(), next);
    assert_eq!(early.min_offset, early.next_offset);
    bench.retain();
    let late = pull();
    assert_eq!(late.status, PullStatus::OffsetIllegal);
    assert_eq!(late.next_offset.get(), bench.range("orders").0);
    assert!(late.next_offset > early.next_offset);
}

#[test]
fn what_is_not_on_disk_or_not_in_its_queue_stays() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    for n in 0..300 {
        put(&bench.broker, "orders", 1, body(n).as_bytes(), "k");
    }
    bench.clock.advance(HOUR * 100);
    put(&bench.broker, "orders", 1, b"now", "k");
    assert!(bench.retain().is_empty());
    bench.broker.flush().unwrap();
    assert!(bench.retain().log_files() > 3);
}

#[test]
fn k43_k44_whatever_point_of_a_pass_fails_or_ends_it_the_next_opening_is_whole() {
    for operation in [Operation::Remove, Operation::DirSync] {
        for earlier in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let bench = Bench::open(dir.path(), Retention::new().delete_unconsumed());
            bench.send("orders", 0..300);
            bench.clock.advance(HOUR * 73);
            bench.send("orders", 300..320);
            let before = bench.faults.count(operation);
            bench.faults.fail_after(operation, earlier);
            let failed = bench.broker.retain();
            let asked = bench.faults.count(operation) - before;
            if failed.is_ok() {
                assert!(asked <= earlier, "{operation:?} number {earlier} failed and nobody was told");
                assert!(asked > 6, "{operation:?}: {asked}");
                break;
            }
            let health = bench.broker.health();
            assert!(
                matches!(&health, Health::Degraded(parts) if parts[0].contains("retention")),
                "{health:?}"
            );
            bench.check("orders", 320);
            // What was sent in spite of it is there, and the pass is finished by the next opening.
            put(&bench.broker, "orders", 1, body(320).as_bytes(), "key-320");
            let min = bench.range("orders").0;
            let copied = copy_of(dir.path());
            let bench = bench.kill(dir.path());
            assert_eq!(bench.range("orders").0, min);
            bench.check("orders", 321);
            bench.retain();
            assert!(bench.range("orders").0 > 200);
            bench.check("orders", 321);
            assert_row(&dir.path().join("commitlog"), 16_384);
            assert_row(&dir.path().join("consumequeue/orders/1"), 1_000);
            assert_eq!(bench.broker.health(), Health::Ok);
            Bench::open(copied.path(), Retention::forever()).check("orders", 321);
        }
    }
}

#[test]
fn k43_after_a_failed_sync_of_the_folder_nothing_goes_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..300);
    bench.clock.advance(HOUR * 73);
    bench.send("orders", 300..320);
    let files = bench.files();
    bench.faults.fail_once_within(Operation::DirSync, "commitlog");
    assert!(bench.broker.retain().is_err());
    for _ in 0..3 {
        assert!(bench.broker.retain().is_err());
        assert_eq!(bench.files(), files - 1);
    }
    bench.send("orders", 320..330);
    bench.check("orders", 330);
}

#[test]
fn k43_files_go_one_after_the_other_each_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..300);
    bench.clock.advance(HOUR * 73);
    bench.send("orders", 300..320);
    bench.faults.take_asked();
    let report = bench.retain();
    let asked = bench.faults.take_asked();
    let log: Vec<_> = asked.iter().filter(|(_, path)| path.to_str().unwrap().contains("commitlog")).collect();
    assert_eq!(log.len() as u64, report.log_files() * 2);
    for (number, pair) in log.chunks(2).enumerate() {
        assert_eq!((pair[0].0, pair[1].0), (Operation::Remove, Operation::DirSync));
        assert!(pair[0].1.ends_with(format!("{:020}", number * 16_384)), "{pair:?}");
    }
    let last_of_log =
        asked.iter().rposition(|(_, path)| path.to_str().unwrap().contains("commitlog")).unwrap();
    let first_of_queue =
        asked.iter().position(|(_, path)| path.to_str().unwrap().contains("consumequeue")).unwrap();
    assert!(
        last_of_log < first_of_queue,
        "the log first: queues without messages are mended, not the other way"
    );
}

#[test]
fn a_step_makes_a_pass_every_ten_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..200);
    bench.broker.step().unwrap();
    bench.broker.step().unwrap();
    assert_eq!(bench.broker.deletions().passes, 1);
    bench.clock.advance(Duration::from_secs(10));
    bench.broker.step().unwrap();
    assert_eq!(bench.broker.deletions().passes, 2);
    bench.clock.advance(HOUR * 73);
    bench.send("orders", 200..201);
    bench.broker.step().unwrap();
    assert!(bench.broker.deletions().log_files >= 3);
}

#[test]
fn a_store_that_is_only_read_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), Retention::new());
    bench.send("orders", 0..200);
    bench.broker.close().unwrap();
    let config = config(FlushPolicy::Async);
    let disk = Arc::new(crate::storage::PrivateDisk::new());
    let clock = Arc::new(ManualClock::new(START + 1_000 * 3_600_000));
    let broker = Broker::open(BrokerOptions { disk, clock, ..options(dir.path(), config) }).unwrap();
    broker.step().unwrap();
    assert!(matches!(broker.retain(), Err(Error::Unsupported(_))));
    assert_eq!(bodies(&broker, "orders", 1).len(), 200);
}
