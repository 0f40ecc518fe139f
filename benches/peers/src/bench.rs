//! How are contenders run so that their figures can be compared?
//!
//! In rounds: each contender once, then each again. Whoever is far behind the best peer after the first round runs no
//! more: its one figure is good enough to say so, and shown as what it is.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::args::Args;
use crate::child;
use crate::contender::{Can, DEFAULTS, JAVA, LIKE, all};
use crate::java::Java;
use crate::job::{Budget, Flush, Job, Outcome, Probe, Work};
use crate::machine::Load;
use crate::traps::{median, wait_for_calm};

/// A peer that is so many times slower than the best one is not measured again: in a full pass, in a quick one.
const FAR_BEHIND: [f64; 2] = [3.0, 1.6];

/// How long and how often everything is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub quick: bool,
    pub rounds: usize,
    /// The longest timed section of a throughput, in seconds.
    pub seconds: f64,
    /// Bytes of records that one run appends at most.
    pub payload: u64,
    /// How long to wait for the disk to come to rest.
    pub patience: Duration,
    pub full_size: bool,
}

impl Plan {
    pub fn new(args: &Args) -> Self {
        let (rounds, seconds, payload, patience) =
            if args.quick { (3, 0.25, 256 << 20, 5) } else { (7, 1.0, 256 << 20, 120) };
        let patience = Duration::from_secs(patience);
        Self { quick: args.quick, rounds, seconds, payload, patience, full_size: args.full_size }
    }

    /// How much one run appends: so many bytes of records.
    pub fn budget(&self, size: usize) -> Budget {
        Budget { messages: self.payload / (size as u64 + 128), seconds: self.seconds }
    }

    /// One of two values.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Peer,
    Limit,
}

/// One who runs in a race, with its job.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub job: Job,
    /// A job that is done first in the same folder, by a process that is killed.
    pub before: Option<Job>,
    /// Whether the pages of the folder's files are dropped from the cache between the two.
    pub cold: bool,
    /// Whether it runs in every round, however far behind it is: a target names it.
    pub named: bool,
}

/// What one of them reached.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub kind: Kind,
    pub outcomes: Vec<Outcome>,
    pub error: Option<String>,
}

impl Row {
    /// The median of a figure.
    pub fn get(&self, figure: &str) -> Option<f64> {
        median(&self.all(figure))
    }

