//! Who runs the callbacks of asynchronous sends?
//!
//! One thread a producer, started with the first callback, told by a bounded channel: neither the sender nor the thread
//! that flushes ever waits for a callback. A store that is driven by hand has no such thread; `Store::step` runs them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::SendReceipt;
use super::in_flight::{Limit, Place, Places, WhenBusy};
use crate::cluster::{Cluster, Driven};
use crate::config::Background;
use crate::error::{Error, Result};

type Callback = Box<dyn FnOnce(Result<SendReceipt>) + Send>;

/// A callback that is to be run, with what it is to be told.
pub(super) struct Job {
    callback: Callback,
    answer: Result<SendReceipt>,
    place: Place,
    /// Who runs it, where no thread does: there as long as a callback is, also when its producer is not.
    hands: Option<Arc<Hands>>,
}

impl Job {
    /// Runs the callback. A panic in it is its own affair: the callbacks behind it run all the same.
    fn run(self) {
        let Self { callback, answer, place, hands } = self;
        let _ = catch_unwind(AssertUnwindSafe(|| callback(answer)));
        drop((place, hands));
    }
}

/// The callbacks of one producer.
#[derive(Default)]
pub(super) struct Callbacks {
    places: Arc<Places>,
    runner: OnceLock<Runner>,
}

/// Where jobs are put, and who takes them out.
struct Runner {
    jobs: Sender<Job>,
    /// The thread, where there is one.
    thread: Option<ThreadId>,
    /// What is driven by hand, where there is none.
    hands: Option<Arc<Hands>>,
}

struct Hands(Receiver<Job>);

impl Driven for Hands {
    fn step(&self) {
        // As many as there are now: a callback may send, and so put another one behind them.
        for job in self.0.try_iter().take(self.0.len()) {
            job.run();
        }
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Callbacks").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Takes the place of a callback, before anything is stored, and returns how it is put to work.
    pub(super) fn admit(
        &self,
        cluster: &Cluster,
        limit: &Limit,
        callback: Callback,
    ) -> Result<impl FnOnce(Result<SendReceipt>) + Send + use<>> {
        let runner = self.runner(cluster, limit)?;
        let place = self.place(cluster, runner, limit).ok_or_else(|| Places::busy(limit))?;
        let (jobs, hands) = (runner.jobs.clone(), runner.hands.clone());
        Ok(move |answer| {
            // The channel has a place for every place there is; nothing but a lost thread can close it.
            if let Err(refused) = jobs.try_send(Job { callback, answer, place, hands }) {
                refused.into_inner().run();
            }
        })
    }

    fn place(&self, cluster: &Cluster, runner: &Runner, limit: &Limit) -> Option<Place> {
        let free = self.places.try_take(limit);
        if free.is_some() || limit.when_busy == WhenBusy::Refuse {
            return free;
        }
        if let Some(hands) = &runner.hands {
            // Driven by hand nothing waits: who would wait does the work.
            cluster.brokers().iter().for_each(|broker| broker.flush_for_callbacks());
            hands.step();
            return self.places.try_take(limit);
        }
        let waits_for_itself = runner.thread == Some(std::thread::current().id());
        if waits_for_itself { None } else { self.places.wait(limit) }
    }

    fn runner(&self, cluster: &Cluster, limit: &Limit) -> Result<&Runner> {
        if let Some(runner) = self.runner.get() {
            return Ok(runner);
        }
        // Of two that are made at once the second is dropped, and its thread ends with its channel.
        let made = Runner::start(cluster, limit)?;
        Ok(self.runner.get_or_init(|| made))
    }
}

impl Runner {
    fn start(cluster: &Cluster, limit: &Limit) -> Result<Self> {
        let (jobs, queue) = bounded::<Job>(limit.count_max);
        if cluster.config().background == Background::Manual {
            let hands = Arc::new(Hands(queue));
            let weak = Arc::downgrade(&hands);
            cluster.drive(weak);
            return Ok(Self { jobs, thread: None, hands: Some(hands) });
        }
        let thread = std::thread::Builder::new().name("pocketmq-callback".to_owned());
        let started = thread.spawn(move || queue.into_iter().for_each(Job::run));
        let handle = started
            .map_err(|error| Error::io("start a thread for", Path::new("pocketmq-callback"), error))?;
        Ok(Self { jobs, thread: Some(handle.thread().id()), hands: None })
    }
}
