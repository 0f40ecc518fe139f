//! Who looks after undecided transactions while nobody else does?
//!
//! One thread a store, started with the first producer of transactions, or at opening where something is undecided. It
//! sleeps until a check is due, at most a second while something is undecided, and until something is begun while
//! nothing is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Stepped, Transactions};
use crate::error::{Error, Result};
use crate::sync::{Arrivals, AtomicBool, Mutex, Ordering, Parker, deadline_in};

/// The shortest sleep: what is due within it shares a step.
const SLEEP_MIN: Duration = Duration::from_millis(10);
/// The longest sleep while something is undecided: the clock may be one that does not move with the system's.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The thread; none where the store is driven by hand.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    list: Vec<Arc<Transactions>>,
    arrivals: Arc<Arrivals>,
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
    pub(crate) fn start(list: Vec<Arc<Transactions>>, arrivals: Arc<Arrivals>) -> Result<Self> {
        let stopped = AtomicBool::new(false);
        let shared = Arc::new(Shared { list, arrivals, bed: Arc::default(), stopped });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pocketmq-transaction".to_owned());
        let thread = thread
            .spawn(move || of_thread.run())
            .map_err(|error| Error::io("start a thread for", Path::new("pocketmq-transaction"), error))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Has it look now: there is a new producer to ask.
    pub(crate) fn wake(&self) {
        self.shared.bed.unpark();
    }

    /// Ends the thread, and waits for what it is doing.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.bed.unpark();
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.thread().id() != std::thread::current().id() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            self.bed.clear();
            // Looked at after the bed is clear: a stop from here on wakes it.
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            if let Some(wait) = self.step().next {
                self.bed.park_until(deadline_in(wait.clamp(SLEEP_MIN, SLEEP_MAX)));
            } else {
                self.sleep_until_something_is_begun();
            }
        }
    }

    fn step(&self) -> Stepped {
        // What keeps it from its work is told by `health`; it is tried again.
        self.list.iter().fold(Stepped::default(), |stepped, one| stepped.and(one.step().0))
    }

    fn sleep_until_something_is_begun(&self) {
        self.arrivals.register(&self.bed);
        // Looked at after the bed is listed: what comes from here on wakes it.
        if self.step().next.is_none() && !self.stopped.load(Ordering::Acquire) {
            self.bed.park_until(None);
        }
        self.arrivals.deregister(&self.bed);
    }
}
