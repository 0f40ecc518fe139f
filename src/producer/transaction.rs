//! How does a message become visible exactly if local work was done?
//!
//! A half message is stored first, then the work is done, then its outcome decides. What is stored, decided and checked is
//! the business of `src/txn/`; here is what the application holds.

use std::borrow::Borrow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Outgoing, Producer, SendMode, SendReceipt, SendStatus, check_kind_is, put_message, wait_of, with_buffer,
};
use crate::cluster::RouteQueue;
use crate::config::TopicKind;
use crate::error::{Error, Result};
use crate::message::properties::name;
use crate::message::{Message, MessageId};
use crate::txn::{CheckPool, Decision, LocalTransactionState, Ticket, Transactions};
use crate::types::GroupName;

/// Sends messages that are delivered only if local work was done (RocketMQ's `TransactionMQProducer`).
///
/// A handle: cloning it is cheap, it keeps the store open, and as long as one clone is there, its listener is asked about
/// undecided transactions of its group.
///
/// [`begin`](Self::begin) stores the message as a *half message*, which nobody sees. Then do the work, and
/// [`commit`](Transaction::commit) or [`roll back`](Transaction::rollback). Where the decision never comes, because the
/// process died in between or the handle was dropped, the listener is asked what became of the work: after 6 s, then every
/// 30 s, 15 times at most (see [`TransactionPolicy`](crate::TransactionPolicy)). So the message is delivered if the work was
/// done, and not if it was not, whatever crashes.
///
/// A transaction is one message: no batch, and it can neither be delayed nor have a time of delivery.
/// [`deduplicate`](crate::ProducerBuilder::deduplicate) does not count for it. The message gets its place in its queue when
/// it is committed.
///
/// ```
/// use pocketmq::{LocalTransactionState, Message, MessageView, Store};
///
/// # let dir = tempfile::tempdir()?;
/// # fn debit(account: &str) -> Result<(), ()> { if account == "bob" { Ok(()) } else { Err(()) } }
/// # fn was_debited(_key: Option<&str>) -> bool { true }
/// let store = Store::open(dir.path())?;
/// let producer = store.transaction_producer("bank", |message: &MessageView| {
///     // Asked only where the decision got lost.
///     if was_debited(message.keys().next()) {
///         LocalTransactionState::Commit
///     } else {
///         LocalTransactionState::Rollback
///     }
/// })?;
/// let transaction = producer.begin(Message::new("transfers", "100 from bob to smith").key("transfer-1"))?;
/// match debit("bob") {
///     Ok(()) => transaction.commit()?,
///     Err(()) => transaction.rollback()?,
/// }
/// let consumer = store.consumer("other-bank").subscribe("transfers", "*").build()?;
/// assert_eq!(consumer.recv()?.body_str()?, "100 from bob to smith");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "TransactionMQProducer")]
pub struct TransactionProducer {
    producer: Producer,
    pool: Arc<CheckPool>,
}

impl fmt::Debug for TransactionProducer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TransactionProducer").field("group", self.group()).finish_non_exhaustive()
    }
}

