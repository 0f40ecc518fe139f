//! How do costs grow with the work? Each as a curve with its slope: 0 is flat, 1 is linear, nothing may be worse.

use anyhow::Result;

use crate::bench::{Bench, Entry, Kind};
use crate::contender::DEFAULTS;
use crate::job::{BeforeKill, Flush, Job, Ours, Outcome, Probe, Work};
use crate::report::numbers::{bytes, count, or_dash, short, slope, time};
use crate::report::{Line, Section, Table};

const SIZE: usize = 1_024;
/// A slope up to this counts as linear: some noise is on it.
const LINEAR: f64 = 1.15;

/// A curve: what was varied, and a figure for each.
struct Curve {
    picture: &'static str,
    name: &'static str,
    figure: &'static str,
    /// By what the figure is multiplied for the picture.
    scale: f64,
    write: fn(f64) -> String,
}

/// Puts curves into the table, the picture and the lines of a section.
fn draw(section: &mut Section, unit: &str, outcomes: &[(u64, Outcome)], curves: &[Curve]) {
    let id = section.scenario.clone();
    let mut header = vec![unit.to_owned()];
    header.extend(curves.iter().map(|curve| curve.name.to_owned()));
    let rows = outcomes.iter().map(|(x, outcome)| {
        let mut cells = vec![count(*x as f64)];
        cells.extend(curves.iter().map(|curve| or_dash(outcome.get(curve.figure), curve.write)));
        cells
    });
    section.table = Table { header, rows: rows.collect() };
    for curve in curves {
        let points: Vec<(f64, f64)> = outcomes
            .iter()
            .filter_map(|(x, outcome)| Some((*x as f64, outcome.get(curve.figure)?)))
            .collect();
        for (x, y) in &points {
            section.point(curve.picture, curve.name, *x, Some(y * curve.scale));
        }
        let Some(whole) = slope(&points) else { continue };
        let (steepest, step) = steepest(&points);
        let mut line = Line::new(&id, format!("{}, steepest slope over {unit}", curve.name), "", "").lower();
        line = line.ours(Some(steepest.max(0.01))).limit("linear", Some(1.0), 1.0 / LINEAR);
        line.limit_ratio = Some(1.0 / steepest.max(0.01));
        line.met = Some(steepest <= LINEAR);
        section.lines.push(line);
        section.notes.push(format!(
            "{}: slope {} over all, {} {step}.",
            curve.name,
            short(whole),
            short(steepest)
        ));
    }
}

/// The steepest step of a curve, and between which places it is. A step in which a figure does not even double is
/// left out: noise makes it steep, not growth.
fn steepest(points: &[(f64, f64)]) -> (f64, String) {
    let steps = points.windows(2).filter_map(|pair| match pair {
        [(x, y), (next_x, next_y)] if *next_y > 2.0 * *y && *y > 0.0 => {
            let slope = (next_y / y).ln() / (next_x / x).ln();
            Some((slope, format!("in its steepest step, from {} to {}", count(*x), count(*next_x))))
        }
        _ => None,
    });
    let none = (0.0, "in its steepest step: it nowhere doubles".to_owned());
    steps.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or(none)
}

pub fn queues(bench: &mut Bench) -> Result<Section> {
    let all: &[u32] = bench.plan.pick(&[1, 10, 100, 1_000, 10_000], &[1, 10, 100, 1_000, 10_000, 100_000]);
    let append = bench.plan.pick(100_000, 500_000);
    let how = format!(
        "Durability: async, messages of 128 B. Topics of up to 1,000 queues; one message into each queue, then {} more in turn, \
         then the store is closed and opened again. Memory is anonymous memory. One run each.",
        count(append as f64)
    );
    let mut section = Section::new("scale-queues", "cost by number of queues", how);
    let mut outcomes = Vec::new();
    for queues in all {
        bench.progress(&format!("{queues} queues"));
        let work = Work::Ours(Ours::Queues { queues: *queues, append });
        let entry = Entry::new(DEFAULTS, Kind::Ours, bench.job(DEFAULTS, Flush::Async, 128, work));
        outcomes.push((u64::from(*queues), bench.once(&entry, &mut Vec::new())?));
    }
    let curve = |name, figure, scale, write: fn(f64) -> String| Curve {
        picture: "queues",
        name,
        figure,
        scale,
        write,
    };
    let nanos: fn(f64) -> String = |nanos| time(nanos / 1e9);
    draw(
        &mut section,
        "queues",
        &outcomes,
        &[
            curve("append, ns each", "append_ns", 1.0, nanos),
            curve("first message of a queue, ns each", "first_ns", 1.0, nanos),
            curve("memory, KiB", "memory", 1.0 / 1_024.0, bytes),
            curve("page tables, KiB", "page_tables", 1.0 / 1_024.0, bytes),
            curve("mappings", "mappings", 1.0, count),
            curve("descriptors", "descriptors", 1.0, count),
            curve("reopen, ms", "reopen_seconds", 1e3, time),
        ],
    );
    Ok(section)
}

