//! Does a pull consumer go where it is told, and commit what it has returned and nothing more?

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use pocketmq::testing::TestStore;
use pocketmq::{Error, Message, MessageQueue, PullConsumer, QueueOffset, Store, TopicConfig};

const NOW: Duration = Duration::ZERO;

fn store_with(queues: u32) -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(queues)).unwrap();
    store
}

fn send(store: &Store, count: usize) {
    let producer = store.producer("senders").unwrap();
    for n in 0..count {
        producer.send(Message::new("orders", format!("{n:04}"))).unwrap();
    }
}

fn queue(store: &Store) -> MessageQueue {
    store.queues("orders").unwrap().remove(0)
}

fn assigned(store: &Store) -> PullConsumer {
    let puller = store.pull_consumer("audit").unwrap();
    puller.assign(&store.queues("orders").unwrap()).unwrap();
    puller
}

/// Polls until nothing comes, and returns the bodies.
fn all(puller: &PullConsumer) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let page = puller.poll(NOW).unwrap();
        if page.is_empty() {
            return bodies;
        }
        assert!(page.len() <= 10);
        bodies.extend(page.iter().map(|message| message.body_str().unwrap().into_owned()));
    }
}

#[test]
fn t_f1_t_f4_everything_comes_in_order_and_a_commit_is_remembered() {
    let store = store_with(1);
    send(&store, 25);
    let puller = assigned(&store);
    assert_eq!(all(&puller), (0..25).map(|n| format!("{n:04}")).collect::<Vec<_>>());
    assert_eq!(puller.committed(&queue(&store)).unwrap(), None);
    puller.commit_offset().unwrap();
    drop(puller);
    let store = store.kill_process().unwrap();
    assert!(all(&assigned(&store)).is_empty());
    assert_eq!(store.committed("audit", &queue(&store)).unwrap(), Some(QueueOffset::new(25)));
}

#[test]
fn t_f5_t_f7_what_is_not_committed_comes_again() {
    let store = store_with(1);
    send(&store, 20);
    for _ in 0..3 {
        let puller = assigned(&store);
        assert_eq!(puller.poll(NOW).unwrap()[0].body_str().unwrap(), "0000");
    }
}

#[test]
fn f125_the_next_poll_commits_what_earlier_ones_have_returned() {
    let store = store_with(1);
    send(&store, 30);
    let (puller, queue) = (assigned(&store), queue(&store));
    assert_eq!(puller.poll(NOW).unwrap().len(), 10);
    store.advance(Duration::from_secs(4)).unwrap();
    assert_eq!(puller.poll(NOW).unwrap().len(), 10);
    assert_eq!(puller.committed(&queue).unwrap(), None);
    store.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(puller.poll(NOW).unwrap().len(), 10);
    assert_eq!(puller.committed(&queue).unwrap(), Some(QueueOffset::new(20)), "not what it returns itself");
    puller.commit_by_hand();
    store.advance(Duration::from_secs(60)).unwrap();
    assert!(puller.poll(NOW).unwrap().is_empty());
    assert_eq!(puller.committed(&queue).unwrap(), Some(QueueOffset::new(20)));
    assert!(puller.commit_every(Duration::from_millis(999)).is_err());
    puller.commit_every(Duration::from_secs(1)).unwrap();
    puller.poll(NOW).unwrap();
    assert_eq!(puller.committed(&queue).unwrap(), Some(QueueOffset::new(30)));
}

#[test]
fn t_f9_a24_a_seek_goes_anywhere_in_the_queue_and_nowhere_else() {
    let store = store_with(1);
    send(&store, 100);
    let (puller, queue) = (assigned(&store), queue(&store));
    let at = |offset: u64| puller.seek(&queue, QueueOffset::new(offset));
    at(50).unwrap();
    assert_eq!((all(&puller).len(), puller.position(&queue).unwrap().get()), (50, 100));
    puller.seek_to_begin(&queue).unwrap();
    assert_eq!(all(&puller).len(), 100);
    at(3).unwrap();
    puller.seek_to_end(&queue).unwrap();
    assert!(all(&puller).is_empty());
    let beyond = at(1_000).unwrap_err().to_string();
    assert!(beyond.contains("max offset = 100") && beyond.contains("min offset = 0"), "{beyond}");
    puller.assign(&[]).unwrap();
    assert!(matches!(at(1).unwrap_err(), Error::InvalidArgument { field: "queue", .. }));
    assert!(puller.poll(NOW).unwrap().is_empty());
}

#[test]
fn t_f11_a_seek_by_time_finds_the_first_message_of_that_time() {
    let store = store_with(1);
    send(&store, 3);
    store.advance(Duration::from_secs(60)).unwrap();
    send(&store, 2);
    let puller = assigned(&store);
    let middle = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_030_000);
    puller.seek_to_time(&queue(&store), middle).unwrap();
    assert_eq!(all(&puller).len(), 2);
}

