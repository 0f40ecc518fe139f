//! Do the members of a group divide its queues, and does a queue change hands without a message lost or handed out twice?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Allocate, Consumer, Delivery, Error, Message, MessageQueue, QueueChange, QueueOffset, Store, TopicConfig,
};
use proptest::prelude::*;

fn store_with(queues: u32) -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(queues)).unwrap();
    store
}

/// Sends `count` messages to each queue, the body naming queue and number.
fn send(store: &Store, from: usize, count: usize) {
    let producer = store.producer("senders").unwrap();
    for n in from..from + count {
        for queue in store.queues("orders").unwrap() {
            let body = format!("{}-{n:04}", queue.queue_id());
            producer.send_to(&queue, Message::new("orders", body)).unwrap();
        }
    }
}

fn member(store: &Store, name: &str) -> Consumer {
    store.consumer("billing").subscribe("orders", "*").instance(name).build().unwrap()
}

fn drain(consumer: &Consumer) -> Vec<String> {
    let mut bodies = Vec::new();
    consumer.drain(|message| bodies.push(message.body_str().unwrap().into_owned())).unwrap();
    bodies
}

fn ids(consumer: &Consumer) -> Vec<u32> {
    consumer.assignment().unwrap().iter().map(MessageQueue::queue_id).collect()
}

#[test]
fn t_c9_t_c1_each_message_goes_to_one_member_and_every_member_has_its_share() {
    let store = store_with(9);
    send(&store, 0, 20);
    let members = ["a", "b", "c"].map(|name| member(&store, name));
    assert_eq!(members.each_ref().map(ids), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8]]);
    let shares = members.each_ref().map(drain);
    assert_eq!(shares.each_ref().map(Vec::len), [60, 60, 60], "F90: balance is by queues");
    let all: BTreeSet<_> = shares.iter().flatten().collect();
    assert_eq!(all.len(), 180);
}

#[test]
fn f86_more_members_than_queues_leave_some_without_and_they_are_told_so() {
    let store = store_with(2);
    let members = ["a", "b", "c"].map(|name| member(&store, name));
    assert_eq!(members.each_ref().map(ids), [vec![0], vec![1], vec![]]);
    assert_eq!(members[0].members(), ["a", "b", "c"]);
    send(&store, 0, 3);
    assert_eq!(drain(&members[2]).len(), 0);
    let [first, _second, third] = members;
    drop(first);
    assert_eq!(ids(&third), [1], "F83: at once, without a tick");
    assert_eq!(drain(&third).len(), 3);
}

#[test]
fn t_c3_t_c4_t_c7_what_a_member_leaves_goes_to_the_others() {
    let store = store_with(6);
    send(&store, 0, 10);
    let [first, second, third] = ["a", "b", "c"].map(|name| member(&store, name));
    let mut seen = [drain(&first), drain(&second)].concat();
    let half: Vec<_> = (0..5).map(|_| third.recv().unwrap()).collect();
    seen.extend(half.iter().map(|message| message.body_str().unwrap().into_owned()));
    half.into_iter().for_each(|message| message.ack().unwrap());
    drop(third);
    send(&store, 10, 10);
    let (rest_of_first, rest_of_second) = (drain(&first), drain(&second));
    assert_eq!(rest_of_first.len() + rest_of_second.len(), 75);
    seen.extend(rest_of_first.into_iter().chain(rest_of_second));
    assert_eq!(seen.len(), 120, "nothing is delivered twice (V5)");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 120, "and nothing is lost");
}

#[test]
fn t_c6_a_member_that_joins_takes_its_share_of_what_is_to_come() {
    let store = store_with(4);
    send(&store, 0, 5);
    let first = member(&store, "a");
    let mut seen: Vec<_> = (0..7)
        .map(|_| first.recv().unwrap())
        .map(|message| {
            let body = message.body_str().unwrap().into_owned();
            message.ack().unwrap();
            body
        })
        .collect();
    let second = member(&store, "b");
    assert_eq!((ids(&first), ids(&second)), (vec![0, 1], vec![2, 3]));
    seen.extend(drain(&second));
    seen.extend(drain(&first));
    assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (20, 20));
}

