//! Does a group lose or mix up anything while its members join, leave and hang?
//!
//! Three threads, each one member after the other. A member takes some batches and is gone: it leaves as it should, or it
//! hangs with a batch in hand and never says anything of it. Others get its queues, at once or when its time is up, and
//! one checker watches the order of all that the group gets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pocketmq::{Consumer, Delivery, StartFrom, Store};

use crate::Failure;
use crate::check::{Checker, Group};
use crate::events::TOPIC;
use crate::traffic::PATIENCE;

/// Members that are there at once.
const MEMBERS: usize = 3;
/// Messages that a member takes at once.
const BATCH: usize = 256;
/// Batches after which a member is gone.
const LIFE: usize = 60;
/// How long the others wait for one that hangs.
const HANDOVER: Duration = Duration::from_millis(50);

/// How many members came, and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    joined: AtomicUsize,
    left: AtomicUsize,
    hung: AtomicUsize,
}

impl Crew {
    /// Returns how many members joined, left, and hung.
    pub(crate) fn counts(&self) -> [usize; 3] {
        // Ordering: all threads have ended by now.
        [&self.joined, &self.left, &self.hung].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What all members share.
struct Shared<'a, 'b> {
    checker: Mutex<&'a mut Checker<'b>>,
    /// What hung members have in hand.
    held: Mutex<Vec<Delivery>>,
    crew: &'a Crew,
    all_sent: &'a AtomicBool,
}

/// Consumes until the group has seen everything, or until nothing comes any more although all was sent.
pub(crate) fn consume(
    store: &Store,
    checker: &mut Checker<'_>,
    crew: &Crew,
    all_sent: &AtomicBool,
) -> Result<(), Failure> {
    let group = checker.group();
    let shared = &Shared { checker: Mutex::new(checker), held: Mutex::default(), crew, all_sent };
    thread::scope(|scope| {
        let members: Vec<_> = (0..MEMBERS)
            .map(|number| scope.spawn(move || live_and_die(store, group, shared, number)))
            .collect();
        for member in members {
            member.join().map_err(|_| "a member panicked")??;
        }
        Ok::<_, Failure>(())
    })?;
    // Far too late for most of them: those have been handed out again, and this counts for nothing.
    let held = std::mem::take(&mut *shared.held.lock().map_err(|_| "a member panicked")?);
    for delivery in held {
        delivery.ack()?;
    }
    Ok(())
}

/// One member after the other, until there is nothing more.
fn live_and_die(store: &Store, group: Group, shared: &Shared<'_, '_>, number: usize) -> Result<(), Failure> {
    for life in 0.. {
        let builder = store.consumer(group.name).subscribe(TOPIC, group.filter);
        let member = builder.start_from(StartFrom::Earliest).handover_timeout(HANDOVER).build()?;
        shared.crew.joined.fetch_add(1, Ordering::Relaxed);
        let hangs = (life + number) % 3 == 2;
        if live(&member, shared, hangs)? == Ended::Everything {
            return Ok(());
        }
        let fate = if hangs { &shared.crew.hung } else { &shared.crew.left };
        fate.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Why a member stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its time was over.
    Life,
    /// The group has seen everything, or nothing comes any more.
    Everything,
}

fn live(member: &Consumer, shared: &Shared<'_, '_>, hangs: bool) -> Result<Ended, Failure> {
    let mut last = Instant::now();
    let mut batches = 0;
    loop {
        let batch = member.recv_batch(BATCH, HANDOVER)?;
        let mut checker = shared.checker.lock().map_err(|_| "a member panicked")?;
        for delivery in &batch {
            checker.accept(delivery)?;
        }
        let missing = checker.missing();
        drop(checker);
        if batch.is_empty() {
            // Ordering: pairs with the store after the last producer ended. Its messages are visible before it.
            let is_late = shared.all_sent.load(Ordering::Acquire) && last.elapsed() > PATIENCE;
            if missing == 0 || is_late {
                return Ok(Ended::Everything);
            }
            continue;
        }
        last = Instant::now();
        batches += 1;
        if batches == LIFE && hangs {
            shared.held.lock().map_err(|_| "a member panicked")?.extend(batch);
            return Ok(Ended::Life);
        }
        for delivery in batch {
            delivery.ack()?;
        }
        if batches == LIFE {
            return Ok(Ended::Life);
        }
    }
}
