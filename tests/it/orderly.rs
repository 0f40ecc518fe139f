//! Is a queue handled in order, one message at a time, through failures, hand-overs and crashes?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    ConsumeOrderlyStatus, ConsumerBuilder, Message, MessageView, PushConsumer, Store, TopicConfig,
};

const LONG: Duration = Duration::from_secs(30);

fn store_with(queues: u32) -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(queues)).unwrap();
    store
}

fn orderly(store: &Store) -> ConsumerBuilder {
    store.consumer("billing").subscribe("orders", "*").orderly()
}

/// Sends `count` messages to each queue; the body is the number.
fn send(store: &Store, from: usize, count: usize) {
    let producer = store.producer("senders").unwrap();
    for n in from..from + count {
        for queue in store.queues("orders").unwrap() {
            producer.send_to(&queue, Message::new("orders", n.to_string())).unwrap();
        }
    }
}

fn number(message: &MessageView) -> usize {
    message.body_str().unwrap().parse().unwrap()
}

type Seen = Arc<Mutex<Vec<(u32, usize)>>>;

fn note_into(seen: &Seen) -> impl Fn(&MessageView) + Send + Sync + 'static {
    let seen = Arc::clone(seen);
    move |message| seen.lock().unwrap().push((message.queue_id(), number(message)))
}

/// What was seen of each queue, in order.
fn by_queue(seen: &Seen) -> BTreeMap<u32, Vec<usize>> {
    let mut queues: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (queue, number) in &*seen.lock().unwrap() {
        queues.entry(*queue).or_default().push(*number);
    }
    queues
}

fn committed(store: &Store) -> u64 {
    let queue = store.queues("orders").unwrap().remove(0);
    store.committed("billing", &queue).unwrap().unwrap().get()
}

#[test]
fn t_b2_t_b10_every_queue_comes_in_order() {
    let store = store_with(8);
    let seen = Seen::default();
    let _worker = orderly(&store).listen(4, note_into(&seen)).unwrap();
    send(&store, 0, 30);
    store.step().unwrap();
    let queues = by_queue(&seen);
    assert_eq!(queues.len(), 8);
    assert!(queues.values().all(|numbers| *numbers == (0..30).collect::<Vec<_>>()));
}

#[test]
fn t_b11_t_b12_t_b4_a_queue_goes_from_member_to_member_in_order() {
    let store = store_with(8);
    let all = Seen::default();
    let counts: Vec<Arc<AtomicUsize>> = (0..4).map(|_| Arc::default()).collect();
    let mut members: Vec<PushConsumer> = counts
        .iter()
        .map(|count| {
            let (note, count) = (note_into(&all), Arc::clone(count));
            orderly(&store)
                .listen(2, move |message| {
                    count.fetch_add(1, Ordering::SeqCst);
                    note(message);
                })
                .unwrap()
        })
        .collect();
    let counted = || counts.iter().map(|count| count.swap(0, Ordering::SeqCst)).collect::<Vec<_>>();
    send(&store, 0, 15);
    store.step().unwrap();
    assert_eq!(counted(), [30, 30, 30, 30]);
    members.truncate(2);
    send(&store, 15, 15);
    store.step().unwrap();
    assert_eq!(counted(), [60, 60, 0, 0]);
    assert!(by_queue(&all).values().all(|numbers| *numbers == (0..30).collect::<Vec<_>>()), "V3");
}

#[test]
fn v4_t_b13_t_b17_a_failure_holds_its_queue_and_no_other_and_comes_again_before_the_next() {
    let store = store_with(2);
    let seen = Seen::default();
    let note = note_into(&seen);
    let failures = Arc::new(AtomicUsize::new(3));
    let left = Arc::clone(&failures);
    let _worker = orderly(&store)
        .listen(2, move |message| {
            note(message);
            let fails = message.queue_id() == 0 && number(message) == 1;
            if fails
                && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
            {
                return ConsumeOrderlyStatus::SuspendCurrentQueueAMoment;
            }
            ConsumeOrderlyStatus::Success
        })
        .unwrap();
    send(&store, 0, 3);
    store.step().unwrap();
    assert_eq!(by_queue(&seen)[&1], [0, 1, 2], "the other queue goes on");
    assert_eq!(by_queue(&seen)[&0], [0, 1]);
    store.advance(Duration::from_millis(999)).unwrap();
    assert_eq!(by_queue(&seen)[&0], [0, 1], "F110: it rests for a second");
    for _ in 0..3 {
        store.advance(Duration::from_secs(1)).unwrap();
    }
    assert_eq!(by_queue(&seen)[&0], [0, 1, 1, 1, 1, 2]);
    assert_eq!(committed(&store), 3);
}

