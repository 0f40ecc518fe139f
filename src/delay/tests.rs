//! What happens to delayed messages on a disk that is full, or fails, or loses its power?

use std::path::Path;

use super::*;
use crate::broker::BrokerOptions;
use crate::clock::{Clock, ManualClock};
use crate::config::{Background, FlushPolicy, StoreConfig, TopicConfig};
use crate::message::properties::IndexTexts;
use crate::message::sys_flag::SysFlag;
use crate::storage::RealDisk;
use crate::storage::faulty::{Faults, FaultyDisk, Operation};
use crate::types::{BrokerName, PhysicalOffset};

pub(super) struct Shard {
    pub(super) broker: Arc<Broker>,
    pub(super) delays: Delays,
    pub(super) clock: Arc<ManualClock>,
    pub(super) faults: Arc<Faults>,
}

pub(super) fn open(dir: &Path, clock: &Arc<ManualClock>, flush: FlushPolicy) -> Shard {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let faults = Arc::clone(disk.faults());
    let background = Background::Manual;
    let config = StoreConfig { flush, background, free_space_min: Some(0), ..StoreConfig::default() };
    let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let options = BrokerOptions {
        dir: dir.to_path_buf(),
        log_dir: None,
        name: BrokerName::new("broker-a").unwrap(),
        shard: 0,
        conf: None,
        config: Arc::new(config),
        disk: Arc::new(disk),
        clock: Arc::clone(&hands),
        progress: None,
    };
    let broker = Broker::open(options).unwrap();
    let steady = Arc::new(SteadyClock::new(hands));
    let delays = Delays::open(&broker, &steady, &mut Vec::new()).unwrap();
    Shard { broker, delays, clock: Arc::clone(clock), faults }
}

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_700_000_000_000))
}

impl Shard {
    fn delay(&self, topic: &str, body: &[u8], level: u32) {
        let name = TopicName::new(topic).unwrap();
        let known = self.broker.topic(topic);
        let topic = known.unwrap_or_else(|| self.broker.set_topic(&name, TopicConfig::queues(1)).unwrap());
        let message = PutMessage {
            flag: 0,
            sys_flag: SysFlag::NONE,
            now_millis: None,
            born_millis: 1,
            born_host: "127.0.0.1:0".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: PhysicalOffset::ZERO,
            body,
            properties: b"__CRC32#\x01123\x02KEYS\x01k\x02",
            index_texts: IndexTexts { unique: None, keys: "k" },
            tags_code: 0,
        };
        let later = crate::broker::Later { level, wait: WaitForFlush::Yes };
        self.broker.put_delayed(&topic, 0, &message, later).unwrap();
    }

    fn advance(&self, seconds: u64) -> Result<()> {
        self.clock.advance(Duration::from_secs(seconds));
        let (_, result) = self.delays.step();
        result
    }

    fn count(&self, topic: &str) -> u64 {
        let name = TopicName::new(topic).unwrap();
        self.broker.queue_range(&name, 0).map_or(0, |(_, end)| end.get())
    }
}

#[test]
fn d4_on_a_disk_that_refuses_a_message_waits_and_comes_when_it_is_good_again() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path(), &clock(), FlushPolicy::Async);
    shard.delay("orders", b"one", 1);
    shard.delay("other", b"two", 2);
    shard.faults.fail_within(Operation::Map, "consumequeue/orders");
    assert!(matches!(shard.advance(1), Err(Error::Io(_))));
    assert!(shard.delays.trouble().unwrap().contains("cannot"));
    // The other levels go on.
    assert!(shard.advance(4).is_err());
    assert_eq!((shard.count("orders"), shard.count("other")), (0, 1));
    shard.faults.heal();
    shard.advance(0).unwrap();
    assert_eq!((shard.count("orders"), shard.count("other")), (1, 1));
    assert_eq!(shard.delays.trouble(), None);
}

