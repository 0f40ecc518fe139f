//! ONE SHARD: log, queues and index of one broker folder, kept consistent with each other.
//!
//! This is the only place where the three meet. A broker puts messages (`put`), lets queues and index learn of them
//! (`dispatch`), finds them again (`read`), gets everything to disk in time (`background`), and makes a folder whole
//! that was left in any state (`open`, `scan`, `rebuild`).

mod background;
mod checkpoint;
mod checksums;
mod close;
mod conf;
mod delayed;
mod deleted;
mod deletions;
mod dispatch;
mod folder;
mod halves;
mod joined;
mod key_run;
mod limits;
mod minimums;
mod needed;
mod open;
mod operate;
mod owner;
mod positions;
mod positions_json;
mod put;
mod queue_ends;
mod read;
mod rebuild;
mod report;
mod retention;
mod scan;
mod snapshot;
#[cfg(test)]
mod tests;
mod timed;
mod told;
mod topics;
mod trusted_time;
mod verify;
mod waiting;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use background::Workers;
use checkpoint::{Checkpoint, Watermark};
use checksums::Checksums;
pub(crate) use conf::{BrokerConf, FILE as CONF_FILE, default_host};
pub(crate) use delayed::Later;
use deleted::Deleted;
pub use deletions::{Deletions, RetentionReport, Unread};
use dispatch::Indexer;
use folder::Folder;
pub(crate) use halves::{Committed, target_of};
use joined::Joined;
pub(crate) use joined::JoinedAck;
use limits::Limiter;
use minimums::Minimums;
use owner::Owner;
pub(crate) use positions::{Position, PositionKey, Positions};
use put::PutState;
pub(crate) use put::{PutMessage, Stored, WaitForFlush};
use queue_ends::QueueEnds;
pub(crate) use read::PullRequest;
pub use read::{PullResult, PullStatus};
pub use report::{LastStop, LostRange, RecoveryProgress, RecoveryReport};
use retention::RetentionState;
pub use snapshot::BrokerSnapshot;
pub(crate) use snapshot::{SnapshotPlace, UNFINISHED, check_finished};
use timed::TimerAlarm;
pub(crate) use timed::{Timed, wheel_second};
use told::FlushCalls;
use topics::TopicTable;
pub(crate) use topics::{QueueSlot, TopicOfBroker};
pub use verify::VerifiedBroker;

use crate::clock::Clock;
use crate::commitlog::{Appender, CommitLog, Cursor, GroupCommit};
use crate::config::{DelayLevels, RecordChecksum, StoreConfig, TopicConfig};
use crate::consumequeue::ConsumeQueues;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::message::draft::Coverage;
use crate::storage::{Disk, FileLock};
use crate::sync::{Arrivals, AtomicBool, AtomicI64, AtomicU64, Mutex, Ordering};
use crate::types::{BrokerName, PhysicalOffset, QueueOffset, TopicName};

/// Told how far a long recovery has come.
pub(crate) type ProgressHook = Arc<dyn Fn(&RecoveryProgress) + Send + Sync>;

/// What a broker is opened with.
#[derive(Clone)]
pub(crate) struct BrokerOptions {
    /// The broker's folder.
    pub(crate) dir: PathBuf,
    /// The folder of the commit log, if it lies elsewhere.
    pub(crate) log_dir: Option<PathBuf>,
    /// The broker's name.
    pub(crate) name: BrokerName,
    /// The number of the shard in its store, from which a new one gets its port.
    pub(crate) shard: u16,
    /// Settings of a broker that wrote the folder, if they do not lie in it.
    pub(crate) conf: Option<BrokerConf>,
    /// The settings of the store.
    pub(crate) config: Arc<StoreConfig>,
    /// The disk.
    pub(crate) disk: Arc<dyn Disk>,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Who wants to know how far a long recovery has come.
    pub(crate) progress: Option<ProgressHook>,
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BrokerOptions")
            .field("dir", &self.dir)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl BrokerOptions {
    /// Returns the store host: the one that the folder states, else the one of the shard's number.
    fn host(&self) -> SocketAddr {
        let stated = match &self.conf {
            Some(conf) => conf.host(),
            None => BrokerConf::load(self.disk.as_ref(), &self.dir.join(conf::FILE))
                .and_then(|found| found.as_ref().map_or(Ok(None), BrokerConf::host)),
        };
        stated.ok().flatten().unwrap_or_else(|| conf::default_host(self.shard))
    }
}

/// How well a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Everything works.
    Ok,
    /// Messages are safe and sends go on, but something that is made from the log lags behind.
    Degraded(Vec<String>),
    /// A sync of the log failed: no message is taken until the store is opened again.
    Failed {
        /// Everything before this physical offset is safe.
        durable_offset: u64,
    },
    /// The store is closed.
    Closed,
}

