//! What happens when the broker that was chosen cannot take a message?
//!
//! Another one is tried, as often as the producer's settings say and as long as its time lasts. In one process nothing
//! changes between two attempts at one broker, so each attempt goes to a broker that has not been tried; a store with
//! one broker has nothing to retry.

use super::{Member, Producer, SendMode, SendReceipt, SendStatus, SlowBrokers, choose, entry};
use crate::cluster::{Route, RouteQueue};
use crate::error::{Error, Outcome, Result, SendFailure};
use crate::types::BrokerName;

/// What is done where a message was stored, and not as safely as was asked: its flush took too long, say (RocketMQ's
/// `retryAnotherBrokerWhenNotStoreOK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenNotOk {
    /// The receipt says so in its status. The default, as in RocketMQ.
    #[default]
    Accept,
    /// Another broker is tried, as often as after a failure. The message is in several places then, under one message id:
    /// consumers must tell copies apart. If no broker does better, the last receipt is returned.
    TryAnother,
}

impl Producer {
    /// Has `put` put a message into a queue of the producer's choice, and after a failure that another broker may not
    /// have, into one of another broker. A message with an order key belongs to its queue and fails with it; so does a
    /// one-way message.
    pub(super) fn spread(
        &self,
        route: &Route,
        (mode, order_key): (SendMode, Option<&str>),
        mut put: impl FnMut(&RouteQueue) -> Result<SendReceipt>,
    ) -> Result<SendReceipt> {
        if order_key.is_some() || !route.has_several_brokers() {
            return put(entry(route, choose(route, order_key))?);
        }
        self.spread_over_brokers(route, mode, put)
    }

    fn spread_over_brokers(
        &self,
        route: &Route,
        mode: SendMode,
        mut put: impl FnMut(&RouteQueue) -> Result<SendReceipt>,
    ) -> Result<SendReceipt> {
        let avoids = self.member.settings.slow_brokers == SlowBrokers::Avoid;
        let mut put = |to: &RouteQueue| if avoids { self.timed(to, &mut put) } else { put(to) };
        let place = if avoids { self.next_fast(route) } else { route.next_turn() };
        let to = entry(route, place)?;
        if mode == SendMode::OneWay || self.member.settings.retries == 0 {
            return put(to);
        }
        let started = self.member.cluster.clock().wall_millis();
        match put(to) {
            Ok(receipt) if self.wants_another(&receipt) => {
                self.elsewhere(route, (to, Ok(receipt)), started, put)
            }
            Err(error) if another_may_take_it(&error) => {
                self.elsewhere(route, (to, Err(error)), started, put)
            }
            result => result,
        }
    }

    /// Puts, and notes how long the broker took.
    fn timed(
        &self,
        to: &RouteQueue,
        put: impl FnOnce(&RouteQueue) -> Result<SendReceipt>,
    ) -> Result<SendReceipt> {
        let Member { cluster, faults, .. } = &*self.member;
        let started = cluster.clock().monotonic();
        let result = put(to);
        let now = cluster.clock().monotonic();
        let failed = result.as_ref().is_err_and(another_may_take_it);
        faults.note(to.broker.name(), now, (!failed).then(|| now.saturating_sub(started)));
        result
    }

    fn next_fast(&self, route: &Route) -> usize {
        let Member { cluster, faults, .. } = &*self.member;
        faults.next_turn(route, cluster.clock().monotonic())
    }

    #[cold]
    fn elsewhere(
        &self,
        route: &Route,
        (first, mut last): (&RouteQueue, Result<SendReceipt>),
        started_millis: i64,
        mut put: impl FnMut(&RouteQueue) -> Result<SendReceipt>,
    ) -> Result<SendReceipt> {
        let settings = &self.member.settings;
        let budget = i64::try_from(settings.timeout.as_millis()).unwrap_or(i64::MAX);
        let mut brokers = vec![first.broker.name().clone()];
        for _ in 0..settings.retries {
            // One budget for all attempts. A jump of the clock costs or gains an attempt, never a message.
            let now = self.member.cluster.clock().wall_millis();
            let Some(next) = untried(route, &brokers).filter(|_| now.saturating_sub(started_millis) < budget)
            else {
                break;
            };
            brokers.push(next.broker.name().clone());
            match put(next) {
                Ok(receipt) if self.wants_another(&receipt) => last = Ok(receipt),
                Ok(receipt) => return Ok(receipt),
                // It is stored somewhere: a failure elsewhere does not change that.
                Err(error) if last.is_ok() && another_may_take_it(&error) => {}
                Err(_) if last.is_ok() => return last,
                // The topic was deleted meanwhile: the caller looks it up again.
                Err(error @ Error::TopicNotFound(_)) => return Err(error),
                Err(error) if another_may_take_it(&error) => last = Err(error),
                Err(error) => {
                    last = Err(error);
                    break;
                }
            }
        }
        match last {
            Err(last) if brokers.len() > 1 => Err(Error::SendFailed(Box::new(SendFailure { brokers, last }))),
            last => last,
        }
    }

    fn wants_another(&self, receipt: &SendReceipt) -> bool {
        receipt.status() != SendStatus::SendOk && self.member.settings.when_not_ok == WhenNotOk::TryAnother
    }
}

/// Tells whether the failure is that of one broker, and the message is certainly not stored there: storing it a second
/// time is for the application to decide.
fn another_may_take_it(error: &Error) -> bool {
    let of_one_broker = matches!(
        error,
        Error::StoreFull(_)
            | Error::StoreBusy(_)
            | Error::FlushFailed { .. }
            | Error::Io(_)
            | Error::Corrupt(_)
            | Error::Timeout
    );
    of_one_broker && error.outcome() == Outcome::NotStored
}

/// Returns the next queue in turn of a broker that has not been tried.
fn untried<'a>(route: &'a Route, tried: &[BrokerName]) -> Option<&'a RouteQueue> {
    let turned = route.write.iter().cycle().skip(route.next_turn()).take(route.write.len());
    turned.into_iter().find(|entry| !tried.contains(entry.broker.name()))
}
