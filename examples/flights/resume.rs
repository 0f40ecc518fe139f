//! How does the work go on after the kill? The store says which events it has; the rest is sent, and all is checked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pocketmq::Store;

use crate::Failure;
use crate::check::{AUDIT, CREW, Checker, GROUPS, Reader, Tally};
use crate::child::Reported;
use crate::crew::{self, Crew};
use crate::events::Events;
use crate::traffic::{self, PRODUCERS};

/// What became of the events after the kill.
#[derive(Debug, Default)]
pub(crate) struct Resumed {
    /// Events that the reopened store had.
    pub(crate) found: usize,
    /// Events that the child had reported as acknowledged and that are not in the store.
    pub(crate) lost_by_the_kill: usize,
    /// Events that some group never got.
    pub(crate) missing: usize,
    /// What the first group saw.
    pub(crate) consumed: usize,
    /// All groups together.
    pub(crate) redelivered: usize,
    pub(crate) out_of_order: usize,
    pub(crate) resent: usize,
    pub(crate) sending: Duration,
    /// Who came and went in the group whose members do.
    pub(crate) crew: Crew,
}

/// Sends what is missing while the groups go on where they were.
pub(crate) fn resume(
    store: &Store,
    events: &Events,
    reported: &Reported,
    bar: &ProgressBar,
) -> Result<Resumed, Failure> {
    let reader = Reader::new(events);
    let mut checkers: Vec<Checker<'_>> = GROUPS.iter().map(|group| Checker::new(&reader, *group)).collect();
    let stored = look(store, &reader, events, &mut checkers, reported)?;
    let mut resumed = Resumed {
        found: stored.iter().filter(|there| **there).count(),
        lost_by_the_kill: lost(events, &stored, reported),
        ..Resumed::default()
    };
    bar.set_message("sending the rest");
    bar.set_position(u64::try_from(resumed.found)?);
    let sent = AtomicBool::new(false);
    let consumers = GROUPS.iter().map(|group| traffic::consumer(store, *group));
    let consumers: Vec<_> = consumers.collect::<Result<_, Failure>>()?;
    let mut crew_checker = Checker::new(&reader, CREW);
    resumed.sending = thread::scope(|scope| {
        let sent = &sent;
        let (checker, members) = (&mut crew_checker, &resumed.crew);
        let crew = scope.spawn(move || crew::consume(store, checker, members, sent));
        let pairs = consumers.iter().zip(&mut checkers);
        let consuming: Vec<_> = pairs
            .map(|(consumer, checker)| {
                scope.spawn(move || traffic::consume(consumer, checker, sent, |_| Ok(())))
            })
            .collect();
        let sending = send_missing(store, events, &stored, bar);
        // Ordering: pairs with the load in `consume`. Set also after a failure, so that the consumers end.
        sent.store(true, Ordering::Release);
        for consumer in consuming {
            consumer.join().map_err(|_| "a consumer panicked")??;
        }
        crew.join().map_err(|_| "a member panicked")??;
        sending
    })?;
    for checker in checkers.iter().chain([&crew_checker]) {
        let tally = checker.tally();
        resumed.missing += checker.missing();
        resumed.redelivered += tally.redelivered;
        resumed.out_of_order += tally.out_of_order;
    }
    if let Some(tally) = checkers.first().map(Checker::tally) {
        resumed.consumed = tally.consumed;
        resumed.resent = tally.resent;
    }
    Ok(resumed)
}

/// Reads the whole store: which events are there, and what had each group seen when the child died?
fn look(
    store: &Store,
    reader: &Reader<'_>,
    events: &Events,
    checkers: &mut [Checker<'_>],
    reported: &Reported,
) -> Result<Vec<bool>, Failure> {
    let mut stored = vec![false; events.count()];
    let mut expected = String::new();
    traffic::scan(store, |message| {
        let place = reader.place(message, &mut expected)?;
        if let Some(there) = stored.get_mut(place) {
            *there = true;
        }
        let stage = events.all.get(place).map(|event| event.stage);
        for checker in &mut *checkers {
            let group = checker.group();
            let seen = reported.seen.get(&(group.name.to_owned(), message.queue_id())).copied().unwrap_or(0);
            let wanted = stage.is_some_and(|stage| group.stages.contains(&stage));
            if wanted && message.queue_offset().get() < seen {
                checker.accept(message)?;
            }
        }
        Ok(())
    })?;
    Ok(stored)
}

/// Counts what the child had reported as acknowledged and the store does not have.
fn lost(events: &Events, stored: &[bool], reported: &Reported) -> usize {
    let acknowledged = reported.acknowledged.iter().enumerate();
    let places =
        acknowledged.flat_map(|(thread, count)| traffic::share(events, thread).into_iter().take(*count));
    places.filter(|place| stored.get(*place) == Some(&false)).count()
}

/// Sends every event that the store does not have. An event whose acknowledgement was never reported is there or is
/// not: the look into the store has decided, so none is lost and none is stored twice.
fn send_missing(
    store: &Store,
    events: &Events,
    stored: &[bool],
    bar: &ProgressBar,
) -> Result<Duration, Failure> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|thread| {
                scope.spawn(move || {
                    let share = traffic::share(events, thread);
                    let missing = share.into_iter().filter(|place| stored.get(*place) == Some(&false));
                    let mut before = 0;
                    traffic::send(store, events, missing, |count| {
                        bar.inc(u64::try_from(count - before)?);
                        before = count;
                        Ok(())
                    })
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a producer panicked")??;
        }
        Ok(begun.elapsed())
    })
}

/// What a new group reads from the first message to the last.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) tally: Tally,
    pub(crate) missing: usize,
    pub(crate) took: Duration,
}

/// Reads everything once more with a group that has never been there: the proof that does not rest on any report.
pub(crate) fn audit(store: &Store, events: &Events) -> Result<Audit, Failure> {
    let reader = Reader::new(events);
    let mut checker = Checker::new(&reader, AUDIT);
    let consumer = traffic::consumer(store, AUDIT)?;
    let begun = Instant::now();
    traffic::consume(&consumer, &mut checker, &AtomicBool::new(true), |_| Ok(()))?;
    Ok(Audit { tally: checker.tally(), missing: checker.missing(), took: begun.elapsed() })
}
