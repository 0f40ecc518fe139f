//! How does a broker folder become a broker, whatever state it was left in?
//!
//! First it is only looked at: features, sizes, settings, files, then the whole part of the log that is not known to be
//! safe. An opening that refuses has changed nothing but our own folder. Then it is mended, in an order in which a
//! crash at any point leaves something that can be opened again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Checkpoint, Durables, Watermark};
use super::checksums::Checksums;
use super::conf::{self, BrokerConf};
use super::deleted::Deleted;
use super::folder::Folder;
use super::joined::FoundAcks;
use super::minimums::Minimums;
use super::operate::drop_leases;
use super::owner::Owner;
use super::positions::{PositionKey, Positions, StoredPositions};
use super::positions_json::PositionsJson;
use super::queue_ends::QueueEnds;
use super::rebuild::Rebuild;
use super::report::{LastStop, RecoveryReport};
use super::scan::{DurablePoint, Verdict, Walk};
use super::topics::TopicTable;
use super::{Broker, BrokerOptions, Parts};
use crate::commitlog::{CommitLog, LogFiles, LogOptions};
use crate::config::{DelayLevels, OnMissingOffsets, RecordChecksum, RecoveryMode};
use crate::consumequeue::{ConsumeQueues, QueueOptions, UNIT_LEN};
use crate::error::{Error, Result};
use crate::index::{Geometry, Index, IndexOptions};
use crate::storage::{Disk, EntryKind, FileLock};
use crate::types::{PhysicalOffset, QueueOffset};

/// RocketMQ's own geometry of an index file.
const ROCKETMQ_INDEX: Geometry = Geometry { slots: 5_000_000, entries: 20_000_000 };

/// RocketMQ's own size of a file of the timer log.
const ROCKETMQ_TIMER_LOG: u64 = 100 << 20;

/// What looking at the folder found out.
struct Looked {
    folder: Folder,
    conf: BrokerConf,
    log_file_size: u64,
    queue_file_size: u64,
    geometry: Geometry,
    delay_levels: DelayLevels,
    /// Whether index files of another geometry lie there, which can only be made anew.
    index_unknown: bool,
    is_new: bool,
    aborted: bool,
}

impl Broker {
    /// Opens a broker folder, making it where it does not exist.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a feature that we cannot carry, `Locked` if somebody has it open, `Corrupt` for damage that
    /// the recovery mode does not accept, `OffsetsUnreadable`, `InvalidConfig`, `StoreFull`, `Io`.
    pub(crate) fn open(options: BrokerOptions) -> Result<Arc<Self>> {
        let started = options.clock.monotonic();
        let disk = Arc::clone(&options.disk);
        let looked = look(&options)?;
        make_folders(disk.as_ref(), &looked.folder)?;
        let lock = disk.lock(&looked.folder.root.join("lock"))?;
        // Somebody may have had it open until now.
        let looked = look(&options)?;
        sweep(disk.as_ref(), &looked.folder)?;
        let mut report = new_report(&options, &looked);
        let mut parts = gather(&options, &looked, lock, &mut report)?;
        let stored = Stored::read(&options, &looked, &mut report)?;
        let mut acks = FoundAcks::peek(&disk, &looked.folder.own())?.filter(|_| !report.foreign);
        let scope = Scope { whole: None, acks: acks.as_mut() };
        let verdict = verify(&options, &looked, &mut parts, &mut report, scope)?;
        let broker = mend(&options, &looked, Findings { parts, stored, verdict, acks, report })?;
        broker.start(&options, started)
    }
}

fn new_report(options: &BrokerOptions, looked: &Looked) -> RecoveryReport {
    let mut report = RecoveryReport::new(options.name.clone());
    report.last_stop = match (looked.is_new, looked.aborted) {
        (true, _) => LastStop::New,
        (false, true) => LastStop::Crash,
        (false, false) => LastStop::Clean,
    };
    report
}

/// A folder that was read whole.
pub(super) struct LookedThrough {
    pub(super) parts: Parts,
    pub(super) report: RecoveryReport,
    pub(super) verdict: Verdict,
    pub(super) positions: Vec<(PositionKey, QueueOffset)>,
    /// Queue units of records from this byte on need not be there.
    pub(super) units_synced: u64,
    /// The index, where every message must be in it.
    pub(super) index: Option<Index>,
    /// What is wrong with index files.
    pub(super) index_faults: Vec<String>,
}