#[test]
fn a_paused_queue_rests_and_the_others_go_on_in_turn() {
    let store = store_with(2);
    send(&store, 40);
    let puller = assigned(&store);
    let queues = store.queues("orders").unwrap();
    puller.pause(&queues[..1]).unwrap();
    assert_eq!(all(&puller).len(), 20);
    puller.resume(&queues).unwrap();
    assert_eq!(all(&puller).len(), 20);
    queues.iter().for_each(|queue| puller.seek_to_begin(queue).unwrap());
    let turns: Vec<_> = (0..4).map(|_| puller.poll(NOW).unwrap()[0].queue_id()).collect();
    assert!(turns == [0, 1, 0, 1] || turns == [1, 0, 1, 0], "{turns:?}");
}

#[test]
fn members_that_subscribe_share_the_queues_and_go_on_where_the_group_is() {
    let store = store_with(4);
    send(&store, 40);
    let join = || store.consumer("audit").subscribe("orders", "*").pull().unwrap();
    let first = join();
    let page = first.poll(NOW).unwrap();
    first.commit_offset().unwrap();
    let second = join();
    assert_eq!((first.assignment().unwrap().len(), second.assignment().unwrap().len()), (2, 2));
    let mut seen: Vec<_> = page.iter().map(|message| message.body_str().unwrap().into_owned()).collect();
    seen.extend(all(&first));
    seen.extend(all(&second));
    assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (40, 40));
    second.commit_offset().unwrap();
    drop(second);
    assert_eq!(first.assignment().unwrap().len(), 4);
    assert!(all(&first).is_empty());
    assert!(first.assign(&[]).is_err(), "either it subscribes or it is assigned");
    let other = store.consumer("audit").subscribe("orders", "vip").pull().unwrap_err();
    assert!(matches!(other, Error::InvalidConfig { field: "subscribe", .. }), "V7");
}

#[test]
fn t_f6_a_poll_waits_for_a_message_and_is_woken_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    let puller = assigned(&store);
    assert!(puller.poll(Duration::from_millis(1)).unwrap().is_empty());
    let subscribed = store.consumer("other").subscribe("orders", "*").pull().unwrap();
    std::thread::scope(|scope| {
        let waiting = [puller, subscribed]
            .map(|puller| scope.spawn(move || puller.poll(Duration::from_secs(30)).unwrap().len()));
        send(&store, 1);
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), 1);
        }
    });
    assert!(store.pull_consumer("").is_err());
    store.close().unwrap();
}

#[test]
fn a_topic_that_is_made_again_is_read_from_its_beginning_by_who_was_assigned_its_queues() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let queues = store.queues("orders").unwrap();
    let producer = store.producer("shop").unwrap();
    let send = |body: &str| producer.send(Message::new("orders", body)).unwrap();
    send("old 0");
    send("old 1");
    let puller = store.pull_consumer("audit").unwrap();
    puller.assign(&queues).unwrap();
    assert_eq!(puller.poll(Duration::ZERO).unwrap().len(), 2);
    store.delete_topic("orders").unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    for body in ["new 0", "new 1", "new 2"] {
        send(body);
    }
    let page = puller.poll(Duration::ZERO).unwrap();
    assert_eq!(
        page.iter().map(|message| message.body_str().unwrap()).collect::<Vec<_>>(),
        ["new 0", "new 1", "new 2"]
    );
}

#[test]
fn an_expired_message_is_not_pulled_but_goes_to_the_dead_letters() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    for n in 0..25 {
        let message = Message::new("orders", n.to_string());
        let message = if n == 24 { message } else { message.expires_in(Duration::from_secs(1)) };
        producer.send(message).unwrap();
    }
    store.advance(Duration::from_secs(1)).unwrap();
    let puller = store.pull_consumer("audit").unwrap();
    puller.assign(&store.queues("orders").unwrap()).unwrap();
    let page = puller.poll(Duration::ZERO).unwrap();
    assert_eq!(page.iter().map(|message| message.body_str().unwrap()).collect::<Vec<_>>(), ["24"]);
    let dead = store.dead_letters("audit").unwrap().list(100).unwrap();
    assert_eq!(dead.len(), 24);
    assert!(dead.iter().all(|letter| letter.failure_reason() == Some("expired")));
}

#[test]
fn v7_one_that_pulls_and_one_that_is_handed_messages_are_not_of_one_group() {
    let store = TestStore::new();
    let puller = store.consumer("audit").subscribe("orders", "*").pull().unwrap();
    let refused = store.consumer("audit").subscribe("orders", "*").build().unwrap_err();
    assert!(refused.to_string().contains("pull"), "{refused}");
    drop(puller);
    let _consumer = store.consumer("audit").subscribe("orders", "*").build().unwrap();
    assert!(store.consumer("audit").subscribe("orders", "*").pull().is_err());
}
