//! Is a message of a transaction delivered exactly if its transaction was committed, whoever decides and whatever crashes?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Background, Error, FileSizes, Filter, LocalTransactionState, ManualClock, Message, MessageQueue,
    MessageView, Outcome, Retention, RocketmqVersion, Store, TopicConfig, TopicKind, TransactionListener,
    TransactionPolicy, TransactionProducer,
};

use crate::golden::Golden;

const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const OP: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
const GIVEN_UP: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
const GROUP: &str = "CID_RMQ_SYS_TRANS";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn transfer(body: &'static str) -> Message {
    Message::new("transfers", body).tag("t").key(body).property("n", "v")
}

/// Answers every check the same, and counts them.
fn answering(answer: LocalTransactionState) -> (impl TransactionListener + 'static, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let listener = move |_: &MessageView| {
        count.fetch_add(1, Ordering::SeqCst);
        answer
    };
    (listener, asked)
}

fn producer(store: &Store, answer: LocalTransactionState) -> TransactionProducer {
    store.transaction_producer("bank", answering(answer).0).unwrap()
}

/// Everything in a topic, over all brokers and queues.
fn messages(store: &Store, topic: &str) -> Vec<MessageView> {
    let mut all = Vec::new();
    for queue in store.queues(topic).unwrap_or_default() {
        let Some(range) = store.queue_offsets(&queue) else { continue };
        let mut at = range.start;
        while at < range.end {
            let page = store.pull(&queue, &Filter::all(), at, 32).unwrap();
            at = page.next_offset;
            all.extend(page.messages);
        }
    }
    all
}

fn bodies(store: &Store, topic: &str) -> Vec<String> {
    let mut bodies: Vec<_> =
        messages(store, topic).iter().map(|message| message.body_str().unwrap().into_owned()).collect();
    bodies.sort();
    bodies
}

fn undecided(store: &Store) -> usize {
    store.admin().half_messages(usize::MAX).unwrap().len()
}

fn done(store: &Store, topic: &str) -> Option<u64> {
    let broker = store.brokers()[0].name().clone();
    let queue = MessageQueue::new(topic.try_into().unwrap(), broker, 0);
    let file = std::fs::read(store.brokers()[0].dir().join("config/consumerOffset.json")).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&file).ok()?;
    json["offsetTable"][format!("{}@{GROUP}", queue.topic())]["0"].as_u64()
}

fn ends(store: &Store, topic: &str) -> u64 {
    let broker = store.brokers()[0].name().clone();
    let queue = MessageQueue::new(topic.try_into().unwrap(), broker, 0);
    store.queue_offsets(&queue).map_or(0, |range| range.end.get())
}

#[test]
fn f131_f134_the_half_message_is_hidden_and_every_record_has_rocketmqs_bytes() {
    for version in [RocketmqVersion::V5, RocketmqVersion::V4_9] {
        let store = TestStore::builder(move |builder| builder.rocketmq_version(version));
        store.create_topic("transfers", TopicConfig::queues(1)).unwrap();
        let producer = producer(&store, LocalTransactionState::Unknown);
        let transaction = producer.begin(transfer("pay").flag(7)).unwrap();
        let id = transaction.message_id();
        assert!(messages(&store, "transfers").is_empty());
        assert_eq!(transaction.receipt().queue().topic().as_str(), "transfers");
        let half = &messages(&store, HALF)[0];
        assert_eq!((half.topic(), half.original_topic(), half.queue_id()), (HALF, "transfers", 0));
        assert_eq!((half.sys_flag(), half.flag(), half.tag(), half.message_id()), (0, 7, "t", id));
        let names: BTreeMap<_, _> = half.properties().iter().collect();
        assert_eq!((names["TRAN_MSG"], names["PGROUP"]), ("true", "bank"));
        assert_eq!((names["REAL_TOPIC"], names["REAL_QID"], names["n"]), ("transfers", "0", "v"));
        let text = id.to_string();
        let newer = (version == RocketmqVersion::V5).then_some(text.as_str());
        assert_eq!(names.get("__transactionId__").copied(), newer);
        let (half_at, half_offset) = (half.physical_offset(), half.queue_offset());

        transaction.commit().unwrap();
        let found = &messages(&store, "transfers")[0];
        assert_eq!((found.sys_flag(), found.prepared_transaction_offset()), (8, half_at));
        assert_eq!((found.message_id(), found.born_millis()), (id, half.born_millis()));
        let names: BTreeMap<_, _> = found.properties().iter().collect();
        assert_eq!((names["TRAN_MSG"], names["PGROUP"]), ("true", "bank"));
        assert_eq!(names.contains_key("REAL_TOPIC"), version == RocketmqVersion::V4_9);
        let op = &messages(&store, OP)[0];
        assert_eq!(op.body_str().unwrap(), half_offset.get().to_string());
        assert_eq!((op.tag(), op.property("WAIT"), op.sys_flag(), op.queue_id()), ("d", Some("true"), 0, 0));
        assert_eq!(op.born_host(), op.store_host());
        assert!(store.message(id).unwrap().is_some());
        assert_eq!(store.query_by_key("transfers", "pay").fetch().unwrap().len(), 1);
    }
}

