//! How is the folder of a broker copied while it is written to?
//!
//! No sender and no reader waits for the copy. First comes everything that says how far somebody has come: positions,
//! delays, where queues begin. Then everything is flushed and the end of the log is taken: the copy is the broker as it
//! was at that byte, plus nothing. Files that are full are never written again, so they get a second name; of the others
//! the part before that byte is copied. What is beyond it by the time a file is copied is left out: queue units by the
//! byte that they name, index entries in the same way. Topics come last.
//!
//! The order matters: a position is never beyond its queue, and a message never without its topic. Meanwhile nothing is
//! removed (`Broker::removing`): retention and deletions wait. Else a position that was taken before a file or a topic
//! went would pass over messages of the copy, or wait for some that it does not have.

mod copier;
mod settings;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use copier::{Copied, Copier};

use super::Broker;
use super::folder::Folder;
use super::queue_ends::QueueEnds;
use crate::commitlog::LogFile;
use crate::consumequeue::ConsumeQueue;
use crate::error::{Error, Result};
use crate::storage::{Disk, file_name};
use crate::types::{BrokerName, PhysicalOffset, to_u64};

/// Stands in a snapshot that is not finished, beside the folders of its brokers.
pub(crate) const UNFINISHED: &str = ".pocketmq-unfinished";

/// Where the copy of a broker is made.
#[derive(Debug)]
pub(crate) struct SnapshotPlace<'a> {
    /// The disk.
    pub(crate) disk: &'a Arc<dyn Disk>,
    /// The folder in which the copy is made. It exists and is empty.
    pub(crate) dir: &'a Path,
    /// The folder that the copy will have in the end.
    pub(crate) final_dir: &'a Path,
}

/// The copy of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerSnapshot {
    /// The broker.
    pub broker: BrokerName,
    /// The folder of the copy.
    pub dir: PathBuf,
    /// Where the log of the copy begins.
    pub start: PhysicalOffset,
    /// Where it ends: everything that was acknowledged before the call lies before it.
    pub end: PhysicalOffset,
    /// Files that got a second name, and their bytes: they take no room until the original is removed.
    pub linked_files: u64,
    /// Bytes of those.
    pub linked_bytes: u64,
    /// Files that were copied.
    pub copied_files: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
}

/// What is under way.
struct Work<'a> {
    broker: &'a Broker,
    place: &'a SnapshotPlace<'a>,
    folder: Folder,
    copier: Copier<'a>,
    /// The byte at which the copy ends.
    end: PhysicalOffset,
    start: PhysicalOffset,
    /// The byte before which the index lists everything.
    indexed: PhysicalOffset,
    ends: QueueEnds,
    /// The last message that a queue lists.
    last: Option<PhysicalOffset>,
}

impl Broker {
    /// Copies the broker into a folder that opens as a broker's, ours or RocketMQ's, as if it had been closed cleanly.
    /// Durable on return, but for the names of the folder itself.
    ///
    /// # Errors
    ///
    /// `Closed`, also where the store is closed meanwhile; `FlushFailed`; `StoreFull` where the copy does not fit or
    /// would take the room that this store keeps free; `Corrupt` and `Io`. The folder then holds a part.
    pub(crate) fn snapshot(&self, place: &SnapshotPlace<'_>) -> Result<BrokerSnapshot> {
        self.check_open()?;
        // Not `pocketmq/` alone: a folder is a broker's by its `commitlog/`, so that comes last.
        let folder = Folder::new(place.dir, None);
        let reserve = self.log.files().free_min();
        let mut copier = Copier::new(self.disk.as_ref(), place.disk.as_ref(), place.dir, reserve);
        for dir in [folder.own(), folder.queues(), folder.index(), folder.config()] {
            copier.make_dir(&dir)?;
        }
        let ends = QueueEnds::default();
        let end = PhysicalOffset::ZERO;
        let (start, indexed) = (end, end);
        let mut work = Work { broker: self, place, folder, copier, end, start, indexed, ends, last: None };
        let removing = self.removing.lock();
        work.copy_progress()?;
        let positions = self.positions.all();
        let end = self.flush_and_dispatch()?;
        (work.end, work.start, work.indexed) = (end, end, end);
        work.copy_log()?;
        work.copy_queues()?;
        work.copy_topics()?;
        work.copy_index()?;
        drop(removing);
        work.copy_settings(positions)?;
        work.finish()
    }
}

