//! Scenario 10: how many messages a second are consumed when every byte is read?

use anyhow::Result;

use super::append::append_table;
use super::rates;
use crate::bench::Bench;
use crate::contender::{LIKE, WITH_READ};
use crate::job::{Flush, Probe, Work};
use crate::report::{Line, Section};

/// The peers that targets name.
const NAMED: [&str; 2] = ["khata-rs", "commitlog"];
const SCAN: &str = "(scan of a mapped file)";

pub fn everything(bench: &mut Bench) -> Result<Section> {
    let how = format!(
        "Written just before by the same process, async flush, so the pages are cached. Every byte of every body is read. \
         Medians of at most {} interleaved runs.",
        bench.plan.rounds
    );
    let mut section = Section::new("10", "consume everything, every byte read", how);
    for size in [1_024_usize, 128] {
        let most = bench.plan.pick(100_000, 1_000_000);
        let messages = (bench.plan.payload / size as u64).min(most);
        let mut entries = bench.entries(Flush::Async, size, &Work::Read { messages }, |can| can.read);
        for entry in &mut entries {
            entry.named = NAMED.iter().any(|name| entry.name.starts_with(name));
        }
        let bytes = messages * (size as u64 + 101);
        entries.push(bench.probe(SCAN, size, Probe::Scan { bytes }));
        let race = bench.race(entries, "rate", false)?;
        let against = |peer: &str| {
            let row = race.rows.iter().find(|row| row.name.starts_with(peer))?;
            Some((row.name.clone(), row.get("rate")?))
        };
        let targets = [if size == 1_024 { 0.9 } else { 0.5 }, 3.0];
        for (peer, target) in NAMED.into_iter().zip(targets) {
            let figure = format!("consume {size} B, beside {peer}");
            let mut line = Line::new("10", figure, "messages/s", "read").ours(race.get(LIKE, "rate"));
            if size == 1_024 {
                line = line.limit("mapped scan", race.get(SCAN, "rate"), 0.85);
            }
            section.lines.push(line.peer(against(peer), target).judged());
        }
        append_table(&mut section, rates(&race, "messages/s"), &format!("{size} B"));
    }
    section.notes.push(WITH_READ.to_owned());
    Ok(section)
}
