//! How do any number of workers share the messages of a group without dividing the queues among them?
//!
//! All simple consumers of a group share its queues and its leases: whoever asks gets what nobody has. They are one member
//! of the group, which has all queues; so a queue is never handed over, and nothing waits for anybody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::desk::{Desk, GiveRules, GivenUp, Look};
use super::group::Owned;
use super::lease::{Lease, Receipt};
use super::member::Member;
use super::retry::Retries;
use super::settings::Settings;
use crate::cluster::Cluster;
use crate::config::Background;
use crate::delay::{Failed, NextAttempt};
use crate::error::{Error, Result};
use crate::lease::{Leases, Now, Tokens};
use crate::sync::{Mutex, Parker, deadline_in, has_passed};
use crate::types::{BrokerName, GroupName, MessageQueue};

/// The longest time for which a message may be leased (RocketMQ's limit).
const INVISIBLE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// How long a message waits whose copy could not be stored.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// A consumer that leases messages: each is nobody else's for a time, and comes again if it is not acknowledged by then
/// (RocketMQ 5's `SimpleConsumer`, and its pop).
///
/// [`ConsumerBuilder::simple`](super::ConsumerBuilder::simple) makes one. Any number of them, and of clones, may receive
/// from the same queues at once; queues are not divided. A message that was received is invisible to all others of the
/// group until it is acknowledged or its invisible time is over; then it comes again, with its attempts counted. Who has
/// the [`Receipt`] of a message may acknowledge it, in any thread or process of the application's; a receipt is good once,
/// and not after its time.
///
/// Leases survive the death of the process: after a restart a message that is leased still waits for the end of its time,
/// its receipt is still good, and what was acknowledged does not come again. After power loss some may come earlier. The
/// committed position never passes a message that is not acknowledged, so a RocketMQ broker that takes the folder over
/// delivers the leased ones again.
///
/// After 17 attempts (as [`retry_policy`](super::ConsumerBuilder::retry_policy) says) a message goes to the group's dead
/// letters. From an [`orderly`](super::ConsumerBuilder::orderly) consumer, nobody gets a message of a queue while somebody
/// has one of it, those that were not acknowledged come again before what follows, and there is no last attempt unless a
/// limit is set.
///
/// ```
/// # fn main() -> pocketmq::Result<()> {
/// use pocketmq::Message;
/// use pocketmq::testing::TestStore;
/// use std::time::Duration;
///
/// let store = TestStore::new();
/// store.producer("shop")?.send(Message::new("orders", "hello"))?;
/// let consumer = store.consumer("billing").subscribe("orders", "*").simple()?;
/// for lease in consumer.receive(16, Duration::from_secs(60))? {
///     assert_eq!(lease.body_str()?, "hello");
///     lease.ack()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "pop")]
pub struct SimpleConsumer {
    shared: Arc<Shared>,
    own: Arc<Own>,
}

/// What one simple consumer was told.
#[derive(Debug)]
struct Own {
    retries: Retries,
    leases_max: usize,
    wait: Duration,
}

/// What all simple consumers of a group share. It lives as long as one of them, or a lease.
pub(super) struct Shared {
    member: Arc<Member>,
    tokens: Tokens,
    desks: Mutex<Desks>,
}

#[derive(Debug, Default)]
struct Desks {
    by_queue: BTreeMap<MessageQueue, Arc<Desk>>,
    leases: BTreeMap<BrokerName, Arc<Leases>>,
    owned: Owned,
    /// The queue that was looked at last: the next one has its turn.
    last: Option<MessageQueue>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.member.leave();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("member", &self.member).finish_non_exhaustive()
    }
}

impl SimpleConsumer {
    pub(super) fn new(shared: Arc<Shared>, settings: &Settings) -> Self {
        let Settings { retries, leases_max, await_duration, .. } = settings;
        let own = Own { retries: retries.clone(), leases_max: *leases_max, wait: *await_duration };
        Self { shared, own: Arc::new(own) }
    }