impl TransactionProducer {
    pub(super) const fn new(producer: Producer, pool: Arc<CheckPool>) -> Self {
        Self { producer, pool }
    }

    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.producer.group()
    }

    /// Returns the producer that sends without transactions, with the same settings.
    #[must_use]
    pub const fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Begins a transaction: stores the half message, which nobody sees before [`Transaction::commit`]. Blocks as
    /// [`Producer::send`] does. The queue is chosen now, as `send` chooses it. Retries, compression, hooks and traces of the
    /// producer apply.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::send`]; `InvalidArgument` for a message with a delay; `StoreBusy` where too many transactions are
    /// undecided; `Timeout` where the half message could not be flushed in time: it is rolled back, do not do the work.
    #[doc(alias = "sendMessageInTransaction")]
    pub fn begin(&self, message: impl Borrow<Message>) -> Result<Transaction> {
        let transaction = self.half(message.borrow())?;
        if transaction.receipt.status() == SendStatus::SendOk {
            return Ok(transaction);
        }
        transaction.rollback()?;
        Err(Error::Timeout)
    }

    /// Stores the half message, has `local` do the work, and decides by its answer: RocketMQ's form.
    ///
    /// `local` is called in this thread while nothing is locked, and only where the half message is as safe as the
    /// store's settings ask for: else it is rolled back, which the [`status`](SendReceipt::status) of the receipt explains. A
    /// panic in `local` counts as [`LocalTransactionState::Unknown`]: the listener will be asked.
    ///
    /// Blocks as two sends do, and for `local` in between. The half message, and the decision where there is no
    /// [`trouble`](TransactionReceipt::trouble), are as durable on return as a send.
    ///
    /// # Errors
    ///
    /// Those of [`begin`](Self::begin) but `Timeout`: nothing was done then. A decision that could not be stored is no
    /// error: the listener will be asked, and [`TransactionReceipt::trouble`] says why.
    #[doc(alias = "sendMessageInTransaction")]
    pub fn send_in_transaction(
        &self,
        message: impl Borrow<Message>,
        local: impl FnOnce(&Message) -> LocalTransactionState,
    ) -> Result<TransactionReceipt> {
        let message = message.borrow();
        let transaction = self.half(message)?;
        let receipt = transaction.receipt.clone();
        let state = if receipt.status() == SendStatus::SendOk {
            let answer = catch_unwind(AssertUnwindSafe(|| local(message)));
            answer.unwrap_or(LocalTransactionState::Unknown)
        } else {
            LocalTransactionState::Rollback
        };
        let decided = match state {
            LocalTransactionState::Commit => transaction.commit(),
            LocalTransactionState::Rollback => transaction.rollback(),
            LocalTransactionState::Unknown => Ok(()),
        };
        Ok(TransactionReceipt { receipt, state, trouble: decided.err() })
    }

    /// Does the same with the listener's own
    /// [`execute_local_transaction`](crate::TransactionListener::execute_local_transaction). Blocks, and is as durable on
    /// return, as [`send_in_transaction`](Self::send_in_transaction).
    ///
    /// # Errors
    ///
    /// Those of [`send_in_transaction`](Self::send_in_transaction).
    #[doc(alias = "sendMessageInTransaction")]
    pub fn send_with_listener(&self, message: impl Borrow<Message>) -> Result<TransactionReceipt> {
        self.send_in_transaction(message, |message| self.pool.listener().execute_local_transaction(message))
    }

    fn half(&self, message: &Message) -> Result<Transaction> {
        let (receipt, (transactions, ticket)) = self.producer.send_half(message)?;
        let clock = self.producer.member.cluster.clock();
        let late_at = own_immunity(message).map(|time| clock.monotonic().saturating_add(time));
        Ok(Transaction { producer: self.producer.clone(), receipt, transactions, ticket, late_at })
    }
}

/// An undecided transaction: the work is to be done now.
///
/// Dropped without a decision it stays undecided, and the listener of the group is asked: guessing is how data gets lost.
#[must_use = "a transaction that is neither committed nor rolled back is checked back later"]
pub struct Transaction {
    /// Keeps the store open.
    producer: Producer,
    receipt: SendReceipt,
    transactions: Arc<Transactions>,
    ticket: Arc<Ticket>,
    /// When a commit comes too late, on the monotonic clock: of a message with an immunity of its own.
    late_at: Option<Duration>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.ticket.ended();
        formatter
            .debug_struct("Transaction")
            .field("receipt", &self.receipt)
            .field("ended", &state)
            .finish_non_exhaustive()
    }
}

impl Transaction {
    /// Returns the unique id of the message, which it keeps (RocketMQ's `transactionId`).
    #[must_use]
    #[doc(alias = "transactionId")]
    pub const fn message_id(&self) -> MessageId {
        self.receipt.message_id()
    }

    /// Returns the receipt of the half message. Its queue is the one to which the message goes, its offsets are those of the
    /// half message, as in RocketMQ.
    #[must_use]
    pub const fn receipt(&self) -> &SendReceipt {
        &self.receipt
    }

    /// Commits: stores the message in its queue, at the end. Blocks as a send does. When this has returned `Ok`, the message
    /// is delivered at least once, whatever crashes.
    ///
    /// # Errors
    ///
    /// `TransactionRefused` where a check or an operator decided otherwise before, and where the message has an immunity
    /// time of its own that is over; `TopicNotFound` where the topic was deleted meanwhile. Else the transaction is
    /// undecided still, and the listener will be asked: `StoreFull`, `FlushFailed`, `Io`, `Closed`.
    #[doc(alias = "endTransaction")]
    pub fn commit(self) -> Result<()> {
        self.end(Decision::Commit)
    }

