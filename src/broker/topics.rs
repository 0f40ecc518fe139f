//! Which topics does this broker have, with which queues, and what did RocketMQ write about them?

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::{Permission, TopicConfig, TopicKind};
use crate::consumequeue::ConsumeQueue;
use crate::error::{Error, Result};
use crate::index::KeyHasher;
use crate::storage::{Disk, Source, load_config, save_config};
use crate::sync::{Arrivals, AtomicBool, AtomicU64, Mutex, OnceLock, Ordering, RwLock, fence};
use crate::types::{SCHEDULE_TOPIC, TopicName};

/// Where RocketMQ keeps the table inside the file.
const TABLE: &str = "topicConfigTable";
/// The attribute that says which messages a topic takes.
const KIND: &str = "message.type";

/// One queue of a topic, with the number of the next message that will be put into it.
#[derive(Debug)]
pub(crate) struct QueueSlot {
    /// The queue as readers see it.
    pub(crate) queue: Arc<ConsumeQueue>,
    /// The queue offset of the next message. Changed only under the broker's put lock.
    pub(crate) next: AtomicU64,
}

/// A topic of one broker.
#[derive(Debug)]
pub(crate) struct TopicOfBroker {
    name: TopicName,
    config: RwLock<TopicConfig>,
    slots: RwLock<Vec<Option<Arc<QueueSlot>>>>,
    /// Who waits for messages; unset as long as nobody ever has.
    arrivals: OnceLock<Arc<Arrivals>>,
    key_hasher: KeyHasher,
    /// Whether its settings were guessed from the log, so that more queues may still turn up.
    restored: AtomicBool,
    /// Whether the topic has been deleted: senders may still hold it.
    deleted: AtomicBool,
    /// Whether its queue units say when a message is due, in place of the tag's code.
    holds_due_times: bool,
}

impl TopicOfBroker {
    fn new(name: TopicName, config: TopicConfig) -> Self {
        let (restored, deleted) = (AtomicBool::new(false), AtomicBool::new(false));
        let holds_due_times = name.as_str() == SCHEDULE_TOPIC;
        let key_hasher = KeyHasher::new(name.as_str());
        let (config, slots, arrivals) = (RwLock::new(config), RwLock::default(), OnceLock::new());
        Self { name, config, slots, arrivals, key_hasher, restored, deleted, holds_due_times }
    }

    /// Returns the name.
    pub(crate) const fn name(&self) -> &TopicName {
        &self.name
    }

