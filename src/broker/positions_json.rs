//! What does `config/consumerOffset.json` say, and how is it written so that RocketMQ reads it?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::positions::PositionKey;
use crate::error::{Error, Result};
use crate::storage::{Disk, Source, encode_config, load_config, save_config};
use crate::types::{GroupName, QueueOffset, TopicName};

/// Where RocketMQ keeps the table inside the file.
const TABLE: &str = "offsetTable";

/// The file, with every member that we do not know.
#[derive(Debug)]
pub(crate) struct PositionsJson {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    temp: PathBuf,
    document: Map<String, Value>,
}

/// What reading the file gave.
#[derive(Debug)]
pub(crate) struct LoadedPositions {
    /// The file, to be written later.
    pub(crate) json: PositionsJson,
    /// The positions, `None` if neither the file nor its backup is there.
    pub(crate) positions: Option<Vec<(PositionKey, QueueOffset)>>,
}

impl PositionsJson {
    /// Reads the file or its backup. An unreadable one without a readable backup is `OffsetsUnreadable`.
    pub(crate) fn load(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        temp: PathBuf,
        warnings: &mut Vec<String>,
    ) -> Result<LoadedPositions> {
        let loaded = load_config(disk.as_ref(), &path)
            .map_err(|error| Error::OffsetsUnreadable(error.to_string().into()))?;
        if loaded.from == Source::Backup {
            warnings.push(format!(
                "{} could not be read, its backup was used: messages may repeat",
                path.display()
            ));
        }
        let document = match loaded.value {
            Some(Value::Object(members)) => Some(members),
            None => None,
            Some(_) => {
                return Err(Error::OffsetsUnreadable(
                    format!("{} is not a JSON object", path.display()).into(),
                ));
            }
        };
        let positions = document.as_ref().map(|members| decode(members, warnings));
        let json = Self { disk: Arc::clone(disk), path, temp, document: document.unwrap_or_default() };
        Ok(LoadedPositions { json, positions })
    }

    /// Starts with an empty file in memory, in place of one that cannot be read.
    pub(crate) fn empty(disk: &Arc<dyn Disk>, path: PathBuf, temp: PathBuf) -> Self {
        Self { disk: Arc::clone(disk), path, temp, document: Map::new() }
    }

    /// Returns the same file at another place, to be written there.
    pub(crate) fn at(&self, disk: &Arc<dyn Disk>, path: PathBuf, temp: PathBuf) -> Self {
        Self { disk: Arc::clone(disk), path, temp, document: self.document.clone() }
    }

    /// Writes the file; `announce` is told its CRC before it replaces the old one. Durable on return.
    pub(crate) fn save(
        &mut self,
        positions: &[(PositionKey, QueueOffset)],
        announce: impl FnOnce(u32) -> Result<()>,
    ) -> Result<()> {
        let old = match self.document.remove(TABLE) {
            Some(Value::Object(table)) => table,
            _ => Map::new(),
        };
        let mut queues: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (key, offset) in positions {
            let table = queues.entry(format!("{}@{}", key.topic, key.group)).or_default();
            table.insert(key.queue_id.to_string(), json!(offset.get()));
        }
        let ours = queues.into_iter().map(|(name, table)| (name, Value::Object(table)));
        let foreign = old.into_iter().filter(|(name, _)| parse_name(name).is_none());
        self.document.insert(TABLE.into(), Value::Object(ours.chain(foreign).collect()));
        let document = Value::Object(self.document.clone());
        announce(crc32fast::hash(&encode_config(&document)?))?;
        save_config(self.disk.as_ref(), &self.path, &self.temp, &document)
    }
}

fn decode(document: &Map<String, Value>, warnings: &mut Vec<String>) -> Vec<(PositionKey, QueueOffset)> {
    let mut positions = Vec::new();
    for (name, table) in document.get(TABLE).and_then(Value::as_object).into_iter().flatten() {
        let Some((topic, group)) = parse_name(name) else {
            warnings.push(format!("the position of {name:?} is left alone: it names no topic and group"));
            continue;
        };
        for (queue_id, offset) in table.as_object().into_iter().flatten() {
            let Ok(queue_id) = queue_id.parse() else { continue };
            let Some(offset) = offset.as_i64() else {
                warnings.push(format!(
                    "the position of {name:?} in queue {queue_id} is no number and counts as none"
                ));
                continue;
            };
            // A negative position is RocketMQ's way to say that there is none.
            if let Ok(offset) = u64::try_from(offset) {
                let key = PositionKey { topic: topic.clone(), group: group.clone(), queue_id };
                positions.push((key, QueueOffset::new(offset)));
            }
        }
    }
    positions
}

/// Splits `topic@group`. RocketMQ 5 also writes `topic@group@broadcast`, which is not ours.
fn parse_name(name: &str) -> Option<(TopicName, GroupName)> {
    let (topic, group) = name.split_once('@')?;
    Some((TopicName::new(topic).ok()?, GroupName::stored(group).ok()?))
}
