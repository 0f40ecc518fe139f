//! Does a message go to another broker where one cannot take it, within its time, and never twice?

use super::asynchronous::open_faulty;
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::error::Outcome;
use crate::storage::faulty::{Faults, Operation};
use crate::sync::Mutex;

/// A store of three brokers on a disk that can be told to fail.
fn three(dir: &std::path::Path, flush: FlushPolicy) -> (Store, Arc<Faults>) {
    let (store, faults) =
        open_faulty(dir, |builder| builder.brokers(["broker-a", "broker-b", "broker-c"]).flush(flush));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    // Every broker has its files.
    for queue in store.queues("orders").unwrap() {
        producer(&store).send_to(&queue, Message::new("orders", "first")).unwrap();
    }
    (store, faults)
}

/// Has the log of some brokers fail for good.
fn fail_logs(store: &Store, faults: &Faults, brokers: &[&str]) {
    for broker in brokers {
        faults.fail_once_within(Operation::MapSync, &format!("{broker}/commitlog"));
    }
    for queue in store.queues("orders").unwrap() {
        let _ = producer(store).send_to(&queue, Message::new("orders", "second"));
    }
    let _ = store.flush();
}

/// Looks at every attempt: which broker it went to, and what time it was.
#[derive(Default)]
struct Attempts {
    brokers: Mutex<Vec<String>>,
    clock: Option<Arc<ManualClock>>,
}

impl SendMessageHook for Attempts {
    fn name(&self) -> &str {
        "attempts"
    }

    fn before(&self, context: &SendContext<'_>) {
        self.brokers.lock().push(context.queue.broker().to_string());
        if let Some(clock) = &self.clock {
            clock.advance(Duration::from_secs(1));
        }
    }
}

fn watched(store: &Store, clock: Option<Arc<ManualClock>>) -> (ProducerBuilder, Arc<Attempts>) {
    let attempts = Arc::new(Attempts { clock, ..Attempts::default() });
    (store.producer_builder("shop").send_hook(Arc::clone(&attempts)), attempts)
}

#[test]
fn f21_f23_a_broker_that_fails_is_left_for_another_and_every_message_is_stored_once() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let (store, faults) = three(dir.path(), flush);
        fail_logs(&store, &faults, &["broker-a", "broker-b"]);
        let before = count(&store, "orders");
        let (builder, attempts) = watched(&store, None);
        let producer = builder.build().unwrap();
        for n in 0..6 {
            let receipt = producer.send(Message::new("orders", format!("{n}"))).unwrap();
            assert_eq!(receipt.queue().broker().as_str(), "broker-c");
            assert_eq!(
                producer.send_async(Message::new("orders", "x")).wait().unwrap().queue(),
                receipt.queue()
            );
            let batch = [Message::new("orders", "x"), Message::new("orders", "y")];
            assert_eq!(producer.send_batch(&batch).unwrap().queue(), receipt.queue());
        }
        assert_eq!(count(&store, "orders"), before + 6 * 4);
        let tried = attempts.brokers.lock();
        assert!(tried.len() > 18 && tried.iter().filter(|name| *name == "broker-c").count() == 18);
    }
}

#[test]
fn t_l5_f25_three_attempts_visit_three_brokers_and_the_error_names_them_and_keeps_the_last_cause() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = three(dir.path(), FlushPolicy::Sync);
    fail_logs(&store, &faults, &["broker-a", "broker-b", "broker-c"]);
    let (builder, attempts) = watched(&store, None);
    let error = builder.build().unwrap().send(Message::new("orders", "x")).unwrap_err();
    let mut tried = attempts.brokers.lock().clone();
    let Error::SendFailed(failure) = &error else { panic!("{error}") };
    assert_eq!(failure.brokers.iter().map(ToString::to_string).collect::<Vec<_>>(), tried);
    assert!(matches!(failure.last, Error::FlushFailed { outcome: Outcome::NotStored, .. }));
    assert_eq!((error.outcome(), error.is_retryable()), (Outcome::NotStored, false));
    assert!(error.to_string().contains(&tried.join(", ")), "{error}");
    tried.sort();
    assert_eq!(tried, ["broker-a", "broker-b", "broker-c"]);
}

