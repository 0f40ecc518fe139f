//! Which folders are the brokers of a store?
//!
//! A folder that holds `commitlog/` is one broker's, where RocketMQ left it. Else every folder in it that does is a
//! broker of the store. A new store has one folder for each name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreBuilder;
use crate::broker::{BrokerConf, BrokerOptions, CONF_FILE, check_finished, default_host};
use crate::error::{Error, Result};
use crate::storage::{Disk, EntryKind};
use crate::types::BrokerName;

/// The broker of a new store for which nobody chose a name.
const DEFAULT_NAME: &str = "broker-a";
/// Brokers that one store may have.
const BROKERS_MAX: usize = 64;

/// One broker's folder.
#[derive(Debug)]
struct Found {
    name: BrokerName,
    dir: PathBuf,
    conf: Option<BrokerConf>,
    log_dir: Option<PathBuf>,
}

/// Finds the brokers, and says how each is to be opened.
pub(super) fn find(builder: &StoreBuilder, disk: &Arc<dyn Disk>) -> Result<Vec<BrokerOptions>> {
    builder.config.check()?;
    let wanted = wanted_names(&builder.brokers)?;
    let root = root(builder, disk.as_ref())?;
    check_finished(disk.as_ref(), &root)?;
    let mut found = existing(builder, &root, &wanted, disk.as_ref())?;
    let is_root = found.first().is_some_and(|broker| broker.dir == root);
    check_names(&found, &wanted)?;
    let new: Vec<BrokerName> = match (wanted.is_empty(), found.is_empty()) {
        (true, true) => vec![BrokerName::new(DEFAULT_NAME)?],
        _ => wanted.into_iter().filter(|name| found.iter().all(|found| found.name != *name)).collect(),
    };
    if let (true, Some(missing)) = (disk.is_private(), new.first()) {
        let reason =
            format!("{} holds no broker {missing}, and a read-only opening makes none", root.display());
        return Err(Error::config("dir", reason));
    }
    for name in new {
        let (dir, log_dir) = (root.join(name.as_str()), log_dir_of(builder, Some(&name))?);
        found.push(Found { name, dir, conf: None, log_dir });
    }
    if is_root && found.len() > 1 {
        let reason = format!("{} is the folder of one broker: open it without others", root.display());
        return Err(Error::config("brokers", reason));
    }
    if found.len() > BROKERS_MAX {
        return Err(Error::config("brokers", format!("{}: at most {BROKERS_MAX} are allowed", found.len())));
    }
    check_apart(&found)?;
    Ok(number(found, disk.as_ref())
        .into_iter()
        .map(|(shard, found)| options(builder, disk, shard, found))
        .collect())
}

fn options(builder: &StoreBuilder, disk: &Arc<dyn Disk>, shard: u16, found: Found) -> BrokerOptions {
    BrokerOptions {
        dir: found.dir,
        log_dir: found.log_dir,
        name: found.name,
        shard,
        conf: found.conf,
        config: Arc::clone(&builder.config),
        disk: Arc::clone(disk),
        clock: Arc::clone(&builder.clock),
        progress: builder.progress.clone(),
    }
}

/// Checks the names that were asked for.
fn wanted_names(names: &[String]) -> Result<Vec<BrokerName>> {
    let mut wanted = Vec::with_capacity(names.len());
    for name in names {
        let checked = BrokerName::new(name).map_err(|error| Error::config("brokers", error.to_string()))?;
        if wanted.contains(&checked) {
            return Err(Error::config("brokers", format!("{name:?} is named twice")));
        }
        wanted.push(checked);
    }
    Ok(wanted)
}

