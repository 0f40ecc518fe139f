//! What becomes of a message that could not be handled: another attempt later, or the dead letters?
//!
//! As RocketMQ's broker does when a client sends a message back: a copy goes through a delay level into the group's
//! retry topic, or, when all attempts are used up, into its dead-letter topic. The copy is stored before this returns,
//! as safely as the flush policy says; only then may the original be acknowledged (contract D14).

use std::time::Duration;

use crate::broker::{Broker, Later, PutMessage, Stored, WaitForFlush};
use crate::commitlog::{FlushWait, MessageView};
use crate::config::RetryPolicy;
use crate::error::{Error, Result};
use crate::events;
use crate::message::Properties;
use crate::message::check::is_reserved;
use crate::message::properties::{NAME_END, VALUE_END, append, append_without, name};
use crate::types::{GroupName, TopicName};

/// The longest reason that is kept with a message, in bytes.
const REASON_LEN_MAX: usize = 1_024;
/// What the reason starts with where a copy has lost properties.
const DROPPED: &str = "the message's own properties were dropped, there was no room for those of a copy: ";
/// The longest value that is kept where a copy loses properties.
const KEPT_LEN_MAX: usize = 512;

/// What is to become of a message after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextAttempt {
    /// What the policy says: the next attempt after its wait, or the dead letters after the last one.
    AsPolicySays,
    /// The next attempt after this delay level, if the policy has one left (RocketMQ's `delayLevelWhenNextConsume`).
    AtLevel(u32),
    /// The next attempt after this wait, rounded up to a delay level, if the policy has one left.
    After(Duration),
    /// The dead letters now.
    DeadLetter,
}

/// A delivery that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed<'a> {
    /// The broker that has the message.
    pub(crate) broker: &'a Broker,
    /// The group that could not handle it.
    pub(crate) group: &'a GroupName,
    /// The message as it was delivered: from a topic, or from the group's retry topic.
    pub(crate) message: &'a MessageView,
    /// How often it failed before: what its record says, and more where it was tried again in place.
    pub(crate) times: u32,
    /// How often and when the group tries again.
    pub(crate) policy: &'a RetryPolicy,
    /// What the handler wants.
    pub(crate) next: NextAttempt,
    /// Why it failed; kept with the message.
    pub(crate) reason: &'a str,
}

impl Failed<'_> {
    /// Tells whether the message may go to the dead letters.
    pub(crate) fn may_be_last(&self) -> bool {
        self.next == NextAttempt::DeadLetter || self.times >= self.policy.retries()
    }
}

/// Where a failed message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SentBack {
    /// To the retry topic, behind this delay level.
    Retry {
        /// The level.
        level: u32,
    },
    /// To the dead letters.
    DeadLetters,
}

/// Stores the copy of a failed message that takes its place. Blocks as a put does: under sync flush until it is on
/// disk. The group's retry and dead-letter topics must exist on the broker.
///
/// # Errors
///
/// Those of a put: the message must then be kept, and tried again. `Timeout` where the copy is stored but could not be
/// flushed in time.
pub(crate) fn send_back(failed: &Failed<'_>) -> Result<SentBack> {
    let times = failed.times;
    let levels = failed.broker.delay_levels();
    let level = match failed.next {
        _ if times >= failed.policy.retries() => None,
        NextAttempt::AsPolicySays | NextAttempt::AtLevel(0) => Some(failed.policy.level(levels, times)),
        NextAttempt::AtLevel(level) => Some(levels.cap(level)),
        NextAttempt::After(wait) => Some(levels.at_least(wait)),
        NextAttempt::DeadLetter => None,
    };
    let name = match level {
        Some(_) => TopicName::retry_of(failed.group),
        None => TopicName::dead_letters_of(failed.group),
    };
    let topic = failed.broker.topic(name.as_str());
    let topic = topic.ok_or_else(|| Error::TopicNotFound(name.as_str().into()))?;
    let put_with = |reason: &str, keep: Keep| {
        let properties = properties_of(failed.message, level, (reason, keep));
        let reconsume_times = times.saturating_add(1);
        let put = PutMessage { reconsume_times, ..PutMessage::again(failed.message, &properties) };
        let wait = WaitForFlush::Yes;
        match level {
            Some(level) => failed.broker.put_delayed(&topic, 0, &put, Later { level, wait }),
            None => failed.broker.put(&topic, 0, &put, wait),
        }
    };
    // Rather without its reason than not at all, and rather without the user's properties than to stop its queue.
    let too_long = |result: &Result<Stored>| matches!(result, Err(Error::InvalidArgument { .. }));
    let mut stored = put_with(&readable(failed.reason), Keep::All);
    if too_long(&stored) {
        stored = put_with("", Keep::All);
    }
    if too_long(&stored) {
        stored = put_with(&format!("{DROPPED}{}", readable(failed.reason)), Keep::WhatIsRocketmqs);
    }
    check_flushed(stored?)?;
    let (group, message) = (failed.group, failed.message.message_id());
    match level {
        Some(_) => events::retried(group, &message, &times, &failed.reason),
        None => events::dead_lettered(group, &message, &times, &failed.reason),
    }
    Ok(level.map_or(SentBack::DeadLetters, |level| SentBack::Retry { level }))
}