/// The parts of a broker before it is decided what they hold.
#[derive(Debug)]
pub(crate) struct Parts {
    lock: Box<dyn FileLock>,
    owner: Owner,
    log: CommitLog,
    queues: ConsumeQueues,
    topics: TopicTable,
    watermark: Watermark,
    checksums: Checksums,
    deleted: Deleted,
    minimums: Minimums,
    ends: QueueEnds,
    delay_levels: DelayLevels,
    timer_log_size: u64,
}

/// What recovery adds to the parts.
#[derive(Debug)]
pub(crate) struct Settled {
    appender: Appender,
    index: Index,
    positions: Positions,
    checkpoint: Checkpoint,
    report: RecoveryReport,
    verified_from: PhysicalOffset,
}

/// One shard of a store.
#[derive(Debug)]
pub(crate) struct Broker {
    name: BrokerName,
    host: SocketAddr,
    folder: Folder,
    config: Arc<StoreConfig>,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    /// Whether nothing leaves the disk, so that the store is only read.
    is_private: bool,
    lock: Mutex<Option<Box<dyn FileLock>>>,
    owner: Owner,
    log: CommitLog,
    queues: ConsumeQueues,
    index: Index,
    topics: TopicTable,
    positions: Positions,
    joined: Joined,
    watermark: Watermark,
    checkpoint: Checkpoint,
    checksums: Mutex<Checksums>,
    deleted: Deleted,
    minimums: Minimums,
    retention: RetentionState,
    delay_levels: DelayLevels,
    /// Told when a message is delayed.
    delayed: Mutex<Option<Arc<Arrivals>>>,
    /// How far each delay level has been delivered, level 1 first; nothing until somebody has looked.
    levels_delivered: Mutex<Vec<QueueOffset>>,
    timer_alarm: TimerAlarm,
    /// The bytes of a file of the timer log.
    timer_log_size: u64,
    limiter: Option<Limiter>,
    report: RecoveryReport,
    /// Records from here on were verified at opening, or written since.
    verified_from: PhysicalOffset,
    put_state: Mutex<PutState>,
    dispatch_cursor: Mutex<Cursor>,
    /// Queue units of every record before this are written.
    dispatched: AtomicU64,
    indexer: Mutex<Indexer>,
    index_failed: AtomicBool,
    /// That a flush has failed was told.
    flush_failed: AtomicBool,
    group_commit: GroupCommit,
    /// Asynchronous senders that wait for a flush.
    flush_calls: FlushCalls,
    /// The disk was close to full when somebody last looked.
    full: AtomicBool,
    closed: AtomicBool,
    /// Whether a close is to leave `abort`, because somebody above could not write what belongs to a clean stop.
    unclean: AtomicBool,
    /// Places of queues whose messages cannot be read, so that nobody looks for them in the log again.
    gone: Mutex<HashSet<(TopicName, u32, QueueOffset)>>,
    /// Names the parts that lag behind, for [`Health`].
    troubles: Mutex<Vec<String>>,
    workers: Workers,
    /// Held by whoever removes files or topics, and by a snapshot, of which nothing may be removed meanwhile. Taken before
    /// `writing`.
    removing: Mutex<()>,
    /// Held by whoever writes settings or marks: one after the other, and nobody once the store is closed.
    writing: Mutex<()>,
    /// When the checkpoint was last written, in milliseconds of the monotonic clock.
    persisted_at: AtomicI64,
}

