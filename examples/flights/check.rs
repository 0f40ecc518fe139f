//! Has a group seen every event once, and each aircraft's events in order?

use std::collections::HashMap;

use pocketmq::MessageView;

use crate::Failure;
use crate::events::{Events, Stage};

/// A consumer group: its name, what it subscribes to, and the stages that this selects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) filter: &'static str,
    pub(crate) stages: &'static [Stage],
}

const EVERYTHING: &[Stage] = &[Stage::Scheduled, Stage::Departed, Stage::Arrived, Stage::Cancelled];

/// The groups that consume while events are sent: one wants everything, one shows passengers what they wait for.
pub(crate) const GROUPS: &[Group] = &[
    Group { name: "operations", filter: "*", stages: EVERYTHING },
    Group { name: "board", filter: "arrived || cancelled", stages: &[Stage::Arrived, Stage::Cancelled] },
];

/// The group whose members come and go.
pub(crate) const CREW: Group = Group { name: "crew", filter: "*", stages: EVERYTHING };

/// The group that reads the whole store once more when all is done.
pub(crate) const AUDIT: Group = Group { name: "audit", filter: "*", stages: EVERYTHING };

/// What a group has seen, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Different events.
    pub(crate) consumed: usize,
    /// Messages that the group had already seen at the same place: allowed after a kill.
    pub(crate) redelivered: usize,
    /// Events that are in the store a second time: allowed where the answer to a send was lost with its process.
    pub(crate) resent: usize,
    /// Events that came after a later one of their stream.
    pub(crate) out_of_order: usize,
}

/// Finds the place of the event that a message tells of.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    events: &'a Events,
    streams: HashMap<&'a str, usize>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(events: &'a Events) -> Self {
        let streams = events.input.streams.iter().enumerate().map(|(number, name)| (name.as_str(), number));
        Self { events, streams: streams.collect() }
    }

    /// Returns the place of a message's event. A message that is not exactly what was sent is an error.
    pub(crate) fn place(&self, message: &MessageView, expected: &mut String) -> Result<usize, Failure> {
        let body = message.body_str()?;
        let mut words = body.split(' ');
        let stream = words.next().and_then(|name| self.streams.get(name)).copied();
        let sequence: Option<usize> = words.next().and_then(|word| word.parse().ok());
        let place = stream
            .and_then(|stream| self.events.by_stream.get(stream))
            .zip(sequence)
            .and_then(|(places, sequence)| places.get(sequence))
            .copied()
            .ok_or_else(|| format!("a message tells of an event that never happened: {body:?}"))?;
        self.events.body(place, expected);
        let tag = self.events.all.get(place).map(|event| event.stage.tag());
        if *expected != *body || Some(message.tag()) != tag {
            return Err(format!("sent {expected:?}, got {body:?} with the tag {:?}", message.tag()).into());
        }
        Ok(place)
    }
}

/// What one group has seen, and what it makes of the next message.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    reader: &'a Reader<'a>,
    group: Group,
    seen: Vec<bool>,
    /// For each stream, one past the latest sequence seen.
    latest: Vec<usize>,
    /// For each queue, one past the last queue offset seen.
    next: HashMap<u32, u64>,
    expected: String,
    wanted: usize,
    tally: Tally,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(reader: &'a Reader<'a>, group: Group) -> Self {
        let events = reader.events.all.iter();
        Self {
            reader,
            group,
            seen: vec![false; reader.events.count()],
            latest: vec![0; reader.events.input.streams.len()],
            next: HashMap::new(),
            expected: String::new(),
            wanted: events.filter(|event| group.stages.contains(&event.stage)).count(),
            tally: Tally::default(),
        }
    }

    pub(crate) const fn group(&self) -> Group {
        self.group
    }

    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns one past the last queue offset seen, for each queue.
    pub(crate) const fn next(&self) -> &HashMap<u32, u64> {
        &self.next
    }

    /// Takes note of a message.
    pub(crate) fn accept(&mut self, message: &MessageView) -> Result<(), Failure> {
        let place = self.reader.place(message, &mut self.expected)?;
        let Some(event) = self.reader.events.all.get(place) else { return Ok(()) };
        if !self.group.stages.contains(&event.stage) {
            return Err(format!(
                "{} got an event that its filter excludes: {}",
                self.group.name, self.expected
            )
            .into());
        }
        let next = self.next.entry(message.queue_id()).or_default();
        let offset = message.queue_offset().get();
        if offset < *next {
            self.tally.redelivered += 1;
            return Ok(());
        }
        *next = offset + 1;
        let (Some(seen), Some(latest)) = (self.seen.get_mut(place), self.latest.get_mut(event.stream)) else {
            return Ok(());
        };
        if *seen {
            self.tally.resent += 1;
            return Ok(());
        }
        *seen = true;
        self.tally.consumed += 1;
        if event.sequence < *latest {
            self.tally.out_of_order += 1;
        } else {
            *latest = event.sequence + 1;
        }
        Ok(())
    }

    /// Counts the events that the group should have seen by the end, and did not.
    pub(crate) const fn missing(&self) -> usize {
        self.wanted - self.tally.consumed
    }
}
