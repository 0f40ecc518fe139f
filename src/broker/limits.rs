//! Is there room for one more message, by what the user allows, and what if not?
//!
//! Each limit keeps a budget: what was free when it was last counted, less what has been admitted since. Only when the
//! budget is used up is it counted again what waits, so that a store far from its limits pays a subtraction a message,
//! and one without limits a look at a pointer.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::retention::Surplus;
use super::waiting::{Amount, Tallies, excess};
use super::{Broker, PutMessage, TopicOfBroker};
use crate::commitlog::BLANK_LEN;
use crate::config::{Background, Limit, Overflow, StoreConfig, Unconsumed, may_be_limited};
use crate::consumequeue::ConsumeQueue;
use crate::error::{Error, Result};
use crate::events;
use crate::sync::{AtomicI64, AtomicU64, Mutex, Ordering, Parker, RwLock, deadline_in, has_passed};
use crate::types::TopicName;

/// The limits of one broker.
#[derive(Debug)]
pub(super) struct Limiter {
    store: Option<Arc<Scope>>,
    topics: RwLock<HashMap<TopicName, Arc<Scope>>>,
    queues: RwLock<HashMap<(TopicName, u32), Arc<Scope>>>,
    /// How often groups had moved on when the log was last found to be full.
    full_at: AtomicU64,
}

/// What one limit is for.
#[derive(Debug)]
enum Place {
    Store,
    Topic(TopicName),
    Queue(TopicName, u32),
}

impl Place {
    fn holds(&self, queue: &ConsumeQueue) -> bool {
        match self {
            Self::Store => may_be_limited(queue.topic()),
            Self::Topic(topic) => queue.topic() == topic,
            Self::Queue(topic, id) => queue.topic() == topic && queue.queue_id() == *id,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => formatter.write_str("the store"),
            Self::Topic(topic) => write!(formatter, "topic {topic}"),
            Self::Queue(topic, id) => write!(formatter, "queue {id} of {topic}"),
        }
    }
}

/// One limit and its budget.
#[derive(Debug)]
struct Scope {
    place: Place,
    limit: Limit,
    count_left: AtomicI64,
    bytes_left: AtomicI64,
    /// How often groups had gone back when that was counted.
    counted_at: AtomicU64,
    tallies: Mutex<Tallies>,
}

impl Scope {
    fn new(place: Place, limit: Limit) -> Arc<Self> {
        let (count_left, bytes_left) = (AtomicI64::new(0), AtomicI64::new(0));
        let counted_at = AtomicU64::new(0);
        Arc::new(Self { place, limit, count_left, bytes_left, counted_at, tallies: Mutex::default() })
    }

    /// The bytes of a store are those of its log's files, which are looked at where a new one begins.
    fn bytes_max(&self) -> Option<u64> {
        self.limit.bytes.filter(|_| !matches!(self.place, Place::Store))
    }

    /// Takes from the budget. `false` where it is used up, or was made before a group went back.
    fn take(&self, amount: Amount, setbacks: u64) -> bool {
        let take = |left: &AtomicI64, wanted: u64| {
            let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
            left.fetch_sub(wanted, Ordering::Relaxed) >= wanted
        };
        let count = self.limit.count.is_none() || take(&self.count_left, amount.count);
        let bytes = self.bytes_max().is_none() || take(&self.bytes_left, amount.bytes);
        count && bytes && self.counted_at.load(Ordering::Relaxed) == setbacks
    }

    /// Sets the budget to what is free, less what is being admitted.
    fn set_left(&self, waiting: Amount, amount: Amount) {
        let left = |max: Option<u64>, used: u64| {
            max.map_or(i64::MAX, |max| i64::try_from(max.saturating_sub(used)).unwrap_or(i64::MAX))
        };
        let used = waiting.plus(amount);
        self.count_left.store(left(self.limit.count, used.count), Ordering::Relaxed);
        self.bytes_left.store(left(self.bytes_max(), used.bytes), Ordering::Relaxed);
    }

    /// Returns how much more than needed goes at once: in a store with many queues, looking for the oldest is not for
    /// every message.
    fn slack(&self) -> Amount {
        match self.place {
            Place::Store => Amount { count: self.limit.count.unwrap_or(0) / 64, bytes: 0 },
            _ => Amount::default(),
        }
    }

