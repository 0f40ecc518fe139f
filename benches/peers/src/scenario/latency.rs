//! Scenarios 11 and 12: how long does an append take at a fixed rate, and how long until a sleeping consumer has it?

use anyhow::Result;

use super::{best_peer, both, failed};
use crate::bench::{Bench, Entry, Kind, Race};
use crate::contender::DEFAULTS;
use crate::job::{Flush, Ours, Probe, Work};
use crate::report::numbers::{count, or_dash, time};
use crate::report::{Line, Section, Table};

const RATE: f64 = 50_000.0;
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 2.0), ("p90", 10.0), ("p99", 100.0), ("p99.9", 1_000.0), ("p99.99", 10_000.0)];
const WAKE: &str = "(one thread wakes another)";

pub fn append(bench: &mut Bench) -> Result<Section> {
    let seconds = bench.plan.pick(1.2, 8.0);
    let work = Work::Latency { rate: RATE, seconds };
    let mut entries = bench.entries(Flush::Async, 1_024, &work, |_| true);
    for entry in &mut entries {
        entry.job.capacity = (RATE * seconds) as u64 + 1_000;
    }
    let race = bench.race(entries, "p99", true)?;
    let how = format!(
        "Durability: async. One producer sends {} messages of 1 KiB a second for {seconds} s, across file rolls; the time of \
         each runs from the moment at which it was due to the return of the call. Medians of at most {} runs.",
        count(RATE),
        bench.plan.rounds
    );
    let mut section = Section::new("11", "latency of an append at 50,000 messages a second", how);
    for figure in ["p99", "p99.9"] {
        let base = Line::new("11", format!("append call, {figure}"), "ns", "async").lower();
        section.lines.extend(both(&race, figure, 10.0, |line| line, &base));
    }
    section.table = table(&race);
    for row in &race.rows {
        for (name, x) in PERCENTILES {
            section.point("latency", &row.name, x, row.get(name));
        }
    }
    if let Some((name, _)) = best_peer(&race, "p99", true) {
        section.notes.push(format!(
            "The best peer at p99 is {name}. Who cannot keep the rate falls behind without end."
        ));
    }
    Ok(section)
}

fn table(race: &Race) -> Table {
    let names = PERCENTILES.map(|(name, _)| name.to_owned());
    let header =
        [vec!["contender".to_owned()], names.to_vec(), vec!["longest".to_owned(), "reached/s".to_owned()]];
    let rows = race.rows.iter().map(|row| {
        let nanos = |name: &str| or_dash(row.get(name), |nanos| time(nanos / 1e9));
        let mut cells = vec![row.name.clone()];
        cells.extend(PERCENTILES.map(|(name, _)| nanos(name)));
        cells.extend([nanos("max"), row.get("rate").map_or_else(|| failed(row), count)]);
        cells
    });
    Table { header: header.concat(), rows: rows.collect() }
}

pub fn wake(bench: &mut Bench) -> Result<Section> {
    let seconds = bench.plan.pick(1.0, 5.0);
    let name = |rate: f64| format!("pocketmq, {} messages a second", count(rate));
    let rates = [RATE, 1_000.0];
    let mut entries: Vec<Entry> = rates
        .into_iter()
        .map(|rate| {
            let work = Work::Ours(Ours::Wake { rate, seconds });
            Entry::new(&name(rate), Kind::Ours, bench.job(DEFAULTS, Flush::Async, 1_024, work))
        })
        .collect();
    entries.push(bench.probe(WAKE, 1_024, Probe::ThreadWake { times: bench.plan.pick(1_000, 5_000) }));
    let race = bench.race(entries, "p50", true)?;
    let how = format!(
        "Durability: async. A consumer sleeps in `recv` until a message wakes it; the time runs from the moment at which the \
         message was due to the consumer having it. Medians of {} runs.",
        bench.plan.rounds
    );
    let mut section = Section::new("12", "from sending to a consumer that sleeps, 1 KiB", how);
    let limit = race.get(WAKE, "p50");
    for rate in rates {
        let figure = format!("send to sleeping consumer, p50, {} a second", count(rate));
        let line = Line::new("12", figure, "ns", "async").lower().ours(race.get(&name(rate), "p50"));
        section.lines.push(line.limit("a thread's wake", limit, 1.0 / 1.5).judged());
    }
    section.table = table(&race);
    Ok(section)
}
