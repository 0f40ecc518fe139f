//! THE DOOR: the store, how it is opened, what can be asked of it, how it is closed.
//!
//! A store owns nothing but its cluster and the reports of its opening; producers and consumers share the cluster, and
//! the last handle that lets go of it closes everything.

mod builder;
mod dead_letters;
mod folders;
mod lookup;
#[cfg(test)]
mod tests;
mod trace;
mod verify;
mod view;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use builder::StoreBuilder;
use crossbeam_channel::{RecvTimeoutError, bounded};
pub use dead_letters::{DeadLetters, Redriven};
pub use lookup::KeyQuery;
pub use verify::{VerifyReport, verify};
pub use view::BrokerView;

use crate::admin::{Admin, SnapshotReport, take_snapshot};
use crate::broker::{Broker, BrokerOptions, Health, PositionKey, RecoveryReport, RetentionReport};
use crate::cluster::Cluster;
use crate::config::{Background, TopicConfig};
use crate::consumer::{ConsumerBuilder, PullConsumer};
use crate::error::{Error, Result};
use crate::lease::forget;
use crate::producer::{Producer, ProducerBuilder, TransactionProducer};
use crate::storage::Disk;
use crate::txn::TransactionListener;
use crate::types::{GroupName, MessageQueue, QueueOffset, TopicName};

/// What stands in place of the folder of a store in memory.
const MEMORY_NAME: &str = "memory";

