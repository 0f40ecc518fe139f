//! Can this folder be opened at all? Looks without touching, before anything is locked or written.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::conf::BrokerConf;
use crate::error::{Error, Result};
use crate::storage::{Disk, EntryKind};

/// The folders and files of one broker.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    /// The broker's folder.
    pub(crate) root: PathBuf,
    /// The folder of the commit log, which may lie on another disk.
    pub(crate) log: PathBuf,
}

impl Folder {
    pub(crate) fn new(root: &Path, log: Option<&Path>) -> Self {
        Self { root: root.to_path_buf(), log: log.map_or_else(|| root.join("commitlog"), Path::to_path_buf) }
    }

    pub(crate) fn queues(&self) -> PathBuf {
        self.root.join("consumequeue")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Returns the folder of everything that is ours and that RocketMQ does not know.
    pub(crate) fn own(&self) -> PathBuf {
        self.root.join("pocketmq")
    }

    /// Returns the folder in which log files are made, on the disk of the log.
    pub(crate) fn log_temp(&self) -> PathBuf {
        let beside = self.log.parent().unwrap_or(&self.root);
        if beside == self.root { self.own() } else { beside.join("pocketmq") }
    }

    /// Refuses a folder that needs a feature we do not have, naming the feature. Nothing is touched.
    pub(crate) fn check_features(&self, disk: &dyn Disk, conf: Option<&BrokerConf>) -> Result<()> {
        if let Some(feature) = conf.and_then(BrokerConf::unsupported) {
            return Err(self.refuse(&feature));
        }
        let rocks = ["consumequeue", "consumequeue_rocksdb", "rocksdbstore", "kvStore"];
        if let Some(name) = rocks.into_iter().find(|name| holds_rocksdb(disk, &self.root.join(name))) {
            return Err(self.refuse(&format!("data in RocksDB ({name})")));
        }
        let settings = ["topics", "subscriptionGroups", "consumerOffsets", "rdb"];
        for name in settings {
            if is_filled_dir(disk, &self.config().join(name))? {
                return Err(self.refuse(&format!("settings in RocksDB (config/{name})")));
            }
        }
        if is_filled_dir(disk, &self.queues().join("RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC"))? {
            return Err(self.refuse("transactions in RocksDB (transRocksDBEnable)"));
        }
        if holds_file(disk, &self.root.join("batchconsumequeue"), 3)? {
            return Err(self.refuse("batch consume queues (queue.type=BatchCQ)"));
        }
        if holds_file(disk, &self.root.join("compaction").join("compactionLog"), 3)? {
            return Err(self.refuse("topic compaction (cleanup.policy=COMPACTION)"));
        }
        for entry in disk.list(&self.root)?.unwrap_or_default() {
            if entry.kind == EntryKind::Dir && entry.name.as_encoded_bytes().starts_with(b"dledger") {
                return Err(self.refuse("DLedger (enableDLegerCommitLog)"));
            }
        }
        if let Some(feature) = super::topics::unsupported(disk, &self.config().join("topics.json")) {
            return Err(self.refuse(&feature));
        }
        self.check_static_topics(disk)
    }

    fn check_static_topics(&self, disk: &dyn Disk) -> Result<()> {
        let path = self.config().join("topicQueueMapping.json");
        let Ok(loaded) = crate::storage::load_config(disk, &path) else { return Ok(()) };
        let table = loaded.value.as_ref().and_then(|value| value.get("topicQueueMappingInfoMap"));
        if table.and_then(Value::as_object).is_some_and(|table| !table.is_empty()) {
            return Err(self.refuse("static topics (topicQueueMapping.json)"));
        }
        Ok(())
    }

    fn refuse(&self, feature: &str) -> Error {
        Error::unsupported(format!(
            "{} uses {feature}, which pocketmq cannot carry; the folder is untouched",
            self.root.display()
        ))
    }
}

/// Tells whether a folder holds a RocksDB with data: a table file, or a write-ahead log with something in it.
fn holds_rocksdb(disk: &dyn Disk, dir: &Path) -> bool {
    let entries = disk.list(dir).ok().flatten().unwrap_or_default();
    entries.iter().any(|entry| match entry.kind {
        EntryKind::Dir => {
            let nested = disk.list(&dir.join(&entry.name)).ok().flatten().unwrap_or_default();
            dir.ends_with("rocksdbstore") && nested.iter().any(is_rocksdb_data)
        }
        _ => is_rocksdb_data(entry),
    })
}

fn is_rocksdb_data(entry: &crate::storage::Entry) -> bool {
    let name = Path::new(&entry.name);
    let ends_with = |ending: &str| name.extension().is_some_and(|found| found == ending);
    entry.kind == EntryKind::File && (ends_with("sst") || (ends_with("log") && entry.len > 0))
}

fn is_filled_dir(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    let is_dir = disk.metadata(dir)?.is_some_and(|found| found.kind == EntryKind::Dir);
    Ok(is_dir && disk.list(dir)?.is_some_and(|entries| !entries.is_empty()))
}

/// Tells whether a file lies in the folder, at most so many levels down.
fn holds_file(disk: &dyn Disk, dir: &Path, levels: u32) -> Result<bool> {
    for entry in disk.list(dir)?.unwrap_or_default() {
        let deeper = entry.kind == EntryKind::Dir && levels > 0;
        if entry.kind == EntryKind::File && entry.len > 0
            || deeper && holds_file(disk, &dir.join(&entry.name), levels - 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}
