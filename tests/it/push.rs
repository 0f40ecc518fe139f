//! Does a push consumer call its handler for every message, count what fails, and end without losing or repeating any?

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    ConsumeMessageContext, ConsumeMessageHook, ConsumeReturn, ConsumeStatus, Error, HandlerResult, Message,
    MessageView, PushConsumer, QueueOffset, Store, TopicConfig,
};

const LONG: Duration = Duration::from_secs(30);

fn store_with(queues: u32) -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(queues)).unwrap();
    store
}

/// A store with threads, for what only they can show.
fn threaded(queues: u32) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(queues)).unwrap();
    (dir, store)
}

fn send(store: &Store, count: usize) {
    let producer = store.producer("senders").unwrap();
    for n in 0..count {
        producer.send(Message::new("orders", format!("{n:04}"))).unwrap();
    }
}

type Seen = Arc<Mutex<Vec<(String, u32)>>>;

/// Counts what it sees, and fails the first `failures` attempts of every message.
fn listen(store: &Store, batch: usize, failures: u32) -> (PushConsumer, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let builder = store.consumer("billing").subscribe("orders", "*");
    let worker = builder.listen_batch(2, batch, move |messages, context| {
        let attempt = context.attempts()[0];
        let mut seen = noted.lock().unwrap();
        seen.extend(
            messages.iter().zip(context.attempts()).map(|(message, attempt)| (body(message), *attempt)),
        );
        if attempt <= failures { ConsumeStatus::ReconsumeLater } else { ConsumeStatus::Success }
    });
    (worker.unwrap(), seen)
}

fn body(message: &MessageView) -> String {
    message.body_str().unwrap().into_owned()
}

fn bodies(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().iter().map(|(body, _)| body.clone()).collect()
}

fn lag(store: &Store, group: &str) -> u64 {
    let queues = store.queues("orders").unwrap();
    let behind = |queue| {
        let end = store.queue_offsets(queue).unwrap().end;
        end.since(store.committed(group, queue).unwrap().unwrap_or(QueueOffset::ZERO))
    };
    queues.iter().map(behind).sum()
}

#[test]
fn f73_a_step_by_hand_calls_the_handler_for_everything_that_is_there() {
    let store = store_with(3);
    let (_worker, seen) = listen(&store, 1, 0);
    send(&store, 50);
    assert!(bodies(&seen).is_empty());
    store.step().unwrap();
    assert_eq!(bodies(&seen).into_iter().collect::<BTreeSet<_>>().len(), 50);
    assert_eq!((bodies(&seen).len(), lag(&store, "billing")), (50, 0));
}

#[test]
fn f95_a_batch_is_what_is_there_and_never_more_than_asked_for() {
    let store = store_with(1);
    let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
    let noted = Arc::clone(&sizes);
    let builder = store.consumer("billing").subscribe("orders", "*");
    let _worker =
        builder.listen_batch(1, 10, move |messages, _| noted.lock().unwrap().push(messages.len())).unwrap();
    send(&store, 25);
    store.step().unwrap();
    let sizes = sizes.lock().unwrap().clone();
    assert_eq!(sizes.iter().sum::<usize>(), 25);
    assert!(sizes.iter().all(|size| (1..=10).contains(size)) && sizes[0] == 10, "{sizes:?}");
}

#[test]
fn t_g5_f102_what_fails_comes_back_after_the_ladder_and_counts_its_attempts() {
    let store = store_with(2);
    let (_worker, seen) = listen(&store, 1, 2);
    send(&store, 4);
    store.step().unwrap();
    assert_eq!((seen.lock().unwrap().len(), lag(&store, "billing")), (4, 0), "D14: their copies are stored");
    store.advance(Duration::from_secs(9)).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 4);
    store.advance(Duration::from_secs(1)).unwrap();
    store.advance(Duration::from_secs(29)).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 8);
    store.advance(Duration::from_secs(1)).unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(
        seen.iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>(),
        [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    );
    assert_eq!(lag(&store, "billing"), 0);
}

#[test]
fn f96_of_a_batch_that_succeeds_in_part_only_the_rest_comes_back_and_when_the_handler_says() {
    let store = store_with(1);
    let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let builder = store.consumer("billing").subscribe("orders", "*");
    let _worker = builder
        .listen_batch(1, 4, move |messages, context| {
            noted.lock().unwrap().push(messages.iter().map(body).collect());
            if context.attempts()[0] == 1 {
                context.handled(1);
                context.retry_after(Duration::from_secs(3));
            }
        })
        .unwrap();
    send(&store, 4);
    store.step().unwrap();
    store.advance(Duration::from_secs(4)).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1, "F97: after what the handler chose, rounded up to a level");
    store.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [vec!["0000", "0001", "0002", "0003"], vec!["0001", "0002", "0003"]]);
    assert_eq!(lag(&store, "billing"), 0);
}

