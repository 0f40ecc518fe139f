//! How are the log and the queues made whole again?

use std::sync::Arc;

use super::Parts;
use super::dispatch::{topic_of, unit_of};
use super::report::{LastStop, RecoveryReport};
use super::scan::Verdict;
use crate::commitlog::{Appender, Cursor, Found};
use crate::consumequeue::{Confirmed, ConsumeQueue, Unit};
use crate::error::{Error, Result};
use crate::message::draft::{Coverage, Draft, DraftFields, encode_blank};
use crate::message::record::Record;
use crate::message::sys_flag::{SysFlag, TransactionKind};
use crate::types::{PhysicalOffset, QueueOffset, to_u64, to_usize};

/// The topic of a record that fills the place of damaged ones. No queue lists it.
const FILLER_TOPIC: &str = "_";
/// The longest filler, in bytes.
const FILLER_LEN_MAX: u64 = 1 << 20;
/// Bytes that a filler has besides its body.
const FILLER_WITHOUT_CHECKSUM: u64 = 92;
/// The same with the checksum of the whole record.
const FILLER_WITH_CHECKSUM: u64 = 112;

/// The mending of one broker folder.
pub(super) struct Rebuild<'a> {
    pub(super) parts: &'a Parts,
    pub(super) verdict: &'a Verdict,
    pub(super) report: &'a mut RecoveryReport,
}

