//! What does a handler get, what may it say, and who looks on?

use std::fmt;
use std::time::Duration;

use super::settings::{Mode, SUSPEND_MAX, SUSPEND_MIN};
use crate::commitlog::MessageView;
use crate::delay::NextAttempt;
use crate::types::{GroupName, MessageQueue};

/// What a concurrent handler says of its messages (RocketMQ's `ConsumeConcurrentlyStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "ConsumeConcurrentlyStatus")]
#[doc(alias = "MessageListenerConcurrently")]
pub enum ConsumeStatus {
    /// They are handled.
    #[doc(alias = "CONSUME_SUCCESS")]
    Success,
    /// The attempt failed: all of them come back.
    #[doc(alias = "RECONSUME_LATER")]
    ReconsumeLater,
}

/// What an orderly handler says of its messages.
///
/// As long as results are committed automatically, [`Commit`](Self::Commit) and [`Rollback`](Self::Rollback) are
/// taken for [`Success`](Self::Success), as RocketMQ takes them. By hand
/// ([`ConsumeContext::commit_by_hand`]) each has its own meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "MessageListenerOrderly")]
pub enum ConsumeOrderlyStatus {
    /// They are handled. By hand: the position stays where it is until a commit.
    Success,
    /// By hand: these and all since the last commit are handled, and the position passes them.
    Commit,
    /// By hand: these and all since the last commit are to be handled again, after a while.
    Rollback,
    /// The attempt failed: the queue rests for a while, then the same messages come again.
    #[doc(alias = "SUSPEND_CURRENT_QUEUE_A_MOMENT")]
    SuspendCurrentQueueAMoment,
}

/// A result for handlers that use `?`. The text of the error is shown to hooks.
pub type HandlerResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failed,
    Commit,
    Rollback,
}

/// What became of the messages that a handler had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerOutcome {
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
}

impl HandlerOutcome {
    const fn of(verdict: Verdict) -> Self {
        Self { verdict, reason: None }
    }

    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, reason: Some(reason.into()) }
    }
}

/// What a handler may return: nothing, a status, or a result with one of these in it, whose error is a failed attempt.
pub trait IntoHandlerOutcome {
    /// Says what became of the messages.
    fn into_handler_outcome(self) -> HandlerOutcome;
}

impl IntoHandlerOutcome for HandlerOutcome {
    fn into_handler_outcome(self) -> HandlerOutcome {
        self
    }
}

impl IntoHandlerOutcome for () {
    fn into_handler_outcome(self) -> HandlerOutcome {
        HandlerOutcome::of(Verdict::Success)
    }
}

impl IntoHandlerOutcome for ConsumeStatus {
    fn into_handler_outcome(self) -> HandlerOutcome {
        HandlerOutcome::of(match self {
            Self::Success => Verdict::Success,
            Self::ReconsumeLater => Verdict::Failed,
        })
    }
}

impl IntoHandlerOutcome for ConsumeOrderlyStatus {
    fn into_handler_outcome(self) -> HandlerOutcome {
        HandlerOutcome::of(match self {
            Self::Success => Verdict::Success,
            Self::Commit => Verdict::Commit,
            Self::Rollback => Verdict::Rollback,
            Self::SuspendCurrentQueueAMoment => Verdict::Failed,
        })
    }
}

impl<T: IntoHandlerOutcome, E: fmt::Display> IntoHandlerOutcome for Result<T, E> {
    fn into_handler_outcome(self) -> HandlerOutcome {
        self.map_or_else(|error| HandlerOutcome::failed(error.to_string()), T::into_handler_outcome)
    }
}

/// What a handler is told beside its messages, and what it may say beside its status.
///
/// RocketMQ has two, `ConsumeConcurrentlyContext` and `ConsumeOrderlyContext`.
#[derive(Debug)]
#[doc(alias = "ConsumeConcurrentlyContext")]
#[doc(alias = "ConsumeOrderlyContext")]
pub struct ConsumeContext<'a> {
    pub(super) group: &'a GroupName,
    pub(super) queue: &'a MessageQueue,
    pub(super) attempts: &'a [u32],
    pub(super) handled: Option<usize>,
    pub(super) next: NextAttempt,
    pub(super) by_hand: bool,
}

