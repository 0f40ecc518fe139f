//! Who waits for the reply to a request?
//!
//! A table of the requests that are under way. Who sends a reply hands it over, in his own thread, once it is stored and
//! visible. A reply that nobody waits for any more stays in its topic.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use crate::broker::Broker;
use crate::config::{Background, FlushPolicy};
use crate::error::{Error, Result};
use crate::message::OwnedMessage;
use crate::message::exchange::own_reply_topic;
use crate::sync::{Mutex, Parker, deadline_in};
use crate::types::{PhysicalOffset, TopicName};

/// The requests that are under way.
#[derive(Default)]
pub(super) struct Requests(Mutex<HashMap<Box<str>, Arc<Waiting>>>);

impl fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Requests").field(&self.0.lock().len()).finish()
    }
}

impl Requests {
    /// Wakes everybody who waits: the store is closed.
    pub(super) fn wake_all(&self) {
        self.0.lock().values().for_each(|waiting| waiting.bed.unpark());
    }
}

/// One who waits.
#[derive(Default)]
struct Waiting {
    bed: Parker,
    reply: Mutex<Option<OwnedMessage>>,
}

/// A request that is under way; dropped, it is forgotten.
pub(crate) struct Request<'a> {
    cluster: &'a Cluster,
    correlation: Box<str>,
    waiting: Arc<Waiting>,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.cluster.requests.0.lock().remove(&self.correlation);
    }
}

impl Cluster {
    /// Begins to wait for the reply to a request, before it is sent. Makes the topic of the replies.
    pub(crate) fn expect_reply(&self, correlation: &str) -> Result<Request<'_>> {
        self.make_own_topic(&TopicName::new(&own_reply_topic())?)?;
        let waiting = Arc::<Waiting>::default();
        self.requests.0.lock().insert(correlation.into(), Arc::clone(&waiting));
        Ok(Request { cluster: self, correlation: correlation.into(), waiting })
    }

    /// Hands a reply that was stored to whoever waits for it.
    pub(crate) fn hand_over_reply(
        &self,
        correlation: &str,
        broker: &Broker,
        (at, end): (PhysicalOffset, PhysicalOffset),
    ) -> Result<()> {
        let Some(waiting) = self.requests.0.lock().get(correlation).cloned() else { return Ok(()) };
        if self.config.flush == FlushPolicy::Sync {
            // Also where its sender does not wait: nobody sees what is not on disk (contract V1).
            broker.wait_for_flush(end, broker.flush_deadline())?;
        }
        if let Some(message) = broker.message_at(at) {
            *waiting.reply.lock() = Some(message.to_owned());
            waiting.bed.unpark();
        }
        Ok(())
    }

    /// Does everything that is due, as a thread of a store that has some would meanwhile.
    fn do_what_is_due(&self) -> Result<()> {
        self.deliver_delayed()?;
        self.brokers.iter().try_for_each(|broker| broker.step())?;
        self.step_handles();
        Ok(())
    }
}

impl Request<'_> {
    /// Waits for the reply. In a store that is driven by hand it does what is due, once, and waits for nothing.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<OwnedMessage> {
        let by_hand = self.cluster.config.background == Background::Manual;
        let deadline = deadline_in(timeout);
        if by_hand && self.waiting.reply.lock().is_none() {
            self.cluster.do_what_is_due()?;
        }
        loop {
            if let Some(reply) = self.waiting.reply.lock().take() {
                return Ok(reply);
            }
            self.cluster.check_open()?;
            if by_hand || !self.waiting.bed.park_until(deadline) {
                // It may have come at the last moment.
                let late = self.waiting.reply.lock().take();
                return late.ok_or_else(|| Error::RequestTimeout(self.correlation.as_ref().into()));
            }
        }
    }
}