/// Returns the folder of the store as an absolute path, so that it stays the same when the process changes its own.
fn root(builder: &StoreBuilder, disk: &dyn Disk) -> Result<PathBuf> {
    let wrong = |reason: String| Err(Error::config("dir", reason));
    if builder.dir.as_os_str().is_empty() {
        return wrong("is empty: name a folder, such as ./data".to_owned());
    }
    let root = std::path::absolute(&builder.dir)
        .map_err(|error| Error::io("find the absolute path of", &builder.dir, error))?;
    for place in root.ancestors() {
        match disk.metadata(place)?.map(|found| found.kind) {
            None => {}
            Some(EntryKind::Dir) => break,
            // A link to a folder is as good as the folder.
            Some(EntryKind::Other) if linked_dir(place).is_some() => {
                return Ok(if place == root { linked_dir(place).unwrap_or(root) } else { root });
            }
            Some(_) => return wrong(format!("{} is not a folder", place.display())),
        }
    }
    Ok(root)
}

/// Returns the folder that a link leads to.
fn linked_dir(link: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(link).ok().filter(|dir| dir.is_dir())
}

/// Finds the brokers that exist, sorted by their folders.
fn existing(
    builder: &StoreBuilder,
    root: &Path,
    wanted: &[BrokerName],
    disk: &dyn Disk,
) -> Result<Vec<Found>> {
    let mut below = Vec::new();
    for entry in disk.list(root)?.unwrap_or_default() {
        let path = root.join(&entry.name);
        // A link may lead to a broker's folder on another disk.
        let dir = match entry.kind {
            EntryKind::Dir => Some(path),
            EntryKind::Other => linked_dir(&path),
            EntryKind::File => None,
        };
        if let Some(dir) = dir
            && is_broker(&dir, disk)?
        {
            below.push((entry.name, dir));
        }
    }
    let root_is_broker = builder.conf.is_some() || is_broker(root, disk)?;
    if let (true, Some((_, nested))) = (root_is_broker, below.first()) {
        let reason = format!(
            "{} is a broker's folder, and so is {} in it: move one away",
            root.display(),
            nested.display()
        );
        return Err(Error::config("dir", reason));
    }
    if root_is_broker {
        return Ok(vec![the_root(builder, root, wanted, disk)?]);
    }
    below.into_iter().map(|(name, dir)| below_root(builder, &name, dir, disk)).collect()
}

/// Tells whether a folder is a broker's: its log lies in it, or its `broker.conf` says where.
fn is_broker(dir: &Path, disk: &dyn Disk) -> Result<bool> {
    let log = disk.metadata(&dir.join("commitlog"))?;
    if log.is_some_and(|found| found.kind != EntryKind::File) {
        return Ok(true);
    }
    // What cannot be read is no conf of ours; a folder with a log is complained about when it is opened.
    let conf = BrokerConf::load(disk, &dir.join(CONF_FILE)).ok().flatten();
    Ok(conf.is_some_and(|conf| conf.commit_log_dir().is_some()))
}

/// Describes the store's folder as the folder of its one broker.
fn the_root(builder: &StoreBuilder, root: &Path, wanted: &[BrokerName], disk: &dyn Disk) -> Result<Found> {
    let conf = match &builder.conf {
        Some(path) => Some(
            BrokerConf::load(disk, path)?
                .ok_or_else(|| Error::config("broker_conf", format!("{} does not exist", path.display())))?,
        ),
        None => None,
    };
    let stated = match &conf {
        Some(conf) => conf.broker_name()?,
        None => name_in(root, disk)?,
    };
    let name = match (stated, wanted.first()) {
        (Some(name), _) => name,
        (None, Some(wanted)) => wanted.clone(),
        (None, None) => BrokerName::new(DEFAULT_NAME)?,
    };
    Ok(Found { name, dir: root.to_path_buf(), conf, log_dir: log_dir_of(builder, None)? })
}

/// Describes a folder in the store's folder as a broker's: its name is what it says itself, else that of the folder.
fn below_root(builder: &StoreBuilder, folder: &OsStr, dir: PathBuf, disk: &dyn Disk) -> Result<Found> {
    let wrong = |error| Error::config("dir", format!("{}: {error}; rename the folder", dir.display()));
    let name = match name_in(&dir, disk)? {
        Some(name) => name,
        None => BrokerName::new(&folder.to_string_lossy()).map_err(wrong)?,
    };
    let log_dir = log_dir_of(builder, Some(&name))?;
    Ok(Found { name, dir, conf: None, log_dir })
}

