//! When do old messages go, how, and in which order?
//!
//! A pass is a step that a thread makes every ten seconds and a test by hand. It removes whole files of the log, the
//! oldest first, each together with its name on disk before the next one; the queues follow, then the index. Whatever
//! point a crash hits, the log is a row of files without a hole, and the opening lets queues and index follow it.
//! A file goes only when everything in it is on disk and in its queues, and never the one that is written to.

use std::sync::Arc;

use super::Broker;
use super::background::PASS_INTERVAL;
use super::deletions::{Deletions, RetentionReport, Unread};
use super::needed::{Standings, cutoff};
use super::trusted_time::TrustedTime;
use crate::clock::Clock;
use crate::commitlog::{Cursor, Found, LogFile, used_percent};
use crate::config::Unconsumed;
use crate::error::{Error, Result};
use crate::events;
use crate::sync::{AtomicBool, AtomicI64, Mutex, Ordering};
use crate::types::PhysicalOffset;

/// Files of the log that one pass removes at most (RocketMQ's `deleteFileBatchMax`).
const FILES_PER_PASS: u64 = 10;

/// What retention remembers from pass to pass.
#[derive(Debug)]
pub(super) struct RetentionState {
    time: Mutex<TrustedTime>,
    /// When the last pass was made, in milliseconds of the monotonic clock.
    passed_at: AtomicI64,
    /// The names of log files that are gone may not be gone on disk: nothing goes any more.
    failed: AtomicBool,
    /// Queues have lost messages whose bytes are still there.
    dead: AtomicBool,
    /// Queues may have files without messages.
    trim: AtomicBool,
    /// Whether the log has lost files that queues and index have not followed.
    behind: AtomicBool,
    trouble: Mutex<Option<String>>,
    totals: Mutex<Deletions>,
}

impl RetentionState {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self {
            time: Mutex::new(TrustedTime::new(clock)),
            passed_at: AtomicI64::new(i64::MIN),
            failed: AtomicBool::new(false),
            // What an earlier opening left dead is found by the first pass.
            dead: AtomicBool::new(true),
            trim: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            trouble: Mutex::default(),
            totals: Mutex::default(),
        }
    }

    /// Notes that bytes may lie in the log to which nothing leads any more.
    pub(super) fn note_dead(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.trim.store(true, Ordering::Relaxed);
    }

    /// Notes messages that a limit has let go, and how many of them groups had not consumed.
    pub(super) fn note_given_up(&self, messages: u64, unconsumed: u64) {
        let mut totals = self.totals.lock();
        totals.messages = totals.messages.saturating_add(messages);
        totals.unconsumed = totals.unconsumed.saturating_add(unconsumed);
        drop(totals);
        self.note_dead();
    }

    /// Names what keeps retention from its work, for [`Health`](super::Health).
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

/// How many bytes the log may have, and what becomes of what is not consumed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surplus {
    pub(super) bytes_max: u64,
    pub(super) unconsumed: Unconsumed,
}

/// Why a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Expired,
    Surplus,
    Space,
    Dead,
}

/// What one pass goes by.
#[derive(Debug)]
struct Pass {
    now_millis: i64,
    bytes_max: u64,
    unconsumed: Unconsumed,
    standings: Standings,
    /// Looked up when the first file's time has come.
    kept_longer_from: Option<PhysicalOffset>,
    unconsumed_from: Option<Option<(PhysicalOffset, Unread)>>,
    reachable_from: Option<PhysicalOffset>,
    /// Whether the log has been flushed since the standings were looked at.
    is_flushed: bool,
    report: RetentionReport,
}

impl Broker {
    /// Makes a pass if the last one was made long enough ago.
    pub(super) fn retain_when_due(&self) -> Result<()> {
        let now = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        let interval = i64::try_from(PASS_INTERVAL.as_millis()).unwrap_or(i64::MAX);
        if now.saturating_sub(self.retention.passed_at.load(Ordering::Relaxed)) < interval {
            return Ok(());
        }
        self.retain().map(drop)
    }

    /// Deletes what may go. Durable on return. Blocks for the disk, and no sender and no reader meanwhile.
    pub(crate) fn retain(&self) -> Result<RetentionReport> {
        let retention = &self.config.retention;
        let bytes_max = retention.bytes_max.unwrap_or(u64::MAX);
        self.retain_within(Surplus { bytes_max, unconsumed: retention.unconsumed })
    }