/// Reads a folder whole, as an opening would that trusts nothing and skips what is damaged, and mends nothing.
pub(super) fn look_through(options: &BrokerOptions) -> Result<LookedThrough> {
    let looked = look(options)?;
    let disk = options.disk.as_ref();
    make_folders(disk, &looked.folder)?;
    let lock = disk.lock(&looked.folder.root.join("lock"))?;
    let mut report = new_report(options, &looked);
    let mut parts = gather(options, &looked, lock, &mut report)?;
    let positions = Stored::read(options, &looked, &mut report)?.positions;
    let scope = Scope { whole: Some(RecoveryMode::SkipDamaged), acks: None };
    let verdict = verify(options, &looked, &mut parts, &mut report, scope)?;
    let mut index_faults = Vec::new();
    let mut index = None;
    if report.last_stop == LastStop::Clean && !looked.index_unknown {
        let (found, warnings) = Index::open(Arc::clone(&options.disk), index_options(options, &looked))?;
        // What another broker has written need not list everything: it drops files and goes on.
        index = (!report.foreign).then_some(found);
        index_faults.extend(warnings.into_iter().filter(|warning| warning.starts_with("index file ")));
    }
    let units_synced = match (report.last_stop, report.foreign) {
        (LastStop::Crash, true) => 0,
        (LastStop::Crash, false) => parts.watermark.get().queues,
        _ => u64::MAX,
    };
    Ok(LookedThrough { parts, report, verdict, positions, units_synced, index, index_faults })
}

/// Looks at a folder without touching it.
fn look(options: &BrokerOptions) -> Result<Looked> {
    let disk = options.disk.as_ref();
    let beside = BrokerConf::load(disk, &options.dir.join(conf::FILE))?;
    let conf = options.conf.clone().or(beside);
    let log_dir = options.log_dir.clone().or_else(|| conf.as_ref().and_then(BrokerConf::commit_log_dir));
    let folder = Folder::new(&options.dir, log_dir.as_deref());
    folder.check_features(disk, conf.as_ref())?;
    let conf = conf.unwrap_or_default();
    let log_size = LogFiles::existing_size(disk, &folder.log)?;
    let queue_size = ConsumeQueues::existing_file_size(disk, &folder.queues())?;
    check_same("mappedFileSizeCommitLog", &conf, log_size)?;
    check_same("mappedFileSizeConsumeQueue", &conf, queue_size)?;
    let sizes = options.config.sizes;
    let units = u64::from(sizes.consume_queue_units).saturating_mul(UNIT_LEN);
    let log_file_size = log_size.or(conf.number("mappedFileSizeCommitLog")?).unwrap_or(sizes.commit_log);
    let queue_file_size = queue_size.or(conf.number("mappedFileSizeConsumeQueue")?).unwrap_or(units);
    let (geometry, index_unknown) = index_geometry(options, &folder, &conf)?;
    let aborted = match disk.metadata(&folder.root.join("abort"))? {
        None => false,
        Some(found) if found.kind == EntryKind::File => true,
        Some(_) => return Err(Error::corrupt(&folder.root.join("abort"), 0, "is not a regular file")),
    };
    let is_new = log_size.is_none() && !holds_more_than_a_log(disk, &folder)?;
    if log_size.is_none() && !is_new {
        let what = "holds no log file, but queues or marks of a log lie beside it: restore the log, or remove the folder to start anew";
        return Err(Error::corrupt(&folder.log, 0, what));
    }
    let queue_file_size = queue_file_size.next_multiple_of(UNIT_LEN);
    options.config.retention.check_file_size(log_file_size)?;
    options.config.limits.check_file_size(log_file_size)?;
    let stated = options.config.delay_levels.as_deref().or_else(|| conf.get("messageDelayLevel"));
    let delay_levels = stated.map_or_else(|| Ok(DelayLevels::default()), DelayLevels::parse)?;
    Ok(Looked {
        folder,
        conf,
        log_file_size,
        queue_file_size,
        geometry,
        delay_levels,
        index_unknown,
        is_new,
        aborted,
    })
}