pub fn backlog(bench: &mut Bench) -> Result<Section> {
    let full: &[u64] = if bench.plan.full_size { &[1, 16, 256, 4_096, 32_768] } else { &[1, 16, 256, 4_096] };
    let all = bench.plan.pick(&[1, 16, 256][..], full);
    let how = "\
Messages of 1 KiB. A backlog is written and the store closed, then it is read from its start, every byte: warm, and with its \
pages dropped from the cache, which stands for a backlog that is larger than memory. What is larger than the largest one here \
was not written: reading is sequential, and both rates are flat over the sizes above 256 MiB or the slope says otherwise."
        .to_owned();
    let mut section = Section::new("scale-backlog", "reading a backlog by its size", how);
    let mut outcomes = Vec::new();
    for mib in all {
        bench.progress(&format!("{mib} MiB"));
        let folder = bench.folder()?;
        let dir = folder.path().join("run");
        std::fs::create_dir(&dir)?;
        let messages = (mib << 20) / SIZE as u64;
        let fill = Work::Fill { messages, before: BeforeKill::Close };
        bench.fill(&bench.job(DEFAULTS, Flush::Async, SIZE, fill), &dir)?;
        let read = bench.job(
            DEFAULTS,
            Flush::Async,
            SIZE,
            Work::Ours(Ours::Backlog { append: false, seconds: 300.0 }),
        );
        let warm = bench.in_folder(&read, &dir)?;
        crate::machine::drop_cache(&dir)?;
        let cold = bench.in_folder(&read, &dir)?;
        let seconds = |outcome: &Outcome| {
            (mib << 20) as f64 / 4.0 / outcome.get("bytes_per_second").unwrap_or(f64::NAN)
        };
        let mut outcome =
            Outcome::default().set("warm_seconds", seconds(&warm)).set("cold_seconds", seconds(&cold));
        for (name, from) in [("warm", &warm), ("cold", &cold)] {
            outcome = outcome.set(name, from.get("bytes_per_second").unwrap_or(f64::NAN));
        }
        outcomes.push((*mib, outcome));
    }
    let curve = |picture, name, figure, scale, write: fn(f64) -> String| Curve {
        picture,
        name,
        figure,
        scale,
        write,
    };
    draw(
        &mut section,
        "MiB of backlog",
        &outcomes,
        &[
            curve("none", "warm: a quarter of it read in", "warm_seconds", 1.0, time),
            curve("none", "cold: a quarter of it read in", "cold_seconds", 1.0, time),
        ],
    );
    for (mib, outcome) in &outcomes {
        for name in ["warm", "cold"] {
            section.point("backlog", name, *mib as f64, outcome.get(name).map(|rate| rate / 1_048_576.0));
        }
    }
    Ok(section)
}

