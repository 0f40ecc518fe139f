//! Does every member of a broadcasting group get everything, once, and go on where it was?

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{Consumer, ConsumerBuilder, Error, Message, StartFrom, Store, TopicConfig};

fn store() -> TestStore {
    let store = TestStore::new();
    store.create_topic("prices", TopicConfig::queues(4)).unwrap();
    store
}

fn send(store: &Store, tag: &'static str, count: usize) {
    let producer = store.producer("senders").unwrap();
    for n in 0..count {
        producer.send(Message::new("prices", format!("{tag}-{n}")).tag(tag)).unwrap();
    }
}

fn builder(store: &Store, group: &str, tags: &str, instance: &str) -> ConsumerBuilder {
    store.consumer(group).subscribe("prices", tags).broadcast(instance)
}

fn member(store: &Store, group: &str, tags: &str, instance: &str) -> Consumer {
    builder(store, group, tags, instance).build().unwrap()
}

fn count(consumer: &Consumer) -> usize {
    consumer.drain(|_| ()).unwrap()
}

#[test]
fn v6_t_d1_t_d2_t_d10_every_member_of_every_group_gets_everything() {
    let store = store();
    let members = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("c", "1")];
    let members = members.map(|(group, instance)| member(&store, group, "*", instance));
    send(&store, "tick", 16);
    assert_eq!(members.each_ref().map(count), [16; 5]);
    assert_eq!(members[0].assignment().unwrap().len(), 4, "F116: all queues");
}

#[test]
fn f118_t_d4_t_d5_a_later_member_starts_at_the_newest_and_one_that_left_goes_on_where_it_was() {
    let store = store();
    let first = member(&store, "cache", "*", "one");
    send(&store, "early", 16);
    assert_eq!(count(&first), 16);
    let second = member(&store, "cache", "*", "two");
    send(&store, "late", 16);
    assert_eq!((count(&first), count(&second)), (16, 16), "exactly those");
    drop(first);
    send(&store, "missed", 16);
    assert_eq!(count(&second), 16);
    assert_eq!(count(&member(&store, "cache", "*", "one")), 16, "F117: its position was kept under its name");
    let from_start = builder(&store, "cache", "*", "three").start_from(StartFrom::Earliest).build().unwrap();
    assert_eq!(count(&from_start), 48);
}

#[test]
fn t_d7_t_d8_t_d9_members_of_a_broadcasting_group_may_filter_each_in_its_way() {
    let store = store();
    let all = member(&store, "cache", "*", "all");
    let gold = member(&store, "cache", "gold", "gold");
    send(&store, "gold", 40);
    send(&store, "silver", 40);
    assert_eq!((count(&all), count(&gold)), (80, 40));
}

#[test]
fn v6_f116_what_fails_is_dropped_and_the_position_moves_on() {
    let store = store();
    let consumer = member(&store, "cache", "*", "one");
    send(&store, "tick", 8);
    consumer.try_iter().for_each(|message| drop(message.unwrap()));
    store.advance(Duration::from_secs(100_000)).unwrap();
    assert_eq!(count(&consumer), 0);
    let attempts: Arc<Mutex<Vec<u32>>> = Arc::default();
    let noted = Arc::clone(&attempts);
    let _worker = builder(&store, "push", "*", "one")
        .orderly()
        .listen_batch(2, 1, move |_, context| {
            noted.lock().unwrap().push(context.attempts()[0]);
            Err::<(), _>("never works")
        })
        .unwrap();
    send(&store, "tock", 8);
    store.step().unwrap();
    store.advance(Duration::from_secs(100_000)).unwrap();
    assert_eq!(*attempts.lock().unwrap(), [1; 8], "F114: also in order");
}

#[test]
fn f117_positions_of_instances_survive_a_kill_and_a_clean_stop() {
    let store = store();
    let (one, two) = (member(&store, "cache", "*", "one"), member(&store, "cache", "*", "two"));
    send(&store, "tick", 20);
    assert_eq!(count(&one), 20);
    drop((one, two));
    let store = store.kill_process().unwrap();
    let (one, two) = (member(&store, "cache", "*", "one"), member(&store, "cache", "*", "two"));
    assert_eq!((count(&one), count(&two)), (0, 20));
    drop((one, two));
    let store = store.reopen().unwrap();
    send(&store, "tock", 4);
    assert_eq!(count(&member(&store, "cache", "*", "one")), 4);
    for queue in store.queues("prices").unwrap() {
        assert_eq!(store.committed("cache", &queue).unwrap(), None, "the group itself has no position");
    }
}

#[test]
fn v9_what_is_sent_after_build_reaches_a_new_instance_also_after_a_kill() {
    let store = store();
    send(&store, "old", 4);
    drop(member(&store, "cache", "*", "one"));
    send(&store, "new", 4);
    let store = store.kill_process().unwrap();
    assert_eq!(count(&member(&store, "cache", "*", "one")), 4);
}

#[test]
fn two_live_members_cannot_be_one_instance_and_a_group_cannot_do_both() {
    let store = store();
    let _one = member(&store, "cache", "*", "one");
    let twin = builder(&store, "cache", "*", "one").build().unwrap_err();
    assert!(matches!(twin, Error::InvalidConfig { field: "instance", .. }), "{twin}");
    let clustering = store.consumer("cache").subscribe("prices", "*").build().unwrap_err();
    assert!(matches!(clustering, Error::InvalidConfig { field: "broadcast", .. }), "{clustering}");
    assert!(builder(&store, "cache", "*", "a b").build().is_err());
}

#[test]
fn f120_one_group_a_member_is_the_third_way_with_retries() {
    let store = store();
    let members =
        ["cache-1", "cache-2"].map(|group| store.consumer(group).subscribe("prices", "*").build().unwrap());
    send(&store, "tick", 10);
    assert_eq!(members.each_ref().map(count), [10, 10]);
    send(&store, "tock", 1);
    drop(members[0].recv().unwrap());
    store.advance(Duration::from_secs(10)).unwrap();
    assert_eq!(members[0].recv().unwrap().attempt(), 2);
}