/// Tells whether a folder without a log shows that there was one.
fn holds_more_than_a_log(disk: &dyn Disk, folder: &Folder) -> Result<bool> {
    let queues = disk
        .list(&folder.queues())?
        .is_some_and(|entries| entries.iter().any(|entry| entry.kind == EntryKind::Dir));
    Ok(queues || Checkpoint::peek_log_millis(disk, &folder.root) != 0)
}

/// Refuses files whose size is not the one that the folder's own `broker.conf` states.
fn check_same(name: &'static str, conf: &BrokerConf, found: Option<u64>) -> Result<()> {
    match (conf.number(name)?, found) {
        (Some(stated), Some(found))
            if stated.next_multiple_of(UNIT_LEN) != found.next_multiple_of(UNIT_LEN) =>
        {
            let reason = format!("broker.conf states {stated}, but the files have {found} bytes");
            Err(Error::ConfigMismatch { field: name, reason: reason.into() })
        }
        _ => Ok(()),
    }
}

/// Returns the geometry of the index files, and whether the files that exist have another one.
fn index_geometry(options: &BrokerOptions, folder: &Folder, conf: &BrokerConf) -> Result<(Geometry, bool)> {
    let small = |name| Ok::<_, Error>(conf.number(name)?.and_then(|number| u32::try_from(number).ok()));
    let stated = match (small("maxHashSlotNum")?, small("maxIndexNum")?) {
        (Some(slots), Some(entries)) => Some(Geometry { slots, entries }),
        _ => None,
    };
    let sizes = options.config.sizes;
    let ours = Geometry { slots: sizes.index_slots, entries: sizes.index_entries };
    let existing = Index::existing_len(options.disk.as_ref(), &folder.index())?;
    Ok(match (stated, existing) {
        (Some(stated), existing) => (stated, existing.is_some_and(|len| len != Index::file_len_of(stated))),
        (None, None) => (ours, false),
        (None, Some(len)) if len == Index::file_len_of(ROCKETMQ_INDEX) => (ROCKETMQ_INDEX, false),
        (None, Some(_)) => (ours, true),
    })
}

fn make_folders(disk: &dyn Disk, folder: &Folder) -> Result<()> {
    let own = folder.own();
    for dir in [
        &folder.root,
        &own,
        &folder.log,
        &folder.log_temp(),
        &folder.queues(),
        &folder.index(),
        &folder.config(),
    ] {
        disk.create_dir_all(dir)?;
    }
    Ok(())
}

/// Removes what a crash left half made: it is of no use to anybody.
fn sweep(disk: &dyn Disk, folder: &Folder) -> Result<()> {
    for dir in [&folder.own(), &folder.log_temp()] {
        for entry in disk.list(dir)?.unwrap_or_default() {
            if entry.kind == EntryKind::File && entry.name.as_encoded_bytes().ends_with(b".tmp") {
                disk.remove_file(&dir.join(&entry.name))?;
            }
        }
    }
    Ok(())
}

/// Opens all parts, without changing what they hold.
fn gather(
    options: &BrokerOptions,
    looked: &Looked,
    lock: Box<dyn FileLock>,
    report: &mut RecoveryReport,
) -> Result<Parts> {
    let disk = &options.disk;
    let folder = &looked.folder;
    let (own, config_dir) = (folder.own(), folder.config());
    let owner = Owner::open(disk, &own, folder.root.join("lock"), config_dir.join("consumerOffset.json"))?;
    report.foreign = !looked.is_new && !owner.is_us()?;
    let used_percent_max = options.config.retention.ratios.map_or(100, |ratios| ratios.refuse);
    let free_min = options.config.free_space_min.unwrap_or(looked.log_file_size.saturating_mul(2));
    let (dir, temp_dir, file_size) = (folder.log.clone(), folder.log_temp(), looked.log_file_size);
    let (log, warnings) = CommitLog::open(
        Arc::clone(disk),
        LogOptions { dir, temp_dir, file_size, free_min, used_percent_max },
    )?;
    report.warnings.extend(warnings);
    let queue_options = QueueOptions {
        dir: folder.queues(),
        temp_dir: own.clone(),
        file_size: looked.queue_file_size,
        maps_max: options.config.queue_maps_max,
    };
    let (queues, warnings) = ConsumeQueues::open(Arc::clone(disk), queue_options)?;
    report.warnings.extend(warnings);
    let topics = TopicTable::load(disk, config_dir.join("topics.json"), own.clone(), &mut report.warnings)?;
    let watermark = Watermark::open(disk, &own)?;
    let checksums = Checksums::load(disk.as_ref(), &own);
    let deleted = Deleted::load(disk, &own);
    let minimums = Minimums::load(disk, &own);
    if report.foreign {
        minimums.forget();
    }
    let ends = QueueEnds::load(disk.as_ref(), &own);
    let delay_levels = looked.delay_levels.clone();
    let timer_log_size = looked.conf.number("mappedFileSizeTimerLog")?.unwrap_or(ROCKETMQ_TIMER_LOG);
    Ok(Parts {
        lock,
        owner,
        log,
        queues,
        topics,
        watermark,
        checksums,
        deleted,
        minimums,
        ends,
        delay_levels,
        timer_log_size,
    })
}

