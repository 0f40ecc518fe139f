//! Is everything in a broker's folder what it should be? Reads all of it and changes nothing.
//!
//! The log is walked from its beginning, every checksum checked. Then each record is looked up in its queue: a unit that
//! is missing or says something else is a fault, unless it belongs to the part that the next opening makes anyway. The keys of
//! each record are held against the entries of the index, which come in the order of the log; index files against
//! themselves, positions against their queues.

use std::fmt;
use std::path::PathBuf;

use super::dispatch::{keys_of, topic_of, unit_of};
use super::open::{LookedThrough, look_through};
use super::report::{LastStop, LostRange};
use super::{Broker, BrokerOptions, Parts};
use crate::commitlog::{Cursor, Found};
use crate::error::Result;
use crate::index::{Entries, Index};
use crate::message::record::Record;
use crate::types::{BrokerName, PhysicalOffset};

/// Faults that are described; the others are counted.
const DESCRIBED_MAX: usize = 100;

/// What the verification of one broker's folder found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedBroker {
    /// The broker.
    pub broker: BrokerName,
    /// Its folder.
    pub dir: PathBuf,
    /// How it was left.
    pub last_stop: LastStop,
    /// Where its log begins.
    pub start: PhysicalOffset,
    /// Where its log ends. What a crash left behind this is no fault: the next opening cuts it off.
    pub end: PhysicalOffset,
    /// Records that were read and whose checksums are right.
    pub records: u64,
    /// Parts of the log that had been flushed and cannot be read.
    pub lost: Vec<LostRange>,
    /// Messages that their queue does not list where it should, keys that the index does not list, positions beyond their
    /// queue, index files that contradict themselves. All of these can be made again from the log.
    pub faults: u64,
    /// The first hundred of them.
    pub descriptions: Vec<String>,
    /// Queue units that are not written yet, and need not be: the next opening makes them.
    pub pending_units: u64,
    /// Everything else that a person should know: strange files, backups that were used.
    pub warnings: Vec<String>,
}

impl VerifiedBroker {
    /// Tells whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.lost.is_empty() && self.faults == 0
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        self.faults = self.faults.saturating_add(1);
        if self.descriptions.len() < DESCRIBED_MAX {
            self.descriptions.push(what());
        }
    }
}

impl fmt::Display for VerifiedBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_sound() { "sound" } else { "NOT SOUND" };
        write!(
            formatter,
            "{}: {verdict}, {} records in bytes {} to {} of the log",
            self.broker, self.records, self.start, self.end
        )?;
        for lost in &self.lost {
            write!(formatter, "; bytes {} to {} are lost: {}", lost.from, lost.to, lost.what)?;
        }
        if self.faults > 0 {
            write!(formatter, "; {} faults that the next opening mends", self.faults)?;
        }
        self.descriptions.iter().chain(&self.warnings).try_for_each(|what| write!(formatter, "; {what}"))
    }
}

impl Broker {
    /// Reads a broker's folder whole. The disk must be one that keeps every change to itself.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a feature that cannot be carried; `Corrupt` where a folder or a file is so wrong that nothing can
    /// be said of the rest; `ConfigMismatch`; `Io`.
    pub(crate) fn verify(options: &BrokerOptions) -> Result<VerifiedBroker> {
        let looked = look_through(options)?;
        let report = &looked.report;
        let mut found = VerifiedBroker {
            broker: options.name.clone(),
            dir: options.dir.clone(),
            last_stop: report.last_stop,
            start: looked.parts.log.start(),
            end: PhysicalOffset::new(looked.verdict.end),
            records: report.records,
            lost: report.lost.clone(),
            faults: 0,
            descriptions: Vec::new(),
            pending_units: 0,
            warnings: report.warnings.clone(),
        };
        check_queues(&looked, &mut found)?;
        check_positions(&looked, &mut found);
        for fault in &looked.index_faults {
            found.fault(|| fault.clone());
        }
        Ok(found)
    }
}

fn is_lost(found: &VerifiedBroker, at: PhysicalOffset) -> bool {
    found.lost.iter().any(|lost| (lost.from..lost.to).contains(&at))
}

