//! How does the writer of a busy queue find blocks, pages and a window ready? Somebody gets them ahead of it: to map waits
//! for whoever else changes the address space of the process, and a page costs microseconds.

use super::ConsumeQueue;
use super::queue::{BLOCK, NOT_SHORT};
use super::tail::{STEP_MAX, Tail};
use super::unit::UNIT_LEN;
use super::windows::Window;
use crate::error::Result;
use crate::sync::Ordering;
use crate::types::{to_u64, to_usize};

/// How far to be ahead of the writer of a busy queue, at most: six thousand units.
const AHEAD_MAX: u64 = 128 << 10;

impl Tail<'_> {
    /// Says, once each time, that the writer comes close to the end of what is ready, and the queue is long enough for
    /// [`ConsumeQueue::get_ahead`].
    #[inline]
    pub(crate) fn is_short(&mut self) -> bool {
        let next = self.queue.max.load(Ordering::Relaxed).saturating_mul(UNIT_LEN);
        let is_short = next >= self.state.short_at;
        if is_short {
            self.state.short_at = NOT_SHORT;
        }
        is_short
    }
}

impl ConsumeQueue {
    /// Has blocks and pages ready behind those that the writer has, and the next window where this one ends. The queue is
    /// not locked meanwhile. Does nothing at the end of a file: the writer makes the next one.
    pub(crate) fn get_ahead(&self) -> Result<()> {
        let (cuts, ready, tail, next, left) = {
            let mut state = self.state.lock();
            let (tail, next, left) = (state.tail.clone(), state.next.clone(), state.left.take());
            (state.cuts, state.ready_end, tail, next, left)
        };
        self.shared.maps.give_back(left.iter().count());
        drop(left);
        let file_start = self.file_of(ready);
        let have = ready.saturating_sub(file_start);
        let Some(tail) = tail.filter(|tail| tail.start >= file_start && have > 0) else { return Ok(()) };
        let size = self.shared.options.file_size;
        let ahead = have.clamp(STEP_MAX, AHEAD_MAX);
        let upto = have.saturating_add(ahead).next_multiple_of(BLOCK).min(size);
        self.shared.disk.allocate(&self.path(file_start), have..upto)?;
        let end = file_start.saturating_add(upto);
        populate(&tail, ready, end)?;
        let behind = tail.start.saturating_add(tail.span);
        let (is_new, next) = match next {
            None if behind < end => (true, Some(self.map(behind, Some(&tail))?)),
            known => (false, known),
        };
        let populated = next.as_ref().map_or(Ok(()), |next| {
            populate(next, if is_new { next.start } else { ready.max(next.start) }, end)
        });
        let mut state = self.state.lock();
        let mut unused = next.filter(|_| is_new);
        // A cut may have taken back the blocks, or the writer may have been faster.
        if populated.is_ok() && state.cuts == cuts {
            state.ready_end = state.ready_end.max(end);
            state.short_at = if upto < size { end.saturating_sub(ahead / 2) } else { NOT_SHORT };
            if state.next.is_none() && state.tail.as_ref().is_some_and(|now| now.start == tail.start) {
                state.next = unused.take();
            }
        }
        drop(state);
        self.shared.maps.give_back(unused.iter().count());
        populated
    }
}