    /// Returns the group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        self.shared.member.group_name()
    }

    /// Returns the queues from which the group receives, sorted. Never blocks.
    ///
    /// # Errors
    ///
    /// `Closed`, and what looking at a changed topic fails with.
    pub fn queues(&self) -> Result<Vec<MessageQueue>> {
        self.shared.member.assignment()
    }

    /// Leases up to `count_max` messages, each of which is invisible to all others for the time `invisible` (1 ms to 12 h).
    /// Blocks until there is one, at most the builder's
    /// [`await_duration`](super::ConsumerBuilder::await_duration); not at all if the store is driven by hand. Returns none
    /// when the time is up, or while the group has as many leases as it may have.
    ///
    /// Each queue has its turn, and messages of one queue come in order. That they are leased survives the death of the
    /// process when this returns.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an invisible time that is too short or too long; `Closed`, `PermissionDenied`, `Io` and
    /// `Corrupt`.
    #[doc(alias = "popMessage")]
    pub fn receive(&self, count_max: usize, invisible: Duration) -> Result<Vec<Lease>> {
        self.receive_until(count_max, invisible, Some(self.own.wait))
    }

    /// Leases messages that are there now, as [`receive`](Self::receive) does. Never blocks.
    ///
    /// # Errors
    ///
    /// Those of [`receive`](Self::receive).
    pub fn try_receive(&self, count_max: usize, invisible: Duration) -> Result<Vec<Lease>> {
        self.receive_until(count_max, invisible, None)
    }

    /// Says that a message has been handled. It never comes again: that survives the death of the process when this
    /// returns. Never blocks.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the receipt was used before, its time is over, or it is of another group: nothing has changed
    /// then. `Closed`; `Io`.
    #[doc(alias = "ackMessage")]
    pub fn ack(&self, receipt: &Receipt) -> Result<()> {
        self.shared.ack(receipt)
    }

    /// Acknowledges several messages, each with a result of its own, in the same order.
    #[doc(alias = "batchAck")]
    pub fn ack_all<'a>(&self, receipts: impl IntoIterator<Item = &'a Receipt>) -> Vec<Result<()>> {
        receipts.into_iter().map(|receipt| self.ack(receipt)).collect()
    }

    /// Leases a message for another time, from now on (up to 12 h): longer for who needs it, shorter for who gives up. With
    /// zero it comes again at once. Returns the receipt that is good from now on; the old one is not any more.
    ///
    /// # Errors
    ///
    /// Those of [`ack`](Self::ack), and `InvalidArgument` for a time that is too long.
    #[doc(alias = "changeInvisibleDuration")]
    #[doc(alias = "changePopInvisibleTime")]
    pub fn change_invisible(&self, receipt: &Receipt, invisible: Duration) -> Result<Receipt> {
        self.shared.change(receipt, invisible)
    }

    /// Gives a message up: a copy goes to the dead letters of the group, with the reason, and the message counts as
    /// handled. Blocks as a send does.
    ///
    /// # Errors
    ///
    /// Those of [`ack`](Self::ack), and those of a send: the message comes again 5 s later.
    #[doc(alias = "forwardMessageToDeadLetterQueue")]
    pub fn dead_letter(&self, receipt: &Receipt, reason: impl AsRef<str>) -> Result<()> {
        self.shared.dead_letter(receipt, reason.as_ref(), &self.own.retries)
    }

    fn receive_until(
        &self,
        count_max: usize,
        invisible: Duration,
        wait: Option<Duration>,
    ) -> Result<Vec<Lease>> {
        check_invisible(invisible, Duration::from_millis(1))?;
        let (leases, mut has_more) = self.look(count_max, invisible)?;
        let by_hand = self.shared.member.background() == Background::Manual;
        let Some(wait) = wait.filter(|wait| !wait.is_zero() && !by_hand && count_max > 0) else {
            return self.go_on(leases, has_more, (count_max, invisible));
        };
        if !leases.is_empty() {
            return Ok(leases);
        }
        let deadline = deadline_in(wait);
        let bed = Arc::new(Parker::default());
        let _listening = self.shared.member.listen(&bed);
        loop {
            bed.clear();
            // Looked at after the bed is listed: what arrives from here on wakes it.
            let leases;
            (leases, has_more) = self.look(count_max, invisible)?;
            if !leases.is_empty() || deadline.is_some_and(has_passed) {
                return Ok(leases);
            }
            if !has_more {
                bed.park_until(self.next_due().into_iter().chain(deadline).min());
            }
        }
    }

    /// Looks on as long as queues hold nothing but what nobody wants.
    fn go_on(
        &self,
        mut leases: Vec<Lease>,
        mut has_more: bool,
        (count_max, invisible): (usize, Duration),
    ) -> Result<Vec<Lease>> {
        while leases.is_empty() && has_more && count_max > 0 {
            (leases, has_more) = self.look(count_max, invisible)?;
        }
        Ok(leases)
    }

    /// Looks at each queue once, and at those again whose first message had to be put away.
    fn look(&self, count_max: usize, invisible: Duration) -> Result<(Vec<Lease>, bool)> {
        let mut leases: Vec<Lease> = Vec::new();
        let mut has_more = false;
        for desk in self.shared.desks()? {
            while leases.len() < count_max {
                let now = self.shared.now();
                let Own { retries, leases_max, .. } = self.own.as_ref();
                let (mode, tokens) = (self.shared.member.mode, &self.shared.tokens);
                let rules = GiveRules { mode, retries, tokens, leases_max: *leases_max, invisible, now };
                let found = desk.give(&rules, count_max.saturating_sub(leases.len()));
                let Look { given, given_up, has_more: more } = match found {
                    Ok(found) => found,
                    Err(error) if leases.is_empty() => return Err(error),
                    // What is leased is handed out; the error comes again.
                    Err(_) => return Ok((leases, false)),
                };
                has_more |= more;
                let lease = |given| Lease::new(&self.shared, &desk, given, retries);
                leases.extend(given.into_iter().map(lease));
                let again = self.put_away(&desk, given_up);
                self.shared.served(&desk);
                if !again {
                    break;
                }
            }
        }
        Ok((leases, has_more))
    }

    /// Has copies stored of what nobody gets any more, and says whether there was something and all of it is away.
    fn put_away(&self, desk: &Desk, given_up: Vec<GivenUp>) -> bool {
        let mut again = !given_up.is_empty();
        for one in given_up {
            let reason = one.reason;
            // What cannot be stored comes again, and so does the error.
            again &= self.shared.put_away(desk, &one, reason, &self.own.retries).is_ok();
        }
        again
    }

    fn next_due(&self) -> Option<Instant> {
        let (member, now) = (&self.shared.member, self.shared.member.now());
        let desks = self.shared.desks.lock();
        let ends = desks.by_queue.values().filter_map(|desk| desk.next_end(member.mode));
        let due = ends.map(|due| due.saturating_sub(now)).chain(member.next_due()).min();
        due.and_then(deadline_in)
    }
}

