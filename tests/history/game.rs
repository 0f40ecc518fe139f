//! How does a store go through members that come, go, die and are slow, and through its own death?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use pocketmq::testing::TestStore;
use pocketmq::{Clock as _, Filter, Message, MessageQueue, Producer, QueueOffset, TopicConfig};
use proptest::prelude::*;

use crate::event::{Answer, Body, Event, History, Mode, Place, Rules};
use crate::player::{ATTEMPTS_MAX, GROUP, Player, Recorder, name_of, number, payload};

const QUEUES: u32 = 3;
const TAGS: [&str; 2] = ["even", "odd"];
/// How many keys the messages share.
const KEYS: u64 = 5;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Move {
    Join(usize),
    Leave(usize),
    /// The member is gone and says nothing more.
    Die(usize),
    Take(usize, usize),
    Settle(usize, usize),
    Send(usize),
    /// 50 ms: what a member needs for one thing or another.
    Tick,
    Wait(u64),
    /// The process dies, and every member with it.
    Crash,
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let who = 0_usize..4;
    let one = prop_oneof![
        3 => who.clone().prop_map(Move::Join),
        1 => who.clone().prop_map(Move::Leave),
        1 => who.clone().prop_map(Move::Die),
        6 => (who.clone(), 1_usize..6).prop_map(|(who, count)| Move::Take(who, count)),
        6 => (who, 1_usize..6).prop_map(|(who, count)| Move::Settle(who, count)),
        4 => (1_usize..6).prop_map(Move::Send),
        4 => Just(Move::Tick),
        2 => (1_u64..25).prop_map(Move::Wait),
        1 => Just(Move::Crash),
    ];
    proptest::collection::vec(one, 20..120)
}

pub(crate) struct Game {
    store: Option<TestStore>,
    producers: Vec<Producer>,
    players: BTreeMap<usize, Player>,
    tag: Option<&'static str>,
    recorder: Recorder,
    sent: Body,
    /// The members that have ever been there: every broadcasting instance is to get everything.
    known: BTreeSet<usize>,
}

impl Game {
    pub(crate) fn new(mode: Mode, tag: Option<&'static str>) -> Self {
        let store = TestStore::new();
        store.create_topic("orders", TopicConfig::queues(QUEUES)).unwrap();
        let rules = Rules { mode, tag, attempts_max: ATTEMPTS_MAX };
        let history = History { groups: [(GROUP, rules)].into(), ..History::default() };
        let recorder = Recorder {
            history: Arc::new(Mutex::new(history)),
            clock: Arc::clone(store.clock()),
            mode,
            ending: Arc::default(),
        };
        let producers = producers(&store);
        let (players, known) = (BTreeMap::new(), BTreeSet::new());
        Self { store: Some(store), producers, players, tag, recorder, sent: 0, known }
    }

    /// Makes all moves, brings everything to its end, and returns what happened.
    pub(crate) fn play(mut self, moves: &[Move]) -> History {
        for step in moves {
            let begun = Instant::now();
            self.make(*step);
            self.recorder.note(Event::Called { what: "a move", millis: begun.elapsed().as_millis() });
        }
        self.end();
        self.look();
        let history = self.recorder.history.lock().unwrap();
        history.clone()
    }

    fn store(&self) -> &TestStore {
        self.store.as_ref().unwrap()
    }

    fn make(&mut self, step: Move) {
        match step {
            Move::Join(who) => self.join(who),
            Move::Leave(who) => self.players.remove(&who).into_iter().for_each(Player::leave),
            Move::Die(who) => self.players.remove(&who).into_iter().for_each(Player::die),
            Move::Take(who, count) => self.each(who, count, Player::take),
            Move::Settle(who, count) => self.each(who, count, Player::settle),
            Move::Send(count) => (0..count).for_each(|_| self.send()),
            Move::Tick => self.store().advance(Duration::from_millis(50)).unwrap(),
            Move::Wait(seconds) => self.store().advance(Duration::from_secs(seconds)).unwrap(),
            Move::Crash => self.crash(),
        }
        self.watch();
        self.store().step().unwrap();
        self.watch();
    }

    fn join(&mut self, who: usize) {
        if !self.players.contains_key(&who) {
            let player = Player::join(self.store(), who, self.tag.unwrap_or("*"), &self.recorder);
            self.players.insert(who, player);
            self.known.insert(who);
        }
    }

    /// Lets a member do one thing up to so many times, and looks at who has which queue after each.
    fn each(&mut self, who: usize, count: usize, action: impl Fn(&mut Player) -> bool) {
        for _ in 0..count {
            if !self.players.get_mut(&who).is_some_and(&action) {
                return;
            }
            self.watch();
        }
    }

    fn send(&mut self) {
        self.sent += 1;
        let body = self.sent;
        let producer = (body / 3 % 2) as usize;
        let tag = TAGS[(body.wrapping_mul(7) / 5 % 2) as usize];
        let key = format!("key-{}", body % KEYS);
        let text = format!("{body} {}", payload(body));
        let message = Message::new("orders", text).tag(tag).key(&key);
        let receipt = self.producers[producer].send(message).unwrap();
        let place = Place { queue: name_of(receipt.queue()), offset: receipt.queue_offset().get() };
        self.recorder.history.lock().unwrap().keys.insert(body, key);
        let (producer, tag) = (producer as u32, tag.to_owned());
        self.recorder.note(Event::Sent { producer, body, tag, place, answer: Answer::Stored });
    }

