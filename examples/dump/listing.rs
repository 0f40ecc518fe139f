//! What is in a store, as lines that can be compared with what RocketMQ's own store reads?
//!
//! One JSON object a line. The member `kind` says what it is: `topic_config`, `offset` (a group's committed position),
//! `log`, `queue`, `message` (by queue, in order) or `key` (what a lookup finds). In a store of several brokers each line
//! also has the member `broker`.

use std::collections::BTreeSet;

use pocketmq::{BrokerView, MessageView, Store, TopicName};
use serde_json::{Map, Value, json};

/// Why listing stopped.
type Failure = Box<dyn std::error::Error + Send + Sync>;
/// Takes one line.
type Line<'a> = dyn FnMut(Value) -> Result<(), Failure> + 'a;

/// The most places that the line of a key names.
const PLACES_MAX: usize = 64;

/// Hands over every line of a store.
pub(crate) fn list(store: &Store, line: &mut Line<'_>) -> Result<(), Failure> {
    let brokers = store.brokers();
    let several = brokers.len() > 1;
    for broker in &brokers {
        let name = Value::from(broker.name().as_str());
        list_broker(broker, &mut |mut value: Value| {
            if let (true, Some(members)) = (several, value.as_object_mut()) {
                members.insert("broker".to_owned(), name.clone());
            }
            line(value)
        })?;
    }
    Ok(())
}

fn list_broker(broker: &BrokerView, line: &mut Line<'_>) -> Result<(), Failure> {
    for (topic, config) in broker.topic_configs() {
        line(json!({"kind": "topic_config", "topic": topic.as_str(), "read_queues": config.read_queues,
            "write_queues": config.write_queues, "perm": config.permission.bits()}))?;
    }
    for (group, topic, queue, offset) in broker.committed_positions() {
        line(json!({"kind": "offset", "group": group.as_str(), "topic": topic.as_str(), "queue": queue,
            "offset": offset.get()}))?;
    }
    let log = broker.log_range();
    line(
        json!({"kind": "log", "min_physical_offset": log.start.get(), "max_physical_offset": log.end.get()}),
    )?;
    let queues = broker.queues();
    for (topic, queue, offsets) in &queues {
        line(
            json!({"kind": "queue", "topic": topic.as_str(), "queue": queue, "min_offset": offsets.start.get(),
            "max_offset": offsets.end.get()}),
        )?;
    }
    let mut keys = BTreeSet::new();
    for (topic, queue, offsets) in &queues {
        let mut offset = offsets.start;
        while offset < offsets.end {
            match broker.message_in(topic, *queue, offset)? {
                Some(message) => {
                    remember_keys(&message, topic, &mut keys);
                    line(message_line(&message, topic, *queue))?;
                }
                None => line(json!({"kind": "gap", "topic": topic.as_str(), "queue": queue,
                    "queue_offset": offset.get()}))?,
            }
            offset = offset.plus(1);
        }
    }
    for (topic, key) in &keys {
        line(key_line(broker, topic, key)?)?;
    }
    Ok(())
}

fn message_line(message: &MessageView, topic: &TopicName, queue: u32) -> Value {
    let properties: Map<String, Value> =
        message.properties().iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    let body = message.raw_body();
    json!({
        "kind": "message",
        "topic": topic.as_str(),
        "queue": queue,
        "queue_offset": message.queue_offset().get(),
        "physical_offset": message.physical_offset().get(),
        "size": message.stored_size(),
        "flag": message.flag(),
        "sys_flag": message.sys_flag(),
        "born_timestamp": message.born_millis(),
        "store_timestamp": message.store_millis(),
        "born_host": message.born_host().to_string(),
        "store_host": message.store_host().to_string(),
        "reconsume_times": message.reconsume_times(),
        "prepared_transaction_offset": message.prepared_transaction_offset().get(),
        "body_len": body.len(),
        "body_crc32": crc32fast::hash(body),
        "offset_id": message.offset_id().to_string(),
        "properties": properties,
    })
}

/// The keys to look up: every word of `KEYS`, and the unique id of every tenth message of a queue.
fn remember_keys(message: &MessageView, topic: &TopicName, keys: &mut BTreeSet<(TopicName, String)>) {
    for key in message.keys() {
        keys.insert((topic.clone(), key.to_owned()));
    }
    if message.queue_offset().get().is_multiple_of(10)
        && let Some(id) = message.property("UNIQ_KEY")
    {
        keys.insert((topic.clone(), id.to_owned()));
    }
}

fn key_line(broker: &BrokerView, topic: &TopicName, key: &str) -> Result<Value, Failure> {
    let found = broker.query_by_key(topic, key, PLACES_MAX)?;
    let places: BTreeSet<u64> = found.iter().map(|message| message.physical_offset().get()).collect();
    Ok(
        json!({"kind": "key", "topic": topic.as_str(), "key": key, "physical_offsets": Vec::from_iter(places)}),
    )
}