#[test]
fn f140_of_two_transactions_the_consumer_gets_the_committed_one() {
    let store = TestStore::new();
    let producer = producer(&store, LocalTransactionState::Unknown);
    let consumer = store.consumer("other-bank").subscribe("transfers", "*").build().unwrap();
    let one = producer.begin(transfer("one")).unwrap();
    let two = producer.begin(transfer("two")).unwrap();
    two.rollback().unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    one.commit().unwrap();
    let delivery = consumer.recv().unwrap();
    assert_eq!(delivery.body_str().unwrap(), "one");
    delivery.ack().unwrap();
    store.advance(seconds(3_600)).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    assert_eq!(undecided(&store), 0);
}

#[test]
fn t_h1_of_five_classes_exactly_the_committed_ones_are_received() {
    let store = TestStore::new();
    let checks: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let seen = Arc::clone(&checks);
    let listener = move |message: &MessageView| {
        assert_eq!(message.topic(), "transfers");
        let body = message.body_str().unwrap().into_owned();
        *seen.lock().unwrap().entry(body.clone()).or_default() += 1;
        match body.parse::<u32>().unwrap() % 5 {
            2 => LocalTransactionState::Commit,
            3 => LocalTransactionState::Rollback,
            _ => LocalTransactionState::Unknown,
        }
    };
    let producer = store.transaction_producer("bank", listener).unwrap();
    for n in 0..120_u32 {
        let receipt = producer
            .send_in_transaction(Message::new("transfers", n.to_string()), |_| match n % 5 {
                0 => LocalTransactionState::Commit,
                1 => LocalTransactionState::Rollback,
                _ => LocalTransactionState::Unknown,
            })
            .unwrap();
        assert!(receipt.trouble().is_none());
    }
    for _ in 0..60 {
        store.advance(seconds(30)).unwrap();
    }
    let received: BTreeSet<u32> =
        bodies(&store, "transfers").iter().map(|body| body.parse().unwrap()).collect();
    let expected: BTreeSet<u32> = (0..120).filter(|n| matches!(n % 5, 0 | 2)).collect();
    assert_eq!((received, messages(&store, "transfers").len()), (expected, 48));
    let checks = checks.lock().unwrap();
    for n in 0..120_u32 {
        let expected = match n % 5 {
            2 | 3 => 1,
            4 => 15,
            _ => 0,
        };
        assert_eq!(checks.get(&n.to_string()).copied().unwrap_or(0), expected, "{n}");
    }
    assert_eq!((messages(&store, GIVEN_UP).len(), undecided(&store)), (24, 0));
}

#[test]
fn t_h3_what_is_rolled_back_directly_is_not_checked_and_not_received() {
    let store = TestStore::new();
    let (listener, asked) = answering(LocalTransactionState::Commit);
    let producer = store.transaction_producer("bank", listener).unwrap();
    (0..10).for_each(|_| producer.begin(transfer("x")).unwrap().rollback().unwrap());
    (0..20).for_each(|_| store.advance(seconds(60)).unwrap());
    assert_eq!((messages(&store, "transfers").len(), asked.load(Ordering::SeqCst)), (0, 0));
}

#[test]
fn t_h4_t_h5_t_h6_checks_decide_what_the_sender_did_not_know() {
    for (answer, even, expected) in [
        (LocalTransactionState::Commit, LocalTransactionState::Commit, 10),
        (LocalTransactionState::Rollback, LocalTransactionState::Rollback, 0),
        (LocalTransactionState::Rollback, LocalTransactionState::Commit, 5),
    ] {
        let store = TestStore::new();
        let listener = move |message: &MessageView| {
            let n: u32 = message.body_str().unwrap().parse().unwrap();
            if n.is_multiple_of(2) { even } else { answer }
        };
        let producer = store.transaction_producer("bank", listener).unwrap();
        for n in 0..10 {
            let receipt = producer.send_with_listener(Message::new("transfers", n.to_string())).unwrap();
            assert_eq!(receipt.state(), LocalTransactionState::Unknown);
        }
        store.advance(Duration::from_millis(5_999)).unwrap();
        assert!(messages(&store, "transfers").is_empty());
        store.advance(Duration::from_millis(1)).unwrap();
        assert_eq!((messages(&store, "transfers").len(), undecided(&store)), (expected, 0));
    }
}

