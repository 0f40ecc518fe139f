//! Does a consumer bring failed messages back through its group's retry topic, and end them among the dead letters?

use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{Consumer, Error, HandlerResult, Message, QueueOffset, RetryPolicy, Store, TopicConfig};

fn store() -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    store
}

fn send(store: &Store, body: &'static str) -> pocketmq::SendReceipt {
    store.producer("shop").unwrap().send(Message::new("orders", body).tag("t").key("k")).unwrap()
}

fn consumer(store: &Store) -> Consumer {
    store.consumer("billing").subscribe("orders", "*").build().unwrap()
}

#[test]
fn v8_i15_a_message_that_always_fails_is_delivered_seventeen_times_and_ends_among_the_dead_letters() {
    let store = store();
    let sent = send(&store, "poison");
    let consumer = consumer(&store);
    let ladder = [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
    for (attempt, wait) in (1..).zip(ladder) {
        let message = consumer.try_recv().unwrap().expect("it is back");
        assert_eq!((message.attempt(), message.topic(), message.tag()), (attempt, "orders", "t"));
        assert_eq!(message.message_id(), sent.message_id());
        drop(message);
        store.advance(Duration::from_secs(wait - 1)).unwrap();
        assert!(consumer.try_recv().unwrap().is_none(), "not before its time");
        store.advance(Duration::from_secs(1)).unwrap();
    }
    let last = consumer.try_recv().unwrap().unwrap();
    assert_eq!(last.attempt(), 17);
    last.fail("no connection").unwrap();
    store.advance(Duration::from_secs(100_000)).unwrap();
    assert!(consumer.try_recv().unwrap().is_none());
    let letters = store.dead_letters("billing").unwrap().list(10).unwrap();
    assert_eq!((letters.len(), letters[0].message_id()), (1, sent.message_id()));
    assert_eq!(letters[0].failure_reason(), Some("no connection"));
}

#[test]
fn d14_a_message_that_failed_comes_back_after_a_kill_and_its_attempts_count_on() {
    let store = store();
    send(&store, "one");
    drop(consumer(&store).recv().unwrap());
    let store = store.kill_process().unwrap();
    let consumer = consumer(&store);
    assert!(consumer.try_recv().unwrap().is_none(), "the original is done");
    store.advance(Duration::from_secs(10)).unwrap();
    let again = consumer.recv().unwrap();
    assert_eq!((again.attempt(), again.view().to_owned().topic()), (2, "orders"));
    again.ack().unwrap();
    let store = store.reopen().unwrap();
    store.advance(Duration::from_secs(100_000)).unwrap();
    assert!(self::consumer(&store).try_recv().unwrap().is_none());
}

#[test]
fn t_g2_without_retries_the_first_failure_is_the_last_and_a_handler_may_give_up_at_once() {
    let store = store();
    send(&store, "one");
    let once = store.consumer("once").subscribe("orders", "*").max_retries(0).build().unwrap();
    drop(once.recv().unwrap());
    assert_eq!(store.dead_letters("once").unwrap().count().unwrap(), 1);
    let consumer = consumer(&store);
    consumer.recv().unwrap().dead_letter("no such customer").unwrap();
    let letters = store.dead_letters("billing").unwrap();
    assert_eq!(letters.list(10).unwrap()[0].failure_reason(), Some("no such customer"));
    letters.redrive(10).unwrap();
    let again = consumer.recv().unwrap();
    assert_eq!((again.attempt(), again.topic()), (1, "orders"), "F105: redriven, it starts anew");
    again.ack().unwrap();
}

#[test]
fn f97_a14_a_handler_chooses_the_level_the_wait_or_the_dead_letters() {
    for (level, wait) in [(1, 1), (2, 5), (18, 7_200), (19, 7_200), (0, 10)] {
        let store = store();
        send(&store, "one");
        let builder = store.consumer("billing").subscribe("orders", "*");
        let (sender, attempts) = std::sync::mpsc::channel();
        let _worker = builder
            .listen_batch(1, 1, move |_, context| -> HandlerResult {
                sender.send(context.attempts()[0])?;
                context.retry_at_level(level);
                if context.attempts()[0] == 3 {
                    context.dead_letter();
                }
                Err("again".into())
            })
            .unwrap();
        store.step().unwrap();
        store.advance(Duration::from_secs(wait - 1)).unwrap();
        assert_eq!(attempts.try_iter().collect::<Vec<_>>(), [1], "{level}");
        store.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(attempts.try_iter().collect::<Vec<_>>(), [2], "{level}");
        store.advance(Duration::from_secs(7_200)).unwrap();
        let letters = store.dead_letters("billing").unwrap().list(10).unwrap();
        assert_eq!((letters.len(), letters[0].failure_reason()), (1, Some("again")), "{level}");
    }
}

#[test]
fn a_group_may_choose_its_waits_and_a_policy_without_any_is_refused() {
    let store = store();
    send(&store, "one");
    let quick = RetryPolicy::new().waits([Duration::from_secs(1)]).max_retries(2);
    let consumer = store.consumer("billing").subscribe("orders", "*").retry_policy(quick).build().unwrap();
    for attempt in 1..=3 {
        assert_eq!(consumer.recv().unwrap().attempt(), attempt);
        store.advance(Duration::from_secs(1)).unwrap();
    }
    assert_eq!(store.dead_letters("billing").unwrap().count().unwrap(), 1);
    let none = store.consumer("other").subscribe("orders", "*").retry_policy(RetryPolicy::new().waits([]));
    assert!(none.build().unwrap_err().to_string().contains("retry_policy"));
}

#[test]
fn f11_a_retry_topic_that_is_made_while_members_wait_is_read_by_one_of_them_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).delay_levels("0s").open().unwrap();
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    let (sender, attempts) = std::sync::mpsc::channel();
    let workers = [sender.clone(), sender].map(|sender| {
        let builder = store.consumer("billing").subscribe("orders", "*");
        let handler = move |_: &[pocketmq::MessageView], context: &mut pocketmq::ConsumeContext<'_>| {
            sender.send(context.attempts()[0]).unwrap();
            if context.attempts()[0] < 3 { Err("again") } else { Ok(()) }
        };
        builder.listen_batch(2, 1, handler).unwrap()
    });
    send(&store, "one");
    let seen: Vec<_> = (0..3).map(|_| attempts.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
    assert_eq!(seen, [1, 2, 3]);
    for worker in workers {
        worker.shutdown(Duration::from_secs(30)).unwrap();
    }
    store.close().unwrap();
}