    fn refusal(&self, waiting: Amount) -> Error {
        let place = &self.place;
        let reason = match (self.limit.count, self.bytes_max()) {
            (Some(max), _) if waiting.count >= max => {
                format!(
                    "{} messages wait in {place}, and {max} may: let them be consumed, or raise the limit",
                    waiting.count
                )
            }
            (_, Some(max)) => format!(
                "messages of {} bytes wait in {place}, and {max} bytes may: let them be consumed, or raise the limit",
                waiting.bytes
            ),
            (max, None) => format!(
                "{} messages wait in {place}, too many for this batch, as {} may: send fewer at once",
                waiting.count,
                max.unwrap_or(0)
            ),
        };
        Error::StoreBusy(reason.into())
    }
}

impl Limiter {
    /// Returns the limits of a store, `None` where there are none.
    pub(super) fn new(config: &StoreConfig) -> Option<Self> {
        let limits = &config.limits;
        (!limits.is_empty()).then(|| Self {
            store: limits.store.map(|limit| Scope::new(Place::Store, limit)),
            topics: RwLock::default(),
            queues: RwLock::default(),
            full_at: AtomicU64::new(u64::MAX),
        })
    }

    fn of_topic(&self, config: &StoreConfig, topic: &TopicName) -> Option<Arc<Scope>> {
        let limit = *config.limits.topics.get(topic.as_str())?;
        if let Some(known) = self.topics.read().get(topic) {
            return Some(Arc::clone(known));
        }
        let mut topics = self.topics.write();
        let new = || Scope::new(Place::Topic(topic.clone()), limit);
        Some(Arc::clone(topics.entry(topic.clone()).or_insert_with(new)))
    }

    fn of_queue(&self, config: &StoreConfig, topic: &TopicName, id: u32) -> Option<Arc<Scope>> {
        let limit = *config.limits.queues.get(topic.as_str())?;
        let key = (topic.clone(), id);
        if let Some(known) = self.queues.read().get(&key) {
            return Some(Arc::clone(known));
        }
        let mut queues = self.queues.write();
        let new = || Scope::new(Place::Queue(topic.clone(), id), limit);
        Some(Arc::clone(queues.entry(key).or_insert_with(new)))
    }
}

