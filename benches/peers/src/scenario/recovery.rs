//! Scenario 13: how long does it take to open again after a kill?

use anyhow::Result;

use super::failed;
use crate::bench::{Bench, Entry, Kind, Race};
use crate::contender::{DEFAULTS, LIKE};
use crate::job::{BeforeKill, Flush, Job, Probe, Work};
use crate::report::numbers::{bytes, or_dash, short, time};
use crate::report::{Line, Section, Table};

const SIZE: usize = 1_024;
/// The peers that read their log when they open it; others trust what they find, or an index beside it.
const NAMED: [&str; 2] = ["khata-rs 0.1.1", "raft-engine 0.4.2"];
/// A record of 1 KiB in our log, about.
const RECORD: u64 = 1_200;
const UNFLUSHED: &str = "pocketmq, defaults: killed at once";
const CHECKPOINT: &str = "pocketmq, defaults: killed after a checkpoint";
const COLD: &str = "pocketmq, defaults: killed after a flush, nothing cached";
const DISK: &str = "(sequential read of the disk)";

pub fn reopen(bench: &mut Bench) -> Result<Section> {
    let sizes: &[u64] = bench.plan.pick(&[64, 256], &[64, 256, 1_024]);
    let mut section = Section::new("13", "open again after a SIGKILL", how(bench));
    for mib in sizes {
        let race = race(bench, *mib)?;
        let whole = sizes.last() == Some(mib);
        for row in race.rows.iter().filter(|row| row.kind != Kind::Limit) {
            section.point(
                "recovery",
                &row.name,
                *mib as f64,
                row.get("seconds").map(|seconds| seconds * 1e3),
            );
        }
        if whole {
            judge(&mut section, &race, *mib);
        }
        super::append::append_table(&mut section, table(&race), &format!("{mib} MiB"));
    }
    Ok(section)
}

fn how(bench: &Bench) -> String {
    format!(
        "A process appends messages of 1 KiB under async flush and is killed; another opens the folder, and only the opening \
         is timed. Unless it says otherwise the log has been flushed before the kill, so nothing needs to be written again, \
         and its pages are cached. Medians of at most {} runs.",
        bench.plan.pick(1, 3)
    )
}

fn race(bench: &mut Bench, mib: u64) -> Result<Race> {
    let messages = (mib << 20) / RECORD;
    let fill = |name: &str, before| Job {
        capacity: messages,
        ..bench.job(name, Flush::Async, SIZE, Work::Fill { messages, before })
    };
    let open = |name: &str| Job { capacity: messages, ..bench.job(name, Flush::Async, SIZE, Work::Reopen) };
    let entry = |label: &str, kind, name: &str, before| Entry {
        before: Some(fill(name, before)),
        ..Entry::new(label, kind, open(name))
    };
    let mut entries = vec![
        entry(LIKE, Kind::Ours, LIKE, BeforeKill::Flush),
        entry(DEFAULTS, Kind::Ours, DEFAULTS, BeforeKill::Flush),
        entry(UNFLUSHED, Kind::Ours, DEFAULTS, BeforeKill::Nothing),
        entry(CHECKPOINT, Kind::Ours, DEFAULTS, BeforeKill::Checkpoint),
        Entry { cold: true, ..entry(COLD, Kind::Ours, DEFAULTS, BeforeKill::Flush) },
    ];
    for peer in bench.entries(Flush::Async, SIZE, &Work::Reopen, |can| can.reopen) {
        if peer.kind == Kind::Peer {
            entries.push(entry(&peer.name, Kind::Peer, &peer.name, BeforeKill::Flush));
        }
    }
    let few = bench.plan.pick(1, 3);
    let rounds = std::mem::replace(&mut bench.plan.rounds, few);
    let race = bench.race(entries, "seconds", true);
    bench.plan.rounds = rounds;
    let mut race = race?;
    race.rows.push(cold_read(bench, mib)?);
    Ok(race)
}

/// What the disk gives when a file of that size is read from it.
fn cold_read(bench: &Bench, mib: u64) -> Result<crate::bench::Row> {
    let folder = bench.folder()?;
    let file = folder.path().join("file");
    std::fs::write(&file, vec![7_u8; (mib << 20) as usize])?;
    crate::machine::drop_cache(folder.path())?;
    let probe = bench.probe(DISK, SIZE, Probe::SequentialRead { file });
    let outcome = bench.in_folder(&probe.job, folder.path())?;
    let rate = outcome.get("bytes_per_second").unwrap_or(f64::NAN);
    let seconds = (mib << 20) as f64 / rate;
    Ok(crate::bench::Row {
        name: DISK.to_owned(),
        kind: Kind::Limit,
        outcomes: vec![outcome.set("seconds", seconds)],
        error: None,
    })
}

fn judge(section: &mut Section, race: &Race, mib: u64) {
    let line = |figure: &str| Line::new("13", format!("{figure}, {mib} MiB"), "s", "async").lower();
    let best = NAMED.into_iter().filter_map(|name| Some((name.to_owned(), race.get(name, "seconds")?)));
    let best = best.min_by(|one, other| one.1.total_cmp(&other.1));
    let flushed = line("open after a kill, everything since the checkpoint verified");
    section.lines.push(flushed.ours(race.get(DEFAULTS, "seconds")).peer(best, 1.2).judged());
    let checkpoint = line("open after a kill, with a checkpoint").ours(race.get(CHECKPOINT, "seconds"));
    section.lines.push(checkpoint.limit("20 ms", Some(0.02), 1.0).judged());
    let cold = line("open after a kill, nothing cached").ours(race.get(COLD, "seconds"));
    section.lines.push(cold.limit("the disk's read rate", race.get(DISK, "seconds"), 1.0).judged());
    section.notes.push(format!(
        "The target compares with {}, which read their log when they open it. commitlog trusts its index and verifies nothing.",
        NAMED.join(" and ")
    ));
    let written = race.get(UNFLUSHED, "rewritten_bytes");
    section.notes.push(format!(
        "Killed at once, {} had to be written again and synced, because nobody knew whether they were on the disk: the \
         opening took {} in all, {} without that.",
        or_dash(written, bytes),
        or_dash(race.get(UNFLUSHED, "seconds"), time),
        or_dash(race.get(DEFAULTS, "seconds"), time)
    ));
}

fn table(race: &Race) -> Table {
    let header = ["contender", "opened in", "runs", "verified", "written again", "units made again"];
    let rows = race.rows.iter().map(|row| {
        vec![
            row.name.clone(),
            row.get("seconds").map_or_else(|| failed(row), time),
            row.outcomes.len().to_string(),
            or_dash(row.get("verified_bytes"), bytes),
            or_dash(row.get("rewritten_bytes"), bytes),
            or_dash(row.get("units_rebuilt"), short),
        ]
    });
    Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
}
