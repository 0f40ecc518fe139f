//! What may a topic, a group or a broker be called? Names reach paths on disk, so only a checked one exists.

use std::fmt;
use std::sync::Arc;

/// The longest topic name that an ordinary topic may have, in bytes (RocketMQ's `TOPIC_MAX_LENGTH`).
const TOPIC_LEN_MAX: usize = 127;
/// The longest name of a retry or dead-letter topic, in bytes (RocketMQ's `RETRY_OR_DLQ_TOPIC_MAX_LENGTH`).
const GROUP_TOPIC_LEN_MAX: usize = 255;
/// The longest group name, in bytes (RocketMQ's `CHARACTER_MAX_LENGTH` of groups).
const GROUP_LEN_MAX: usize = 120;
/// What stands before a group's name in the name of its retry topic.
const RETRY_PREFIX: &str = "%RETRY%";
/// What stands before a group's name in the name of its dead-letter topic.
const DLQ_PREFIX: &str = "%DLQ%";
/// What stands before a group's name where the position of one of its broadcasting instances is kept.
const BROADCAST_PREFIX: &str = "%BROADCAST%";
/// The topic in which delayed messages wait, level `n` in queue `n - 1`.
pub(crate) const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// The topic in which messages wait for a time of their own.
pub(crate) const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// The longest name of an instance, in bytes: prefix, group and instance fit into the longest name of a group on disk.
const INSTANCE_LEN_MAX: usize = 100;

/// The topic in which messages wait for the decision of their transaction.
pub(crate) const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// The topic whose records say which of those are decided.
pub(crate) const OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// The topic to which those go that no check has decided.
pub(crate) const GIVEN_UP_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";

/// Why a text cannot be the name of a topic, a group or a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?} {problem}")]
pub struct NameError {
    kind: &'static str,
    name: Box<str>,
    problem: Box<str>,
}

impl NameError {
    /// Returns what was to be named: `topic`, `group` or `broker`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }
}

fn check(kind: &'static str, name: &str, len_max: usize) -> Result<Arc<str>, NameError> {
    let problem = if name.trim().is_empty() {
        "is blank: give it a name of letters, digits, '-', '_', '%' or '|'".into()
    } else if let Some(wrong) = name.chars().find(|c| !is_name_char(*c)) {
        format!("contains {wrong:?}: only letters, digits, '-', '_', '%' and '|' are allowed").into()
    } else if name.len() > len_max {
        format!("has {} bytes, and at most {len_max} are allowed", name.len()).into()
    } else {
        return Ok(Arc::from(name));
    };
    let shown: String = name.chars().take(300).collect();
    Err(NameError { kind, name: shown.into(), problem })
}

/// Checks the name of a member: letters, digits, `-` and `_`, at most 100 bytes.
pub(crate) fn check_instance(instance: &str) -> Result<(), NameError> {
    check("instance", instance, INSTANCE_LEN_MAX)?;
    match instance.chars().find(|c| matches!(c, '%' | '|')) {
        None => Ok(()),
        Some(wrong) => Err(NameError {
            kind: "instance",
            name: instance.into(),
            problem: format!("contains {wrong:?}: letters, digits, '-' and '_' are allowed").into(),
        }),
    }
}

const fn is_name_char(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '%' | '|')
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }
    };
}

/// The name of a topic: letters, digits, `-`, `_`, `%` and `|`; at most 127 bytes, 255 for `%RETRY%` and `%DLQ%`
/// topics (RocketMQ's `TopicValidator`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);
name!(TopicName);

impl TopicName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if it is blank, too long, or holds a character that RocketMQ does not allow.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let of_group = name.starts_with(RETRY_PREFIX) || name.starts_with(DLQ_PREFIX);
        check("topic", name, if of_group { GROUP_TOPIC_LEN_MAX } else { TOPIC_LEN_MAX }).map(Self)
    }

    /// Returns the topic in which a group's failed messages wait for their next attempt.
    #[must_use]
    pub fn retry_of(group: &GroupName) -> Self {
        Self(Arc::from(format!("{RETRY_PREFIX}{group}")))
    }

    /// Returns the topic in which a group's messages end that could not be handled.
    #[must_use]
    pub fn dead_letters_of(group: &GroupName) -> Self {
        Self(Arc::from(format!("{DLQ_PREFIX}{group}")))
    }

    /// Tells whether this is some group's retry topic.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.0.starts_with(RETRY_PREFIX)
    }

    /// Tells whether this is some group's dead-letter topic.
    #[must_use]
    pub fn is_dead_letters(&self) -> bool {
        self.0.starts_with(DLQ_PREFIX)
    }

    /// Tells whether RocketMQ keeps this topic for itself.
    #[must_use]
    pub fn is_system(&self) -> bool {
        matches!(
            self.as_str(),
            "TBW102"
                | SCHEDULE_TOPIC
                | "BenchmarkTest"
                | HALF_TOPIC
                | "RMQ_SYS_TRACE_TOPIC"
                | OP_TOPIC
                | GIVEN_UP_TOPIC
                | "SELF_TEST_TOPIC"
                | "OFFSET_MOVED_EVENT"
                | "CHECKPOINT_TOPIC"
                | "RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC"
                | "RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC"
        ) || self.0.starts_with("rmq_sys_")
    }

    /// Tells whether an application may send to this topic (RocketMQ's `isNotAllowedSendTopic`, negated).
    #[must_use]
    pub fn is_sendable(&self) -> bool {
        !self.is_system() || matches!(self.as_str(), "TBW102" | "BenchmarkTest" | "RMQ_SYS_TRACE_TOPIC")
    }
}