    /// Tells whether the topic has been deleted since it was looked up.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Refuses whoever holds the topic and wants to store something in it.
    pub(super) fn close_to_senders(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Returns what the unit of a message says that is stored now: the code that was given, except for delayed
    /// messages. What is given of these is their delay, and their unit says when they are due.
    #[inline]
    pub(crate) const fn unit_code(&self, given: i64, store_millis: i64) -> i64 {
        if self.holds_due_times { store_millis.saturating_add(given) } else { given }
    }

    /// Tells whether the topic belongs into the file: RocketMQ 4.9 makes its own topics on demand and lists none that
    /// it has not made.
    pub(crate) fn is_listed(&self) -> bool {
        !(self.name.is_system() && self.restored.load(Ordering::Relaxed))
    }

    /// Returns the queues and permissions.
    pub(crate) fn config(&self) -> TopicConfig {
        *self.config.read()
    }

    /// Returns a queue, if it has ever had a message or was made for one.
    pub(crate) fn slot(&self, queue_id: u32) -> Option<Arc<QueueSlot>> {
        let index = usize::try_from(queue_id).ok()?;
        self.slots.read().get(index)?.clone()
    }

    /// Lists a queue; the first one listed under a number stays.
    pub(crate) fn list_slot(&self, queue_id: u32, queue: Arc<ConsumeQueue>) -> Arc<QueueSlot> {
        let index = usize::try_from(queue_id).unwrap_or(usize::MAX);
        let mut slots = self.slots.write();
        if slots.len() <= index {
            slots.resize(index.saturating_add(1), None);
        }
        let next = AtomicU64::new(queue.max_offset().get());
        let new = Arc::new(QueueSlot { queue, next });
        slots
            .get_mut(index)
            .map_or_else(|| Arc::clone(&new), |slot| Arc::clone(slot.get_or_insert_with(|| Arc::clone(&new))))
    }

    /// Joins the wake-up of this topic on this broker with that of the same topic on the others. A store has one for
    /// each name, so the first one stays.
    pub(crate) fn share_arrivals(&self, arrivals: &Arc<Arrivals>) {
        let _ = self.arrivals.set(Arc::clone(arrivals));
    }

    /// Returns what hashes the topic's keys for the index.
    pub(super) const fn key_hasher(&self) -> KeyHasher {
        self.key_hasher
    }

    /// Wakes the consumers that wait for this topic.
    pub(crate) fn notify(&self) {
        // Ordering: a consumer shares its wake-up, registers there (whose fence is the partner of this one), and looks
        // once more. Either it sees the message then, or the wake-up is seen here.
        fence(Ordering::SeqCst);
        if let Some(arrivals) = self.arrivals.get() {
            arrivals.notify_fenced();
        }
    }
}

/// All topics of one broker, kept in `config/topics.json`.
#[derive(Debug)]
pub(crate) struct TopicTable {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    temp: PathBuf,
    topics: RwLock<HashMap<TopicName, Arc<TopicOfBroker>>>,
    /// The file as it was read: members that we do not know are written back.
    document: Mutex<Map<String, Value>>,
    dirty: AtomicBool,
}

impl TopicTable {
    /// Reads the table. Entries whose names are not allowed are left in the file and reported.
    pub(crate) fn load(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        temp: PathBuf,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let loaded = load_config(disk.as_ref(), &path)?;
        if loaded.from == Source::Backup {
            warnings.push(format!("{} could not be read, its backup was used", path.display()));
        }
        let document = match loaded.value {
            Some(Value::Object(members)) => members,
            None => Map::new(),
            Some(_) => return Err(Error::corrupt(&path, 0, "is not a JSON object")),
        };
        let mut topics = HashMap::new();
        for (name, entry) in document.get(TABLE).and_then(Value::as_object).into_iter().flatten() {
            match TopicName::new(name) {
                Ok(name) => {
                    topics.insert(name.clone(), Arc::new(TopicOfBroker::new(name, decode(entry))));
                }
                Err(error) => warnings.push(format!("{}: {error}; the entry is left alone", path.display())),
            }
        }
        let (topics, document) = (RwLock::new(topics), Mutex::new(document));
        Ok(Self { disk: Arc::clone(disk), path, temp, topics, document, dirty: AtomicBool::new(false) })
    }

    /// Returns a topic.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<TopicOfBroker>> {
        self.topics.read().get(name).cloned()
    }

    /// Returns all topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<TopicOfBroker>> {
        let mut all: Vec<_> = self.topics.read().values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Adds or changes a topic in memory; [`save`](Self::save) makes it durable.
    pub(crate) fn set(&self, name: &TopicName, config: TopicConfig) -> Arc<TopicOfBroker> {
        let mut topics = self.topics.write();
        let topic =
            topics.entry(name.clone()).or_insert_with(|| Arc::new(TopicOfBroker::new(name.clone(), config)));
        *topic.config.write() = config;
        self.dirty.store(true, Ordering::Release);
        Arc::clone(topic)
    }

    /// Returns a topic, made with at least so many queues where it is unknown: what the log or a queue folder shows to
    /// exist exists (contract D18).
    pub(crate) fn get_or_restore(&self, name: &TopicName, queue_id: u32) -> Arc<TopicOfBroker> {
        let needed = TopicConfig::queues(queue_id.saturating_add(1).max(4));
        match self.get(name.as_str()) {
            Some(topic)
                if topic.config().write_queues < needed.write_queues
                    && topic.restored.load(Ordering::Relaxed) =>
            {
                self.set(name, needed)
            }
            Some(topic) => topic,
            None => {
                let topic = self.set(name, needed);
                topic.restored.store(true, Ordering::Relaxed);
                topic
            }
        }
    }

    /// Tells whether the file lags behind.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Puts an empty topic of the same settings in the place of one whose messages are removed.
    pub(crate) fn renew(&self, name: &TopicName) {
        if let Some(topic) = self.topics.write().get_mut(name) {
            let empty = Arc::new(TopicOfBroker::new(name.clone(), topic.config()));
            std::mem::replace(topic, empty).close_to_senders();
        }
        self.dirty.store(true, Ordering::Release);
    }

    /// Forgets a topic in memory.
    pub(crate) fn remove(&self, name: &TopicName) {
        self.dirty.store(true, Ordering::Release);
        if let Some(topic) = self.topics.write().remove(name) {
            topic.close_to_senders();
        }
    }

