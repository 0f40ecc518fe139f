//! What does an application say about a transaction: committed, rolled back, or no idea?

use crate::commitlog::MessageView;
use crate::message::Message;

/// What local work came to, and what a check finds out about it (RocketMQ's `LocalTransactionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalTransactionState {
    /// The work is done for good: the message is to be delivered.
    #[doc(alias = "COMMIT_MESSAGE")]
    Commit,
    /// The work was not done and never will be: the message is to vanish.
    #[doc(alias = "ROLLBACK_MESSAGE")]
    Rollback,
    /// It cannot be said now: ask again later.
    #[doc(alias = "UNKNOW")]
    Unknown,
}

/// Answers for the transactions of a producer group (RocketMQ's `TransactionListener`).
///
/// A closure that takes a [`MessageView`] is one too: it answers checks, and local work is then given with each
/// transaction.
///
/// ```
/// use pocketmq::{LocalTransactionState, Message, MessageView, Store, TransactionListener};
/// use std::collections::HashSet;
/// use std::sync::Mutex;
///
/// #[derive(Default)]
/// struct Orders(Mutex<HashSet<String>>);
///
/// impl TransactionListener for Orders {
///     fn execute_local_transaction(&self, message: &Message) -> LocalTransactionState {
///         let key = message.key_texts().next().unwrap_or_default().to_owned();
///         self.0.lock().unwrap().insert(key);
///         LocalTransactionState::Commit
///     }
///
///     fn check_local_transaction(&self, message: &MessageView) -> LocalTransactionState {
///         let key = message.keys().next().unwrap_or_default().to_owned();
///         if self.0.lock().unwrap().contains(&key) {
///             LocalTransactionState::Commit
///         } else {
///             LocalTransactionState::Rollback
///         }
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let producer = store.transaction_producer("shop", Orders::default())?;
/// let receipt = producer.send_with_listener(Message::new("orders", "pay").key("order-42"))?;
/// assert_eq!(receipt.state(), LocalTransactionState::Commit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "TransactionCheckListener")]
#[doc(alias = "LocalTransactionExecuter")]
pub trait TransactionListener: Send + Sync {
    /// Does the local work of a transaction whose half message is stored: for
    /// [`send_with_listener`](crate::TransactionProducer::send_with_listener), in the sender's thread, while nothing is
    /// locked. A panic counts as [`LocalTransactionState::Unknown`]. The default does nothing and answers that.
    #[doc(alias = "executeLocalTransaction")]
    #[doc(alias = "executeLocalTransactionBranch")]
    fn execute_local_transaction(&self, message: &Message) -> LocalTransactionState {
        let _ = message;
        LocalTransactionState::Unknown
    }

    /// Says what became of the local work of a transaction whose decision never came: because the process died, the
    /// [`Transaction`](crate::Transaction) was dropped, or the work takes longer than the immunity time. It may be a
    /// transaction of another producer of the group, and it may be asked more than once about one. Called in a thread of
    /// the producer's, while nothing is locked. A panic counts as [`LocalTransactionState::Unknown`].
    ///
    /// **Answer [`Rollback`](LocalTransactionState::Rollback) only if the work was not done and cannot be done any more**,
    /// not because it cannot be found yet.
    ///
    /// The message is the half message as it lies in the log: its [`topic`](MessageView::topic) is the one to which it was
    /// sent, its place that of the half message.
    #[doc(alias = "checkLocalTransaction")]
    #[doc(alias = "checkLocalTransactionState")]
    fn check_local_transaction(&self, message: &MessageView) -> LocalTransactionState;
}

impl<F> TransactionListener for F
where
    F: Fn(&MessageView) -> LocalTransactionState + Send + Sync,
{
    fn check_local_transaction(&self, message: &MessageView) -> LocalTransactionState {
        self(message)
    }
}
