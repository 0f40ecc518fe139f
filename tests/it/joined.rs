//! Do a message and the acknowledgement that travels with it survive together, or not at all?

use std::path::{Path, PathBuf};
use std::time::Duration;

use pocketmq::testing::{TestFolder, TestStore};
use pocketmq::{Consumer, Error, Filter, FlushPolicy, Message, QueueOffset, RetryPolicy, Store, TopicConfig};

const SECOND: Duration = Duration::from_secs(1);

fn store_with(flush: FlushPolicy) -> TestStore {
    let store = TestStore::builder(move |builder| builder.flush(flush));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    store.create_topic("invoices", TopicConfig::queues(2)).unwrap();
    store
}

fn send(store: &Store, count: usize) {
    let producer = store.producer("shop").unwrap();
    for n in 0..count {
        let tag = if n % 3 == 2 { "ignored" } else { "wanted" };
        producer.send(Message::new("orders", n.to_string()).tag(tag)).unwrap();
    }
}

fn consumer(store: &Store) -> Consumer {
    store.consumer("billing").subscribe("orders", "wanted").orderly().build().unwrap()
}

/// Takes the next message and sends an invoice for it.
fn work(store: &Store, consumer: &Consumer) -> Option<String> {
    let order = consumer.try_recv().unwrap()?;
    let body = order.body_str().unwrap().into_owned();
    let producer = store.producer("billing").unwrap();
    producer.send_and_ack(Message::new("invoices", body.clone()), order).unwrap();
    Some(body)
}

fn committed(store: &Store) -> u64 {
    let queue = store.queues("orders").unwrap().remove(0);
    store.committed("billing", &queue).unwrap().map_or(0, QueueOffset::get)
}

/// The bodies of all messages of a topic, sorted by number.
fn bodies(store: &Store, topic: &str) -> Vec<usize> {
    let mut bodies = Vec::new();
    for queue in store.queues(topic).unwrap() {
        let page = store.pull(&queue, &Filter::all(), QueueOffset::ZERO, 1_000).unwrap();
        bodies.extend(
            page.messages.iter().map(|message| message.body_str().unwrap().parse::<usize>().unwrap()),
        );
    }
    bodies.sort_unstable();
    bodies
}

fn own(path: &Path, name: &str) -> PathBuf {
    path.join("broker-a").join("pocketmq").join(name)
}

#[test]
fn d10_a_pull_consumer_that_goes_back_is_not_raised_by_what_was_acknowledged_before() {
    let store = store_with(FlushPolicy::Async);
    send(&store, 12);
    let worker = consumer(&store);
    for _ in 0..6 {
        work(&store, &worker).unwrap();
    }
    drop(worker);
    let queue = store.queues("orders").unwrap().remove(0);
    let puller = store.consumer("billing").subscribe("orders", "wanted").pull().unwrap();
    puller.commit_by_hand();
    puller.seek(&queue, QueueOffset::new(3)).unwrap();
    puller.commit_offset().unwrap();
    assert_eq!(committed(&store), 3);
    drop(puller);
    let store = store.kill_process().unwrap();
    assert_eq!(committed(&store), 3);
}

#[test]
fn d10_what_was_sent_and_acknowledged_in_one_step_is_not_repeated_by_a_kill() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let mut store = store_with(flush);
        send(&store, 30);
        let mut seen = Vec::new();
        for round in 0..10 {
            let consumer = consumer(&store);
            for _ in 0..2 {
                seen.extend(work(&store, &consumer).map(|body| body.parse::<usize>().unwrap()));
            }
            if round % 3 == 1 {
                store.advance(SECOND).unwrap();
            }
            drop(consumer);
            store = store.kill_process().unwrap();
        }
        let all: Vec<_> = (0..30).filter(|n| n % 3 != 2).collect();
        assert_eq!(seen, all);
        assert_eq!(bodies(&store, "invoices"), all);
        let store = store.reopen().unwrap();
        assert!(work(&store, &consumer(&store)).is_none());
        assert_eq!(committed(&store), 30);
    }
}

