//! Scenarios 14, 14b and 14c: receiving and acknowledging, a cold backlog beside appends, shards.

use anyhow::Result;

use super::failed;
use crate::bench::{Bench, Entry, Kind, Race};
use crate::contender::DEFAULTS;
use crate::job::{BeforeKill, Flush, Job, Ours, Probe, Work};
use crate::report::numbers::{bytes, count, or_dash};
use crate::report::{Line, Section, Table};

const SIZE: usize = 1_024;
const RATE: &str = "messages/s";
const SEND: &str = "(sending alone)";

pub fn push(bench: &mut Bench) -> Result<Section> {
    let mut budget = bench.plan.budget(SIZE);
    budget.messages /= 2;
    let ways = [
        ("a listener: batches of 32, 4 workers", Ours::Listen { members: 1, threads: 4, batch: 32, budget }),
        (
            "a group of 4 listeners: batches of 32, 1 worker each",
            Ours::Listen { members: 4, threads: 1, batch: 32, budget },
        ),
        ("a loop of `recv` and `ack`, 1 thread", Ours::Receive { consumers: 1, budget }),
        ("a loop of `recv` and `ack`, 4 threads", Ours::Receive { consumers: 4, budget }),
    ];
    let mut entries: Vec<Entry> = ways
        .iter()
        .map(|(name, way)| {
            Entry::new(name, Kind::Ours, bench.job(DEFAULTS, Flush::Async, SIZE, Work::Ours(way.clone())))
        })
        .collect();
    let alone = Work::Append { producers: 1, batch: 0, keyed: false, budget: bench.plan.budget(SIZE) };
    entries.push(Entry::new(SEND, Kind::Limit, bench.job(DEFAULTS, Flush::Async, SIZE, alone)));
    let race = bench.race(entries, "rate", false)?;
    let how = format!(
        "Durability: async. One thread sends messages of 1 KiB as fast as it can, and a group of consumers reads every byte \
         and acknowledges; messages a second from the first send to the last acknowledgement. Medians of {} runs.",
        bench.plan.rounds
    );
    let mut section = Section::new("14", "send, receive and acknowledge", how);
    let own = race.get(SEND, "rate");
    for (name, _) in &ways {
        let line = Line::new("14", format!("send to {name}"), RATE, "async").ours(race.get(name, "rate"));
        section.lines.push(line.limit("own rate of sending", own, 0.3).judged());
    }
    section.table = simple(&race, "rate", RATE);
    Ok(section)
}

/// A table of one figure.
pub fn simple(race: &Race, figure: &str, unit: &str) -> Table {
    let rows = race.rows.iter().map(|row| {
        let value = row.get(figure).map_or_else(|| failed(row), count);
        vec![row.name.clone(), value, super::spread(row, figure), row.outcomes.len().to_string()]
    });
    let header = ["what", unit, "lowest – highest", "runs"];
    Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
}

pub fn shards(bench: &mut Bench) -> Result<Section> {
    let budget = bench.plan.budget(SIZE);
    let name = |brokers: usize| format!("{brokers} broker{}", if brokers == 1 { "" } else { "s" });
    let entries = [1, 2, 4, 8]
        .into_iter()
        .map(|brokers| {
            let work = Work::Ours(Ours::Shards { brokers, budget });
            Entry::new(&name(brokers), Kind::Ours, bench.job(DEFAULTS, Flush::Async, SIZE, work))
        })
        .collect();
    let race = bench.race(entries, "rate", false)?;
    let how = format!(
        "Durability: async. Four producers send messages of 1 KiB to a topic on all brokers of the store. Medians of {} runs.",
        bench.plan.rounds
    );
    let mut section = Section::new("14c", "1, 2, 4 and 8 brokers in one store", how);
    let line =
        Line::new("14c", "8 brokers beside one, 4 producers", RATE, "async").ours(race.get(&name(8), "rate"));
    section.lines.push(line.limit("one broker", race.get(&name(1), "rate"), 0.9).judged());
    section.table = simple(&race, "rate", RATE);
    Ok(section)
}

