//! Scenario 15: how much memory does a process hold for what it has appended, and for queues that are idle?

use anyhow::Result;

use super::failed;
use crate::bench::{Bench, Entry, Kind};
use crate::contender::DEFAULTS;
use crate::job::{Flush, Ours, Work};
use crate::report::numbers::{bytes, or_dash};
use crate::report::{Line, Section, Table};

const SIZE: usize = 1_024;
const QUEUES: u32 = 10_000;

pub fn memory(bench: &mut Bench) -> Result<Section> {
    let payload = bench.plan.pick(64_u64 << 20, 1 << 30);
    let messages = payload / SIZE as u64;
    let mut entries = bench.entries(Flush::Async, SIZE, &Work::Memory { messages }, |_| true);
    for entry in &mut entries {
        entry.job.capacity = messages + 1_000;
    }
    // Memory hardly varies: one run each says it.
    let rounds = std::mem::replace(&mut bench.plan.rounds, 1);
    let race = bench.race(entries, "bytes", true);
    bench.plan.rounds = rounds;
    let race = race?;
    let how = format!(
        "Durability: async. Anonymous memory of a process (`RssAnon`) after appending {} in messages of 1 KiB; mapped files are \
         not in it. One run each.",
        bytes(payload as f64)
    );
    let mut section = Section::new("15", "memory", how);
    let line =
        Line::new("15", format!("anonymous memory after appending {}", bytes(payload as f64)), "B", "async");
    let line = line.lower().ours(race.get(DEFAULTS, "bytes"));
    section.lines.push(line.limit("16 MiB", Some(16.0 * 1_048_576.0), 1.0).judged());
    let header = ["contender", "anonymous memory", "of which since the first message"];
    let rows = race.rows.iter().map(|row| {
        let held = row.get("bytes").map_or_else(|| failed(row), bytes);
        vec![row.name.clone(), held, or_dash(row.get("grown"), bytes)]
    });
    section.table = Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() };
    idle_queues(bench, &mut section)?;
    section.notes.push("Pending timers do not exist yet; there is nothing to measure.".to_owned());
    Ok(section)
}

fn idle_queues(bench: &Bench, section: &mut Section) -> Result<()> {
    bench.progress("idle queues");
    let work = Work::Ours(Ours::Queues { queues: QUEUES, append: 1_000 });
    let entry = Entry::new(DEFAULTS, Kind::Ours, bench.job(DEFAULTS, Flush::Async, 16, work));
    let outcome = bench.once(&entry, &mut Vec::new())?;
    let each = outcome.get("memory").map(|memory| memory / f64::from(QUEUES));
    let line = Line::new("15", format!("an idle queue among {QUEUES}"), "B", "async").lower().ours(each);
    section.lines.push(line.limit("300 B", Some(300.0), 1.0).judged());
    Ok(())
}