#[test]
fn f88_a_queue_with_a_message_in_hand_changes_hands_when_that_is_acknowledged() {
    let store = store_with(2);
    send(&store, 0, 2);
    let first = member(&store, "a");
    let held: Vec<_> = (0..2).map(|_| first.recv().unwrap()).collect();
    let second = member(&store, "b");
    assert_eq!((ids(&first), ids(&second)), (vec![0], vec![]), "nobody owns it twice");
    assert!(second.try_recv().unwrap().is_none());
    let mut bodies = Vec::new();
    for message in held {
        let queue = message.queue().queue_id();
        message.ack().unwrap();
        if queue == 1 {
            assert_eq!(ids(&second), [1], "at once");
            bodies = drain(&second);
        }
    }
    assert_eq!(bodies, ["1-0001"], "what was acknowledged does not come again");
    assert_eq!(drain(&first), ["0-0001"]);
}

#[test]
fn a18_f8_a_member_that_does_not_let_go_loses_its_queue_and_what_it_says_then_counts_for_nothing() {
    let store = store_with(1);
    send(&store, 0, 2);
    let slow = member(&store, "b");
    let held = slow.recv().unwrap();
    let heir = member(&store, "a");
    assert!(ids(&slow).is_empty() && ids(&heir).is_empty());
    store.advance(Duration::from_secs(19)).unwrap();
    assert!(heir.try_recv().unwrap().is_none());
    store.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(ids(&heir), [0]);
    let again = heir.recv().unwrap();
    assert_eq!((again.body_str().unwrap().as_ref(), again.attempt()), ("0-0000", 2));
    let queue = again.queue().clone();
    held.ack().unwrap();
    assert_eq!(heir.committed(&queue).unwrap(), Some(QueueOffset::ZERO), "a late ack is fenced");
    again.ack().unwrap();
    assert_eq!(heir.committed(&queue).unwrap(), Some(QueueOffset::new(1)));
    assert_eq!(drain(&heir), ["0-0001"]);
}

#[test]
fn a_member_that_leaves_with_messages_in_hand_may_still_acknowledge_them() {
    let store = store_with(1);
    send(&store, 0, 3);
    let first = member(&store, "a");
    let held = first.recv().unwrap();
    drop(first);
    let second = member(&store, "b");
    assert!(second.try_recv().unwrap().is_none());
    held.ack().unwrap();
    assert_eq!(drain(&second), ["0-0001", "0-0002"]);
}

#[test]
fn a_message_that_failed_at_one_member_comes_back_at_another_and_its_attempts_count_on() {
    let store = store_with(1);
    send(&store, 0, 1);
    let first = member(&store, "b");
    drop(first.recv().unwrap());
    let second = member(&store, "a");
    assert!(second.try_recv().unwrap().is_none());
    store.advance(Duration::from_secs(10)).unwrap();
    let again = second.recv().unwrap();
    assert_eq!(again.attempt(), 2);
    again.ack().unwrap();
}

#[test]
fn a23_v7_a_second_member_that_subscribes_otherwise_is_an_error_that_names_both() {
    let store = store_with(1);
    let _first = member(&store, "a");
    let refused = |topics: &[(&str, &str)]| {
        let builder = store.consumer("billing");
        let builder = topics.iter().fold(builder, |builder, (topic, tags)| builder.subscribe(topic, *tags));
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { field: "subscribe", .. }), "F91: {error}");
        error.to_string()
    };
    let vip = refused(&[("orders", "vip")]);
    assert!(vip.contains("already subscribes \"orders\" to \"*\"") && vip.contains("\"vip\""), "{vip}");
    let other = refused(&[("orders", "*"), ("prices", "*")]);
    assert!(other.contains("\"prices\" to nothing of it") && other.contains("\"*\""), "{other}");
    let orderly = store.consumer("billing").subscribe("orders", "*").orderly().build().unwrap_err();
    assert!(orderly.to_string().contains("consumes concurrently"), "{orderly}");
    let broadcast = store.consumer("billing").subscribe("orders", "*").broadcast("x").build().unwrap_err();
    assert!(broadcast.to_string().contains("has clustering members"), "{broadcast}");
    let twin = store.consumer("billing").subscribe("orders", "*").instance("a").build().unwrap_err();
    assert!(twin.to_string().contains("member \"a\" already"), "{twin}");
    assert_eq!(store.consumer("billing").subscribe("orders", " * ").build().unwrap().members().len(), 2);
}

#[test]
fn a_group_that_nobody_is_in_any_more_may_subscribe_otherwise() {
    let store = store_with(1);
    store.producer("p").unwrap().send(Message::new("orders", "one").tag("vip")).unwrap();
    drop(member(&store, "a"));
    let vip = store.consumer("billing").subscribe("orders", "vip").build().unwrap();
    assert_eq!(drain(&vip), ["one"]);
}

