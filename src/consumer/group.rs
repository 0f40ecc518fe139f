//! Who are the members of a group, which queues does each have, and how does it learn of a change?
//!
//! A group is what its members share: the terms that they agree on, the map of owners, and the lanes. Every change acts
//! at once: whoever joins, leaves or finds a topic changed divides the queues anew and wakes the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::lane::Lane;
use super::seen::Seen;
use super::settings::{Kind, Mode, QueueChange, QueueListener, Settings, StartFrom, Terms};
use super::simple::Shared as Leased;
use crate::broker::PositionKey;
use crate::cluster::{Aim, Candidate, Claims, Cluster, MemberId, RouteQueue, targets};
use crate::error::{Error, Result};
use crate::sync::{Arrivals, AtomicU64, Mutex, Ordering};
use crate::types::{GroupName, MessageQueue, QueueOffset, TopicName};

/// No version of the topics, and no deadline.
const NEVER: u64 = u64::MAX;

/// What the members of one group share.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) cluster: Arc<Cluster>,
    pub(super) name: GroupName,
    /// The name under which positions are kept: the group's, or that of one instance of a broadcasting group.
    keeper: GroupName,
    state: Mutex<State>,
    /// Raised whenever a queue changes hands.
    version: AtomicU64,
    /// The version of the topics from which the lanes were made.
    topics: AtomicU64,
    /// When the next owner's time is up, in nanoseconds of the monotonic clock.
    deadline: AtomicU64,
    /// Wakes all members.
    pub(super) changes: Arrivals,
    announcements: Mutex<Announcements>,
    /// What its simple consumers share, where it has any.
    pub(super) leased: Mutex<Weak<Leased>>,
}

#[derive(Debug, Default)]
struct State {
    terms: Option<Terms>,
    members: BTreeMap<MemberId, Entry>,
    claims: Claims,
    /// Sorted, so the queues of one topic lie together.
    lanes: BTreeMap<MessageQueue, Arc<Lane>>,
    seen: Seen,
    handover_timeout: Duration,
}

/// A member as its group knows it.
struct Entry {
    candidate: Candidate,
    listener: Option<QueueListener>,
    /// What the listener was told last.
    told: BTreeMap<TopicName, Vec<MessageQueue>>,
}

/// What listeners are still to be told, in order.
#[derive(Default)]
struct Announcements {
    queue: VecDeque<(QueueListener, QueueChange)>,
    /// Somebody is telling.
    is_busy: bool,
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Entry").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Announcements {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Announcements").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

/// The lanes that a member owns, each with the epoch with which it may take from it.
#[derive(Debug, Default)]
pub(super) struct Owned {
    pub(super) lanes: Vec<(Arc<Lane>, u64)>,
    /// How many of them are of each topic.
    queues: HashMap<TopicName, usize>,
    pub(super) version: Option<u64>,
}

impl Owned {
    /// Returns how many queues of a lane's topic the member has.
    pub(super) fn queues_of(&self, lane: &Lane) -> usize {
        self.queues.get(lane.queue.topic()).copied().unwrap_or(1)
    }
}

impl Group {
    pub(super) fn new(cluster: Arc<Cluster>, name: GroupName, keeper: GroupName) -> Self {
        Self {
            cluster,
            name,
            keeper,
            state: Mutex::default(),
            version: AtomicU64::new(0),
            topics: AtomicU64::new(NEVER),
            deadline: AtomicU64::new(NEVER),
            changes: Arrivals::default(),
            announcements: Mutex::default(),
            leased: Mutex::default(),
        }
    }

    /// Takes in a member. Where the group starts is on disk when this returns (contract V9).
    ///
    /// # Errors
    ///
    /// `InvalidConfig` where the group has other terms or a member of that name, or where the member's own strategy
    /// fails; what making positions fails with. Nothing has changed then.
    pub(super) fn join(
        &self,
        id: &MemberId,
        terms: &Terms,
        settings: &Settings,
        start: StartFrom,
    ) -> Result<()> {
        let mut state = self.state.lock();
        self.agree(&mut state, id, terms)?;
        let version = self.cluster.version();
        self.update_lanes(&mut state, start)?;
        state.handover_timeout = settings.handover_timeout;
        let candidate = Candidate { id: Arc::clone(id), strategy: Arc::clone(&settings.strategy) };
        let (listener, told) = (settings.queue_listener.clone(), BTreeMap::new());
        state.members.insert(Arc::clone(id), Entry { candidate, listener, told });
        let failed = self.divide(&mut state);
        self.topics.store(version, Ordering::Release);
        drop(state);
        let synced =
            failed.into_iter().find(|(member, _)| member == id).map_or(Ok(()), |(_, error)| Err(error));
        let synced = synced.and_then(|()| {
            // The start is durable before anybody can rely on it.
            self.cluster.brokers().iter().try_for_each(|broker| broker.positions().sync())
        });
        match synced {
            Ok(()) => self.announce(),
            Err(_) => self.leave(id),
        }
        synced
    }

