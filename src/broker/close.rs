//! How does everything get to disk: every few seconds, on demand, and at the end?

use super::Broker;
use super::open::write_abort;
use super::queue_ends::QueueEnds;
use crate::error::Result;
use crate::events;
use crate::sync::Ordering;

impl Broker {
    /// Gets everything to disk now: the log, the queues, the index, positions and topics. Blocks for it.
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_open()?;
        self.flush_and_dispatch()?;
        self.checkpoint_now(true)
    }

    /// Writes down how far everything is on disk. What failed among the derived data is noted and does not stop the
    /// rest; its own mark then stays where it is (contract D6).
    pub(super) fn checkpoint_now(&self, strict: bool) -> Result<()> {
        let _one_after_the_other = self.writing.lock();
        self.checkpoint_held(strict)
    }

    /// The same, for who holds the lock on writing already.
    fn checkpoint_held(&self, strict: bool) -> Result<()> {
        let (dispatched, millis, end) = {
            let state = self.put_state.lock();
            (self.dispatched().get(), state.appender.store_millis(), state.appender.end())
        };
        let acks = self.joined.mark(end);
        let flushed = self.flush_log();
        // A position that moves on before each flush ends is followed a step behind.
        let acks = self.settle_positions().map_or(acks, |covered| acks.min(covered));
        let queues = self.queues.sync();
        let index = self.index.sync();
        // Topics and positions do not depend on the log: they are written also where that has failed.
        let topics = self.topics.save();
        let minimums = self.minimums.save();
        let positions = self.persist_positions();
        let positions =
            positions.and_then(|()| if flushed.is_ok() { self.note_joined(acks) } else { Ok(()) });
        let flushed = flushed?.get();
        let marked = self.watermark.update(|durable| {
            if queues.is_ok() {
                durable.queues = durable.queues.max(dispatched.min(flushed));
            }
            if let Ok(end) = &index {
                durable.index = durable.index.max(end.get().min(flushed));
            }
        });
        let queues_millis = if queues.is_ok() { millis } else { 0 };
        let index_millis = self.index.last_full_end_millis();
        let marked = marked
            .and_then(|()| self.watermark.sync())
            .and_then(|()| self.checkpoint.store(millis, queues_millis, index_millis));
        let parts = [
            ("queues", queues.as_ref().err()),
            ("index", index.as_ref().err()),
            ("topics", topics.as_ref().err()),
            ("minimums", minimums.as_ref().err()),
            ("positions", positions.as_ref().err()),
            ("checkpoint", marked.as_ref().err()),
        ];
        let failed = parts.iter().filter_map(|(part, error)| error.map(|error| format!("{part}: {error}")));
        self.note_troubles(failed.collect());
        if strict {
            queues?;
            topics?;
            minimums?;
            positions?;
            marked?;
        }
        Ok(())
    }

    fn note_troubles(&self, now: Vec<String>) {
        let mut before = self.troubles.lock();
        if *before != now {
            now.iter().for_each(|trouble| events::degraded(&self.name, trouble));
            if now.is_empty() {
                events::recovered(&self.name);
            }
            *before = now;
        }
    }

    pub(super) fn persist_positions(&self) -> Result<()> {
        let written = self.positions.persist(|crc| self.owner.announce(crc))?;
        if written { self.owner.claim() } else { Ok(()) }
    }

    /// Closes the broker in the order of the contract (D17): a close that fails anywhere leaves `abort`, so that the
    /// next opening looks at everything. Closing twice is no error.
    pub(crate) fn close(&self) -> Result<()> {
        {
            // Senders look under this lock: what is in the log now is all there will be.
            let _senders = self.put_state.lock();
            if self.closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
        }
        self.workers.stop();
        // Held until the folder is given up: nobody who came before writes into it afterwards.
        let writing = self.writing.lock();
        let result = self.write_everything();
        match &result {
            Ok(()) => events::closed(&self.name),
            Err(error) => events::close_failed(&self.name, error),
        }
        self.wake_all();
        drop(self.lock.lock().take());
        drop(writing);
        self.tell_flushed();
        result
    }

    fn write_everything(&self) -> Result<()> {
        if self.disk.is_private() {
            return Ok(());
        }
        let flushed = self.flush_and_dispatch();
        // A lagging index is made again by the next opening; it is no reason to stop.
        let _ = self.index_to(self.dispatched());
        let written = self.checkpoint_held(true);
        flushed?;
        written?;
        // Sends go on without an index; a stop is clean only with it.
        self.index.sync()?;
        QueueEnds::save(&self.queues, self.disk.as_ref(), &self.folder.own())?;
        self.log.files().drop_ahead()?;
        if self.unclean.load(Ordering::Acquire) {
            return Ok(());
        }
        let abort = self.folder.root.join("abort");
        if self.disk.metadata(&abort)?.is_some() {
            self.disk.remove_file(&abort)?;
        }
        self.disk.sync_dir(&self.folder.root).inspect_err(|_| {
            // The first error is the one that matters.
            let _ = write_abort(self.disk.as_ref(), &self.folder);
        })
    }

    /// Has the coming close leave `abort`: something that belongs to a clean stop could not be written.
    pub(crate) fn keep_abort(&self) {
        self.unclean.store(true, Ordering::Release);
    }

    /// Stops as the death of the process would: nothing is flushed, nothing is written down.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn kill(&self) {
        self.closed.store(true, Ordering::Release);
        self.workers.stop();
        self.wake_all();
        drop(self.lock.lock().take());
        self.tell_flushed();
    }

    /// Wakes everybody who waits for messages, so that they see that the store is closed.
    fn wake_all(&self) {
        self.positions.tell();
        for topic in self.topics.all() {
            topic.notify();
        }
    }
}