#[test]
fn t_a24_f23_the_number_of_retries_can_be_set_to_none() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = three(dir.path(), FlushPolicy::Sync);
    fail_logs(&store, &faults, &["broker-a", "broker-b", "broker-c"]);
    for retries in 0..2 {
        let (builder, attempts) = watched(&store, None);
        let error = builder.retries(retries).build().unwrap().send(Message::new("orders", "x")).unwrap_err();
        assert_eq!(attempts.brokers.lock().len(), 1 + retries as usize);
        assert_eq!(matches!(error, Error::FlushFailed { .. }), retries == 0, "{error}");
    }
}

#[test]
fn f23_f34_what_is_bound_to_its_queue_fails_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = three(dir.path(), FlushPolicy::Sync);
    fail_logs(&store, &faults, &["broker-a", "broker-b", "broker-c"]);
    let (builder, attempts) = watched(&store, None);
    let producer = builder.build().unwrap();
    let message = || Message::new("orders", "x");
    let results = [
        producer.send(message().order_key("order-42")).map(drop),
        producer.send_to(&queue("orders", "broker-b", 0), message()).map(drop),
        producer.send_with(message(), |_, _| Some(1)).map(drop),
        producer.send_oneway(message()),
    ];
    assert!(results.iter().all(|result| matches!(result, Err(Error::FlushFailed { .. }))), "{results:?}");
    assert_eq!(attempts.brokers.lock().len(), 4);
}

#[test]
fn f23_a_message_that_may_exist_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = three(dir.path(), FlushPolicy::Sync);
    let (builder, attempts) = watched(&store, None);
    let producer = builder.build().unwrap();
    faults.fail_within(Operation::MapSync, "commitlog");
    let error = producer.send(Message::new("orders", "x")).unwrap_err();
    assert!(matches!(error, Error::FlushFailed { outcome: Outcome::MayExist, .. }), "{error}");
    assert_eq!(attempts.brokers.lock().len(), 1);
}

#[test]
fn f23_what_is_wrong_with_the_message_is_wrong_everywhere() {
    let store = store();
    let (builder, attempts) = watched(&store, None);
    let error = builder.build().unwrap().send(Message::new("orders", vec![7; (4 << 20) + 1])).unwrap_err();
    assert!(matches!(error, Error::MessageTooLarge { .. }), "{error}");
    assert!(attempts.brokers.lock().is_empty());
}

#[test]
fn f24_all_attempts_together_have_one_time_budget_and_the_last_error_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let (store, faults) = {
        let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let (store, faults) = open_faulty(dir.path(), |builder| {
            builder.brokers(["broker-a", "broker-b", "broker-c"]).flush(FlushPolicy::Sync).clock(hands)
        });
        store.create_topic("orders", TopicConfig::queues(1)).unwrap();
        fail_logs(&store, &faults, &["broker-a", "broker-b", "broker-c"]);
        (store, faults)
    };
    assert_eq!(faults.count_within(Operation::MapSync, "no such file"), 0);
    // Each attempt takes a second, by the hook's doing.
    for (budget, attempts_made) in [(500, 1), (1_000, 1), (1_500, 2), (2_000, 2), (3_000, 3)] {
        let (builder, attempts) = watched(&store, Some(Arc::clone(&clock)));
        let producer = builder.send_timeout(Duration::from_millis(budget)).build().unwrap();
        let error = producer.send(Message::new("orders", "x")).unwrap_err();
        assert_eq!(attempts.brokers.lock().len(), attempts_made, "{budget} ms");
        let last = match &error {
            Error::SendFailed(failure) => &failure.last,
            other => other,
        };
        assert!(matches!(last, Error::FlushFailed { .. }), "{error}");
    }
}

#[test]
fn f37_a_full_broker_is_left_for_another_and_used_again_when_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = three(dir.path(), FlushPolicy::Async);
    faults.fill_within("broker-a/");
    let producer = producer(&store);
    let big = || Message::new("orders", vec![7; 100_000]);
    let mut last = Vec::new();
    for _ in 0..60 {
        let _ = store.step();
        last.push(producer.send(big()).unwrap().queue().broker().to_string());
    }
    assert!(last[50..].iter().all(|broker| broker != "broker-a"), "{last:?}");
    let full = producer.send_to(&queue("orders", "broker-a", 0), big()).unwrap_err();
    assert!(matches!(full, Error::StoreFull(_)), "{full}");
    faults.heal();
    let _ = store.step();
    let again: Vec<_> = (0..3).map(|_| producer.send(big()).unwrap().queue().broker().to_string()).collect();
    assert!(again.iter().any(|broker| broker == "broker-a"), "{again:?}");
}