    /// Checks that somebody fits the members that there are (contract V7).
    pub(super) fn check_terms(&self, terms: &Terms) -> Result<()> {
        match &self.state.lock().terms {
            Some(agreed) if agreed != terms => Err(differing(&self.name, agreed, terms)),
            _ => Ok(()),
        }
    }

    /// Checks that a member fits the others (contract V7). The first one says what the group consumes.
    fn agree(&self, state: &mut State, id: &MemberId, terms: &Terms) -> Result<()> {
        if state.members.contains_key(id) {
            let reason =
                format!("{:?} has a member {id:?} already: name each instance differently", self.name);
            return Err(Error::config("instance", reason));
        }
        match &state.terms {
            Some(agreed) if agreed == terms => {}
            Some(agreed) if !state.members.is_empty() => return Err(differing(&self.name, agreed, terms)),
            _ => {
                for (_, lane) in std::mem::take(&mut state.lanes) {
                    lane.change(|_| crate::cluster::Gate::Shut);
                }
                state.claims = Claims::default();
                state.seen = Seen::open(&self.cluster, &self.keeper, terms.same)?;
                state.terms = Some(terms.clone());
            }
        }
        Ok(())
    }

    /// Lets a member go: its queues are divided among the others, those of which it has messages in hand as soon as it
    /// has finished these.
    pub(super) fn leave(&self, id: &MemberId) {
        let mut state = self.state.lock();
        if state.members.remove(id).is_some() {
            // What the strategies of others fail with is theirs: they keep what they have.
            let _ = self.divide(&mut state);
        }
        drop(state);
        self.announce();
    }

    /// Brings everything up to date: the queues with the topics, the owners with their deadlines. Costs two loads when
    /// nothing has changed.
    pub(super) fn refresh(&self, now: Duration) -> Result<()> {
        let version = self.cluster.version();
        let is_overdue = self.deadline.load(Ordering::Acquire) <= nanos(now);
        if self.topics.load(Ordering::Acquire) == version && !is_overdue {
            return Ok(());
        }
        let mut state = self.state.lock();
        let is_retiring = |lane: &Arc<Lane>| lane.retires_at().is_some_and(|until| until <= now);
        let retires = is_overdue && state.lanes.values().any(is_retiring);
        if retires || self.topics.load(Ordering::Acquire) != version {
            // Whatever turns up later starts at its beginning: nothing that is sent after `build` is skipped.
            self.update_lanes(&mut state, StartFrom::Earliest)?;
            let _ = self.divide(&mut state);
            self.topics.store(version, Ordering::Release);
        }
        for queue in state.claims.overdue(now) {
            let State { lanes, claims, .. } = &mut *state;
            if let Some(lane) = lanes.get(&queue) {
                lane.change(|_| claims.let_go(&queue));
            }
            self.changed(&mut state);
        }
        drop(state);
        self.announce();
        Ok(())
    }

    /// Notes that nothing of a queue is in hand any more, which is to change hands.
    pub(super) fn let_go(&self, lane: &Arc<Lane>) {
        let mut state = self.state.lock();
        let State { lanes, claims, .. } = &mut *state;
        if !lanes.get(&lane.queue).is_some_and(|known| Arc::ptr_eq(known, lane)) {
            return;
        }
        if lane.retires_at().is_some() {
            // The one that takes its place begins where the position was moved to. What fails is tried by the next look.
            if self.update_lanes(&mut state, StartFrom::Earliest).is_ok() {
                let _ = self.divide(&mut state);
            }
            drop(state);
            return self.announce();
        }
        lane.change(|is_busy| if is_busy { claims.gate(&lane.queue) } else { claims.let_go(&lane.queue) });
        self.changed(&mut state);
        drop(state);
        self.announce();
    }

    /// Divides the queues anew, and returns the strategies that failed.
    fn divide(&self, state: &mut State) -> Vec<(MemberId, Error)> {
        let candidates: Vec<_> = state.members.values().map(|entry| entry.candidate.clone()).collect();
        let wanted = targets(&candidates, &by_topic(state.lanes.keys()), &state.claims.owners());
        let until = self.cluster.clock().monotonic().saturating_add(state.handover_timeout);
        let State { lanes, claims, .. } = state;
        for (queue, lane) in lanes.iter() {
            lane.change(|busy| claims.aim(queue, Aim { target: wanted.of.get(queue), busy, until }));
        }
        self.changed(state);
        wanted.failed
    }