/// Looks every record up in its queue.
fn check_queues(looked: &LookedThrough, found: &mut VerifiedBroker) -> Result<()> {
    let parts = &looked.parts;
    let mut cursor = Cursor::new(parts.log.start());
    let mut keys = looked.index.as_ref().map(|index| ListedKeys::of(index, parts)).transpose()?;
    loop {
        match cursor.next(&parts.log, found.end) {
            // What the walk gave up is no message any more.
            Found::Record(at, record) if !is_lost(found, at) => {
                check_unit(looked, found, at, &record)?;
                if let Some(keys) = &mut keys {
                    keys.check(found, at, &record)?;
                }
            }
            Found::Record(..) => {}
            Found::Damage(at, _) | Found::End(at) => {
                // The walk has told of it already.
                let Some(lost) = found.lost.iter().find(|lost| (lost.from..lost.to).contains(&at)) else {
                    break;
                };
                cursor.jump(lost.to);
            }
        }
    }
    for queue in parts.queues.all() {
        if let Some((at, unit)) = queue.last()?
            && unit.physical_offset >= found.end
            && looked.report.last_stop == LastStop::Clean
        {
            let (topic, id) = (queue.topic(), queue.queue_id());
            found
                .fault(|| format!("queue {id} of {topic} lists at {at} a message beyond the end of the log"));
        }
    }
    Ok(())
}

/// The entries of the index, beside a walk through the log.
struct ListedKeys {
    entries: Entries,
    /// The next one.
    next: Option<(PhysicalOffset, u32)>,
    /// Before this byte every record is listed.
    end: PhysicalOffset,
}

impl ListedKeys {
    fn of(index: &Index, parts: &Parts) -> Result<Self> {
        let mut entries = index.entries();
        let (start, mut next) = (parts.log.start(), entries.next()?);
        // The oldest file of the index lists also what has gone from the log.
        while next.is_some_and(|(at, _)| at < start) {
            next = entries.next()?;
        }
        Ok(Self { entries, next, end: PhysicalOffset::new(parts.watermark.get().index) })
    }

    /// Compares the keys of the next record with the entries that lead to it.
    fn check(&mut self, found: &mut VerifiedBroker, at: PhysicalOffset, record: &Record<'_>) -> Result<()> {
        let mut listed = Vec::new();
        while let Some((place, hash)) = self.next.filter(|(place, _)| *place <= at) {
            if place == at {
                listed.push(hash);
            } else if !is_lost(found, place) {
                found.fault(|| format!("the index lists a message at byte {place}, where none begins"));
            }
            self.next = self.entries.next()?;
        }
        if at >= self.end {
            return Ok(());
        }
        let mut wanted: Vec<u32> = keys_of(at, record).map(|key| key.hash).collect();
        wanted.sort_unstable();
        listed.sort_unstable();
        if listed != wanted {
            let (has, had) = (wanted.len(), listed.len());
            found.fault(|| {
                format!("the message at byte {at} has {has} keys, and the index lists {had}, or others")
            });
        }
        Ok(())
    }
}

fn check_unit(
    looked: &LookedThrough,
    found: &mut VerifiedBroker,
    at: PhysicalOffset,
    record: &Record<'_>,
) -> Result<()> {
    let parts = &looked.parts;
    let (Some(unit), Some(topic)) = (unit_of(at, record, &parts.delay_levels), topic_of(record)) else {
        return Ok(());
    };
    if parts.deleted.covers(topic.as_str(), at) {
        return Ok(());
    }
    let (place, id) = (record.queue_offset(), record.queue_id());
    let listed = match parts.queues.get(&topic, id) {
        // Gone before its bytes: retention, or a limit.
        Some(queue) if place < queue.min_offset() => return Ok(()),
        Some(queue) => queue.get(place)?,
        None => None,
    };
    if listed == Some(unit) {
        return Ok(());
    }
    if listed.is_none() && at.get() >= looked.units_synced {
        found.pending_units = found.pending_units.saturating_add(1);
        return Ok(());
    }
    found.fault(|| match listed {
        Some(_) => {
            format!("queue {id} of {topic} lists another message at {place} than the one at byte {at}")
        }
        None => format!("queue {id} of {topic} does not list the message at byte {at}, its number {place}"),
    });
    Ok(())
}

/// Holds the committed positions against the queues.
fn check_positions(looked: &LookedThrough, found: &mut VerifiedBroker) {
    for (key, offset) in &looked.positions {
        let max = looked.parts.queues.get(&key.topic, key.queue_id).map(|queue| queue.max_offset());
        // Before the units of a crash are made again, a position may be ahead of them.
        if found.pending_units == 0 && max.is_some_and(|max| *offset > max) {
            let (group, topic, id) = (&key.group, &key.topic, key.queue_id);
            found.fault(|| format!("group {group} is at {offset} in queue {id} of {topic}, beyond its end"));
        }
    }
}