    fn crash(&mut self) {
        let dead: Vec<_> = std::mem::take(&mut self.players).into_values().collect();
        self.producers.clear();
        let folder = self.store.take().unwrap().kill_into_folder();
        // The dead say nothing: what they had in hand is forgotten.
        dead.into_iter().for_each(Player::die);
        let store = folder.open().unwrap();
        self.producers = producers(&store);
        self.store = Some(store);
        self.recorder.note(Event::Reopened);
        self.note_positions();
    }

    /// Notes whose queues have changed. A member that is to give a queue away may say what it has in hand of it until the
    /// other one has it: until then the queue is still its own.
    fn watch(&mut self) {
        let now: BTreeMap<usize, Vec<String>> =
            self.players.iter().map(|(who, player)| (*who, player.assignment())).collect();
        let has = |who: usize, queue: &str| now[&who].iter().any(|other| other == queue);
        for (who, queue) in now.iter().flat_map(|(who, queues)| queues.iter().map(|queue| (*who, queue))) {
            if self.players[&who].queues.contains_key(queue) {
                continue;
            }
            for player in self.players.values_mut().filter(|player| !has(player.who, queue)) {
                if player.queues.remove(queue).is_some() {
                    player.lost(queue);
                    let queue = queue.clone();
                    self.recorder.note(Event::Released { group: GROUP, member: player.who, queue });
                }
            }
            self.recorder.note(Event::Assigned { group: GROUP, member: who, queue: queue.clone() });
            self.players.get_mut(&who).unwrap().queues.insert(queue.clone(), None);
        }
        let millis = self.recorder.clock.wall_millis();
        for player in self.players.values_mut() {
            for queue in player.back_after_its_time(&now[&player.who], millis) {
                let (group, member) = (GROUP, player.who);
                player.lost(&queue);
                self.recorder.note(Event::Released { group, member, queue: queue.clone() });
                self.recorder.note(Event::Assigned { group, member, queue });
            }
        }
        self.note_positions();
    }

    fn queues(&self) -> Vec<MessageQueue> {
        self.store().queues("orders").unwrap()
    }

    fn note_positions(&self) {
        if self.recorder.mode == Mode::Broadcast {
            return;
        }
        for queue in self.queues() {
            if let Some(offset) = self.store().committed(GROUP, &queue).unwrap() {
                let (queue, offset) = (name_of(&queue), offset.get());
                self.recorder.note(Event::Committed { group: GROUP, queue, offset });
            }
        }
    }

    /// Nobody is slow any more, and everything is handled.
    fn end(&mut self) {
        self.crash();
        *self.recorder.ending.lock().unwrap() = true;
        let last = if self.recorder.mode == Mode::Broadcast { self.known.clone() } else { [9].into() };
        last.iter().for_each(|who| self.join(*who));
        self.watch();
        for _ in 0..8 {
            // Longer than any lease and any wait of the ladder.
            self.make(Move::Wait(61));
            for who in &last {
                while self.players.get_mut(who).is_some_and(Player::take) {
                    self.watch();
                    self.each(*who, usize::MAX, Player::settle);
                }
                self.each(*who, usize::MAX, Player::settle);
            }
        }
    }

    /// Looks at everything that is there.
    fn look(&self) {
        let store = self.store();
        for queue in self.queues() {
            // A queue that nothing has gone to does not exist yet.
            let Some(range) = store.queue_offsets(&queue) else { continue };
            let mut found = Vec::new();
            let mut at = range.start;
            while at < range.end {
                let page = store.pull(&queue, &Filter::all(), at, 32).unwrap();
                found.extend(page.messages.iter().map(|message| {
                    (message.queue_offset().get(), number(message.raw_body()).0, message.store_millis())
                }));
                at = page.next_offset;
            }
            let name = name_of(&queue);
            let times: BTreeSet<i64> =
                found.iter().flat_map(|(_, _, stored)| [*stored, *stored + 1]).collect();
            let (min, max) = (range.start.get(), range.end.get());
            self.recorder.note(Event::Scanned { queue: name.clone(), min, max, found });
            for millis in times {
                let time = UNIX_EPOCH + Duration::from_millis(millis as u64);
                let offset = store.offset_at(&queue, time).unwrap().get();
                self.recorder.note(Event::Searched { queue: name.clone(), millis, offset });
            }
        }
        for key in (0..KEYS).map(|key| format!("key-{key}")) {
            let found = store.query_by_key("orders", &key).limit(100_000).fetch().unwrap();
            let found: BTreeSet<Body> = found.iter().map(|message| number(message.raw_body()).0).collect();
            if !found.is_empty() || self.sent >= KEYS {
                self.recorder.note(Event::FoundByKey { key, found });
            }
        }
        let dead = store.dead_letters(GROUP).unwrap().list(100_000).unwrap();
        let found = dead.iter().map(|message| number(message.raw_body()).0).collect();
        self.recorder.note(Event::DeadLetters { group: GROUP, found });
        self.note_positions();
        self.all_is_committed();
    }

    /// In the end the group is at the end of every queue.
    fn all_is_committed(&self) {
        if self.recorder.mode == Mode::Broadcast || self.sent == 0 {
            return;
        }
        for queue in self.queues() {
            let Some(end) = self.store().queue_offsets(&queue).map(|range| range.end) else { continue };
            let at = self.store().committed(GROUP, &queue).unwrap().unwrap_or(QueueOffset::ZERO);
            // What a filter leaves out behind the last message that it takes need not be passed.
            assert!(at == end || self.tag.is_some(), "{queue} is at {at} of {end}");
        }
    }
}

fn producers(store: &TestStore) -> Vec<Producer> {
    ["first", "second"].iter().map(|name| store.producer(name).unwrap()).collect()
}
