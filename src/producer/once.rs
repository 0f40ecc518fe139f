//! How is a message not sent a second time? What was sent a moment ago is in memory, what was sent before in the log.

use std::sync::Arc;
use std::time::Duration;

use super::{Durability, Outgoing, Producer, SendMode, SendReceipt};
use crate::broker::{Broker, Stored};
use crate::cluster::{QueuePlace, RouteQueue};
use crate::commitlog::{FlushWait, MessageView};
use crate::config::FlushPolicy;
use crate::dedup::{Recent, sent_before};
use crate::error::Result;
use crate::message::properties::name;
use crate::types::{MessageQueue, TIMER_TOPIC, TopicName};

/// What a producer that sends nothing twice remembers.
pub(super) type SentLately = Recent<SendReceipt>;

impl Producer {
    /// Stores a message, unless one with its keys is there already: then the receipt is that one's.
    pub(super) fn put_once(
        &self,
        lately: &SentLately,
        to: &RouteQueue,
        out: &Outgoing<'_>,
    ) -> Result<SendReceipt> {
        let (cluster, keys) = (&self.member.cluster, out.message.joined_keys());
        let topic = to.queue().topic();
        // No name of a topic holds a blank.
        let key = format!("{topic} {keys}");
        let receipt = lately.once(&key, cluster.clock().monotonic(), || {
            let since = cluster.clock().wall_millis().saturating_sub(millis(lately.window()));
            match sent_before(cluster.brokers(), topic, keys, since)? {
                Some((broker, found)) => Ok(self.receipt_of(&broker, topic, &found)),
                None => self.store(to, out),
            }
        })?;
        self.as_safe_as_asked(receipt, out)
    }

    /// Waits for the flush of a message that an earlier send did not wait for.
    fn as_safe_as_asked(&self, receipt: SendReceipt, out: &Outgoing<'_>) -> Result<SendReceipt> {
        let cluster = &self.member.cluster;
        let waits = out.mode == SendMode::Sync && out.message.waits();
        if !waits
            || cluster.config().flush != FlushPolicy::Sync
            || receipt.durability() == Durability::Flushed
        {
            return Ok(receipt);
        }
        let broker = cluster.broker_of(receipt.queue())?;
        let flushed = broker.wait_for_flush(receipt.end(), broker.flush_deadline())?;
        Ok(receipt.settled(flushed))
    }

    /// Returns the receipt of a message that was stored before.
    fn receipt_of(&self, broker: &Broker, topic: &TopicName, found: &MessageView) -> SendReceipt {
        // One that is still delayed lies elsewhere.
        let waits_for = found.property(name::REAL_QUEUE_ID).and_then(|id| id.parse().ok());
        let queue_id =
            if found.topic() == topic.as_str() { found.queue_id() } else { waits_for.unwrap_or(0) };
        let queue = MessageQueue::new(topic.clone(), broker.name().clone(), queue_id);
        let stored = Stored {
            queue_offset: found.queue_offset(),
            physical_offset: found.physical_offset(),
            end: found.physical_offset().plus(u64::from(found.stored_size())),
            flushed: FlushWait::Flushed,
            waited: self.member.cluster.config().flush == FlushPolicy::Sync,
        };
        let place = Arc::new(QueuePlace { queue, host: found.store_host() });
        let keys = found.property(name::KEYS).unwrap_or_default();
        let out = found.property(name::TIMER_OUT_MS).filter(|_| found.topic() == TIMER_TOPIC);
        SendReceipt::new(&stored, place, found.message_id(), keys)
            .found_due(out.and_then(|out| out.parse().ok()))
    }
}

fn millis(window: Duration) -> i64 {
    i64::try_from(window.as_millis()).unwrap_or(i64::MAX)
}