#[test]
fn a18_t_g3_a_panic_and_an_error_are_failed_attempts_and_the_others_go_on() {
    let store = store_with(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let builder = store.consumer("billing").subscribe("orders", "*");
    let _worker = builder
        .listen(1, move |message| -> HandlerResult {
            let call = counted.fetch_add(1, Ordering::SeqCst);
            assert_ne!(call, 0, "a bug of the application's");
            if call == 1 {
                Err("no connection")?
            }
            message.body()?;
            Ok(())
        })
        .unwrap();
    send(&store, 4);
    store.step().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    store.advance(Duration::from_secs(10)).unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), lag(&store, "billing")), (6, 0));
}

#[test]
fn f127_a_paused_consumer_keeps_its_queues_and_hands_out_nothing() {
    let store = store_with(1);
    let (worker, seen) = listen(&store, 1, 0);
    worker.pause();
    send(&store, 3);
    store.step().unwrap();
    assert!(bodies(&seen).is_empty() && worker.is_paused());
    assert_eq!(worker.assignment().unwrap().len(), 1);
    worker.resume();
    store.step().unwrap();
    assert_eq!(bodies(&seen).len(), 3);
}

#[test]
fn v12_f126_a_shutdown_hands_the_queues_to_the_others_and_leaves_nothing_behind() {
    let store = store_with(4);
    let (first, by_first) = listen(&store, 1, 0);
    let (second, by_second) = listen(&store, 1, 0);
    send(&store, 40);
    store.step().unwrap();
    assert_eq!((bodies(&by_first).len(), bodies(&by_second).len()), (20, 20), "T-C1");
    first.shutdown(LONG).unwrap();
    first.shutdown(LONG).unwrap();
    assert_eq!(second.assignment().unwrap().len(), 4);
    assert!(matches!(first.assignment(), Err(Error::Closed)));
    send(&store, 40);
    store.step().unwrap();
    assert_eq!((bodies(&by_first).len(), bodies(&by_second).len()), (20, 60), "T-C10");
    drop(second);
    assert!(
        store.consumer("billing").subscribe("orders", "*").build().unwrap().try_recv().unwrap().is_none()
    );
}

#[test]
fn a27_f12_a_handler_may_send_and_end_its_own_consumer() {
    let store = store_with(1);
    let own: Arc<Mutex<Option<PushConsumer>>> = Arc::default();
    let (inside, outside) = (Arc::clone(&own), Arc::clone(&own));
    let producer = store.producer("again").unwrap();
    let builder = store.consumer("billing").subscribe("orders", "*");
    let worker = builder.listen(1, move |_| {
        producer.send(Message::new("orders", "again")).unwrap();
        if let Some(worker) = inside.lock().unwrap().take() {
            worker.shutdown(LONG).unwrap();
        }
    });
    *outside.lock().unwrap() = Some(worker.unwrap());
    send(&store, 1);
    store.step().unwrap();
    let next = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let rest: Vec<_> =
        next.try_iter().map(|message| message.unwrap().body_str().unwrap().into_owned()).collect();
    assert_eq!(rest, ["again"], "what the handler had is handled, what it sent is there");
}

#[test]
fn a_handler_that_steps_its_own_store_does_not_call_itself() {
    let store = store_with(1);
    let inner = store.store().clone();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let builder = store.consumer("billing").subscribe("orders", "*");
    let _worker = builder
        .listen(1, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            inner.step().unwrap();
        })
        .unwrap();
    send(&store, 3);
    store.step().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

/// Notes how each call ended.
#[derive(Default, Clone)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl ConsumeMessageHook for Diary {
    fn before(&self, context: &ConsumeMessageContext<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", context.group, context.messages.len()));
    }

    fn after(&self, _: &ConsumeMessageContext<'_>, returned: ConsumeReturn<'_>, _: Duration) {
        self.0.lock().unwrap().push(format!("{returned:?}"));
        panic!("a bug of the hook's");
    }
}

