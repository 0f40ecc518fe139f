//! A year of flights through one store, with a kill in the middle.
//!
//! ```text
//! cargo run --release --example flights [-- [FLIGHTS.csv[.gz]] [--dir DIR]]
//! ```
//!
//! Every event of every flight (scheduled, departed, arrived, cancelled) becomes a message: ordered by aircraft, with
//! the event as its tag and the flight as its key. A child process sends them from several threads while consumers
//! check the order, and dies by SIGKILL about halfway. This process then opens the store again, looks what is there,
//! sends the rest, and counts what was lost, repeated or out of order. Meanwhile one group consumes with members that
//! join, leave and hang. The last line says so in numbers; the exit code
//! is 0 only if nothing was lost and nothing was out of order.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an application may look at the clock and print; only the library may not"
)]

mod check;
mod child;
mod crew;
mod events;
mod input;
mod lookup;
mod report;
mod resume;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use events::Events;

/// What ends the example early.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: flights [FLIGHTS.csv[.gz]] [--dir DIR]
  FLIGHTS  the flights to send (default: January 2013, shipped with the example)
  --dir    where to keep the store, a new or empty folder (default: a temporary one)";

#[derive(Debug, Default)]
struct Arguments {
    input: Option<PathBuf>,
    dir: Option<PathBuf>,
    /// This process is the one to be killed, and works in that folder.
    child: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(|arguments| match &arguments.child {
        Some(dir) => child::run(dir, &events(&arguments)?).map(|()| true),
        None => run(&arguments),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("flights: {failure}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--dir") => arguments.dir = Some(words.next().ok_or(USAGE)?.into()),
            Some("--child") => arguments.child = Some(words.next().ok_or(USAGE)?.into()),
            Some(option) if option.starts_with('-') => return Err(USAGE.into()),
            _ if arguments.input.is_none() => arguments.input = Some(word.into()),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(arguments)
}

fn events(arguments: &Arguments) -> Result<Events, Failure> {
    Ok(Events::of(input::read(arguments.input.as_deref())?))
}

/// Runs the whole job. Returns whether nothing was lost and nothing out of order.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let events = events(arguments)?;
    let temporary;
    let dir: &Path = match &arguments.dir {
        Some(dir) => {
            refuse_used(dir)?;
            dir
        }
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let bar = report::bar(events.count())?;
    bar.set_message("a child process sends and consumes");
    let reported = child::run_and_kill(dir, arguments.input.as_deref(), &events, &bar)?;
    bar.set_message("killed; opening the store again");
    let begun = Instant::now();
    let store = pocketmq::Store::open(dir)?;
    let recovery = begun.elapsed();
    let resumed = resume::resume(&store, &events, &reported, &bar)?;
    bar.set_message("reading everything once more");
    let audit = resume::audit(&store, &events)?;
    bar.set_message("looking flights up");
    let lookups = lookup::sample(&store, &events)?;
    bar.finish_and_clear();
    lookup::print_life(&store, &events)?;
    store.close()?;
    let summary = report::Summary { events: events.count(), recovery, reported, resumed, audit, lookups };
    println!("{summary}");
    Ok(summary.is_good())
}

/// A second run in the same folder would find its events there already, so it does not start.
fn refuse_used(dir: &Path) -> Result<(), Failure> {
    let used = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if used { Err(format!("{} is not empty: give a new folder", dir.display()).into()) } else { Ok(()) }
}
