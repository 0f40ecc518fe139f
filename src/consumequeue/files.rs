//! Which queues lie in a folder, and which files in a queue?

use std::path::{Path, PathBuf};

use super::is_dir;
use crate::error::{Error, Result};
use crate::storage::{Disk, EntryKind, parse_file_name};
use crate::types::TopicName;

/// A file of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundFile {
    /// The byte of the queue at which it starts.
    pub(super) start: u64,
    pub(super) len: u64,
}

/// Returns the folder of a queue.
pub(super) fn dir_of(dir: &Path, topic: &TopicName, queue_id: u32) -> PathBuf {
    dir.join(topic.as_str()).join(queue_id.to_string())
}

/// Lists the queues in a folder. What is none is reported.
pub(super) fn queues_in(
    disk: &dyn Disk,
    dir: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<(TopicName, u32)>> {
    let mut queues = Vec::new();
    for entry in disk.list(dir)?.unwrap_or_default() {
        let path = dir.join(&entry.name);
        let topic = entry.name.to_str().and_then(|name| TopicName::new(name).ok()).filter(|_| is_dir(&entry));
        let Some(topic) = topic else {
            warnings.push(format!("{} is no folder of a topic and is left alone", path.display()));
            continue;
        };
        for inner in disk.list(&path)?.unwrap_or_default() {
            let queue_id = inner.name.to_str().and_then(parse_queue_id).filter(|_| is_dir(&inner));
            match queue_id {
                Some(queue_id) => queues.push((topic.clone(), queue_id)),
                None => {
                    let strange = path.join(&inner.name);
                    warnings.push(format!("{} is no folder of a queue and is left alone", strange.display()));
                }
            }
        }
    }
    Ok(queues)
}

/// Reads the number of a queue as RocketMQ writes it: decimal, without a sign or leading zeros.
fn parse_queue_id(name: &str) -> Option<u32> {
    let queue_id: u32 = name.parse().ok().filter(|id| *id <= crate::config::QUEUES_MAX)?;
    (queue_id.to_string() == name).then_some(queue_id)
}

/// Lists the files of a queue, in order. What is none is reported.
///
/// # Errors
///
/// `Corrupt` for something under a file's name that is no regular file.
pub(super) fn files_in(disk: &dyn Disk, dir: &Path, warnings: &mut Vec<String>) -> Result<Vec<FoundFile>> {
    let mut files = Vec::new();
    for entry in disk.list(dir)?.unwrap_or_default() {
        let path = dir.join(&entry.name);
        match parse_file_name(&entry.name) {
            Some(_) if entry.kind != EntryKind::File => {
                return Err(Error::corrupt(&path, 0, "is not a regular file"));
            }
            Some(start) => files.push(FoundFile { start, len: entry.len }),
            None => {
                warnings.push(format!("{} does not belong to the queue and is left alone", path.display()))
            }
        }
    }
    Ok(files)
}
