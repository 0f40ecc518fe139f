//! How many messages a second does a contender append, from so many threads?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::open;
use crate::contender::{Load, Writer};
use crate::job::{Budget, Flush, Job, Outcome};
use crate::machine::{cpu_time, disk_bytes_written};
use crate::traps::touch_memory;

/// A look at the clock comes about this often.
const LOOK: Duration = Duration::from_millis(1);
/// A writer warms up so long at most.
const WARM_UP: Duration = Duration::from_millis(30);

pub fn run(job: &Job, load: Load, producers: usize, budget: Budget) -> Result<Outcome> {
    let log = open(job)?;
    let load = Arc::new(load);
    if job.flush == Flush::Async {
        touch_memory(budget.messages * (job.size as u64 + 128));
    }
    let mut writers = (0..producers).map(|_| log.writer(&load)).collect::<Result<Vec<_>>>()?;
    warm_up(&mut writers, load.batch, budget)?;
    let (disk, cpu) = (disk_bytes_written(&job.dir), cpu_time());
    let (count, took) = from_threads(writers, load.batch, budget)?;
    let cpu = cpu_time().saturating_sub(cpu);
    let mut outcome = Outcome::default()
        .set("rate", count as f64 / took.as_secs_f64())
        .set("messages", count as f64)
        .set("cpu_ns", cpu.as_nanos() as f64 / count as f64);
    if let (Some(before), Some(after), Flush::Sync) = (disk, disk_bytes_written(&job.dir), job.flush) {
        outcome = outcome.set("disk_bytes", (after - before) as f64 / count as f64);
    }
    // The process ends here, and with it whatever a peer leaves behind.
    std::mem::forget(log);
    Ok(outcome)
}

/// Appends a little untimed: what the first messages make (topics, files, buffers), and what learns from them.
fn warm_up(writers: &mut [Box<dyn Writer>], batch: usize, budget: Budget) -> Result<()> {
    let share = (budget.messages / 16 / writers.len() as u64).max(1);
    for writer in writers {
        let started = Instant::now();
        let mut done = 0;
        while done < share && started.elapsed() < WARM_UP {
            if batch > 1 {
                writer.append_batch(done)?;
                done += batch as u64;
            } else {
                writer.append(done)?;
                done += 1;
            }
        }
    }
    Ok(())
}

/// Lets every writer append in a thread of its own until the first is done or the time is up, so that all of them run
/// all the time that counts.
pub fn from_threads(writers: Vec<Box<dyn Writer>>, batch: usize, budget: Budget) -> Result<(u64, Duration)> {
    let share = budget.messages.div_ceil(writers.len() as u64);
    let (stop, barrier) = (AtomicBool::new(false), Barrier::new(writers.len() + 1));
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .map(|writer| {
                scope.spawn(|| {
                    barrier.wait();
                    let result = until_told(writer, batch, share, budget.seconds, &stop);
                    stop.store(true, Ordering::Relaxed);
                    result
                })
            })
            .collect();
        barrier.wait();
        let started = Instant::now();
        let counts = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a producer panicked"))?)
            .collect::<Result<Vec<u64>>>();
        Ok((counts?.iter().sum(), started.elapsed()))
    })
}

fn until_told(
    mut writer: Box<dyn Writer>,
    batch: usize,
    share: u64,
    seconds: f64,
    stop: &AtomicBool,
) -> Result<u64> {
    let started = Instant::now();
    let (mut done, mut chunk) = (0_u64, 1_u64);
    while done < share && !stop.load(Ordering::Relaxed) && started.elapsed().as_secs_f64() < seconds {
        let looked = Instant::now();
        if batch > 1 {
            let step = batch as u64;
            (0..chunk).try_for_each(|n| writer.append_batch(done + n * step))?;
            done += chunk * step;
        } else {
            writer.append_many(done, chunk.min(share - done))?;
            done += chunk.min(share - done);
        }
        if looked.elapsed() < LOOK {
            chunk *= 2;
        } else if looked.elapsed() > 4 * LOOK {
            chunk = (chunk / 2).max(1);
        }
    }
    Ok(done)
}
