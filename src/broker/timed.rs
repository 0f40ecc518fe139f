//! How does a message get into the log that is to be delivered at a time of its own?
//!
//! The rewrite is RocketMQ 5's: the message goes to `rmq_sys_wheel_timer`, says in `REAL_TOPIC` and `REAL_QID` where it
//! belongs, in `TIMER_DELIVER_MS` when it is due and in `TIMER_OUT_MS` in which second of the wheel that lies. What
//! becomes due is put again by `src/delay/timer/`, which finds here what it needs.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Broker, PutMessage, Stored, TopicOfBroker, WaitForFlush};
use crate::config::{FlushPolicy, TopicConfig};
use crate::error::{Error, Result};
use crate::message::Properties;
use crate::message::properties::{PROPERTIES_LEN_MAX, append, append_without, name};
use crate::sync::{Arrivals, AtomicI64, AtomicU64, Mutex, Ordering, fence};
use crate::types::{PhysicalOffset, QueueOffset, TIMER_TOPIC, TopicName};

/// Bytes of properties that a delivery adds, and each turn of the wheel.
const DELIVERY_ROOM: usize = 128;

/// How a message is put that is to be delivered at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    /// When it is due, in milliseconds since 1970.
    pub(crate) due_millis: i64,
    /// Whether to wait for the flush under sync flush.
    pub(crate) wait: WaitForFlush,
}

/// Returns the second of the wheel that a due time lies in: it covers what is due after its start, up to its end. So a
/// time that is a whole second lies in the one before, as in RocketMQ.
pub(crate) const fn wheel_second(due_millis: i64) -> i64 {
    due_millis.saturating_sub(1).div_euclid(1_000)
}

/// What the deliverer of the timers tells its broker.
#[derive(Debug)]
pub(super) struct TimerAlarm {
    /// Told when a message may be due before the deliverer looks again.
    arrivals: Mutex<Option<Arc<Arrivals>>>,
    /// When the deliverer looks again at the latest; the lowest number while it does not sleep.
    wakes_millis: AtomicI64,
    /// The first place of the timers' queue that is still needed.
    needed: AtomicU64,
    /// Messages that wait in the wheel.
    pending: AtomicU64,
    /// The first place of the timers' queue that is not in the wheel yet.
    seen: AtomicU64,
}

impl Default for TimerAlarm {
    fn default() -> Self {
        Self {
            arrivals: Mutex::default(),
            wakes_millis: AtomicI64::new(i64::MIN),
            needed: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }
}

impl Broker {
    /// Stores a message that becomes visible in its topic and queue at its time. Blocks as [`put`](Self::put) does.
    ///
    /// # Errors
    ///
    /// Those of `put`; `InvalidArgument` where the properties leave no room for those of the timer; `Unsupported` where
    /// RocketMQ 4.9 is to read the store.
    pub(crate) fn put_timed(
        &self,
        topic: &TopicOfBroker,
        queue_id: u32,
        message: &PutMessage<'_>,
        timed: Timed,
    ) -> Result<Stored> {
        self.config.check_timers()?;
        if topic.is_deleted() {
            return Err(Error::TopicNotFound(topic.name().as_str().into()));
        }
        self.keep_topics()?;
        let timers = self.timer_topic()?;
        let mut properties = Vec::with_capacity(message.properties.len() + 160 + topic.name().as_str().len());
        let replaced =
            [name::REAL_TOPIC, name::REAL_QUEUE_ID, name::CRC32, name::TIMER_DELIVER_MS, name::TIMER_OUT_MS];
        append_without(&mut properties, Properties::new(message.properties), &replaced);
        append(&mut properties, name::TIMER_DELIVER_MS, &timed.due_millis.to_string());
        let out_millis = wheel_second(timed.due_millis).saturating_mul(1_000);
        append(&mut properties, name::TIMER_OUT_MS, &out_millis.to_string());
        append(&mut properties, name::REAL_TOPIC, topic.name().as_str());
        append(&mut properties, name::REAL_QUEUE_ID, &queue_id.to_string());
        if properties.len().saturating_add(DELIVERY_ROOM) > PROPERTIES_LEN_MAX {
            let reason = "leave no room for those of a timer: 300 bytes besides the topic's name are enough";
            return Err(Error::argument("properties", reason));
        }
        let timer = PutMessage { properties: &properties, ..*message };
        let stored = self.put(&timers, 0, &timer, timed.wait)?;
        self.tell_of_timer(timed.due_millis);
        Ok(stored)
    }