#[test]
fn hooks_see_every_call_before_and_after_and_their_panics_do_no_harm() {
    let store = store_with(1);
    let diary = Diary::default();
    let builder = store.consumer("billing").subscribe("orders", "*").hook(diary.clone());
    let calls = AtomicUsize::new(0);
    let _worker = builder
        .listen(1, move |_| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            1 => Err("no connection"),
            _ => panic!("oh"),
        })
        .unwrap();
    send(&store, 3);
    store.step().unwrap();
    let expected = [
        "billing 1",
        "Success",
        "billing 1",
        "Failed(Some(\"no connection\"))",
        "billing 1",
        "Panicked(\"oh\")",
    ];
    assert_eq!(*diary.0.lock().unwrap(), expected);
}

#[test]
fn t_f_e24_f79_flow_control_stops_a_queue_by_count_by_bytes_and_by_span_and_no_other() {
    let store = store_with(2);
    let queues = store.queues("orders").unwrap();
    let producer = store.producer("senders").unwrap();
    let filler = vec![0; 20_000];
    for _ in 0..200 {
        producer.send_to(&queues[0], Message::new("orders", filler.clone())).unwrap();
    }
    let held = |name: &str, limit: fn(pocketmq::ConsumerBuilder) -> pocketmq::ConsumerBuilder| {
        let consumer = limit(store.consumer(name).subscribe("orders", "*")).build().unwrap();
        let held: Vec<_> = consumer.try_iter().map(Result::unwrap).collect();
        // The other queue goes on.
        producer.send_to(&queues[1], Message::new("orders", "small")).unwrap();
        assert!(consumer.try_iter().any(|message| message.unwrap().queue().queue_id() == 1), "{name}");
        held.iter().filter(|message| message.queue().queue_id() == 0).count()
    };
    assert!((51..=50 + 32).contains(&held("count", |builder| builder.pull_threshold(50))));
    assert!((53..=53 + 32).contains(&held("bytes", |builder| builder.pull_threshold_bytes(1 << 20))));
    assert!((51..=50 + 32).contains(&held("span", |builder| builder.concurrent_span_max(50))));
    assert_eq!(held("none", |builder| builder), 200);
    // One message that is not acknowledged stops its queue by the span alone, and only for concurrent consumers.
    let consumer = store.consumer("stuck").subscribe("orders", "*").concurrent_span_max(50).build().unwrap();
    let stuck = consumer.recv().unwrap();
    let passed = consumer.drain(|message| assert_eq!(message.attempt(), 1)).unwrap();
    assert!(passed < 150, "{passed}");
    stuck.ack().unwrap();
    assert!(consumer.drain(|_| ()).unwrap() > 50);
}

#[test]
fn e24_f73_threads_handle_everything_while_one_handler_is_stuck() {
    let (_dir, store) = threaded(4);
    let (release, stuck) = channel::<()>();
    let stuck = Mutex::new(stuck);
    let (note, seen) = channel();
    let builder = store.consumer("billing").subscribe("orders", "*");
    let worker = builder
        .listen(3, move |message| {
            if body(message) == "0000" {
                let _ = stuck.lock().unwrap().recv();
            }
            note.send(body(message)).unwrap();
        })
        .unwrap();
    send(&store, 200);
    let first: BTreeSet<_> = (0..199).map(|_| seen.recv_timeout(LONG).unwrap()).collect();
    assert!(first.len() == 199 && !first.contains("0000"));
    assert!(matches!(worker.shutdown(Duration::from_millis(1)), Err(Error::Timeout)));
    release.send(()).unwrap();
    assert_eq!(seen.recv_timeout(LONG).unwrap(), "0000");
    store.close().unwrap();
}

#[test]
fn f5_v12_a_shutdown_during_sends_waits_for_handlers_and_repeats_nothing() {
    let (_dir, store) = threaded(4);
    let counts: Arc<Mutex<Vec<String>>> = Arc::default();
    let start = |store: &Store| {
        let counts = Arc::clone(&counts);
        let builder = store.consumer("billing").subscribe("orders", "*");
        builder.listen(4, move |message| counts.lock().unwrap().push(body(message))).unwrap()
    };
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(&store, 2_000));
        for _ in 0..5 {
            let worker = start(&store);
            while counts.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
            worker.shutdown(LONG).unwrap();
        }
        sending.join().unwrap();
    });
    let last = start(&store);
    while counts.lock().unwrap().len() < 2_000 {
        std::thread::yield_now();
    }
    last.shutdown(LONG).unwrap();
    store.close().unwrap();
    let mut counts = counts.lock().unwrap().clone();
    counts.sort();
    assert_eq!(counts, (0..2_000).map(|n| format!("{n:04}")).collect::<Vec<_>>(), "each once (I10)");
}

