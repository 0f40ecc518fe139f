//! SEEN BEFORE: was this message sent, or handled, already?
//!
//! Delivery is at least once, so a message can come twice, and a sender who does not know what became of a send sends
//! again. A window of time remembers what there was, for a producer by the messages themselves, for a group by what it
//! has handled (contract V11). Both are off unless somebody asks for them.

mod handled;
mod recent;
mod sent;

pub(crate) use handled::Handled;
pub(crate) use recent::Recent;
pub(crate) use sent::sent_before;

use std::time::Duration;

use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::message::properties::name;

/// The longest window.
const WINDOW_MAX: Duration = Duration::from_secs(30 * 86_400);

/// By what two messages are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SameBy {
    /// The message id: the same message again, through retries, a crash or a position that was set back. A message that
    /// its sender sent twice has two ids.
    MessageId,
    /// The keys, all of them: what the application says is the same. A message without a key is never the same as another.
    Key,
}

impl SameBy {
    /// Returns the text by which a message is told from others, if it has one.
    fn text_of(self, message: &MessageView) -> Option<String> {
        match self {
            Self::MessageId => Some(message.message_id().to_string()),
            Self::Key => message.property(name::KEYS).map(str::to_owned),
        }
    }
}

/// Refuses a window that makes no sense.
pub(crate) fn check_window(window: Duration) -> Result<()> {
    if window.is_zero() || window > WINDOW_MAX {
        return Err(Error::config("deduplicate", "the window must be between 1 ns and 30 days"));
    }
    Ok(())
}
