//! Is an asynchronous sender told once, truly, in order, and within bounds?

use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::config::{Background, FileSizes};
use crate::error::Outcome;
use crate::storage::RealDisk;
use crate::storage::faulty::{Faults, FaultyDisk, Operation};
use crate::sync::{AtomicUsize, Mutex, Ordering};

const LOG: &str = "commitlog";

/// Opens a store on a disk that can be told to fail.
pub(super) fn open_faulty(
    dir: &Path,
    settings: impl FnOnce(StoreBuilder) -> StoreBuilder,
) -> (Store, Arc<Faults>) {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let faults = Arc::clone(disk.faults());
    let sizes = FileSizes { commit_log: 1 << 20, ..FileSizes::default() };
    let builder = Store::builder(dir).file_sizes(sizes).free_space_min(0).background(Background::Manual);
    (Store::open_with(settings(builder), Arc::new(disk)).unwrap(), faults)
}

fn sync_store() -> TestStore {
    TestStore::builder(|builder| builder.flush(FlushPolicy::Sync).free_space_min(0))
}

fn message(n: usize) -> Message {
    Message::new("orders", format!("{n}"))
}

/// Where callbacks write down what they were told.
type Told = Arc<Mutex<Vec<Result<SendReceipt>>>>;

fn write_to(told: &Told) -> impl FnOnce(Result<SendReceipt>) + Send + 'static {
    let told = Arc::clone(told);
    move |answer| told.lock().push(answer)
}

#[test]
fn f28_under_async_flush_a_ticket_has_its_answer_from_the_start() {
    let store = store();
    let ticket = producer(&store).send_async(message(0));
    assert!(ticket.is_done());
    assert_eq!(count(&store, "orders"), 1);
    let receipt = ticket.wait().unwrap();
    assert_eq!((receipt.status(), receipt.durability()), (SendStatus::SendOk, Durability::Stored));
}

#[test]
fn f28_sixty_four_tickets_of_one_thread_share_one_flush() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path(), |builder| builder.flush(FlushPolicy::Sync));
    let producer = producer(&store);
    producer.send(message(0)).unwrap();
    let before = faults.count_within(Operation::MapSync, LOG);
    let tickets: Vec<_> = (0..64).map(|n| producer.send_async(message(n))).collect();
    assert!(tickets.iter().all(|ticket| !ticket.is_done()), "an asynchronous send does not flush");
    assert_eq!(count(&store, "orders"), 1, "V1: what is not flushed is not visible");
    for ticket in tickets {
        let receipt = ticket.wait().unwrap();
        assert_eq!((receipt.status(), receipt.durability()), (SendStatus::SendOk, Durability::Flushed));
        assert!(store.message_at(receipt.queue(), receipt.queue_offset()).unwrap().is_some(), "V2");
    }
    assert_eq!(faults.count_within(Operation::MapSync, LOG), before + 1);
}

#[test]
fn a_ticket_is_done_when_anybody_has_flushed() {
    let store = sync_store();
    let producer = producer(&store);
    let (first, second) = (producer.send_async(message(0)), producer.send_async(message(1)));
    producer.send(message(2)).unwrap();
    assert!(first.is_done() && second.is_done());
    let third = producer.send_async(message(3));
    assert!(!third.is_done());
    store.step().unwrap();
    assert!(third.is_done());
    assert_eq!(third.wait_timeout(Duration::ZERO).unwrap().durability(), Durability::Flushed);
}

#[test]
fn a_message_that_does_not_wait_for_its_flush_has_its_ticket_at_once() {
    let store = sync_store();
    let ticket = producer(&store).send_async(message(0).no_wait());
    assert!(ticket.is_done());
    assert_eq!(ticket.wait().unwrap().durability(), Durability::Stored);
}

#[test]
fn a_dropped_ticket_gives_up_the_answer_and_not_the_message() {
    let store = sync_store();
    drop(producer(&store).send_async(message(0)));
    store.step().unwrap();
    assert_eq!(count(&store, "orders"), 1);
}

