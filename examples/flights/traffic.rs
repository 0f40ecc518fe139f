//! How do events get into the store and out of it? Producer threads send, each its own aircraft; one consumer a group checks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pocketmq::{Consumer, Delivery, Filter, MessageView, QueueOffset, StartFrom, Store};

use crate::Failure;
use crate::check::{Checker, Group};
use crate::events::{Events, TOPIC};

/// The producer threads. Each sends the events of its own streams, so that the order of each stream is kept.
pub(crate) const PRODUCERS: usize = 4;
/// The queues of the topic.
pub(crate) const QUEUES: u32 = 8;
/// How many events a producer sends, or a consumer takes, between two reports.
const REPORT_EVERY: usize = 256;
/// How long a consumer waits for a message that should come before it counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the places of the events that a producer thread sends, in order.
pub(crate) fn share(events: &Events, thread: usize) -> Vec<usize> {
    let places = events.all.iter().enumerate();
    places.filter(|(_, event)| event.stream % PRODUCERS == thread).map(|(place, _)| place).collect()
}

/// Sends the events at some places, and says after every few how many are acknowledged.
pub(crate) fn send(
    store: &Store,
    events: &Events,
    places: impl Iterator<Item = usize>,
    mut acknowledged: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let producer = store.producer("airports")?;
    let mut count = 0;
    for message in places.filter_map(|place| events.message(place)) {
        producer.send(message)?;
        count += 1;
        if count % REPORT_EVERY == 0 {
            acknowledged(count)?;
        }
    }
    acknowledged(count)
}

/// Opens the consumer of a group, at the first message if the group is new.
pub(crate) fn consumer(store: &Store, group: Group) -> Result<Consumer, Failure> {
    let consumer = store.consumer(group.name).subscribe(TOPIC, group.filter).start_from(StartFrom::Earliest);
    Ok(consumer.build()?)
}

/// Consumes until the group has seen everything, or until nothing comes any more although all was sent. What was seen
/// is reported before it is acknowledged, so a report may be ahead of the committed positions, never behind.
pub(crate) fn consume(
    consumer: &Consumer,
    checker: &mut Checker<'_>,
    all_sent: &AtomicBool,
    mut seen: impl FnMut(&Checker<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut batch: Vec<Delivery> = Vec::with_capacity(REPORT_EVERY);
    let mut last = Instant::now();
    while checker.missing() > 0 {
        let Some(first) = consumer.recv_timeout(Duration::from_millis(100))? else {
            // Ordering: pairs with the store after the last producer ended. Its messages are visible before it.
            if all_sent.load(Ordering::Acquire) && last.elapsed() > PATIENCE {
                break;
            }
            continue;
        };
        batch.push(first);
        while batch.len() < REPORT_EVERY {
            let Some(next) = consumer.try_recv()? else { break };
            batch.push(next);
        }
        for delivery in &batch {
            checker.accept(delivery)?;
        }
        seen(checker)?;
        for delivery in batch.drain(..) {
            delivery.ack()?;
        }
        last = Instant::now();
    }
    Ok(())
}

/// Reads every message of the topic, queue by queue, past any group.
pub(crate) fn scan(
    store: &Store,
    mut visit: impl FnMut(&MessageView) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let everything = Filter::from("*");
    for queue in store.queues(TOPIC)? {
        let mut from = QueueOffset::new(0);
        loop {
            let page = store.pull(&queue, &everything, from, REPORT_EVERY)?;
            if page.messages.is_empty() {
                break;
            }
            for message in &page.messages {
                visit(message)?;
            }
            from = page.next_offset;
        }
    }
    Ok(())
}

/// For each group, up to where the killed child had seen each queue.
pub(crate) type SeenBefore = HashMap<(String, u32), u64>;
