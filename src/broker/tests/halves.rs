//! Where does a committed message go that another client gave a delay or a time?

use super::*;
use crate::broker::Committed;
use crate::config::RocketmqVersion;
use crate::types::{GroupName, SCHEDULE_TOPIC, TIMER_TOPIC};

#[test]
fn f134_a_committed_message_goes_the_way_of_its_delay_or_its_time() {
    let far = "TIMER_DELIVER_MS\u{1}99999999999999\u{2}";
    for (version, properties, expected) in [
        (RocketmqVersion::V5, "", "orders"),
        (RocketmqVersion::V5, "DELAY\u{1}2\u{2}", SCHEDULE_TOPIC),
        (RocketmqVersion::V4_9, "DELAY\u{1}2\u{2}", SCHEDULE_TOPIC),
        (RocketmqVersion::V5, far, TIMER_TOPIC),
        (RocketmqVersion::V5, "TIMER_DELAY_SEC\u{1}60\u{2}", TIMER_TOPIC),
        (RocketmqVersion::V5, "TIMER_DELAY_MS\u{1}60\u{2}", TIMER_TOPIC),
        (RocketmqVersion::V5, "TIMER_DELIVER_MS\u{1}1\u{2}", "orders"),
        (RocketmqVersion::V4_9, far, "orders"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { version, ..config(FlushPolicy::Async) };
        let broker = Broker::open(options(dir.path(), config)).unwrap();
        let topic = broker.set_topic(&TopicName::new("orders").unwrap(), TopicConfig::queues(2)).unwrap();
        let put = PutMessage { properties: properties.as_bytes(), ..message(b"x") };
        let group = GroupName::new("bank").unwrap();
        let half = broker.put_half((&topic, 1), &put, &group, WaitForFlush::Yes).unwrap();
        let view = broker.half_at(half.physical_offset, half.queue_offset).unwrap();
        let Committed::Stored(stored) = broker.put_committed(&view).unwrap() else { panic!("it is stored") };
        let found = broker.message_at(stored.physical_offset).unwrap();
        assert_eq!((found.topic(), found.sys_flag()), (expected, 8), "{version:?} {properties:?}");
        if expected != "orders" {
            let place = (found.property("REAL_TOPIC"), found.property("REAL_QID"));
            assert_eq!(place, (Some("orders"), Some("1")));
        }
    }
}