#[test]
fn a_dropped_ticket_asks_the_flusher_so_that_its_message_becomes_visible() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path())
        .flush(FlushPolicy::Sync)
        .flush_interval(Duration::from_secs(3_600))
        .free_space_min(0)
        .open()
        .unwrap();
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    drop(producer(&store).send_async(message(0)));
    assert_eq!(consumer.recv().unwrap().body_str().unwrap(), "0");
}

#[test]
fn v3_asynchronous_sends_of_one_thread_keep_the_order_of_the_calls() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let store = TestStore::builder(move |builder| builder.flush(flush).free_space_min(0));
        let producer = producer(&store);
        let send = |n| producer.send_async(message(n).order_key("order-42"));
        let tickets: Vec<_> = (0..100).map(send).collect();
        // Waited for from the last to the first: the order is that of the calls all the same.
        let mut receipts: Vec<_> = tickets.into_iter().rev().map(|ticket| ticket.wait().unwrap()).collect();
        receipts.reverse();
        for (n, receipt) in receipts.iter().enumerate() {
            assert_eq!((receipt.queue(), receipt.queue_offset().get()), (receipts[0].queue(), n as u64));
            let found = store.message_at(receipt.queue(), receipt.queue_offset()).unwrap().unwrap();
            assert_eq!(found.body_str().unwrap(), n.to_string());
        }
    }
}

#[test]
fn t_a7_t_a8_a17_every_wrong_argument_is_told_by_the_ticket_and_the_callback() {
    let store = store();
    let (producer, told) = (producer(&store), Told::default());
    let wrong = queue("orders", "broker-a", 100);
    let tickets = [
        producer.send_async(Message::new("orders", "")),
        producer.send_async_to(&wrong, message(0)),
        producer.send_async_to(&queue("payments", "broker-a", 0), message(0)),
        producer.send_async_with(message(0), |_, _| None),
        producer.send_async_with(message(0), |queues, _| Some(queues.len())),
        producer.send_batch_async([message(0), Message::new("payments", "x")]),
        producer.send_batch_async::<Message>([]),
    ];
    let count_of_tickets = tickets.len();
    for ticket in tickets {
        assert!(ticket.is_done());
        assert!(matches!(ticket.wait(), Err(Error::InvalidArgument { .. })));
    }
    producer.send_then(Message::new("orders", ""), write_to(&told)).unwrap();
    producer.send_to_then(&wrong, message(0), write_to(&told)).unwrap();
    producer.send_to_then(&queue("payments", "broker-a", 0), message(0), write_to(&told)).unwrap();
    producer.send_with_then(message(0), |_, _| None, write_to(&told)).unwrap();
    producer.send_with_then(message(0), |queues, _| Some(queues.len()), write_to(&told)).unwrap();
    producer.send_batch_then([message(0), Message::new("payments", "x")], write_to(&told)).unwrap();
    producer.send_batch_then::<Message>([], write_to(&told)).unwrap();
    assert!(told.lock().is_empty(), "no callback is called in the sender's call");
    store.step().unwrap();
    assert_eq!(told.lock().len(), count_of_tickets);
    assert!(told.lock().iter().all(|answer| matches!(answer, Err(Error::InvalidArgument { .. }))));
    assert_eq!(count(&store, "orders"), 0);
}

#[test]
fn t_a7_a_selector_that_panics_passes_its_panic_on_and_frees_its_place() {
    let store = store();
    let producer = store.producer_builder("shop").in_flight_max(1).build().unwrap();
    let told = Told::default();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        producer.send_with_then(message(0), |_, _| panic!("the selector's own"), write_to(&told))
    }));
    assert!(panicked.is_err());
    producer.send_then(message(1), write_to(&told)).unwrap();
    store.step().unwrap();
    assert_eq!(told.lock().len(), 1);
}

