//! What happens to transactions on a disk that is full, or fails, or loses its power, and when the process dies?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::config::{Background, FileSizes, FlushPolicy};
use crate::filter::Filter;
use crate::message::Message;
use crate::producer::TransactionProducer;
use crate::storage::RealDisk;
use crate::storage::faulty::{Faults, FaultyDisk, Operation};
use crate::store::Store;
use crate::sync::Mutex;

const POLICIES: [FlushPolicy; 2] = [FlushPolicy::Async, FlushPolicy::Sync];

/// A store on a disk that fails when it is told to, and what its application knows to be done.
struct Bank {
    store: Store,
    producer: TransactionProducer,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
    truth: Arc<Truth>,
}

/// What became of the local work of each transaction; nothing of one that has not begun.
#[derive(Default)]
struct Truth(Mutex<BTreeMap<String, LocalTransactionState>>);

impl Truth {
    fn set(&self, key: &str, state: LocalTransactionState) {
        self.0.lock().insert(key.to_owned(), state);
    }
}

fn open_store(dir: &Path, flush: FlushPolicy, clock: &Arc<ManualClock>) -> (Result<Store>, Arc<Faults>) {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let faults = Arc::clone(disk.faults());
    let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let sizes =
        FileSizes { commit_log: 1 << 16, consume_queue_units: 500, index_slots: 500, index_entries: 2_000 };
    let builder = Store::builder(dir)
        .file_sizes(sizes)
        .max_message_size(4_096)
        .flush(flush)
        .clock(hands)
        .background(Background::Manual);
    (Store::open_with(builder.free_space_min(0), Arc::new(disk)), faults)
}

fn open(dir: &Path, flush: FlushPolicy, clock: &Arc<ManualClock>, truth: &Arc<Truth>) -> Bank {
    let (store, faults) = open_store(dir, flush, clock);
    let store = store.unwrap();
    let known = Arc::clone(truth);
    let listener = move |message: &MessageView| {
        let key = message.keys().next().unwrap();
        // What is not known was never begun, and never will be.
        known.0.lock().get(key).copied().unwrap_or(LocalTransactionState::Rollback)
    };
    let producer = store.transaction_producer("bank", listener).unwrap();
    Bank { store, producer, clock: Arc::clone(clock), faults, truth: Arc::clone(truth) }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_700_000_000_000))
}

impl Bank {
    fn begin(&self, key: &str) -> Result<crate::producer::Transaction> {
        self.producer.begin(Message::new("transfers", key.to_owned()).key(key))
    }

    fn advance(&self, seconds: u64) -> Result<()> {
        self.clock.advance(Duration::from_secs(seconds));
        self.store.step()
    }

    /// Returns how often each body is in the topic.
    fn received(&self) -> HashMap<String, u32> {
        let mut received = HashMap::new();
        for queue in self.store.queues("transfers").unwrap_or_default() {
            let Some(range) = self.store.queue_offsets(&queue) else { continue };
            let mut at = range.start;
            while at < range.end {
                let page = self.store.pull(&queue, &Filter::all(), at, 32).unwrap();
                at = page.next_offset;
                for message in page.messages {
                    *received.entry(message.body_str().unwrap().into_owned()).or_default() += 1;
                }
            }
        }
        received
    }

    fn undecided(&self) -> usize {
        self.store.admin().half_messages(usize::MAX).unwrap().len()
    }

    fn kill(self) {
        self.store.kill();
    }
}

#[test]
fn k36_a_commit_without_its_record_is_a_commit_and_is_repeated_only_after_a_crash() {
    for dies in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (clock, truth) = (clock(), Arc::default());
        let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
        let pay = bank.begin("pay").unwrap();
        truth.set("pay", LocalTransactionState::Commit);
        bank.faults.fail_within(Operation::Create, "RMQ_SYS_TRANS_OP");
        bank.faults.fail_within(Operation::Map, "RMQ_SYS_TRANS_OP");
        pay.commit().unwrap();
        assert_eq!((bank.received()["pay"], bank.undecided()), (1, 0));
        assert!(bank.advance(6).is_err());
        assert!(matches!(bank.store.health(), crate::Health::Degraded(_)), "{:?}", bank.store.health());
        let bank = if dies {
            bank.kill();
            open(dir.path(), FlushPolicy::Async, &clock, &truth)
        } else {
            bank.faults.heal();
            bank
        };
        bank.advance(60).unwrap();
        let copies = if dies { 2 } else { 1 };
        assert_eq!((bank.received()["pay"], bank.undecided()), (copies, 0));
        assert_eq!(bank.store.health(), crate::Health::Ok);
        bank.kill();
        let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
        bank.advance(60).unwrap();
        assert_eq!((bank.received()["pay"], bank.undecided()), (copies, 0));
    }
}

