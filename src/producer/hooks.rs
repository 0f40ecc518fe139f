//! Who may look at a message on its way into the store, and who may forbid it?

use std::fmt;
use std::sync::Arc;

use super::SendReceipt;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::types::{GroupName, MessageQueue};

/// How a message is sent (RocketMQ's `CommunicationMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "CommunicationMode")]
#[non_exhaustive]
pub enum SendMode {
    /// The sender waits until the message is as safe as the store's settings ask for.
    #[doc(alias = "SYNC")]
    Sync,
    /// The sender is told later.
    #[doc(alias = "ASYNC")]
    Async,
    /// The sender is not told.
    #[doc(alias = "ONEWAY")]
    OneWay,
}

/// What a hook is shown: one attempt to store one message or one batch (RocketMQ's `SendMessageContext`).
#[derive(Debug, Clone, Copy)]
#[doc(alias = "SendMessageContext")]
#[doc(alias = "CheckForbiddenContext")]
#[non_exhaustive]
pub struct SendContext<'a> {
    /// The producer group.
    pub group: &'a GroupName,
    /// The message, or all messages of a batch.
    pub messages: &'a [&'a Message],
    /// The queue that this attempt goes to.
    pub queue: &'a MessageQueue,
    /// How the message is sent.
    pub mode: SendMode,
}

/// Sees every message before it is stored and what became of it after (RocketMQ's `SendMessageHook`): for traces,
/// measurements, tests.
///
/// Both methods are called once an attempt, in the sender's thread, while nothing is locked; what they do adds to the time
/// of the send. They cannot change the message or the result. A panic passes through to the sender; one in
/// [`after`](Self::after) leaves the message stored.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use pocketmq::{Error, Message, SendContext, SendMessageHook, SendReceipt, Store};
///
/// #[derive(Default)]
/// struct Counter(AtomicUsize);
///
/// impl SendMessageHook for Counter {
///     fn name(&self) -> &str {
///         "counter"
///     }
///     fn after(&self, context: &SendContext<'_>, result: Result<&SendReceipt, &Error>) {
///         if result.is_ok() {
///             self.0.fetch_add(context.messages.len(), Ordering::Relaxed);
///         }
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let counter = Arc::new(Counter::default());
/// let producer = store.producer_builder("shop").send_hook(Arc::clone(&counter)).build()?;
/// producer.send(Message::new("orders", "hello"))?;
/// assert_eq!(counter.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "hookName")]
pub trait SendMessageHook: Send + Sync {
    /// Returns the name of the hook, for people.
    fn name(&self) -> &str;

    /// Is called before the attempt, when nothing has been stored.
    #[doc(alias = "sendMessageBefore")]
    fn before(&self, context: &SendContext<'_>) {
        let _ = context;
    }

    /// Is called after the attempt. An asynchronous message is stored then, and under sync flush not flushed yet.
    #[doc(alias = "sendMessageAfter")]
    fn after(&self, context: &SendContext<'_>, result: Result<&SendReceipt, &Error>) {
        let _ = (context, result);
    }
}

/// May forbid a message (RocketMQ's `CheckForbiddenHook`).
///
/// Called once an attempt, before the [`SendMessageHook`]s, in the sender's thread, while nothing is locked. A panic passes
/// through to the sender, and nothing is stored.
///
/// ```
/// use pocketmq::{CheckForbiddenHook, Error, Message, SendContext, Store};
///
/// struct NeedsKey;
///
/// impl CheckForbiddenHook for NeedsKey {
///     fn name(&self) -> &str {
///         "needs-key"
///     }
///     fn check(&self, context: &SendContext<'_>) -> Result<(), String> {
///         let keyed = context.messages.iter().all(|message| message.key_texts().next().is_some());
///         if keyed { Ok(()) } else { Err("a message without a key cannot be found again".to_owned()) }
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let producer = store.producer_builder("shop").forbidden_hook(NeedsKey).build()?;
/// assert!(matches!(producer.send(Message::new("orders", "hello")), Err(Error::Forbidden(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CheckForbiddenHook: Send + Sync {
    /// Returns the name of the hook, for the error.
    fn name(&self) -> &str;

    /// Lets the message pass, or says why not.
    ///
    /// # Errors
    ///
    /// The reason, as [`Error::Forbidden`] tells it to the sender.
    #[doc(alias = "checkForbidden")]
    fn check(&self, context: &SendContext<'_>) -> std::result::Result<(), String>;
}

impl<H: SendMessageHook + ?Sized> SendMessageHook for Arc<H> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn before(&self, context: &SendContext<'_>) {
        (**self).before(context);
    }

    fn after(&self, context: &SendContext<'_>, result: Result<&SendReceipt, &Error>) {
        (**self).after(context, result);
    }
}

impl<H: CheckForbiddenHook + ?Sized> CheckForbiddenHook for Arc<H> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn check(&self, context: &SendContext<'_>) -> std::result::Result<(), String> {
        (**self).check(context)
    }
}

/// The hooks of a producer, in the order in which they were added.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) forbidden: Vec<Arc<dyn CheckForbiddenHook>>,
    pub(super) send: Vec<Arc<dyn SendMessageHook>>,
}

impl Hooks {
    pub(super) fn is_empty(&self) -> bool {
        self.forbidden.is_empty() && self.send.is_empty()
    }

    /// Makes an attempt, with the hooks around it.
    pub(super) fn around(
        &self,
        context: &SendContext<'_>,
        attempt: impl FnOnce() -> Result<SendReceipt>,
    ) -> Result<SendReceipt> {
        for hook in &self.forbidden {
            hook.check(context)
                .map_err(|reason| Error::Forbidden(format!("{}: {reason}", hook.name()).into()))?;
        }
        self.send.iter().for_each(|hook| hook.before(context));
        let result = attempt();
        self.send.iter().for_each(|hook| hook.after(context, result.as_ref()));
        result
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let forbidden = self.forbidden.iter().map(|hook| hook.name());
        let send = self.send.iter().map(|hook| hook.name());
        formatter.debug_list().entries(forbidden.chain(send)).finish()
    }
}