    pub fn all(&self, figure: &str) -> Vec<f64> {
        self.outcomes.iter().filter_map(|outcome| outcome.get(figure)).collect()
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Race {
    pub rows: Vec<Row>,
    /// Syncs of 4 KiB before and after the runs, in microseconds, where they matter.
    pub syncs: Vec<f64>,
}

impl Race {
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    pub fn get(&self, name: &str, figure: &str) -> Option<f64> {
        self.row(name)?.get(figure)
    }
}

pub struct Bench {
    pub base: PathBuf,
    pub plan: Plan,
    pub java: Option<Java>,
    peers: Vec<String>,
    started: Instant,
    /// What is being measured, for the progress line.
    pub scenario: String,
    /// Which part of the machine other processes used during each run of the scenario.
    pub others: RefCell<Vec<f64>>,
}

impl Bench {
    pub fn new(args: &Args, base: PathBuf, java: Option<Java>) -> Self {
        let plan = Plan::new(args);
        Self {
            base,
            plan,
            java,
            peers: args.peers.clone(),
            started: Instant::now(),
            scenario: String::new(),
            others: RefCell::default(),
        }
    }

    /// A job without a folder yet.
    pub fn job(&self, contender: &str, flush: Flush, size: usize, work: Work) -> Job {
        // With room for what is appended to warm up.
        let capacity = self.plan.budget(size).messages * 5 / 4 + 100_000;
        Job { contender: contender.to_owned(), dir: PathBuf::new(), flush, size, capacity, work }
    }

    /// Entries for ourselves and for every peer that can do this.
    pub fn entries(&self, flush: Flush, size: usize, work: &Work, needs: impl Fn(Can) -> bool) -> Vec<Entry> {
        let wanted = |name: &str| self.peers.is_empty() || self.peers.iter().any(|text| name.contains(text));
        let mut entries = Vec::new();
        for contender in all() {
            let can = contender.can;
            let mode = if flush == Flush::Sync { can.durable } else { can.relaxed };
            let ours = [LIKE, DEFAULTS].contains(&contender.name);
            if mode && needs(can) && (ours || wanted(contender.name)) {
                let kind = if ours { Kind::Ours } else { Kind::Peer };
                entries.push(Entry::new(
                    contender.name,
                    kind,
                    self.job(contender.name, flush, size, work.clone()),
                ));
            }
        }
        if self.java.is_some() && wanted(JAVA) && Java::can(work) {
            entries.push(Entry::new(JAVA, Kind::Peer, self.job(JAVA, flush, size, work.clone())));
        }
        entries
    }

    /// An entry for a measurement of the machine.
    pub fn probe(&self, name: &str, size: usize, probe: Probe) -> Entry {
        Entry::new(name, Kind::Limit, self.job(name, Flush::Async, size, Work::Probe(probe)))
    }

    /// Runs all entries in rounds. `figure` is the one that says who is far behind; `lower` where less is better.
    pub fn race(&mut self, entries: Vec<Entry>, figure: &str, lower: bool) -> Result<Race> {
        let mut race = Race::default();
        race.rows.extend(entries.iter().map(|entry| Row {
            name: entry.name.clone(),
            kind: entry.kind,
            outcomes: Vec::new(),
            error: None,
        }));
        for round in 1..=self.plan.rounds {
            let behind: Vec<bool> = race
                .rows
                .iter()
                .map(|row| {
                    far_behind(&race, row, (figure, lower), self.plan.pick(FAR_BEHIND[1], FAR_BEHIND[0]))
                })
                .collect();
            for (n, entry) in entries.iter().enumerate() {
                if race.rows[n].error.is_some() || (round > 1 && behind[n] && !entry.named) {
                    continue;
                }
                self.progress(&format!("round {round} of {}: {}", self.plan.rounds, entry.name));
                match self.once(entry, &mut race.syncs) {
                    Ok(outcome) => race.rows[n].outcomes.push(outcome),
                    Err(error) => {
                        self.say(&format!("{} failed: {error:#}", entry.name));
                        race.rows[n].error = Some(format!("{error:#}"));
                    }
                }
            }
        }
        Ok(race)
    }

    /// Runs one entry in a fresh folder.
    pub fn once(&self, entry: &Entry, syncs: &mut Vec<f64>) -> Result<Outcome> {
        let dir = TempDir::with_prefix_in("peers-", &self.base).context("a folder for the run")?;
        let inside = dir.path().join("run");
        std::fs::create_dir(&inside)?;
        if let Some(before) = &entry.before {
            let job = Job { dir: inside.clone(), ..before.clone() };
            child::run_and_kill(self.command(&job)?, &dir.path().join("log"), patience(before))?;
            if entry.cold {
                crate::machine::drop_cache(&inside)?;
            }
        }
        let durable = entry.job.flush == Flush::Sync;
        if durable {
            syncs.push(wait_for_calm(dir.path(), self.plan.patience)?.as_secs_f64() * 1e6);
        }
        let job = Job { dir: inside, ..entry.job.clone() };
        let load = Load::now();
        let outcome = child::run(self.command(&job)?, &dir.path().join("log"), patience(&job));
        self.others.borrow_mut().extend(load.others());
        if durable {
            syncs.push(wait_for_calm(dir.path(), Duration::ZERO)?.as_secs_f64() * 1e6);
        }
        outcome
    }

    fn command(&self, job: &Job) -> Result<Command> {
        match (&self.java, job.contender == JAVA) {
            (Some(java), true) => Ok(java.command(job)),
            _ => child::command(job),
        }
    }

    /// A folder that is kept between several runs.
    pub fn folder(&self) -> Result<TempDir> {
        TempDir::with_prefix_in("peers-", &self.base).context("a folder for the run")
    }

    /// Runs one job in a folder that exists.
    pub fn in_folder(&self, job: &Job, dir: &Path) -> Result<Outcome> {
        let job = Job { dir: dir.to_owned(), ..job.clone() };
        child::run(self.command(&job)?, &dir.with_extension("log"), patience(&job))
    }

    /// Fills a folder that exists by a process that is killed.
    pub fn fill(&self, job: &Job, dir: &Path) -> Result<()> {
        let job = Job { dir: dir.to_owned(), ..job.clone() };
        child::run_and_kill(self.command(&job)?, &dir.with_extension("log"), patience(&job))
    }

    /// Says who else used the machine during the scenario, where it was enough to be seen; and forgets it.
    pub fn others_note(&self) -> Option<String> {
        let shares = self.others.take();
        let most = shares.iter().copied().fold(0.0, f64::max);
        (most > 0.1).then(|| {
            format!(
                "Other processes used {:.0} % of the machine during the median run and {:.0} % during the worst.",
                median(&shares).unwrap_or(0.0) * 100.0,
                most * 100.0
            )
        })
    }

    pub fn progress(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs();
        eprint!("\r\x1b[K[{:>3}:{:02}] {}: {text}", seconds / 60, seconds % 60, self.scenario);
    }

    pub fn say(&self, text: &str) {
        eprintln!("\r\x1b[K{}: {text}", self.scenario);
    }
}

impl Entry {
    pub fn new(name: &str, kind: Kind, job: Job) -> Self {
        Self { name: name.to_owned(), kind, job, before: None, cold: false, named: false }
    }
}

/// How long a child may take before it counts as hanging.
fn patience(job: &Job) -> Duration {
    match &job.work {
        Work::Append { budget, .. } => Duration::from_secs_f64(60.0 + 4.0 * budget.seconds),
        Work::Latency { seconds, .. } => Duration::from_secs_f64(30.0 + 4.0 * seconds),
        Work::Ours(_) => Duration::from_secs(900),
        _ => Duration::from_secs(120),
    }
}

fn far_behind(race: &Race, row: &Row, (figure, lower): (&str, bool), times: f64) -> bool {
    let score = |row: &Row| row.get(figure).map(|value| if lower { 1.0 / value } else { value });
    let peers = race.rows.iter().filter(|row| row.kind == Kind::Peer);
    let best = peers.filter_map(score).fold(0.0, f64::max);
    row.kind == Kind::Peer && score(row).is_some_and(|score| score * times < best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_peer_far_behind_the_best_peer_runs_once() {
        let row = |name: &str, kind, rate| Row {
            name: name.to_owned(),
            kind,
            outcomes: vec![Outcome::default().set("rate", rate)],
            error: None,
        };
        let rows = vec![
            row("ours", Kind::Ours, 1.0),
            row("best", Kind::Peer, 90.0),
            row("near", Kind::Peer, 31.0),
            row("far", Kind::Peer, 29.0),
        ];
        let race = Race { rows, syncs: Vec::new() };
        let behind: Vec<bool> =
            race.rows.iter().map(|row| far_behind(&race, row, ("rate", false), 3.0)).collect();
        assert_eq!(behind, [false, false, false, true]);
        let behind: Vec<bool> =
            race.rows.iter().map(|row| far_behind(&race, row, ("rate", true), 3.0)).collect();
        assert_eq!(behind, [false, true, false, false]);
    }
}
