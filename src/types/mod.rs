//! The words of the house: what a name, an offset and a queue are, so that no two of them can be mixed up.

mod convert;
mod hash;
mod md5;
mod names;
mod offsets;

pub(crate) use convert::{millis_of, to_u64, to_usize};
pub(crate) use hash::{consistent_hash, java_string_hash};
pub(crate) use md5::md5;
pub use names::{BrokerName, GroupName, MessageQueue, NameError, TopicName};
pub(crate) use names::{GIVEN_UP_TOPIC, HALF_TOPIC, OP_TOPIC, SCHEDULE_TOPIC, TIMER_TOPIC, check_instance};
pub use offsets::{PhysicalOffset, QueueOffset};
