//! Who is asked about an undecided transaction, in which thread, and how many questions may wait?
//!
//! Each producer with a listener has a pool: a few threads that are started with the first check, and a bounded channel.
//! A check takes its place in it before it is counted, so one that nobody has room for is no check. A store that is
//! driven by hand has no such threads; its step runs the checks.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{LocalTransactionState, Ticket, TransactionListener, Transactions};
use crate::commitlog::MessageView;
use crate::config::Background;
use crate::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, deadline_in};
use crate::types::GroupName;

/// How long a close waits for a check that runs.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// The pools of all producers, by group.
#[derive(Debug, Default)]
pub(crate) struct Checkers(Mutex<HashMap<GroupName, Vec<Weak<CheckPool>>>>);

impl Checkers {
    /// Lists a producer's pool for as long as somebody holds it.
    pub(crate) fn add(&self, group: &GroupName, pool: &Arc<CheckPool>) {
        let mut all = self.0.lock();
        let pools = all.entry(group.clone()).or_default();
        // An application that makes a producer for every request leaves nothing behind.
        pools.retain(|other| other.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Returns a pool of a group: the next one in turn that is there.
    pub(super) fn of(&self, group: &GroupName) -> Option<Arc<CheckPool>> {
        let mut all = self.0.lock();
        let pools = all.get_mut(group)?;
        pools.retain(|pool| pool.strong_count() > 0);
        if pools.is_empty() {
            all.remove(group);
            return None;
        }
        pools.rotate_left(1);
        pools.iter().filter_map(Weak::upgrade).next()
    }
}

/// How many checks a pool makes at once, and how many may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSize {
    pub(crate) threads: usize,
    pub(crate) waiting_max: usize,
}

/// What makes the checks of one producer.
pub(crate) struct CheckPool {
    listener: Arc<dyn TransactionListener>,
    size: PoolSize,
    jobs: Mutex<Option<Sender<CheckJob>>>,
    /// Where jobs come out again.
    queue: Receiver<CheckJob>,
    taken: Arc<AtomicUsize>,
    background: Background,
    threads: Mutex<Vec<JoinHandle<()>>>,
    running: Arc<Running>,
}

#[derive(Default)]
struct Running {
    stopped: AtomicBool,
    threads: Mutex<usize>,
    ended: Condvar,
}

/// The place of one check, free again when that has been made.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        // Ordering: a count; nothing is published through it.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for CheckPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.taken.load(Ordering::Relaxed);
        formatter
            .debug_struct("CheckPool")
            .field("size", &self.size)
            .field("taken", &taken)
            .finish_non_exhaustive()
    }
}

impl CheckPool {
    /// Prepares a pool. No thread runs before the first check.
    pub(crate) fn new(
        listener: Arc<dyn TransactionListener>,
        size: PoolSize,
        background: Background,
    ) -> Arc<Self> {
        let (jobs, queue) = bounded(size.waiting_max);
        Arc::new(Self {
            listener,
            size,
            jobs: Mutex::new(Some(jobs)),
            queue,
            taken: Arc::default(),
            background,
            threads: Mutex::default(),
            running: Arc::default(),
        })
    }

    /// Returns what answers.
    pub(crate) fn listener(&self) -> &Arc<dyn TransactionListener> {
        &self.listener
    }

