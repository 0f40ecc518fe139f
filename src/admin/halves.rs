//! Which transactions are undecided, how are they decided by hand, and how does one that was given up come back?

use super::Admin;
use crate::commitlog::MessageView;
use crate::error::{Error, Result};
use crate::message::MessageId;
use crate::txn::{Decision, LocalTransactionState};
use crate::types::{GIVEN_UP_TOPIC, GroupName};

/// An undecided transaction: its half message, and how often it has been checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HalfMessage {
    /// The producer group that began it, and is asked about it.
    pub group: GroupName,
    /// How often a producer of the group has been asked.
    pub checks: u32,
    /// The half message. Its [`topic`](MessageView::topic) is the one to which it goes when it is committed, its place that
    /// of the half message, and it keeps its log file mapped.
    pub message: MessageView,
}

impl Admin {
    /// Lists undecided transactions of all groups: at most so many of each broker, oldest first.
    ///
    /// ```
    /// use pocketmq::{LocalTransactionState, Message, MessageView, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let producer = store.transaction_producer("bank", |_: &MessageView| LocalTransactionState::Unknown)?;
    /// drop(producer.begin(Message::new("transfers", "100 from bob to smith"))?);
    /// let halves = store.admin().half_messages(10)?;
    /// assert_eq!((halves[0].group.as_str(), halves[0].message.topic()), ("bank", "transfers"));
    /// store.admin().resolve_half_message(halves[0].message.message_id(), LocalTransactionState::Commit)?;
    /// assert!(store.admin().half_messages(10)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`; `Corrupt` and `Io`.
    pub fn half_messages(&self, count_max: usize) -> Result<Vec<HalfMessage>> {
        self.cluster.check_open()?;
        let mut all = Vec::new();
        for transactions in self.cluster.transactions() {
            let undecided = transactions.undecided(count_max)?;
            all.extend(undecided.into_iter().map(|one| HalfMessage {
                group: one.group,
                checks: one.checks,
                message: one.message,
            }));
        }
        Ok(all)
    }

    /// Decides a transaction by hand, by the unique id of its message. As any decision it counts only if it is the first.
    /// Blocks as a send does.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where no transaction of that id is undecided, and for [`LocalTransactionState::Unknown`], which
    /// decides nothing; `TopicNotFound` where the topic was deleted; `Unsupported` on a store that was opened read-only;
    /// `StoreFull`; `FlushFailed`; `Io`; `Closed`.
    pub fn resolve_half_message(&self, id: MessageId, state: LocalTransactionState) -> Result<()> {
        let decision = match state {
            LocalTransactionState::Commit => Decision::Commit,
            LocalTransactionState::Rollback => Decision::Rollback,
            LocalTransactionState::Unknown => {
                return Err(Error::argument("state", "Unknown decides nothing: Commit or Rollback does"));
            }
        };
        self.cluster.check_open()?;
        for transactions in self.cluster.transactions() {
            if let Some(ticket) = transactions.find(id)? {
                transactions.broker().check_writable()?;
                self.cluster.make_transaction_topics()?;
                return transactions.decide(&ticket, decision);
            }
        }
        Err(Error::argument(
            "id",
            format!("no transaction {id} is undecided: half_messages lists those that are"),
        ))
    }

    /// Lists half messages that were given up, because nobody knew their outcome at any check: at most so many, oldest
    /// first, as long as retention keeps them.
    ///
    /// # Errors
    ///
    /// `Closed`; `Corrupt` and `Io`.
    pub fn given_up_half_messages(&self, count_max: usize) -> Result<Vec<MessageView>> {
        self.cluster.check_open()?;
        match self.browse(GIVEN_UP_TOPIC) {
            Ok(browse) => {
                let messages = browse.messages()?.take(count_max);
                messages.map(|message| Ok(message?.showing_original_topic())).collect()
            }
            Err(Error::TopicNotFound(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Makes a transaction undecided again that was given up, by the unique id of its message: it is checked as if it
    /// had never been. Blocks as a send does. One that was brought back and decided can be brought back again: nothing
    /// is noted in the message that was given up.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where no half message of that id was given up, or it is undecided; `Unsupported` on a store that
    /// was opened read-only; `StoreFull`; `FlushFailed`; `Io`; `Closed`.
    #[doc(alias = "resumeCheckHalfMessage")]
    pub fn resume_half_message(&self, id: MessageId) -> Result<()> {
        self.cluster.check_open()?;
        let topic = crate::types::TopicName::new(GIVEN_UP_TOPIC)?;
        for transactions in self.cluster.transactions() {
            let broker = transactions.broker();
            broker.check_writable()?;
            let found = broker.query_by_key(&topic, &id.to_string(), i64::MIN..=i64::MAX, 1)?;
            let Some(given_up) = found.first() else { continue };
            if transactions.find(id)?.is_some() {
                return Err(Error::argument(
                    "id",
                    format!("transaction {id} is undecided: nothing needs to come back"),
                ));
            }
            self.cluster.make_transaction_topics()?;
            return transactions.bring_back(given_up);
        }
        let reason =
            format!("no half message {id} was given up: given_up_half_messages lists those that were");
        Err(Error::argument("id", reason))
    }
}