    /// Rolls back: nobody will ever see the message, unless the listener answers *commit* for it. Blocks as a send does.
    ///
    /// # Errors
    ///
    /// Those of [`commit`](Self::commit) but `TopicNotFound`.
    #[doc(alias = "endTransaction")]
    pub fn rollback(self) -> Result<()> {
        self.end(Decision::Rollback)
    }

    fn end(self, decision: Decision) -> Result<()> {
        let cluster = &self.producer.member.cluster;
        cluster.check_open()?;
        if self.ticket.ended().is_none()
            && self.late_at.is_some_and(|late| cluster.clock().monotonic() > late)
        {
            let reason =
                "its immunity time is over, and the listener is asked now: decide sooner, or give it more";
            return Err(Error::TransactionRefused(reason.into()));
        }
        self.transactions.decide(&self.ticket, decision)
    }
}

/// What became of a transaction (RocketMQ's `TransactionSendResult`).
#[derive(Debug)]
#[doc(alias = "TransactionSendResult")]
pub struct TransactionReceipt {
    receipt: SendReceipt,
    state: LocalTransactionState,
    trouble: Option<Error>,
}

impl TransactionReceipt {
    /// Returns the receipt of the half message.
    #[must_use]
    pub const fn receipt(&self) -> &SendReceipt {
        &self.receipt
    }

    /// Returns what the local work came to; [`LocalTransactionState::Rollback`] also where it was not done because the half
    /// message was not safe enough.
    #[must_use]
    #[doc(alias = "localTransactionState")]
    pub const fn state(&self) -> LocalTransactionState {
        self.state
    }

    /// Returns why the decision could not be stored, if so: the listener will be asked for it.
    #[must_use]
    pub const fn trouble(&self) -> Option<&Error> {
        self.trouble.as_ref()
    }
}

impl fmt::Display for TransactionReceipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.state, self.receipt)?;
        self.trouble.as_ref().map_or(Ok(()), |error| write!(formatter, "; not decided yet: {error}"))
    }
}

/// What is known of a transaction that has begun.
type Begun = (Arc<Transactions>, Arc<Ticket>);

impl Producer {
    /// Sends a half message to the broker of a queue of the producer's choice.
    fn send_half(&self, message: &Message) -> Result<(SendReceipt, Begun)> {
        if message.is_delayed() {
            let reason =
                "a transaction cannot be delayed: send the message without a delay, or let its consumer wait";
            return Err(Error::argument("delay_level", reason));
        }
        if let Some(text) = message.property_text(name::CHECK_IMMUNITY)
            && text.parse::<u64>().is_err()
        {
            let reason = format!("{} must be a number of seconds, and is {text:?}", name::CHECK_IMMUNITY);
            return Err(Error::argument("property", reason));
        }
        let out = self.prepare(SendMode::Sync, message)?;
        let mut begun = None;
        let bound = (SendMode::Sync, message.order_key_text());
        let receipt = self.deliver(message.topic(), |route| {
            check_kind_is(route, TopicKind::Transaction)?;
            self.spread(route, bound, |to| {
                self.with_hooks(to, (SendMode::Sync, &[message]), || {
                    let (receipt, half) = self.store_half(to, &out)?;
                    begun = Some(half);
                    Ok(receipt)
                })
            })
        })?;
        begun.map(|begun| (receipt, begun)).ok_or(Error::Closed)
    }

    fn store_half(&self, to: &RouteQueue, out: &Outgoing<'_>) -> Result<(SendReceipt, Begun)> {
        let (cluster, message) = (&self.member.cluster, out.message);
        let transactions = cluster.transactions_of(&to.broker)?;
        let now = cluster.clock().wall_millis();
        let id = cluster.next_id(now);
        let (stored, ticket) = with_buffer(|buffer| {
            message.append_properties(&id, buffer);
            let mut put = put_message(message, (now, &id), buffer);
            if let Some(packed) = &out.packed {
                (put.body, put.sys_flag) = (&packed.body, packed.sys_flag);
            }
            let place = (&*to.topic, to.queue().queue_id());
            transactions.begin(place, &put, self.group(), wait_of(message, out.mode))
        })?;
        let receipt = SendReceipt::new(&stored, Arc::clone(&to.place), id, message.joined_keys());
        Ok((receipt, (Arc::clone(transactions), ticket)))
    }
}

/// Returns how long nobody is asked about this message, where it says so itself.
fn own_immunity(message: &Message) -> Option<Duration> {
    message.property_text(name::CHECK_IMMUNITY)?.parse().ok().map(Duration::from_secs)
}