#[test]
fn t_h7_k35_an_orphan_is_checked_when_a_producer_of_its_group_is_opened_again() {
    let store = TestStore::new();
    let transaction = producer(&store, LocalTransactionState::Unknown).begin(transfer("pay")).unwrap();
    std::mem::forget(transaction);
    let store = store.kill_process().unwrap();
    store.advance(seconds(3_600)).unwrap();
    assert_eq!((undecided(&store), messages(&store, "transfers").len()), (1, 0));
    // Another group's producer is not asked, and time without one counts no check.
    let (stranger, asked) = answering(LocalTransactionState::Commit);
    let _other = store.transaction_producer("shop", stranger).unwrap();
    (0..20).for_each(|_| store.advance(seconds(60)).unwrap());
    assert_eq!((asked.load(Ordering::SeqCst), store.admin().half_messages(1).unwrap()[0].checks), (0, 0));
    let _producer = producer(&store, LocalTransactionState::Commit);
    store.step().unwrap();
    assert_eq!(bodies(&store, "transfers"), ["pay"]);
    let store = store.kill_process().unwrap();
    let _producer = producer(&store, LocalTransactionState::Commit);
    store.advance(seconds(3_600)).unwrap();
    assert_eq!((bodies(&store, "transfers").len(), undecided(&store)), (1, 0));
}

#[test]
fn k37_what_was_decided_stays_decided_after_a_kill() {
    let store = TestStore::new();
    let bank = producer(&store, LocalTransactionState::Unknown);
    let halves: Vec<_> = (0..6).map(|_| bank.begin(transfer("x")).unwrap()).collect();
    for (n, half) in halves.into_iter().enumerate() {
        match n % 3 {
            0 => half.commit().unwrap(),
            1 => half.rollback().unwrap(),
            _ => drop(half),
        }
    }
    drop(bank);
    for round in 0..3 {
        let store = if round == 0 { store_again(&store) } else { break };
        assert_eq!(undecided(&store), 2);
    }
    let store = store.kill_process().unwrap();
    let (listener, asked) = answering(LocalTransactionState::Commit);
    let _bank = store.transaction_producer("bank", listener).unwrap();
    store.advance(seconds(60)).unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), messages(&store, "transfers").len()), (2, 4));
}

/// A second look at the same folder, without touching it.
fn store_again(store: &TestStore) -> Store {
    Store::open_read_only(store.path()).unwrap()
}

#[test]
fn k38_a_check_that_is_in_flight_at_a_kill_is_made_again_and_counted() {
    let store = TestStore::new();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let bank = store
        .transaction_producer("bank", move |_: &MessageView| {
            count.fetch_add(1, Ordering::SeqCst);
            panic!("the process dies while it is asked");
        })
        .unwrap();
    drop(bank.begin(transfer("pay")).unwrap());
    store.advance(seconds(6)).unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), store.admin().half_messages(1).unwrap()[0].checks), (1, 1));
    drop(bank);
    let store = store.kill_process().unwrap();
    assert_eq!(store.admin().half_messages(1).unwrap()[0].checks, 1);
    let _bank = producer(&store, LocalTransactionState::Commit);
    store.advance(seconds(30)).unwrap();
    assert_eq!((bodies(&store, "transfers").len(), undecided(&store)), (1, 0));
}

#[test]
fn a26_the_first_decision_counts_and_another_one_is_refused() {
    let store = TestStore::new();
    let bank = producer(&store, LocalTransactionState::Commit);
    // The check commits first: the same decision changes nothing, the other one is refused.
    let (one, two) = (bank.begin(transfer("one")).unwrap(), bank.begin(transfer("two")).unwrap());
    let id = one.message_id();
    store.advance(seconds(6)).unwrap();
    assert_eq!(bodies(&store, "transfers"), ["one", "two"]);
    one.commit().unwrap();
    let error = two.rollback().unwrap_err();
    assert!(matches!(error, Error::TransactionRefused(_)), "{error}");
    assert!(error.to_string().contains("committed already") && !error.is_retryable(), "{error}");
    assert_eq!(bodies(&store, "transfers").len(), 2);
    // By hand first.
    let three = bank.begin(transfer("three")).unwrap();
    let admin = store.admin();
    let unknown = admin.resolve_half_message(three.message_id(), LocalTransactionState::Unknown).unwrap_err();
    assert!(matches!(unknown, Error::InvalidArgument { field: "state", .. }), "{unknown}");
    admin.resolve_half_message(three.message_id(), LocalTransactionState::Rollback).unwrap();
    assert!(matches!(three.commit(), Err(Error::TransactionRefused(_))));
    // What is decided, or was never there, is not found.
    for state in [LocalTransactionState::Commit, LocalTransactionState::Rollback] {
        let error = admin.resolve_half_message(id, state).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "id", .. }), "{error}");
    }
    (0..5).for_each(|_| store.advance(seconds(60)).unwrap());
    assert_eq!(bodies(&store, "transfers").len(), 2);
}

