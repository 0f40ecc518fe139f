//! How is a message sent and another one acknowledged in one step? By letting the acknowledgement travel with the message.

use std::borrow::Borrow;
use std::sync::Arc;

use super::{Outgoing, Producer, SendMode, SendReceipt, check_kind, put_message, with_buffer};
use crate::broker::{JoinedAck, Later, WaitForFlush};
use crate::cluster::{AckInOneStep, Route, RouteQueue};
use crate::error::{Error, Outcome, Result};
use crate::message::Message;
use crate::message::outgoing::When;
use crate::message::properties::{append, name};
use crate::types::{BrokerName, to_u64};

use super::selector::by_consistent_hash;

impl Producer {
    /// Sends a message and acknowledges the one from which it was made, in one step: after a crash at any moment, power
    /// loss among them, both have happened or neither. So *consume, transform, produce* repeats nothing after a kill.
    ///
    /// It takes what one crash can tear apart: one broker. The message goes to a queue of its topic on the broker of the
    /// delivery's queue, by its order key if it has one, else to each in turn. The delivery must be the first of its queue
    /// that is not acknowledged, which from an [`orderly`](crate::ConsumerBuilder::orderly) consumer it always is. A
    /// producer's window of equal keys does not look at the message.
    ///
    /// Blocks as [`send`](Self::send) does. Under async flush the message and the acknowledgement survive the death of the
    /// process when this returns, and power loss once the log is flushed, together. An acknowledgement of the same queue
    /// without a message that follows at once waits for a flush.
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::{Message, testing::TestStore};
    ///
    /// let store = TestStore::new();
    /// let producer = store.producer("shop")?;
    /// producer.send(Message::new("orders", "12 apples"))?;
    /// let consumer = store.consumer("billing").subscribe("orders", "*").orderly().build()?;
    /// let order = consumer.recv()?;
    /// let invoice = Message::new("invoices", format!("for {}", order.body_str()?));
    /// producer.send_and_ack(invoice, order)?;
    /// assert!(consumer.try_recv()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send): where nothing was stored, the attempt to handle the delivery has failed, as if it had
    /// been dropped; with [`Outcome::MayExist`] the next opening decides about both. `InvalidReceipt` where the delivery's
    /// queue has changed hands, or its group was moved; `InvalidArgument` where messages before it are not acknowledged, or
    /// the topic has no queue on its broker.
    #[doc(alias = "sendOffsetsToTransaction")]
    pub fn send_and_ack(
        &self,
        message: impl Borrow<Message>,
        mut delivery: impl AckInOneStep,
    ) -> Result<SendReceipt> {
        let message = message.borrow();
        let out = self.prepare(SendMode::Sync, message)?;
        let ack = delivery.begin()?;
        let sent = self.deliver(message.topic(), |route| {
            check_kind(route, message)?;
            let to = queue_beside(route, &ack, message)?;
            self.with_hooks(to, (out.mode, &[message]), || self.store_joined(to, &out, &ack))
        });
        match &sent {
            // Noting it in memory cannot undo it; what fails there is told by the next acknowledgement.
            Ok(_) => drop(delivery.end()),
            // In memory it counts as acknowledged: the store takes no messages before the next opening, which decides.
            Err(error) if error.outcome() == Outcome::MayExist => drop(delivery.end()),
            Err(_) => drop(delivery),
        }
        sent
    }

    fn store_joined(&self, to: &RouteQueue, out: &Outgoing<'_>, ack: &JoinedAck) -> Result<SendReceipt> {
        let (cluster, message) = (&self.member.cluster, out.message);
        let now = cluster.clock().wall_millis();
        let id = cluster.next_id(now);
        let mut due = None;
        let stored = with_buffer(|buffer| {
            message.append_properties(&id, buffer);
            append(buffer, name::ACK, &ack.property());
            let mut put = put_message(message, (now, &id), buffer);
            if let Some(packed) = &out.packed {
                (put.body, put.sys_flag) = (&packed.body, packed.sys_flag);
            }
            let (topic, wait) = (&to.topic, WaitForFlush::Later);
            to.broker.put_joined(ack, message.waits(), || match u32::try_from(message.delay_level_number()) {
                Ok(level @ 1..) => {
                    to.broker.put_delayed(topic, to.queue().queue_id(), &put, Later { level, wait })
                }
                _ if message.when() != When::Now => {
                    self.put_timed(to, &put, (message, wait)).map(|(stored, at)| {
                        due = at;
                        stored
                    })
                }
                _ => to.broker.put_into(topic, to.slot()?, &put, wait),
            })
        })?;
        self.tell_who_asked(to, message, &stored)?;
        Ok(SendReceipt::new(&stored, Arc::clone(&to.place), id, message.joined_keys()).due_at(due))
    }
}

/// Chooses a queue on the broker whose position moves.
fn queue_beside<'a>(route: &'a Route, ack: &JoinedAck, message: &Message) -> Result<&'a RouteQueue> {
    let beside: Vec<&RouteQueue> =
        route.write.iter().filter(|entry| *entry.broker.name() == ack.broker).collect();
    let place = match message.order_key_text() {
        Some(key) => by_consistent_hash(key, beside.len()),
        None => route.next_turn().checked_rem(beside.len()),
    };
    place
        .and_then(|place| beside.get(place).copied())
        .ok_or_else(|| no_queue(route, &ack.broker, beside.len()))
}

fn no_queue(route: &Route, broker: &BrokerName, count: usize) -> Error {
    let (topic, count) = (&route.topic, to_u64(count));
    let reason = format!(
        "{topic} has {count} queues to send to on {broker}, where the message is acknowledged: give it one there"
    );
    Error::argument("topic", reason)
}
