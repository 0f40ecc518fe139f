//! What does the record format allow? A prototype that does what every append must, and nothing else.
//!
//! A record of RocketMQ's size with the body's checksum, and a unit of the consume queue, both into mapped files whose
//! pages another thread populates ahead. No lock, no ids, no index, no recovery, no second file: nobody could use it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use memmap2::MmapMut;

use super::probe::mapping;
use crate::contender::Load;
use crate::job::{Job, Outcome};
use crate::traps::touch_memory;

/// Bytes of a record before its body, with IPv4 hosts.
pub const HEADER: usize = 88;
/// Bytes of a record besides its body: header, topic, lengths.
pub const OVERHEAD: usize = 101;
const UNIT: usize = 20;
/// Pages are populated in steps of so many bytes, at most so many ahead.
const STEP: u64 = 16 << 20;
const AHEAD: u64 = 256 << 20;

pub fn run(job: &Job, messages: u64) -> Result<Outcome> {
    let load = Load::new(job.size, 1, false);
    let (log_len, queue_len) = (messages * (job.size + OVERHEAD) as u64, messages * UNIT as u64);
    touch_memory(log_len + queue_len);
    let mut log = mapping(job, "log", log_len)?;
    let mut queue = mapping(job, "queue", queue_len)?;
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let area = (log.as_mut_ptr() as usize, log_len);
    let took = std::thread::scope(|scope| {
        scope.spawn(|| populate_ahead(area, &written, &stop));
        std::thread::sleep(Duration::from_millis(20)); // a lead, as a store has that was opened before
        let started = Instant::now();
        append_all(&mut log, &mut queue, &load.body, &written);
        let took = started.elapsed();
        stop.store(true, Ordering::Relaxed);
        took
    });
    Ok(Outcome::default().set("rate", messages as f64 / took.as_secs_f64()))
}

fn populate_ahead((base, len): (usize, u64), written: &AtomicU64, stop: &AtomicBool) {
    let mut at = 0;
    while at < len && !stop.load(Ordering::Relaxed) {
        if at >= written.load(Ordering::Relaxed) + AHEAD {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let step = STEP.min(len - at);
        // SAFETY: the area lies in the mapping, which outlives this thread; populating changes no byte.
        unsafe {
            libc::madvise((base + at as usize) as *mut libc::c_void, step as usize, libc::MADV_POPULATE_WRITE)
        };
        at += step;
    }
}

fn append_all(log: &mut MmapMut, queue: &mut MmapMut, body: &[u8], written: &AtomicU64) {
    let record_len = body.len() + OVERHEAD;
    let mut header = [0_u8; HEADER];
    header[..4].copy_from_slice(&(record_len as u32).to_be_bytes());
    let tail = [b't'; OVERHEAD - HEADER];
    let units = queue.chunks_exact_mut(UNIT);
    for (n, (record, unit)) in log.chunks_exact_mut(record_len).zip(units).enumerate() {
        let offset = (n * record_len) as u64;
        header[8..12].copy_from_slice(&crc32fast::hash(std::hint::black_box(body)).to_be_bytes());
        header[20..28].copy_from_slice(&(n as u64).to_be_bytes());
        header[28..36].copy_from_slice(&offset.to_be_bytes());
        record[..HEADER].copy_from_slice(&header);
        record[HEADER..HEADER + body.len()].copy_from_slice(body);
        record[HEADER + body.len()..].copy_from_slice(&tail);
        unit[..8].copy_from_slice(&offset.to_be_bytes());
        unit[8..12].copy_from_slice(&(record_len as u32).to_be_bytes());
        written.store(offset, Ordering::Release);
    }
}