#[test]
fn a26_f137_an_answer_that_is_never_known_ends_after_15_checks_and_can_be_brought_back() {
    let store = TestStore::new();
    let (listener, asked) = answering(LocalTransactionState::Unknown);
    let bank = store.transaction_producer("bank", listener).unwrap();
    let transaction = bank.begin(transfer("pay")).unwrap();
    let id = transaction.message_id();
    store.advance(seconds(6)).unwrap();
    for check in 1..=15 {
        assert_eq!(asked.load(Ordering::SeqCst), check);
        assert_eq!(undecided(&store), 1);
        store.advance(seconds(30)).unwrap();
    }
    assert_eq!((asked.load(Ordering::SeqCst), undecided(&store)), (15, 0));
    let given_up = store.admin().given_up_half_messages(10).unwrap();
    assert_eq!((given_up.len(), given_up[0].message_id(), given_up[0].topic()), (1, id, "transfers"));
    assert_eq!(given_up[0].property("TRANSACTION_CHECK_TIMES"), Some("15"));
    let error = transaction.commit().unwrap_err();
    assert!(error.to_string().contains("resume_half_message"), "{error}");
    drop(bank);

    let store = store.kill_process().unwrap();
    let admin = store.admin();
    let never = admin.resume_half_message("7F00000100002A9F000000000000007C".parse().unwrap()).unwrap_err();
    assert!(matches!(never, Error::InvalidArgument { field: "id", .. }), "{never}");
    admin.resume_half_message(id).unwrap();
    assert!(admin.resume_half_message(id).is_err());
    let halves = admin.half_messages(10).unwrap();
    assert_eq!((halves.len(), halves[0].checks, halves[0].message.message_id()), (1, 0, id));
    let _bank = producer(&store, LocalTransactionState::Commit);
    store.advance(seconds(6)).unwrap();
    assert_eq!(bodies(&store, "transfers"), ["pay"]);
}

#[test]
fn a26_f132_a_panic_in_local_work_or_in_a_check_is_no_answer() {
    let store = TestStore::new();
    let calls = AtomicU32::new(0);
    let listener = move |_: &MessageView| {
        assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "the first check panics");
        LocalTransactionState::Commit
    };
    let bank = store.transaction_producer("bank", listener).unwrap();
    let receipt = bank.send_in_transaction(transfer("pay"), |_| panic!("local work")).unwrap();
    assert_eq!(receipt.state(), LocalTransactionState::Unknown);
    store.advance(seconds(6)).unwrap();
    assert_eq!((messages(&store, "transfers").len(), undecided(&store)), (0, 1));
    store.advance(seconds(30)).unwrap();
    assert_eq!((messages(&store, "transfers").len(), undecided(&store)), (1, 0));
}

#[test]
fn f136_a_message_may_have_its_own_immunity_and_f139_a_later_commit_is_refused() {
    let store = TestStore::new();
    let (listener, asked) = answering(LocalTransactionState::Unknown);
    let bank = store.transaction_producer("bank", listener).unwrap();
    let own = |time: &'static str| transfer("pay").property("CHECK_IMMUNITY_TIME_IN_SECONDS", time);
    let (in_time, late) = (bank.begin(own("60")).unwrap(), bank.begin(own("60")).unwrap());
    store.advance(seconds(59)).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    in_time.commit().unwrap();
    store.advance(seconds(2)).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let error = late.commit().unwrap_err();
    assert!(matches!(error, Error::TransactionRefused(_)), "{error}");
    assert_eq!((messages(&store, "transfers").len(), undecided(&store)), (1, 1));
    let error = bank.begin(own("soon")).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "property", .. }), "{error}");
}