const ALONE: &str = "appending alone";
const BOTH: &str = "reading beside the appender";
const DISK: &str = "sequential read of a file";

/// A backlog whose pages are not cached, read from its start, alone and beside somebody who appends.
pub fn backlog(bench: &mut Bench) -> Result<Section> {
    let bytes_of_backlog = bench.plan.pick(512_u64 << 20, 4 << 30);
    let how = format!(
        "Durability: async. A backlog of {} in messages of 1 KiB is written, synced, and its pages are dropped from the cache, \
         which stands for a backlog larger than memory; then it is consumed from its start, every byte read, beside a producer \
         that sends 64 messages every half millisecond. Medians of 3 runs.",
        bytes(bytes_of_backlog as f64)
    );
    let mut section = Section::new("14b", "a cold backlog, read beside appends", how);
    let race = backlog_race(bench, bytes_of_backlog)?;
    let line = Line::new("14b", "cold backlog, bytes of bodies read", "B/s", "async");
    let line = line.ours(race.get(BOTH, "bytes_per_second"));
    section.lines.push(line.limit("sequential read", race.get(DISK, "bytes_per_second"), 0.8).judged());
    let line = Line::new("14b", "appends beside the reader", RATE, "async").ours(race.get(BOTH, "appends"));
    section.lines.push(line.limit("appends alone", race.get(ALONE, "appends"), 0.7).judged());
    let header = ["what", "bytes of bodies/s", "appends/s", "runs"];
    let rows = race.rows.iter().map(|row| {
        vec![
            row.name.clone(),
            or_dash(row.get("bytes_per_second").filter(|rate| *rate > 0.0), bytes),
            or_dash(row.get("appends"), count),
            row.outcomes.len().to_string(),
        ]
    });
    section.table = Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() };
    Ok(section)
}

fn backlog_race(bench: &mut Bench, bytes_of_backlog: u64) -> Result<Race> {
    let folder = bench.folder()?;
    let (dir, probe_dir) = (folder.path().join("run"), folder.path().join("probe"));
    std::fs::create_dir(&dir)?;
    std::fs::create_dir(&probe_dir)?;
    let messages = bytes_of_backlog / SIZE as u64;
    let fill = Work::Fill { messages, before: BeforeKill::Close };
    bench.progress("writing the backlog");
    bench.fill(&bench.job(DEFAULTS, Flush::Async, SIZE, fill), &dir)?;
    let file = probe_dir.join("file");
    std::fs::write(&file, vec![7_u8; bytes_of_backlog as usize])?;
    let work = |append, seconds| Work::Ours(Ours::Backlog { append, seconds });
    let job = |work| bench.job(DEFAULTS, Flush::Async, SIZE, work);
    let jobs: [(&str, Job, &std::path::Path); 4] = [
        (DISK, job(Work::Probe(Probe::SequentialRead { file })), &probe_dir),
        (ALONE, job(work(true, -bench.plan.pick(0.5, 2.0))), &dir),
        ("reading alone", job(work(false, 60.0)), &dir),
        (BOTH, job(work(true, 60.0)), &dir),
    ];
    let mut race = Race::default();
    for (name, ..) in &jobs {
        let kind = if *name == DISK { Kind::Limit } else { Kind::Ours };
        race.rows.push(crate::bench::Row {
            name: (*name).to_owned(),
            kind,
            outcomes: Vec::new(),
            error: None,
        });
    }
    for round in 1..=3 {
        for (row, (name, job, dir)) in race.rows.iter_mut().zip(&jobs) {
            bench.progress(&format!("round {round} of 3: {name}"));
            crate::machine::drop_cache(dir)?;
            row.outcomes.push(bench.in_folder(job, dir)?);
        }
    }
    Ok(race)
}