#[test]
fn d12_a_rollback_that_cannot_be_written_is_none_and_the_check_decides() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, truth) = (clock(), Arc::default());
    let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
    let pay = bank.begin("pay").unwrap();
    bank.faults.fail_within(Operation::Create, "RMQ_SYS_TRANS_OP");
    bank.faults.fail_within(Operation::Map, "RMQ_SYS_TRANS_OP");
    assert!(matches!(pay.rollback(), Err(Error::Io(_))));
    assert_eq!(bank.undecided(), 1);
    bank.faults.heal();
    truth.set("pay", LocalTransactionState::Rollback);
    bank.advance(6).unwrap();
    assert_eq!((bank.received().len(), bank.undecided()), (0, 0));
}

#[test]
fn d5_a_store_that_takes_nothing_makes_no_check_and_counts_none() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, truth) = (clock(), Arc::default());
    let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
    drop(bank.begin("pay").unwrap());
    truth.set("pay", LocalTransactionState::Commit);
    bank.faults.fail_within(Operation::MapSync, "commitlog/");
    assert!(bank.store.flush().is_err());
    assert!(bank.advance(6).is_err());
    assert_eq!((bank.received().len(), bank.store.admin().half_messages(1).unwrap()[0].checks), (0, 0));
    assert!(matches!(bank.begin("more"), Err(Error::FlushFailed { .. })));
    bank.kill();
    let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
    bank.advance(0).unwrap();
    assert_eq!((bank.received()["pay"], bank.undecided()), (1, 0));
}

#[test]
fn d12_positions_are_said_behind_the_flush_of_the_decisions() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, truth) = (clock(), Arc::default());
    let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
    let pay = bank.begin("pay").unwrap();
    bank.store.flush().unwrap();
    let flushed = usize::try_from(bank.store.brokers()[0].log_range().end.get()).unwrap();
    pay.commit().unwrap();
    truth.set("pay", LocalTransactionState::Commit);
    bank.faults.fail_within(Operation::MapSync, "commitlog/");
    // Steps that see the decision, and cannot flush it.
    for _ in 0..3 {
        let _ = bank.advance(1);
    }
    let end = usize::try_from(bank.store.brokers()[0].log_range().end.get()).unwrap();
    assert!(end > flushed);
    bank.kill();
    // The power goes: what was not flushed is not there.
    let log = dir.path().join("broker-a/commitlog/00000000000000000000");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[flushed..end].fill(0);
    std::fs::write(&log, bytes).unwrap();
    let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
    assert_eq!((bank.received().len(), bank.undecided()), (0, 1));
    bank.advance(6).unwrap();
    assert_eq!(bank.received()["pay"], 1);
}

#[test]
fn a_copy_whose_original_is_not_written_down_yet_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, truth) = (clock(), Arc::<Truth>::default());
    let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
    drop(bank.begin("pay").unwrap());
    truth.set("pay", LocalTransactionState::Unknown);
    bank.faults.fail_within(Operation::Create, "RMQ_SYS_TRANS_OP");
    bank.faults.fail_within(Operation::Map, "RMQ_SYS_TRANS_OP");
    assert!(bank.advance(6).is_err());
    bank.kill();
    truth.set("pay", LocalTransactionState::Commit);
    let bank = open(dir.path(), FlushPolicy::Async, &clock, &truth);
    let halves = bank.store.admin().half_messages(10).unwrap();
    assert_eq!((halves.len(), halves[0].checks), (1, 1));
    bank.advance(60).unwrap();
    assert_eq!((bank.received()["pay"], bank.undecided()), (1, 0));
}

/// What an application was told, by key.
#[derive(Default)]
struct Told {
    committed: BTreeSet<String>,
    rolled_back: BTreeSet<String>,
}

/// Begins, works, decides and checks, whatever fails, and notes what it was told.
fn live(bank: &Bank, told: &mut Told, round: u32) {
    for n in 0..4_u32 {
        let key = format!("{round}-{n}");
        let Ok(transaction) = bank.begin(&key) else { continue };
        let done = if n % 2 == 0 { LocalTransactionState::Commit } else { LocalTransactionState::Rollback };
        bank.truth.set(&key, done);
        let decided = match n {
            0 => transaction.commit().map(|()| told.committed.insert(key)),
            1 => transaction.rollback().map(|()| told.rolled_back.insert(key)),
            _ => continue,
        };
        drop(decided);
        let _ = bank.advance(1);
    }
    for _ in 0..3 {
        let _ = bank.advance(6);
    }
}