    /// The same with another limit on the bytes of the log.
    pub(super) fn retain_within(&self, surplus: Surplus) -> Result<RetentionReport> {
        let Surplus { bytes_max, unconsumed } = surplus;
        let _nothing_else_goes = self.removing.lock();
        // Whoever writes marks or deletes a topic waits, and nobody does after the store is closed.
        let _one_after_the_other = self.writing.lock();
        self.check_writable()?;
        let now = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        self.retention.passed_at.store(now, Ordering::Relaxed);
        let (now_millis, in_doubt) = {
            let mut time = self.retention.time.lock();
            (time.now_millis(self.clock.as_ref()), time.is_in_doubt())
        };
        let mut pass = Pass {
            now_millis,
            bytes_max,
            unconsumed,
            standings: self.standings(),
            kept_longer_from: None,
            unconsumed_from: None,
            reachable_from: None,
            is_flushed: false,
            report: RetentionReport::new(self.name.clone()),
        };
        let result = self.make_pass(&mut pass);
        pass.report.log_start = self.log.start();
        self.retention.totals.lock().add(&pass.report);
        self.tell_pass(&pass.report, result.as_ref().err());
        *self.retention.trouble.lock() = match &result {
            Err(error) => Some(format!("retention: {error}")),
            Ok(()) if in_doubt => Some(
                "retention: the clock jumped ahead, and is not believed before a day has passed".to_owned(),
            ),
            Ok(()) => None,
        };
        result.map(|()| pass.report)
    }

    fn tell_pass(&self, report: &RetentionReport, error: Option<&Error>) {
        if !report.is_empty() {
            events::retained(&self.name, report);
        }
        report.lost.iter().for_each(|unread| events::unconsumed_deleted(&self.name, unread));
        if let Some(error) = error {
            events::retention_failed(&self.name, error);
        }
    }

    fn make_pass(&self, pass: &mut Pass) -> Result<()> {
        let start = self.log.start();
        self.give_up_expired(pass)?;
        let removed = self.remove_files(pass);
        // Also after a failure: what is gone from the log goes from the queues.
        let followed = self.follow_log(start, pass);
        removed.and(followed)
    }

    /// Lets the topics with a shorter time than the others lose what has expired, before its bytes go.
    fn give_up_expired(&self, pass: &mut Pass) -> Result<()> {
        let retention = &self.config.retention;
        for (name, age) in &retention.topic_ages {
            let Some(age) = age.filter(|own| retention.age.is_none_or(|general| *own < general)) else {
                continue;
            };
            let Some(topic) = self.topic(name) else { continue };
            for queue in self.queues.of_topic(topic.name()) {
                let mut place = self.unexpired_from(&queue, cutoff(pass.now_millis, age))?;
                if pass.unconsumed == Unconsumed::Keep
                    && let Some(last) = pass.standings.last_of(&queue)
                {
                    place = place.min(last.position);
                }
                pass.report.lost.extend(pass.standings.unread_before(&queue, place));
                let gone = self.minimums.raise(&queue, place);
                if gone > 0 {
                    pass.report.messages = pass.report.messages.saturating_add(gone);
                    self.retention.note_dead();
                }
            }
        }
        self.minimums.save()
    }

    fn remove_files(&self, pass: &mut Pass) -> Result<()> {
        while pass.report.log_files() < FILES_PER_PASS {
            let Some((file, next)) = self.log.files().oldest() else { return Ok(()) };
            let next = PhysicalOffset::new(next);
            // What is not on disk or not in its queue yet stays.
            if next > self.log.flushed().min(self.dispatched()) {
                return Ok(());
            }
            let Some(cause) = self.cause(next, pass)? else { return Ok(()) };
            if pass.unconsumed == Unconsumed::Keep
                && cause != Cause::Dead
                && self.is_unconsumed(next, pass)?
            {
                return Ok(());
            }
            if !pass.is_flushed {
                // What took the place of a message, a delivered copy or a retry, must be as safe as what goes.
                self.flush_log()?;
                pass.is_flushed = true;
            }
            self.remove_file(&file)?;
            let report = &mut pass.report;
            let count = match cause {
                Cause::Expired => &mut report.expired_files,
                Cause::Surplus => &mut report.surplus_files,
                Cause::Space => &mut report.space_files,
                Cause::Dead => &mut report.dead_files,
            };
            *count = count.saturating_add(1);
            report.bytes = report.bytes.saturating_add(self.log.files().file_size());
        }
        Ok(())
    }

    fn remove_file(&self, file: &Arc<LogFile>) -> Result<()> {
        if self.retention.failed.load(Ordering::Acquire) {
            let source = std::io::Error::other("a sync of the folder failed before");
            return Err(Error::io("delete old files of", self.log.dir(), source));
        }
        self.log.files().remove_oldest(file).inspect_err(|error| {
            // A second sync that succeeds proves nothing, and with two names in doubt a hole may come back.
            if matches!(error, Error::Io(failure) if failure.operation == "sync") {
                self.retention.failed.store(true, Ordering::Release);
            }
        })
    }