#[test]
fn f131_delays_other_kinds_of_topics_and_closed_stores_are_refused_before_anything_is_stored() {
    let store = TestStore::new();
    store.create_topic("plain", TopicConfig { kind: TopicKind::Normal, ..TopicConfig::queues(1) }).unwrap();
    store
        .create_topic("only", TopicConfig { kind: TopicKind::Transaction, ..TopicConfig::queues(1) })
        .unwrap();
    let bank = producer(&store, LocalTransactionState::Unknown);
    let error = bank.begin(transfer("x").delay_level(1)).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "delay_level", .. }), "{error}");
    assert!(error.to_string().contains("cannot be delayed"), "{error}");
    assert!(bank.begin(transfer("x").delay(Duration::from_secs(1))).is_err());
    let error = bank.begin(Message::new("plain", "x")).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "topic", .. }), "{error}");
    let error = bank.producer().send(Message::new("only", "x")).unwrap_err();
    assert!(error.to_string().contains("in a transaction"), "{error}");
    let error = bank.producer().send_batch(["a", "b"].map(|body| Message::new("only", body))).unwrap_err();
    assert!(error.to_string().contains("in a transaction"), "{error}");
    bank.begin(Message::new("only", "x")).unwrap().commit().unwrap();
    for topic in [HALF, OP, GIVEN_UP] {
        assert!(bank.begin(Message::new(topic, "x")).is_err());
    }
    assert_eq!((messages(&store, HALF).len(), messages(&store, "only").len()), (1, 1));
    let half = bank.begin(transfer("x")).unwrap();
    store.close().unwrap();
    assert!(matches!(half.commit(), Err(Error::Closed)));
    let error = bank.begin(transfer("x")).unwrap_err();
    assert!(matches!(error, Error::Closed) && error.outcome() == Outcome::NotStored);
    let read_only = Store::open_read_only(store.path()).unwrap();
    assert_eq!(undecided(&read_only), 1);
    let refused = read_only.transaction_producer("bank", answering(LocalTransactionState::Commit).0);
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    let id = read_only.admin().half_messages(1).unwrap()[0].message.message_id();
    let refused = read_only.admin().resolve_half_message(id, LocalTransactionState::Commit);
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
}

#[test]
fn h15_one_undecided_transaction_more_than_may_be_is_refused_until_one_is_decided() {
    let policy = TransactionPolicy::new().undecided_max(2);
    let store = TestStore::builder(move |builder| builder.transactions(policy));
    let bank = producer(&store, LocalTransactionState::Unknown);
    let (one, _two) = (bank.begin(transfer("x")).unwrap(), bank.begin(transfer("x")).unwrap());
    let error = bank.begin(transfer("x")).unwrap_err();
    assert!(matches!(error, Error::StoreBusy(_)) && error.is_retryable(), "{error}");
    one.rollback().unwrap();
    let _three = bank.begin(transfer("x")).unwrap();
}

#[test]
fn f130_a_check_that_finds_no_place_is_not_made_and_does_not_count() {
    let store = TestStore::new();
    let (listener, asked) = answering(LocalTransactionState::Unknown);
    let builder = store.producer_builder("bank").checks_waiting_max(1);
    let bank = builder.build_transactional(listener).unwrap();
    for _ in 0..3 {
        drop(bank.begin(transfer("x")).unwrap());
    }
    store.advance(seconds(6)).unwrap();
    let counts = || {
        let halves = store.admin().half_messages(10).unwrap();
        halves.iter().map(|half| half.checks).sum::<u32>()
    };
    assert_eq!((asked.load(Ordering::SeqCst), counts()), (1, 1));
    store.step().unwrap();
    store.step().unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), counts()), (3, 3));
}

#[test]
fn a_topic_that_is_deleted_takes_its_undecided_messages_with_it() {
    let store = TestStore::new();
    let bank = producer(&store, LocalTransactionState::Commit);
    let (one, two) = (bank.begin(transfer("one")).unwrap(), bank.begin(transfer("two")).unwrap());
    store.delete_topic("transfers").unwrap();
    store.create_topic("transfers", TopicConfig::queues(1)).unwrap();
    assert!(matches!(one.commit(), Err(Error::TopicNotFound(_))));
    drop(two);
    store.advance(seconds(6)).unwrap();
    assert_eq!((messages(&store, "transfers").len(), undecided(&store)), (0, 0));
    let store = store.kill_process().unwrap();
    assert_eq!(undecided(&store), 0);
}

#[test]
fn every_broker_has_its_own_halves_and_all_are_checked() {
    let store = TestStore::builder(|builder| builder.brokers(["broker-a", "broker-b"]));
    let bank = producer(&store, LocalTransactionState::Commit);
    for _ in 0..16 {
        drop(bank.begin(Message::new("transfers", "x")).unwrap());
    }
    assert_eq!((messages(&store, HALF).len(), undecided(&store)), (16, 16));
    drop(bank);
    let store = store.kill_process().unwrap();
    let _bank = producer(&store, LocalTransactionState::Commit);
    store.advance(seconds(6)).unwrap();
    assert_eq!((messages(&store, "transfers").len(), undecided(&store)), (16, 0));
}

