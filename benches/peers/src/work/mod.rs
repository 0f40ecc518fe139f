//! What does a child process do with its job?

mod append;
mod latency;
mod ours;
mod ours_group;
mod ours_scale;
mod probe;
mod prototype;
mod stored;

use anyhow::{Context, Result};

use crate::contender::{Load, Place, find};
use crate::job::{ANSWER, BeforeKill, Job, Outcome, Work};

/// Does the job and prints the answer.
pub fn run(text: &str) -> Result<()> {
    let job: Job = serde_json::from_str(text).context("a job")?;
    let outcome = carry_out(&job)?;
    println!("{ANSWER}{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn carry_out(job: &Job) -> Result<Outcome> {
    match &job.work {
        Work::Append { producers, batch, keyed, budget } => {
            let load = Load::new(job.size, *batch, *keyed);
            append::run(job, load, *producers, *budget)
        }
        Work::Read { messages } => stored::read(job, *messages),
        Work::Latency { rate, seconds } => latency::run(job, *rate, *seconds),
        Work::Fill { messages, before } => stored::fill(job, *messages, *before),
        Work::Reopen => stored::reopen(job),
        Work::Memory { messages } => stored::memory(job, *messages),
        Work::Ours(what) => ours::run(job, what),
        Work::Probe(probe) => probe::run(job, probe),
    }
}

fn place(job: &Job) -> Place {
    let checkpoints = matches!(job.work, Work::Fill { before: BeforeKill::Checkpoint, .. });
    Place { dir: job.dir.clone(), flush: job.flush, size: job.size, capacity: job.capacity, checkpoints }
}

/// Opens the contender of a job.
fn open(job: &Job) -> Result<Box<dyn crate::contender::Log>> {
    let contender = find(&job.contender)?;
    (contender.open)(&place(job)).with_context(|| format!("open {}", job.contender))
}
