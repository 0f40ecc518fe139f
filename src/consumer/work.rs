//! How is a batch handled, whoever calls the handler: a worker thread, or a store that is stepped by hand?

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId, current};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::lane::{Taken, Ticket};
use super::listener::{
    ConsumeContext, ConsumeMessageContext, ConsumeReturn, Handler, HandlerOutcome, Verdict,
};
use super::member::{Batch, Member};
use super::retry::Failure;
use super::settings::Mode;
use crate::cluster::Driven;
use crate::delay::NextAttempt;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, deadline_in};

/// Batches that one step by hand handles at most, so that handlers which send to their own topic do not keep it for ever.
const BATCHES_PER_STEP: usize = 65_536;
/// How long closing the store waits for handlers that run.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// A push consumer at work: what its handle, its threads and the store share.
pub(super) struct Work {
    pub(super) member: Arc<Member>,
    pub(super) batch: usize,
    handler: Handler,
    /// Held by the worker that waits for the next batch, until it has begun with it.
    taking: Mutex<()>,
    running: Mutex<Running>,
    /// Told whenever a handler ends.
    idle: Condvar,
    /// What the last attempt to get messages failed with.
    trouble: Mutex<Option<String>>,
    is_stepping: AtomicBool,
    /// When a handler may have had its messages for too long, by hand; the dispatcher keeps its own.
    next_look: Mutex<Option<Duration>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Dropped to stop the threads.
    stop: Mutex<Option<Sender<()>>>,
}

/// A batch that was handed out.
pub(super) struct Handed {
    batch: Batch,
    /// Whether it counts as running; not one that came when the work was to stop.
    is_in: bool,
}

/// What a handler said of its messages.
#[derive(Debug, Clone, Copy)]
struct Said {
    verdict: Verdict,
    /// Of messages that succeed, only so many.
    handled: usize,
    next: NextAttempt,
    /// How long an orderly queue rests.
    pause: Duration,
}

/// Who is in a handler.
#[derive(Debug, Default)]
struct Running {
    threads: Vec<ThreadId>,
    is_stopping: bool,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Work").field("member", &self.member).finish_non_exhaustive()
    }
}

impl Work {
    pub(super) fn new(member: Arc<Member>, batch: usize, handler: Handler) -> Self {
        Self {
            member,
            batch,
            handler,
            taking: Mutex::new(()),
            running: Mutex::default(),
            idle: Condvar::new(),
            trouble: Mutex::default(),
            is_stepping: AtomicBool::new(false),
            next_look: Mutex::default(),
            threads: Mutex::default(),
            stop: Mutex::default(),
        }
    }

    /// Keeps what has to be stopped.
    pub(super) fn keep(&self, threads: Vec<JoinHandle<()>>, stop: Sender<()>) {
        *self.threads.lock() = threads;
        *self.stop.lock() = Some(stop);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.running.lock().is_stopping
    }

