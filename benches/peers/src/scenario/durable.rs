//! Scenarios 7 to 9: how many messages a second are appended when each append waits for the disk?

use anyhow::Result;

use super::append::points;
use super::{best_peer, both, disk_note, rates};
use crate::bench::{Bench, Entry, Kind};
use crate::contender::{DEFAULTS, LIKE};
use crate::job::{Budget, Flush, Job, Ours, Probe, Work};
use crate::report::numbers::{bytes, time};
use crate::report::{Line, Section, WITH_DEFAULTS};

const SIZE: usize = 1_024;
const RATE: &str = "messages/s";
/// Sends whose answers are awaited later, in both configurations.
const TICKETS: [(&str, &str); 2] = [
    ("pocketmq, like for like: 64 tickets in flight from 2 threads", LIKE),
    ("pocketmq, defaults: 64 tickets in flight from 2 threads", DEFAULTS),
];
const SYNC_4: &str = "(overwrite and sync of 4 KiB)";
const SYNC_64: &str = "(overwrite and sync of 64 KiB)";

pub fn one(bench: &mut Bench) -> Result<Section> {
    run(bench, "7", 1, 1.05)
}

pub fn eight(bench: &mut Bench) -> Result<Section> {
    run(bench, "8", 8, 1.3)
}

pub fn sixty_four(bench: &mut Bench) -> Result<Section> {
    run(bench, "9", 64, 1.1)
}

fn run(bench: &mut Bench, id: &'static str, producers: usize, target: f64) -> Result<Section> {
    let budget = Budget { messages: 1_000_000, seconds: bench.plan.pick(0.35, 2.0) };
    let work = Work::Append { producers, batch: 0, keyed: false, budget };
    let mut entries = bench.entries(Flush::Sync, SIZE, &work, |_| true);
    if producers == 64 {
        for (label, name) in TICKETS {
            let work = Work::Ours(Ours::Tickets { threads: 2, in_flight: 64, budget });
            entries.push(Entry::new(label, Kind::Ours, bench.job(name, Flush::Sync, SIZE, work)));
        }
    }
    for (name, len) in [(SYNC_4, 4_096), (SYNC_64, 65_536)] {
        let probe = Work::Probe(Probe::Fsync { times: bench.plan.pick(200, 2_000) });
        let job = Job { flush: Flush::Sync, size: len, ..bench.job(name, Flush::Sync, SIZE, probe) };
        entries.push(Entry::new(name, Kind::Limit, job));
    }
    let race = bench.race(entries, "rate", false)?;
    let figure = format!(
        "durable append {SIZE} B, {producers} blocking producer{}",
        if producers == 1 { "" } else { "s" }
    );
    let how = format!(
        "Durability: sync, an append returns when its record has been flushed. Medians of at most {} interleaved runs of {} s, \
         each after the disk has come to rest.",
        bench.plan.rounds, budget.seconds
    );
    let mut section = Section::new(id, figure.clone(), how);
    let sync = race.get(SYNC_4, "seconds");
    let base = Line::new(id, figure, RATE, "sync");
    section.lines = both(
        &race,
        "rate",
        target,
        |line| match producers {
            1 => line.limit("1 / sync of 4 KiB", sync.map(|sync| 1.0 / sync), 0.8),
            8 => line.limit("3 / sync of 4 KiB", sync.map(|sync| 3.0 / sync), 1.0),
            _ => line,
        },
        &base,
    );
    section.table = rates(&race, RATE);
    points(&mut section, &race, "durable", producers as f64);
    section.notes.extend(disk_note(&race));
    if let Some((four, sixty_four)) = sync.zip(race.get(SYNC_64, "seconds")) {
        let note = format!("Probes: a sync of 4 KiB {}, of 64 KiB {}.", time(four), time(sixty_four));
        section.notes.push(note);
    }
    for name in [LIKE, DEFAULTS] {
        if let Some(written) = race.get(name, "disk_bytes") {
            let note = format!(
                "{name}: {} written to the disk for each message of {}, {} for each byte.",
                bytes(written),
                bytes(SIZE as f64),
                crate::report::numbers::short(written / SIZE as f64)
            );
            section.notes.push(note);
        }
    }
    if producers == 64 {
        let sync = race.get(SYNC_64, "seconds").map(|sync| 64.0 / sync);
        for ((label, _), part) in TICKETS.into_iter().zip([1.0, WITH_DEFAULTS]) {
            let line = Line::new(id, label, RATE, "sync").ours(race.get(label, "rate"));
            let line = line.peer(best_peer(&race, "rate", false), 4.0 * part);
            section.lines.push(line.limit("64 / sync of 64 KiB", sync, 0.6 * part).judged());
        }
    }
    Ok(section)
}