/// The committed positions as they were found, and what to do where there are none.
struct Stored {
    json: PositionsJson,
    positions: Vec<(PositionKey, QueueOffset)>,
    /// The groups start anew, because their positions are lost.
    lost: Option<OnMissingOffsets>,
}

impl Stored {
    fn read(options: &BrokerOptions, looked: &Looked, report: &mut RecoveryReport) -> Result<Self> {
        let disk = &options.disk;
        let (path, temp) = (looked.folder.config().join("consumerOffset.json"), looked.folder.own());
        let ours = Positions::peek(disk.as_ref(), &temp)?;
        let loaded = PositionsJson::load(disk, path.clone(), temp.clone(), &mut report.warnings);
        let (json, found) = match loaded {
            Ok(loaded) => (loaded.json, loaded.positions),
            Err(error)
                if options.config.on_missing_offsets == OnMissingOffsets::Refuse && !disk.is_private() =>
            {
                return Err(error);
            }
            Err(error) => {
                report.warnings.push(error.to_string());
                (PositionsJson::empty(disk, path.clone(), temp), None)
            }
        };
        match found {
            Some(theirs) if !report.foreign && !ours.entries.is_empty() => {
                let positions = completed(ours, theirs, report);
                Ok(Self { json, positions, lost: None })
            }
            Some(positions) => Ok(Self { json, positions, lost: None }),
            None if looked.is_new => Ok(Self { json, positions: Vec::new(), lost: None }),
            None if options.config.on_missing_offsets == OnMissingOffsets::Refuse && !disk.is_private() => {
                let reason = format!("{} and its backup are missing", path.display());
                Err(Error::OffsetsUnreadable(reason.into()))
            }
            None => Ok(Self { json, positions: ours.entries, lost: Some(options.config.on_missing_offsets) }),
        }
    }

    /// Brings the positions within their queues (contract, design point 11).
    fn clamp(&mut self, queues: &ConsumeQueues, report: &mut RecoveryReport) {
        for (key, offset) in &mut self.positions {
            let queue = queues.get(&key.topic, key.queue_id);
            let (min, max) = queue.map_or((QueueOffset::ZERO, QueueOffset::ZERO), |queue| {
                (queue.min_offset(), queue.max_offset())
            });
            let right = match self.lost {
                Some(OnMissingOffsets::Latest) => max,
                Some(_) => min,
                None => (*offset).min(max),
            };
            if right < *offset && self.lost.is_none() {
                let (topic, group, queue_id) = (&key.topic, &key.group, key.queue_id);
                report.warnings.push(format!(
                    "group {group} was at {offset} in queue {queue_id} of {topic}, which ends at {max}"
                ));
            }
            *offset = right;
        }
    }
}

/// Takes our positions, and those of the JSON for what a damaged part of our file held (contract D11).
fn completed(
    ours: StoredPositions,
    theirs: Vec<(PositionKey, QueueOffset)>,
    report: &mut RecoveryReport,
) -> Vec<(PositionKey, QueueOffset)> {
    let mut positions = ours.entries;
    if ours.damaged {
        report
            .warnings
            .push("pocketmq/positions is damaged: older positions were used, messages may repeat".to_owned());
        let known: HashSet<_> = positions.iter().map(|(key, _)| key.clone()).collect();
        positions.extend(theirs.into_iter().filter(|(key, _)| !known.contains(key)));
    }
    positions
}