impl Broker {
    /// Sees to it that messages may be stored in a queue by the limits that the user has set.
    ///
    /// # Errors
    ///
    /// `StoreBusy` names the limit; `MessageTooLarge` and `InvalidArgument` for what no empty place could take.
    pub(super) fn admit(
        &self,
        limiter: &Limiter,
        topic: &TopicOfBroker,
        queue_id: u32,
        messages: &[PutMessage<'_>],
    ) -> Result<()> {
        let name = topic.name();
        if !may_be_limited(name) {
            return Ok(());
        }
        let mut amount = Amount { count: crate::types::to_u64(messages.len()), bytes: 0 };
        for message in messages {
            amount.bytes = amount.bytes.saturating_add(u64::from(self.stored_size(topic, message)?));
        }
        let config = &self.config;
        let scopes =
            [limiter.of_queue(config, name, queue_id), limiter.of_topic(config, name), limiter.store.clone()];
        for scope in scopes.iter().flatten() {
            self.admit_to(scope, amount)?;
        }
        match config.limits.store {
            Some(limit @ Limit { bytes: Some(bytes), .. }) => {
                self.admit_file(limiter, limit, bytes, amount.bytes)
            }
            _ => Ok(()),
        }
    }

    fn admit_to(&self, scope: &Scope, amount: Amount) -> Result<()> {
        if scope.take(amount, self.positions.setbacks()) {
            return Ok(());
        }
        if let Some(max) = scope.bytes_max().filter(|max| amount.bytes > *max) {
            return Err(Error::MessageTooLarge { len: amount.bytes, max });
        }
        if let Some(max) = scope.limit.count.filter(|max| amount.count > *max) {
            let reason = format!("{} messages at once, and {max} may wait in {}", amount.count, scope.place);
            return Err(Error::argument("batch", reason));
        }
        self.until_admitted(&scope.limit, || self.try_admit(scope, amount))
    }

    /// Counts what waits, and admits what fits then. Else returns the refusal.
    fn try_admit(&self, scope: &Scope, amount: Amount) -> Result<Option<Error>> {
        let mut tallies = scope.tallies.lock();
        scope.counted_at.store(self.positions.setbacks(), Ordering::Relaxed);
        tallies.follow(self, scope.bytes_max().is_some(), &|queue| scope.place.holds(queue));
        let (count_max, bytes_max) =
            (scope.limit.count.unwrap_or(u64::MAX), scope.bytes_max().unwrap_or(u64::MAX));
        loop {
            let waiting = tallies.count()?;
            let over = excess(waiting.plus(amount), count_max, bytes_max);
            if over == Amount::default() {
                scope.set_left(waiting, amount);
                return Ok(None);
            }
            // A refusal takes nothing from the budget either.
            scope.set_left(waiting, Amount::default());
            if scope.limit.overflow != Overflow::DeleteOldest {
                return Ok(Some(scope.refusal(waiting)));
            }
            let over = over.plus(scope.slack());
            let Some((tally, place)) = tallies.oldest(over)? else { return Ok(Some(scope.refusal(waiting))) };
            let unconsumed = tally.unconsumed_before(place);
            let gone = self.minimums.raise(tally.queue(), place);
            if gone == 0 {
                return Ok(Some(scope.refusal(waiting)));
            }
            let queue = tally.queue();
            events::made_room(&self.name, queue.topic(), &queue.queue_id(), &gone);
            self.retention.note_given_up(gone, unconsumed);
        }
    }

    /// Sees to it that the log may have one more file, if the messages do not fit the last one.
    fn admit_file(&self, limiter: &Limiter, limit: Limit, bytes_max: u64, needed: u64) -> Result<()> {
        let files = self.log.files();
        let fits = || {
            let rest = files.limit().saturating_sub(self.log.end().get());
            let after = files.limit().saturating_add(files.file_size()).saturating_sub(files.start());
            needed.saturating_add(BLANK_LEN) <= rest || after <= bytes_max
        };
        if fits() {
            return Ok(());
        }
        let surplus = Surplus {
            bytes_max: bytes_max.saturating_sub(files.file_size()),
            unconsumed: if limit.overflow == Overflow::DeleteOldest {
                Unconsumed::Delete
            } else {
                Unconsumed::Keep
            },
        };
        self.until_admitted(&limit, || {
            // Files go only when some group has moved on: looking again before that finds the same.
            let moved = self.positions.moves();
            if limiter.full_at.load(Ordering::Relaxed) != moved {
                self.flush_and_dispatch()?;
                let mut report = self.retain_within(surplus)?;
                while !fits() && report.log_files() > 0 {
                    report = self.retain_within(surplus)?;
                }
                if fits() {
                    return Ok(None);
                }
                limiter.full_at.store(moved, Ordering::Relaxed);
            }
            let reason = format!(
                "the log has {} bytes, and {bytes_max} are allowed: let its oldest messages be consumed, or raise the limit",
                files.limit().saturating_sub(files.start())
            );
            Ok((!fits()).then(|| Error::StoreBusy(reason.into())))
        })
    }

    /// Tries, and under [`Overflow::Block`] again whenever a group has moved on, until the time is up.
    fn until_admitted(&self, limit: &Limit, mut admit: impl FnMut() -> Result<Option<Error>>) -> Result<()> {
        let Some(refusal) = admit()? else { return Ok(()) };
        if limit.overflow != Overflow::Block || self.config.background == Background::Manual {
            return Err(refusal);
        }
        let freed = self.positions.freed();
        let (bed, deadline) = (Arc::new(Parker::default()), deadline_in(limit.wait));
        freed.register(&bed);
        let result = loop {
            bed.clear();
            // Looked at after the registration: what is freed from here on wakes.
            match self.check_open().and_then(|()| admit()) {
                Ok(Some(refusal)) if deadline.is_some_and(has_passed) => break Err(refusal),
                Ok(Some(_)) => drop(bed.park_until(deadline)),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        freed.deregister(&bed);
        result
    }
}
