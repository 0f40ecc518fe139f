//! Does one shard keep its promises: what was put is found, after a clean stop, after a kill, in order?

mod damage;
mod derived;
mod disk;
mod folders;
mod halves;
mod joined;
mod limits;
mod order;
mod refused;
mod removal;
mod retention;
mod retention_topics;
mod settings;
mod sweeps;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Background, FileSizes, FlushPolicy, TopicConfig};
use crate::filter::Filter;
use crate::message::Properties;
use crate::message::properties::IndexTexts;
use crate::message::sys_flag::SysFlag;
use crate::storage::RealDisk;
use crate::types::QueueOffset;

/// Sizes at which a few messages fill files.
pub(super) const SMALL: FileSizes =
    FileSizes { commit_log: 16_384, consume_queue_units: 50, index_slots: 16, index_entries: 64 };

pub(super) fn config(flush: FlushPolicy) -> StoreConfig {
    StoreConfig {
        flush,
        sizes: SMALL,
        background: Background::Manual,
        free_space_min: Some(0),
        ..StoreConfig::default()
    }
}

pub(super) fn options(dir: &Path, config: StoreConfig) -> BrokerOptions {
    BrokerOptions {
        dir: dir.to_path_buf(),
        log_dir: None,
        name: BrokerName::new("broker-a").unwrap(),
        shard: 0,
        conf: None,
        config: Arc::new(config),
        disk: Arc::new(RealDisk),
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        progress: None,
    }
}

pub(super) fn open(dir: &Path) -> Arc<Broker> {
    Broker::open(options(dir, config(FlushPolicy::Async))).unwrap()
}

pub(super) fn put(broker: &Broker, topic: &str, queue_id: u32, body: &[u8], key: &str) -> Stored {
    try_put(broker, topic, queue_id, body, key).unwrap()
}

pub(super) fn try_put(
    broker: &Broker,
    topic: &str,
    queue_id: u32,
    body: &[u8],
    key: &str,
) -> crate::error::Result<Stored> {
    let name = TopicName::new(topic).unwrap();
    let topic =
        broker.topic(topic).unwrap_or_else(|| broker.add_topic(&name, TopicConfig::queues(4)).unwrap());
    let properties = format!("KEYS\u{1}{key}\u{2}TAGS\u{1}even\u{2}");
    let message = PutMessage {
        properties: properties.as_bytes(),
        index_texts: IndexTexts::of(Properties::new(properties.as_bytes())),
        tags_code: crate::message::tags::tags_code(Some("even")),
        ..message(body)
    };
    broker.put(&topic, queue_id, &message, WaitForFlush::Yes)
}

/// A message without properties.
pub(super) fn message(body: &[u8]) -> PutMessage<'_> {
    PutMessage {
        flag: 0,
        sys_flag: SysFlag::NONE,
        now_millis: None,
        born_millis: 1,
        born_host: "127.0.0.1:0".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: PhysicalOffset::ZERO,
        body,
        properties: &[],
        index_texts: IndexTexts::of(Properties::new(&[])),
        tags_code: 0,
    }
}

/// Returns the bodies of a queue, in order.
pub(super) fn bodies(broker: &Broker, topic: &str, queue_id: u32) -> Vec<String> {
    let name = TopicName::new(topic).unwrap();
    let mut at = broker.queue_range(&name, queue_id).unwrap_or_default().0;
    let mut bodies = Vec::new();
    loop {
        let pulled = broker
            .pull(&PullRequest { topic: &name, queue_id, offset: at, count_max: 32, filter: &Filter::all() })
            .unwrap();
        if pulled.status == PullStatus::NoNewMessage {
            return bodies;
        }
        bodies.extend(pulled.messages.iter().map(|message| message.body_str().unwrap().into_owned()));
        at = pulled.next_offset;
    }
}

pub(super) fn fill(broker: &Broker, count: usize) -> Vec<String> {
    (0..count)
        .map(|n| {
            let body = format!("message {n}");
            let stored = put(broker, "orders", 1, body.as_bytes(), &format!("key-{n}"));
            assert_eq!(stored.queue_offset, QueueOffset::new(n as u64));
            body
        })
        .collect()
}

pub(super) fn assert_found(broker: &Broker, expected: &[String]) {
    assert_eq!(bodies(broker, "orders", 1), expected);
    let topic = TopicName::new("orders").unwrap();
    for n in [0, expected.len() / 2, expected.len() - 1] {
        let found = broker.query_by_key(&topic, &format!("key-{n}"), 0..=i64::MAX, 32).unwrap();
        let found: Vec<_> = found.iter().map(|view| view.body_str().unwrap().into_owned()).collect();
        assert_eq!(found, [expected[n].clone()]);
    }
}

#[test]
fn what_was_put_is_found_at_once_after_a_clean_stop_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let expected = fill(&broker, 300);
    assert_found(&broker, &expected);
    broker.close().unwrap();
    drop(broker);
    let broker = open(dir.path());
    assert_eq!(broker.recovery().last_stop, LastStop::Clean, "{}", broker.recovery());
    assert!(!broker.recovery().foreign);
    assert_found(&broker, &expected);
    broker.kill();
    drop(broker);
    let broker = open(dir.path());
    assert_eq!(broker.recovery().last_stop, LastStop::Crash);
    assert!(!broker.recovery().foreign);
    assert_found(&broker, &expected);
    assert_eq!(put(&broker, "orders", 1, b"next", "k").queue_offset, QueueOffset::new(300));
    broker.close().unwrap();
}

#[test]
fn v1_under_sync_flush_a_message_is_visible_when_it_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::open(options(dir.path(), config(FlushPolicy::Sync))).unwrap();
    let expected = fill(&broker, 100);
    assert_eq!(broker.log_range().1, broker.dispatched());
    assert_found(&broker, &expected);
    broker.kill();
    drop(broker);
    assert_found(&open(dir.path()), &expected);
}
