//! Where did each queue end when the store was last closed?
//!
//! Queues are derived data, and a missing one looks like one that was never there. So a clean stop notes where each
//! queue ends, in `pocketmq/queues`: `{"ends":[[topic, queue, end, physical offset of the last message],…]}`. A queue
//! that ends earlier at the next opening has lost units, and is made again from the log.

use std::path::Path;

use serde_json::{Value, json};

use crate::consumequeue::{ConsumeQueue, ConsumeQueues};
use crate::error::Result;
use crate::storage::{Disk, load_config, save_config};
use crate::types::{PhysicalOffset, QueueOffset, TopicName};

/// The ends of all queues.
#[derive(Debug, Default)]
pub(crate) struct QueueEnds {
    ends: Vec<QueueEnd>,
}

/// Where a queue ended.
#[derive(Debug)]
struct QueueEnd {
    topic: TopicName,
    queue_id: u32,
    end: QueueOffset,
    last: PhysicalOffset,
}

impl QueueEnds {
    /// Reads what the last clean stop noted; nothing if it cannot be read.
    pub(crate) fn load(disk: &dyn Disk, own: &Path) -> Self {
        let value = load_config(disk, &own.join("queues")).ok().and_then(|loaded| loaded.value);
        let rows = value.as_ref().and_then(|value| value.get("ends")).and_then(Value::as_array);
        Self { ends: rows.map(|rows| rows.iter().filter_map(decode).collect()).unwrap_or_default() }
    }

    /// Returns the first queue that lacks units which it had.
    pub(crate) fn first_short(
        &self,
        queues: &ConsumeQueues,
        is_topic: impl Fn(&TopicName) -> bool,
    ) -> Result<Option<String>> {
        for noted in self.ends.iter().filter(|noted| is_topic(&noted.topic)) {
            let last = match (queues.get(&noted.topic, noted.queue_id), noted.end.get().checked_sub(1)) {
                (Some(queue), Some(last)) => queue.get(QueueOffset::new(last))?,
                _ => None,
            };
            if last.is_none_or(|unit| unit.physical_offset != noted.last) {
                return Ok(Some(format!(
                    "queue {} of {} ended at {}",
                    noted.queue_id, noted.topic, noted.end
                )));
            }
        }
        Ok(None)
    }

    /// Notes where all queues end now. Durable on return.
    pub(crate) fn save(queues: &ConsumeQueues, disk: &dyn Disk, own: &Path) -> Result<()> {
        let mut ends = Vec::new();
        for queue in queues.all() {
            if let Some((at, unit)) = queue.last()? {
                let (topic, queue_id) = (queue.topic().clone(), queue.queue_id());
                ends.push(QueueEnd { topic, queue_id, end: at.plus(1), last: unit.physical_offset });
            }
        }
        Self { ends }.write(disk, own)
    }

    /// Adds a queue that ends here.
    pub(crate) fn add(&mut self, queue: &ConsumeQueue, end: QueueOffset, last: PhysicalOffset) {
        let (topic, queue_id) = (queue.topic().clone(), queue.queue_id());
        self.ends.push(QueueEnd { topic, queue_id, end, last });
    }

    /// Writes the file. Durable on return.
    pub(crate) fn write(&self, disk: &dyn Disk, own: &Path) -> Result<()> {
        let row = |end: &QueueEnd| json!([end.topic.as_str(), end.queue_id, end.end.get(), end.last.get()]);
        let rows: Vec<_> = self.ends.iter().map(row).collect();
        save_config(disk, &own.join("queues"), own, &json!({ "ends": rows }))
    }
}

fn decode(row: &Value) -> Option<QueueEnd> {
    Some(QueueEnd {
        topic: TopicName::new(row.get(0)?.as_str()?).ok()?,
        queue_id: u32::try_from(row.get(1)?.as_u64()?).ok()?,
        end: QueueOffset::new(row.get(2)?.as_u64()?),
        last: PhysicalOffset::new(row.get(3)?.as_u64()?),
    })
}
