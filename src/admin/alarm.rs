//! Who is told when a group falls behind?
//!
//! A watch looks every few seconds, in a thread of its own, and tells a function once when the group is too far behind
//! and once when it has caught up. In a store that is driven by hand `Store::step` looks.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Admin;
use super::groups::GroupLag;
use crate::cluster::{Cluster, Driven};
use crate::config::Background;
use crate::error::{Error, Result};
use crate::events;
use crate::sync::Mutex;
use crate::types::GroupName;

/// How often a watch looks unless told otherwise.
const EVERY: Duration = Duration::from_secs(10);

/// When a group is too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a threshold does nothing until a group is watched"]
pub struct LagThreshold {
    messages: Option<u64>,
    age: Option<Duration>,
    every: Duration,
}

impl Default for LagThreshold {
    fn default() -> Self {
        Self::new()
    }
}

impl LagThreshold {
    /// Starts with nothing that would be too far. Set a number of messages, an age, or both.
    pub const fn new() -> Self {
        Self { messages: None, age: None, every: EVERY }
    }

    /// Says that more waiting messages than this are too many. Default: no limit.
    pub const fn messages(mut self, count: u64) -> Self {
        self.messages = Some(count);
        self
    }

    /// Says that a message may not wait longer than this. Default: no limit.
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Sets how often the watch looks. Default 10 s; 1 ms to 1 h.
    pub const fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    fn is_exceeded(&self, lag: &GroupLag) -> bool {
        self.messages.is_some_and(|max| lag.messages() > max) || self.age.is_some_and(|max| lag.age() > max)
    }

    fn check(&self) -> Result<()> {
        if self.messages.is_none() && self.age.is_none() {
            return Err(Error::argument(
                "threshold",
                "set messages, an age, or both: nothing would be too far",
            ));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(3_600)).contains(&self.every) {
            return Err(Error::argument("every", "must be between 1 ms and 1 h"));
        }
        Ok(())
    }
}

/// What a watch has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LagState {
    /// The group is too far behind.
    Behind,
    /// It is not any more.
    CaughtUp,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LagAlarm {
    /// What it has seen.
    pub state: LagState,
    /// How far behind the group is, queue by queue.
    pub lag: GroupLag,
}

/// A watch over a group: it ends when this is dropped.
#[must_use = "the watch ends when this is dropped"]
pub struct LagWatch {
    watch: Arc<Watch>,
    /// Closed with the last handle, which ends the thread.
    _stop: Option<Sender<()>>,
}

impl fmt::Debug for LagWatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LagWatch").field("group", &self.watch.group).finish_non_exhaustive()
    }
}

type Told = Box<dyn Fn(&LagAlarm) + Send + Sync>;

struct Watch {
    /// Weak: a watch does not keep a store open.
    cluster: Weak<Cluster>,
    group: GroupName,
    threshold: LagThreshold,
    told: Told,
    state: Mutex<WatchState>,
}

struct WatchState {
    is_behind: bool,
    /// When the next look is due, by the monotonic clock of the store.
    due: Duration,
}

impl Watch {
    /// Looks, and tells what has changed. `false` once the store is closed.
    fn look(&self) -> bool {
        let Some(cluster) = self.cluster.upgrade() else { return false };
        match Admin::new(&cluster).lag(self.group.as_str()) {
            Ok(lag) => {
                let is_behind = self.threshold.is_exceeded(&lag);
                let was_behind = std::mem::replace(&mut self.state.lock().is_behind, is_behind);
                if is_behind != was_behind {
                    let state = if is_behind { LagState::Behind } else { LagState::CaughtUp };
                    match state {
                        LagState::Behind => events::group_behind(&self.group, &lag.messages()),
                        LagState::CaughtUp => events::group_caught_up(&self.group, &lag.messages()),
                    }
                    // Without a lock: what is told may ask the store whatever it likes.
                    (self.told)(&LagAlarm { state, lag });
                }
                true
            }
            Err(Error::Closed) => false,
            // What cannot be read now may be read the next time.
            Err(_) => true,
        }
    }
}

impl Driven for Watch {
    fn step(&self) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        let now = cluster.clock().monotonic();
        {
            let mut state = self.state.lock();
            if now < state.due {
                return;
            }
            state.due = now.saturating_add(self.threshold.every);
        }
        self.look();
    }
}

fn run(watch: &Weak<Watch>, stop: &Receiver<()>, every: Duration) {
    while matches!(stop.recv_timeout(every), Err(RecvTimeoutError::Timeout)) {
        if !watch.upgrade().is_some_and(|watch| watch.look()) {
            return;
        }
    }
}

impl Admin {
    /// Watches how far a group is behind, and calls a function when that is too far, and again when it is not any more:
    /// the article's backlog alarm. The watch costs a thread, which looks every 10 s, and ends when the returned handle is
    /// dropped or the store is closed. The function is called in that thread (in a store that is driven by hand, in
    /// [`Store::step`](crate::Store::step)) and may ask the store whatever it likes.
    ///
    /// ```
    /// use pocketmq::{LagThreshold, Message, TopicConfig};
    /// use pocketmq::testing::TestStore;
    /// use std::sync::{Arc, Mutex};
    /// use std::time::Duration;
    ///
    /// # fn main() -> pocketmq::Result<()> {
    /// let store = TestStore::new();
    /// store.create_topic("orders", TopicConfig::queues(4))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
    /// let told = Arc::new(Mutex::new(Vec::new()));
    /// let seen = Arc::clone(&told);
    /// let threshold = LagThreshold::new().messages(100).age(Duration::from_secs(60));
    /// let _watch = store.admin().watch_lag("billing", threshold, move |alarm| {
    ///     seen.lock().unwrap().push((alarm.state, alarm.lag.messages()));
    /// })?;
    /// store.producer("shop")?.send(Message::new("orders", "hello"))?;
    /// store.advance(Duration::from_secs(70))?;
    /// assert_eq!(told.lock().unwrap().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a text that is no group's name, and for a threshold without a limit or with an interval out
    /// of its range; `Closed`; `Io` where there is no thread.
    #[doc(alias = "startMonitoring")]
    pub fn watch_lag(
        &self,
        group: impl AsRef<str>,
        threshold: LagThreshold,
        told: impl Fn(&LagAlarm) + Send + Sync + 'static,
    ) -> Result<LagWatch> {
        self.cluster.check_open()?;
        threshold.check()?;
        let group = GroupName::new(group.as_ref())?;
        let due = self.cluster.clock().monotonic().saturating_add(threshold.every);
        let state = Mutex::new(WatchState { is_behind: false, due });
        let cluster = Arc::downgrade(&self.cluster);
        let watch = Arc::new(Watch { cluster, group, threshold, told: Box::new(told), state });
        if self.cluster.config().background == Background::Manual {
            let driven: Arc<dyn Driven> = Arc::<Watch>::clone(&watch);
            self.cluster.drive(Arc::downgrade(&driven));
            return Ok(LagWatch { watch, _stop: None });
        }
        let (stop, stopped) = bounded(1);
        let looked_at = Arc::downgrade(&watch);
        let thread = std::thread::Builder::new().name("pocketmq-lag".to_owned());
        let started = thread.spawn(move || run(&looked_at, &stopped, threshold.every));
        started
            .map_err(|error| Error::io("start a thread for", std::path::Path::new("pocketmq-lag"), error))?;
        Ok(LagWatch { watch, _stop: Some(stop) })
    }
}