    /// Says why the oldest file has to go, the one before `next`.
    fn cause(&self, next: PhysicalOffset, pass: &mut Pass) -> Result<Option<Cause>> {
        let retention = &self.config.retention;
        let files = self.log.files();
        if files.limit().saturating_sub(files.start()) > pass.bytes_max {
            return Ok(Some(Cause::Surplus));
        }
        let mut is_full = false;
        if retention.free_min.is_some() || retention.ratios.is_some() {
            let (free, total) = files.space()?;
            let percent = used_percent(free, total);
            if retention.free_min.is_some_and(|min| free < min)
                || retention.ratios.is_some_and(|ratios| percent > ratios.unexpired)
            {
                return Ok(Some(Cause::Space));
            }
            is_full = retention.ratios.is_some_and(|ratios| percent > ratios.expired);
        }
        let hour = pass.now_millis.div_euclid(3_600_000).rem_euclid(24);
        if (is_full || retention.hour.is_none_or(|wanted| i64::from(wanted) == hour))
            && self.is_expired(next, pass)?
        {
            return Ok(Some(Cause::Expired));
        }
        if self.retention.dead.load(Ordering::Relaxed) {
            let reachable = match pass.reachable_from {
                Some(known) => known,
                None => self.reachable_from()?,
            };
            pass.reachable_from = Some(reachable);
            if next <= reachable {
                return Ok(Some(Cause::Dead));
            }
            self.retention.dead.store(reachable > self.log.start(), Ordering::Relaxed);
        }
        Ok(None)
    }

    /// Tells whether everything before `next` has expired: the first message behind it was stored after all of it.
    fn is_expired(&self, next: PhysicalOffset, pass: &mut Pass) -> Result<bool> {
        let Some(age) = self.config.retention.age else { return Ok(false) };
        let cutoff = cutoff(pass.now_millis, age);
        let mut cursor = Cursor::new(next);
        let stored = loop {
            match cursor.next(&self.log, self.dispatched()) {
                // What recovery put in the place of damaged messages has no time.
                Found::Record(_, record) if record.store_millis() <= 0 => {}
                Found::Record(_, record) => break record.store_millis(),
                Found::End(_) | Found::Damage(..) => return Ok(false),
            }
        };
        if stored > cutoff {
            return Ok(false);
        }
        let kept = match pass.kept_longer_from {
            Some(known) => known,
            None => self.kept_longer_from(pass.now_millis)?,
        };
        pass.kept_longer_from = Some(kept);
        Ok(next <= kept)
    }

    /// Tells whether a registered group has to consume something before `next`, and notes it.
    fn is_unconsumed(&self, next: PhysicalOffset, pass: &mut Pass) -> Result<bool> {
        if pass.unconsumed_from.is_none() {
            pass.unconsumed_from = Some(self.unconsumed_from(&pass.standings)?);
        }
        let held = pass.unconsumed_from.as_ref().and_then(Option::as_ref).filter(|(at, _)| *at < next);
        pass.report.held = held.map(|(_, unread)| unread.clone());
        Ok(held.is_some())
    }

    /// Lets queues, index and the list of deleted topics begin where the log begins.
    fn follow_log(&self, before: PhysicalOffset, pass: &mut Pass) -> Result<()> {
        // What did not follow the last time follows now.
        let removed = self.retention.behind.swap(false, Ordering::Relaxed) || self.log.start() > before;
        if !self.retention.trim.swap(false, Ordering::Relaxed) && !removed {
            return Ok(());
        }
        let followed = self.follow_with_queues(removed, pass);
        if followed.is_err() {
            self.retention.trim.store(true, Ordering::Relaxed);
            self.retention.behind.store(removed, Ordering::Relaxed);
        }
        // Who waits for room may find some.
        self.positions.tell();
        followed
    }

    fn follow_with_queues(&self, removed: bool, pass: &mut Pass) -> Result<()> {
        let start = self.log.start();
        for queue in self.queues.all() {
            if removed {
                let place = queue.first_from(start)?;
                pass.report.lost.extend(pass.standings.unread_before(&queue, place));
                pass.report.messages = pass.report.messages.saturating_add(queue.raise_min_to(place));
            }
            pass.report.queue_files = pass.report.queue_files.saturating_add(queue.drop_files_before_min()?);
        }
        if removed {
            self.index.drop_before(start)?;
            self.deleted.forget_before(start)?;
        }
        Ok(())
    }

    /// Returns what retention has deleted since the opening.
    pub(crate) fn deletions(&self) -> Deletions {
        *self.retention.totals.lock()
    }
}
