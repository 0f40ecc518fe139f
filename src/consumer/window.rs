//! What has become of each message from the first that is not done on?

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{QueueOffset, to_u64, to_usize};

/// What has become of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is handled, or not wanted.
    Done,
    /// It waits to be handed out.
    Ready,
    /// It is handed out.
    Out {
        /// The number of the attempt.
        attempt: u32,
        /// Since when a handler has it; `None` while it waits for one.
        begun: Option<Duration>,
        /// Bytes of the message.
        size: u32,
    },
    /// It is handled, and its group has yet to say that it commits (orderly, without automatic commit).
    Held {
        /// The number of the attempt.
        attempt: u32,
        /// Bytes of the message.
        size: u32,
    },
    /// It has failed and is being put away.
    Returning,
    /// It has failed and waits in memory for its next attempt.
    Waiting,
}

/// The places of a queue from its committed position on.
#[derive(Debug)]
pub(super) struct Window {
    base: QueueOffset,
    places: VecDeque<Place>,
}

impl Window {
    pub(super) const fn new(base: QueueOffset) -> Self {
        Self { base, places: VecDeque::new() }
    }

    /// Returns how many places lie between the first message that is not done and the last that was fetched.
    pub(super) fn span(&self) -> usize {
        self.places.len()
    }

    /// Returns where the window ends: what lies there has not been fetched.
    pub(super) fn end(&self) -> QueueOffset {
        self.base.plus(to_u64(self.places.len()))
    }

    pub(super) fn get(&self, offset: QueueOffset) -> Option<Place> {
        self.places.get(self.index(offset)?).copied()
    }

    pub(super) fn set(&mut self, offset: QueueOffset, place: Place) {
        if let Some(index) = self.index(offset)
            && let Some(known) = self.places.get_mut(index)
        {
            *known = place;
        }
    }

    /// Takes in everything up to `end` as done.
    pub(super) fn extend_to(&mut self, end: QueueOffset) {
        let missing = end.since(self.end());
        self.places.extend(std::iter::repeat_n(Place::Done, to_usize(missing)));
    }

    /// Starts anew elsewhere.
    pub(super) fn move_to(&mut self, base: QueueOffset) {
        *self = Self::new(base);
    }

    /// Passes what is done at the front, and returns where the window begins now if it has moved.
    pub(super) fn pass(&mut self) -> Option<QueueOffset> {
        let passed = self.places.iter().take_while(|place| **place == Place::Done).count();
        if passed == 0 {
            return None;
        }
        self.places.drain(..passed);
        self.base = self.base.plus(to_u64(passed));
        Some(self.base)
    }

    /// Returns where the window will begin once its first message is done, if that is the one at `offset`.
    pub(super) fn after_first(&self, offset: QueueOffset) -> Option<QueueOffset> {
        let done = self.places.iter().skip(1).take_while(|place| **place == Place::Done).count();
        (offset == self.base && !self.places.is_empty()).then(|| self.base.plus(to_u64(done)).plus(1))
    }

    /// Walks through all places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (QueueOffset, Place)> {
        (0..).zip(&self.places).map(|(index, place)| (self.base.plus(index), *place))
    }

    fn index(&self, offset: QueueOffset) -> Option<usize> {
        (offset >= self.base).then(|| to_usize(offset.since(self.base)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_with_the_first_message_that_is_not_done() {
        let at = QueueOffset::new;
        let mut window = Window::new(at(10));
        window.extend_to(at(14));
        window.set(at(11), Place::Ready);
        window.set(at(13), Place::Waiting);
        assert_eq!((window.pass(), window.span()), (Some(at(11)), 3));
        assert_eq!(window.pass(), None);
        window.set(at(11), Place::Done);
        assert_eq!(window.pass(), Some(at(13)));
        window.set(at(12), Place::Ready);
        window.set(at(14), Place::Ready);
        assert_eq!(window.iter().collect::<Vec<_>>(), [(at(13), Place::Waiting)]);
        assert_eq!(
            (window.get(at(12)), window.get(at(13)), window.end()),
            (None, Some(Place::Waiting), at(14))
        );
    }
}