#[test]
fn f28_callbacks_are_called_once_in_order_and_never_in_the_call() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let store = TestStore::builder(move |builder| builder.flush(flush).free_space_min(0));
        let (producer, told) = (producer(&store), Told::default());
        for n in 0..50 {
            producer.send_then(message(n).key(n.to_string()), write_to(&told)).unwrap();
        }
        let batch = [message(50).key("50"), message(51)];
        producer.send_batch_then(&batch, write_to(&told)).unwrap();
        assert!(told.lock().is_empty());
        store.step().unwrap();
        store.step().unwrap();
        let told = told.lock();
        let keys: Vec<_> = told.iter().map(|answer| answer.as_ref().unwrap().key().to_owned()).collect();
        assert_eq!(keys, (0..=50).map(|n| n.to_string()).collect::<Vec<_>>());
        let safe = if flush == FlushPolicy::Sync { Durability::Flushed } else { Durability::Stored };
        assert!(told.iter().all(|answer| answer.as_ref().unwrap().durability() == safe));
        assert_eq!(told[50].as_ref().unwrap().batch().len(), 2);
    }
}

#[test]
fn a_callback_that_panics_stops_no_other_and_one_that_sends_goes_on_in_the_next_step() {
    let store = store();
    let (producer, told) = (producer(&store), Told::default());
    producer.send_then(message(0), |_| panic!("the callback's own")).unwrap();
    let (again, inner) = (producer.clone(), write_to(&told));
    let resend = move |_| again.send_then(message(2), inner).unwrap();
    producer.send_then(message(1), resend).unwrap();
    store.step().unwrap();
    assert_eq!((told.lock().len(), count(&store, "orders")), (0, 3));
    store.step().unwrap();
    assert_eq!(told.lock().len(), 1);
}

#[test]
fn f29_one_callback_more_than_may_be_in_flight_is_refused_before_anything_is_stored() {
    let store = store();
    let producer = store.producer_builder("shop").in_flight_max(3).build().unwrap();
    let told = Told::default();
    for round in 1..=2 {
        for n in 0..3 {
            producer.send_then(message(n), write_to(&told)).unwrap();
        }
        let error = producer.send_then(message(3), write_to(&told)).unwrap_err();
        assert!(matches!(error, Error::StoreBusy(_)) && error.is_retryable(), "{error}");
        assert!(error.to_string().contains("3 callbacks"), "{error}");
        store.step().unwrap();
        assert_eq!((told.lock().len(), count(&store, "orders")), (3 * round, 3 * round as u64));
    }
}

#[test]
fn f29_one_unflushed_message_more_than_may_be_in_flight_is_refused_until_a_flush() {
    let store = sync_store();
    let producer = store.producer_builder("shop").in_flight_max(3).build().unwrap();
    let tickets: Vec<_> = (0..3).map(|n| producer.send_async(message(n))).collect();
    let refused = producer.send_async(message(3));
    assert!(refused.is_done());
    let error = refused.wait().unwrap_err();
    assert!(matches!(error, Error::StoreBusy(_)) && error.outcome() == Outcome::NotStored, "{error}");
    store.step().unwrap();
    assert_eq!(count(&store, "orders"), 3);
    producer.send_async(message(3)).wait().unwrap();
    tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    // What does not wait for its flush is not counted.
    (0..10).for_each(|n| drop(producer.send_async(message(n).no_wait()).wait().unwrap()));
    (0..10).for_each(|n| producer.send_oneway(message(n)).unwrap());
}

#[test]
fn f29_as_many_bytes_as_may_be_in_flight_refuse_the_next_message_until_a_flush() {
    let store = sync_store();
    let producer = store.producer_builder("shop").in_flight_bytes_max(1 << 20).build().unwrap();
    let large = || Message::new("orders", vec![7; 600 << 10]);
    let tickets = [producer.send_async(large()), producer.send_async(large())];
    let error = producer.send_async(message(1)).wait().unwrap_err();
    assert!(matches!(error, Error::StoreBusy(_)) && error.outcome() == Outcome::NotStored, "{error}");
    assert!(error.to_string().contains("in_flight_bytes_max"), "{error}");
    store.step().unwrap();
    producer.send_async(message(1)).wait().unwrap();
    tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    let error = store.producer_builder("shop").in_flight_bytes_max(1_000).build().unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { field: "in_flight_bytes_max", .. }), "{error}");
}

#[test]
fn f29_who_waits_for_room_flushes_and_is_stored() {
    let store = sync_store();
    let busy = store.producer_builder("shop").in_flight_max(3).when_busy(WhenBusy::Wait);
    let (producer, told) = (busy.build().unwrap(), Told::default());
    let tickets: Vec<_> = (0..10).map(|n| producer.send_async(message(n))).collect();
    tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    for n in 0..10 {
        producer.send_then(message(n), write_to(&told)).unwrap();
    }
    store.step().unwrap();
    store.step().unwrap();
    assert_eq!((told.lock().len(), count(&store, "orders")), (10, 20));
}