pub fn keys(bench: &mut Bench) -> Result<Section> {
    // Index files of 20,000 entries instead of 2,000,000: the walk from file to file is that of a hundred times as many
    // keys, without their gigabytes. Every message has two entries, its key and its unique id.
    let all: &[u64] = bench.plan.pick(&[1_000, 10_000, 100_000], &[1_000, 10_000, 100_000, 1_000_000]);
    let (entries, lookups) = (20_000, bench.plan.pick(1_000, 3_000));
    let how = format!(
        "Bodies of 16 B, one key each, index files of {} entries, a hundredth of the default: the walk over files is that of a \
         hundred times as many keys, which do not fit here and are simulated in this way (so 1,000,000 keys stand for 10^8). A \
         lookup of a key that exists, anywhere among them, and of one that does not. {} lookups each, one run.",
        count(f64::from(entries)),
        count(lookups as f64)
    );
    let mut section = Section::new("scale-keys", "lookup of a key by number of keys", how);
    let mut outcomes = Vec::new();
    for keys in all {
        bench.progress(&format!("{keys} keys"));
        let work = Work::Ours(Ours::Keys { keys: *keys, entries, lookups });
        let entry = Entry::new(DEFAULTS, Kind::Ours, bench.job(DEFAULTS, Flush::Async, 16, work));
        outcomes.push((*keys, bench.once(&entry, &mut Vec::new())?));
    }
    let curve =
        |name, figure, write: fn(f64) -> String| Curve { picture: "keys", name, figure, scale: 1.0, write };
    let nanos: fn(f64) -> String = |nanos| time(nanos / 1e9);
    draw(
        &mut section,
        "keys",
        &outcomes,
        &[
            curve("a key that exists", "lookup_ns", nanos),
            curve("a key that does not", "absent_ns", nanos),
            curve("index files", "files", count),
        ],
    );
    section.points.retain(|point| point.series != "index files");
    Ok(section)
}

pub fn reopen(bench: &mut Bench) -> Result<Section> {
    let all: &[u64] = bench.plan.pick(&[16, 64, 256], &[16, 64, 256, 1_024, 4_096]);
    let how = "\
Messages of 1 KiB under async flush, pages cached. The store is opened after it was closed, after a kill with a fresh \
checkpoint, after a kill without one, and, for comparison, beside a sequential read of as much from memory. One run each."
        .to_owned();
    let mut section = Section::new("scale-reopen", "opening by size of the log", how);
    let kinds = [
        ("closed", BeforeKill::Close),
        ("checkpoint", BeforeKill::Checkpoint),
        ("flushed", BeforeKill::Flush),
        ("killed", BeforeKill::Nothing),
    ];
    let mut outcomes = Vec::new();
    for mib in all {
        let messages = (mib << 20) / 1_200;
        let mut outcome = Outcome::default();
        for (name, before) in kinds {
            bench.progress(&format!("{mib} MiB, {name}"));
            let job = |work| Job { capacity: messages, ..bench.job(DEFAULTS, Flush::Async, SIZE, work) };
            let mut entry = Entry::new(DEFAULTS, Kind::Ours, job(Work::Reopen));
            entry.before = Some(job(Work::Fill { messages, before }));
            let opened = bench.once(&entry, &mut Vec::new())?;
            outcome = outcome.set(name, opened.get("seconds").unwrap_or(f64::NAN));
        }
        let scan = bench.probe("scan", SIZE, Probe::Scan { bytes: mib << 20 });
        let scanned = bench.once(&scan, &mut Vec::new())?.get("bytes_per_second").unwrap_or(f64::NAN);
        outcomes.push((*mib, outcome.set("scan", (mib << 20) as f64 / scanned)));
    }
    let curve = |name, figure| Curve { picture: "reopen", name, figure, scale: 1e3, write: time };
    draw(
        &mut section,
        "MiB of log",
        &outcomes,
        &[
            curve("closed before", "closed"),
            curve("killed, with a checkpoint", "checkpoint"),
            curve("killed, flushed, no checkpoint", "flushed"),
            curve("killed at once", "killed"),
            curve("a scan of as much memory", "scan"),
        ],
    );
    Ok(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_steep_step_shows_in_a_curve_that_is_flat_elsewhere() {
        let points = [(1.0, 1.0), (10.0, 1.1), (100.0, 1.0), (1_000.0, 30.0)];
        let (slope, step) = steepest(&points);
        assert!(slope > 1.4 && step.ends_with("from 100 to 1,000"), "{slope} {step}");
        assert_eq!(steepest(&points[..3]).0, 0.0);
    }
}