/// The name of a producer or consumer group: the characters of a topic name, at most 120 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);
name!(GroupName);

impl GroupName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if it is blank, too long, holds a character that RocketMQ does not allow, names a retry or
    /// dead-letter topic, or is one of RocketMQ's own groups.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let checked = check("group", name, GROUP_LEN_MAX)?;
        let problem = if name.starts_with(RETRY_PREFIX) || name.starts_with(DLQ_PREFIX) {
            "starts as the name of a retry or dead-letter topic does"
        } else if name.starts_with(BROADCAST_PREFIX) {
            "starts as the names do under which positions of broadcasting instances are kept"
        } else if matches!(
            name,
            "CID_RMQ_SYS_TRANS" | "DEFAULT_CONSUMER" | "DEFAULT_PRODUCER" | "TOOLS_CONSUMER"
        ) || name.starts_with("CID_RMQ_SYS_")
        {
            "is a name that RocketMQ keeps for itself"
        } else {
            return Ok(Self(checked));
        };
        Err(NameError {
            kind: "group",
            name: name.into(),
            problem: format!("{problem}: choose another").into(),
        })
    }

    /// Returns the name under which an instance of a broadcasting group keeps its positions.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the instance's name is not made of letters, digits, `-` and `_`, or has more than 100 bytes.
    pub(crate) fn of_instance(group: &Self, instance: &str) -> Result<Self, NameError> {
        // Without a % in the last part, the name says which part is which.
        check_instance(instance)?;
        Ok(Self(Arc::from(format!("{BROADCAST_PREFIX}{group}%{instance}"))))
    }

    /// Takes a group's name as a file gives it: the characters and the length are checked, reserved names pass.
    pub(crate) fn stored(name: &str) -> Result<Self, NameError> {
        check("group", name, GROUP_TOPIC_LEN_MAX).map(Self)
    }
}

/// The name of a broker, which is one shard of a store: the characters of a topic name, at most 127 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerName(Arc<str>);
name!(BrokerName);

impl BrokerName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if it is blank, too long, or holds a character that RocketMQ does not allow.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check("broker", name, TOPIC_LEN_MAX).map(Self)
    }
}

/// One queue of a topic on one broker: within it, and only within it, messages have a total order.
///
/// Sorts by topic, broker and queue number, as RocketMQ's `MessageQueue` does; allocation depends on that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageQueue {
    topic: TopicName,
    broker: BrokerName,
    queue_id: u32,
}

impl MessageQueue {
    /// Names a queue.
    #[must_use]
    pub const fn new(topic: TopicName, broker: BrokerName, queue_id: u32) -> Self {
        Self { topic, broker, queue_id }
    }

    /// Returns the topic.
    #[must_use]
    pub const fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Returns the broker, that is the shard.
    #[must_use]
    pub const fn broker(&self) -> &BrokerName {
        &self.broker
    }

    /// Returns the number of the queue in its topic on its broker, from 0.
    #[must_use]
    pub const fn queue_id(&self) -> u32 {
        self.queue_id
    }
}

impl fmt::Display for MessageQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}:{}", self.topic, self.broker, self.queue_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_to_a4_only_rocketmqs_characters_and_lengths_pass() {
        for good in ["a", "%RETRY%g", "A|b_C-9", "-lead", "CON", &"x".repeat(127)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", ".", "..", "a/b", "a\\b", "a\0b", "a b", "a\n", "é", "😀", &"x".repeat(128)]
        {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
        assert!(TopicName::new(&format!("%DLQ%{}", "x".repeat(250))).is_ok());
        assert!(TopicName::new(&format!("%DLQ%{}", "x".repeat(251))).is_err());
        assert!(GroupName::new(&"g".repeat(120)).is_ok() && GroupName::new(&"g".repeat(121)).is_err());
    }

    #[test]
    fn a7_a_group_cannot_pose_as_a_retry_topic_or_as_rocketmq() {
        for bad in ["%RETRY%g", "%DLQ%g", "CID_RMQ_SYS_TRANS", "DEFAULT_CONSUMER"] {
            assert!(GroupName::new(bad).is_err(), "{bad}");
        }
        assert!(GroupName::stored("CID_RMQ_SYS_TRANS").is_ok());
        assert!(GroupName::new("%BROADCAST%g%i").is_err());
    }

    #[test]
    fn the_longest_instance_of_the_longest_group_has_a_name_that_a_file_can_hold() {
        let group = GroupName::new(&"g".repeat(120)).unwrap();
        let keeper = GroupName::of_instance(&group, &"i".repeat(100)).unwrap();
        assert!(GroupName::stored(keeper.as_str()).is_ok());
        for bad in ["", "a%b", "a|b", "a b", "é", &"i".repeat(101)] {
            assert!(GroupName::of_instance(&group, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queues_sort_by_topic_then_broker_then_number() {
        let queue = |topic, broker, id| {
            MessageQueue::new(TopicName::new(topic).unwrap(), BrokerName::new(broker).unwrap(), id)
        };
        let mut queues = [queue("b", "a", 0), queue("a", "b", 0), queue("a", "a", 10), queue("a", "a", 9)];
        queues.sort();
        let shown: Vec<_> = queues.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a@a:9", "a@a:10", "a@b:0", "b@a:0"]);
    }

    #[test]
    fn a_name_error_says_what_is_wrong_and_what_is_allowed() {
        let error = TopicName::new("a/b").unwrap_err();
        assert!(error.to_string().contains("topic \"a/b\" contains '/'"), "{error}");
    }
}
