//! How long does an append take when messages come at a fixed rate?
//!
//! The time of each message runs from the moment at which it was due, not from the call, so a stall counts for every
//! message that it holds up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::open;
use crate::contender::Load;
use crate::job::{Job, Outcome};
use crate::traps::touch_memory;

pub fn run(job: &Job, rate: f64, seconds: f64) -> Result<Outcome> {
    let log = open(job)?;
    let load = Arc::new(Load::new(job.size, 1, false));
    let count = (rate * seconds) as usize;
    touch_memory(count as u64 * (job.size as u64 + 128));
    let mut writer = log.writer(&load)?;
    for n in 0..100 {
        writer.append(n)?;
    }
    let mut nanos = vec![1_u32; count];
    let started = Instant::now();
    for (n, slot) in nanos.iter_mut().enumerate() {
        let due = Duration::from_secs_f64(n as f64 / rate);
        while started.elapsed() < due {
            std::hint::spin_loop();
        }
        writer.append(n as u64)?;
        *slot = u32::try_from((started.elapsed() - due).as_nanos()).unwrap_or(u32::MAX);
    }
    let achieved = count as f64 / started.elapsed().as_secs_f64();
    std::mem::forget(log);
    Ok(percentiles(nanos).set("rate", achieved))
}

/// The percentiles of some times, in nanoseconds.
pub fn percentiles(mut nanos: Vec<u32>) -> Outcome {
    nanos.sort_unstable();
    let at = |part: f64| {
        let place = ((nanos.len() as f64 * part).ceil() as usize).clamp(1, nanos.len());
        f64::from(nanos[place - 1])
    };
    if nanos.is_empty() {
        return Outcome::default();
    }
    Outcome::default()
        .set("p50", at(0.5))
        .set("p90", at(0.9))
        .set("p99", at(0.99))
        .set("p99.9", at(0.999))
        .set("p99.99", at(0.9999))
        .set("max", at(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let outcome = percentiles((1..=1_000).rev().collect());
        assert_eq!(outcome.get("p50"), Some(500.0));
        assert_eq!(outcome.get("p99"), Some(990.0));
        assert_eq!(outcome.get("p99.9"), Some(999.0));
        assert_eq!(outcome.get("max"), Some(1_000.0));
        assert!(percentiles(Vec::new()).figures.is_empty());
    }
}
