//! What happens without being asked, and who does it?
//!
//! Four kinds of work, each a step that a thread drives in production and a test drives by hand: flushing and
//! persisting, allocating ahead of the writer, indexing, and deleting what is old. Threads are told by a channel that holds one command: if
//! it is full, the work that it asks for has not begun yet, and one command is enough.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Broker;
use super::key_run::KEYS_MAX;
use crate::commitlog::LogFile;
use crate::config::Background;
use crate::error::{Error, Result};
use crate::events;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, fence};
use crate::types::{to_u64, to_usize};

/// How far the allocator is ahead of a writer that has just begun, so that a small store stays small.
const LEAD_MIN: u64 = 2 << 20;
/// How far it is ahead of the fastest writer.
const LEAD_MAX: u64 = 64 << 20;
/// How many times as far it wants to be where the writer has almost caught up with it.
const LEAD_GROWTH: u64 = 4;
/// How long the lead lasts at the writer's pace.
const LEAD_MILLIS: u64 = 200;
/// Bytes for which it gets blocks and pages at once.
const LEAD_STEP: u64 = 8 << 20;
/// Bytes whose pages it asks for in one call: whoever maps a file waits for the end of the call.
const POPULATE_STEP: u64 = 8 << 20;
/// The indexer comes when it lags so many bytes behind; else with every flush.
const INDEX_LAG: u64 = 4 << 20;
/// The same in keys that senders left for it.
const KEYS_DUE: usize = KEYS_MAX / 2;
/// How often the allocator looks whether a full disk has space again.
const SPACE_CHECK: Duration = Duration::from_secs(1);
/// How often old files are looked for (RocketMQ's `cleanResourceInterval`).
pub(super) const PASS_INTERVAL: Duration = Duration::from_secs(10);

/// The threads of a broker, and the channels by which they are told.
#[derive(Debug)]
pub(super) struct Workers {
    /// How far the allocator wants to be ahead of the writer: what that writes in a fifth of a second.
    lead: AtomicU64,
    /// Where the writer was when the allocator last came, and when that was, in milliseconds of the monotonic clock.
    seen: Mutex<(u64, u64)>,
    channels: Mutex<Option<Channels>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    allocator_called: AtomicBool,
    indexer_called: AtomicBool,
    flusher_called: AtomicBool,
    retainer_called: AtomicBool,
}

#[derive(Debug, Clone)]
struct Channels {
    flush: Sender<()>,
    allocate: Sender<()>,
    index: Sender<()>,
    retain: Sender<()>,
}

impl Default for Workers {
    fn default() -> Self {
        let called = || AtomicBool::new(false);
        let (channels, threads, seen) = (Mutex::default(), Mutex::default(), Mutex::default());
        let lead = AtomicU64::new(LEAD_MIN);
        let (allocator_called, indexer_called) = (called(), called());
        let (flusher_called, retainer_called) = (called(), called());
        Self {
            lead,
            seen,
            channels,
            threads,
            allocator_called,
            indexer_called,
            flusher_called,
            retainer_called,
        }
    }
}

impl Workers {
    /// Starts the threads, unless the store is driven by hand or only read.
    pub(super) fn start(broker: &Arc<Broker>) -> Result<()> {
        if broker.config.background == Background::Manual || broker.disk.is_private() {
            return Ok(());
        }
        let (flush, flush_commands) = bounded(1);
        let (allocate, allocate_commands) = bounded(1);
        let (index, index_commands) = bounded(1);
        let (retain, retain_commands) = bounded(1);
        let spawn = |name, commands: Receiver<()>, interval, step: fn(&Broker)| {
            let broker = Arc::clone(broker);
            let thread = std::thread::Builder::new().name(format!("pocketmq-{name}"));
            thread
                .spawn(move || run(&broker, &commands, interval, step))
                .map_err(|error| Error::io("start a thread for", &broker_path(name), error))
        };
        let interval = broker.config.flush_interval;
        let threads = vec![
            spawn("flush", flush_commands, interval, Broker::flush_in_background)?,
            spawn("allocate", allocate_commands, SPACE_CHECK, Broker::allocate_in_background)?,
            spawn("index", index_commands, interval, Broker::index_in_background)?,
            spawn("retain", retain_commands, PASS_INTERVAL, Broker::retain_in_background)?,
        ];
        *broker.workers.threads.lock() = threads;
        *broker.workers.channels.lock() = Some(Channels { flush, allocate, index, retain });
        Ok(())
    }

    /// Ends the threads and waits for what they are doing.
    pub(super) fn stop(&self) {
        drop(self.channels.lock().take());
        let me = std::thread::current().id();
        let threads = std::mem::take(&mut *self.threads.lock());
        // A waker that this thread calls may drop the last handle: the thread ends by itself then.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != me) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }

    fn call(&self, called: &AtomicBool, channel: impl Fn(&Channels) -> &Sender<()>) {
        if !called.swap(true, Ordering::Relaxed)
            && let Some(channels) = &*self.channels.lock()
        {
            // Full: a command waits already. Closed: the store is closing.
            let _ = channel(channels).try_send(());
        }
    }
}

fn broker_path(name: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(format!("pocketmq-{name}"))
}

fn run(broker: &Broker, commands: &Receiver<()>, interval: Duration, step: fn(&Broker)) {
    while !matches!(commands.recv_timeout(interval), Err(RecvTimeoutError::Disconnected)) {
        step(broker);
    }
}

impl Broker {
    /// Calls the threads whose work an append has made due. Costs three comparisons when nothing is.
    pub(super) fn kick_background(&self, end: u64, room: u64, keys: usize) {
        if room < self.workers.lead.load(Ordering::Relaxed) / 2 {
            self.workers.call(&self.workers.allocator_called, |channels| &channels.allocate);
        }
        if keys > KEYS_DUE || end.saturating_sub(self.index.end().get()) > INDEX_LAG {
            self.workers.call(&self.workers.indexer_called, |channels| &channels.index);
        }
    }

