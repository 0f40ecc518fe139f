//! What can happen in a history?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The number that a message has in its body, for ever and in every copy.
pub(crate) type Body = u64;

/// A message that was seen in a queue: its offset, its number, and when it was stored.
pub(crate) type Seen = (u64, Body, i64);

/// A queue, by its name over all brokers, and a place in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) queue: String,
    pub(crate) offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.queue, self.offset)
    }
}

/// How a group consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// `Consumer`, several messages of a queue in hand.
    Loop,
    /// `Consumer`, in order.
    LoopOrderly,
    /// `PushConsumer`.
    Push,
    /// `PushConsumer`, in order.
    PushOrderly,
    /// `SimpleConsumer`.
    Simple,
    /// `SimpleConsumer`, in order.
    SimpleOrderly,
    /// `PullConsumer`.
    Pull,
    /// `Consumer`, every instance everything.
    Broadcast,
}

impl Mode {
    pub(crate) const fn is_orderly(self) -> bool {
        matches!(self, Self::LoopOrderly | Self::PushOrderly | Self::SimpleOrderly)
    }

    pub(crate) const fn is_simple(self) -> bool {
        matches!(self, Self::Simple | Self::SimpleOrderly)
    }
}

/// What a group was set up with.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) mode: Mode,
    /// The tag that it subscribes to; all where there is none.
    pub(crate) tag: Option<&'static str>,
    /// After so many attempts a message is dead.
    pub(crate) attempts_max: u32,
}

impl Rules {
    pub(crate) fn takes(&self, tag: &str) -> bool {
        self.tag.is_none_or(|wanted| wanted == tag)
    }
}

/// A message that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receive {
    pub(crate) group: &'static str,
    pub(crate) member: usize,
    pub(crate) body: Body,
    /// Whether its bytes were those that were sent.
    pub(crate) intact: bool,
    pub(crate) tag: String,
    pub(crate) place: Place,
    pub(crate) attempt: u32,
    /// Until when it is leased; it comes back by itself then.
    pub(crate) until: Option<i64>,
}

/// Whether a send says that its message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Stored,
    /// Certainly not stored.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Sent {
        producer: u32,
        body: Body,
        tag: String,
        place: Place,
        answer: Answer,
    },
    /// A member has the queue.
    Assigned {
        group: &'static str,
        member: usize,
        queue: String,
    },
    /// It has it no more.
    Released {
        group: &'static str,
        member: usize,
        queue: String,
    },
    Received(Receive),
    /// Handled, and so acknowledged.
    Acked {
        group: &'static str,
        member: usize,
        body: Body,
        place: Place,
    },
    /// The attempt failed; the message comes back no earlier than `not_before`.
    Failed {
        group: &'static str,
        member: usize,
        body: Body,
        place: Place,
        not_before: i64,
    },
    /// Given up by the application.
    GivenUp {
        group: &'static str,
        member: usize,
        body: Body,
        place: Place,
    },
    /// A member that will not say anything more of what it has in hand.
    Gone {
        group: &'static str,
        member: usize,
    },
    /// The committed position of a group.
    Committed {
        group: &'static str,
        queue: String,
        offset: u64,
    },
    /// The process died, and its folder was opened again.
    Reopened,
    /// Everything in a queue, with store times: `(offset, body, millis)`.
    Scanned {
        queue: String,
        min: u64,
        max: u64,
        found: Vec<(u64, Body, i64)>,
    },
    /// Everything among a group's dead letters.
    DeadLetters {
        group: &'static str,
        found: Vec<Body>,
    },
    /// What a key finds.
    FoundByKey {
        key: String,
        found: BTreeSet<Body>,
    },
    /// Where a search by time ends.
    Searched {
        queue: String,
        millis: i64,
        offset: u64,
    },
    /// A call that took so long, in real milliseconds.
    Called {
        what: &'static str,
        millis: u128,
    },
}

/// What happened, in order, each with the time of the store's clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) groups: BTreeMap<&'static str, Rules>,
    /// The keys under which messages were sent.
    pub(crate) keys: BTreeMap<Body, String>,
    pub(crate) entries: Vec<(i64, Event)>,
}

impl History {
    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.entries.iter().map(|(_, event)| event)
    }

    /// Returns the messages that are stored for certain: body, place and tag.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (Body, &Place, &str)> {
        self.events().filter_map(|event| match event {
            Event::Sent { body, place, tag, answer: Answer::Stored, .. } => {
                Some((*body, place, tag.as_str()))
            }
            _ => None,
        })
    }

    /// Returns the last look at every queue: its bodies by offset.
    pub(crate) fn last_scan(&self) -> BTreeMap<&str, BTreeMap<u64, Body>> {
        let mut queues = BTreeMap::new();
        for event in self.events() {
            if let Event::Scanned { queue, found, .. } = event {
                queues.insert(queue.as_str(), found.iter().map(|(at, body, _)| (*at, *body)).collect());
            }
        }
        queues
    }

    /// Walks through what was handed out to a group.
    pub(crate) fn received_by<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Receive> {
        self.events().filter_map(move |event| match event {
            Event::Received(receive) if receive.group == group => Some(receive),
            _ => None,
        })
    }
}

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

pub(crate) fn violation(invariant: &'static str, what: impl Into<String>) -> Violation {
    Violation { invariant, what: what.into() }
}