/// Invariant I13: what was committed is there, what was rolled back never, and what nobody decided as the truth has it.
fn check_i13(bank: &Bank, told: &Told, what: &str) {
    let received = bank.received();
    for (key, state) in bank.truth.0.lock().iter() {
        let is_there = received.contains_key(key);
        assert_eq!(is_there, *state == LocalTransactionState::Commit, "{what}: {key} {state:?}");
    }
    assert!(told.committed.iter().all(|key| received.contains_key(key)), "{what}");
    assert!(!told.rolled_back.iter().any(|key| received.contains_key(key)), "{what}");
    assert!(received.keys().all(|key| bank.truth.0.lock().contains_key(key)), "{what}");
    assert_eq!(bank.undecided(), 0, "{what}");
}

#[test]
fn i13_holds_whatever_single_failure_comes_at_whatever_step_and_the_process_dies_after_it() {
    const OPERATIONS: [Operation; 7] = [
        Operation::MapSync,
        Operation::FileSync,
        Operation::DirSync,
        Operation::Allocate,
        Operation::Create,
        Operation::Rename,
        Operation::Map,
    ];
    for flush in POLICIES {
        for operation in OPERATIONS {
            let mut earlier = 0;
            loop {
                let dir = tempfile::tempdir().unwrap();
                let (clock, truth) = (clock(), Arc::default());
                let bank = open(dir.path(), flush, &clock, &truth);
                let before = bank.faults.count(operation);
                bank.faults.fail_after(operation, earlier);
                let mut told = Told::default();
                live(&bank, &mut told, 0);
                let asked = bank.faults.count(operation).saturating_sub(before);
                bank.kill();
                let bank = open(dir.path(), flush, &clock, &truth);
                for _ in 0..3 {
                    bank.advance(30).unwrap();
                }
                check_i13(&bank, &told, &format!("{flush:?} {operation:?} {earlier}"));
                bank.kill();
                if asked <= earlier {
                    break;
                }
                // Every one of the first eight, then ever fewer: what repeats does not differ.
                earlier += 1 + earlier / 8;
            }
        }
    }
}

/// A small generator of numbers, the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// One life of the process: random things happen until it dies.
fn random_life(bank: &Bank, told: &mut Told, numbers: &mut Numbers, life: u32) {
    let mut open = Vec::new();
    for n in 0..numbers.below(40) {
        match numbers.below(8) {
            0..=3 => {
                let key = format!("{life}-{n}");
                let transaction = bank.begin(&key).unwrap();
                // The process may die before the work, in which case it was not done.
                let state = if numbers.below(2) == 0 {
                    LocalTransactionState::Commit
                } else {
                    LocalTransactionState::Rollback
                };
                bank.truth.set(&key, state);
                open.push((key, state, transaction));
            }
            4..=5 if !open.is_empty() => {
                let chosen = usize::try_from(numbers.below(open.len() as u64)).unwrap();
                let (key, state, transaction) = open.swap_remove(chosen);
                // A check may have been faster: it knows the same truth, so it cannot have decided otherwise.
                if state == LocalTransactionState::Commit {
                    transaction.commit().unwrap();
                    told.committed.insert(key);
                } else {
                    transaction.rollback().unwrap();
                    told.rolled_back.insert(key);
                }
            }
            6 => drop(open.pop()),
            _ => bank.advance(numbers.below(40)).unwrap(),
        }
    }
}

#[test]
fn i13_holds_over_many_random_deaths_of_the_process() {
    for seed in 0..12_u64 {
        let mut numbers = Numbers(seed);
        let flush = POLICIES[usize::try_from(seed % 2).unwrap()];
        let dir = tempfile::tempdir().unwrap();
        let (clock, truth) = (clock(), Arc::default());
        let mut told = Told::default();
        for life in 0..6 {
            let bank = open(dir.path(), flush, &clock, &truth);
            random_life(&bank, &mut told, &mut numbers, life);
            if numbers.below(4) == 0 {
                bank.store.close().unwrap();
            }
            bank.kill();
        }
        let bank = open(dir.path(), flush, &clock, &truth);
        for _ in 0..3 {
            bank.advance(40).unwrap();
        }
        check_i13(&bank, &told, &format!("seed {seed}"));
        // Nothing was lost in between, so nothing came twice.
        assert!(bank.received().values().all(|copies| *copies == 1), "seed {seed}: {:?}", bank.received());
        bank.kill();
    }
}