    fn timer_topic(&self) -> Result<Arc<TopicOfBroker>> {
        if let Some(known) = self.topics.get(TIMER_TOPIC) {
            return Ok(known);
        }
        let topic = self.add_topic(&TopicName::new(TIMER_TOPIC)?, TopicConfig::queues(1))?;
        self.share_timer_arrivals(&topic);
        Ok(topic)
    }

    /// Under sync flush a message is visible only behind the flush, and whoever flushes tells.
    fn share_timer_arrivals(&self, topic: &TopicOfBroker) {
        if self.config.flush == FlushPolicy::Sync
            && let Some(arrivals) = &*self.timer_alarm.arrivals.lock()
        {
            topic.share_arrivals(arrivals);
        }
    }

    /// Says who is told when a timer may be due earlier than anybody looks.
    pub(crate) fn tell_of_timers(&self, arrivals: &Arc<Arrivals>) {
        *self.timer_alarm.arrivals.lock() = Some(Arc::clone(arrivals));
        if let Some(topic) = self.topics.get(TIMER_TOPIC) {
            self.share_timer_arrivals(&topic);
        }
    }

    /// Wakes the deliverer if it would sleep past this time. Most timers wake nobody.
    fn tell_of_timer(&self, due_millis: i64) {
        // Ordering: the message is published, then this fence, then the look at when the deliverer wakes. That says
        // when it wakes, has its own fence, and then looks for messages: one of the two sees the other.
        fence(Ordering::SeqCst);
        if due_millis < self.timer_alarm.wakes_millis.load(Ordering::Relaxed)
            && let Some(arrivals) = &*self.timer_alarm.arrivals.lock()
        {
            arrivals.notify();
        }
    }

    /// Says when the deliverer looks for timers again at the latest. Look once more after this, before sleeping.
    pub(crate) fn timers_wake_at(&self, millis: i64) {
        self.timer_alarm.wakes_millis.store(millis, Ordering::Relaxed);
        // Ordering: partner of the fence in `tell_of_timer`.
        fence(Ordering::SeqCst);
    }

    /// Says from which place of the timers' queue on messages are needed, which is the first that is not in the wheel, and
    /// how many wait there.
    pub(crate) fn set_timers(&self, needed: QueueOffset, seen: QueueOffset, pending: u64) {
        self.timer_alarm.needed.store(needed.get(), Ordering::Relaxed);
        self.timer_alarm.seen.store(seen.get(), Ordering::Relaxed);
        self.timer_alarm.pending.store(pending, Ordering::Relaxed);
    }

    /// Returns the first place of the timers' queue that is needed.
    pub(super) fn timers_needed(&self) -> QueueOffset {
        QueueOffset::new(self.timer_alarm.needed.load(Ordering::Relaxed))
    }

    /// Returns how many messages wait for a time of their own.
    pub(crate) fn pending_timers(&self) -> u64 {
        let queue = || self.queues.get(&TopicName::new(TIMER_TOPIC).ok()?, 0);
        let end = queue().map_or(0, |queue| queue.max_offset().get());
        let TimerAlarm { pending, seen, .. } = &self.timer_alarm;
        pending.load(Ordering::Relaxed).saturating_add(end.saturating_sub(seen.load(Ordering::Relaxed)))
    }

    /// Flushes the log, so that what was delivered may be said to be. The folder is then still ours.
    pub(crate) fn flush_deliveries(&self) -> Result<PhysicalOffset> {
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        self.flush_log()
    }

    /// Returns the folder of the timer log, the file of the wheel, that of its marks, and our own folder.
    pub(crate) fn timer_paths(&self) -> [PathBuf; 4] {
        let root = &self.folder.root;
        [
            root.join("timerlog"),
            root.join("timerwheel"),
            self.folder.config().join("timercheck"),
            self.folder.own(),
        ]
    }

    /// Returns the bytes of a file of the timer log, where none is there to say it.
    pub(crate) const fn timer_log_size(&self) -> u64 {
        self.timer_log_size
    }
}