#[test]
fn f93_settings_out_of_their_ranges_are_refused_by_name() {
    let store = store_with(1);
    let field = |change: fn(pocketmq::ConsumerBuilder) -> pocketmq::ConsumerBuilder| {
        let builder = change(store.consumer("billing").subscribe("orders", "*"));
        match builder.build().unwrap_err() {
            Error::InvalidConfig { field, .. } | Error::InvalidArgument { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(field(|builder| builder.pull_threshold(0)), "pull_threshold");
    assert_eq!(field(|builder| builder.pull_threshold(65_536)), "pull_threshold");
    assert_eq!(field(|builder| builder.pull_threshold_bytes(1)), "pull_threshold_bytes");
    assert_eq!(field(|builder| builder.concurrent_span_max(0)), "concurrent_span_max");
    assert_eq!(field(|builder| builder.pull_batch_size(1_025)), "pull_batch_size");
    assert_eq!(field(|builder| builder.handover_timeout(Duration::ZERO)), "handover_timeout");
    assert_eq!(field(|builder| builder.consume_timeout(Duration::from_secs(90_000))), "consume_timeout");
    assert_eq!(field(|builder| builder.suspend_time(Duration::from_secs(31))), "suspend_time");
    assert_eq!(field(|builder| builder.instance("a%b")), "instance");
    for (threads, batch) in [(0, 1), (1_001, 1), (1, 0), (1, 1_025)] {
        let builder = store.consumer("billing").subscribe("orders", "*");
        let refused = builder.listen_batch(threads, batch, |_, _| ()).unwrap_err();
        assert!(matches!(refused, Error::InvalidConfig { field: "threads" | "batch", .. }), "{refused}");
    }
    assert!(store.consumer("").subscribe("orders", "*").listen(1, |_| ()).is_err(), "T-C21");
    assert!(store.consumer("DEFAULT_CONSUMER").subscribe("orders", "*").build().is_err(), "T-C21");
    assert!(store.consumer("billing").build().is_err(), "T-C21");
}

#[test]
fn t_c5_f92_a_listener_is_told_of_every_change_in_order() {
    let store = store_with(3);
    let told: Arc<Mutex<Vec<QueueChange>>> = Arc::default();
    let heard = Arc::clone(&told);
    let builder = store.consumer("billing").subscribe("orders", "*").instance("a");
    let first =
        builder.on_queues_changed(move |change| heard.lock().unwrap().push(change.clone())).build().unwrap();
    let second = member(&store, "b");
    drop(second);
    store.update_topic("orders", TopicConfig::queues(4)).unwrap();
    assert_eq!(ids(&first), [0, 1, 2, 3]);
    let told = told.lock().unwrap();
    let shown: Vec<_> = told.iter().map(|change| (change.all.len(), change.assigned.len())).collect();
    assert_eq!(shown, [(3, 3), (3, 2), (3, 3), (4, 4)]);
    assert!(told.iter().all(|change| change.topic.as_str() == "orders"));
}

#[test]
fn f12_a_listener_may_call_its_consumer_and_panic_without_harm() {
    let store = store_with(2);
    let late: Arc<Mutex<Option<Consumer>>> = Arc::default();
    let inside = Arc::clone(&late);
    let builder =
        store.consumer("billing").subscribe("orders", "*").instance("a").on_queues_changed(move |_| {
            if let Some(consumer) = inside.lock().unwrap().take() {
                assert_eq!(consumer.assignment().unwrap().len(), 1);
                drop(consumer);
                panic!("a bug of the application's");
            }
        });
    let first = builder.build().unwrap();
    *late.lock().unwrap() = Some(first);
    let second = member(&store, "b");
    assert_eq!(ids(&second), [0, 1], "the listener has dropped the first member");
}

#[test]
fn the_sticky_strategy_moves_one_queue_where_pages_move_more() {
    let store = store_with(4);
    let sticky = |name: &str| {
        let builder = store.consumer("billing").subscribe("orders", "*").instance(name);
        builder.allocate(Allocate::Sticky).build().unwrap()
    };
    let (first, second) = (sticky("b"), sticky("c"));
    assert_eq!((ids(&first), ids(&second)), (vec![0, 1], vec![2, 3]));
    let third = sticky("a");
    assert_eq!((ids(&first), ids(&second), ids(&third)), (vec![0, 1], vec![2], vec![3]));
}

#[test]
fn f84_members_that_list_their_queues_get_those_and_the_first_of_two_that_list_one_gets_it() {
    let store = store_with(3);
    let queues = store.queues("orders").unwrap();
    let listed = |name: &str, list: &[usize]| {
        let list = list.iter().map(|place| queues[*place].clone()).collect();
        let builder = store.consumer("billing").subscribe("orders", "*").instance(name);
        builder.allocate(Allocate::Config(list)).build().unwrap()
    };
    let (first, second) = (listed("a", &[2]), listed("b", &[0, 2]));
    assert_eq!((ids(&first), ids(&second)), (vec![2], vec![0]));
}

#[test]
fn a_topic_that_is_made_again_starts_anew_and_old_results_do_not_count() {
    let store = store_with(1);
    send(&store, 0, 2);
    let consumer = member(&store, "a");
    let old = consumer.recv().unwrap();
    store.delete_topic("orders").unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    send(&store, 7, 2);
    let new = consumer.recv().unwrap();
    assert_eq!(new.body_str().unwrap(), "0-0007");
    let queue = new.queue().clone();
    old.ack().unwrap();
    assert_eq!(consumer.committed(&queue).unwrap(), Some(QueueOffset::ZERO));
    new.ack().unwrap();
    assert_eq!(drain(&consumer), ["0-0008"]);
}

#[test]
fn f11_f7_members_wake_each_other_by_notification() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    let first = store.consumer("billing").subscribe("orders", "*").instance("a").build().unwrap();
    let second = store.consumer("billing").subscribe("orders", "*").instance("b").build().unwrap();
    std::thread::scope(|scope| {
        // The second sleeps without a queue that has a message; the first lets its queue go, and the second wakes.
        let queue = first.assignment().unwrap()[0].clone();
        store.producer("p").unwrap().send_to(&queue, Message::new("orders", "hello")).unwrap();
        let waiting = scope.spawn(|| second.recv().unwrap().body_str().unwrap().into_owned());
        drop(first);
        assert_eq!(waiting.join().unwrap(), "hello");
    });
    store.close().unwrap();
}

/// What a member of the randomised run has in hand.
struct Player {
    consumer: Consumer,
    hand: Vec<Delivery>,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Join(usize),
    Leave(usize),
    /// The member is gone, and never says anything of what it has in hand.
    Die(usize),
    Take(usize, usize),
    Ack(usize, usize),
    Fail(usize),
    Send(usize),
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let who = 0_usize..4;
    let one = prop_oneof![
        2 => who.clone().prop_map(Move::Join),
        1 => who.clone().prop_map(Move::Leave),
        1 => who.clone().prop_map(Move::Die),
        5 => (who.clone(), 1_usize..6).prop_map(|(who, count)| Move::Take(who, count)),
        5 => (who.clone(), 1_usize..6).prop_map(|(who, count)| Move::Ack(who, count)),
        1 => who.prop_map(Move::Fail),
        2 => (1_usize..4).prop_map(Move::Send),
        2 => (1_u64..25).prop_map(Move::Wait),
    ];
    proptest::collection::vec(one, 1..60)
}

/// What has happened, as the invariants of a history ask for it.
#[derive(Default)]
struct History {
    sent: usize,
    acked: BTreeSet<String>,
    /// How often each message was handed out, and whether it failed or was taken back in between.
    received: HashMap<String, Vec<u32>>,
    /// Orderly: what is in hand of each queue, by its member, as long as nobody has taken the queue over.
    in_hand: BTreeMap<u32, (usize, String)>,
}

/// A randomised run: a store, who plays, and what has happened.
struct Game {
    store: TestStore,
    players: BTreeMap<usize, Player>,
    history: History,
    orderly: bool,
}

impl Game {
    fn join(&self, who: usize) -> Consumer {
        let builder = self.store.consumer("billing").subscribe("orders", "*").instance(&format!("m{who}"));
        let builder = if self.orderly { builder.orderly() } else { builder };
        let strategy = if who.is_multiple_of(2) { Allocate::Sticky } else { Allocate::Averagely };
        builder.allocate(strategy).build().unwrap()
    }

    fn step(&mut self, step: Move) {
        match step {
            Move::Join(who) => {
                if !self.players.contains_key(&who) {
                    self.players.insert(who, Player { consumer: self.join(who), hand: Vec::new() });
                }
            }
            Move::Leave(who) => drop(self.players.remove(&who)),
            Move::Die(who) => {
                if let Some(Player { hand, .. }) = self.players.remove(&who) {
                    std::mem::forget(hand);
                }
            }
            Move::Send(count) => {
                send(&self.store, self.history.sent, count);
                self.history.sent += count;
            }
            Move::Wait(seconds) => self.store.advance(Duration::from_secs(seconds)).unwrap(),
            Move::Take(who, count) => self.take(who, count),
            Move::Ack(who, count) => self.ack(who, count),
            Move::Fail(who) => {
                let failed = self.players.get_mut(&who).and_then(|player| player.hand.pop());
                if let Some(message) = failed {
                    self.history.put_down(&message);
                }
            }
        }
        single_owner(&self.store, &self.players);
        if self.players.is_empty() {
            self.history.forget_attempts();
        }
    }

    fn take(&mut self, who: usize, count: usize) {
        let Some(player) = self.players.get_mut(&who) else { return };
        for _ in 0..count {
            let Some(message) = player.consumer.try_recv().unwrap() else { return };
            self.history.note(who, &message, self.orderly);
            player.hand.push(message);
        }
    }

    fn ack(&mut self, who: usize, count: usize) {
        let Some(player) = self.players.get_mut(&who) else { return };
        for message in player.hand.drain(..count.min(player.hand.len())) {
            let (queue, offset) = (message.queue().clone(), message.queue_offset());
            let body = message.body_str().unwrap().into_owned();
            self.history.put_down(&message);
            message.ack().unwrap();
            if self.store.committed("billing", &queue).unwrap().unwrap() > offset {
                self.history.acked.insert(body);
            }
        }
    }

    /// In the end somebody is there who takes everything: nothing is lost (I8).
    fn end(mut self) {
        let hands: Vec<_> =
            std::mem::take(&mut self.players).into_values().map(|player| player.hand).collect();
        std::mem::forget(hands);
        self.history.forget_attempts();
        let last = self.join(9);
        for _ in 0..5 {
            self.store.advance(Duration::from_secs(7_200)).unwrap();
            while let Some(message) = last.try_recv().unwrap() {
                self.history.note(9, &message, false);
                message.ack().unwrap();
            }
        }
        assert_eq!(self.history.received.len(), self.history.sent * 3, "I8: everything was handed out");
        for queue in self.store.queues("orders").unwrap() {
            let end = QueueOffset::new(self.history.sent as u64);
            assert_eq!(last.committed(&queue).unwrap(), Some(end), "I16: {queue}");
        }
    }
}

fn play(moves: &[Move], orderly: bool) {
    let (players, history) = (BTreeMap::new(), History::default());
    let mut game = Game { store: store_with(3), players, history, orderly };
    moves.iter().for_each(|step| game.step(*step));
    game.end();
}

/// I11: no two members own one queue.
fn single_owner(store: &Store, players: &BTreeMap<usize, Player>) {
    let mut owners: HashMap<MessageQueue, usize> = HashMap::new();
    for (who, player) in players {
        for queue in player.consumer.assignment().unwrap() {
            let other = owners.insert(queue.clone(), *who);
            assert_eq!(other, None, "{queue} is owned by {who} too");
        }
    }
    let all = store.topics().iter().map(|topic| store.queues(topic).unwrap().len()).sum();
    assert!(owners.len() <= all);
}

impl History {
    /// Where nobody is in the group any more, nobody counts.
    fn forget_attempts(&mut self) {
        self.received.values_mut().for_each(Vec::clear);
    }

    /// Nobody has this message in hand any more.
    fn put_down(&mut self, message: &Delivery) {
        let body = message.body_str().unwrap();
        self.in_hand.retain(|_, (_, held)| *held != body);
    }

    fn note(&mut self, who: usize, message: &Delivery, orderly: bool) {
        let body = message.body_str().unwrap().into_owned();
        assert!(!self.acked.contains(&body), "I10: {body} was committed and comes again");
        let attempts = self.received.entry(body.clone()).or_default();
        // Each time it comes with a higher number: nobody gets what another one has (I10, I15).
        assert!(attempts.last().is_none_or(|last| *last < message.attempt()), "{body}: {attempts:?}");
        attempts.push(message.attempt());
        if orderly {
            let queue = message.queue().queue_id();
            let before = self.in_hand.insert(queue, (who, body.clone()));
            // What is still in somebody's hand can only be the same message, taken back from one who was too slow.
            assert!(before.is_none_or(|(_, held)| held == body), "V4: two of queue {queue} at once");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn f7_members_join_leave_die_and_are_slow_and_no_queue_has_two_owners(moves in moves()) {
        play(&moves, false);
    }

    #[test]
    fn f7_i11_in_order_one_message_of_a_queue_is_in_hand_at_a_time(moves in moves()) {
        play(&moves, true);
    }
}