#[test]
fn rocketmqs_positions_say_up_to_where_everything_is_decided_and_never_more() {
    let store = TestStore::new();
    let bank = producer(&store, LocalTransactionState::Unknown);
    let mut halves: Vec<_> = (0..5).map(|_| bank.begin(transfer("x")).unwrap()).collect();
    let open = halves.remove(2);
    halves.into_iter().for_each(|half| half.commit().unwrap());
    // Once to see it, once to flush what says so, once to say it.
    let settle = || {
        (0..3).for_each(|_| store.advance(Duration::from_millis(600)).unwrap());
        store.flush().unwrap();
    };
    settle();
    assert_eq!((done(&store, HALF), done(&store, OP)), (Some(2), Some(0)));
    open.rollback().unwrap();
    settle();
    assert_eq!((done(&store, HALF), done(&store, OP)), (Some(5), Some(5)));
    let store = store.reopen().unwrap();
    assert_eq!(undecided(&store), 0);
}

#[test]
fn a_clean_stop_writes_down_what_is_decided() {
    let store = TestStore::new();
    let bank = producer(&store, LocalTransactionState::Unknown);
    bank.begin(transfer("x")).unwrap().commit().unwrap();
    drop(bank);
    let store = store.reopen().unwrap();
    assert_eq!((done(&store, HALF), done(&store, OP)), (Some(1), Some(1)));
}

#[test]
fn what_nobody_decides_is_carried_on_so_that_the_log_need_not_be_kept_for_it() {
    let store = TestStore::new();
    drop(producer(&store, LocalTransactionState::Unknown).begin(transfer("pay")).unwrap());
    for _ in 0..25 {
        store.advance(seconds(3_600)).unwrap();
    }
    (0..3).for_each(|_| store.advance(seconds(1)).unwrap());
    store.flush().unwrap();
    assert_eq!((ends(&store, HALF), undecided(&store)), (2, 1));
    assert_eq!((done(&store, HALF), done(&store, OP)), (Some(1), Some(1)));
    assert_eq!(store.admin().half_messages(1).unwrap()[0].checks, 0);
    let store = store.kill_process().unwrap();
    assert_eq!(undecided(&store), 1);
    let _bank = producer(&store, LocalTransactionState::Commit);
    store.step().unwrap();
    assert_eq!(bodies(&store, "transfers"), ["pay"]);
}

#[test]
fn f136_threads_check_what_is_undecided_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let policy = TransactionPolicy::new().immunity(Duration::ZERO).check_interval(Duration::from_millis(10));
    let open = || Store::builder(dir.path()).transactions(policy).open().unwrap();
    let store = open();
    let consumer = store.consumer("other-bank").subscribe("transfers", "*").build().unwrap();
    let calls = AtomicU32::new(0);
    let listener = move |_: &MessageView| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => LocalTransactionState::Unknown,
        _ => LocalTransactionState::Commit,
    };
    let bank = store.transaction_producer("bank", listener).unwrap();
    drop(bank.begin(transfer("pay")).unwrap());
    let delivery = consumer.recv_timeout(seconds(60)).unwrap().expect("the check commits");
    assert_eq!(delivery.body_str().unwrap(), "pay");
    delivery.ack().unwrap();
    drop((consumer, bank));
    store.close().unwrap();
}

#[test]
fn a_checker_may_use_the_store_and_a_close_does_not_wait_for_one_that_waits_for_it() {
    let store = TestStore::new();
    let inner = store.store().clone();
    let listener = move |message: &MessageView| {
        let other = inner.producer("audit").unwrap();
        other.send(Message::new("audit", message.raw_body().to_vec())).unwrap();
        LocalTransactionState::Commit
    };
    let bank = store.transaction_producer("bank", listener).unwrap();
    drop(bank.begin(transfer("pay")).unwrap());
    store.advance(seconds(6)).unwrap();
    assert_eq!(
        (bodies(&store, "audit"), bodies(&store, "transfers")),
        (vec!["pay".into()], vec!["pay".into()])
    );
}

