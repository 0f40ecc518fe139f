//! How does a member of a group take messages, and what does it say of them?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Allocate, BrokerName, Clock as _, ConsumeContext, ConsumeOrderlyStatus, ConsumeStatus, Consumer,
    Delivery, HandlerOutcome, IntoHandlerOutcome as _, Lease, ManualClock, MessageQueue, MessageView,
    PullConsumer, PushConsumer, QueueOffset, SimpleConsumer, StartFrom, TopicName,
};

use crate::event::{Body, Event, History, Mode, Place, Receive};

/// The one broker.
pub(crate) const BROKER: &str = "broker-a";
/// The group that plays.
pub(crate) const GROUP: &str = "players";
/// After so many attempts a message is dead.
pub(crate) const ATTEMPTS_MAX: u32 = 4;
/// The waits between them, of RocketMQ's ladder.
const WAITS: [i64; 3] = [10_000, 30_000, 60_000];
/// How long an orderly queue rests.
const SUSPEND: i64 = 1_000;
/// How long a queue that is to change hands waits for what is in hand.
const HANDOVER: i64 = 20_000;
/// How long a message is leased.
const LEASE: Duration = Duration::from_secs(15);

/// Where everything is noted, by the run and by handlers.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) mode: Mode,
    /// From now on everything is handled.
    pub(crate) ending: Arc<Mutex<bool>>,
}

/// What is done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Handled,
    Fails,
    GivenUp,
}

/// A message in hand, as it was handed out.
struct Held<T> {
    receive: Receive,
    /// Its queue has gone to another since: nothing that is said counts.
    stale: bool,
    inner: T,
}

enum Member {
    Loop(Consumer, Vec<Held<Delivery>>),
    Push(PushConsumer),
    Simple(SimpleConsumer, Vec<Held<Lease>>),
    Pull(PullConsumer, Vec<Held<()>>),
}

/// A member of the group, and what it has.
pub(crate) struct Player {
    pub(crate) who: usize,
    /// Its queues, and since when it is to give one of them away.
    pub(crate) queues: BTreeMap<String, Option<i64>>,
    member: Member,
    recorder: Recorder,
}

pub(crate) fn name_of(queue: &MessageQueue) -> String {
    format!("{}/{}/{}", queue.broker(), queue.topic(), queue.queue_id())
}

/// Returns the number in a body, and whether the rest of it is what belongs to it.
pub(crate) fn number(body: &[u8]) -> (Body, bool) {
    let text = std::str::from_utf8(body).unwrap();
    let (number, rest) = text.split_once(' ').unwrap();
    let body = number.parse().unwrap();
    (body, rest == payload(body))
}

/// What is behind the number: other bytes and another length for each message.
pub(crate) fn payload(body: Body) -> String {
    format!("{:x}", body.wrapping_mul(0x9E37_79B9_7F4A_7C15)).repeat(1 + (body % 7) as usize)
}

impl Recorder {
    fn now(&self) -> i64 {
        self.clock.wall_millis()
    }

    pub(crate) fn note(&self, event: Event) {
        self.history.lock().unwrap().entries.push((self.now(), event));
    }

    fn received(
        &self,
        who: usize,
        message: &MessageView,
        (queue, at, attempt): (&MessageQueue, QueueOffset, u32),
        until: Option<i64>,
    ) -> Receive {
        let (body, intact) = number(message.raw_body());
        let place = Place { queue: name_of(queue), offset: at.get() };
        let tag = message.tag().to_owned();
        let receive = Receive { group: GROUP, member: who, body, intact, tag, place, attempt, until };
        self.note(Event::Received(receive.clone()));
        receive
    }

    fn said(&self, receive: &Receive, verdict: Verdict) {
        let Receive { group, member, body, ref place, attempt, .. } = *receive;
        let place = place.clone();
        self.note(match verdict {
            Verdict::Handled => Event::Acked { group, member, body, place },
            Verdict::GivenUp => Event::GivenUp { group, member, body, place },
            Verdict::Fails => {
                let wait = match self.mode {
                    Mode::Broadcast => 0,
                    _ if attempt >= ATTEMPTS_MAX => 0,
                    mode if mode.is_orderly() => SUSPEND,
                    _ => WAITS[attempt as usize - 1],
                };
                Event::Failed { group, member, body, place, not_before: self.now() + wait }
            }
        });
    }

    /// Some fail once, some until they are dead, and some are given up: the same ones in every run.
    fn verdict(&self, body: Body, attempt: u32) -> Verdict {
        if *self.ending.lock().unwrap() {
            return Verdict::Handled;
        }
        match body % 11 {
            3 if attempt == 1 => Verdict::Fails,
            5 => Verdict::Fails,
            // A handler in order has nothing to give up with.
            7 if attempt == 2 && self.mode != Mode::PushOrderly => Verdict::GivenUp,
            7 => Verdict::Fails,
            _ => Verdict::Handled,
        }
    }
}

