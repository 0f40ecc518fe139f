//! How does `docs/performance.md` come about: the figures between two marks, the pictures beside it?

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::numbers::{figure, or_dash, short};
use super::svg::{Picture, draw};
use super::{Line, Report, Section, Table};
use crate::contender::all;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// The pictures, by the name that points give.
pub const PICTURES: &[(&str, Picture)] = &[
    (
        "throughput",
        Picture {
            file: "throughput.svg",
            title: "Throughput by size: one producer, async flush",
            x: "bytes of a body",
            y: "messages a second",
            names: &[(128.0, "128 B"), (1_024.0, "1 KiB"), (16_384.0, "16 KiB")],
            first: "pocketmq",
        },
    ),
    (
        "durable",
        Picture {
            file: "durable.svg",
            title: "Durable throughput by producers: 1 KiB, sync flush",
            x: "producers",
            y: "messages a second",
            names: &[(1.0, "1"), (8.0, "8"), (64.0, "64")],
            first: "pocketmq",
        },
    ),
    (
        "latency",
        Picture {
            file: "latency.svg",
            title: "Latency of an append at 50,000 messages a second: 1 KiB, async flush",
            x: "percentile",
            y: "nanoseconds",
            names: &[(2.0, "p50"), (10.0, "p90"), (100.0, "p99"), (1_000.0, "p99.9"), (10_000.0, "p99.99")],
            first: "pocketmq",
        },
    ),
    (
        "recovery",
        Picture {
            file: "recovery.svg",
            title: "Opening after a kill by size of the log",
            x: "MiB of log",
            y: "milliseconds",
            names: &[],
            first: "pocketmq",
        },
    ),
    (
        "queues",
        Picture {
            file: "scale-queues.svg",
            title: "Cost by number of queues",
            x: "queues",
            y: "see the names",
            names: &[],
            first: "append",
        },
    ),
    (
        "backlog",
        Picture {
            file: "scale-backlog.svg",
            title: "Reading a backlog by its size",
            x: "MiB of backlog",
            y: "MiB a second",
            names: &[],
            first: "warm",
        },
    ),
    (
        "keys",
        Picture {
            file: "scale-keys.svg",
            title: "Lookup of a key by number of keys",
            x: "keys",
            y: "nanoseconds",
            names: &[],
            first: "a key",
        },
    ),
    (
        "reopen",
        Picture {
            file: "scale-reopen.svg",
            title: "Opening by size of the log",
            x: "MiB of log",
            y: "milliseconds",
            names: &[],
            first: "closed",
        },
    ),
];

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Writes the document and its pictures.
pub fn write(report: &Report) -> Result<()> {
    let folder = docs().join("performance");
    std::fs::create_dir_all(&folder)?;
    for (name, picture) in PICTURES {
        let (points, caption) = points_of(report, name);
        if let Some(svg) = draw(picture, &points, &caption) {
            std::fs::write(folder.join(picture.file), svg)?;
        }
    }
    let path = docs().join("performance.md");
    let text = std::fs::read_to_string(&path).context("docs/performance.md")?;
    let (before, rest) = text.split_once(BEGIN).context("the mark where the figures begin")?;
    let (_, after) = rest.split_once(END).context("the mark where the figures end")?;
    Ok(std::fs::write(path, format!("{before}{BEGIN}\n\n{}\n{END}{after}", body(report)))?)
}

fn points_of(report: &Report, picture: &str) -> (Vec<super::Point>, String) {
    let with = |section: &&Section| section.points.iter().any(|point| point.picture == picture);
    let sections: Vec<&Section> = report.sections.iter().filter(with).collect();
    let points = sections
        .iter()
        .flat_map(|section| &section.points)
        .filter(|point| point.picture == picture)
        .cloned()
        .collect();
    let caption = sections.last().map_or_else(String::new, |section| {
        format!(
            "{}, {}; commit {}, {}",
            section.machine.cpu, section.machine.disk, section.commit, section.day
        )
    });
    (points, caption)
}

