//! What is undecided in a folder that was just opened, and what has come since somebody last looked?
//!
//! A half message is decided if a record of the other topic names its offset: alone, as RocketMQ 4.9 and we write it, or in
//! a list, as RocketMQ 5.1 and later do. Both topics are read from where RocketMQ's positions say that everything before
//! is done with.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Transactions;
use super::table::{Half, Table, Ticket};
use crate::broker::target_of;
use crate::commitlog::MessageView;
use crate::error::Result;
use crate::message::MessageId;
use crate::message::properties::name;
use crate::types::{GroupName, QueueOffset};

/// The tag of a record that names decided half messages.
const OP_TAG: &str = "d";

impl Transactions {
    /// Reads both topics.
    pub(super) fn load(&self, warnings: &mut Vec<String>) -> Result<Table> {
        let (halves, ops) =
            (self.broker.transactions_done(&self.halves)?, self.broker.transactions_done(&self.ops)?);
        let decided = self.read_decided(ops)?;
        let mut table = Table::starting_at(halves, ops);
        table.named = decided.iter().max().map_or(QueueOffset::ZERO, |last| last.plus(1));
        let (_, max) = self.broker.queue_range(&self.halves, 0).unwrap_or_default();
        let mut by_id: HashMap<(GroupName, MessageId), QueueOffset> = HashMap::new();
        while table.seen < max {
            let at = table.seen;
            table.pass(at);
            if decided.contains(&at) {
                continue;
            }
            let Some((half, view)) = self.read_half(at, warnings)? else { continue };
            let copied = view.property(name::PREPARED_QUEUE_OFFSET).and_then(|at| at.parse().ok());
            if copied.is_some_and(|at| decided.contains(&QueueOffset::new(at))) {
                // RocketMQ stored it once more while it was being decided.
                table.unwritten.insert(at);
                continue;
            }
            // A crash came between storing it once more and writing that down, or a client sent it twice.
            if let Some(earlier) = by_id.insert((half.group.clone(), half.id), at) {
                table.remove(earlier);
                table.unwritten.insert(earlier);
            }
            table.insert(at, half);
        }
        Ok(table)
    }

    /// Reads which half messages are decided, by the records from `from` on.
    fn read_decided(&self, from: QueueOffset) -> Result<HashSet<QueueOffset>> {
        let (min, max) = self.broker.queue_range(&self.ops, 0).unwrap_or_default();
        let mut decided = HashSet::new();
        let mut at = from.max(min);
        while at < max {
            if let Some(op) = self.broker.message_in(&self.ops, 0, at)?
                && op.tag() == OP_TAG
            {
                decided.extend(offsets_in(op.raw_body()));
            }
            at = at.plus(1);
        }
        Ok(decided)
    }

    /// Looks at half messages that nobody has looked at: those that were just begun are known, others are listed.
    pub(super) fn look(&self, table: &mut Table, warnings: &mut Vec<String>) -> Result<()> {
        let (min, max) = self.broker.queue_range(&self.halves, 0).unwrap_or_default();
        table.seen = table.seen.max(min);
        while table.seen < max {
            let at = table.seen;
            if !table.knows(at)
                && let Some((half, _)) = self.read_half(at, warnings)?
            {
                table.insert(at, half);
            }
            table.pass(at);
        }
        Ok(())
    }

    /// Reads a half message. One that is gone, or says neither who began it nor where it belongs, is passed over.
    fn read_half(&self, at: QueueOffset, warnings: &mut Vec<String>) -> Result<Option<(Half, MessageView)>> {
        let Some(view) = self.broker.message_in(&self.halves, 0, at)? else { return Ok(None) };
        let group = view.property(name::PRODUCER_GROUP).and_then(|group| GroupName::stored(group).ok());
        let (Some(group), Some(_)) = (group, target_of(&view)) else {
            warnings.push(format!("half message {at} does not say whose it is or where it belongs"));
            return Ok(None);
        };
        let checks = view.property(name::CHECK_TIMES).and_then(|checks| checks.parse().ok()).unwrap_or(0);
        let (now, age) = (self.clock.monotonic(), self.age_of(&view));
        let immunity = self.immunity_of(view.properties());
        let half = Half {
            physical: view.physical_offset(),
            id: view.message_id(),
            group,
            checks,
            due: Some(now.saturating_add(immunity.saturating_sub(age))),
            carry_at: now.saturating_add(self.carry_after().saturating_sub(age)),
            ticket: Ticket::new(at),
        };
        Ok(Some((half, view)))
    }

    /// Returns how long ago a half message was stored, by the time of day; nothing where a clock ran otherwise.
    fn age_of(&self, view: &MessageView) -> Duration {
        let millis = self.clock.wall_millis().saturating_sub(view.store_millis());
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// Reads the offsets that a record names: one, or a list in which each is followed by a comma.
fn offsets_in(body: &[u8]) -> impl Iterator<Item = QueueOffset> {
    let texts = body.split(|byte| *byte == b',').filter_map(|text| std::str::from_utf8(text).ok());
    texts.filter_map(|text| text.trim().parse().ok()).map(QueueOffset::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f134_an_op_record_names_one_offset_or_a_list() {
        let read = |body: &[u8]| offsets_in(body).map(QueueOffset::get).collect::<Vec<_>>();
        assert_eq!(read(b"12"), [12]);
        assert_eq!(read(b"12,13,17,"), [12, 13, 17]);
        assert_eq!(read(b"0,"), [0]);
        assert!(read(b"").is_empty() && read(b",,").is_empty() && read(b"x,-1,\xFF").is_empty());
        assert_eq!(read(b"99999999999999999999,5"), [5]);
    }
}