#[test]
fn f22_a_slow_broker_and_one_that_failed_are_left_alone_for_a_while_where_the_producer_cares() {
    /// Makes one broker slow.
    struct Slow(Arc<ManualClock>);
    impl SendMessageHook for Slow {
        fn name(&self) -> &str {
            "slow"
        }
        fn before(&self, context: &SendContext<'_>) {
            if context.queue.broker().as_str() == "broker-a" {
                self.0.advance(Duration::from_millis(600));
            }
        }
    }
    let store = store();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let sent_to = |producer: &Producer, count: usize| -> Vec<String> {
        let send = |_| producer.send(Message::new("orders", "x")).unwrap().queue().broker().to_string();
        (0..count).map(send).collect()
    };
    let slow = || store.producer_builder("shop").send_hook(Slow(Arc::clone(store.clock())));
    let producer = slow().slow_brokers(SlowBrokers::Avoid).build().unwrap();
    let brokers = sent_to(&producer, 8);
    assert_eq!(brokers.iter().filter(|broker| *broker == "broker-a").count(), 1, "{brokers:?}");
    store.clock().advance(Duration::from_secs(2));
    let brokers = sent_to(&producer, 8);
    assert_eq!(brokers.iter().filter(|broker| *broker == "broker-a").count(), 1, "{brokers:?}");
    // A message that belongs to a queue goes there all the same, and by default every broker has its turn.
    let to = queue("orders", "broker-a", 0);
    assert_eq!(producer.send_to(&to, Message::new("orders", "x")).unwrap().queue(), &to);
    let brokers = sent_to(&slow().build().unwrap(), 8);
    assert_eq!(brokers.iter().filter(|broker| *broker == "broker-a").count(), 4, "{brokers:?}");

    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = three(dir.path(), FlushPolicy::Sync);
    fail_logs(&store, &faults, &["broker-a"]);
    let (builder, attempts) = watched(&store, None);
    let producer = builder.slow_brokers(SlowBrokers::Avoid).build().unwrap();
    assert!(!sent_to(&producer, 12).contains(&"broker-a".to_owned()));
    assert_eq!(attempts.brokers.lock().iter().filter(|broker| *broker == "broker-a").count(), 1);
}

#[test]
fn f23_a_message_that_is_stored_but_not_flushed_in_time_goes_to_another_broker_where_the_producer_wants_that()
{
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path(), |builder| {
        let builder = builder.brokers(["broker-a", "broker-b"]).flush(FlushPolicy::Sync);
        builder.background(crate::config::Background::Threads).sync_flush_timeout(Duration::from_millis(1))
    });
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let queue = store.queues("orders").unwrap().remove(0);
    assert_eq!(queue.broker().as_str(), "broker-a");
    // Somebody flushes broker-a, and the disk does not answer until it may.
    let (begun, begins) = crossbeam_channel::bounded::<()>(1);
    let (go_on, held) = crossbeam_channel::bounded::<()>(0);
    faults.meanwhile(move |operation, path| {
        if operation == Operation::MapSync && path.to_string_lossy().contains("broker-a/commitlog") {
            let _ = begun.try_send(());
            // An error once the test has let go.
            let _ = held.recv();
        }
    });
    std::thread::scope(|threads| {
        threads.spawn(|| producer(&store).send_to(&queue, Message::new("orders", "first")).unwrap());
        begins.recv().unwrap();
        let (accepts, _) = watched(&store, None);
        let receipt = accepts.build().unwrap().send_to(&queue, Message::new("orders", "slow")).unwrap();
        assert_eq!(receipt.status(), SendStatus::FlushDiskTimeout, "the default");
        let (wants, attempts) = watched(&store, None);
        let wants = wants.when_not_ok(WhenNotOk::TryAnother).build().unwrap();
        while attempts.brokers.lock().iter().all(|broker| broker != "broker-a") {
            let receipt = wants.send(Message::new("orders", "safe")).unwrap();
            assert_eq!(
                (receipt.status(), receipt.queue().broker().as_str()),
                (SendStatus::SendOk, "broker-b")
            );
        }
        drop(go_on);
    });
}