#[test]
fn lesson_8_a_queue_that_fails_for_hours_goes_on_when_the_handler_can() {
    let store = store_with(1);
    let works = Arc::new(AtomicUsize::new(0));
    let (asked, attempts) = (Arc::clone(&works), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&attempts);
    let _worker = orderly(&store)
        .listen_batch(1, 1, move |_, context| {
            noted.lock().unwrap().push(context.attempts()[0]);
            if asked.load(Ordering::SeqCst) == 0 { Err("the back end is down") } else { Ok(()) }
        })
        .unwrap();
    send(&store, 0, 2);
    for _ in 0..200 {
        store.advance(Duration::from_secs(60)).unwrap();
    }
    assert_eq!((attempts.lock().unwrap().last(), committed(&store)), (Some(&200), 0), "F111: without end");
    works.store(1, Ordering::SeqCst);
    store.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(committed(&store), 2);
}

/// One row of RocketMQ's matrix: whether the handler commits by hand, what it says of three messages in turn, what it
/// was called with, and what is committed afterwards.
type Row<'a> = (bool, &'a [ConsumeOrderlyStatus], &'a [usize], u64);

#[test]
fn f108_f109_the_matrix_of_statuses_and_automatic_commit() {
    use ConsumeOrderlyStatus::{Commit, Rollback, Success, SuspendCurrentQueueAMoment as Suspend};
    let rows: [Row<'_>; 9] = [
        (false, &[Success, Success, Success], &[0, 1, 2], 3),
        (false, &[Commit, Commit, Commit], &[0, 1, 2], 3),
        (false, &[Success, Rollback, Success], &[0, 1, 2], 3),
        (false, &[Success, Suspend, Success, Success], &[0, 1, 1, 2], 3),
        (true, &[Success, Success, Success], &[0, 1, 2], 0),
        (true, &[Success, Success, Commit], &[0, 1, 2], 3),
        (true, &[Success, Commit, Success], &[0, 1, 2], 2),
        (true, &[Success, Rollback, Success, Success, Commit], &[0, 1, 0, 1, 2], 3),
        (true, &[Success, Suspend, Commit, Success], &[0, 1, 1, 2], 2),
    ];
    for (by_hand, says, called, end) in rows {
        let store = store_with(1);
        let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
        let (noted, script) = (Arc::clone(&seen), says.to_vec());
        let _worker = orderly(&store)
            .listen_batch(1, 1, move |messages, context| {
                if by_hand {
                    context.commit_by_hand();
                }
                context.retry_after(Duration::from_millis(10));
                let mut seen = noted.lock().unwrap();
                seen.push(number(&messages[0]));
                script[seen.len() - 1]
            })
            .unwrap();
        send(&store, 0, 3);
        for _ in 0..4 {
            store.advance(Duration::from_millis(10)).unwrap();
        }
        assert_eq!((&**seen.lock().unwrap(), committed(&store)), (called, end), "{by_hand} {says:?}");
    }
}

#[test]
fn what_was_handled_and_not_committed_is_handled_again_by_the_next_owner() {
    let store = store_with(1);
    let first = orderly(&store).listen_batch(1, 1, |_, context| context.commit_by_hand()).unwrap();
    send(&store, 0, 3);
    store.step().unwrap();
    assert_eq!(committed(&store), 0);
    first.shutdown(LONG).unwrap();
    let seen = Seen::default();
    let _second = orderly(&store).listen(1, note_into(&seen)).unwrap();
    store.step().unwrap();
    assert_eq!((by_queue(&seen)[&0].as_slice(), committed(&store)), ([0, 1, 2].as_slice(), 3));
}

