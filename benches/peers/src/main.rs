//! How fast is pocketmq, beside every peer and beside what the machine can do?
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- --help` says what can be asked for. A pass measures
//! every scenario, each contender in a process of its own and all of them in turn, prints tables with the ratio to the
//! best peer and to the machine's limit, and writes `docs/performance.md` and its pictures from what it measured.

mod args;
mod bench;
mod child;
mod contender;
mod contenders;
mod java;
mod job;
mod machine;
mod report;
mod scenario;
mod traps;
mod work;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::args::{Args, HELP};
use crate::bench::Bench;
use crate::java::Java;
use crate::machine::Machine;
use crate::report::doc::{self, plain};
use crate::report::{Report, Section};

fn main() -> ExitCode {
    match Args::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if let Some(job) = &args.job {
        return work::run(job);
    }
    if args.help {
        println!("{HELP}");
        return Ok(());
    }
    if args.list {
        scenario::ALL.iter().for_each(|scenario| println!("{:<14} {}", scenario.id, scenario.title));
        return Ok(());
    }
    if args.render {
        return doc::write(&Report::kept()?);
    }
    measure(&args)
}

fn measure(args: &Args) -> Result<()> {
    for only in &args.only {
        if only != "scale" && !scenario::ALL.iter().any(|scenario| scenario.id == only) {
            bail!("there is no scenario {only:?}: see --list");
        }
    }
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let machine = Machine::look(&base);
    eprintln!("{}", machine.sentence());
    let (java, left_out) = prepare_java();
    let mut bench = Bench::new(args, base, java);
    let mut sections = Vec::new();
    for scenario in scenario::ALL {
        if !args.wants(scenario.id) || (args.only.is_empty() && !scenario.always && args.quick) {
            continue;
        }
        bench.scenario = format!("{} {}", scenario.id, scenario.title);
        match (scenario.run)(&mut bench) {
            Ok(mut section) => {
                section.notes.extend(bench.others_note());
                sections.push(finish(section, args, &machine));
            }
            Err(error) => bench.say(&format!("could not be measured: {error:#}")),
        }
    }
    if args.writes() {
        let mut report = Report::kept().context("the figures that are kept")?;
        report.merge(sections, left_out, &scenario::order());
        report.keep()?;
        doc::write(&report)?;
        eprintln!("written: docs/performance.md and its pictures");
    }
    Ok(())
}

fn prepare_java() -> (Option<Java>, Vec<String>) {
    match Java::prepare() {
        Ok(java) => (Some(java), Vec::new()),
        Err(error) => {
            let text = format!("Apache RocketMQ's own store is LEFT OUT: {error:#}");
            eprintln!("{text}");
            (None, vec![text])
        }
    }
}

/// Says when and on what a section was measured, and prints it.
fn finish(mut section: Section, args: &Args, machine: &Machine) -> Section {
    section.day = machine::today();
    section.commit = machine::commit();
    section.quick = args.quick;
    section.machine = machine.clone();
    eprint!("\r\x1b[K");
    if args.json {
        for line in &section.lines {
            println!("{}", serde_json::to_string(line).unwrap_or_default());
        }
        return section;
    }
    println!("\n{}: {}\n{}\n", section.scenario, section.title, section.how);
    print!("{}", plain(&section.table));
    for line in &section.lines {
        let cells = doc::row(line);
        let met = match line.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "–",
        };
        println!(
            "  {met:<6} {}: {} | best peer {} | ratio {} (wanted {}) | of limit {} (wanted {})",
            cells[1], cells[3], cells[4], cells[5], cells[6], cells[7], cells[8]
        );
    }
    section.notes.iter().for_each(|note| println!("  {note}"));
    section
}