impl Player {
    pub(crate) fn join(store: &TestStore, who: usize, tag: &str, recorder: &Recorder) -> Self {
        let name = format!("m{who}");
        let builder = store.consumer(GROUP).subscribe("orders", tag).max_retries(ATTEMPTS_MAX - 1);
        let builder = if recorder.mode.is_orderly() { builder.orderly() } else { builder };
        let strategy = if who.is_multiple_of(2) { Allocate::Sticky } else { Allocate::Averagely };
        let (notes, own) = (recorder.clone(), recorder.clone());
        let member = match recorder.mode {
            Mode::Broadcast => {
                let builder = builder.broadcast(&name).start_from(StartFrom::Earliest);
                Member::Loop(builder.build().unwrap(), Vec::new())
            }
            Mode::Loop | Mode::LoopOrderly => {
                Member::Loop(builder.instance(&name).allocate(strategy).build().unwrap(), Vec::new())
            }
            Mode::Push | Mode::PushOrderly => {
                let handle = move |messages: &[MessageView], context: &mut ConsumeContext<'_>| {
                    notes.handle(who, messages, context)
                };
                Member::Push(builder.instance(&name).allocate(strategy).listen_batch(2, 1, handle).unwrap())
            }
            Mode::Simple | Mode::SimpleOrderly => Member::Simple(builder.simple().unwrap(), Vec::new()),
            Mode::Pull => {
                let consumer = builder.instance(&name).allocate(strategy).pull().unwrap();
                consumer.commit_by_hand();
                Member::Pull(consumer, Vec::new())
            }
        };
        Self { who, queues: BTreeMap::new(), member, recorder: own }
    }

    /// Returns the names of the queues that the member has now.
    pub(crate) fn assignment(&self) -> Vec<String> {
        let queues = match &self.member {
            Member::Loop(consumer, _) => consumer.assignment().unwrap(),
            Member::Push(consumer) => consumer.assignment().unwrap(),
            Member::Pull(consumer, _) => consumer.assignment().unwrap(),
            Member::Simple(..) => Vec::new(),
        };
        queues.iter().map(name_of).collect()
    }

    /// Returns the queues that it was to give away, kept for want of another, and has again after its time was over.
    pub(crate) fn back_after_its_time(&mut self, now: &[String], millis: i64) -> Vec<String> {
        // What a pull consumer has polled and not committed waits for nobody: with the queue it has lost that at once.
        let kept_for = if matches!(self.member, Member::Pull(..)) { 0 } else { HANDOVER };
        let mut back = Vec::new();
        for (queue, leaving) in &mut self.queues {
            if !now.contains(queue) {
                leaving.get_or_insert(millis);
            } else if leaving.take().is_some_and(|since| millis - since >= kept_for) {
                back.push(queue.clone());
            }
        }
        back
    }

    /// What it has in hand of this queue counts for nothing from now on.
    pub(crate) fn lost(&mut self, queue: &str) {
        fn mark<T>(hand: &mut [Held<T>], queue: &str) {
            hand.iter_mut()
                .filter(|held| held.receive.place.queue == queue)
                .for_each(|held| held.stale = true);
        }
        match &mut self.member {
            Member::Loop(_, hand) => mark(hand, queue),
            Member::Pull(_, hand) => hand.retain(|held| held.receive.place.queue != queue),
            Member::Push(_) | Member::Simple(..) => {}
        }
    }

    /// Takes one message (or one page, or one batch of leases), if there is any.
    pub(crate) fn take(&mut self) -> bool {
        let (recorder, who) = (&self.recorder, self.who);
        match &mut self.member {
            Member::Loop(consumer, hand) => {
                let Some(inner) = consumer.try_recv().unwrap() else { return false };
                let from = (inner.queue(), inner.queue_offset(), inner.attempt());
                hand.push(Held { receive: recorder.received(who, &inner, from, None), stale: false, inner });
                true
            }
            Member::Push(_) => false,
            Member::Simple(consumer, hand) => {
                let leases = consumer.try_receive(3, LEASE).unwrap();
                let until = recorder.now() + LEASE.as_millis() as i64;
                let any = !leases.is_empty();
                for inner in leases {
                    let from = (inner.queue(), inner.queue_offset(), inner.attempt());
                    let receive = recorder.received(who, &inner, from, Some(until));
                    hand.push(Held { receive, stale: false, inner });
                }
                any
            }
            Member::Pull(consumer, hand) => {
                let page = consumer.poll(Duration::ZERO).unwrap();
                for message in &page {
                    let queue = MessageQueue::new(
                        TopicName::new(message.topic()).unwrap(),
                        BrokerName::new(BROKER).unwrap(),
                        message.queue_id(),
                    );
                    let receive = recorder.received(who, message, (&queue, message.queue_offset(), 1), None);
                    hand.push(Held { receive, stale: false, inner: () });
                }
                !page.is_empty()
            }
        }
    }

    /// Says something of what was taken first; a pull consumer commits everything.
    pub(crate) fn settle(&mut self) -> bool {
        let recorder = &self.recorder;
        match &mut self.member {
            Member::Loop(_, hand) => {
                if hand.is_empty() {
                    return false;
                }
                let Held { receive, stale, inner } = hand.remove(0);
                let verdict = recorder.verdict(receive.body, receive.attempt);
                // Too late, although nobody else has the queue yet.
                let leaving = self.queues.get(&receive.place.queue).copied().flatten();
                if !stale && leaving.is_none_or(|since| recorder.now() - since < HANDOVER) {
                    recorder.said(&receive, verdict);
                }
                match verdict {
                    Verdict::Handled => inner.ack().unwrap(),
                    Verdict::Fails => inner.fail("as planned").unwrap(),
                    Verdict::GivenUp => inner.dead_letter("as planned").unwrap(),
                }
            }
            Member::Simple(_, hand) => {
                if hand.is_empty() {
                    return false;
                }
                let Held { receive, inner, .. } = hand.remove(0);
                let verdict = recorder.verdict(receive.body, receive.attempt);
                let done = match verdict {
                    Verdict::Handled => inner.ack().is_ok(),
                    Verdict::GivenUp => inner.dead_letter("as planned").is_ok(),
                    // Its time runs out.
                    Verdict::Fails => false,
                };
                let in_time = receive.until.is_some_and(|until| recorder.now() < until);
                assert!(
                    done || !in_time || verdict == Verdict::Fails,
                    "a receipt in time is good: {receive:?}"
                );
                assert!(!done || in_time, "a receipt is not good after its time: {receive:?}");
                if done {
                    recorder.said(&receive, verdict);
                }
            }
            Member::Pull(consumer, hand) => {
                consumer.commit_offset().unwrap();
                hand.drain(..).for_each(|held| recorder.said(&held.receive, Verdict::Handled));
                return false;
            }
            Member::Push(_) => return false,
        }
        true
    }

    /// Leaves. What it has in hand counts as failed, or comes again when its time is over.
    pub(crate) fn leave(self) {
        if let Member::Loop(consumer, hand) = self.member {
            for Held { receive, stale, inner } in hand {
                let leaving = self.queues.get(&receive.place.queue).copied().flatten();
                if !stale && leaving.is_none_or(|since| self.recorder.now() - since < HANDOVER) {
                    self.recorder.said(&receive, Verdict::Fails);
                }
                drop(inner);
            }
            drop(consumer);
        }
        self.recorder.note(Event::Gone { group: GROUP, member: self.who });
    }

    /// Is gone, and says nothing of what it has in hand.
    pub(crate) fn die(self) {
        let Self { member, recorder, who, .. } = self;
        match member {
            Member::Loop(consumer, hand) => {
                std::mem::forget(hand);
                drop(consumer);
            }
            Member::Simple(consumer, hand) => {
                std::mem::forget(hand);
                drop(consumer);
            }
            Member::Push(consumer) => drop(consumer),
            Member::Pull(consumer, _) => drop(consumer),
        }
        recorder.note(Event::Gone { group: GROUP, member: who });
    }
}

impl Recorder {
    fn handle(
        &self,
        who: usize,
        messages: &[MessageView],
        context: &mut ConsumeContext<'_>,
    ) -> HandlerOutcome {
        let (queue, attempt) = (context.queue().clone(), context.attempts()[0]);
        let message = &messages[0];
        let receive = self.received(who, message, (&queue, message.queue_offset(), attempt), None);
        let verdict = self.verdict(receive.body, receive.attempt);
        self.said(&receive, verdict);
        if verdict == Verdict::GivenUp {
            context.dead_letter();
        }
        match (self.mode.is_orderly(), verdict) {
            (true, Verdict::Handled) => ConsumeOrderlyStatus::Success.into_handler_outcome(),
            (true, _) => ConsumeOrderlyStatus::SuspendCurrentQueueAMoment.into_handler_outcome(),
            (false, Verdict::Handled) => ConsumeStatus::Success.into_handler_outcome(),
            (false, _) => ConsumeStatus::ReconsumeLater.into_handler_outcome(),
        }
    }
}