#[test]
fn f107_a_batch_of_an_orderly_queue_fails_as_a_whole_and_comes_again_as_it_was() {
    let store = store_with(1);
    let seen: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let _worker = orderly(&store)
        .listen_batch(1, 3, move |messages, context| {
            noted.lock().unwrap().push(messages.iter().map(number).collect());
            if context.attempts()[0] == 1 { Err("once") } else { Ok(()) }
        })
        .unwrap();
    send(&store, 0, 3);
    store.step().unwrap();
    store.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [vec![0, 1, 2], vec![0, 1, 2]]);
}

#[test]
fn v4_a_loop_gets_one_message_of_an_orderly_queue_at_a_time() {
    let store = store_with(2);
    send(&store, 0, 2);
    let consumer = orderly(&store).build().unwrap();
    let held: Vec<_> = consumer.try_iter().map(Result::unwrap).collect();
    assert_eq!(held.iter().map(|message| number(message)).collect::<Vec<_>>(), [0, 0]);
    let mut held = held.into_iter();
    held.next().unwrap().ack().unwrap();
    let next = consumer.try_recv().unwrap().unwrap();
    assert_eq!(number(&next), 1);
    drop(held.next());
    assert!(consumer.try_recv().unwrap().is_none());
    store.advance(Duration::from_secs(1)).unwrap();
    let again = consumer.try_recv().unwrap().unwrap();
    assert_eq!((number(&again), again.attempt()), (0, 2), "V3: before what comes after it");
}

#[test]
fn f113_v3_an_orderly_queue_keeps_its_order_through_a_crash() {
    let store = store_with(1);
    send(&store, 0, 5);
    let consumer = orderly(&store).build().unwrap();
    for _ in 0..2 {
        consumer.recv().unwrap().ack().unwrap();
    }
    let held = consumer.recv().unwrap();
    std::mem::forget(held);
    drop(consumer);
    let store = store.kill_process().unwrap();
    let seen = Seen::default();
    let _worker = orderly(&store).listen(1, note_into(&seen)).unwrap();
    store.step().unwrap();
    assert_eq!(by_queue(&seen)[&0], [2, 3, 4]);
}

#[test]
fn t_b8_order_is_kept_under_a_filter() {
    let store = store_with(1);
    let producer = store.producer("senders").unwrap();
    for n in 0..20 {
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        producer.send(Message::new("orders", n.to_string()).tag(tag)).unwrap();
    }
    for (group, tags, expected) in [
        ("even", "even", (0..20).step_by(2).collect::<Vec<_>>()),
        ("odd", "odd", (1..20).step_by(2).collect()),
        ("both", "even || odd", (0..20).collect()),
    ] {
        let seen = Seen::default();
        let builder = store.consumer(group).subscribe("orders", tags).orderly();
        let _worker = builder.listen(2, note_into(&seen)).unwrap();
        store.step().unwrap();
        assert_eq!(by_queue(&seen)[&0], expected, "{tags}");
    }
}

#[test]
fn f112_v4_f7_threads_join_and_leave_and_every_queue_stays_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder(dir.path()).open().unwrap();
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    let seen = Seen::default();
    let in_handler: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
    let start = || {
        let (note, busy) = (note_into(&seen), Arc::clone(&in_handler));
        orderly(&store)
            .listen(3, move |message| {
                assert!(busy.lock().unwrap().insert(message.queue_id()), "two handlers of one queue");
                note(message);
                std::thread::yield_now();
                busy.lock().unwrap().remove(&message.queue_id());
            })
            .unwrap()
    };
    let base = start();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(&store, 0, 500));
        for _ in 0..20 {
            let guest = start();
            std::thread::yield_now();
            guest.shutdown(LONG).unwrap();
        }
        sending.join().unwrap();
    });
    while seen.lock().unwrap().len() < 2_000 {
        std::thread::yield_now();
    }
    base.shutdown(LONG).unwrap();
    store.close().unwrap();
    assert!(by_queue(&seen).values().all(|numbers| *numbers == (0..500).collect::<Vec<_>>()), "V3, V4, I10");
}

