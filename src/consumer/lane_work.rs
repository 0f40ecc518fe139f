//! Where is each message of a queue that is under way, and may another one be handed out?

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::lane::{Signals, TakeRules, Taken, Ticket};
use super::settings::{FlowLimits, Mode};
use super::window::{Place, Window};
use crate::broker::Position;
use crate::cluster::Gate;
use crate::commitlog::MessageView;
use crate::types::QueueOffset;

/// A message that waits to be handed out, now or at its time.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) offset: QueueOffset,
    pub(super) attempt: u32,
    pub(super) size: u32,
    /// `None` where it has to be read again.
    pub(super) message: Option<MessageView>,
}

/// What is known of one queue.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) gate: Gate,
    pub(super) position: Arc<Position>,
    pub(super) window: Window,
    /// Sorted by place.
    pub(super) ready: VecDeque<Entry>,
    pub(super) waiting: Vec<(Duration, Entry)>,
    /// Messages that are out or returning.
    pub(super) out: usize,
    /// Messages that are not done, and their bytes.
    pub(super) cached: usize,
    pub(super) cached_bytes: u64,
    /// Nothing is handed out before this time (orderly, after a failure).
    pub(super) suspended_until: Option<Duration>,
    /// The last fetch ended before the queue did, without a wanted message.
    pub(super) has_more: bool,
    /// A fetch was refused because too much is under way.
    pub(super) is_blocked: bool,
    /// The queue is to end by then, or once nothing of it is in hand: its position was moved from outside.
    pub(super) retires_at: Option<Duration>,
}

impl Work {
    pub(super) fn new(position: Arc<Position>) -> Self {
        Self {
            gate: Gate::Shut,
            window: Window::new(position.get()),
            position,
            ready: VecDeque::new(),
            waiting: Vec::new(),
            out: 0,
            cached: 0,
            cached_bytes: 0,
            suspended_until: None,
            has_more: false,
            is_blocked: false,
            retires_at: None,
        }
    }

    /// Passes what is done at the front, and returns where that ends if it may be committed: not once the queue is
    /// somebody else's business, who goes on from what is committed.
    pub(super) fn passed(&mut self) -> Option<QueueOffset> {
        self.window.pass().filter(|_| self.gate != Gate::Shut)
    }

    /// Tells whether messages may be handed out to the owner of this epoch now.
    pub(super) fn may_hand_out(&mut self, rules: &TakeRules) -> bool {
        if self.gate != Gate::Open(rules.epoch) || self.retires_at.is_some() {
            return false;
        }
        if rules.mode == Mode::Concurrent {
            return true;
        }
        if self.suspended_until.is_some_and(|until| until > rules.now) {
            return false;
        }
        self.suspended_until = None;
        self.out == 0
    }

    /// Tells whether the next message can be had without a fetch.
    pub(super) fn has_something(&self, now: Duration) -> bool {
        !self.ready.is_empty() || self.waiting.iter().any(|(due, _)| *due <= now)
    }

    /// Tells whether so much is under way that nothing more is fetched (RocketMQ's flow control, which looks before the
    /// pull and lets one more batch come).
    pub(super) fn is_full(&self, rules: &TakeRules) -> bool {
        let FlowLimits { messages, bytes, span, .. } = rules.limits;
        self.cached > messages
            || self.cached_bytes > bytes
            || (rules.mode == Mode::Concurrent && self.window.span() > span)
    }

    /// Takes in a message that was fetched.
    pub(super) fn admit(&mut self, message: MessageView) {
        let (offset, size) = (message.queue_offset(), message.stored_size());
        self.window.set(offset, Place::Ready);
        self.cached = self.cached.saturating_add(1);
        self.cached_bytes = self.cached_bytes.saturating_add(u64::from(size));
        // A retried message counts its attempts over all its copies.
        let attempt = message.reconsume_times().saturating_add(1);
        self.ready.push_back(Entry { offset, attempt, size, message: Some(message) });
    }

    pub(super) fn hand_out(
        &mut self,
        entry: &Entry,
        message: MessageView,
        epoch: u64,
        begun: Option<Duration>,
    ) -> Taken {
        let Entry { offset, attempt, size, .. } = *entry;
        self.window.set(offset, Place::Out { attempt, begun, size });
        self.out = self.out.saturating_add(1);
        Taken { message, ticket: Ticket { offset, attempt, epoch, size } }
    }

    /// Tells whether results of this epoch count.
    pub(super) fn is_of(&self, epoch: u64) -> bool {
        self.gate == Gate::Open(epoch) || self.gate == Gate::Closing(epoch)
    }

    /// Tells whether a result counts: not if the queue has changed hands or the message has been given to somebody else
    /// meanwhile.
    pub(super) fn counts(&self, ticket: &Ticket) -> bool {
        let is_out = |place| matches!(place, Place::Out { attempt, .. } if attempt == ticket.attempt);
        self.is_of(ticket.epoch) && self.window.get(ticket.offset).is_some_and(is_out)
    }

    /// Notes that a message has been handled, and that its commit is still to come.
    pub(super) fn hold(&mut self, ticket: &Ticket) {
        if self.counts(ticket) {
            self.out = self.out.saturating_sub(1);
            let Ticket { offset, attempt, size, .. } = *ticket;
            self.window.set(offset, Place::Held { attempt, size });
        }
    }

    pub(super) fn done(&mut self, offset: QueueOffset, size: u32) {
        self.window.set(offset, Place::Done);
        self.cached = self.cached.saturating_sub(1);
        self.cached_bytes = self.cached_bytes.saturating_sub(u64::from(size));
        if self.cached == 0 {
            self.cached_bytes = 0;
        }
    }

    pub(super) fn make_ready(&mut self, entry: Entry) {
        self.window.set(entry.offset, Place::Ready);
        let place = self.ready.partition_point(|other| other.offset < entry.offset);
        self.ready.insert(place, entry);
    }

    /// Returns what is handled and not committed, to be put back as it is.
    pub(super) fn held(&self) -> Vec<Entry> {
        let held = self.window.iter().filter_map(|(offset, place)| match place {
            Place::Held { attempt, size } => Some(Entry { offset, attempt, size, message: None }),
            _ => None,
        });
        held.collect()
    }

    pub(super) fn put_back_held(&mut self) {
        self.held().into_iter().rev().for_each(|entry| self.make_ready(entry));
    }

    /// Takes back what is in hand: whoever has it is too late. A handler that had begun has had its attempt.
    pub(super) fn take_back(&mut self) {
        self.put_back_held();
        let out = self.window.iter().filter_map(|(offset, place)| match place {
            Place::Out { attempt, begun, size } => {
                let attempt = if begun.is_some() { attempt.saturating_add(1) } else { attempt };
                Some(Entry { offset, attempt, size, message: None })
            }
            _ => None,
        });
        for entry in out.collect::<Vec<_>>().into_iter().rev() {
            self.out = self.out.saturating_sub(1);
            self.make_ready(entry);
        }
        self.suspended_until = None;
    }

    /// Says who has to be told now.
    pub(super) fn signals(&mut self) -> Signals {
        let is_to_go = matches!(self.gate, Gate::Closing(_)) || self.retires_at.is_some();
        let let_go = self.out == 0 && is_to_go;
        // Told each time while a fetch is refused: the next one decides whether there is room.
        Signals { let_go, wake: std::mem::take(&mut self.is_blocked) }
    }
}
