//! Which locks and wake-ups do we use? One door to them, so that a model checker can stand in, and the parker with
//! which a consumer waits without costing the producer anything.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
use std::time::{Duration, Instant};

/// One waiting thread's bed: a wake-up that comes before the thread lies down is not lost.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    bed: Mutex<Bed>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Bed {
    woken: bool,
    /// The task that is woken in place of a thread.
    #[cfg(feature = "async")]
    task: Option<std::task::Waker>,
}

impl Parker {
    /// Takes back a wake-up that has come already.
    pub(crate) fn clear(&self) {
        self.bed.lock().woken = false;
    }

    /// Has a task woken, once, by the next wake-up. Look for what it waits for after this.
    #[cfg(feature = "async")]
    pub(crate) fn wake_task(&self, task: &std::task::Waker) {
        let mut bed = self.bed.lock();
        bed.woken = false;
        match &mut bed.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }

    /// Sleeps until woken or until `deadline`; without one, until woken. Says whether it was woken.
    pub(crate) fn park_until(&self, deadline: Option<Instant>) -> bool {
        let mut bed = self.bed.lock();
        while !bed.woken {
            match deadline {
                Some(deadline) => {
                    if self.wake.wait_until(&mut bed, deadline).timed_out() {
                        break;
                    }
                }
                None => self.wake.wait(&mut bed),
            }
        }
        std::mem::take(&mut bed.woken)
    }

    /// Wakes the thread or the task that sleeps here, or the next one that would.
    pub(crate) fn unpark(&self) {
        let mut bed = self.bed.lock();
        if !bed.woken {
            bed.woken = true;
            self.wake.notify_one();
        }
        #[cfg(feature = "async")]
        if let Some(task) = bed.task.take() {
            // Without the lock: a waker may run the task at once.
            drop(bed);
            task.wake();
        }
    }
}

/// Tells the sleepers of one topic that something arrived; costs a fence and a load when nobody sleeps.
///
/// The sleeper registers, looks again, then parks; the producer publishes, fences, then looks for sleepers. One of
/// the two sees the other.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    sleepers: AtomicUsize,
    beds: Mutex<Vec<Arc<Parker>>>,
}

impl Arrivals {
    /// Wakes every sleeper. Call it after what they wait for has been published.
    pub(crate) fn notify(&self) {
        // Ordering: the fence stands between the publication and the look for sleepers; `register` has its partner.
        fence(Ordering::SeqCst);
        self.notify_fenced();
    }

    /// Wakes every sleeper. The caller has a `SeqCst` fence between the publication and this.
    pub(crate) fn notify_fenced(&self) {
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            self.notify_sleepers();
        }
    }

    #[cold]
    fn notify_sleepers(&self) {
        for bed in self.beds.lock().iter() {
            bed.unpark();
        }
    }

    /// Lists a parker to be woken. Look for arrivals once more after this, before parking.
    pub(crate) fn register(&self, bed: &Arc<Parker>) {
        let mut beds = self.beds.lock();
        beds.push(Arc::clone(bed));
        self.sleepers.store(beds.len(), Ordering::Relaxed);
        drop(beds);
        // Ordering: partner of the fence in `notify`.
        fence(Ordering::SeqCst);
    }

    /// Takes a parker off the list.
    pub(crate) fn deregister(&self, bed: &Arc<Parker>) {
        let mut beds = self.beds.lock();
        beds.retain(|listed| !Arc::ptr_eq(listed, bed));
        self.sleepers.store(beds.len(), Ordering::Relaxed);
    }
}

/// Returns the moment `wait` from now, `None` where it lies beyond what the system can express.
///
/// Real waiting is the one thing that cannot run on the injected clock.
#[expect(clippy::disallowed_methods, reason = "a thread sleeps in real time")]
pub(crate) fn deadline_in(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

/// Tells whether a moment has come.
#[expect(clippy::disallowed_methods, reason = "a thread sleeps in real time")]
pub(crate) fn has_passed(deadline: Instant) -> bool {
    Instant::now() >= deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_before_the_sleep_is_not_lost() {
        let parker = Parker::default();
        parker.unpark();
        assert!(parker.park_until(None));
        parker.unpark();
        parker.clear();
        assert!(!parker.park_until(deadline_in(Duration::ZERO)));
    }

    #[test]
    fn a_sleeper_is_woken_by_an_arrival_and_only_while_registered() {
        let arrivals = Arc::new(Arrivals::default());
        let bed = Arc::new(Parker::default());
        arrivals.register(&bed);
        let producer = {
            let arrivals = Arc::clone(&arrivals);
            std::thread::spawn(move || arrivals.notify())
        };
        assert!(bed.park_until(None));
        producer.join().unwrap();
        arrivals.deregister(&bed);
        arrivals.notify();
        assert!(!bed.park_until(deadline_in(Duration::ZERO)));
    }
}