impl Shared {
    /// Opens the leases of a group whose only member this is.
    pub(super) fn open(member: Member) -> Result<Self> {
        let mut desks = Desks::default();
        for broker in member.group.cluster.brokers() {
            let leases = Leases::open(broker, member.group_name()).inspect_err(|_| member.leave())?;
            desks.leases.insert(broker.name().clone(), Arc::new(leases));
        }
        let shared = Self { member: Arc::new(member), tokens: Tokens::default(), desks: Mutex::new(desks) };
        // What was leased before the opening ends by the clock from here on.
        shared.desks()?;
        Ok(shared)
    }

    fn cluster(&self) -> &Cluster {
        &self.member.group.cluster
    }

    fn now(&self) -> Now {
        Now { monotonic: self.member.now(), wall_millis: self.member.wall_millis() }
    }

    /// Returns the queues, whose turn it is first.
    fn desks(&self) -> Result<Vec<Arc<Desk>>> {
        self.member.check_open()?;
        // Before the lock: listeners of the change may call the consumer.
        self.member.group.refresh(self.member.now())?;
        let mut desks = self.desks.lock();
        let known = desks.owned.version;
        self.member.group.update(&self.member.id, &mut desks.owned);
        if desks.owned.version != known
            && let Err(error) = self.replace(&mut desks)
        {
            desks.owned.version = None;
            return Err(error);
        }
        let Desks { by_queue, last, .. } = &*desks;
        let Some(last) = last else { return Ok(by_queue.values().cloned().collect()) };
        let behind = by_queue.values().filter(|desk| desk.queue() > last);
        Ok(behind.chain(by_queue.values().filter(|desk| desk.queue() <= last)).cloned().collect())
    }

