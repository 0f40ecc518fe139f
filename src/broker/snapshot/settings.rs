//! What stands beside log, queues and index in the copy of a broker, so that it opens as one that was closed cleanly?

use std::path::Path;

use super::Work;
use crate::broker::checkpoint::{Checkpoint, Watermark};
use crate::broker::conf::{self, BrokerConf};
use crate::broker::owner::Owner;
use crate::broker::positions::PositionKey;
use crate::error::Result;
use crate::storage::save_config;
use crate::types::QueueOffset;

/// What a RocketMQ broker keeps in its folder besides what we know: how these names begin.
const CARRIED: [&str; 5] =
    ["consumequeue_ext", "timerwheel", "timerlog", "epochFileCheckpoint", "brokerIdentity"];
/// The longest file of ours that is copied as it is.
const PROGRESS_LEN_MAX: u64 = 64 << 20;
/// Settings that are written in a way of their own.
const KNOWN_SETTINGS: [&str; 2] = ["topics.json", "consumerOffset.json"];

impl Work<'_> {
    /// Copies which topics there are, and which were deleted. Nothing has been removed since the end was taken.
    pub(super) fn copy_topics(&mut self) -> Result<()> {
        let (disk, own) = (self.place.disk, self.folder.own());
        let deleted = self.broker.deleted.copy(disk, &own);
        if !deleted.is_empty() {
            deleted.end_at(self.end)?;
            deleted.write()?;
        }
        let topics = self.broker.topics.document();
        save_config(disk.as_ref(), &self.folder.config().join("topics.json"), &own, &topics)
    }

    pub(super) fn copy_settings(&mut self, positions: Vec<(PositionKey, QueueOffset)>) -> Result<()> {
        let (disk, own) = (self.place.disk, self.folder.own());
        self.ends.write(disk.as_ref(), &own)?;
        let mut checksums = self.broker.checksums.lock().clone();
        checksums.end_at(self.end.get());
        checksums.save(disk.as_ref(), &own)?;
        self.write_marks()?;
        self.write_conf()?;
        self.write_positions(positions)
    }

    /// Copies what says how far somebody has come, and what a RocketMQ broker keeps here and we do not touch. Call it
    /// before the end is taken: what is done again does no harm, what is passed over is lost.
    pub(super) fn copy_progress(&mut self) -> Result<()> {
        self.broker.copy_joined(self.place.disk, &self.folder.own())?;
        let (from, to) = (self.broker.folder.own(), self.folder.own());
        if self.broker.minimums.any() {
            self.broker.minimums.write_copy(self.place.disk.as_ref(), &to)?;
        }
        for entry in self.broker.disk.list(&from)?.unwrap_or_default() {
            if !is_progress(&entry.name.to_string_lossy()) {
                continue;
            }
            if let Some(content) = self.broker.disk.read(&from.join(&entry.name), PROGRESS_LEN_MAX)? {
                self.place.disk.write_new(&to.join(&entry.name), &content)?;
            }
        }
        self.copy_carried()
    }

    fn copy_carried(&mut self) -> Result<()> {
        let root = self.broker.folder.root.clone();
        let is_carried = |path: &Path| {
            let name = path.strip_prefix(&root).unwrap_or(path).to_string_lossy();
            CARRIED.iter().any(|carried| name.starts_with(carried))
        };
        self.copier.copy_tree(&root, &self.folder.root, &is_carried)?;
        let is_carried = |path: &Path| {
            let is_known =
                path.file_name().is_some_and(|name| KNOWN_SETTINGS.iter().any(|known| name == *known));
            let ends_with = |ending: &str| path.extension().is_some_and(|found| found == ending);
            !(is_known || ends_with("bak") || ends_with("tmp"))
        };
        self.copier.copy_tree(&self.broker.folder.config(), &self.folder.config(), &is_carried)
    }

    /// Says that everything up to the end of the copy is on disk. It is before anybody can open it.
    fn write_marks(&self) -> Result<()> {
        let disk = self.place.disk;
        let own = self.folder.own();
        let watermark = Watermark::open(disk, &own)?;
        watermark.update(|durable| {
            (durable.log, durable.queues, durable.index) =
                (self.end.get(), self.end.get(), self.indexed.get());
        })?;
        watermark.sync()?;
        let last = self.last.and_then(|last| self.broker.log.view(last, None));
        let millis = last.map_or(0, |last| last.store_millis());
        let checkpoint = Checkpoint::open(disk.as_ref(), &self.folder.root, &own)?;
        checkpoint.store(millis, millis, self.broker.index.last_full_end_millis().min(millis))
    }

    /// Writes `broker.conf` with the places of the copy.
    fn write_conf(&self) -> Result<()> {
        let before = BrokerConf::load(self.broker.disk.as_ref(), &self.broker.folder.root.join(conf::FILE))?;
        let mut conf = before.unwrap_or_default();
        conf.set("storePathRootDir", self.place.final_dir.display());
        for elsewhere in ["storePathCommitLog", "storePathConsumeQueue", "storePathIndex"] {
            conf.remove(elsewhere);
        }
        self.place.disk.write_new(&self.folder.root.join(conf::FILE), conf.to_string().as_bytes())
    }

    /// Writes the positions, and says that we were the last to write here.
    fn write_positions(&self, positions: Vec<(PositionKey, QueueOffset)>) -> Result<()> {
        let disk = self.place.disk;
        let (own, root) = (self.folder.own(), &self.folder.root);
        let (path, lock) = (self.folder.config().join("consumerOffset.json"), root.join("lock"));
        // Makes the file, whose time tells whether another broker has been here since.
        drop(disk.lock(&lock)?);
        let owner = Owner::open(disk, &own, lock, path.clone())?;
        let copy = self.broker.positions.create_copy(disk, own, path, positions)?;
        copy.persist(|crc| owner.announce(crc))?;
        owner.claim()
    }
}

/// Tells whether a file of ours is copied as it is: how far the delays have come, what groups have handled. A cell of
/// the latter that is torn, because it is written at this moment, says nothing.
fn is_progress(name: &str) -> bool {
    let is_under_way = [".tmp", ".new", ".bak"].iter().any(|ending| name.ends_with(ending));
    matches!(name, "delay" | "timer") || (name.starts_with("handled-") && !is_under_way)
}