#[test]
fn f29_a_callback_that_waits_for_its_own_thread_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).free_space_min(0).open().unwrap();
    let busy = store.producer_builder("shop").in_flight_max(1).when_busy(WhenBusy::Wait);
    let producer = busy.send_timeout(Duration::from_secs(3_600)).build().unwrap();
    let (sender, answers) = mpsc::channel();
    let again = producer.clone();
    let resend = move |_| drop(sender.send(again.send_then(message(1), |_| ())));
    producer.send_then(message(0), resend).unwrap();
    assert!(matches!(answers.recv().unwrap(), Err(Error::StoreBusy(_))));
    // Another thread waits for the place, and gets it.
    producer.send_then(message(2), |_| ()).unwrap();
}

#[test]
fn with_threads_every_callback_is_called_once_and_in_the_order_of_its_queue() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::builder(dir.path()).flush(flush).free_space_min(0).open().unwrap();
        let busy = store.producer_builder("shop").in_flight_max(16).when_busy(WhenBusy::Wait);
        let producer = busy.build().unwrap();
        let (sender, answers) = mpsc::channel();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (producer, sender) = (&producer, sender.clone());
                scope.spawn(move || {
                    for n in 0..100 {
                        let sender = sender.clone();
                        let keyed = message(n).order_key(format!("thread-{thread}")).key(thread.to_string());
                        producer
                            .send_then(keyed, move |answer| sender.send(answer.unwrap()).unwrap())
                            .unwrap();
                    }
                });
            }
        });
        drop(sender);
        drop(producer);
        let receipts: Vec<SendReceipt> = answers.iter().collect();
        assert_eq!(receipts.len(), 400);
        for thread in 0..4 {
            let own = receipts.iter().filter(|receipt| receipt.key() == thread.to_string());
            assert!(own.map(SendReceipt::queue_offset).is_sorted(), "{thread}");
        }
        store.close().unwrap();
    }
}

#[test]
fn with_threads_tickets_are_told_whoever_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).flush(FlushPolicy::Sync).free_space_min(0).open().unwrap();
    let producer = producer(&store);
    let flushed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let tickets: Vec<_> = (0..64).map(|n| producer.send_async(message(n))).collect();
                    for ticket in tickets {
                        let receipt = ticket.wait().unwrap();
                        assert_eq!(receipt.durability(), Durability::Flushed);
                        flushed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for n in 0..50 {
            assert_eq!(producer.send(message(n)).unwrap().durability(), Durability::Flushed);
        }
    });
    assert_eq!(flushed.load(Ordering::Relaxed), 2 * 10 * 64);
    assert_eq!(count(&store, "orders"), 2 * 10 * 64 + 50);
}

#[test]
fn d5_a_failed_flush_is_told_to_every_ticket_and_callback_as_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path(), |builder| builder.flush(FlushPolicy::Sync));
    let (producer, told) = (producer(&store), Told::default());
    producer.send(message(0)).unwrap();
    let (first, second) = (producer.send_async(message(1)), producer.send_async(message(2)));
    producer.send_then(message(3), write_to(&told)).unwrap();
    faults.fail_once_within(Operation::MapSync, LOG);
    for ticket in [first, second] {
        let error = ticket.wait().unwrap_err();
        assert!(matches!(error, Error::FlushFailed { outcome: Outcome::MayExist, .. }), "{error}");
    }
    assert!(store.step().is_err());
    assert!(matches!(told.lock()[..], [Err(Error::FlushFailed { outcome: Outcome::MayExist, .. })]));
    let error = producer.send_async(message(4)).wait().unwrap_err();
    assert!(matches!(error, Error::FlushFailed { outcome: Outcome::NotStored, .. }), "{error}");
}