    /// Notes that owners have changed: members look again, and listeners are going to be told.
    fn changed(&self, state: &mut State) {
        let retiring = state.lanes.values().filter_map(|lane| lane.retires_at());
        let deadline = retiring.chain(state.claims.next_deadline()).min().map_or(NEVER, nanos);
        self.deadline.store(deadline, Ordering::Release);
        // Ordering: after the gates; who sees the new number finds the new owners under the lock.
        self.version.fetch_add(1, Ordering::AcqRel);
        let State { members, lanes, claims, .. } = state;
        for (id, entry) in members.iter_mut() {
            let Some(listener) = &entry.listener else { continue };
            let mut owned: BTreeMap<_, Vec<MessageQueue>> = BTreeMap::new();
            for (queue, _) in claims.owned_by(id) {
                owned.entry(queue.topic().clone()).or_default().push(queue.clone());
            }
            for all in by_topic(lanes.keys()) {
                let Some(topic) = all.first().map(|queue| queue.topic().clone()) else { continue };
                let assigned = owned.get(&topic).cloned().unwrap_or_default();
                if entry.told.get(&topic).is_none_or(|told| *told != assigned) {
                    entry.told.insert(topic.clone(), assigned.clone());
                    let change = QueueChange { topic, all, assigned };
                    self.announcements.lock().queue.push_back((Arc::clone(listener), change));
                }
            }
        }
    }

    /// Wakes the members, and tells listeners what has changed, in order, with no lock held.
    fn announce(&self) {
        self.changes.notify();
        {
            let mut announcements = self.announcements.lock();
            if std::mem::replace(&mut announcements.is_busy, true) {
                return;
            }
        }
        loop {
            let mut announcements = self.announcements.lock();
            let Some((listener, change)) = announcements.queue.pop_front() else {
                announcements.is_busy = false;
                return;
            };
            drop(announcements);
            // A listener is anybody's code: its panic must not keep the others from being told.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| listener(&change)));
        }
    }

    /// Brings a member's list of lanes up to date.
    pub(super) fn update(&self, id: &MemberId, owned: &mut Owned) {
        if owned.version == Some(self.version.load(Ordering::Acquire)) {
            return;
        }
        let state = self.state.lock();
        let lanes = state.claims.owned_by(id);
        owned.lanes =
            lanes.filter_map(|(queue, epoch)| Some((Arc::clone(state.lanes.get(queue)?), epoch))).collect();
        owned.queues.clear();
        for (lane, _) in &owned.lanes {
            let count = owned.queues.entry(lane.queue.topic().clone()).or_default();
            *count = count.saturating_add(1);
        }
        owned.version = Some(self.version.load(Ordering::Acquire));
    }

    /// Returns the queues that a member has.
    pub(super) fn assignment(&self, id: &MemberId) -> Vec<MessageQueue> {
        self.state.lock().claims.owned_by(id).map(|(queue, _)| queue.clone()).collect()
    }

    /// Returns the names of all members, sorted.
    pub(super) fn members(&self) -> Vec<String> {
        self.state.lock().members.keys().map(ToString::to_string).collect()
    }

    /// Returns when the time of an owner is up that has to let go.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match self.deadline.load(Ordering::Acquire) {
            NEVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Returns under which key the position in a queue is kept.
    pub(super) fn key(&self, queue: &MessageQueue) -> PositionKey {
        let (topic, group) = (queue.topic().clone(), self.keeper.clone());
        PositionKey { topic, group, queue_id: queue.queue_id() }
    }

    /// Brings the lanes up to date with the topics. A queue in which the group has no position starts where `start`
    /// says.
    fn update_lanes(&self, state: &mut State, start: StartFrom) -> Result<()> {
        let Some(terms) = state.terms.clone() else { return Ok(()) };
        let now = self.cluster.clock().monotonic();
        let until = now.saturating_add(state.handover_timeout);
        let in_order = terms.mode == Mode::Orderly;
        let mut gone: BTreeMap<_, _> = std::mem::take(&mut state.lanes);
        let made = terms.subscriptions.iter().try_for_each(|wanted| {
            let Some(route) = self.cluster.route(wanted.topic.as_str()) else {
                return self.expect(&wanted.topic, start);
            };
            route.check_readable()?;
            // A group that knows the topic reads queues that are new to it from their beginning. What it sent back is
            // its own (RocketMQ starts at 0 there too).
            let has_position =
                |entry: &RouteQueue| entry.broker.positions().get(&self.key(entry.queue())).is_some();
            let knows = wanted.topic.is_retry() || route.read.iter().any(has_position);
            let start = if knows { StartFrom::Earliest } else { start };
            for entry in &route.read {
                // One whose position was reset starts anew, as one whose topic was deleted and made again does.
                let is_same = |lane: &&Arc<Lane>| Arc::ptr_eq(&lane.topic, &entry.topic) && lane.is_current();
                let known = gone.get(entry.queue());
                // In order, one whose position was moved ends when nobody has a message of it any more.
                let is_ours = |lane: &&Arc<Lane>| Arc::ptr_eq(&lane.topic, &entry.topic) && in_order;
                let retires = known
                    .filter(is_ours)
                    .is_some_and(|lane| !lane.is_current() && lane.is_retiring(now, until));
                let known = known.filter(|lane| retires || is_same(lane));
                let lane = match known.cloned() {
                    Some(known) => {
                        gone.remove(entry.queue());
                        known
                    }
                    None => {
                        let seen = state.seen.clone();
                        Arc::new(Lane::new(entry, &wanted.filter, self.position(entry, start)?, seen))
                    }
                };
                state.lanes.insert(entry.queue().clone(), lane);
            }
            Ok(())
        });
        if made.is_err() {
            // As it was: what could not be made is tried again by the next look.
            state.lanes.append(&mut gone);
            return made;
        }
        for (queue, lane) in gone {
            lane.change(|_| crate::cluster::Gate::Shut);
            state.claims.remove(&queue);
        }
        Ok(())
    }

