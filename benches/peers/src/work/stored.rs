//! How fast is what was stored read, how long does it take to open it again, and how much memory does it hold?

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::open;
use crate::contender::{Load, Log, Tally, checksum, find};
use crate::contenders::ours;
use crate::job::{BeforeKill, Flush, Job, Outcome, READY};
use crate::machine::{anonymous_memory, anonymous_shared};
use crate::traps::touch_memory;

/// Messages of a batch with which a folder is filled.
const BATCH: usize = 64;

pub fn read(job: &Job, messages: u64) -> Result<Outcome> {
    let batch = if find(&job.contender)?.can.batch { BATCH } else { 1 };
    let load = Arc::new(Load::new(job.size, batch, false));
    let messages = messages.next_multiple_of(BATCH as u64);
    let filled = open(job)?;
    append(&*filled, &load, messages)?;
    filled.flush()?;
    filled.close()?;
    let log = open(job)?;
    touch_memory(64 << 20);
    let mut best = Duration::MAX;
    // Twice, and the second counts where it is faster: the first also pays for mapping the files.
    for _ in 0..if log.consumes() { 1 } else { 2 } {
        let mut tally = Tally::default();
        let started = Instant::now();
        log.read_all(&mut tally)?;
        best = best.min(started.elapsed());
        ensure!(tally.messages >= messages, "only {} of {messages} messages were read", tally.messages);
        let sum = checksum(&load.body).wrapping_mul(tally.messages);
        ensure!(tally.sum == sum, "the bytes that were read are not those that were appended");
    }
    std::mem::forget(log);
    Ok(Outcome::default().set("rate", messages as f64 / best.as_secs_f64()))
}

/// Appends so many messages, in batches where the load is one.
pub fn append(log: &dyn Log, load: &Arc<Load>, messages: u64) -> Result<()> {
    let mut writer = log.writer(load)?;
    if load.batch == 1 {
        return writer.append_many(0, messages);
    }
    (0..messages).step_by(load.batch).try_for_each(|n| writer.append_batch(n))
}

pub fn fill(job: &Job, messages: u64, before: BeforeKill) -> Result<Outcome> {
    touch_memory(messages * (job.size as u64 + 128));
    let log = open(job)?;
    // A peer fills its folder in batches where it has them; ours one by one, as it is mostly filled.
    let batches = find(&job.contender)?.can.batch && !ours::is_ours(&job.contender);
    append(&*log, &Arc::new(Load::new(job.size, if batches { BATCH } else { 1 }, false)), messages)?;
    match before {
        BeforeKill::Nothing => std::mem::forget(log),
        BeforeKill::Flush => {
            log.flush()?;
            std::mem::forget(log);
        }
        BeforeKill::Checkpoint => {
            // The store writes its checkpoint by itself; the folder was opened with a short interval for it.
            std::thread::sleep(Duration::from_millis(1_500));
            std::mem::forget(log);
        }
        BeforeKill::Close => log.close()?,
    }
    println!("{READY}");
    std::io::stdout().flush()?;
    std::thread::sleep(Duration::from_secs(600));
    Ok(Outcome::default())
}

pub fn reopen(job: &Job) -> Result<Outcome> {
    touch_memory(64 << 20);
    if ours::is_ours(&job.contender) {
        return ours::reopen(&super::place(job), &job.contender);
    }
    let started = Instant::now();
    let log = open(job)?;
    let took = started.elapsed();
    std::mem::forget(log);
    Ok(Outcome::default().set("seconds", took.as_secs_f64()))
}

pub fn memory(job: &Job, messages: u64) -> Result<Outcome> {
    ensure!(job.flush == Flush::Async, "memory is measured under async flush");
    let log = open(job)?;
    let batches = find(&job.contender)?.can.batch && !ours::is_ours(&job.contender);
    let load = Arc::new(Load::new(job.size, if batches { BATCH } else { 1 }, false));
    append(&*log, &load, load.batch as u64)?;
    let before = anonymous_memory()?;
    append(&*log, &load, messages)?;
    let after = anonymous_memory()?;
    std::mem::forget(log);
    Ok(Outcome::default()
        .set("bytes", after as f64)
        .set("grown", after.saturating_sub(before) as f64)
        .set("shared", anonymous_shared()? as f64))
}