#[test]
fn a_position_is_not_written_before_its_message_is_on_disk() {
    let store = store_with(FlushPolicy::Async);
    send(&store, 3);
    store.flush().unwrap();
    let flushed = store.brokers()[0].log_range().end.get();
    let consumer = consumer(&store);
    work(&store, &consumer).unwrap();
    assert_eq!(committed(&store), 1, "in memory it moves at once");
    let folder = store.kill_into_folder();
    // A power loss that keeps every page but those of the log that were not flushed.
    let log = folder.path().join("broker-a").join("commitlog").join("0".repeat(20));
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[usize::try_from(flushed).unwrap()..].fill(0);
    std::fs::write(&log, bytes).unwrap();
    let store = folder.open().unwrap();
    assert_eq!((committed(&store), bodies(&store, "invoices").len()), (0, 0), "neither");
}

/// Puts an old file back, as a power loss does whose pages never got to the disk.
fn with_old(folder: TestFolder, name: &str, old: Vec<u8>) -> TestStore {
    std::fs::write(own(&folder.path(), name), old).unwrap();
    folder.open().unwrap()
}

#[test]
fn an_acknowledgement_that_only_the_log_has_counts() {
    let store = store_with(FlushPolicy::Sync);
    send(&store, 6);
    let consumer = consumer(&store);
    let old = std::fs::read(own(&store.path(), "positions")).unwrap();
    work(&store, &consumer).unwrap();
    work(&store, &consumer).unwrap();
    assert_eq!(committed(&store), 3, "what nobody wants is passed too");
    let store = with_old(store.kill_into_folder(), "positions", old);
    assert_eq!((committed(&store), bodies(&store, "invoices").len()), (3, 2), "both");
}

#[test]
fn t_g10_a_group_that_was_moved_back_is_not_moved_forward_by_old_messages() {
    let store = store_with(FlushPolicy::Async);
    send(&store, 3);
    let consumer = consumer(&store);
    work(&store, &consumer).unwrap();
    work(&store, &consumer).unwrap();
    let queue = store.queues("orders").unwrap().remove(0);
    store.admin().reset_to_offset("billing", &queue, QueueOffset::ZERO).unwrap();
    drop(consumer);
    let store = store.kill_process().unwrap();
    assert_eq!(committed(&store), 0);
    let store = store.kill_process().unwrap();
    assert_eq!(work(&store, &self::consumer(&store)).unwrap(), "0");
}