/// Everything between the marks.
fn body(report: &Report) -> String {
    let mut text = String::new();
    let mut machines: Vec<String> =
        report.sections.iter().map(|section| section.machine.sentence()).collect();
    machines.dedup();
    let machine = machines.first().cloned().unwrap_or_default();
    let _ = writeln!(text, "Machine: {machine}.\n");
    for line in &report.left_out {
        let _ = writeln!(text, "Left out: {line}\n");
    }
    text.push_str("## Targets\n\n");
    text.push_str(TARGETS);
    text.push_str(&markdown(&targets(report)));
    for section in &report.sections {
        let pass = if section.quick { ", a quick pass" } else { "" };
        let elsewhere = match section.machine.sentence() {
            sentence if sentence == machine => String::new(),
            sentence => format!(" On another machine: {sentence}."),
        };
        let _ = writeln!(
            text,
            "\n## {}: {}\n\n{} Commit {}, {}{pass}.{elsewhere}\n",
            section.scenario, section.title, section.how, section.commit, section.day
        );
        text.push_str(&markdown(&section.table));
        for note in &section.notes {
            let _ = writeln!(text, "\n{note}");
        }
        for (name, picture) in PICTURES {
            let last =
                report.sections.iter().rev().find(|other| other.points.iter().any(|p| p.picture == *name));
            if last.is_some_and(|last| last.scenario == section.scenario) {
                let _ = writeln!(text, "\n![{}](performance/{})", picture.title, picture.file);
            }
        }
    }
    text.push_str("\n## Who was compared\n\n");
    let rows = all().iter().map(|peer| vec![peer.name.to_owned(), peer.about.to_owned()]).collect();
    text.push_str(&markdown(&Table {
        header: vec!["contender".to_owned(), "what to know".to_owned()],
        rows,
    }));
    text
}

const TARGETS: &str = "\
*Ratio* is how many times better than the best peer, *of limit* how close to what the machine allows, above 1 being
better in both. A target is met within 15 %, which is the noise here, or where the figure is at least 0.9 of what a
prototype of the record format reaches; with all defaults on, 0.6 of what is wanted like for like.

";

/// One row a target.
fn targets(report: &Report) -> Table {
    let header =
        ["", "figure", "durability", "ours", "best peer", "ratio", "target", "of limit", "target", "met"];
    let rows = report.sections.iter().flat_map(|section| &section.lines).map(row).collect();
    Table { header: header.map(str::to_owned).to_vec(), rows }
}

/// A target as a row of cells.
pub fn row(line: &Line) -> Vec<String> {
    let write = |value: f64| figure(value, &line.unit);
    let peer = match (&line.peer, line.best_peer) {
        (Some(name), Some(value)) => format!("{} ({name})", write(value)),
        _ => "–".to_owned(),
    };
    let times = |value: f64| format!("{} ×", short(value));
    let of_limit = match (&line.limit_name, line.limit_ratio) {
        (Some(name), Some(ratio)) => format!("{} of {name}", short(ratio)),
        (Some(name), None) => format!("– of {name}"),
        _ => "–".to_owned(),
    };
    let met = match line.met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "–",
    };
    vec![
        line.scenario.clone(),
        line.figure.clone(),
        line.durability.clone(),
        or_dash(line.ours, write),
        peer,
        or_dash(line.ratio, times),
        or_dash(line.target, |value| format!("≥ {}", times(value))),
        of_limit,
        or_dash(line.limit_target, |value| format!("≥ {}", short(value))),
        met.to_owned(),
    ]
}

/// A table in Markdown; columns after the first two that hold figures are aligned to the right.
pub fn markdown(table: &Table) -> String {
    if table.header.is_empty() {
        return String::new();
    }
    let mut text = format!("| {} |\n|", table.header.join(" | "));
    for place in 0..table.header.len() {
        let starts = |cell: &String| {
            cell.starts_with(|letter: char| letter.is_ascii_digit() || "–≥<-".contains(letter))
        };
        let right = place > 0
            && !table.rows.is_empty()
            && table.rows.iter().filter_map(|row| row.get(place)).all(starts);
        text.push_str(if right { "--:|" } else { "---|" });
    }
    text.push('\n');
    for row in &table.rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// A table for a terminal.
pub fn plain(table: &Table) -> String {
    let mut all = vec![table.header.clone()];
    all.extend(table.rows.iter().cloned());
    let columns = table.header.len();
    let wide =
        |place: usize| all.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|place| wide(place).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_figures_are_aligned_to_the_right() {
        let cells = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let table = Table {
            header: cells(&["who", "rate"]),
            rows: vec![cells(&["a", "1,000"]), cells(&["b", "–"])],
        };
        assert_eq!(markdown(&table), "| who | rate |\n|---|--:|\n| a | 1,000 |\n| b | – |\n");
        assert_eq!(plain(&table), "  who  rate\n  a    1,000\n  b    –\n");
    }
}