    /// Brings the desks up to date with the queues that the group has.
    fn replace(&self, desks: &mut Desks) -> Result<()> {
        let now = self.now();
        let Desks { by_queue, leases, owned, .. } = desks;
        let is_there = |desk: &Desk| owned.lanes.iter().any(|(lane, _)| Arc::ptr_eq(lane, &desk.lane));
        by_queue.retain(|_, desk| {
            let stays = is_there(desk);
            if !stays {
                // The position was moved, or the topic is another one: what was leased is not any more.
                desk.forget();
            }
            stays
        });
        for (lane, _) in &owned.lanes {
            if let Some(leases) = leases.get(lane.queue.broker())
                && !by_queue.contains_key(&lane.queue)
            {
                by_queue.insert(lane.queue.clone(), Arc::new(Desk::open(lane, leases, now)?));
            }
        }
        Ok(())
    }

    /// Notes that a queue has had its turn.
    fn served(&self, desk: &Desk) {
        self.desks.lock().last = Some(desk.queue().clone());
    }

    fn desk(&self, receipt: &Receipt) -> Result<Arc<Desk>> {
        self.cluster().check_open()?;
        // Receipts of a topic that nobody has looked at since the opening are good too.
        let missing = !self.desks.lock().by_queue.contains_key(receipt.queue());
        if missing {
            self.desks()?;
        }
        let found = self.desks.lock().by_queue.get(receipt.queue()).cloned();
        found.ok_or_else(|| invalid(receipt))
    }

    pub(super) fn ack(&self, receipt: &Receipt) -> Result<()> {
        if !self.desk(receipt)?.acknowledge(receipt.place(), self.now())? {
            return Err(invalid(receipt));
        }
        // In order, the next message may be had now; and there is room for one more.
        self.member.wake();
        Ok(())
    }

    pub(super) fn change(&self, receipt: &Receipt, invisible: Duration) -> Result<Receipt> {
        check_invisible(invisible, Duration::ZERO)?;
        let token = self.tokens.next();
        if !self.desk(receipt)?.change(receipt.place(), (self.now(), invisible, token))? {
            return Err(invalid(receipt));
        }
        // Who sleeps has to wake earlier, or at once.
        self.member.wake();
        Ok(receipt.with(token))
    }

    pub(super) fn dead_letter(&self, receipt: &Receipt, reason: &str, retries: &Retries) -> Result<()> {
        let desk = self.desk(receipt)?;
        let given_up = desk.give_up(receipt.place(), self.now())?.ok_or_else(|| invalid(receipt))?;
        self.put_away(&desk, &given_up, reason, retries)
    }

    /// Has a copy stored among the dead letters. Blocks as a send does; no lock is held.
    fn put_away(&self, desk: &Desk, given_up: &GivenUp, reason: &str, retries: &Retries) -> Result<()> {
        let GivenUp { message, times, .. } = given_up;
        let sent = self.cluster().send_back(&Failed {
            broker: desk.lane.broker(),
            group: self.member.group_name(),
            message,
            times: *times,
            policy: retries.policy(),
            next: NextAttempt::DeadLetter,
            reason,
        });
        let again = sent.as_ref().err().map(|_| self.member.now().saturating_add(STORE_WAIT));
        let settled = desk.put_away(message.queue_offset(), again);
        self.member.wake();
        sent.map(drop).and(settled)
    }
}

fn check_invisible(invisible: Duration, min: Duration) -> Result<()> {
    if (min..=INVISIBLE_MAX).contains(&invisible) {
        return Ok(());
    }
    Err(Error::argument("invisible", format!("is {invisible:?}: {min:?} to 12 h are allowed")))
}

fn invalid(receipt: &Receipt) -> Error {
    let (queue, offset) = (receipt.queue(), receipt.offset());
    Error::InvalidReceipt(
        format!("of the message at {offset} of {queue}: it was used, its time is over, or it is not of this group; the message comes again unless it was acknowledged").into(),
    )
}

impl fmt::Debug for SimpleConsumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimpleConsumer").field("group", self.group()).finish_non_exhaustive()
    }
}