#[test]
fn t_b16_f111_with_a_limit_the_message_that_fails_goes_to_the_dead_letters_and_its_queue_goes_on() {
    let store = store_with(1);
    let seen: Arc<Mutex<Vec<(usize, u32)>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let _worker = orderly(&store)
        .max_retries(2)
        .listen_batch(1, 1, move |messages, context| {
            noted.lock().unwrap().push((number(&messages[0]), context.attempts()[0]));
            if number(&messages[0]) == 0 { Err("never works") } else { Ok(()) }
        })
        .unwrap();
    send(&store, 0, 5);
    for _ in 0..4 {
        store.step().unwrap();
        store.advance(Duration::from_secs(1)).unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (3, 1), (4, 1)]);
    let letters = store.dead_letters("billing").unwrap().list(10).unwrap();
    assert_eq!((letters.len(), letters[0].failure_reason()), (1, Some("never works")));
    assert_eq!((letters[0].reconsume_times(), committed(&store)), (3, 5));
}

#[test]
fn t_b14_without_retries_an_orderly_message_has_one_attempt_and_of_a_batch_only_the_used_up_goes() {
    let store = store_with(1);
    let seen = Seen::default();
    let note = note_into(&seen);
    let worker = orderly(&store).max_retries(0).listen(1, move |message| {
        note(message);
        Err::<(), _>("no")
    });
    send(&store, 0, 3);
    store.step().unwrap();
    assert_eq!(by_queue(&seen)[&0], [0, 1, 2]);
    assert_eq!(store.dead_letters("billing").unwrap().count().unwrap(), 3);
    drop(worker);
}

#[test]
fn v4_t_g9_a_reset_while_a_message_is_in_hand_hands_out_no_second_one_of_its_queue() {
    let store = store_with(1);
    let queue = store.queues("orders").unwrap().remove(0);
    let reset =
        |to| store.admin().reset_to_offset("billing", &queue, pocketmq::QueueOffset::new(to)).unwrap();
    let consumer = orderly(&store).handover_timeout(LONG).build().unwrap();
    send(&store, 0, 5);
    for _ in 0..2 {
        consumer.recv().unwrap().ack().unwrap();
    }
    let in_hand = consumer.recv().unwrap();
    reset(1);
    assert!(consumer.try_recv().unwrap().is_none(), "one is in hand");
    in_hand.ack().unwrap();
    assert_eq!(committed(&store), 1, "what is said of it does not move the group");
    let again = consumer.recv().unwrap();
    assert_eq!(number(&again), 1);
    // Who does not let go loses it when the time is up.
    reset(0);
    assert!(consumer.try_recv().unwrap().is_none());
    store.advance(LONG).unwrap();
    let first = consumer.recv().unwrap();
    assert_eq!(number(&first), 0);
    again.ack().unwrap();
    first.ack().unwrap();
    assert_eq!(committed(&store), 1);
}

#[test]
fn f109_a_commit_by_hand_counts_also_where_the_queue_changes_hands_at_that_moment() {
    let store = store_with(1);
    let heir: Arc<Mutex<Option<pocketmq::Consumer>>> = Arc::default();
    let (inside, other) = (Arc::clone(&heir), orderly(&store).instance("a"));
    let other = Mutex::new(Some(other));
    let worker = orderly(&store)
        .instance("b")
        .listen_batch(1, 2, move |_, context| {
            context.commit_by_hand();
            if let Some(other) = other.lock().unwrap().take() {
                *inside.lock().unwrap() = Some(other.build().unwrap());
            }
            ConsumeOrderlyStatus::Commit
        })
        .unwrap();
    send(&store, 0, 3);
    store.step().unwrap();
    let heir = heir.lock().unwrap().take().unwrap();
    assert_eq!((heir.assignment().unwrap().len(), committed(&store)), (1, 2));
    assert_eq!(number(&heir.recv().unwrap()), 2, "what was committed does not come again");
    worker.shutdown(LONG).unwrap();
}
