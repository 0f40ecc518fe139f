//! Does a ticket work as a future, under any runtime and none?

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use super::asynchronous::open_faulty;
use super::*;
use crate::error::Outcome;
use crate::storage::faulty::Operation;
use crate::sync::Parker;

/// A runtime of six lines: the thread sleeps until the future wakes it.
struct Bed(Parker);

impl Wake for Bed {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let bed = Arc::new(Bed(Parker::default()));
    let waker = Waker::from(Arc::clone(&bed));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => assert!(bed.0.park_until(None)),
        }
    }
}

fn with_threads(flush: FlushPolicy) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path())
        .flush(flush)
        .flush_interval(Duration::from_secs(3_600))
        .free_space_min(0)
        .open()
        .unwrap();
    (dir, store)
}

#[test]
fn a_ticket_is_a_future_that_is_woken_by_the_flush() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let (_dir, store) = with_threads(flush);
        let producer = producer(&store);
        for n in 0..20 {
            let receipt = block_on(producer.send_async(Message::new("orders", n.to_string()))).unwrap();
            assert_eq!(receipt.durability() == Durability::Flushed, flush == FlushPolicy::Sync);
        }
        let tickets: Vec<_> = (0..64).map(|_| producer.send_async(Message::new("orders", "x"))).collect();
        let all = async {
            let mut receipts = Vec::new();
            for ticket in tickets {
                receipts.push(ticket.await.unwrap());
            }
            receipts
        };
        assert_eq!(block_on(all).len(), 64);
    }
}

#[test]
fn a_future_crosses_threads_and_may_be_polled_by_another_one() {
    const fn check<T: Send + 'static>(_: &T) {}
    let (_dir, store) = with_threads(FlushPolicy::Sync);
    let ticket = producer(&store).send_async(Message::new("orders", "x"));
    check(&ticket);
    let mut ticket = Box::pin(ticket);
    let idle = Context::from_waker(Waker::noop());
    let first = ticket.as_mut().poll(&mut { idle });
    let receipt = match first {
        Poll::Ready(answer) => answer,
        Poll::Pending => std::thread::spawn(move || block_on(ticket)).join().unwrap(),
    };
    assert_eq!(receipt.unwrap().durability(), Durability::Flushed);
}

#[test]
fn a_store_that_is_driven_by_hand_flushes_in_the_poll() {
    let store = TestStore::builder(|builder| builder.flush(FlushPolicy::Sync).free_space_min(0));
    let mut ticket = pin!(producer(&store).send_async(Message::new("orders", "x")));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(ticket.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    let again = ticket.as_mut().poll(&mut context);
    assert!(matches!(again, Poll::Ready(Err(Error::InvalidArgument { field: "ticket", .. }))));
}

#[test]
fn a_future_that_is_dropped_in_between_leaves_its_message() {
    let (_dir, store) = with_threads(FlushPolicy::Sync);
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let mut ticket = Box::pin(producer(&store).send_async(Message::new("orders", "x")));
    let _ = ticket.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    drop(ticket);
    assert_eq!(consumer.recv().unwrap().body_str().unwrap(), "x");
}

#[test]
fn d5_a_future_is_told_that_its_flush_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path(), |builder| builder.flush(FlushPolicy::Sync));
    let producer = producer(&store);
    producer.send(Message::new("orders", "x")).unwrap();
    let ticket = producer.send_async(Message::new("orders", "x"));
    faults.fail_once_within(Operation::MapSync, "commitlog");
    let error = block_on(ticket).unwrap_err();
    assert!(matches!(error, Error::FlushFailed { outcome: Outcome::MayExist, .. }), "{error}");
}

#[test]
fn a_future_of_a_store_that_is_closed_meanwhile_is_woken() {
    let (_dir, store) = with_threads(FlushPolicy::Sync);
    let producer = producer(&store);
    let tickets: Vec<_> = (0..8).map(|_| producer.send_async(Message::new("orders", "x"))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| store.close().unwrap());
        for ticket in tickets {
            assert_eq!(block_on(ticket).unwrap().durability(), Durability::Flushed);
        }
    });
}