    /// Takes the place of a check, if one is free and the pool still makes checks.
    pub(super) fn reserve(&self) -> Option<Place> {
        if self.running.stopped.load(Ordering::Acquire) {
            return None;
        }
        let free = |taken: usize| (taken < self.size.waiting_max).then_some(taken.saturating_add(1));
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Place(Arc::clone(&self.taken)))
    }

    /// Has a check made. One that cannot be is given back.
    pub(super) fn ask(&self, place: Place, mut job: CheckJob) {
        job.place = Some(place);
        let jobs = self.jobs.lock().clone();
        if let Some(jobs) = jobs
            && self.start()
        {
            // Its place is one of the channel's. What is dropped here goes back to where it came from.
            let _ = jobs.try_send(job);
        }
    }

    /// Starts the threads that are missing. `false` where there is none.
    fn start(&self) -> bool {
        if self.background == Background::Manual {
            return true;
        }
        let mut threads = self.threads.lock();
        while threads.len() < self.size.threads {
            let (queue, listener) = (self.queue.clone(), Arc::clone(&self.listener));
            let running = Arc::clone(&self.running);
            // Before it can end.
            *self.running.threads.lock() += 1;
            let thread = std::thread::Builder::new().name("pocketmq-check".to_owned());
            let started = thread.spawn(move || running.run(&queue, listener.as_ref()));
            match started {
                Ok(thread) => threads.push(thread),
                Err(_) => {
                    *self.running.threads.lock() -= 1;
                    break;
                }
            }
        }
        !threads.is_empty()
    }

    /// Makes the checks that wait, for a store that is driven by hand.
    pub(crate) fn run_waiting(&self) {
        if self.background == Background::Manual {
            // As many as there are now: the rest is for the next step.
            self.queue.try_iter().take(self.queue.len()).for_each(|job| job.run(self.listener.as_ref()));
        }
    }

    /// Makes no more checks, and waits for those that run, for a while; never for the thread that calls it.
    pub(crate) fn stop(&self) {
        self.running.stopped.store(true, Ordering::Release);
        drop(self.jobs.lock().take());
        let threads = std::mem::take(&mut *self.threads.lock());
        let me = std::thread::current().id();
        let mine = usize::from(threads.iter().any(|thread| thread.thread().id() == me));
        let deadline = deadline_in(STOP_WAIT);
        let mut left = self.running.threads.lock();
        while *left > mine {
            match deadline {
                Some(deadline) if self.running.ended.wait_until(&mut left, deadline).timed_out() => break,
                Some(_) => {}
                None => self.running.ended.wait(&mut left),
            }
        }
        drop(left);
        // Those that wait still go back to where they came from.
        self.queue.try_iter().for_each(drop);
    }
}

impl Drop for CheckPool {
    fn drop(&mut self) {
        // The threads end with their channel; nobody waits for a check that runs.
        self.running.stopped.store(true, Ordering::Release);
    }
}

impl Running {
    fn run(&self, queue: &Receiver<CheckJob>, listener: &dyn TransactionListener) {
        for job in queue {
            if !self.stopped.load(Ordering::Acquire) {
                job.run(listener);
            }
        }
        let mut threads = self.threads.lock();
        *threads = threads.saturating_sub(1);
        self.ended.notify_all();
    }
}

/// One check that is to be made. Dropped before that, it gives the half message back, to be checked later.
pub(super) struct CheckJob {
    transactions: Arc<Transactions>,
    ticket: Arc<Ticket>,
    message: MessageView,
    place: Option<Place>,
    made: bool,
}

impl CheckJob {
    pub(super) fn new(transactions: &Arc<Transactions>, ticket: &Arc<Ticket>, message: MessageView) -> Self {
        let (transactions, ticket) = (Arc::clone(transactions), Arc::clone(ticket));
        Self { transactions, ticket, message, place: None, made: false }
    }

    /// Asks, unless it is decided already. A panic is no answer, and the checks behind it are made all the same.
    fn run(mut self, listener: &dyn TransactionListener) {
        self.made = true;
        if self.ticket.ended().is_some() {
            return;
        }
        let asked = catch_unwind(AssertUnwindSafe(|| listener.check_local_transaction(&self.message)));
        self.transactions.answered(&self.ticket, asked.unwrap_or(LocalTransactionState::Unknown));
    }
}

impl Drop for CheckJob {
    fn drop(&mut self) {
        if !self.made {
            self.transactions.give_back(&self.ticket);
        }
    }
}