/// The transactions of a broker's store, by what its client said about them.
fn golden_ids(golden: &Golden, state: &str) -> BTreeSet<String> {
    let lines = golden.json_lines("acked.jsonl");
    let wanted = lines.iter().filter(|line| line["kind"] == "transaction" && line["state"] == state);
    wanted.map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_a_broker_of_rocketmqs_left_undecided_is_checked_here_and_what_it_decided_is_not() {
    for name in [
        "apache-4.9.7-clean",
        "apache-4.9.7-killed",
        "apache-5.4.0-clean",
        "apache-5.4.0-killed",
        "apache-5.5.0-killed",
    ] {
        let Some(golden) = Golden::unpack(name) else { return };
        let [committed, rolled_back, unknown] =
            ["COMMIT_MESSAGE", "ROLLBACK_MESSAGE", "UNKNOW"].map(|state| golden_ids(&golden, state));
        assert_eq!((committed.len(), rolled_back.len(), unknown.len()), (6, 6, 6), "{name}");
        let clock = Arc::new(ManualClock::new(1_795_500_000_000));
        let open = || {
            let clock = Arc::<ManualClock>::clone(&clock);
            golden.open().background(Background::Manual).clock(clock).open().unwrap()
        };
        let store = open();
        assert!(store.recovery()[0].warnings.iter().all(|warning| !warning.contains("half message")));
        let found = |store: &Store| -> Vec<String> {
            let mut ids: Vec<_> = messages(store, "payments")
                .iter()
                .map(|message| message.message_id().to_string())
                .filter(|id| committed.contains(id) || rolled_back.contains(id) || unknown.contains(id))
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(found(&store), committed.iter().cloned().collect::<Vec<_>>(), "{name}");
        let halves = store.admin().half_messages(100).unwrap();
        let listed: BTreeSet<_> = halves.iter().map(|half| half.message.message_id().to_string()).collect();
        assert_eq!(listed, unknown, "{name}");
        // Every second one was really done.
        let done: BTreeSet<_> = unknown.iter().step_by(2).cloned().collect();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (answers, questions) = (done.clone(), Arc::clone(&asked));
        let listener = move |message: &MessageView| {
            assert_eq!((message.topic(), message.tag()), ("payments", "pay"));
            let id = message.message_id().to_string();
            questions.lock().unwrap().push(id.clone());
            if answers.contains(&id) {
                LocalTransactionState::Commit
            } else {
                LocalTransactionState::Rollback
            }
        };
        let bank = store.transaction_producer("golden-tx", listener).unwrap();
        for _ in 0..20 {
            clock.advance(seconds(60));
            store.step().unwrap();
        }
        let expected: Vec<_> = committed.union(&done).cloned().collect();
        assert_eq!(found(&store), expected, "{name}");
        assert_eq!(asked.lock().unwrap().len(), 6, "{name}");
        drop(bank);
        store.close().unwrap();
        drop(store);
        let store = open();
        assert_eq!((undecided(&store), found(&store)), (0, expected), "{name}");
    }
}

#[test]
fn retention_takes_no_undecided_half_message_and_is_not_held_up_by_one() {
    let sizes =
        FileSizes { commit_log: 64 << 10, consume_queue_units: 500, index_slots: 500, index_entries: 2_000 };
    let retention = Retention::new().hours(2);
    let store = TestStore::builder(move |builder| {
        builder.file_sizes(sizes).max_message_size(8 << 10).retention(retention.clone()).free_space_min(0)
    });
    let pay = producer(&store, LocalTransactionState::Unknown).begin(transfer("pay")).unwrap();
    let log = || store.brokers()[0].log_range();
    // The producer is gone: nobody is asked. Many files are written meanwhile.
    for _ in 0..40 {
        for _ in 0..20 {
            store.producer("shop").unwrap().send(Message::new("orders", vec![7; 8_000])).unwrap();
        }
        store.advance(seconds(1_800)).unwrap();
        store.advance(seconds(11)).unwrap();
        store.retain().unwrap();
        assert_eq!(undecided(&store), 1);
    }
    let half = store.admin().half_messages(1).unwrap().remove(0);
    assert!(log().start > pay.receipt().physical_offset(), "the file in which it began is gone");
    assert!(half.message.physical_offset() >= log().start);
    let store = store.kill_process().unwrap();
    assert_eq!(undecided(&store), 1);
    let _bank = producer(&store, LocalTransactionState::Commit);
    store.step().unwrap();
    assert_eq!(bodies(&store, "transfers"), ["pay"]);
}

#[test]
fn d16_a_log_that_is_too_large_keeps_the_file_of_a_first_transaction_that_is_undecided() {
    let sizes =
        FileSizes { commit_log: 64 << 10, consume_queue_units: 500, index_slots: 500, index_entries: 2_000 };
    let retention = Retention::new().max_bytes(3 * (64 << 10));
    let store = TestStore::builder(move |builder| {
        builder.file_sizes(sizes).max_message_size(8 << 10).retention(retention.clone()).free_space_min(0)
    });
    let bank = producer(&store, LocalTransactionState::Unknown);
    let pay = bank.begin(transfer("pay")).unwrap();
    for _ in 0..100 {
        store.producer("shop").unwrap().send(Message::new("orders", vec![7; 8_000])).unwrap();
        store.retain().unwrap();
    }
    pay.commit().unwrap();
    assert_eq!(bodies(&store, "transfers"), ["pay"]);
}

#[test]
fn d20_a_transaction_that_was_given_up_does_not_come_back_to_a_topic_that_was_deleted() {
    let store = TestStore::new();
    let bank = producer(&store, LocalTransactionState::Unknown);
    let id = bank.begin(transfer("pay")).unwrap().message_id();
    for _ in 0..20 {
        store.advance(seconds(61)).unwrap();
    }
    assert_eq!((undecided(&store), store.admin().given_up_half_messages(9).unwrap().len()), (0, 1));
    store.delete_topic("transfers").unwrap();
    let refused = store.admin().resume_half_message(id);
    assert!(matches!(refused, Err(Error::TopicNotFound(_))), "{refused:?}");
    assert_eq!(undecided(&store), 0);
}

#[test]
fn f135_of_two_that_decide_at_once_exactly_one_is_heard() {
    let store = TestStore::new();
    let bank = producer(&store, LocalTransactionState::Unknown);
    let mut committed = BTreeSet::new();
    for n in 0..200 {
        let transaction = bank.begin(Message::new("transfers", n.to_string())).unwrap();
        let (id, admin) = (transaction.message_id(), store.admin());
        let (commits, rolls_back) = std::thread::scope(|scope| {
            let by_hand =
                scope.spawn(move || admin.resolve_half_message(id, LocalTransactionState::Rollback));
            (transaction.commit(), by_hand.join().unwrap())
        });
        assert_ne!(commits.is_ok(), rolls_back.is_ok(), "{n}: {commits:?} {rolls_back:?}");
        if commits.is_ok() {
            committed.insert(n.to_string());
        }
    }
    let found: BTreeSet<_> = bodies(&store, "transfers").into_iter().collect();
    assert_eq!((found, messages(&store, "transfers").len()), (committed.clone(), committed.len()));
    assert_eq!((undecided(&store), messages(&store, OP).len()), (0, 200));
}

#[test]
fn a_checker_that_hangs_holds_up_no_other_producer_and_a_dropped_one_gives_its_checks_back() {
    let dir = tempfile::tempdir().unwrap();
    let policy = TransactionPolicy::new().immunity(Duration::ZERO).check_interval(seconds(3_600));
    let store = Store::builder(dir.path()).transactions(policy).open().unwrap();
    let consumer = store.consumer("other-bank").subscribe("transfers", "*").build().unwrap();
    let (asks, asked) = std::sync::mpsc::channel();
    let (let_go, gate) = std::sync::mpsc::channel::<()>();
    let (asks, gate) = (Mutex::new(asks), Mutex::new(gate));
    let hangs = move |_: &MessageView| {
        let _ = asks.lock().unwrap().send(());
        let _ = gate.lock().unwrap().recv();
        LocalTransactionState::Unknown
    };
    let slow = store.transaction_producer("slow", hangs).unwrap();
    // One is being asked about, the other waits behind it.
    drop(slow.begin(transfer("one")).unwrap());
    asked.recv_timeout(seconds(60)).expect("the first check is made");
    drop(slow.begin(transfer("two")).unwrap());
    let quick = store.transaction_producer("quick", answering(LocalTransactionState::Commit).0).unwrap();
    drop(quick.begin(transfer("three")).unwrap());
    let received = consumer.recv_timeout(seconds(60)).unwrap().expect("the other group's check is made");
    assert_eq!(received.body_str().unwrap(), "three");
    received.ack().unwrap();
    // The slow one goes: what waited behind the check that hangs is asked of the next producer of its group.
    drop(slow);
    let _next = store.transaction_producer("slow", answering(LocalTransactionState::Commit).0).unwrap();
    drop((let_go, asked));
    let received = consumer.recv_timeout(seconds(60)).unwrap().expect("the check is made elsewhere");
    assert_eq!(received.body_str().unwrap(), "two");
    received.ack().unwrap();
    let left = store.admin().half_messages(10).unwrap();
    assert_eq!((left.len(), left[0].checks), (1, 1));
    drop((consumer, quick));
    store.close().unwrap();
}

#[test]
fn a10_a_message_whose_properties_leave_no_room_for_the_number_of_its_checks_is_checked_too() {
    let store = TestStore::new();
    let (listener, asked) = answering(LocalTransactionState::Unknown);
    let bank = store.transaction_producer("bank", listener).unwrap();
    let fits = |len: usize| bank.begin(transfer("pay").property("m", "v".repeat(len)));
    let error = fits(32_600).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "properties", .. }), "{error}");
    let longest = (32_000..32_600).rev().find(|len| fits(*len).map(drop).is_ok()).unwrap();
    assert!(longest > 32_400, "{longest}");
    (0..17).for_each(|_| store.advance(seconds(30)).unwrap());
    assert_eq!((asked.load(Ordering::SeqCst), undecided(&store)), (15, 0));
    assert_eq!(store.admin().given_up_half_messages(10).unwrap().len(), 1);
}
