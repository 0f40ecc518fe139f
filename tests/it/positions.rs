//! Can a group be looked at, sent back and forward, and given another group's positions?

use std::time::{Duration, UNIX_EPOCH};

use pocketmq::testing::TestStore;
use pocketmq::{Consumer, Error, Filter, Message, QueueOffset, Store, TopicConfig};

const START_MILLIS: u64 = 1_700_000_000_000;

fn filled(queues: u32, each: usize) -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(queues)).unwrap();
    send(&store, each);
    store
}

/// Sends so many messages to each queue.
fn send(store: &Store, each: usize) {
    let producer = store.producer("shop").unwrap();
    for queue in store.queues("orders").unwrap() {
        for n in 0..each {
            producer.send_to(&queue, Message::new("orders", format!("{n}"))).unwrap();
        }
    }
}

fn consumer(store: &Store, group: &str) -> Consumer {
    store.consumer(group).subscribe("orders", "*").build().unwrap()
}

fn drain(consumer: &Consumer) -> usize {
    let mut count = 0;
    while let Some(delivery) = consumer.try_recv().unwrap() {
        delivery.ack().unwrap();
        count += 1;
    }
    count
}

fn lag(store: &Store, group: &str) -> u64 {
    store.admin().lag(group).unwrap().messages()
}

#[test]
fn e15_lag_is_counted_in_messages_and_in_age() {
    let store = filled(2, 3);
    let consumer = consumer(&store, "billing");
    assert_eq!(lag(&store, "billing"), 6);
    store.advance(Duration::from_secs(7)).unwrap();
    let ages: Vec<_> = store.admin().lag("billing").unwrap().queues.iter().map(|queue| queue.age).collect();
    assert_eq!(ages[..2], [Duration::from_secs(7); 2]);
    assert_eq!(drain(&consumer), 6);
    let lag = store.admin().lag("billing").unwrap();
    assert_eq!((lag.messages(), lag.age()), (0, Duration::ZERO));
    assert!(lag.queues.iter().all(|queue| queue.committed == Some(queue.max)), "{lag:?}");
    assert!(store.admin().lag("unknown").unwrap().queues.is_empty());
}

#[test]
fn t_e11_lag_is_counted_by_what_a_filter_wants() {
    let store = filled(2, 0);
    let _consumer = consumer(&store, "billing");
    let producer = store.producer("shop").unwrap();
    for queue in store.queues("orders").unwrap() {
        for n in 0..100_u32 {
            let message = Message::new("orders", "x").property("value", if n % 2 == 0 { "0" } else { "1" });
            let message = if n < 20 { message.tag("TagA") } else { message };
            producer.send_to(&queue, message).unwrap();
        }
    }
    let count = |filter: Filter| store.admin().lag_matching("billing", "orders", &filter).unwrap();
    assert_eq!(count(Filter::all()), 200);
    assert_eq!(count(Filter::tags("TagA")), 40);
    assert_eq!(count(Filter::sql("TAGS = 'TagA' AND value < 1").unwrap()), 20);
    assert_eq!(store.admin().lag_matching("nobody", "orders", &Filter::all()).unwrap(), 0);
    let error = store.admin().lag_matching("billing", "orders", &Filter::from("||")).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "filter", .. }), "{error}");
}

#[test]
fn t_g9_one_queue_sent_back_to_its_beginning_is_delivered_again() {
    let store = filled(3, 100);
    let members = consumer(&store, "billing");
    assert_eq!(drain(&members), 300);
    let queue = store.queues("orders").unwrap().remove(1);
    store.admin().reset_to_offset("billing", &queue, QueueOffset::ZERO).unwrap();
    assert_eq!(lag(&store, "billing"), 100);
    assert_eq!(drain(&members), 100, "a member that runs goes on from there");
    assert_eq!(lag(&store, "billing"), 0);
}

#[test]
fn t_g10_a_whole_group_goes_back_by_time_and_skips_to_the_end() {
    let store = filled(2, 10);
    store.advance(Duration::from_secs(60)).unwrap();
    send(&store, 5);
    let members = consumer(&store, "billing");
    assert_eq!(drain(&members), 30);
    let time = UNIX_EPOCH + Duration::from_millis(START_MILLIS + 30_000);
    let moved = store.admin().reset_to_time("billing", "orders", time).unwrap();
    assert_eq!(
        moved.iter().map(|moved| (moved.from.unwrap().get(), moved.to.get())).collect::<Vec<_>>(),
        [(15, 10); 2]
    );
    assert_eq!(drain(&members), 10);
    store.admin().reset_to_time("billing", "orders", UNIX_EPOCH).unwrap();
    assert_eq!(lag(&store, "billing"), 30);
    store.admin().skip("billing", "orders").unwrap();
    assert_eq!((lag(&store, "billing"), drain(&members)), (0, 0));
}

#[test]
fn what_is_under_way_when_a_group_is_reset_commits_nothing() {
    let store = filled(1, 10);
    let members = consumer(&store, "billing");
    let held: Vec<_> = std::iter::from_fn(|| members.try_recv().unwrap()).collect();
    assert_eq!(held.len(), 10);
    let queue = store.queues("orders").unwrap().remove(0);
    store.admin().reset_to_offset("billing", &queue, QueueOffset::new(4)).unwrap();
    for delivery in held {
        delivery.ack().unwrap();
    }
    assert_eq!(store.committed("billing", &queue).unwrap(), Some(QueueOffset::new(4)));
    assert_eq!(drain(&members), 6);
    assert_eq!(store.committed("billing", &queue).unwrap(), Some(QueueOffset::new(10)));
}

#[test]
fn e12_a_group_gets_the_positions_of_another_one_and_keeps_them_through_a_kill() {
    let store = filled(2, 10);
    let queues = store.queues("orders").unwrap();
    store.commit_offset("old", &queues[0], QueueOffset::new(3)).unwrap();
    store.commit_offset("old", &queues[1], QueueOffset::new(7)).unwrap();
    assert_eq!(store.admin().clone_position("old", "new", "orders").unwrap().len(), 2);
    let store = store.kill_process().unwrap();
    assert_eq!(lag(&store, "new"), 10);
    assert_eq!(drain(&consumer(&store, "new")), 10);
    assert_eq!(lag(&store, "old"), 10);
    assert!(store.admin().clone_position("nobody", "new", "orders").unwrap().is_empty());
}

#[test]
fn an_offset_outside_of_its_queue_and_an_unknown_topic_are_refused() {
    let store = filled(1, 10);
    let queue = store.queues("orders").unwrap().remove(0);
    let error = store.admin().reset_to_offset("billing", &queue, QueueOffset::new(11)).unwrap_err();
    assert!(error.to_string().contains("0 to 10"), "{error}");
    assert!(matches!(store.admin().skip("billing", "none"), Err(Error::TopicNotFound(_))));
    store.admin().reset_to_offset("billing", &queue, QueueOffset::new(10)).unwrap();
    assert_eq!(lag(&store, "billing"), 0);
}
