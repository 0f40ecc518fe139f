//! How does a producer ask, and get an answer?

use std::borrow::Borrow;
use std::time::Duration;

use super::Producer;
use crate::broker::Stored;
use crate::cluster::RouteQueue;
use crate::error::{Error, Result};
use crate::message::exchange::Exchange;
use crate::message::{Message, OwnedMessage};

impl Producer {
    /// Sends a message as [`send`](Self::send) does and waits for the reply to it: at most for `timeout`, from 1 ms on. Whoever
    /// consumes the message replies with what [`MessageView::reply`](crate::MessageView::reply) makes, by any producer of
    /// the store. Blocks as a send does, and until then.
    ///
    /// Request and reply are messages like others, stored where RocketMQ stores them; the reply goes to
    /// `DefaultCluster_REPLY_TOPIC`. Only the one who waits in this process gets it: after a restart nobody does. In a store
    /// that is driven by hand, everything that is due is done once, handlers of push consumers among it.
    ///
    /// # Errors
    ///
    /// [`RequestTimeout`](Error::RequestTimeout) where no reply has come in time: the request is stored all the same, and may
    /// still be handled. `InvalidArgument` for a message with a delay and for no time; `Closed` where the store is closed
    /// meanwhile; those of [`send`](Self::send).
    ///
    /// ```
    /// # fn main() -> pocketmq::Result<()> {
    /// use pocketmq::testing::TestStore;
    /// use pocketmq::{HandlerResult, Message, MessageView};
    /// use std::time::Duration;
    ///
    /// let store = TestStore::new();
    /// let replier = store.producer("prices")?;
    /// let worker = store.consumer("prices").subscribe("asked", "*").listen(1, move |request: &MessageView| -> HandlerResult {
    ///     replier.send(request.reply("42")?)?;
    ///     Ok(())
    /// })?;
    /// let reply = store.producer("shop")?.request(Message::new("asked", "how much?"), Duration::from_secs(3))?;
    /// assert_eq!(reply.body_str()?, "42");
    /// # drop(worker);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "RequestResponseFuture")]
    #[doc(alias = "RequestTimeoutException")]
    pub fn request(&self, message: impl Borrow<Message>, timeout: Duration) -> Result<OwnedMessage> {
        let (message, cluster) = (message.borrow(), &self.member.cluster);
        if message.is_delayed() {
            return Err(Error::argument(
                "delay",
                "a request cannot be delayed: nobody would wait for so long",
            ));
        }
        let millis = timeout.as_millis();
        if millis == 0 {
            return Err(Error::argument("timeout", "must be at least 1 ms"));
        }
        let correlation = cluster.next_id(cluster.clock().wall_millis()).to_string();
        let asked = cluster.expect_reply(&correlation)?;
        let exchange = Exchange {
            client: self.group().as_str().into(),
            correlation: correlation.as_str().into(),
            ttl_millis: millis.to_string().into(),
            is_reply: false,
        };
        self.send(message.clone().exchanging(exchange))?;
        asked.wait(timeout)
    }

    /// Hands a message that was stored to whoever waits for it, if it is a reply.
    pub(super) fn tell_who_asked(&self, to: &RouteQueue, message: &Message, stored: &Stored) -> Result<()> {
        match message.replies_to() {
            None => Ok(()),
            Some(correlation) => {
                let place = (stored.physical_offset, stored.end);
                self.member.cluster.hand_over_reply(correlation, &to.broker, place)
            }
        }
    }
}
