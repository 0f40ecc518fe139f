//! Scenarios 1 to 6: how many messages a second are appended when nobody waits for the disk?

use anyhow::Result;

use super::{best_peer, both, rates};
use crate::bench::{Bench, Entry, Kind, Race};
use crate::contender::{Can, DEFAULTS, LIKE};
use crate::job::{Flush, Probe, Work};
use crate::report::{Line, Section};

const RATE: &str = "messages/s";
const PROTOTYPE: &str = "(prototype of the record format)";
const COPY_CRC: &str = "(copy and checksum)";
const POPULATE: &str = "(page populate rate)";

/// What a scenario of one size measures.
struct One {
    id: &'static str,
    size: usize,
    target: f64,
    limit: Limit,
}

enum Limit {
    /// So much of the prototype.
    Prototype(f64),
    /// So much of what `MADV_POPULATE_WRITE` populates.
    Populate(f64),
}

pub fn small(bench: &mut Bench) -> Result<Section> {
    one(bench, &One { id: "1", size: 128, target: 2.0, limit: Limit::Prototype(0.55) })
}

pub fn middle(bench: &mut Bench) -> Result<Section> {
    one(bench, &One { id: "2", size: 1_024, target: 1.8, limit: Limit::Prototype(0.75) })
}

pub fn large(bench: &mut Bench) -> Result<Section> {
    one(bench, &One { id: "3", size: 16_384, target: 2.0, limit: Limit::Populate(0.9) })
}

fn one(bench: &mut Bench, what: &One) -> Result<Section> {
    let budget = bench.plan.budget(what.size);
    let work = Work::Append { producers: 1, batch: 0, keyed: false, budget };
    let mut entries = bench.entries(Flush::Async, what.size, &work, |_| true);
    entries.push(bench.probe(PROTOTYPE, what.size, Probe::Prototype { messages: budget.messages }));
    if let Limit::Populate(_) = what.limit {
        entries.push(bench.probe(POPULATE, what.size, Probe::Populate { bytes: bench.plan.payload }));
    }
    let race = bench.race(entries, "rate", false)?;
    let title = format!("append {} B, 1 producer", what.size);
    let mut section = Section::new(what.id, title, how(bench, what.size));
    let ceiling = race.get(PROTOTYPE, "rate");
    let base = Line::new(what.id, format!("append {} B, 1 producer", what.size), RATE, "async");
    section.lines = both(
        &race,
        "rate",
        what.target,
        |line| match what.limit {
            Limit::Prototype(part) => line.limit("prototype", ceiling, part).ceiling(ceiling),
            Limit::Populate(part) => {
                let bytes = race.get(POPULATE, "bytes_per_second");
                let rate = bytes.map(|bytes| bytes / (what.size + 101) as f64);
                line.limit("populate rate", rate, part).ceiling(ceiling)
            }
        },
        &base,
    );
    section.table = rates(&race, RATE);
    points(&mut section, &race, "throughput", what.size as f64);
    Ok(section)
}

fn how(bench: &Bench, size: usize) -> String {
    let budget = bench.plan.budget(size);
    format!(
        "Durability: async, nobody waits for the disk. Medians of at most {} interleaved runs, each of {} messages or {} s, \
         each in a process of its own after touching the memory that it fills.",
        bench.plan.rounds, budget.messages, budget.seconds
    )
}

pub fn points(section: &mut Section, race: &Race, picture: &str, x: f64) {
    for row in race.rows.iter().filter(|row| row.kind != Kind::Limit) {
        section.point(picture, &row.name, x, row.get("rate"));
    }
}