    /// Returns what went wrong last, `None` once it goes well again.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(super) fn note(&self, result: Result<()>) {
        let text = result.err().map(|error| error.to_string());
        let mut trouble = self.trouble.lock();
        if *trouble != text {
            *trouble = text;
        }
    }

    /// Handles a batch, and of an orderly queue the next ones too, as long as nobody else waits for the thread.
    pub(super) fn handle(&self, first: Handed, others_wait: impl Fn() -> bool) {
        let Handed { mut batch, mut is_in } = first;
        loop {
            if !(is_in && self.begin(&batch)) {
                self.member.release(batch);
                return self.leave();
            }
            let (lane, epoch) = (Arc::clone(&batch.lane), batch.epoch);
            self.call(batch);
            self.leave();
            if self.member.mode == Mode::Concurrent || others_wait() {
                return;
            }
            match self.member.take_more(&lane, epoch, self.batch) {
                Ok(Some(more)) => (batch, is_in) = (more, self.enter()),
                // The next look at all queues finds what there is, and what is wrong.
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Takes the next batch that the dispatcher handed out. Blocks for it; `None` once there will be no more.
    ///
    /// Taken and begun in one go: else a batch that was handed out later might be handled, while the end of the work keeps an
    /// earlier one of its queue from beginning, and the position that cannot pass that one lets the later one come again.
    pub(super) fn next_of(&self, to_do: &Receiver<Batch>) -> Option<Handed> {
        let _in_order = self.taking.lock();
        let batch = to_do.recv().ok()?;
        Some(Handed { batch, is_in: self.enter() })
    }

    fn begin(&self, batch: &Batch) -> bool {
        batch.lane.begin(&batch.tickets, self.member.now())
    }

    /// Notes that this thread is in a handler; not once the work is to stop.
    fn enter(&self) -> bool {
        let mut running = self.running.lock();
        if !running.is_stopping {
            running.threads.push(current().id());
        }
        !running.is_stopping
    }

    fn leave(&self) {
        let me = current().id();
        self.running.lock().threads.retain(|thread| *thread != me);
        self.idle.notify_all();
    }

    /// Calls the handler and does what it says.
    fn call(&self, batch: Batch) {
        let member = &self.member;
        let attempts: Vec<_> = batch.tickets.iter().map(|ticket| ticket.attempt).collect();
        let mut context = ConsumeContext {
            group: member.group_name(),
            queue: &batch.lane.queue,
            attempts: &attempts,
            handled: None,
            next: NextAttempt::AsPolicySays,
            by_hand: false,
        };
        let shown = ConsumeMessageContext {
            group: member.group_name(),
            instance: &member.id,
            queue: &batch.lane.queue,
            messages: &batch.messages,
        };
        self.hooks(|hook| hook.before(&shown));
        let started = member.now();
        let called = catch_unwind(AssertUnwindSafe(|| (self.handler)(&batch.messages, &mut context)));
        let took = member.now().saturating_sub(started);
        let (outcome, panicked) = match called {
            Ok(outcome) => (outcome, false),
            Err(panic) => (HandlerOutcome::failed(text_of(panic.as_ref())), true),
        };
        let is_late = member.mode == Mode::Concurrent && took >= member.settings.consume_timeout;
        if is_late {
            // Nobody may have looked yet: whatever it says now comes too late.
            member.expire_batch(&batch);
        }
        let reason = outcome.reason.as_deref();
        let returned = match outcome.verdict {
            _ if is_late => ConsumeReturn::TimedOut,
            Verdict::Failed | Verdict::Rollback if panicked => {
                ConsumeReturn::Panicked(reason.unwrap_or_default())
            }
            Verdict::Failed | Verdict::Rollback => ConsumeReturn::Failed(reason),
            Verdict::Success | Verdict::Commit => ConsumeReturn::Success,
        };
        self.hooks(|hook| hook.after(&shown, returned, took));
        let said = Said {
            verdict: outcome.verdict,
            handled: context.handled.unwrap_or(usize::MAX),
            next: context.next(member.mode, member.settings.suspend),
            pause: context.suspension(member.settings.suspend),
        };
        match (member.mode, context.by_hand) {
            (Mode::Concurrent, _) => self.settle(batch, &said, reason),
            (Mode::Orderly, false) => {
                // Commit and rollback have no meaning of their own here.
                let failed = said.verdict == Verdict::Failed;
                let verdict = if failed { Verdict::Failed } else { Verdict::Success };
                self.settle(batch, &Said { verdict, handled: usize::MAX, ..said }, reason);
            }
            (Mode::Orderly, true) => self.settle_by_hand(batch, &said, reason),
        }
    }

    fn hooks(&self, call: impl Fn(&dyn super::listener::ConsumeMessageHook)) {
        for hook in &self.member.settings.hooks {
            // A hook is anybody's code, and only looks on.
            let _ = catch_unwind(AssertUnwindSafe(|| call(hook.as_ref())));
        }
    }

    /// Acknowledges what is handled, and lets the rest come back.
    fn settle(&self, batch: Batch, said: &Said, reason: Option<&str>) {
        let Batch { lane, messages, tickets, .. } = batch;
        let handled = match said.verdict {
            Verdict::Success | Verdict::Commit => said.handled,
            Verdict::Failed | Verdict::Rollback => 0,
        };
        let failure = Failure { next: said.next, reason: reason.unwrap_or_default() };
        for (place, (message, ticket)) in messages.into_iter().zip(tickets).enumerate() {
            if place < handled {
                self.note_failure(self.member.ack(&lane, &ticket));
            } else {
                self.note_failure(self.member.fail(&lane, Taken { message, ticket }, failure));
            }
        }
    }

    /// Does what an orderly handler says that commits by hand (RocketMQ's `autoCommit = false`).
    fn settle_by_hand(&self, batch: Batch, said: &Said, reason: Option<&str>) {
        let (member, epoch) = (&self.member, batch.epoch);
        match said.verdict {
            Verdict::Success => self.hold(&batch.lane, &batch.tickets),
            Verdict::Commit => {
                let open = member.group.cluster.check_open();
                let committed = open.and_then(|()| batch.lane.commit_held(epoch, &batch.tickets));
                self.note_failure(committed.map(|signals| member.tell(&batch.lane, signals)));
            }
            Verdict::Rollback => {
                batch.lane.suspend(epoch, member.now().saturating_add(said.pause));
                batch.lane.roll_back(epoch);
                member.release(batch);
            }
            Verdict::Failed => self.settle(batch, said, reason),
        }
    }

    fn hold(&self, lane: &Arc<super::lane::Lane>, tickets: &[Ticket]) {
        for ticket in tickets {
            let signals = lane.hold(ticket);
            self.member.tell(lane, signals);
        }
    }

    /// Keeps what a result failed with: the message will come again, and nobody else is told why.
    fn note_failure(&self, result: Result<()>) {
        if result.is_err() {
            self.note(result);
        }
    }

    /// Ends the work: no new hand-outs, running handlers end within `wait`, positions are on disk, the member leaves
    /// (contract V12). It never waits for the thread that calls it.
    pub(super) fn end(&self, wait: Duration) -> Result<()> {
        let me = current().id();
        let deadline = deadline_in(wait);
        let mut running = self.running.lock();
        running.is_stopping = true;
        let is_mine = running.threads.contains(&me);
        // Two handlers that end their consumer at once must not wait for each other.
        running.threads.retain(|thread| *thread != me);
        self.idle.notify_all();
        drop(running);
        drop(self.stop.lock().take());
        self.member.end();
        let drained = self.wait_for_handlers(deadline);
        let threads = std::mem::take(&mut *self.threads.lock());
        // A listener may be called by the thread that hands out.
        let is_mine = is_mine || threads.iter().any(|thread| thread.thread().id() == me);
        if drained && !is_mine {
            for thread in threads {
                // One that panicked has said so already.
                let _ = thread.join();
            }
        }
        let cluster = &self.member.group.cluster;
        // A store that is closed has written them, and may be somebody else's by now.
        let synced = match cluster.check_open() {
            Ok(()) => cluster.brokers().iter().try_for_each(|broker| broker.positions().sync()),
            Err(_) => Ok(()),
        };
        self.member.leave();
        synced.and(if drained { Ok(()) } else { Err(Error::Timeout) })
    }

    fn wait_for_handlers(&self, deadline: Option<std::time::Instant>) -> bool {
        let mut running = self.running.lock();
        while !running.threads.is_empty() {
            match deadline {
                Some(deadline) => {
                    if self.idle.wait_until(&mut running, deadline).timed_out() {
                        return running.threads.is_empty();
                    }
                }
                None => self.idle.wait(&mut running),
            }
        }
        true
    }

    fn step_once(&self) -> Result<()> {
        let now = self.member.now();
        let mut next_look = self.next_look.lock();
        if next_look.is_none_or(|due| due <= now) {
            *next_look = self.member.expire(now);
        }
        drop(next_look);
        for _ in 0..BATCHES_PER_STEP {
            if self.is_stopping() {
                return Ok(());
            }
            match self.member.take_batch(self.batch) {
                Ok(Some(batch)) => self.handle(Handed { batch, is_in: self.enter() }, || true),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Driven for Work {
    fn step(&self) {
        // Threads do the work where there are any; a handler that steps its own store is in the middle of it.
        let by_hand = self.member.background() == crate::config::Background::Manual;
        if !by_hand || self.is_stopping() || self.is_stepping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.note(self.step_once());
        self.is_stepping.store(false, Ordering::Release);
    }

    fn stop(&self) {
        // Handlers that run longer find the store closed.
        let _ = self.end(CLOSE_WAIT);
    }
}

/// Returns what a panic says.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}
