//! Is a message with these keys in the log already?
//!
//! The messages themselves are the memory: what was stored is found by its keys, after any crash that it has survived,
//! and a message that did not survive does not count as sent.

use std::sync::Arc;

use crate::broker::Broker;
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::message::properties::{name, split_keys};
use crate::types::{SCHEDULE_TOPIC, TIMER_TOPIC, TopicName};

/// Messages that are compared, at most: those that share their first key.
const COMPARED_MAX: usize = 1_024;

/// Returns the first message of a topic with exactly these keys that was stored at this time or later, and its broker;
/// one that is still delayed counts too.
pub(crate) fn sent_before(
    brokers: &[Arc<Broker>],
    topic: &TopicName,
    keys: &str,
    since_millis: i64,
) -> Result<Option<(Arc<Broker>, MessageView)>> {
    let Some(first_key) = split_keys(keys).next() else { return Ok(None) };
    let (schedule, timers) = (TopicName::new(SCHEDULE_TOPIC)?, TopicName::new(TIMER_TOPIC)?);
    let mut first: Option<(Arc<Broker>, MessageView)> = None;
    for broker in brokers {
        for place in [topic, &schedule, &timers] {
            for found in broker.query_by_key(place, first_key, since_millis..=i64::MAX, COMPARED_MAX)? {
                let for_topic = place == topic || found.property(name::REAL_TOPIC) == Some(topic.as_str());
                let earlier =
                    first.as_ref().is_none_or(|(_, known)| found.store_millis() < known.store_millis());
                if for_topic && earlier && found.property(name::KEYS) == Some(keys) {
                    first = Some((Arc::clone(broker), found));
                }
            }
        }
    }
    Ok(first)
}