#[test]
fn d13_progress_is_written_behind_a_flush_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    shard.delay("orders", b"one", 1);
    shard.advance(1).unwrap();
    shard.faults.fail_within(Operation::MapSync, "commitlog/");
    assert!(matches!(shard.advance(10), Err(Error::FlushFailed { .. })));
    let json = dir.path().join("config/delayOffset.json");
    assert!(!json.exists(), "nothing may say that the message was delivered");
    shard.broker.kill();
    drop(shard);
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    shard.advance(20).unwrap();
    assert_eq!(shard.count("orders"), 1);
    shard.delay("orders", b"two", 1);
    shard.advance(11).unwrap();
    assert!(json.exists());
}

#[test]
fn d13_a_log_that_lost_deliveries_in_a_power_loss_gets_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    shard.delay("orders", b"one", 1);
    shard.broker.flush().unwrap();
    let flushed = shard.broker.log_range().1;
    shard.advance(1).unwrap();
    assert_eq!(shard.count("orders"), 1);
    let end = shard.broker.log_range().1;
    shard.broker.kill();
    drop(shard);
    // The note is on disk, the delivery is not.
    let log = dir.path().join("commitlog/00000000000000000000");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[usize::try_from(flushed.get()).unwrap()..usize::try_from(end.get()).unwrap()].fill(0);
    std::fs::write(&log, bytes).unwrap();
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    assert_eq!(shard.count("orders"), 0);
    shard.advance(0).unwrap();
    assert_eq!(shard.count("orders"), 1);
}

#[test]
fn a_stale_checksum_is_never_put_again() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path(), &clock(), FlushPolicy::Sync);
    shard.delay("orders", b"one", 1);
    shard.advance(1).unwrap();
    shard.broker.flush().unwrap();
    for topic in ["orders", SCHEDULE_TOPIC] {
        let name = TopicName::new(topic).unwrap();
        let message = shard.broker.message_in(&name, 0, QueueOffset::ZERO).unwrap().unwrap();
        let checksums = message.properties().iter().filter(|(name, _)| *name == name::CRC32).count();
        assert_eq!(checksums, 1, "{topic}");
        message.record().check_whole_crc().unwrap();
    }
}

#[test]
fn a_step_says_when_the_next_message_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path(), &clock(), FlushPolicy::Async);
    assert_eq!(shard.delays.step().0.next_due, None);
    shard.delay("orders", b"one", 3);
    shard.delay("orders", b"two", 2);
    assert_eq!(shard.delays.step().0.next_due, Some(Duration::from_secs(5)));
    shard.clock.advance(Duration::from_secs(6));
    let (stepped, result) = shard.delays.step();
    result.unwrap();
    assert_eq!((stepped.delivered, stepped.next_due), (1, Some(Duration::from_secs(4))));
}

#[test]
fn a_message_for_a_topic_that_no_table_lists_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    shard.delay("orders", b"one", 1);
    shard.broker.kill();
    drop(shard);
    for name in ["topics.json", "topics.json.bak"] {
        let _ = std::fs::remove_file(dir.path().join("config").join(name));
    }
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    assert!(shard.broker.topic("orders").is_none());
    shard.clock.advance(Duration::from_secs(1));
    let (stepped, result) = shard.delays.step();
    result.unwrap();
    assert_eq!(stepped.made, [TopicName::new("orders").unwrap()]);
    assert_eq!(shard.count("orders"), 1);
}

#[test]
fn a_step_is_bounded_and_each_one_notes_how_far_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    for level in [1, 2] {
        for _ in 0..800 {
            shard.delay("orders", b"x", level);
        }
    }
    shard.clock.advance(Duration::from_secs(5));
    let (stepped, result) = shard.delays.step();
    result.unwrap();
    assert_eq!((stepped.delivered, stepped.next_due), (1_000, Some(Duration::ZERO)));
    assert!(shard.delays.is_behind());
    shard.broker.kill();
    drop(shard);
    let shard = open(dir.path(), &clock, FlushPolicy::Async);
    let (stepped, result) = shard.delays.step();
    result.unwrap();
    assert_eq!((stepped.delivered, stepped.next_due, shard.count("orders")), (600, None, 1_600));
    assert!(!shard.delays.is_behind());
}
