//! What can be set before a store is opened?

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Store;
use crate::broker::{ProgressHook, RecoveryProgress};
use crate::clock::{Clock, SystemClock};
use crate::config::{
    AutoCreate, Background, FileSizes, FlushPolicy, Limits, OnMissingOffsets, RecordChecksum, RecoveryMode,
    Retention, RocketmqVersion, StoreConfig, TransactionPolicy,
};
use crate::error::{Error, Result};
use crate::storage::{MemoryDisk, PrivateDisk, RealDisk};

/// Bytes that a store in memory needs besides one log file.
const MEMORY_MIN: u64 = 1 << 20;

/// The settings of a store that is to be opened: [`Store::builder`] makes one.
///
/// Setters take any value; [`open`](Self::open) checks them all and names the one that is wrong.
#[derive(Clone)]
#[must_use = "a builder does nothing until it is opened"]
pub struct StoreBuilder {
    pub(super) dir: PathBuf,
    pub(super) brokers: Vec<String>,
    pub(super) log_dir: Option<PathBuf>,
    pub(super) conf: Option<PathBuf>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) progress: Option<ProgressHook>,
    /// The bytes that a store in memory may have; `None` for one on disk.
    pub(super) memory_max: Option<u64>,
    pub(super) config: Arc<StoreConfig>,
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StoreBuilder")
            .field("dir", &self.dir)
            .field("brokers", &self.brokers)
            .field("log_dir", &self.log_dir)
            .field("conf", &self.conf)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl StoreBuilder {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            brokers: Vec::new(),
            log_dir: None,
            conf: None,
            clock: Arc::new(SystemClock),
            progress: None,
            memory_max: None,
            config: Arc::default(),
        }
    }

    /// Sets the names of the brokers, each a shard with a folder of its own. Default: those that the folder has, or
    /// `broker-a` in a new store. Names that are new are added; one that exists must not be left out. More brokers
    /// spread the load over more logs, which pays when they lie on several disks.
    pub fn brokers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.brokers = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets when a message counts as stored durably. Default: [`FlushPolicy::Async`].
    #[doc(alias = "flushDiskType")]
    pub fn flush(mut self, policy: FlushPolicy) -> Self {
        Arc::make_mut(&mut self.config).flush = policy;
        self
    }

    /// Sets the longest time that a message stays unflushed under async flush. Default 500 ms; 1 ms to 1 h. A shorter
    /// one loses less at a power loss and costs more disk traffic.
    #[doc(alias = "flushIntervalCommitLog")]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        Arc::make_mut(&mut self.config).flush_interval = interval;
        self
    }

    /// Sets how long a send waits under sync flush for a flush that another sender runs, before it returns
    /// `FlushDiskTimeout`. Default 5 s; 1 ms to 1 h. The sender that runs the flush itself, a lone one always, waits
    /// until the disk answers: a sync cannot be called off. (RocketMQ's sender waits for a flush thread.)
    #[doc(alias = "syncFlushTimeout")]
    pub fn sync_flush_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).sync_flush_timeout = timeout;
        self
    }

    /// Sets how often committed positions and the checkpoint are written to disk. Default 5 s; 1 ms to 1 h. The death
    /// of the process loses no position in any case; a power loss loses those of this long.
    #[doc(alias = "flushConsumerOffsetInterval")]
    pub fn offset_persist_interval(mut self, interval: Duration) -> Self {
        Arc::make_mut(&mut self.config).persist_interval = interval;
        self
    }

    /// Sets the file sizes of new broker folders. Default: [`FileSizes::default`]. A folder that exists keeps its own.
    #[doc(alias = "mappedFileSizeCommitLog")]
    pub fn file_sizes(mut self, sizes: FileSizes) -> Self {
        Arc::make_mut(&mut self.config).sizes = sizes;
        self
    }

    /// Sets what an opening does about damage in the flushed part of the log. Default: [`RecoveryMode::Strict`].
    pub fn recovery(mut self, mode: RecoveryMode) -> Self {
        Arc::make_mut(&mut self.config).recovery = mode;
        self
    }

    /// Sets what an opening does when committed positions cannot be read. Default: [`OnMissingOffsets::Refuse`].
    pub fn on_missing_offsets(mut self, choice: OnMissingOffsets) -> Self {
        Arc::make_mut(&mut self.config).on_missing_offsets = choice;
        self
    }

    /// Sets whether sending makes a topic. Default: [`AutoCreate::Queues`]`(4)`.
    #[doc(alias = "autoCreateTopicEnable")]
    #[doc(alias = "defaultTopicQueueNums")]
    pub fn auto_create_topics(mut self, choice: AutoCreate) -> Self {
        Arc::make_mut(&mut self.config).auto_create = choice;
        self
    }

    /// Sets the largest body, in bytes. Default 4 MiB; 1 byte to 1 GiB. A message must fit a log file as well.
    #[doc(alias = "maxMessageSize")]
    pub fn max_message_size(mut self, bytes: u32) -> Self {
        Arc::make_mut(&mut self.config).message_size_max = bytes;
        self
    }

    /// Sets what the checksum of a record covers. Default: [`RecordChecksum::WholeRecord`].
    #[doc(alias = "enabledAppendPropCRC")]
    pub fn record_checksum(mut self, covers: RecordChecksum) -> Self {
        Arc::make_mut(&mut self.config).checksum = covers;
        self
    }

    /// Sets how many bytes must stay free on the disk: below that, sends are refused. Default: two log files.
    #[doc(alias = "diskMaxUsedSpaceRatio")]
    pub fn free_space_min(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.config).free_space_min = Some(bytes);
        self
    }

    /// Sets when old data goes. Default: [`Retention::new`], which keeps 72 hours and what is not consumed.
    #[doc(alias = "fileReservedTime")]
    pub fn retention(mut self, retention: Retention) -> Self {
        Arc::make_mut(&mut self.config).retention = retention;
        self
    }

    /// Sets how much may wait in the store, in topics and in queues. Default: no limit but the disk.
    pub fn limits(mut self, limits: Limits) -> Self {
        Arc::make_mut(&mut self.config).limits = limits;
        self
    }

    /// Sets how many 64 KiB windows of queue files may be mapped at once. Default 4,096; at least 16.
    pub fn queue_maps_max(mut self, count: usize) -> Self {
        Arc::make_mut(&mut self.config).queue_maps_max = count;
        self
    }

    /// Sets the delays of the delay levels, from level 1 on, as RocketMQ's `messageDelayLevel` states them: numbers with
    /// one of the units `s`, `m`, `h` and `d`, separated by blanks, at most 18. Default: what `broker.conf` in the folder
    /// says, else RocketMQ's `1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h`. It is written into
    /// `broker.conf`. Messages that wait already keep the time at which they are due; a level in which some wait cannot
    /// be left out.
    #[doc(alias = "messageDelayLevel")]
    pub fn delay_levels(mut self, levels: &str) -> Self {
        Arc::make_mut(&mut self.config).delay_levels = Some(levels.into());
        self
    }

    /// Sets which version of RocketMQ must be able to take the store over. Default: [`RocketmqVersion::V5`]. Choose
    /// [`RocketmqVersion::V4_9`] where a broker of version 4.9 may have to: a send that would store what it cannot read is
    /// then `Unsupported`. What is in the folder already is read and carried on whatever this says.
    pub fn rocketmq_version(mut self, version: RocketmqVersion) -> Self {
        Arc::make_mut(&mut self.config).version = version;
        self
    }

    /// Sets when producers are asked what became of their transactions. Default: [`TransactionPolicy::new`].
    #[doc(alias = "transactionTimeOut")]
    #[doc(alias = "transactionCheckMax")]
    pub fn transactions(mut self, policy: TransactionPolicy) -> Self {
        Arc::make_mut(&mut self.config).transactions = policy;
        self
    }

    /// Sets how far ahead a message may be delivered that has a time of its own; a send beyond that is refused. Default 36,500
    /// days, and at most; at least 1 ms. RocketMQ's brokers allow 3 days unless told otherwise, and deliver all the same
    /// what is due later.
    #[doc(alias = "timerMaxDelaySec")]
    pub fn timer_delay_max(mut self, time: Duration) -> Self {
        Arc::make_mut(&mut self.config).timer_delay_max = time;
        self
    }

    /// Puts the commit log into a folder of its own, on another disk perhaps. Where the store's folder is one
    /// broker's, this is its log folder; else each broker gets `<dir>/<broker>/commitlog`. Default: `commitlog` in the
    /// broker's folder. It is written into `broker.conf`, so a later opening finds it.
    #[doc(alias = "storePathCommitLog")]
    pub fn commit_log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.log_dir = Some(dir.into());
        self
    }

    /// Sets who drives the background work. Default: [`Background::Threads`]. Drive it by hand in tests.
    pub fn background(mut self, choice: Background) -> Self {
        Arc::make_mut(&mut self.config).background = choice;
        self
    }

    /// Sets the clock. Default: that of the machine. Inject a [`ManualClock`](crate::ManualClock) in tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets who is told how far a long recovery has come. It is called in the thread that opens the store.
    pub fn on_recovery_progress(mut self, told: impl Fn(&RecoveryProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(told));
        self
    }

    /// Names the `broker.conf` of the broker that wrote the folder, where it does not lie in it. It says what cannot
    /// be told from the files: the geometry of the index, and the broker's name and address. Only for the folder of
    /// one broker.
    pub fn broker_conf(mut self, path: impl Into<PathBuf>) -> Self {
        self.conf = Some(path.into());
        self
    }

    /// Keeps everything in memory and nothing on disk: for tests, and for work that ends with the process. The folder is
    /// then a name that stands in errors and nothing else; every opening is a new, empty store, which is gone with its
    /// last handle. Everything else is as on disk, but *flushed* means *stored*. Default: on disk.
    ///
    /// Messages take memory until retention or a limit removes them. See [`memory_max`](Self::memory_max).
    pub fn in_memory(mut self) -> Self {
        self.memory_max = self.memory_max.or(Some(u64::MAX));
        self
    }

    /// Keeps everything in memory, as [`in_memory`](Self::in_memory) does, and at most so many bytes of it: beyond that,
    /// sends are `StoreFull` as on a full disk. At least one commit log file and 1 MiB; choose small
    /// [`file_sizes`](Self::file_sizes) with a small limit, as memory comes back in whole log files. Default: no limit.
    pub const fn memory_max(mut self, bytes: u64) -> Self {
        self.memory_max = Some(bytes);
        self
    }

    /// Opens the store, making it where it does not exist, and recovering it after a crash. Blocks until the store is
    /// whole: what was stored since the last flush is read, checked and synced.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` names the setting that is wrong, `ConfigMismatch` the one that contradicts the folder;
    /// `Locked` if somebody has it open; `Corrupt` for damage that the [`RecoveryMode`] does not accept, and
    /// `OffsetsUnreadable`; `Unsupported` for a feature of RocketMQ's that cannot be carried; `StoreFull`; `Io`. If one
    /// broker cannot be opened, those that were are closed again.
    pub fn open(mut self) -> Result<Store> {
        let Some(bytes) = self.memory_max else { return Store::open_with(self, Arc::new(RealDisk)) };
        let disk = Arc::new(self.memory(bytes)?);
        // Nobody else uses up this disk: nothing needs to be kept back.
        Arc::make_mut(&mut self.config).free_space_min.get_or_insert(0);
        Store::open_with(self, disk)
    }

    /// Opens a store to look at it, without writing a byte or leaving a lock: what an opening would mend is mended
    /// in memory, and shown mended. Whatever would change the store is `Unsupported`. The store should not be in use
    /// by anybody else.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open); `InvalidConfig` where the folder holds no store.
    pub fn open_read_only(self) -> Result<Store> {
        if self.memory_max.is_some() {
            return Err(Error::config("in_memory", "there is nothing to look at in a store that is new"));
        }
        Store::open_with(self, Arc::new(PrivateDisk::new()))
    }

    fn memory(&self, bytes: u64) -> Result<MemoryDisk> {
        if self.log_dir.is_some() || self.conf.is_some() {
            let field = if self.log_dir.is_some() { "commit_log_dir" } else { "broker_conf" };
            return Err(Error::config(field, "a store in memory has no files: leave it out"));
        }
        let bytes_min = self.config.sizes.commit_log.saturating_add(MEMORY_MIN);
        if bytes < bytes_min {
            let reason =
                format!("{bytes} bytes: at least {bytes_min} are needed for one log file and the rest");
            return Err(Error::config("memory_max", reason));
        }
        Ok(MemoryDisk::new(bytes))
    }
}
