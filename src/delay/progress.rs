//! How far has each delay level been delivered, and how does that survive a crash?
//!
//! RocketMQ's `config/delayOffset.json` says it for whoever opens the folder next, written every few seconds, behind a
//! flush. Between two of these, `pocketmq/delay` says it after every step. It survives the death of the process, and
//! holds, in two slots:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | the end of the log when this was noted |
//! | 18 × 8 | for each level the first offset that has not been delivered |
//!
//! After a power loss the log may end before the deliveries that it speaks of: then the JSON counts, and they are
//! repeated.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::broker::Broker;
use crate::config::DELAY_LEVELS_MAX;
use crate::error::{Error, Result};
use crate::storage::TwoSlots;
use crate::sync::Mutex;
use crate::types::{PhysicalOffset, QueueOffset, TopicName};

/// The name of our own file.
const OWN: &str = "delay";
/// Bytes of what it holds.
const PAYLOAD_LEN: usize = 8 + 8 * DELAY_LEVELS_MAX;
/// Where RocketMQ keeps the table inside its file.
const TABLE: &str = "offsetTable";
/// How often RocketMQ writes its file (`flushDelayOffsetInterval`).
const INTERVAL: Duration = Duration::from_secs(10);

/// Where progress is written down.
#[derive(Debug)]
pub(super) struct Progress {
    broker: Arc<Broker>,
    slots: TwoSlots,
    /// The JSON as it was read: members that we do not know are written back.
    document: Mutex<Map<String, Value>>,
}

impl Progress {
    /// Finds out how far each level has been delivered, level 1 first.
    pub(super) fn open(
        broker: &Arc<Broker>,
        schedule: &TopicName,
        warnings: &mut Vec<String>,
    ) -> Result<(Self, Vec<QueueOffset>)> {
        let slots = broker.open_slots(OWN, PAYLOAD_LEN)?;
        let document = match broker.load_delay_progress() {
            Ok(Some(Value::Object(members))) => members,
            Ok(None) => Map::new(),
            Ok(Some(_)) => {
                warnings.push(
                    "delayOffset.json is not a JSON object: delayed messages may be delivered again"
                        .to_owned(),
                );
                Map::new()
            }
            Err(error) => {
                warnings.push(format!("{error}: delayed messages may be delivered again"));
                Map::new()
            }
        };
        let recovery = broker.recovery();
        let ours = slots.load().filter(|_| !recovery.foreign).and_then(|payload| decode(&payload));
        let ours = ours.filter(|(end, _)| *end <= recovery.end).map(|(_, offsets)| offsets);
        let mut offsets = ours.unwrap_or_else(|| table_of(&document));
        for (queue_id, offset) in (0_u32..).zip(&mut offsets) {
            let (min, max) = broker.queue_range(schedule, queue_id).unwrap_or_default();
            if *offset > max {
                warnings.push(format!("delay level {} was at {offset}, and ends at {max}", queue_id + 1));
            }
            *offset = (*offset).clamp(min, max);
            if queue_id >= broker.delay_levels().count() && *offset < max {
                let (level, count) = (queue_id + 1, max.since(*offset));
                let reason = format!("{count} messages wait in level {level}, which the table must have");
                return Err(Error::config("delay_levels", reason));
            }
        }
        let progress = Self { broker: Arc::clone(broker), slots, document: Mutex::new(document) };
        progress.note(&offsets, recovery.end)?;
        Ok((progress, offsets))
    }

    /// Returns how often the JSON is to be written.
    pub(super) const fn interval(&self) -> Duration {
        INTERVAL
    }

    /// Notes how far each level has come. It survives the death of the process.
    pub(super) fn note(&self, offsets: &[QueueOffset], end: PhysicalOffset) -> Result<()> {
        self.broker.set_delivered_of_levels(offsets);
        let mut payload = end.get().to_be_bytes().to_vec();
        payload.extend(offsets.iter().flat_map(|offset| offset.get().to_be_bytes()));
        payload.resize(PAYLOAD_LEN, 0);
        self.slots.store(&payload)
    }

    /// Writes RocketMQ's file. Durable on return, and so is everything that it says was delivered.
    pub(super) fn save(&self, offsets: &[QueueOffset]) -> Result<()> {
        let mut document = self.document.lock();
        let version = document
            .entry("dataVersion")
            .or_insert_with(|| json!({"counter": 0, "stateVersion": 0, "timestamp": 0}));
        if let Some(counter) = version.get_mut("counter") {
            *counter = json!(counter.as_i64().unwrap_or(0).saturating_add(1));
        }
        let levels = (1_u32..).zip(offsets).map(|(level, offset)| (level.to_string(), json!(offset.get())));
        document.insert(TABLE.into(), Value::Object(levels.collect()));
        self.broker.save_delay_progress(&Value::Object(document.clone()))
    }
}

/// Reads the table of RocketMQ's file. A level that it does not have, or not as a number, starts at its beginning.
fn table_of(document: &Map<String, Value>) -> Vec<QueueOffset> {
    let table = document.get(TABLE);
    let offset = |level: usize| table?.get(level.to_string())?.as_u64();
    (1..=DELAY_LEVELS_MAX).map(|level| QueueOffset::new(offset(level).unwrap_or(0))).collect()
}

fn decode(payload: &[u8]) -> Option<(PhysicalOffset, Vec<QueueOffset>)> {
    let (numbers, _) = payload.as_chunks::<8>();
    let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
    let end = PhysicalOffset::new(numbers.next()?);
    Some((end, numbers.take(DELAY_LEVELS_MAX).map(QueueOffset::new).collect()))
}