#[test]
fn a_copy_of_a_message_acknowledges_nothing() {
    let store = store_with(FlushPolicy::Async);
    send(&store, 3);
    let consumer = consumer(&store);
    let order = consumer.recv().unwrap();
    let producer = store.producer("billing").unwrap();
    let delayed = Message::new("invoices", "0").delay_level(1);
    producer.send_and_ack(delayed, order).unwrap();
    store.advance(SECOND).unwrap();
    assert_eq!(bodies(&store, "invoices"), [0]);
    let policy = RetryPolicy::new().max_retries(0);
    let mailing = store.consumer("mailing").subscribe("invoices", "*").retry_policy(policy).build().unwrap();
    mailing.recv().unwrap().fail("no address").unwrap();
    let carried = "__POCKETMQ_ACK";
    let dead = store.dead_letters("mailing").unwrap().list(1).unwrap();
    assert!(dead[0].property(carried).is_none());
    let queue = store.queues("orders").unwrap().remove(0);
    store.admin().reset_to_offset("billing", &queue, QueueOffset::ZERO).unwrap();
    store.dead_letters("mailing").unwrap().redrive(1).unwrap();
    drop((consumer, mailing));
    let store = store.kill_process().unwrap();
    assert_eq!(committed(&store), 0);
    let forged = Message::new("invoices", "x").property(carried, "billing orders 0 3");
    assert!(matches!(store.producer("p").unwrap().send(forged), Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_plain_acknowledgement_that_follows_is_as_safe_as_any() {
    let store = store_with(FlushPolicy::Async);
    send(&store, 6);
    let consumer = consumer(&store);
    work(&store, &consumer).unwrap();
    consumer.recv().unwrap().ack().unwrap();
    assert_eq!(committed(&store), 3);
    drop(consumer);
    let store = store.kill_process().unwrap();
    assert_eq!(work(&store, &self::consumer(&store)).unwrap(), "3", "D10");
}

#[test]
fn what_cannot_be_sent_is_a_failed_attempt_and_what_comes_too_late_sends_nothing() {
    let store = store_with(FlushPolicy::Async);
    send(&store, 6);
    let producer = store.producer("billing").unwrap();
    let consumer = consumer(&store);
    let order = consumer.recv().unwrap();
    assert!(producer.send_and_ack(Message::new("invoices", ""), order).is_err());
    assert!(consumer.try_recv().unwrap().is_none(), "its queue rests");
    store.advance(SECOND).unwrap();
    let order = consumer.recv().unwrap();
    assert_eq!((order.attempt(), committed(&store)), (2, 0));
    let queue = store.queues("orders").unwrap().remove(0);
    store.admin().reset_to_offset("billing", &queue, QueueOffset::new(3)).unwrap();
    let late = producer.send_and_ack(Message::new("invoices", "late"), order).unwrap_err();
    assert!(matches!(late, Error::InvalidReceipt(_)), "{late}");
    assert!(bodies(&store, "invoices").is_empty());
    assert_eq!(work(&store, &consumer).unwrap(), "3");
    drop(consumer);
    // Concurrently, only the first one that is not acknowledged.
    let consumer = store.consumer("others").subscribe("orders", "*").build().unwrap();
    let (first, second) = (consumer.recv().unwrap(), consumer.recv().unwrap());
    let early = producer.send_and_ack(Message::new("invoices", "7"), second).unwrap_err();
    assert!(early.to_string().contains("acknowledge in order"), "{early}");
    producer.send_and_ack(Message::new("invoices", "8"), first).unwrap();
    assert_eq!(bodies(&store, "invoices"), [3, 8]);
}

#[test]
fn with_several_brokers_a_message_goes_to_the_one_whose_position_moves() {
    let store = TestStore::builder(|builder| builder.brokers(["a", "b", "c"]));
    for topic in ["orders", "invoices"] {
        store.create_topic(topic, TopicConfig::queues(2)).unwrap();
    }
    send(&store, 30);
    let consumer = consumer(&store);
    let producer = store.producer("billing").unwrap();
    for n in 0..20 {
        let order = consumer.recv().unwrap();
        let broker = order.queue().broker().clone();
        let invoice = Message::new("invoices", order.body_str().unwrap().into_owned());
        let invoice = if n % 2 == 0 { invoice.order_key("customer-7") } else { invoice };
        let receipt = producer.send_and_ack(invoice, order).unwrap();
        assert_eq!(*receipt.queue().broker(), broker);
    }
    drop(consumer);
    let store = store.kill_process().unwrap();
    assert!(self::consumer(&store).try_recv().unwrap().is_none());
    assert_eq!(bodies(&store, "invoices").len(), 20);
}

#[test]
fn a_snapshot_has_both_or_neither() {
    let store = store_with(FlushPolicy::Async);
    send(&store, 6);
    let consumer = consumer(&store);
    work(&store, &consumer).unwrap();
    store.flush().unwrap();
    work(&store, &consumer).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("copy");
    store.snapshot(&place).unwrap();
    work(&store, &consumer).unwrap();
    let copy = Store::open(&place).unwrap();
    assert_eq!((committed(&copy), bodies(&copy, "invoices").len()), (3, 2));
    copy.close().unwrap();
}