    /// Writes the file if it lags behind. Durable on return.
    pub(crate) fn save(&self) -> Result<()> {
        // Held over the look at `dirty`: who finds nothing to write knows that it is written.
        let mut document = self.document.lock();
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let result = self.write(&mut document);
        if result.is_err() {
            self.dirty.store(true, Ordering::Release);
        }
        result
    }

    fn write(&self, document: &mut Map<String, Value>) -> Result<()> {
        bump_version(document);
        self.fill(document);
        save_config(self.disk.as_ref(), &self.path, &self.temp, &Value::Object(document.clone()))
    }

    /// Returns what the file says once it is saved.
    pub(crate) fn document(&self) -> Value {
        let mut document = self.document.lock().clone();
        self.fill(&mut document);
        Value::Object(document)
    }

    fn fill(&self, document: &mut Map<String, Value>) {
        let mut old = match document.remove(TABLE) {
            Some(Value::Object(table)) => table,
            _ => Map::new(),
        };
        let topics = self.all();
        let mut table = Map::new();
        for topic in topics.iter().filter(|topic| topic.is_listed()) {
            let known = old.remove(topic.name.as_str());
            table.insert(topic.name.to_string(), encode(topic, known));
        }
        // Entries with names that we refuse stay in the file; entries of deleted topics do not.
        table.extend(old.into_iter().filter(|(name, _)| TopicName::new(name).is_err()));
        document.insert(TABLE.into(), Value::Object(table));
    }
}

/// Counts a change the way RocketMQ's `DataVersion` does.
fn bump_version(document: &mut Map<String, Value>) {
    let version = document
        .entry("dataVersion")
        .or_insert_with(|| json!({"counter": 0, "stateVersion": 0, "timestamp": 0}));
    if let Some(counter) = version.get_mut("counter") {
        *counter = json!(counter.as_i64().unwrap_or(0).saturating_add(1));
    }
}

fn decode(entry: &Value) -> TopicConfig {
    let number = |name| entry.get(name).and_then(Value::as_u64);
    let queues = |name| number(name).and_then(|count| u32::try_from(count).ok()).unwrap_or(16);
    let bits = number("perm").and_then(|bits| u8::try_from(bits).ok());
    TopicConfig {
        read_queues: queues("readQueueNums"),
        write_queues: queues("writeQueueNums"),
        permission: bits.and_then(Permission::from_bits).unwrap_or(Permission::READ_WRITE),
        kind: attribute(entry, KIND).map_or(TopicKind::Any, TopicKind::from_name),
    }
}

fn attribute<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    attribute_of(entry.as_object()?, name)
}

fn attribute_of<'a>(entry: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    entry.get("attributes")?.get(name)?.as_str()
}

fn encode(topic: &TopicOfBroker, known: Option<Value>) -> Value {
    let config = topic.config();
    let mut entry = match known {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let defaults = [
        ("attributes", json!({})),
        ("order", json!(false)),
        ("topicFilterType", json!("SINGLE_TAG")),
        ("topicSysFlag", json!(0)),
    ];
    for (name, value) in defaults {
        entry.entry(name).or_insert(value);
    }
    // A word that says as much is left as it is.
    if attribute_of(&entry, KIND).map_or(TopicKind::Any, TopicKind::from_name) != config.kind
        && let Some(Value::Object(attributes)) = entry.get_mut("attributes")
    {
        match config.kind.name() {
            Some(word) => attributes.insert(KIND.into(), json!(word)),
            None => attributes.remove(KIND),
        };
    }
    entry.insert("perm".into(), json!(config.permission.bits()));
    entry.insert("readQueueNums".into(), json!(config.read_queues));
    entry.insert("topicName".into(), json!(topic.name.as_str()));
    entry.insert("writeQueueNums".into(), json!(config.write_queues));
    Value::Object(entry)
}

/// Names the feature that the attributes of a topic in this file ask for and that we cannot carry.
pub(super) fn unsupported(disk: &dyn Disk, path: &Path) -> Option<String> {
    // A file that cannot be read is reported where it is loaded.
    let document = load_config(disk, path).ok()?.value?;
    document.get(TABLE)?.as_object()?.iter().find_map(|(name, entry)| {
        let feature = match (attribute(entry, "queue.type"), attribute(entry, "cleanup.policy")) {
            (Some("BatchCQ"), _) => "batch consume queues (queue.type=BatchCQ)",
            (_, Some("COMPACTION")) => "topic compaction (cleanup.policy=COMPACTION)",
            _ => return None,
        };
        Some(format!("{feature} for the topic {name}"))
    })
}