/// Has the pages of a part of the queue ready, as far as the window reaches.
fn populate(window: &Window, from: u64, to: u64) -> Result<()> {
    let within = |byte: u64| to_usize(byte.saturating_sub(window.start).min(to_u64(window.map.len())));
    window.map.populate(within(from)..within(to))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::consumequeue::{ConsumeQueues, QueueOptions, Unit};
    use crate::storage::RealDisk;
    use crate::storage::faulty::{FaultyDisk, Operation};
    use crate::sync::AtomicBool;
    use crate::types::{PhysicalOffset, QueueOffset, TopicName};

    /// Bytes of a file: four windows, the last of which is short.
    const FILE_SIZE: u64 = 800_000;

    fn open(dir: &Path) -> (Arc<FaultyDisk>, ConsumeQueues, Arc<ConsumeQueue>) {
        let (queues, temp_dir) = (dir.join("consumequeue"), dir.join("own"));
        std::fs::create_dir_all(&queues).unwrap();
        std::fs::create_dir_all(&temp_dir).unwrap();
        let options = QueueOptions { dir: queues, temp_dir, file_size: FILE_SIZE, maps_max: 100 };
        let disk = Arc::new(FaultyDisk::new(Arc::new(RealDisk)));
        let queues = ConsumeQueues::open(Arc::clone(&disk) as Arc<_>, options).unwrap().0;
        let queue = queues.get_or_create(&TopicName::new("t").unwrap(), 0).unwrap();
        (disk, queues, queue)
    }

    fn unit(n: u64) -> Unit {
        Unit { physical_offset: PhysicalOffset::new(n * 100 + 1), size: 100, tags_code: 7 }
    }

    /// Appends units up to a place. Returns how often the writer was told that it is short.
    fn fill(queue: &ConsumeQueue, to: u64, has_help: bool) -> u64 {
        let mut calls = 0;
        for n in queue.max_offset().get()..to {
            queue.append(QueueOffset::new(n), unit(n)).unwrap();
            if queue.tail().is_short() {
                calls += 1;
                if has_help {
                    queue.get_ahead().unwrap();
                }
            }
        }
        calls
    }

    fn check(queue: &ConsumeQueue, count: u64) {
        let mut units = Vec::new();
        queue.read(QueueOffset::ZERO, 1_000_000, &mut units).unwrap();
        assert!(units == (0..count).map(unit).collect::<Vec<_>>());
    }

    #[test]
    fn the_writer_of_a_busy_queue_asks_the_disk_for_nothing_until_its_file_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, queues, queue) = open(dir.path());
        fill(&queue, 3_500, true);
        disk.faults().take_asked();
        let mut by_writer = 0;
        for n in 3_500..40_000 {
            queue.append(QueueOffset::new(n), unit(n)).unwrap();
            by_writer += disk.faults().take_asked().len();
            if queue.tail().is_short() {
                queue.get_ahead().unwrap();
                assert!(!disk.faults().take_asked().is_empty());
            }
        }
        assert_eq!(by_writer, 0);
        fill(&queue, 130_000, true);
        check(&queue, 130_000);
        assert!(queue.shared.maps.count() <= 4);
        drop((queue, queues));
        check(&open(dir.path()).2, 130_000);
    }

    #[test]
    fn a_writer_whom_nobody_helps_helps_itself_and_a_short_queue_calls_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (_, _queues, queue) = open(dir.path());
        assert_eq!(fill(&queue, 1_500, false), 0);
        assert!(fill(&queue, 90_000, false) > 0);
        check(&queue, 90_000);
    }

    #[test]
    fn blocks_that_a_cut_has_taken_back_meanwhile_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, _queues, queue) = open(dir.path());
        fill(&queue, 5_000, false);
        let (other, is_cut) = (Arc::clone(&queue), AtomicBool::new(false));
        disk.faults().meanwhile(move |operation, _| {
            if operation == Operation::Map && !is_cut.swap(true, Ordering::Relaxed) {
                other.cut_from(PhysicalOffset::new(100_001)).unwrap();
            }
        });
        // Far enough that the next window is needed.
        queue.get_ahead().unwrap();
        assert_eq!(queue.max_offset().get(), 1_000);
        assert_eq!(queue.state.lock().ready_end, 20_480);
        assert!(queue.state.lock().next.is_none());
        assert_eq!(queue.shared.maps.count(), 0);
        disk.faults().meanwhile(|_, _| {});
        fill(&queue, 60_000, true);
        check(&queue, 60_000);
    }
}
