//! What can the machine do, whoever asks it?

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use memmap2::{Advice, MmapMut};

use super::{latency, prototype};
use crate::contender::{Load, checksum};
use crate::job::{Job, Outcome, Probe};
use crate::traps::{sync_time, touch_memory};

pub fn run(job: &Job, probe: &Probe) -> Result<Outcome> {
    match probe {
        Probe::Copy { bytes } => copy(job, *bytes, false),
        Probe::CopyCrc { bytes } => copy(job, *bytes, true),
        Probe::Populate { bytes } => populate(job, *bytes),
        Probe::Crc { bytes } => Ok(crc(job, *bytes)),
        Probe::Fsync { times } => {
            let took = sync_time(&job.dir, job.size, *times)?;
            Ok(Outcome::default().set("seconds", took.as_secs_f64()))
        }
        Probe::ThreadWake { times } => Ok(thread_wake(*times)),
        Probe::Scan { bytes } => scan(job, *bytes),
        Probe::SequentialRead { file } => sequential_read(file),
        Probe::Prototype { messages } => prototype::run(job, *messages),
    }
}

/// A mapping of a new file, allocated and zero.
pub fn mapping(job: &Job, name: &str, bytes: u64) -> Result<MmapMut> {
    let file =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(job.dir.join(name))?;
    file.set_len(bytes)?;
    nix::fcntl::posix_fallocate(&file, 0, libc::off_t::try_from(bytes)?)?;
    // SAFETY: the file is ours alone, in a folder of this run.
    Ok(unsafe { MmapMut::map_mut(&file)? })
}

fn rate(bytes: u64, took: Duration) -> Outcome {
    Outcome::default().set("bytes_per_second", bytes as f64 / took.as_secs_f64())
}

/// Copies bodies into a mapping that is populated; messages a second too.
fn copy(job: &Job, bytes: u64, with_crc: bool) -> Result<Outcome> {
    let body = Load::new(job.size, 1, false).body;
    touch_memory(bytes);
    let mut map = mapping(job, "copy", bytes)?;
    map.advise(Advice::PopulateWrite).context("populate")?;
    let started = Instant::now();
    let mut sum = 0_u32;
    for place in map.chunks_exact_mut(body.len()) {
        if with_crc {
            sum ^= crc32fast::hash(black_box(&body));
        }
        place.copy_from_slice(&body);
    }
    let took = started.elapsed();
    black_box(sum);
    let count = bytes / body.len() as u64;
    Ok(rate(count * body.len() as u64, took).set("rate", count as f64 / took.as_secs_f64()))
}

fn populate(job: &Job, bytes: u64) -> Result<Outcome> {
    touch_memory(bytes);
    let map = mapping(job, "populate", bytes)?;
    let started = Instant::now();
    map.advise(Advice::PopulateWrite).context("populate")?;
    Ok(rate(bytes, started.elapsed()))
}

fn crc(job: &Job, bytes: u64) -> Outcome {
    let body = Load::new(job.size, 1, false).body;
    let count = bytes / body.len() as u64;
    let started = Instant::now();
    for _ in 0..count {
        black_box(crc32fast::hash(black_box(&body)));
    }
    let took = started.elapsed();
    rate(bytes, took).set("ns", took.as_nanos() as f64 / count as f64)
}

/// From `unpark` to the parked thread running.
fn thread_wake(times: u64) -> Outcome {
    let started = Instant::now();
    let (sent, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let nanos = std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let mut nanos = Vec::new();
            loop {
                let before = sent.load(Ordering::Acquire);
                while sent.load(Ordering::Acquire) == before && !done.load(Ordering::Acquire) {
                    std::thread::park();
                }
                if done.load(Ordering::Acquire) {
                    return nanos;
                }
                let now = started.elapsed().as_nanos() as u64;
                nanos.push((now - sent.load(Ordering::Acquire)) as u32);
            }
        });
        for _ in 0..times {
            // Long enough for the other thread to sleep for good; this one stays awake, as a sender does.
            let pause = Instant::now();
            while pause.elapsed() < Duration::from_micros(200) {
                std::hint::spin_loop();
            }
            sent.store(started.elapsed().as_nanos() as u64, Ordering::Release);
            sleeper.thread().unpark();
        }
        std::thread::sleep(Duration::from_millis(2));
        done.store(true, Ordering::Release);
        sleeper.thread().unpark();
        sleeper.join().unwrap_or_default()
    });
    latency::percentiles(nanos)
}

/// Reads a mapped file of bodies with the space between them that records have, warm.
fn scan(job: &Job, bytes: u64) -> Result<Outcome> {
    let map = mapping(job, "scan", bytes)?;
    map.advise(Advice::PopulateWrite).context("populate")?;
    let stride = job.size + prototype::OVERHEAD;
    let count = map.len() / stride;
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let started = Instant::now();
        let sum = map.chunks_exact(stride).fold(0_u64, |sum, record| {
            sum.wrapping_add(checksum(&record[prototype::HEADER..prototype::HEADER + job.size]))
        });
        best = best.min(started.elapsed());
        black_box(sum);
    }
    Ok(rate(bytes, best).set("rate", count as f64 / best.as_secs_f64()))
}

/// Reads a file whose pages are not cached, in pieces of 1 MiB.
fn sequential_read(path: &std::path::Path) -> Result<Outcome> {
    let mut file = File::open(path)?;
    let mut piece = vec![0_u8; 1 << 20];
    let started = Instant::now();
    let mut bytes = 0_u64;
    loop {
        match file.read(&mut piece)? {
            0 => break,
            len => bytes += len as u64,
        }
    }
    Ok(rate(bytes, started.elapsed()))
}