impl Broker {
    /// Puts the parts together.
    fn assemble(options: &BrokerOptions, folder: Folder, parts: Parts, settled: Settled) -> Self {
        let end = settled.report.end;
        Self {
            name: options.name.clone(),
            host: options.host(),
            folder,
            config: Arc::clone(&options.config),
            clock: Arc::clone(&options.clock),
            disk: Arc::clone(&options.disk),
            is_private: options.disk.is_private(),
            lock: Mutex::new(Some(parts.lock)),
            owner: parts.owner,
            log: parts.log,
            queues: parts.queues,
            index: settled.index,
            topics: parts.topics,
            positions: settled.positions,
            joined: Joined::default(),
            watermark: parts.watermark,
            checkpoint: settled.checkpoint,
            checksums: Mutex::new(parts.checksums),
            deleted: parts.deleted,
            minimums: parts.minimums,
            retention: RetentionState::new(options.clock.as_ref()),
            delay_levels: parts.delay_levels,
            delayed: Mutex::default(),
            levels_delivered: Mutex::default(),
            timer_alarm: TimerAlarm::default(),
            timer_log_size: parts.timer_log_size,
            limiter: Limiter::new(&options.config),
            report: settled.report,
            verified_from: settled.verified_from,
            put_state: Mutex::new(PutState::new(settled.appender)),
            dispatch_cursor: Mutex::new(Cursor::new(end)),
            dispatched: AtomicU64::new(end.get()),
            indexer: Mutex::new(Indexer::new(end)),
            index_failed: AtomicBool::new(false),
            flush_failed: AtomicBool::new(false),
            group_commit: GroupCommit::default(),
            flush_calls: FlushCalls::default(),
            full: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            unclean: AtomicBool::new(false),
            gone: Mutex::default(),
            troubles: Mutex::default(),
            workers: Workers::default(),
            removing: Mutex::new(()),
            writing: Mutex::new(()),
            persisted_at: AtomicI64::new(0),
        }
    }

    /// Writes the first checkpoint, says that the folder is ours, and starts the threads.
    fn start(mut self, options: &BrokerOptions, started: Duration) -> Result<Arc<Self>> {
        self.checkpoint_now(true)?;
        self.owner.claim()?;
        self.continue_joined()?;
        if self.limiter.is_some() {
            self.positions.watch();
        }
        self.report.took = options.clock.monotonic().saturating_sub(started);
        let broker = Arc::new(self);
        broker.report.tell();
        Workers::start(&broker)?;
        Ok(broker)
    }

    /// Returns the name.
    pub(crate) const fn name(&self) -> &BrokerName {
        &self.name
    }

    /// Returns the folder.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.folder.root
    }

    /// Returns the address that stands in records as the store host.
    pub(crate) const fn host(&self) -> SocketAddr {
        self.host
    }

    /// Returns the disk.
    pub(crate) const fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Returns the folder of the log.
    pub(crate) fn log_dir(&self) -> &std::path::Path {
        &self.folder.log
    }

    /// Returns what the opening found and did.
    pub(crate) const fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Returns the committed positions.
    pub(crate) const fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Returns a topic.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<TopicOfBroker>> {
        self.topics.get(name)
    }

    /// Returns all topics, by name.
    pub(crate) fn topics(&self) -> Vec<Arc<TopicOfBroker>> {
        self.topics.all()
    }

    /// Returns every queue that exists, with its first offset and its end.
    pub(crate) fn queue_list(&self) -> Vec<(TopicName, u32)> {
        let mut list: Vec<_> =
            self.queues.all().iter().map(|queue| (queue.topic().clone(), queue.queue_id())).collect();
        list.sort();
        list
    }

    /// Adds or changes a topic. Durable on return.
    pub(crate) fn set_topic(&self, name: &TopicName, config: TopicConfig) -> Result<Arc<TopicOfBroker>> {
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        let topic = self.topics.set(name, config);
        self.topics.save()?;
        Ok(topic)
    }

    /// Adds a topic in memory; the next persist makes it durable, and the log shows it to recovery until then (D18).
    pub(crate) fn add_topic(&self, name: &TopicName, config: TopicConfig) -> Result<Arc<TopicOfBroker>> {
        if self.config.flush == crate::config::FlushPolicy::Sync {
            return self.set_topic(name, config);
        }
        self.check_writable()?;
        Ok(self.topics.set(name, config))
    }

    /// Says how well the broker is.
    pub(crate) fn health(&self) -> Health {
        if let Some(durable_offset) = self.log.failed() {
            return Health::Failed { durable_offset };
        }
        if self.closed.load(Ordering::Acquire) {
            return Health::Closed;
        }
        let mut troubles = self.troubles.lock().clone();
        troubles.extend(self.retention.trouble());
        if self.index_is_behind() {
            troubles.push("index: lookups by key read the log instead".to_owned());
        }
        if troubles.is_empty() { Health::Ok } else { Health::Degraded(troubles) }
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Refuses changes where the store is closed or was opened to be read only.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.is_private {
            return Err(Error::unsupported(
                "the store was opened read-only: open it with Store::open to change it",
            ));
        }
        self.check_open()
    }

    fn coverage(&self) -> Coverage {
        match self.config.checksum {
            RecordChecksum::WholeRecord => Coverage::WholeRecord,
            RecordChecksum::BodyOnly => Coverage::BodyOnly,
        }
    }
}