/// Puts a dead letter into its group's retry topic, where it is delivered at once and with all attempts before it.
pub(crate) fn send_again(broker: &Broker, group: &GroupName, message: &MessageView) -> Result<Stored> {
    let name = TopicName::retry_of(group);
    let topic = broker.topic(name.as_str()).ok_or_else(|| Error::TopicNotFound(name.as_str().into()))?;
    let properties = properties_of(message, None, (message.failure_reason().unwrap_or_default(), Keep::All));
    let put = PutMessage { reconsume_times: 0, ..PutMessage::again(message, &properties) };
    let stored = broker.put(&topic, 0, &put, WaitForFlush::Yes)?;
    check_flushed(stored)?;
    Ok(stored)
}

/// Takes a copy for stored only when it is as safe as was asked: the original is given up for it.
fn check_flushed(stored: Stored) -> Result<()> {
    if stored.flushed == FlushWait::TimedOut { Err(Error::Timeout) } else { Ok(()) }
}

/// Which properties of a message its copy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    /// Neither the user's own nor keys: those that RocketMQ gives a meaning, all of them short.
    WhatIsRocketmqs,
}

/// Returns the properties of the copy: those of the message, and what RocketMQ's broker adds and replaces.
fn properties_of(message: &MessageView, level: Option<u32>, (reason, keep): (&str, Keep)) -> Vec<u8> {
    let mut short = Vec::new();
    let from = match keep {
        Keep::All => message.properties(),
        Keep::WhatIsRocketmqs => {
            let own = message.properties().iter();
            for (name, value) in own.filter(|(name, value)| is_reserved(name) && value.len() <= KEPT_LEN_MAX)
            {
                append(&mut short, name, value);
            }
            Properties::new(&short)
        }
    };
    let [retry_topic, origin] = from.pick([name::RETRY_TOPIC, name::ORIGIN_MESSAGE_ID]);
    let mut replaced = vec![
        name::CRC32,
        name::ACK,
        name::DELAY,
        name::WAIT,
        name::RETRY_TOPIC,
        name::ORIGIN_MESSAGE_ID,
        name::FAILURE,
    ];
    if level.is_none() {
        // A dead letter does not expire, nor does one that is given back.
        replaced.push(name::EXPIRES_IN);
    }
    let mut properties = Vec::with_capacity(from.encoded().len().saturating_add(256));
    append_without(&mut properties, from, &replaced);
    append(&mut properties, name::RETRY_TOPIC, retry_topic.unwrap_or_else(|| message.topic()));
    let own_id = message.offset_id().to_string();
    append(&mut properties, name::ORIGIN_MESSAGE_ID, origin.unwrap_or(&own_id));
    append(&mut properties, name::DELAY, &level.unwrap_or(0).to_string());
    append(&mut properties, name::WAIT, "false");
    append(&mut properties, name::FAILURE, reason);
    properties
}

/// Returns a reason without the bytes that separate properties, and not longer than is kept.
fn readable(reason: &str) -> String {
    let mut end = reason.len().min(REASON_LEN_MAX);
    while !reason.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let separators = [char::from(NAME_END), char::from(VALUE_END)];
    reason.get(..end).unwrap_or_default().replace(separators, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character_and_forges_no_property() {
        assert_eq!(readable("a\u{1}b\u{2}c"), "a b c");
        let long = format!("x{}", "é".repeat(600));
        assert_eq!(readable(&long).len(), 1_023);
    }
}