fn name_in(dir: &Path, disk: &dyn Disk) -> Result<Option<BrokerName>> {
    BrokerConf::load(disk, &dir.join(CONF_FILE))?.map_or(Ok(None), |conf| conf.broker_name())
}

/// Returns the log folder of a broker, where one was set: below it by name, unless the store's folder is the broker's.
fn log_dir_of(builder: &StoreBuilder, name: Option<&BrokerName>) -> Result<Option<PathBuf>> {
    let Some(dir) = &builder.log_dir else { return Ok(None) };
    if dir.as_os_str().is_empty() {
        return Err(Error::config("commit_log_dir", "is empty: name a folder, or leave it out"));
    }
    let dir = std::path::absolute(dir).map_err(|error| Error::io("find the absolute path of", dir, error))?;
    Ok(Some(match name {
        Some(name) => dir.join(name.as_str()).join("commitlog"),
        None => dir,
    }))
}

fn check_names(found: &[Found], wanted: &[BrokerName]) -> Result<()> {
    for (place, broker) in found.iter().enumerate() {
        let (name, dir) = (&broker.name, broker.dir.display());
        if let Some(other) = found.iter().take(place).find(|other| other.name == *name) {
            let reason = format!("{dir} and {} both hold a broker {name}", other.dir.display());
            return Err(Error::config("dir", reason));
        }
        if !wanted.is_empty() && !wanted.contains(name) {
            let reason = format!("{dir} holds a broker {name}, which the list leaves out: name it too");
            return Err(Error::config("brokers", reason));
        }
    }
    Ok(())
}

/// Refuses folders that are the same or lie in one another: two brokers would overwrite each other's files.
fn check_apart(found: &[Found]) -> Result<()> {
    let clash = |one: &Path, other: &Path| {
        let reason = format!("{} and {} are the same or lie in one another", one.display(), other.display());
        Err(Error::config("dir", reason))
    };
    let nested = |one: &Path, other: &Path| one.starts_with(other) || other.starts_with(one);
    let places: Vec<_> =
        found.iter().map(|broker| (real(&broker.dir), broker.log_dir.as_deref().map(real))).collect();
    for (place, (dir, log)) in places.iter().enumerate() {
        for (other_dir, other_log) in places.iter().take(place) {
            let logs = log.as_ref().zip(other_log.as_ref()).filter(|(one, other)| nested(one, other));
            if let Some((one, other)) = logs {
                return clash(one, other);
            }
            if nested(dir, other_dir) {
                return clash(dir, other_dir);
            }
        }
        // A log may be said to lie where it lies anyway.
        let Some(log) = log.as_ref().filter(|log| **log != dir.join("commitlog")) else { continue };
        if let Some((other, _)) = places.iter().find(|(other, _)| nested(log, other)) {
            return clash(log, other);
        }
    }
    Ok(())
}

/// Returns the path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_path_buf(),
    }
}

/// Gives every broker a number, from which one without an address gets its own: no two may have the same, as offset
/// ids are told apart by it.
fn number(found: Vec<Found>, disk: &dyn Disk) -> Vec<(u16, Found)> {
    let stated = |broker: &Found| {
        let conf = broker.conf.clone();
        conf.or_else(|| BrokerConf::load(disk, &broker.dir.join(CONF_FILE)).ok().flatten())
            .and_then(|conf| conf.host().ok().flatten())
    };
    let taken: Vec<_> = found.iter().filter_map(stated).collect();
    let mut free = (0..u16::MAX).filter(|shard| !taken.contains(&default_host(*shard)));
    let with_number = |broker| {
        let shard = if stated(&broker).is_some() { 0 } else { free.next().unwrap_or(0) };
        (shard, broker)
    };
    found.into_iter().map(with_number).collect()
}