#[test]
fn d17_closing_the_store_waits_for_the_handler_that_runs_and_its_acknowledgement_counts() {
    let (dir, store) = threaded(1);
    let (begun, begins) = channel();
    let (release, go) = channel::<()>();
    let go = Mutex::new(go);
    let builder = store.consumer("billing").subscribe("orders", "*");
    let _worker = builder
        .listen(1, move |_| {
            begun.send(()).unwrap();
            let _ = go.lock().unwrap().recv();
        })
        .unwrap();
    send(&store, 1);
    begins.recv_timeout(LONG).unwrap();
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| store.close().unwrap());
        release.send(()).unwrap();
        closing.join().unwrap();
    });
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(lag(&store, "billing"), 0);
}

#[test]
fn a27_a_handler_may_close_the_store() {
    let (_dir, store) = threaded(2);
    let (note, ended): (Sender<()>, _) = channel();
    let inner = store.clone();
    let builder = store.consumer("billing").subscribe("orders", "*");
    let _worker = builder
        .listen(2, move |_| {
            inner.close().unwrap();
            note.send(()).unwrap();
        })
        .unwrap();
    send(&store, 1);
    ended.recv_timeout(LONG).unwrap();
    assert!(matches!(store.producer("late"), Err(Error::Closed)));
}

#[test]
fn f99_t_g6_a_handler_that_takes_too_long_loses_its_message_and_its_result_is_ignored() {
    let store = store_with(1);
    let (diary, clock) = (Diary::default(), Arc::clone(store.clock()));
    let attempts: Arc<Mutex<Vec<u32>>> = Arc::default();
    let noted = Arc::clone(&attempts);
    let builder = store.consumer("billing").subscribe("orders", "*").hook(diary.clone());
    let _worker = builder
        .listen_batch(1, 1, move |_, context| {
            noted.lock().unwrap().push(context.attempts()[0]);
            if context.attempts()[0] == 1 {
                clock.advance(Duration::from_secs(15 * 60));
            }
        })
        .unwrap();
    send(&store, 1);
    store.step().unwrap();
    assert_eq!(diary.0.lock().unwrap()[1], "TimedOut");
    store.advance(Duration::from_secs(10)).unwrap();
    assert_eq!(attempts.lock().unwrap().as_slice(), [1, 2], "the late success does not count");
    store.advance(Duration::from_secs(100_000)).unwrap();
    assert_eq!(attempts.lock().unwrap().len(), 2);
}

#[test]
fn f99_of_a_batch_that_took_too_long_every_message_comes_back() {
    const MESSAGES: usize = 40;
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    for n in 0..MESSAGES {
        producer.send(Message::new("orders", n.to_string())).unwrap();
    }
    let attempts: Arc<Mutex<Vec<u32>>> = Arc::default();
    let (noted, clock) = (Arc::clone(&attempts), Arc::clone(store.clock()));
    let _worker = store
        .consumer("billing")
        .subscribe("orders", "*")
        .listen_batch(1, MESSAGES, move |_, context| {
            noted.lock().unwrap().extend(context.attempts());
            if context.attempts()[0] == 1 {
                clock.advance(Duration::from_secs(15 * 60));
            }
        })
        .unwrap();
    store.step().unwrap();
    for _ in 0..30 {
        store.advance(Duration::from_secs(1)).unwrap();
    }
    let attempts = attempts.lock().unwrap();
    let times = |attempt| attempts.iter().filter(|seen| **seen == attempt).count();
    assert_eq!((times(1), times(2)), (MESSAGES, MESSAGES));
}

#[test]
fn f126_a_shutdown_does_not_wait_for_the_end_of_what_nobody_wants() {
    const UNWANTED: usize = 150_000;
    let store = Store::in_memory().unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    let message = Message::new("orders", "x").tag("unwanted");
    for _ in 0..UNWANTED / 1_000 {
        producer.send_batch(vec![message.clone(); 1_000]).unwrap();
    }
    let worker =
        store.consumer("billing").subscribe("orders", "wanted").listen(1, |_: &MessageView| ()).unwrap();
    worker.shutdown(Duration::from_secs(60)).unwrap();
    let queue = store.queues("orders").unwrap().remove(0);
    let passed = store.committed("billing", &queue).unwrap().map_or(0, |offset| offset.get());
    assert!(passed < UNWANTED as u64, "it looked at all of them first");
    store.close().unwrap();
}