impl<'a> ConsumeContext<'a> {
    /// Returns the group.
    #[must_use]
    pub const fn group(&self) -> &'a GroupName {
        self.group
    }

    /// Returns the queue that the messages come from.
    #[must_use]
    pub const fn queue(&self) -> &'a MessageQueue {
        self.queue
    }

    /// Returns the number of the attempt of each message, from 1.
    #[must_use]
    pub const fn attempts(&self) -> &'a [u32] {
        self.attempts
    }

    /// Says that of a batch that succeeds only the first `count` messages are handled; the others come back. For
    /// concurrent handlers.
    #[doc(alias = "setAckIndex")]
    pub const fn handled(&mut self, count: usize) {
        self.handled = Some(count);
    }

    /// Says when messages whose attempt fails come back. Concurrent: each after this time, rounded up to a delay level,
    /// in place of the retry policy. Orderly: the queue rests so long, between 10 ms and 30 s, in place of the consumer's
    /// `suspend_time`.
    #[doc(alias = "setSuspendCurrentQueueTimeMillis")]
    pub const fn retry_after(&mut self, wait: Duration) {
        self.next = NextAttempt::After(wait);
    }

    /// Says after which delay level messages whose attempt fails come back, for concurrent handlers: RocketMQ's number,
    /// 1 for the first level, 0 for its ladder.
    #[doc(alias = "setDelayLevelWhenNextConsume")]
    pub const fn retry_at_level(&mut self, level: u32) {
        self.next = NextAttempt::AtLevel(level);
    }

    /// Says that messages whose attempt fails are given up: they go to the dead letters (RocketMQ's delay level −1).
    pub const fn dead_letter(&mut self) {
        self.next = NextAttempt::DeadLetter;
    }

    /// Says that the position of an orderly queue moves only with [`ConsumeOrderlyStatus::Commit`]. It holds for this
    /// call; say it in each. Without a commit, messages stay under way, and the consumer's limits stop the queue.
    #[doc(alias = "setAutoCommit")]
    pub const fn commit_by_hand(&mut self) {
        self.by_hand = true;
    }

    /// Returns how long an orderly queue rests.
    pub(super) fn suspension(&self, usual: Duration) -> Duration {
        match self.next {
            NextAttempt::After(wait) => wait.clamp(SUSPEND_MIN, SUSPEND_MAX),
            _ => usual,
        }
    }

    /// Returns what is to become of messages whose attempt fails.
    pub(super) fn next(&self, mode: Mode, usual: Duration) -> NextAttempt {
        match (mode, self.next) {
            (Mode::Concurrent, next) | (Mode::Orderly, next @ NextAttempt::DeadLetter) => next,
            (Mode::Orderly, _) => NextAttempt::After(self.suspension(usual)),
        }
    }
}

/// A call of a handler, as hooks see it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ConsumeMessageContext<'a> {
    /// The group.
    pub group: &'a GroupName,
    /// The member's name.
    pub instance: &'a str,
    /// The queue that the messages come from.
    pub queue: &'a MessageQueue,
    /// The messages.
    pub messages: &'a [MessageView],
}

/// How a call of a handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "ConsumeReturnType")]
pub enum ConsumeReturn<'a> {
    /// The messages are handled.
    Success,
    /// The attempt failed; the text of the error, if the handler gave one.
    Failed(Option<&'a str>),
    /// The handler panicked with this text.
    Panicked(&'a str),
    /// It took longer than the consume timeout: what it said counts for nothing.
    TimedOut,
}

/// Looks on while messages are handled, in the handler's thread (RocketMQ's interface of that name). A hook that panics
/// is passed over.
pub trait ConsumeMessageHook: Send + Sync {
    /// Called before the handler.
    fn before(&self, context: &ConsumeMessageContext<'_>) {
        let _ = context;
    }

    /// Called after it, with how it ended and how long it took.
    fn after(&self, context: &ConsumeMessageContext<'_>, returned: ConsumeReturn<'_>, took: Duration) {
        let _ = (context, returned, took);
    }
}

/// A handler of whatever kind.
pub(super) type Handler =
    Box<dyn Fn(&[MessageView], &mut ConsumeContext<'_>) -> HandlerOutcome + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f96_f108_whatever_a_handler_returns_is_an_outcome() {
        let verdict = |outcome: HandlerOutcome| outcome.verdict;
        assert_eq!(verdict(().into_handler_outcome()), Verdict::Success);
        assert_eq!(verdict(ConsumeStatus::ReconsumeLater.into_handler_outcome()), Verdict::Failed);
        assert_eq!(verdict(ConsumeOrderlyStatus::Rollback.into_handler_outcome()), Verdict::Rollback);
        let suspended: Result<_, String> = Ok(ConsumeOrderlyStatus::SuspendCurrentQueueAMoment);
        assert_eq!(verdict(suspended.into_handler_outcome()), Verdict::Failed);
        let failed: HandlerResult = Err("no connection".into());
        assert_eq!(failed.into_handler_outcome(), HandlerOutcome::failed("no connection"));
    }

    #[test]
    fn f110_a_suspension_lies_between_ten_milliseconds_and_thirty_seconds() {
        let group = GroupName::new("g").unwrap();
        let queue = MessageQueue::new(
            crate::types::TopicName::new("t").unwrap(),
            crate::types::BrokerName::new("b").unwrap(),
            0,
        );
        let mut context = ConsumeContext {
            group: &group,
            queue: &queue,
            attempts: &[1],
            handled: None,
            next: NextAttempt::AsPolicySays,
            by_hand: false,
        };
        let usual = Duration::from_secs(1);
        assert_eq!(context.suspension(usual), usual);
        for (asked, given) in [(0, 10), (9, 10), (500, 500), (60_000, 30_000)] {
            context.retry_after(Duration::from_millis(asked));
            assert_eq!(context.suspension(usual), Duration::from_millis(given));
        }
    }
}