    fn position(&self, entry: &RouteQueue, start: StartFrom) -> Result<Arc<crate::broker::Position>> {
        let (positions, key) = (entry.broker.positions(), self.key(entry.queue()));
        match positions.get(&key) {
            Some(position) => Ok(position),
            None => positions.position(&key, super::builder::first_offset(entry, start)?),
        }
    }

    /// Notes that the group waits for a topic that does not exist yet: everything that will be sent to it comes after
    /// this, so it is read from its beginning, also if the process dies in between.
    fn expect(&self, topic: &TopicName, start: StartFrom) -> Result<()> {
        if start == StartFrom::Earliest || topic.is_retry() {
            return Ok(());
        }
        for broker in self.cluster.brokers() {
            let key = self.key(&MessageQueue::new(topic.clone(), broker.name().clone(), 0));
            broker.positions().position(&key, QueueOffset::ZERO)?;
        }
        Ok(())
    }
}

/// Sorted queues, a list for each topic.
fn by_topic<'a>(queues: impl Iterator<Item = &'a MessageQueue>) -> Vec<Vec<MessageQueue>> {
    let mut topics: Vec<Vec<MessageQueue>> = Vec::new();
    for queue in queues {
        match topics.last_mut() {
            Some(topic) if topic.first().is_some_and(|first| first.topic() == queue.topic()) => {
                topic.push(queue.clone())
            }
            _ => topics.push(vec![queue.clone()]),
        }
    }
    topics
}

/// Says in which way a member does not fit its group (contract V7), and how to mend it.
fn differing(group: &GroupName, agreed: &Terms, asked: &Terms) -> Error {
    if agreed.kind != asked.kind {
        let name = |kind| match kind {
            Kind::Handed => "have messages handed to them",
            Kind::Pulled => "pull",
            Kind::Leased => "lease messages",
        };
        let (is, wants) = (name(agreed.kind), name(asked.kind));
        let reason = format!(
            "consumers of group {group:?} {is}, and another one asked to {wants}: make it as those are, or name another group"
        );
        return Error::config("group", reason);
    }
    if agreed.mode != asked.mode {
        let name = |mode| match mode {
            Mode::Concurrent => "concurrently",
            Mode::Orderly => "in order",
        };
        let (is, wants) = (name(agreed.mode), name(asked.mode));
        return Error::config(
            "orderly",
            format!("group {group:?} consumes {is}; a second member asked to consume {wants}"),
        );
    }
    if agreed.same != asked.same {
        return Error::config(
            "deduplicate",
            format!("the members of group {group:?} must all hand out what was handled again, or none"),
        );
    }
    let filter = |terms: &Terms, topic: &TopicName| {
        let wanted = terms.subscriptions.iter().find(|wanted| wanted.topic == *topic);
        wanted.map_or_else(|| "nothing of it".to_owned(), |wanted| format!("{:?}", wanted.filter.to_string()))
    };
    let mut topics = agreed.subscriptions.iter().chain(&asked.subscriptions).map(|wanted| &wanted.topic);
    let topic = topics.find(|topic| filter(agreed, topic) != filter(asked, topic));
    let topic = topic.or_else(|| agreed.subscriptions.first().map(|wanted| &wanted.topic));
    let reason = topic.map_or_else(String::new, |topic| {
        let (is, wants) = (filter(agreed, topic), filter(asked, topic));
        format!(
            "group {group:?} already subscribes \"{topic}\" to {is}; a second member asked for {wants}: subscribe alike, or name another group"
        )
    });
    Error::config("subscribe", reason)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER)
}