#[test]
fn f106_a_broadcasting_group_has_no_retry_topic() {
    let store = store();
    let consumer = store.consumer("cache").subscribe("orders", "*").broadcast("one").build().unwrap();
    send(&store, "one");
    consumer.recv().unwrap().fail("no").unwrap();
    send(&store, "two");
    consumer.recv().unwrap().dead_letter("no").unwrap();
    let topics: Vec<_> = store.topics().iter().map(ToString::to_string).collect();
    assert!(topics.iter().all(|topic| !topic.contains("cache")), "{topics:?}");
}

#[test]
fn f104_a_message_whose_copy_cannot_be_stored_stays_and_comes_again_after_five_seconds() {
    let store = store();
    send(&store, "one");
    let store = store.reopen_with(|builder| builder.free_space_min(u64::MAX / 2)).unwrap();
    let consumer = consumer(&store);
    assert!(matches!(store.step(), Err(Error::StoreFull(_))));
    let refused = consumer.recv().unwrap().fail("no").unwrap_err();
    assert!(matches!(refused, Error::StoreFull(_)), "{refused}");
    let queue = store.queues("orders").unwrap().remove(0);
    assert_eq!(consumer.committed(&queue).unwrap(), Some(QueueOffset::ZERO), "D14: it is not given up");
    store.clock().advance(Duration::from_secs(4));
    assert!(consumer.try_recv().unwrap().is_none());
    store.clock().advance(Duration::from_secs(1));
    let again = consumer.try_recv().unwrap().unwrap();
    assert_eq!(again.attempt(), 2);
    again.ack().unwrap();
    assert_eq!(consumer.committed(&queue).unwrap(), Some(QueueOffset::new(1)));
}