/// A store of messages in a folder: the one object that owns everything.
///
/// A handle: cloning it is cheap, and clones can be used from any number of threads. Producers and consumers are
/// handles too and keep the store open. [`close`](Self::close) closes it for all of them; else the last handle does
/// when it is dropped, and has nobody to tell an error to.
///
/// ```
/// use pocketmq::{Message, Store};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?; // creates the store, or recovers it after a crash
/// let receipt = store.producer("shop")?.send(Message::new("orders", "hello").tag("created"))?;
/// println!("stored {} in {} at {}", receipt.message_id(), receipt.queue(), receipt.queue_offset());
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "MessageStore")]
#[doc(alias = "MQClientInstance")]
#[doc(alias = "BrokerController")]
#[doc(alias = "MQAdmin")]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    cluster: Arc<Cluster>,
    recovery: Vec<RecoveryReport>,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.cluster().brokers().iter().map(|broker| broker.name().as_str());
        formatter
            .debug_struct("Store")
            .field("dir", &self.inner.dir)
            .field("brokers", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a folder with the default settings, making it where it does not exist, and recovering it
    /// after a crash. See [`StoreBuilder::open`].
    ///
    /// # Errors
    ///
    /// Those of [`StoreBuilder::open`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// Opens the store in a folder to look at it, without writing a byte. See [`StoreBuilder::open_read_only`].
    ///
    /// # Errors
    ///
    /// Those of [`StoreBuilder::open_read_only`].
    pub fn open_read_only(dir: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(dir).open_read_only()
    }

    /// Opens a new, empty store in memory, with the default settings: nothing is on disk, and everything is gone with the
    /// last handle. See [`StoreBuilder::in_memory`].
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// let store = Store::in_memory()?;
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// assert_eq!(consumer.recv()?.body_str()?, "hello");
    /// # Ok::<(), pocketmq::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Io` where the system has no memory to map or no thread.
    pub fn in_memory() -> Result<Self> {
        Self::builder(MEMORY_NAME).in_memory().open()
    }

    /// Starts to say how the store in a folder is to be opened.
    pub fn builder(dir: impl Into<PathBuf>) -> StoreBuilder {
        StoreBuilder::new(dir.into())
    }

    pub(crate) fn open_with(builder: StoreBuilder, disk: Arc<dyn Disk>) -> Result<Self> {
        let all = folders::find(&builder, &disk)?;
        let brokers = open_all(all)?;
        let mut reports: Vec<_> = brokers.iter().map(|broker| broker.recovery().clone()).collect();
        reports.sort_by(|one, other| one.broker.cmp(&other.broker));
        let (opened, mut warnings) = (brokers.clone(), Vec::new());
        let cluster =
            Cluster::new(brokers, Arc::clone(&builder.config), Arc::clone(&builder.clock), &mut warnings)
                .inspect_err(|_| {
                    for broker in &opened {
                        // The first error is the one to tell.
                        let _ = broker.close();
                    }
                })?;
        for (report, warnings) in reports.iter_mut().zip(warnings) {
            report.warnings.extend(warnings);
        }
        let recovery = reports;
        Ok(Self { inner: Arc::new(Inner { dir: builder.dir, cluster, recovery }) })
    }

    fn cluster(&self) -> &Arc<Cluster> {
        &self.inner.cluster
    }

    /// Returns the folder, as it was given.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Makes a producer, a member of a producer group. Any number of producers may belong to one group.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name, and `Closed`.
    #[doc(alias = "DefaultMQProducer")]
    pub fn producer(&self, group: impl AsRef<str>) -> Result<Producer> {
        self.producer_builder(group).build()
    }

    /// Starts to say how a producer of a group sends: its retries, time, compression, limits and hooks. What
    /// [`producer`](Self::producer) makes has the defaults of all of them.
    pub fn producer_builder(&self, group: impl AsRef<str>) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(self.cluster()), group.as_ref())
    }

    /// Makes a producer of transactions, a member of a producer group: messages are delivered only if local work was done.
    /// `listener` is asked about transactions of the group whose decision never came, also those of an earlier process; a
    /// closure that takes a [`MessageView`](crate::MessageView) will do. See [`TransactionProducer`].
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name; `Unsupported` on a store that was opened read-only;
    /// `StoreFull`; `Io`; `Closed`.
    #[doc(alias = "TransactionMQProducer")]
    pub fn transaction_producer(
        &self,
        group: impl AsRef<str>,
        listener: impl TransactionListener + 'static,
    ) -> Result<TransactionProducer> {
        self.producer_builder(group).build_transactional(listener)
    }

    /// Starts to say what a consumer of a group wants. Any number of consumers may belong to a group: they divide the
    /// queues among them.
    #[doc(alias = "DefaultMQPushConsumer")]
    pub fn consumer(&self, group: impl AsRef<str>) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(self.cluster()), group.as_ref())
    }

    /// Makes a consumer that reads the queues which it is assigned, at its own pace, and keeps positions for a group. See
    /// [`PullConsumer`](crate::PullConsumer).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name, and `Closed`.
    #[doc(alias = "DefaultLitePullConsumer")]
    #[doc(alias = "DefaultMQPullConsumer")]
    pub fn pull_consumer(&self, group: impl AsRef<str>) -> Result<PullConsumer> {
        PullConsumer::assigned(self.cluster(), GroupName::new(group.as_ref())?)
    }

    /// Makes a topic on every broker of the store. Durable on return. If the topic exists just so already, it is made
    /// on the brokers that lack it, if any.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a name or a number of queues that is not allowed, for a topic that RocketMQ keeps for
    /// itself or for a group, and for one that exists otherwise; `Unsupported` on a store that was opened read-only;
    /// `Closed`; `StoreFull`; `Io`. After the last two some brokers may have the topic: call again.
    #[doc(alias = "createTopic")]
    pub fn create_topic(&self, name: impl AsRef<str>, config: TopicConfig) -> Result<()> {
        self.cluster().create_topic(&TopicName::new(name.as_ref())?, config)
    }

    /// Changes the queues and permissions of a topic on every broker. Durable on return.
    ///
    /// To have fewer queues, lower the number to write first, drain the queues, then lower the number to read. A
    /// change of the number of queues to write moves order keys to other queues.
    ///
    /// # Errors
    ///
    /// Those of [`create_topic`](Self::create_topic), and `TopicNotFound`.
    pub fn update_topic(&self, name: impl AsRef<str>, config: TopicConfig) -> Result<()> {
        self.cluster().update_topic(&TopicName::new(name.as_ref())?, config)
    }

    /// Deletes a topic with its messages and all positions in it. It stays deleted, whatever happens once this has
    /// returned; a topic that is made again under the name is empty.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a topic that RocketMQ keeps for itself; `Unsupported` on a store that
    /// was opened read-only; `Closed`; `StoreFull`; `Io`.
    pub fn delete_topic(&self, name: impl AsRef<str>) -> Result<()> {
        self.cluster().delete_topic(&TopicName::new(name.as_ref())?)
    }

    /// Returns the names of all topics, sorted, RocketMQ's own among them.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicName> {
        self.cluster().topic_names()
    }

    /// Returns the queues and permissions of a topic: those of the first broker that has it.
    #[must_use]
    pub fn topic(&self, name: impl AsRef<str>) -> Option<TopicConfig> {
        let found = self.cluster().brokers().iter().find_map(|broker| broker.topic(name.as_ref()));
        found.map(|topic| topic.config())
    }

    /// Returns the queues of a topic that can be read, over all brokers, sorted by broker and number.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`; `InvalidArgument` for a text that is no topic's name; `Closed`.
    #[doc(alias = "fetchSubscribeMessageQueues")]
    pub fn queues(&self, topic: impl AsRef<str>) -> Result<Vec<MessageQueue>> {
        let route = self.cluster().existing_route(topic.as_ref())?;
        Ok(route.read.iter().map(|entry| entry.queue().clone()).collect())
    }

    /// Returns how far a group has consumed a queue: the next offset that it will consume. `None` where it has
    /// committed nothing.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name or a broker that the store does not have; `Closed`.
    #[doc(alias = "fetchConsumeOffset")]
    pub fn committed(&self, group: impl AsRef<str>, queue: &MessageQueue) -> Result<Option<QueueOffset>> {
        let key = position_key(group.as_ref(), queue)?;
        let broker = self.cluster().broker_of(queue)?;
        Ok(broker.positions().get(&key).map(|position| position.get()))
    }

    /// Sets how far a group has consumed a queue, forwards or backwards. It survives the death of the process when
    /// this returns, and power loss within `offset_persist_interval`.
    ///
    /// A consumer of the group that is running goes on from where it is, and its next acknowledgement replaces this.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an offset beyond the end of the queue, a text that is no group's name, or a queue that
    /// cannot be read; `TopicNotFound`; `PermissionDenied`; `Unsupported` on a store that was opened read-only;
    /// `Closed`; `Io`.
    #[doc(alias = "updateConsumeOffset")]
    #[doc(alias = "resetOffset")]
    pub fn commit_offset(
        &self,
        group: impl AsRef<str>,
        queue: &MessageQueue,
        offset: QueueOffset,
    ) -> Result<()> {
        let key = position_key(group.as_ref(), queue)?;
        let route = self.cluster().existing_route(queue.topic().as_str())?;
        let broker = &route.read_queue(queue)?.broker;
        broker.check_writable()?;
        let (_, end) = broker.queue_range(queue.topic(), queue.queue_id()).unwrap_or_default();
        if offset > end {
            let reason = format!("{offset} lies beyond the end of {queue}, which is {end}");
            return Err(Error::argument("offset", reason));
        }
        let position = broker.positions().position(&key, offset)?;
        if offset < position.get() && !self.cluster().has_consumer(&key.group) {
            // What was acknowledged out of turn is to come again too.
            forget(broker, &key.group, &key.topic, key.queue_id)?;
        }
        broker.commit_position(&position, offset)
    }

    /// Returns what the opening found and did, one report a broker.
    #[must_use]
    pub fn recovery(&self) -> &[RecoveryReport] {
        &self.inner.recovery
    }

    /// Returns the brokers to look at, sorted by name.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerView> {
        self.cluster().brokers().iter().map(|broker| BrokerView::new(self.cluster(), broker)).collect()
    }

    /// Writes everything to disk now: messages, queues, index, positions, topics. Blocks for it. What was stored
    /// before the call survives power loss when it returns.
    ///
    /// # Errors
    ///
    /// `FlushFailed` where the log cannot be synced, now and until the store is opened again; `OffsetNotPersisted`;
    /// `Closed`; `StoreFull`; `Io`. Every broker is flushed, also after one has failed.
    pub fn flush(&self) -> Result<()> {
        self.for_all(Broker::flush)
    }

    /// Does the background work that is due: for a store that is driven by hand
    /// ([`Background::Manual`](crate::Background::Manual)). Harmless beside the threads. Push consumers have their
    /// handlers called, in this thread, for everything that is there. Of delayed messages that are due, each broker
    /// delivers at most 1,000 in one step: call it again for the others.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Self::flush), and `StoreFull` where no room can be had for the next messages: everything else
    /// that was due is done all the same.
    pub fn step(&self) -> Result<()> {
        let worked = self.cluster().check_open().and_then(|()| {
            let delivered = self.cluster().deliver_delayed();
            let checked = self.cluster().step_transactions();
            self.for_all(Broker::step).and(delivered).and(checked)
        });
        // Callbacks are owed also once the store is closed.
        self.cluster().step_handles();
        worked
    }

    /// Tells whether the last step left something undone that is due already.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_behind(&self) -> bool {
        self.cluster().is_behind()
    }

    /// Deletes now what may go by the store's [`Retention`](crate::Retention), and says what went and what was kept: one
    /// report a broker. It happens by itself every ten seconds; at most ten files of each broker's log go at a time.
    /// Blocks for the disk. What is gone is gone on disk when this returns.
    ///
    /// # Errors
    ///
    /// `Io` where a file cannot be deleted; `Corrupt`; `Unsupported` on a store that was opened read-only; `Closed`.
    #[doc(alias = "deleteExpiredCommitLog")]
    #[doc(alias = "cleanExpiredConsumeQueue")]
    pub fn retain(&self) -> Result<Vec<RetentionReport>> {
        self.cluster().check_open()?;
        self.cluster().brokers().iter().map(|broker| broker.retain()).collect()
    }

    fn for_all(&self, work: impl Fn(&Broker) -> Result<()>) -> Result<()> {
        self.cluster().check_open()?;
        let mut result = Ok(());
        for broker in self.cluster().brokers() {
            result = result.and(work(broker));
        }
        result
    }

    /// Copies the store into a folder that does not exist yet, while it is used: a backup, or the beginning of another
    /// store. Blocks until the copy is on disk; nobody else waits for it.
    ///
    /// The copy holds everything that was acknowledged before the call, and opens as a store that was closed cleanly:
    /// ours, or each broker's folder in it as an Apache RocketMQ broker's. Files that are full and never written again get
    /// a second name where the folder lies on the same disk, so that they take no room; the rest, and everything where it
    /// lies elsewhere, is copied. **Files of two names share their bytes**: against a broken disk, copy the folder to
    /// another one (`cp -a`, which keeps the time of `lock`).
    ///
    /// A crash or a full disk leaves a folder `DIR.unfinished` at most, which does not open, and which the next snapshot
    /// to the same place removes. With several brokers each is copied as it was at one moment of its own.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    /// let store = Store::open(data)?;
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// println!("{}", store.snapshot(&backup)?);
    /// assert_eq!(Store::open(backup)?.topics(), store.topics());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a folder that holds something, or lies in the store's; `Locked` while another snapshot is
    /// made there; `StoreFull` where the copy does not fit, or would take the room that the store keeps free;
    /// `FlushFailed`; `Closed`; `Corrupt` and `Io`. After an error there is no such folder.
    pub fn snapshot(&self, dir: impl AsRef<Path>) -> Result<SnapshotReport> {
        take_snapshot(self.cluster(), &self.inner.dir, dir.as_ref())
    }

    /// Returns what an operator needs: topics, groups, lag, browsing, positions moved by hand, statistics.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.cluster())
    }

    /// Says how well the store is: as well as its worst broker.
    #[must_use]
    pub fn health(&self) -> Health {
        self.cluster().health()
    }

    /// Closes the store for every handle: waits up to 10 s for handlers of push consumers that run, takes no more
    /// messages, writes everything to disk, and lets go of the
    /// folder. Blocks for it. Every later call of any handle is [`Error::Closed`]; closing again does nothing.
    /// Messages that were read stay readable.
    ///
    /// # Errors
    ///
    /// What could not be written, `FlushFailed`, `StoreFull` or `Io`. The store is closed all the same; the next
    /// opening looks at everything and mends it.
    #[doc(alias = "shutdown")]
    pub fn close(&self) -> Result<()> {
        self.cluster().close()
    }

    /// Stops as the death of the process would.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn kill(&self) {
        self.cluster().kill();
    }

    /// Closes the store as [`close`](Self::close) does, and waits for that at most so long.
    ///
    /// # Errors
    ///
    /// `Timeout` where it takes longer: it goes on by itself. Else those of [`close`](Self::close).
    pub fn close_timeout(&self, timeout: Duration) -> Result<()> {
        if self.cluster().config().background == Background::Manual {
            return self.close();
        }
        let (sender, closed) = bounded(1);
        let cluster = Arc::clone(self.cluster());
        let thread = std::thread::Builder::new().name("pocketmq-close".to_owned());
        let started = thread.spawn(move || {
            // Nobody listens any more where the time was up.
            let _ = sender.send(cluster.close());
        });
        started.map_err(|error| Error::io("start a thread to close", &self.inner.dir, error))?;
        match closed.recv_timeout(timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Error::Timeout),
        }
    }
}

/// Opens all brokers, or none: those that were opened before one that cannot be are closed again.
fn open_all(all: Vec<BrokerOptions>) -> Result<Vec<Arc<Broker>>> {
    let mut open: Vec<Arc<Broker>> = Vec::with_capacity(all.len());
    for options in all {
        match Broker::open(options) {
            Ok(broker) => open.push(broker),
            Err(error) => {
                for broker in open {
                    // The first error is the one to tell.
                    let _ = broker.close();
                }
                return Err(error);
            }
        }
    }
    Ok(open)
}

fn position_key(group: &str, queue: &MessageQueue) -> Result<PositionKey> {
    let (topic, queue_id) = (queue.topic().clone(), queue.queue_id());
    Ok(PositionKey { topic, group: GroupName::new(group)?, queue_id })
}