    /// Calls the flusher.
    pub(crate) fn kick_flush(&self) {
        // Ordering: stands between the append and the look at the flag; `flush_in_background` has its partner.
        fence(Ordering::SeqCst);
        self.workers.call(&self.workers.flusher_called, |channels| &channels.flush);
    }

    fn flush_in_background(&self) {
        self.workers.flusher_called.store(false, Ordering::Relaxed);
        // Ordering: partner of the fence in `kick_flush`: who still sees the flag set has appended before this flush.
        fence(Ordering::SeqCst);
        // A failed flush is remembered by the log and told to every sender; a failed persist by `troubles`.
        let _ = self.flush_step();
    }

    fn allocate_in_background(&self) {
        self.workers.allocator_called.store(false, Ordering::Relaxed);
        if let Err(Error::StoreFull(_)) = self.allocate_step() {
            self.note_full();
            self.workers.call(&self.workers.retainer_called, |channels| &channels.retain);
        }
    }

    fn note_full(&self) {
        if !self.full.swap(true, Ordering::Relaxed) {
            events::disk_full(&self.name);
        }
    }

    fn note_room(&self) {
        if self.full.swap(false, Ordering::Relaxed) {
            events::disk_has_room(&self.name);
        }
    }

    fn retain_in_background(&self) {
        self.workers.retainer_called.store(false, Ordering::Relaxed);
        // What keeps it from its work is remembered, and told by `health`.
        let _ = self.retain();
    }

    fn index_in_background(&self) {
        self.workers.indexer_called.store(false, Ordering::Relaxed);
        let _ = self.index_to(self.dispatched());
    }

    /// Does everything that is due: for a store without threads.
    pub(crate) fn step(&self) -> Result<()> {
        self.check_open()?;
        // First, because it makes room. What keeps it from its work is remembered, and told by `health`.
        let _ = self.retain_when_due();
        // A full disk stops neither the indexing nor the flush.
        let allocated = self.allocate_step();
        match allocated {
            Err(Error::StoreFull(_)) => self.note_full(),
            _ => self.note_room(),
        }
        self.index_in_background();
        self.flush_step()?;
        allocated
    }

    /// Flushes the log, and persists positions and the checkpoint when that is due.
    fn flush_step(&self) -> Result<()> {
        let flushed = self.flush_and_dispatch().map(|_| ());
        let now = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        let due = i64::try_from(self.config.persist_interval.as_millis()).unwrap_or(i64::MAX);
        if now.saturating_sub(self.persisted_at.load(Ordering::Relaxed)) < due {
            return flushed;
        }
        self.persisted_at.store(now, Ordering::Relaxed);
        flushed.and(self.checkpoint_now(false))
    }

    /// Has blocks and pages ready for the writer, in this file and, where that ends, in the next one.
    fn allocate_step(&self) -> Result<()> {
        let lead = self.lead();
        loop {
            let (file, position) = self.place_of_writer();
            let len = to_u64(file.map().len());
            let wanted = position.saturating_add(lead);
            if file.allocated() < wanted.min(len) {
                self.extend(&file, wanted.min(len))?;
            } else if wanted <= len {
                return Ok(());
            } else {
                let made = self.log.files().make_ahead();
                let next = made.inspect_err(|error| self.log.note_failed_file(error))?;
                let wanted = wanted.saturating_sub(len).min(len);
                if next.allocated() >= wanted {
                    return Ok(());
                }
                self.extend(&next, wanted)?;
            }
        }
    }

    /// Returns how far to be ahead, by the pace of the writer since the last time.
    fn lead(&self) -> u64 {
        let (file, position) = self.place_of_writer();
        let end = file.start().saturating_add(position);
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let (before, then) = std::mem::replace(&mut *self.workers.seen.lock(), (end, now));
        let pace = end.saturating_sub(before).checked_div(now.saturating_sub(then).max(1)).unwrap_or(0);
        let wanted = self.workers.lead.load(Ordering::Relaxed);
        let room = file.allocated().saturating_sub(position);
        // Almost caught up with: the writer has just become fast, and its pace since the last time does not show it yet.
        let grown = if room < wanted / 4 { wanted.saturating_mul(LEAD_GROWTH) } else { 0 };
        let lead = pace.saturating_mul(LEAD_MILLIS).max(grown).clamp(LEAD_MIN, LEAD_MAX);
        self.workers.lead.store(lead, Ordering::Relaxed);
        lead
    }

    fn place_of_writer(&self) -> (Arc<LogFile>, u64) {
        let state = self.put_state.lock();
        let file = Arc::clone(state.appender.file());
        let position = state.appender.end().saturating_sub(file.start());
        (file, position)
    }

    /// Gets blocks for the next part of a file and has its pages in memory.
    fn extend(&self, file: &LogFile, wanted: u64) -> Result<()> {
        let before = file.allocated();
        self.log.files().allocate(file, wanted.min(before.saturating_add(LEAD_STEP)))?;
        let after = file.allocated();
        let mut from = before;
        while from < after {
            let to = from.saturating_add(POPULATE_STEP).min(after);
            file.map().populate(to_usize(from)..to_usize(to))?;
            from = to;
        }
        Ok(())
    }
}
