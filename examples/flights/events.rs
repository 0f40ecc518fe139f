//! What happens to a flight, and which message says so?

use std::fmt::Write;

use pocketmq::Message;

use crate::input::{Flight, Flights};

/// The topic of all events.
pub(crate) const TOPIC: &str = "flights";

/// A step in the life of a flight. Its name is the tag of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Scheduled,
    Departed,
    Arrived,
    Cancelled,
}

impl Stage {
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Departed => "departed",
            Self::Arrived => "arrived",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One event: the `sequence`-th of its stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) flight: usize,
    pub(crate) stage: Stage,
    pub(crate) stream: usize,
    pub(crate) sequence: usize,
}

/// All events, in the order in which they happen. An event is named by its place here.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) input: Flights,
    pub(crate) all: Vec<Event>,
    /// The places of each stream's events, in order.
    pub(crate) by_stream: Vec<Vec<usize>>,
}

impl Events {
    /// Takes every flight's life apart.
    pub(crate) fn of(input: Flights) -> Self {
        let mut all = Vec::with_capacity(input.flights.len().saturating_mul(3));
        let mut by_stream: Vec<Vec<usize>> = input.streams.iter().map(|_| Vec::new()).collect();
        for (number, flight) in input.flights.iter().enumerate() {
            let Some(stream) = by_stream.get_mut(flight.stream) else { continue };
            for stage in stages(flight) {
                all.push(Event { flight: number, stage, stream: flight.stream, sequence: stream.len() });
                stream.push(all.len() - 1);
            }
        }
        Self { input, all, by_stream }
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns the event at a place, with its flight and the name of its stream.
    pub(crate) fn get(&self, place: usize) -> Option<(&Event, &Flight, &str)> {
        let event = self.all.get(place)?;
        Some((event, self.input.flights.get(event.flight)?, self.input.streams.get(event.stream)?))
    }

    /// Writes the body of an event's message: stream, sequence, flight, route and local time, between blanks. The
    /// sequence lets a consumer see any gap or change of order.
    pub(crate) fn body(&self, place: usize, out: &mut String) {
        out.clear();
        let Some((event, flight, stream)) = self.get(place) else { return };
        let _ = write!(
            out,
            "{stream} {} {} {} {} {}",
            event.sequence,
            flight.key,
            flight.origin,
            flight.destination,
            time(event, flight)
        );
    }

    /// Makes the message of an event. Equal streams go to equal queues, so an aircraft's events stay in order.
    pub(crate) fn message(&self, place: usize) -> Option<Message> {
        let (event, flight, stream) = self.get(place)?;
        let mut body = String::with_capacity(64);
        self.body(place, &mut body);
        Some(Message::new(TOPIC, body).tag(event.stage.tag()).key(&flight.key).order_key(stream.to_owned()))
    }
}

/// Returns the local time of an event, as the file has it.
fn time<'a>(event: &Event, flight: &'a Flight) -> &'a str {
    match event.stage {
        Stage::Scheduled | Stage::Cancelled => &flight.scheduled,
        Stage::Departed => flight.departed.as_deref().unwrap_or_default(),
        Stage::Arrived => flight.arrived.as_deref().unwrap_or_default(),
    }
}

fn stages(flight: &Flight) -> impl Iterator<Item = Stage> {
    let left = if flight.departed.is_some() { Stage::Departed } else { Stage::Cancelled };
    let arrived = flight.arrived.as_ref().map(|_| Stage::Arrived);
    [Stage::Scheduled, left].into_iter().chain(arrived)
}
