//! How is a settings file of RocketMQ's read and replaced so that a valid one exists at every instant?
//!
//! Writing: a temporary file is written and synced in our own folder; the current file gets `.bak` as a second name,
//! by a link that is renamed over the old backup; the new file is renamed over the current one; the folder is synced.
//! A crash anywhere leaves the old file or the new one. A CRC of the content stands in the member `pocketmqCrc32`,
//! which RocketMQ does not know and drops.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Disk, json};
use crate::error::{Error, Result};

/// The largest file that is read, in bytes.
const LEN_MAX: u64 = 64 << 20;
/// The member that holds our CRC.
const CRC_MEMBER: &str = "pocketmqCrc32";

/// Which file a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The file itself.
    Main,
    /// Its backup, because the file is missing or broken.
    Backup,
    /// Neither exists.
    Absent,
}

/// A settings file as it was read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// What it says; `None` if it does not exist.
    pub(crate) value: Option<Value>,
    /// Which of the two files said it.
    pub(crate) from: Source,
}

/// Reads a file, or its backup where it is missing or broken.
///
/// # Errors
///
/// `Corrupt` with the place of the first fault where neither can be read although one of them exists.
pub(crate) fn load_config(disk: &dyn Disk, path: &Path) -> Result<ConfigFile> {
    let main = read(disk, path);
    if let Ok(Some(value)) = main {
        return Ok(ConfigFile { value: Some(value), from: Source::Main });
    }
    match (main, read(disk, &backup_of(path))) {
        (_, Ok(Some(value))) => Ok(ConfigFile { value: Some(value), from: Source::Backup }),
        (Ok(_), Ok(None)) => Ok(ConfigFile { value: None, from: Source::Absent }),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Value>> {
    disk.read(path, LEN_MAX)?.map(|bytes| decode(path, &bytes)).transpose()
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::corrupt(path, crate::types::to_u64(error.valid_up_to()), "is not UTF-8"))?;
    let mut value =
        json::parse(text).map_err(|what| Error::corrupt(path, 0, format!("is not JSON: {what}")))?;
    if let Some(members) = value.as_object_mut()
        && let Some(stated) = members.remove(CRC_MEMBER)
        && stated.as_u64() != Some(u64::from(crc_of(&value)))
    {
        return Err(Error::corrupt(path, 0, "does not have the checksum that it states"));
    }
    Ok(value)
}

fn crc_of(value: &Value) -> u32 {
    crc32fast::hash(value.to_string().as_bytes())
}

fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

/// Returns the bytes that [`save_config`] writes for a value.
pub(crate) fn encode_config(value: &Value) -> Result<Vec<u8>> {
    let mut value = value.clone();
    let crc = crc_of(&value);
    if let Some(members) = value.as_object_mut() {
        members.insert(CRC_MEMBER.to_owned(), Value::from(crc));
    }
    serde_json::to_vec_pretty(&value)
        .map_err(|error| Error::io("encode", Path::new("a settings file"), error.into()))
}

/// Replaces a file. Durable on return; the file before it stays as `.bak`, unless it is broken: then the backup may be
/// the only one that can be read, and stays.
pub(crate) fn save_config(disk: &dyn Disk, path: &Path, temp_dir: &Path, value: &Value) -> Result<()> {
    let name = path.file_name().unwrap_or_default();
    let temp = |ending: &str| {
        let mut temp = name.to_owned();
        temp.push(ending);
        temp_dir.join(temp)
    };
    let (made, linked) = (temp(".tmp"), temp(".bak.tmp"));
    for left in [&made, &linked] {
        if disk.metadata(left)?.is_some() {
            disk.remove_file(left)?;
        }
    }
    disk.write_new(&made, &encode_config(value)?)?;
    let current = disk.read(path, LEN_MAX).ok().flatten();
    if let Some(bytes) = current.filter(|bytes| decode(path, bytes).is_ok()) {
        // Crash: the current file keeps its name all the time; the backup changes in one step.
        if disk.hard_link(path, &linked).is_err() {
            // Some file systems have no links, and some files may not be linked: a copy does as well.
            disk.write_new(&linked, &bytes)?;
        }
        disk.rename(&linked, &backup_of(path))?;
    }
    disk.rename(&made, path)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}

#[cfg(test)]
#[path = "config_file_tests.rs"]
mod tests;