pub fn four(bench: &mut Bench) -> Result<Section> {
    let mut section =
        Section::new("4", "append from 4 producers on the cores of this machine", how(bench, 1_024));
    for (size, target) in [(1_024, 1.5), (128, 1.5)] {
        let budget = bench.plan.budget(size);
        let work = |producers| Work::Append { producers, batch: 0, keyed: false, budget };
        let mut entries = bench.entries(Flush::Async, size, &work(4), |_| true);
        for name in [LIKE, DEFAULTS] {
            let job = bench.job(name, Flush::Async, size, work(1));
            entries.push(Entry::new(&alone(name), Kind::Limit, job));
        }
        let race = bench.race(entries, "rate", false)?;
        let base = Line::new("4", format!("append {size} B, 4 producers"), RATE, "async");
        for mut line in both(&race, "rate", target, |line| line, &base) {
            let defaults = line.figure.ends_with("defaults");
            let own = race.get(&alone(if defaults { DEFAULTS } else { LIKE }), "rate");
            line = line.limit("own rate of 1 producer", own, 0.6).judged();
            section.lines.push(line);
        }
        append_table(&mut section, rates(&race, RATE), &format!("{size} B"));
    }
    Ok(section)
}

fn alone(name: &str) -> String {
    format!("({name}: 1 producer)")
}

/// Puts the rows of another table below those of the section, each with a word before it.
pub fn append_table(section: &mut Section, table: crate::report::Table, word: &str) {
    if section.table.header.is_empty() {
        section.table.header = [vec![String::new()], table.header].concat();
    }
    section.table.rows.extend(table.rows.into_iter().map(|row| [vec![word.to_owned()], row].concat()));
}

pub fn batches(bench: &mut Bench) -> Result<Section> {
    let budget = bench.plan.budget(128);
    let work = Work::Append { producers: 1, batch: 64, keyed: false, budget };
    let mut entries = bench.entries(Flush::Async, 128, &work, |can| can.batch);
    // A bare log has no batches; it appends one by one what others take as one.
    let single = Work::Append { producers: 1, batch: 0, keyed: false, budget };
    let singles = bench.entries(Flush::Async, 128, &single, |can: Can| !can.batch && can.reopen);
    entries.extend(singles.into_iter().filter(|entry| entry.kind == Kind::Peer));
    entries.push(bench.probe(COPY_CRC, 128, Probe::CopyCrc { bytes: bench.plan.payload / 2 }));
    let race = bench.race(entries, "rate", false)?;
    let title = "append in batches of 64 × 128 B (contenders without batches: one by one)";
    let mut section = Section::new("5", title, how(bench, 128));
    let base = Line::new("5", "append 64 × 128 B at once", RATE, "async");
    let probe = race.get(COPY_CRC, "rate");
    section.lines = both(&race, "rate", 3.0, |line| line.limit("copy and checksum", probe, 0.6), &base);
    section.table = rates(&race, RATE);
    Ok(section)
}

pub fn keys(bench: &mut Bench) -> Result<Section> {
    let budget = bench.plan.budget(128);
    let mut section = Section::new("6", "append 128 B with one key, to be found by it", how(bench, 128));
    let work = |batch, keyed| Work::Append { producers: 1, batch, keyed, budget };
    let mut entries = bench.entries(Flush::Async, 128, &work(0, true), |can| can.keys);
    let plain = "(pocketmq, defaults: the same without a key)";
    entries.push(Entry::new(plain, Kind::Limit, bench.job(DEFAULTS, Flush::Async, 128, work(0, false))));
    let race = bench.race(entries, "rate", false)?;
    let base = Line::new("6", "append 128 B with a key", RATE, "async");
    section.lines = both(&race, "rate", 5.0, |line| line, &base);
    let nanos = |name: &str| race.get(name, "rate").map(|rate| 1e9 / rate);
    let added = nanos(DEFAULTS).zip(nanos(plain)).map(|(keyed, plain)| (keyed - plain).max(0.1));
    let line = Line::new("6", "what a key adds to an append", "ns", "async").lower();
    section.lines.push(line.ours(added).limit("25 ns", Some(25.0), 1.0).judged());
    append_table(&mut section, rates(&race, RATE), "one by one");
    let entries = bench.entries(Flush::Async, 128, &work(64, true), |can| can.keys && can.batch);
    let race = bench.race(entries, "rate", false)?;
    let base = Line::new("6", "append 64 × 128 B with keys at once", RATE, "async");
    section.lines.extend(both(&race, "rate", 5.0, |line| line, &base));
    append_table(&mut section, rates(&race, RATE), "64 at once");
    if best_peer(&race, "rate", false).is_none() {
        section.notes.push("No store with keys took batches here.".to_owned());
    }
    Ok(section)
}
