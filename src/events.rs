//! WHAT HAPPENED, for whoever listens: every event of a store is one function here, and goes to `tracing` where that
//! feature is on.
//!
//! Nothing here is called for a message that goes well, and without the feature every function is empty. The list for
//! users is in `docs/operations.md`.

use std::fmt::Display;

/// Tells an event with its fields, each of them shown as it displays itself.
macro_rules! event {
    ($level:ident, $name:literal, $($field:ident),+) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(name: $name, target: "pocketmq", tracing::Level::$level, $($field = %$field,)+ $name);
        #[cfg(not(feature = "tracing"))]
        let _ = ($($field),+);
    }};
}

type Shown<'a> = &'a dyn Display;

/// A broker was opened; the report says what was found and mended.
pub(crate) fn opened(broker: Shown<'_>, report: Shown<'_>) {
    event!(INFO, "opened", broker, report);
}

/// The opening found something that a person should know.
pub(crate) fn warned(broker: Shown<'_>, warning: Shown<'_>) {
    event!(WARN, "warned", broker, warning);
}

/// The opening gave up a part of the log that had been flushed.
pub(crate) fn lost(broker: Shown<'_>, from: Shown<'_>, to: Shown<'_>, reason: Shown<'_>) {
    event!(ERROR, "lost", broker, from, to, reason);
}

/// A broker was closed.
pub(crate) fn closed(broker: Shown<'_>) {
    event!(INFO, "closed", broker);
}

/// A broker was closed and could not write everything: the next opening looks at all of it.
pub(crate) fn close_failed(broker: Shown<'_>, error: Shown<'_>) {
    event!(ERROR, "close_failed", broker, error);
}

/// A flush of the log failed: no message is taken until the store is opened again.
pub(crate) fn flush_failed(broker: Shown<'_>, error: Shown<'_>) {
    event!(ERROR, "flush_failed", broker, error);
}

/// A checkpoint could not write something: its mark stays where it is, and messages are safe.
pub(crate) fn degraded(broker: Shown<'_>, trouble: Shown<'_>) {
    event!(WARN, "degraded", broker, trouble);
}

/// Everything can be written again.
pub(crate) fn recovered(broker: Shown<'_>) {
    event!(INFO, "recovered", broker);
}

/// The disk is full: sends are refused.
pub(crate) fn disk_full(broker: Shown<'_>) {
    event!(WARN, "disk_full", broker);
}

/// The disk has room again.
pub(crate) fn disk_has_room(broker: Shown<'_>) {
    event!(INFO, "disk_has_room", broker);
}

/// Retention has deleted something.
pub(crate) fn retained(broker: Shown<'_>, report: Shown<'_>) {
    event!(INFO, "retained", broker, report);
}

/// Messages went that a group had not consumed, because the settings let them go.
pub(crate) fn unconsumed_deleted(broker: Shown<'_>, unread: Shown<'_>) {
    event!(WARN, "unconsumed_deleted", broker, unread);
}

/// Retention could not do its work.
pub(crate) fn retention_failed(broker: Shown<'_>, error: Shown<'_>) {
    event!(WARN, "retention_failed", broker, error);
}

/// A limit let the oldest messages go to make room.
pub(crate) fn made_room(broker: Shown<'_>, topic: Shown<'_>, queue: Shown<'_>, messages: Shown<'_>) {
    event!(DEBUG, "made_room", broker, topic, queue, messages);
}

/// A topic was made or changed, by a person or by sending.
pub(crate) fn topic_set(topic: Shown<'_>, queues: Shown<'_>) {
    event!(INFO, "topic_set", topic, queues);
}

/// A topic was deleted.
pub(crate) fn topic_deleted(topic: Shown<'_>) {
    event!(INFO, "topic_deleted", topic);
}

/// A topic was emptied.
pub(crate) fn topic_purged(topic: Shown<'_>) {
    event!(INFO, "topic_purged", topic);
}

/// A queue was deleted that its topic did not have any more.
pub(crate) fn queue_deleted(queue: Shown<'_>, messages: Shown<'_>) {
    event!(INFO, "queue_deleted", queue, messages);
}

/// A group was deleted.
pub(crate) fn group_deleted(group: Shown<'_>, positions: Shown<'_>) {
    event!(INFO, "group_deleted", group, positions);
}

/// A group was moved to another place of a queue by a person.
pub(crate) fn position_moved(group: Shown<'_>, queue: Shown<'_>, to: Shown<'_>) {
    event!(INFO, "position_moved", group, queue, to);
}

/// A message failed and comes back later.
pub(crate) fn retried(group: Shown<'_>, message: Shown<'_>, attempts: Shown<'_>, reason: Shown<'_>) {
    event!(DEBUG, "retried", group, message, attempts, reason);
}

/// A message failed for the last time and is among the dead letters.
pub(crate) fn dead_lettered(group: Shown<'_>, message: Shown<'_>, attempts: Shown<'_>, reason: Shown<'_>) {
    event!(WARN, "dead_lettered", group, message, attempts, reason);
}

/// A transaction was given up: nobody knew its outcome at any check.
pub(crate) fn transaction_given_up(group: Shown<'_>, message: Shown<'_>, checks: Shown<'_>) {
    event!(WARN, "transaction_given_up", group, message, checks);
}

/// A watched group is too far behind.
pub(crate) fn group_behind(group: Shown<'_>, messages: Shown<'_>) {
    event!(WARN, "group_behind", group, messages);
}

/// A watched group is not too far behind any more.
pub(crate) fn group_caught_up(group: Shown<'_>, messages: Shown<'_>) {
    event!(INFO, "group_caught_up", group, messages);
}

/// A snapshot stands.
pub(crate) fn snapshot_taken(report: Shown<'_>) {
    event!(INFO, "snapshot_taken", report);
}

/// A snapshot could not be made.
pub(crate) fn snapshot_failed(dir: Shown<'_>, error: Shown<'_>) {
    event!(WARN, "snapshot_failed", dir, error);
}