impl Work<'_> {
    /// Copies the log into a folder under another name, newest file first: what a person removes meanwhile leaves no
    /// hole.
    fn copy_log(&mut self) -> Result<()> {
        let dir = self.hidden_log();
        self.copier.make_dir(&dir)?;
        let mut files = self.broker.log.files().within(0, self.end.get());
        let ends_with_file = files.last().is_none_or(|file| file.end() == self.end.get());
        if ends_with_file && self.end > PhysicalOffset::ZERO {
            // An empty file says where the log goes on: retention took everything, or the writer had just come to the
            // end of a file, whose blank record counts for nothing without a file behind it.
            files.extend(self.broker.log.files().at(self.end.get()));
        }
        if let Some(file) = files.first() {
            self.copier.find_out_whether_links_work(file.map().path());
        }
        for file in files.iter().rev() {
            if !self.copy_log_file(file, &dir)? {
                break;
            }
            self.start = PhysicalOffset::new(file.start());
        }
        Ok(())
    }

    fn copy_log_file(&mut self, file: &LogFile, dir: &Path) -> Result<bool> {
        let (from, to) = (file.map().path(), dir.join(file_name(file.start())));
        let len = to_u64(file.map().len());
        let used = self.end.get().saturating_sub(file.start()).min(len);
        let copied = if used == len {
            self.copier.link_or_copy(from, &to, len)?
        } else {
            self.copier.copy(from, &to, Copied { used, len })?
        };
        Ok(copied)
    }

    fn hidden_log(&self) -> PathBuf {
        self.folder.root.join("commitlog.unfinished")
    }

    fn copy_queues(&mut self) -> Result<()> {
        for queue in self.broker.queues.all() {
            let parts = queue.parts_before(self.end)?;
            let Some(last) = parts.last else { continue };
            let dir = self.queue_dir(&queue);
            if parts.parts.is_empty() {
                continue;
            }
            self.copier.make_dir(dir.parent().unwrap_or(&dir))?;
            self.copier.make_dir(&dir)?;
            for part in &parts.parts {
                let to = dir.join(part.path.file_name().unwrap_or_default());
                let copied = if part.used == part.len {
                    self.copier.link_or_copy(&part.path, &to, part.len)?
                } else {
                    self.copier.copy(&part.path, &to, Copied { used: part.used, len: part.len })?
                };
                if !copied {
                    break;
                }
            }
            self.last = self.last.max(Some(last));
            self.ends.add(&queue, parts.end, last);
        }
        Ok(())
    }

    fn queue_dir(&self, queue: &ConsumeQueue) -> PathBuf {
        self.folder.queues().join(queue.topic().as_str()).join(queue.queue_id().to_string())
    }

    /// Copies the index, brought up to date first. Files that are full and that list nothing beyond the end are linked.
    fn copy_index(&mut self) -> Result<()> {
        // An index that lags is no reason to refuse: the copy's own opening fills it.
        let _ = self.broker.index_to(self.broker.dispatched());
        self.indexed = self.broker.index.end().min(self.end);
        for part in self.broker.index.parts()? {
            let to = self.folder.index().join(part.path.file_name().unwrap_or_default());
            // The opening of the copy takes out entries beyond this, in place: so none may lie in a file of two names.
            let is_done = part.is_full && part.last < self.indexed;
            let copied = if is_done {
                self.copier.link_or_copy(&part.path, &to, part.len)?
            } else {
                self.copier.copy(&part.path, &to, Copied { used: part.used, len: part.len })?
            };
            if copied && !is_done {
                self.broker.index.mend_copy(self.place.disk, &to, self.indexed)?;
                self.copier.forget_if_gone(&to)?;
            }
        }
        Ok(())
    }

    /// Gets everything to disk, and gives the log its name.
    fn finish(self) -> Result<BrokerSnapshot> {
        self.copier.sync()?;
        let disk = self.place.disk.as_ref();
        disk.rename(&self.hidden_log(), &self.folder.log)?;
        disk.sync_dir(&self.folder.root)?;
        // A store that was closed meanwhile may have been opened by somebody else, who writes where we have read.
        self.broker.check_open()?;
        let done = self.copier.done;
        Ok(BrokerSnapshot {
            broker: self.broker.name.clone(),
            dir: self.place.final_dir.to_path_buf(),
            start: self.start,
            end: self.end,
            linked_files: done.linked_files,
            linked_bytes: done.linked_bytes,
            copied_files: done.copied_files,
            copied_bytes: done.copied_bytes,
        })
    }
}

/// Refuses a folder that is, or lies in, a snapshot that was not finished.
pub(crate) fn check_finished(disk: &dyn Disk, dir: &Path) -> Result<()> {
    for place in [Some(dir), dir.parent()].into_iter().flatten() {
        if disk.metadata(&place.join(UNFINISHED))?.is_some() {
            let reason = format!("{} is a snapshot that was not finished: take it again", place.display());
            return Err(Error::config("dir", reason));
        }
    }
    Ok(())
}
