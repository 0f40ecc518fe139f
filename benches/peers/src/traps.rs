//! Which traps make figures worthless here, and how is each avoided?
//!
//! 1. A virtual machine gives freed memory back to its host; touching it again is many times slower. So every timed
//!    section is preceded by touching and freeing more memory than it fills, in large pages and less than what the host
//!    takes back at once.
//! 2. After gigabytes of deleted files a sync takes ten times as long for a while. So a durable run waits until a
//!    4 KiB overwrite and `fdatasync` is quick again, and what it found is kept beside the figure.
//! 3. A producer and a consumer that both spin stall each other where there are two cores. So consumers sleep, and
//!    latencies count from the moment at which a message was due.
//! 4. Differences under 15 % are noise. So runs of all contenders are interleaved, and medians count.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use memmap2::{Advice, MmapMut};

/// A sync of 4 KiB that takes no longer than this is that of a disk at rest.
pub const CALM: Duration = Duration::from_micros(220);
const PAGE: usize = 4_096;

/// Touches and frees as much memory as a run with so many bytes will fill, and somewhat more: in large pages, which are
/// free again in blocks of 2 MiB, and are the first to be used then.
pub fn touch_memory(payload: u64) {
    let len = usize::try_from(payload + payload / 4 + (128 << 20)).unwrap_or(1 << 30).min(6 << 30);
    for _ in 0..2 {
        let Ok(mut memory) = MmapMut::map_anon(len) else { return };
        // Without large pages it is small ones.
        let large = memory.advise(Advice::HugePage);
        if memory.advise(Advice::PopulateWrite).is_err() {
            memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        }
        black_box((&memory, large.is_ok()));
    }
}

/// Waits until the disk is at rest, at most so long; returns the last probe.
pub fn wait_for_calm(dir: &Path, patience: Duration) -> Result<Duration> {
    let started = Instant::now();
    loop {
        let probe = sync_time(dir, PAGE, 15)?;
        if probe <= CALM || started.elapsed() > patience {
            return Ok(probe);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The median time of overwriting so many bytes of a written file and syncing them.
pub fn sync_time(dir: &Path, len: usize, times: u64) -> Result<Duration> {
    let path = dir.join("fsync-probe");
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
    let block = vec![7_u8; len];
    let places = 16_u64;
    for place in 0..places {
        file.write_all_at(&block, place * len as u64)?;
    }
    file.sync_all()?;
    let mut times: Vec<Duration> = (0..times)
        .map(|n| {
            let started = Instant::now();
            file.write_all_at(&block, (n % places) * len as u64)?;
            file.sync_data()?;
            Ok(started.elapsed())
        })
        .collect::<Result<_>>()?;
    drop(file);
    std::fs::remove_file(path)?;
    times.sort();
    Ok(times[times.len() / 2])
}

/// The middle of some figures; the lower of the two in the middle where their number is even.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_and_nothing_has_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
