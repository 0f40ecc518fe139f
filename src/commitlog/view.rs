//! How is a message read without a copy?

use std::sync::Arc;

use crate::message::OwnedMessage;
use crate::message::owned::message_accessors;
use crate::message::record::{Layout, Record};
use crate::storage::MappedFile;
use crate::types::to_usize;

/// A stored message, read where it lies in the log (RocketMQ's `MessageExt`).
///
/// Nothing is copied: the view keeps its log file mapped, also when retention has removed the file from the folder.
/// Keep an [`OwnedMessage`](Self::to_owned) instead where that matters.
#[derive(Clone)]
#[doc(alias = "MessageExt")]
pub struct MessageView {
    map: Arc<MappedFile>,
    start: usize,
    layout: Layout,
    /// Whether it says the topic to which it was sent, and not the one in which it is.
    as_sent: bool,
}

message_accessors!(MessageView);

impl MessageView {
    pub(super) const fn new(map: Arc<MappedFile>, start: usize, layout: Layout) -> Self {
        Self { map, start, layout, as_sent: false }
    }

    /// Has a copy in a retry topic say the topic to which the message was sent, as consumers expect.
    pub(crate) const fn showing_original_topic(mut self) -> Self {
        self.as_sent = true;
        self
    }

    /// Returns the record.
    pub(crate) fn record(&self) -> Record<'_> {
        let end = self.start.saturating_add(to_usize(u64::from(self.layout.size())));
        // A view is only made of bytes that lie in the window.
        Record::whole(self.map.bytes(self.start..end).unwrap_or_default(), self.layout)
    }

    /// Copies the message, and lets go of the log file.
    #[must_use]
    pub fn to_owned(&self) -> OwnedMessage {
        OwnedMessage::new(self.record()).showing(self.as_sent)
    }
}