impl Rebuild<'_> {
    /// Fills what was skipped, cuts the tail, and syncs again what may never have reached the disk.
    ///
    /// A sync that failed leaves pages that look clean to the next process of the same boot (contract D5), so they are
    /// made dirty before they are synced.
    pub(super) fn log(&mut self) -> Result<Appender> {
        for (from, to) in &self.verdict.fills {
            self.fill(*from, *to)?;
        }
        let Verdict { end, durable, store_millis, .. } = *self.verdict;
        self.report.cut_bytes = self.cut_bytes(end);
        let log = &self.parts.log;
        let appender = log.resume(PhysicalOffset::new(end), PhysicalOffset::new(end), store_millis)?;
        for file in log.files().within(durable, end) {
            let from = to_usize(durable.saturating_sub(file.start()));
            let to = to_usize(end.saturating_sub(file.start())).min(file.map().len());
            file.map().rewrite(from..to)?;
            file.map().sync(from..to)?;
        }
        self.report.rewritten_bytes = end.saturating_sub(durable);
        self.parts.watermark.update(|durables| {
            durables.log = end;
            durables.queues = durables.queues.min(end);
            durables.index = durables.index.min(end);
        })?;
        self.parts.watermark.sync()?;
        Ok(appender)
    }

    /// Counts the bytes beyond the end that hold something.
    fn cut_bytes(&self, end: u64) -> u64 {
        let mut cut = 0_u64;
        for file in self.parts.log.files().within(end, u64::MAX) {
            let from = to_usize(end.saturating_sub(file.start()));
            let beyond = file.map().bytes(from..file.map().len()).unwrap_or_default();
            // A torn tail is short: whether zeros follow it for a gigabyte is not worth reading a hole for.
            let near = beyond.get(..beyond.len().min(8 << 20)).unwrap_or(beyond);
            let last = near.iter().rposition(|byte| *byte != 0).map_or(0, |place| place.saturating_add(1));
            cut = cut.saturating_add(to_u64(last));
        }
        cut
    }

    /// Writes records that no queue lists into a range that holds none, so that every walk passes over it, ours and
    /// RocketMQ's. A file that is missing is made.
    fn fill(&self, from: u64, to: u64) -> Result<()> {
        let files = self.parts.log.files();
        // The smallest record that can have been lost here is no shorter than the smallest filler.
        let (coverage, overhead) = if self.parts.checksums.demands(from) {
            (Coverage::WholeRecord, FILLER_WITH_CHECKSUM)
        } else {
            (Coverage::BodyOnly, FILLER_WITHOUT_CHECKSUM)
        };
        let mut at = from;
        while at < to {
            let file = match files.at(at) {
                Some(file) => file,
                None => files.fill_hole(at)?,
            };
            let stop = to.min(file.end());
            files.allocate(&file, stop.saturating_sub(file.start()))?;
            while at < stop {
                let rest = stop.saturating_sub(at);
                let position = to_usize(at.saturating_sub(file.start()));
                if stop == file.end() && rest < overhead.saturating_mul(2) {
                    file.map().put(position, &encode_blank(u32::try_from(rest).unwrap_or(8)))?;
                    at = stop;
                    continue;
                }
                let len = if rest <= FILLER_LEN_MAX { rest } else { FILLER_LEN_MAX / 2 };
                file.map().put(position, &filler(at, len.saturating_sub(overhead), coverage)?)?;
                at = at.saturating_add(len);
            }
            file.map().sync(0..file.map().len())?;
        }
        Ok(())
    }

    /// Makes the queues say what the log says: what they hold of the part that was read is made again, and everything
    /// where units are missing below it.
    pub(super) fn queues(&mut self) -> Result<()> {
        let end = PhysicalOffset::new(self.verdict.end);
        let start = self.parts.log.start();
        let known = |topic: &crate::types::TopicName| self.parts.topics.get(topic.as_str()).is_some();
        let mut short = self.parts.ends.first_short(&self.parts.queues, known)?;
        if self.parts.queues.all().is_empty() {
            // Nothing says what there was if the store was killed.
            short = short.or_else(|| Some("there is no queue at all".to_owned()));
        }
        let synced = PhysicalOffset::new(self.parts.watermark.get().queues);
        let mut from = if self.report.foreign { start } else { synced.min(end).max(start) };
        if let Some(what) = short.filter(|_| from > start) {
            self.report
                .warnings
                .push(format!("{what}: units are missing, and all queues are made again from the log"));
            from = start;
        }
        self.cut(from)?;
        if !self.replay(from, end)? && from > start {
            self.report
                .warnings
                .push("units are missing in the middle of a queue: all queues are made again".to_owned());
            self.cut(start)?;
            self.replay(start, end)?;
        }
        for queue in self.parts.queues.all() {
            if self.is_deleted(&queue)? {
                self.parts.queues.remove(&queue)?;
                continue;
            }
            queue.raise_min(start)?;
            let topic = self.parts.topics.get_or_restore(queue.topic(), queue.queue_id());
            topic.list_slot(queue.queue_id(), queue);
        }
        self.parts.topics.save()?;
        // Units that lay beyond the end of the log must not come back (contract D3).
        self.parts.queues.sync()
    }

    /// Tells whether a queue is left from a topic whose deletion, or emptying, was interrupted (contract D20): its last
    /// message is gone with the topic, and so are those before. One without a message goes only with its topic.
    fn is_deleted(&self, queue: &ConsumeQueue) -> Result<bool> {
        if self.parts.deleted.is_empty() {
            return Ok(false);
        }
        let is_known = self.parts.topics.get(queue.topic().as_str()).is_some();
        let last = match queue.last()? {
            Some((_, unit)) => unit.physical_offset,
            None if is_known => return Ok(false),
            None => PhysicalOffset::ZERO,
        };
        Ok(self.parts.deleted.covers(queue.topic().as_str(), last))
    }

    fn cut(&self, from: PhysicalOffset) -> Result<()> {
        for queue in self.parts.queues.all() {
            if self.report.last_stop == LastStop::Crash {
                // After a power loss, pages behind a lost one may hold units that nobody has seen.
                queue.distrust_tail();
            }
            queue.cut_from(from)?;
        }
        Ok(())
    }

    /// Puts the units of a part of the log into the queues. `false` if a queue lacks units from before it.
    fn replay(&mut self, from: PhysicalOffset, end: PhysicalOffset) -> Result<bool> {
        let mut cursor = Cursor::new(from);
        let whole = from == self.parts.log.start();
        let mut last: Option<Arc<ConsumeQueue>> = None;
        loop {
            match cursor.next(&self.parts.log, end) {
                Found::Record(at, record) => {
                    let Some((unit, queue)) = self.target(at, &record, last.take())? else { continue };
                    if !self.put_unit(&queue, record.queue_offset(), unit, whole)? {
                        return Ok(false);
                    }
                    last = Some(queue);
                }
                Found::End(_) => return Ok(true),
                Found::Damage(at, what) => return Err(Error::corrupt(self.parts.log.dir(), at.get(), what)),
            }
        }
    }

    /// Returns the unit of a record and the queue to which it belongs.
    fn target(
        &mut self,
        at: PhysicalOffset,
        record: &Record<'_>,
        last: Option<Arc<ConsumeQueue>>,
    ) -> Result<Option<(Unit, Arc<ConsumeQueue>)>> {
        let Some(unit) = unit_of(at, record, &self.parts.delay_levels) else { return Ok(None) };
        let belongs = |queue: &Arc<ConsumeQueue>| {
            queue.queue_id() == record.queue_id() && queue.topic().as_str().as_bytes() == record.topic_bytes()
        };
        if let Some(queue) = last.filter(belongs) {
            return Ok(Some((unit, queue)));
        }
        let Some(topic) = topic_of(record).filter(|topic| !self.parts.deleted.covers(topic.as_str(), at))
        else {
            return Ok(None);
        };
        if record.queue_id() > crate::config::QUEUES_MAX {
            self.report
                .warnings
                .push(format!("the message at byte {at} of the log names queue {}", record.queue_id()));
            return Ok(None);
        }
        Ok(Some((unit, self.parts.queues.get_or_create(&topic, record.queue_id())?)))
    }

    fn put_unit(&mut self, queue: &ConsumeQueue, at: QueueOffset, unit: Unit, whole: bool) -> Result<bool> {
        match queue.confirm(at, unit)? {
            Confirmed::Same => {}
            Confirmed::Appended | Confirmed::Replaced => {
                self.report.units_rebuilt = self.report.units_rebuilt.saturating_add(1);
            }
            Confirmed::Gap if !whole => return Ok(false),
            Confirmed::Gap => self.bridge(queue, at, unit)?,
        }
        Ok(true)
    }

    /// Lists a message whose predecessors are lost: their places are taken by units that no reader believes.
    fn bridge(&mut self, queue: &ConsumeQueue, at: QueueOffset, unit: Unit) -> Result<()> {
        let missing = at.since(queue.max_offset());
        self.report.warnings.push(format!(
            "queue {} of {} lacks {missing} messages before offset {at}",
            queue.queue_id(),
            queue.topic()
        ));
        let filled = self.report.lost.last().map_or(unit.physical_offset, |lost| lost.from);
        let nobody =
            Unit { physical_offset: filled.min(unit.physical_offset), size: unit.size, tags_code: 0 };
        if missing > u64::from(u32::MAX) || nobody.physical_offset.get() == 0 {
            return Err(Error::corrupt(
                self.parts.log.dir(),
                unit.physical_offset.get(),
                "the queue offset is impossible",
            ));
        }
        while queue.max_offset() < at {
            queue.append(queue.max_offset(), nobody)?;
        }
        queue.append(at, unit)
    }
}

/// Returns a record that is valid and that no queue lists.
fn filler(at: u64, body_len: u64, coverage: Coverage) -> Result<Vec<u8>> {
    let body = vec![0; to_usize(body_len)];
    let host = super::conf::default_host(0);
    let fields = DraftFields {
        topic: FILLER_TOPIC,
        queue_id: 0,
        flag: 0,
        sys_flag: SysFlag::NONE.with_transaction(TransactionKind::Rollback),
        born_millis: 0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: PhysicalOffset::ZERO,
        body: &body,
        properties: &[],
    };
    let mut buffer = Vec::new();
    let draft = Draft::new(&fields, coverage, &mut buffer)?;
    draft.seal(&mut buffer, QueueOffset::ZERO, PhysicalOffset::new(at), 0);
    Ok(draft.pieces(&buffer).concat())
}
