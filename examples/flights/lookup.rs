//! Is a flight's whole life found by its key?

use std::time::{Duration, Instant};

use pocketmq::{MessageView, Store};

use crate::Failure;
use crate::events::{Events, TOPIC};

/// How many flights are looked up, spread over the input.
const SAMPLES: usize = 2_000;
/// More messages than any key has.
const LIMIT: usize = 64;

/// How the lookups went.
#[derive(Debug)]
pub(crate) struct Lookups {
    pub(crate) count: usize,
    pub(crate) took: Duration,
    /// Events that a lookup should have found.
    pub(crate) missing: usize,
}

/// Looks some flights up by key, and counts the events that were not found.
pub(crate) fn sample(store: &Store, events: &Events) -> Result<Lookups, Failure> {
    let step = events.count().div_ceil(SAMPLES).max(1);
    let mut lookups = Lookups { count: 0, took: Duration::ZERO, missing: 0 };
    let mut body = String::new();
    for place in (0..events.count()).step_by(step) {
        let Some((_, flight, _)) = events.get(place) else { continue };
        let begun = Instant::now();
        let found = store.query_by_key(TOPIC, &flight.key).limit(LIMIT).fetch()?;
        lookups.took += begun.elapsed();
        lookups.count += 1;
        events.body(place, &mut body);
        let there = found.iter().any(|message| message.body_str().is_ok_and(|text| *text == body));
        lookups.missing += usize::from(!there);
    }
    Ok(lookups)
}

/// Prints the life of the first flight of the input, as the store tells it.
pub(crate) fn print_life(store: &Store, events: &Events) -> Result<(), Failure> {
    let Some((_, flight, stream)) = events.get(0) else { return Ok(()) };
    println!("{} from {} to {}, aircraft {stream}:", flight.key, flight.origin, flight.destination);
    let mut found: Vec<MessageView> = store.query_by_key(TOPIC, &flight.key).limit(LIMIT).fetch()?;
    found.sort_by_key(MessageView::physical_offset);
    for message in &found {
        println!("  {}", line(message)?);
    }
    Ok(())
}

fn line(message: &MessageView) -> Result<String, Failure> {
    let body = message.body_str()?;
    let local = body.rsplit(' ').next().unwrap_or_default();
    Ok(format!(
        "{:<9} {:0>4} local time   queue {} offset {}   id {}",
        message.tag(),
        local,
        message.queue_id(),
        message.queue_offset(),
        message.message_id()
    ))
}
