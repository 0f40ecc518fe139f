//! Which brokers were slow or failed lately, so that the next messages go to others?

use std::collections::HashMap;
use std::time::Duration;

use crate::cluster::Route;
use crate::sync::RwLock;
use crate::types::BrokerName;

/// From which latency on a broker is left alone, and how long, in milliseconds: RocketMQ's two tables.
const PAUSES_MILLIS: [(u64, u64); 7] =
    [(15_000, 30_000), (5_000, 10_000), (3_000, 6_000), (1_800, 5_000), (550, 2_000), (100, 0), (50, 0)];
/// What a failure counts as.
const FAILURE: Duration = Duration::from_secs(10);

/// What a producer does about brokers that were slow or failed (RocketMQ's `sendLatencyFaultEnable`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SlowBrokers {
    /// It sends to every broker in turn. The default, as in RocketMQ.
    #[default]
    Use,
    /// It leaves them alone for a while: 2 s after a send of 550 ms, 5 s after 1.8 s, 6 s after 3 s, 10 s after 5 s or a
    /// failure, 30 s after 15 s; if all are to be left alone, it sends to every one in turn. For brokers on several disks.
    /// A message with an order key goes to its queue all the same. Every send reads the clock twice.
    Avoid,
}

/// The brokers that are left alone, each until when.
#[derive(Debug, Default)]
pub(super) struct Faults {
    until: RwLock<HashMap<BrokerName, Duration>>,
}

impl Faults {
    /// Notes how long a broker took, or that it failed.
    pub(super) fn note(&self, broker: &BrokerName, now: Duration, took: Option<Duration>) {
        let pause = pause_of(took.unwrap_or(FAILURE));
        if pause.is_zero() && !self.until.read().contains_key(broker) {
            return;
        }
        let mut until = self.until.write();
        if pause.is_zero() {
            until.remove(broker);
        } else {
            until.insert(broker.clone(), now.saturating_add(pause));
        }
    }

    /// Tells whether a broker may be sent to.
    pub(super) fn is_available(&self, broker: &BrokerName, now: Duration) -> bool {
        self.until.read().get(broker).is_none_or(|until| now >= *until)
    }

    /// Returns the place of the next queue of a broker that may be sent to, or of any where there is none.
    pub(super) fn next_turn(&self, route: &Route, now: Duration) -> usize {
        let mut place = route.next_turn();
        for _ in 1..route.write.len() {
            if route.write.get(place).is_none_or(|entry| self.is_available(entry.broker.name(), now)) {
                break;
            }
            place = route.next_turn();
        }
        place
    }
}

fn pause_of(latency: Duration) -> Duration {
    let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    let found = PAUSES_MILLIS.iter().find(|(from, _)| millis >= *from);
    Duration::from_millis(found.map_or(0, |(_, pause)| *pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f22_the_pauses_are_rocketmqs() {
        let cases = [
            (0, 0),
            (49, 0),
            (549, 0),
            (550, 2_000),
            (1_799, 2_000),
            (1_800, 5_000),
            (3_000, 6_000),
            (5_000, 10_000),
            (14_999, 10_000),
            (15_000, 30_000),
            (u64::MAX, 30_000),
        ];
        for (latency, pause) in cases {
            assert_eq!(pause_of(Duration::from_millis(latency)), Duration::from_millis(pause), "{latency}");
        }
        assert_eq!(pause_of(FAILURE), Duration::from_secs(10));
    }

    #[test]
    fn t_l4_a_slow_broker_is_left_alone_for_its_pause_or_until_it_is_fast_again() {
        let (faults, slow) = (Faults::default(), BrokerName::new("broker-a").unwrap());
        let at = Duration::from_millis;
        faults.note(&slow, at(0), Some(at(3_000)));
        assert!(!faults.is_available(&slow, at(5_999)));
        assert!(faults.is_available(&slow, at(6_000)));
        assert!(faults.is_available(&BrokerName::new("broker-b").unwrap(), at(0)));
        faults.note(&slow, at(100), Some(at(50)));
        assert!(faults.is_available(&slow, at(100)));
        faults.note(&slow, at(200), None);
        assert!(!faults.is_available(&slow, at(10_199)) && faults.is_available(&slow, at(10_200)));
    }
}
