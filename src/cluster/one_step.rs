//! What does a producer need to know of a message that it acknowledges by sending another one?
//!
//! Producers and consumers do not know each other; both know this.

use crate::broker::JoinedAck;
use crate::error::Result;

/// A message in hand that can be acknowledged in one step with a send: a [`Delivery`](crate::Delivery). See
/// [`Producer::send_and_ack`](crate::Producer::send_and_ack).
#[expect(private_bounds, reason = "nobody else can make one")]
pub trait AckInOneStep: Acknowledge {}

/// How the two steps become one.
pub(crate) trait Acknowledge {
    /// Begins: nobody else may say anything of the message. Dropping it afterwards is a failed attempt.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` where it comes too late; `InvalidArgument` where it may not be acknowledged yet; `Closed`.
    fn begin(&mut self) -> Result<JoinedAck>;

    /// Ends: the other message is stored.
    ///
    /// # Errors
    ///
    /// What noting that fails with; the message is acknowledged all the same.
    fn end(self) -> Result<()>;
}