/// How much of the log is read.
struct Scope<'a> {
    /// All of it, with this mode.
    whole: Option<RecoveryMode>,
    /// What messages acknowledge, where that is wanted.
    acks: Option<&'a mut FoundAcks>,
}

/// Walks the log and decides where it ends: the part that is not known to be safe, or all of it, with the mode that is
/// given then.
fn verify(
    options: &BrokerOptions,
    looked: &Looked,
    parts: &mut Parts,
    report: &mut RecoveryReport,
    scope: Scope<'_>,
) -> Result<Verdict> {
    let Scope { whole, acks } = scope;
    let durables = parts.watermark.get();
    let durable = if report.foreign {
        parts.checksums.end_at(durables.log);
        // Where nothing says how far the log was flushed, damage before sound records is damage.
        let millis = Checkpoint::peek_log_millis(options.disk.as_ref(), &looked.folder.root);
        DurablePoint::StoreTime(if millis == 0 { i64::MAX } else { millis })
    } else {
        DurablePoint::Byte(durables.log)
    };
    let from = match whole {
        Some(_) => parts.log.start().get(),
        None => {
            let acks = acks.as_ref().map_or(u64::MAX, |acks| acks.from());
            start_of_walk(&parts.log, (durables, acks), report.foreign)
        }
    };
    report.scanned_from = PhysicalOffset::new(from);
    let mut walk = Walk {
        log: &parts.log,
        checksums: &parts.checksums,
        mode: whole.unwrap_or(options.config.recovery),
        durable,
        named_until: named_until(&parts.queues, report.foreign)?,
        acks,
        progress: options.progress.as_deref(),
        report,
    };
    walk.run(from)
}

/// Returns the lowest point from which on something may be missing; at least the last two files are always read, as
/// a missing `abort` does not prove a clean stop.
fn start_of_walk(log: &CommitLog, (durables, acks): (Durables, u64), foreign: bool) -> u64 {
    let start = log.start().get();
    if foreign {
        return start;
    }
    let starts = log.files().starts();
    let last_two = starts.iter().rev().nth(1).copied().unwrap_or(start);
    let hole = log.files().holes().first().map_or(u64::MAX, |(from, _)| *from);
    durables.log.min(durables.queues).min(acks).min(last_two).min(hole).max(start)
}

/// Returns the byte behind the last record that a queue names.
fn named_until(queues: &ConsumeQueues, foreign: bool) -> Result<u64> {
    let mut until = 0;
    for queue in queues.all().iter().filter(|_| foreign) {
        if let Some((_, unit)) = queue.last()? {
            until = unit.physical_offset.get().saturating_add(1).max(until);
        }
    }
    Ok(until)
}

/// Everything that was found, before anything is changed.
struct Findings {
    parts: Parts,
    stored: Stored,
    verdict: Verdict,
    acks: Option<FoundAcks>,
    report: RecoveryReport,
}

/// Makes the folder what the verdict says, and takes it over.
fn mend(options: &BrokerOptions, looked: &Looked, findings: Findings) -> Result<Broker> {
    let Findings { mut parts, mut stored, verdict, acks, mut report } = findings;
    let disk = &options.disk;
    let folder = &looked.folder;
    let own = folder.own();
    // From here on a crash must not look like a clean stop.
    write_abort(disk.as_ref(), folder)?;
    // Before the watermark moves over records of another broker, which carry no checksum of ours.
    parts.checksums.save(disk.as_ref(), &own)?;
    let mut rebuild = Rebuild { parts: &parts, verdict: &verdict, report: &mut report };
    let appender = rebuild.log()?;
    rebuild.queues()?;
    follow_log(&parts)?;
    report.end = PhysicalOffset::new(verdict.end);
    let index = open_index(options, looked, &parts, &mut report)?;
    if let Some(acks) = &acks {
        acks.raise(&mut stored.positions);
    }
    stored.clamp(&parts.queues, &mut report);
    if report.foreign {
        drop_leases(disk.as_ref(), &own)?;
    }
    let positions = Positions::create(disk, own.clone(), stored.json, stored.positions)?;
    parts.deleted.end_at(PhysicalOffset::new(verdict.end))?;
    parts.checksums.end_at(verdict.end);
    if options.config.checksum == RecordChecksum::WholeRecord {
        parts.checksums.begin_at(verdict.end);
    }
    parts.checksums.save(disk.as_ref(), &own)?;
    let checkpoint = Checkpoint::open(disk.as_ref(), &folder.root, &own)?;
    write_conf(options, looked)?;
    let verified_from = report.scanned_from;
    let settled = super::Settled { appender, index, positions, checkpoint, report, verified_from };
    Ok(Broker::assemble(options, folder.clone(), parts, settled))
}

