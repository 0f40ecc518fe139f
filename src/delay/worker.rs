//! Who delivers what becomes due while nobody looks?
//!
//! One thread a broker. It sleeps until the first message is due, at most for as long as the shortest level lasts:
//! nothing that comes into a level meanwhile can be due sooner. A timer can: so the thread says until when it sleeps, and
//! who sends a timer that is due before wakes it. Where nothing waits, it sleeps until something is delayed.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Delays;
use crate::error::{Error, Result};
use crate::sync::{Arrivals, AtomicBool, Mutex, Ordering, Parker, deadline_in};
use crate::types::TopicName;

/// The shortest sleep, where a level lasts less: messages of such a level share a step.
const SLEEP_MIN: Duration = Duration::from_millis(10);
/// The longest sleep while something waits: the clock may be one that does not move with the system's.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Told of a topic that had to be made for a message.
type TopicMade = Box<dyn Fn(&TopicName) + Send>;

/// The thread that delivers for one broker; none where the store is driven by hand.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    delays: Arc<Delays>,
    /// Told when a message comes into a level.
    arrivals: Arc<Arrivals>,
    /// Told when a timer may be due before the thread wakes.
    timers: Arc<Arrivals>,
    bed: Arc<Parker>,
    stopped: AtomicBool,
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// `Io` where the system gives none.
    pub(crate) fn start(
        delays: &Arc<Delays>,
        [arrivals, timers]: [Arc<Arrivals>; 2],
        made: TopicMade,
    ) -> Result<Self> {
        let bed = Arc::default();
        let stopped = AtomicBool::new(false);
        let shared = Arc::new(Shared { delays: Arc::clone(delays), arrivals, timers, bed, stopped });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pocketmq-delay".to_owned());
        let thread = thread.spawn(move || of_thread.run(&made)).map_err(|error| {
            Error::io("start a thread for", std::path::Path::new("pocketmq-delay"), error)
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread, and waits for what it is doing.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.bed.unpark();
        let Some(thread) = self.thread.lock().take() else { return };
        // The thread itself may be the last one that holds the store, while it tells of a topic that it made.
        if thread.thread().id() != std::thread::current().id() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, made: &TopicMade) {
        while !self.stopped.load(Ordering::Acquire) {
            self.bed.clear();
            // Looked at after the bed is clear: a stop from here on wakes it.
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            let next = self.step(made);
            if next != Some(Duration::ZERO) {
                self.sleep(next, made);
            }
        }
    }

    /// Sleeps until something is due, or comes that may be due sooner.
    fn sleep(&self, next: Option<Duration>, made: &TopicMade) {
        let broker = self.delays.broker();
        let wait = next.map(|wait| wait.min(self.delays.shortest().clamp(SLEEP_MIN, SLEEP_MAX)));
        // Where something waits in a level, what comes after it is due after it.
        let listed = [Some(&self.timers), wait.is_none().then_some(&self.arrivals)];
        listed.iter().flatten().for_each(|arrivals| arrivals.register(&self.bed));
        let millis = wait.and_then(|wait| i64::try_from(wait.as_millis()).ok()).unwrap_or(i64::MAX);
        broker.timers_wake_at(self.delays.now_millis().saturating_add(millis));
        // Looked at after the bed is listed: what comes from here on wakes it.
        let again = self.step(made);
        let wait = match (wait, again) {
            (Some(wait), Some(again)) => Some(wait.min(again)),
            (None, None) => self.delays.has_moved().then_some(SLEEP_MAX),
            // Something has come meanwhile: the next round lists the bed as it must be.
            _ => Some(Duration::ZERO),
        };
        if wait != Some(Duration::ZERO) && !self.stopped.load(Ordering::Acquire) {
            self.bed.park_until(wait.and_then(|wait| deadline_in(self.delays.sleep_for(wait))));
        }
        broker.timers_wake_at(i64::MIN);
        listed.iter().flatten().for_each(|arrivals| arrivals.deregister(&self.bed));
    }

    /// Does what is due, and returns how long nothing is.
    fn step(&self, made: &TopicMade) -> Option<Duration> {
        let (stepped, delivered) = self.delays.step();
        stepped.made.iter().for_each(made);
        match delivered {
            Ok(()) => stepped.next_due,
            // What it was is kept for `health`; the message is tried again.
            Err(_) => Some(stepped.next_due.map_or(SLEEP_MAX, |wait| wait.min(SLEEP_MAX))),
        }
    }
}
