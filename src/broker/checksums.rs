//! In which parts of the log does every record carry our checksum of the whole record?
//!
//! There, and only there, a record without it is damaged (contract, design point 9): a RocketMQ broker writes none, or
//! copies an old one along. `pocketmq/checksums` lists the ranges as JSON: `{"ranges":[[from,to],…]}`.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::Result;
use crate::storage::{Disk, load_config, save_config};

/// The ranges, in order. The last one may be open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checksums {
    ranges: Vec<(u64, u64)>,
}

impl Checksums {
    /// Reads the ranges. A file that cannot be read demands nothing.
    pub(crate) fn load(disk: &dyn Disk, own: &Path) -> Self {
        let value = load_config(disk, &own.join("checksums")).ok().and_then(|loaded| loaded.value);
        let ranges = value.as_ref().and_then(|value| value.get("ranges")).and_then(Value::as_array);
        let pair = |range: &Value| Some((range.get(0)?.as_u64()?, range.get(1)?.as_u64()?));
        Self { ranges: ranges.map(|ranges| ranges.iter().filter_map(pair).collect()).unwrap_or_default() }
    }

    /// Tells whether the record at `at` must carry one.
    pub(crate) fn demands(&self, at: u64) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// Demands nothing from `at` on: what lies there was not written by us, or lies beyond the end.
    pub(crate) fn end_at(&mut self, at: u64) {
        for range in &mut self.ranges {
            range.1 = range.1.min(at);
        }
        self.ranges.retain(|(from, to)| from < to);
    }

    /// Demands one from `at` on.
    pub(crate) fn begin_at(&mut self, at: u64) {
        match self.ranges.last_mut() {
            Some(last) if last.1 >= at => last.1 = u64::MAX,
            _ => self.ranges.push((at, u64::MAX)),
        }
    }

    /// Writes the ranges. Durable on return.
    pub(crate) fn save(&self, disk: &dyn Disk, own: &Path) -> Result<()> {
        let ranges: Vec<_> = self.ranges.iter().map(|(from, to)| json!([from, to])).collect();
        save_config(disk, &own.join("checksums"), own, &json!({ "ranges": ranges }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_broker_wrote_need_not_carry_our_checksum() {
        let mut checksums = Checksums::default();
        assert!(!checksums.demands(0));
        checksums.begin_at(0);
        assert!(checksums.demands(0) && checksums.demands(5_000));
        checksums.end_at(1_000);
        checksums.begin_at(2_000);
        let demanded = [999, 1_000, 1_999, 2_000].map(|at| checksums.demands(at));
        assert_eq!(demanded, [true, false, false, true]);
    }

    #[test]
    fn a_range_that_goes_on_where_it_ended_stays_one() {
        let mut checksums = Checksums::default();
        checksums.begin_at(0);
        checksums.end_at(700);
        checksums.begin_at(700);
        assert_eq!(checksums.ranges, [(0, u64::MAX)]);
    }
}