#[test]
fn a19_a_close_flushes_and_tells_whoever_waits() {
    let store = sync_store();
    let (producer, told) = (producer(&store), Told::default());
    let ticket = producer.send_async(message(0));
    producer.send_then(message(1), write_to(&told)).unwrap();
    store.close().unwrap();
    assert_eq!(ticket.wait().unwrap().durability(), Durability::Flushed);
    assert!(matches!(producer.send_async(message(2)).wait(), Err(Error::Closed)));
    assert!(matches!(producer.send_oneway(message(2)), Err(Error::Closed)));
    producer.send_then(message(2), write_to(&told)).unwrap();
    assert!(matches!(store.step(), Err(Error::Closed)));
    assert!(matches!(told.lock()[..], [Ok(_), Err(Error::Closed)]), "{told:?}");
    let store = store.reopen().unwrap();
    assert_eq!(count(&store, "orders"), 2);
}

#[test]
fn a19_with_threads_a_close_has_every_callback_called() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path())
        .flush(FlushPolicy::Sync)
        .flush_interval(Duration::from_secs(3_600))
        .free_space_min(0)
        .open()
        .unwrap();
    let producer = producer(&store);
    let (sender, answers) = mpsc::channel();
    for n in 0..20 {
        let sender = sender.clone();
        producer.send_then(message(n), move |answer| drop(sender.send(answer))).unwrap();
    }
    drop(sender);
    store.close().unwrap();
    drop((producer, store));
    let answers: Vec<_> = answers.iter().collect();
    assert!(answers.len() == 20 && answers.iter().all(Result::is_ok));
}

#[test]
fn a_ticket_of_a_store_that_was_killed_is_in_doubt() {
    let store = sync_store();
    let (ticket, told) = (producer(&store).send_async(message(0)), Told::default());
    producer(&store).send_then(message(1), write_to(&told)).unwrap();
    store.store().kill();
    assert!(ticket.is_done());
    let error = ticket.wait().unwrap_err();
    assert_eq!(error.outcome(), Outcome::MayExist, "{error}");
}

#[test]
fn f30_a_one_way_message_is_stored_and_flushed_by_whoever_comes_next() {
    let store = sync_store();
    let producer = producer(&store);
    producer.send_oneway(message(0)).unwrap();
    assert_eq!(count(&store, "orders"), 0, "V1: not before the flush");
    store.step().unwrap();
    let found = store.message_at(&store.queues("orders").unwrap()[0], QueueOffset::ZERO);
    assert_eq!(count(&store, "orders"), 1);
    let property = found.unwrap().and_then(|message| message.property("WAIT").map(str::to_owned));
    assert_eq!(property, None, "the record says nothing of how it was sent");
}

#[test]
fn t_a13_a_wrong_one_way_message_is_refused_in_the_call() {
    let store = store();
    let producer = producer(&store);
    assert!(producer.send_oneway(Message::new("orders", "")).is_err());
    assert!(producer.send_oneway_to(&queue("orders", "broker-a", 100), message(0)).is_err());
    assert!(producer.send_oneway_with(message(0), |_, _| None).is_err());
    assert_eq!(count(&store, "orders"), 0);
}

#[test]
fn a_store_in_memory_tells_asynchronous_senders_as_one_on_disk_does() {
    let settings =
        |builder: StoreBuilder| builder.in_memory().flush(FlushPolicy::Sync).background(Background::Manual);
    let store = settings(Store::builder("in memory")).open().unwrap();
    let (producer, told) = (producer(&store), Told::default());
    let tickets: Vec<_> = (0..8).map(|n| producer.send_async(message(n))).collect();
    producer.send_then(message(8), write_to(&told)).unwrap();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap().durability(), Durability::Flushed);
    }
    store.step().unwrap();
    assert!(matches!(told.lock()[..], [Ok(_)]));
    assert_eq!(count(&store, "orders"), 9);
}

#[test]
fn f29_threads_that_wait_for_room_are_all_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).flush(FlushPolicy::Sync).free_space_min(0).open().unwrap();
    let producer = store.producer_builder("shop").in_flight_max(2).when_busy(WhenBusy::Wait).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let tickets: Vec<_> = (0..50).map(|n| producer.send_async(message(n))).collect();
                tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
            });
        }
    });
    assert_eq!(count(&store, "orders"), 200);
}