/// Lets every queue begin where it began, and finishes what retention was about when the process ended.
fn follow_log(parts: &Parts) -> Result<()> {
    let queues = parts.queues.all();
    parts.minimums.settle(&queues);
    parts.minimums.save()?;
    queues.iter().try_for_each(|queue| queue.drop_files_before_min().map(drop))
}

fn index_options(options: &BrokerOptions, looked: &Looked) -> IndexOptions {
    IndexOptions {
        dir: looked.folder.index(),
        temp_dir: looked.folder.own(),
        geometry: looked.geometry,
        clock: Arc::clone(&options.clock),
    }
}

/// Opens the index, and cuts off what may not have reached the disk. The rest is made again in the background.
fn open_index(
    options: &BrokerOptions,
    looked: &Looked,
    parts: &Parts,
    report: &mut RecoveryReport,
) -> Result<Index> {
    let (index, warnings) = Index::open(Arc::clone(&options.disk), index_options(options, looked))?;
    report.warnings.extend(warnings);
    // RocketMQ drops index files after a crash and does not make all of them again.
    if looked.index_unknown || (report.foreign && looked.aborted) {
        index.clear()?;
    }
    let synced = if report.foreign { u64::MAX } else { parts.watermark.get().index };
    index.cut(report.end.min(PhysicalOffset::new(synced)))?;
    index.drop_before(parts.log.start())?;
    report.index_from = index.end().max(parts.log.start());
    Ok(index)
}

/// Writes `abort`, as RocketMQ 5 does with the pid in it. Durable on return.
pub(super) fn write_abort(disk: &dyn Disk, folder: &Folder) -> Result<()> {
    // One that stands there stays until the new one takes its place, however full the disk is.
    let made = folder.own().join("abort.tmp");
    disk.write_new(&made, std::process::id().to_string().as_bytes())?;
    disk.rename(&made, &folder.root.join("abort"))?;
    disk.sync_dir(&folder.root)
}

/// Writes what a RocketMQ broker must be told into `broker.conf`, keeping every line that is there.
fn write_conf(options: &BrokerOptions, looked: &Looked) -> Result<()> {
    let path = looked.folder.root.join(conf::FILE);
    let disk = options.disk.as_ref();
    let before = disk.read(&path, 1 << 20)?;
    let mut conf = looked.conf.clone();
    if before.is_none() && options.conf.is_none() {
        conf.comment(
            "What an Apache RocketMQ broker must be told to open this folder. Kept up to date by pocketmq.",
        );
    }
    let root = absolute(&looked.folder.root);
    let mut set = |name: &str, value: String| conf.set(name, value);
    set("brokerName", options.name.to_string());
    set("storePathRootDir", root.display().to_string());
    if looked.folder.log != looked.folder.root.join("commitlog") {
        set("storePathCommitLog", absolute(&looked.folder.log).display().to_string());
    }
    set("mappedFileSizeCommitLog", looked.log_file_size.to_string());
    set("mappedFileSizeConsumeQueue", looked.queue_file_size.to_string());
    set("maxHashSlotNum", looked.geometry.slots.to_string());
    set("maxIndexNum", looked.geometry.entries.to_string());
    if let Some(levels) = &options.config.delay_levels {
        set("messageDelayLevel", levels.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let host = options.host();
    set("brokerIP1", host.ip().to_string());
    set("listenPort", host.port().to_string());
    let text = conf.to_string();
    if before.is_some_and(|before| before == text.as_bytes()) {
        return Ok(());
    }
    let made = looked.folder.own().join("broker.conf.tmp");
    disk.write_new(&made, text.as_bytes())?;
    disk.rename(&made, &path)?;
    disk.sync_dir(&looked.folder.root)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
