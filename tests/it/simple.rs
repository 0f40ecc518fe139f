//! Does a simple consumer lease each message to one worker at a time, lose none, and let nobody forge a receipt?

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Error, Filter, Lease, Message, QueueOffset, Receipt, RetryPolicy, SimpleConsumer, StartFrom, Store,
    TopicConfig,
};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn store_with(queues: u32) -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(queues)).unwrap();
    store
}

fn simple(store: &Store) -> SimpleConsumer {
    store.consumer("billing").subscribe("orders", "*").simple().unwrap()
}

fn orderly(store: &Store) -> SimpleConsumer {
    store.consumer("billing").subscribe("orders", "*").orderly().simple().unwrap()
}

/// Sends messages that are numbered from `from` on.
fn send(store: &Store, from: usize, count: usize) {
    let producer = store.producer("shop").unwrap();
    for n in from..from + count {
        producer.send(Message::new("orders", n.to_string())).unwrap();
    }
}

fn number(lease: &Lease) -> usize {
    lease.body_str().unwrap().parse().unwrap()
}

fn numbers(leases: &[Lease]) -> Vec<usize> {
    leases.iter().map(number).collect()
}

fn tried(leases: &[Lease]) -> Vec<(usize, u32)> {
    leases.iter().map(|lease| (number(lease), lease.attempt())).collect()
}

fn ack_all(leases: Vec<Lease>) {
    leases.into_iter().for_each(|lease| lease.ack().unwrap());
}

fn committed(store: &Store) -> u64 {
    let queues = store.queues("orders").unwrap();
    queues.iter().filter_map(|queue| store.committed("billing", queue).unwrap()).map(QueueOffset::get).sum()
}

fn is_refused(result: Result<(), Error>) -> bool {
    matches!(result, Err(Error::InvalidReceipt(_)))
}

#[test]
fn t_f22_everything_is_received_once_and_acknowledged_by_whoever_has_the_receipt() {
    let store = store_with(4);
    let (one, other) = (simple(&store), simple(&store));
    send(&store, 0, 20);
    let (first, second) = (one.receive(12, MINUTE).unwrap(), other.receive(12, MINUTE).unwrap());
    assert_eq!((first.len(), second.len()), (12, 8));
    let all: BTreeSet<_> = first.iter().chain(&second).map(number).collect();
    assert_eq!(all.len(), 20);
    assert_eq!(one.queues().unwrap(), other.queues().unwrap(), "nothing is divided");
    for lease in first {
        other.ack(lease.receipt()).unwrap();
    }
    ack_all(second);
    assert!(one.receive(32, MINUTE).unwrap().is_empty());
    assert_eq!(committed(&store), 20);
    store.advance(2 * MINUTE).unwrap();
    assert!(one.receive(32, MINUTE).unwrap().is_empty());
}

#[test]
fn t_f12_what_is_not_acknowledged_comes_again_with_what_has_come_since() {
    for in_order in [false, true] {
        let store = store_with(1);
        let consumer = if in_order { orderly(&store) } else { simple(&store) };
        send(&store, 0, 10);
        assert_eq!(consumer.receive(10, 3 * SECOND).unwrap().len(), 10);
        assert!(consumer.receive(10, 3 * SECOND).unwrap().is_empty());
        store.advance(6 * SECOND).unwrap();
        send(&store, 10, 20);
        let mut all = Vec::new();
        while all.len() < 30 {
            let leases = consumer.receive(32, 3 * SECOND).unwrap();
            assert!(!leases.is_empty(), "{} of 30", all.len());
            all.extend(leases);
        }
        assert_eq!(numbers(&all), (0..30).collect::<Vec<_>>());
        let receipts: Vec<_> = all.iter().map(|lease| lease.receipt().clone()).collect();
        assert!(consumer.ack_all(&receipts).into_iter().all(|result| result.is_ok()));
        store.advance(6 * SECOND).unwrap();
        assert!(consumer.receive(32, 3 * SECOND).unwrap().is_empty());
        assert_eq!(committed(&store), 30);
    }
}

#[test]
fn t_f13_in_order_one_at_a_time_comes_in_order_to_any_number_of_workers() {
    let store = store_with(1);
    let workers = [orderly(&store), orderly(&store), orderly(&store)];
    send(&store, 0, 10);
    let mut seen = Vec::new();
    for n in 0..10 {
        let leases = workers[n % 3].receive(1, MINUTE).unwrap();
        assert!(workers[(n + 1) % 3].receive(1, MINUTE).unwrap().is_empty(), "somebody has one");
        seen.extend(numbers(&leases));
        ack_all(leases);
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[test]
fn t_f14_in_order_nothing_overtakes_what_is_not_acknowledged() {
    let store = store_with(1);
    let consumer = orderly(&store);
    send(&store, 0, 10);
    let first = consumer.receive(5, 3 * SECOND).unwrap();
    assert_eq!(tried(&first), (0..5).map(|n| (n, 1)).collect::<Vec<_>>());
    store.advance(3 * SECOND).unwrap();
    let second = consumer.receive(5, 3 * SECOND).unwrap();
    assert_eq!(tried(&second), (0..5).map(|n| (n, 2)).collect::<Vec<_>>());
    // Of those that are acknowledged in part, the rest comes before what follows.
    for (n, lease) in second.into_iter().enumerate() {
        if n != 1 && n != 3 {
            lease.ack().unwrap();
        }
    }
    assert!(consumer.receive(5, 3 * SECOND).unwrap().is_empty());
    store.advance(3 * SECOND).unwrap();
    let third = consumer.receive(4, 3 * SECOND).unwrap();
    assert_eq!(tried(&third), [(1, 3), (3, 3), (5, 1), (6, 1)]);
    assert_eq!(committed(&store), 1);
}

#[test]
fn t_f15_an_orderly_message_whose_time_is_changed_comes_again_when_that_is_over() {
    let store = store_with(1);
    let consumer = orderly(&store);
    send(&store, 0, 2);
    let mut leases = consumer.receive(1, MINUTE).unwrap();
    leases[0].change_invisible(5 * SECOND).unwrap();
    store.advance(4 * SECOND).unwrap();
    assert!(consumer.receive(1, MINUTE).unwrap().is_empty());
    store.advance(SECOND).unwrap();
    let again = consumer.receive(1, MINUTE).unwrap();
    assert_eq!(tried(&again), [(0, 2)]);
    ack_all(again);
    assert_eq!(tried(&consumer.receive(1, MINUTE).unwrap()), [(1, 1)]);
}

#[test]
fn t_f20_a_message_that_was_received_and_sent_on_keeps_its_key_and_has_a_receipt_of_its_own() {
    let store = store_with(1);
    store.create_topic("invoices", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    producer.send(Message::new("orders", "hello").key("order-42")).unwrap();
    let lease = simple(&store).receive(1, MINUTE).unwrap().remove(0);
    let key = lease.keys().next().unwrap().to_owned();
    producer.send(Message::new("invoices", lease.body_str().unwrap().into_owned()).key(key)).unwrap();
    let second = store.consumer("mailing").subscribe("invoices", "*").simple().unwrap();
    let other = second.receive(1, MINUTE).unwrap().remove(0);
    assert_eq!(other.keys().collect::<Vec<_>>(), ["order-42"]);
    assert_ne!(other.receipt(), lease.receipt());
    assert!(is_refused(second.ack(lease.receipt())), "A25: of another group");
    lease.ack().unwrap();
    other.ack().unwrap();
}

#[test]
fn t_f23_an_acknowledgement_that_comes_too_late_is_refused_and_the_message_comes_again() {
    let store = store_with(1);
    let consumer = simple(&store);
    send(&store, 0, 1);
    let late = consumer.receive(1, 10 * SECOND).unwrap().remove(0);
    let receipt = late.receipt().clone();
    store.advance(10 * SECOND).unwrap();
    assert!(is_refused(late.ack()), "also before somebody else has it");
    let again = consumer.receive(1, 10 * SECOND).unwrap().remove(0);
    assert!(is_refused(consumer.ack(&receipt)));
    assert_eq!(committed(&store), 0);
    again.ack().unwrap();
    assert_eq!(committed(&store), 1);
}

#[test]
fn t_f27_of_an_old_and_a_new_receipt_exactly_one_is_good() {
    let store = store_with(1);
    let consumer = simple(&store);
    send(&store, 0, 1);
    let lease = consumer.receive(1, MINUTE).unwrap().remove(0);
    let old = lease.receipt().clone();
    let new = consumer.change_invisible(&old, 5 * SECOND).unwrap();
    assert_ne!(old, new);
    assert!(is_refused(consumer.ack(&old)));
    store.advance(5 * SECOND).unwrap();
    let again = consumer.receive(1, MINUTE).unwrap().remove(0);
    assert!(is_refused(consumer.ack(&new)));
    assert!(consumer.change_invisible(&new, MINUTE).is_err());
    again.ack().unwrap();
}

#[test]
fn a25_a_receipt_that_is_forged_used_or_of_another_group_changes_nothing() {
    let store = store_with(1);
    let consumer = simple(&store);
    let other = store.consumer("mailing").subscribe("orders", "*").simple().unwrap();
    send(&store, 0, 2);
    let leases = consumer.receive(2, MINUTE).unwrap();
    let theirs = other.receive(2, MINUTE).unwrap();
    assert!(is_refused(consumer.ack(theirs[0].receipt())));
    let text = leases[0].receipt().to_string();
    let (place, token) = text.rsplit_once('/').unwrap();
    let turned = |n: usize| {
        let mut token = token.to_owned();
        token.replace_range(n..=n, if token.as_bytes()[n] == b'0' { "1" } else { "0" });
        format!("{place}/{token}").parse::<Receipt>().unwrap()
    };
    assert!((0..32).all(|n| is_refused(consumer.ack(&turned(n)))));
    let moved = text.replace("/0/0/", "/0/1/").parse::<Receipt>().unwrap();
    assert!(is_refused(consumer.ack(&moved)), "of another message");
    let strange = text.replace("orders/", "nowhere/").parse::<Receipt>().unwrap();
    assert!(is_refused(consumer.ack(&strange)));
    assert_eq!(committed(&store), 0);
    // As a text it is as good as it was.
    consumer.ack(&text.parse().unwrap()).unwrap();
    assert!(is_refused(consumer.ack(&text.parse().unwrap())), "used twice");
    assert!(is_refused(consumer.dead_letter(&text.parse().unwrap(), "")));
    assert_eq!(committed(&store), 1);
    leases.into_iter().nth(1).unwrap().ack().unwrap();
    assert_eq!(committed(&store), 2);
}

#[test]
fn g7_leases_survive_a_kill_with_their_receipts_their_attempts_and_the_rest_of_their_time() {
    let store = store_with(1);
    let consumer = simple(&store);
    send(&store, 0, 6);
    let leases = consumer.receive(5, MINUTE).unwrap();
    let receipts: Vec<Receipt> = leases.iter().map(|lease| lease.receipt().clone()).collect();
    consumer.ack(&receipts[0]).unwrap();
    consumer.ack(&receipts[2]).unwrap();
    assert_eq!(committed(&store), 1, "D10: it never passes what is not acknowledged");
    store.advance(20 * SECOND).unwrap();
    drop((leases, consumer));
    let store = store.kill_process().unwrap();
    let consumer = simple(&store);
    assert_eq!(tried(&consumer.receive(32, MINUTE).unwrap()), [(5, 1)]);
    consumer.ack(&receipts[1]).unwrap();
    assert_eq!(committed(&store), 3);
    assert!(is_refused(consumer.ack(&receipts[2])), "it was used before the kill");
    store.advance(39 * SECOND).unwrap();
    assert!(consumer.receive(32, MINUTE).unwrap().is_empty());
    store.advance(SECOND).unwrap();
    let again = consumer.receive(32, MINUTE).unwrap();
    assert_eq!(tried(&again), [(3, 2), (4, 2)]);
    ack_all(again);
    let store = store.reopen().unwrap();
    assert!(is_refused(simple(&store).ack(&receipts[4])));
    store.advance(MINUTE).unwrap();
    assert_eq!(tried(&simple(&store).receive(32, MINUTE).unwrap()), [(5, 2)], "as after a clean stop");
}

#[test]
fn g7_a_clock_that_was_set_back_makes_no_lease_longer_than_it_was() {
    let store = store_with(1);
    send(&store, 0, 1);
    let lease = simple(&store).receive(1, MINUTE).unwrap().remove(0);
    store.clock().set_wall_millis(1_700_000_000_000 - 3_600_000);
    drop(lease);
    let store = store.kill_process().unwrap();
    let consumer = simple(&store);
    store.advance(MINUTE).unwrap();
    assert_eq!(tried(&consumer.receive(1, MINUTE).unwrap()), [(0, 2)]);
}

#[test]
fn d10_another_kind_of_consumer_that_takes_over_gets_what_is_leased() {
    let store = store_with(1);
    let consumer = simple(&store);
    send(&store, 0, 3);
    let leases = consumer.receive(3, MINUTE).unwrap();
    leases.into_iter().nth(1).unwrap().ack().unwrap();
    let refused = store.consumer("billing").subscribe("orders", "*").build().unwrap_err();
    assert!(refused.to_string().contains("lease"), "V7: {refused}");
    drop(consumer);
    let other = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    assert_eq!(other.drain(|_| ()).unwrap(), 3, "at least once: RocketMQ does the same with this folder");
    drop(other);
    assert!(simple(&store).receive(3, MINUTE).unwrap().is_empty());
}

#[test]
fn d11_after_another_broker_has_written_here_nothing_is_leased_any_more() {
    let store = store_with(1);
    send(&store, 0, 3);
    let leases = simple(&store).receive(3, MINUTE).unwrap();
    leases.into_iter().nth(1).unwrap().ack().unwrap();
    let folder = store.kill_into_folder();
    // What every Java broker does when it starts.
    let lock = folder.path().join("broker-a").join("lock");
    std::fs::File::options()
        .write(true)
        .open(lock)
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let store = folder.open().unwrap();
    assert_eq!(numbers(&simple(&store).receive(3, MINUTE).unwrap()), [0, 1, 2]);
}

#[test]
fn d10_a_file_of_leases_that_is_damaged_or_gone_lets_messages_come_again_and_hides_none() {
    let damages: [&dyn Fn(&std::path::Path); 4] = [
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| std::fs::write(path, [0xff; 1_000]).unwrap(),
        &|path| {
            let len = std::fs::metadata(path).unwrap().len();
            std::fs::write(path, vec![0xa5; usize::try_from(len).unwrap()]).unwrap();
        },
        &|path| {
            let mut bytes = std::fs::read(path).unwrap();
            for cell in bytes[64..].chunks_mut(64) {
                cell[11] ^= 1;
            }
            std::fs::write(path, bytes).unwrap();
        },
    ];
    for damage in damages {
        let store = store_with(1);
        send(&store, 0, 3);
        let leases = simple(&store).receive(3, MINUTE).unwrap();
        leases.into_iter().nth(1).unwrap().ack().unwrap();
        let folder = store.kill_into_folder();
        damage(&folder.path().join("broker-a").join("pocketmq").join("leases-billing"));
        let store = folder.open().unwrap();
        let leases = simple(&store).receive(3, MINUTE).unwrap();
        assert_eq!(numbers(&leases), [0, 1, 2]);
        ack_all(leases);
        assert_eq!(committed(&store), 3);
    }
}

#[test]
fn v8_beyond_the_retry_limit_a_message_goes_to_the_dead_letters_once() {
    let store = store_with(1);
    let builder = || store.consumer("billing").subscribe("orders", "*");
    let consumer = builder().simple().unwrap();
    send(&store, 0, 2);
    for attempt in 1..=17 {
        let leases = consumer.receive(1, SECOND).unwrap();
        assert_eq!(tried(&leases), [(0, attempt)], "16 retries");
        store.advance(SECOND).unwrap();
    }
    let rest = consumer.receive(2, MINUTE).unwrap();
    assert_eq!(tried(&rest), [(1, 1)]);
    ack_all(rest);
    assert_eq!(committed(&store), 2);
    let dead = store.dead_letters("billing").unwrap().list(10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].body_str().unwrap(), dead[0].reconsume_times()), ("0".into(), 17));
    assert!(dead[0].failure_reason().unwrap().contains("invisible time"));
    drop(consumer);
    // In order there is no last attempt unless a limit is set; and who has it gives it up.
    let store = store_with(1);
    send(&store, 0, 2);
    let consumer =
        store.consumer("billing").subscribe("orders", "*").orderly().max_retries(1).simple().unwrap();
    for _ in 0..2 {
        assert_eq!(numbers(&consumer.receive(2, SECOND).unwrap()), [0, 1]);
        store.advance(SECOND).unwrap();
    }
    assert!(consumer.receive(2, SECOND).unwrap().is_empty(), "both were tried twice");
    assert_eq!(store.dead_letters("billing").unwrap().list(10).unwrap().len(), 2);
    send(&store, 2, 1);
    let lease = consumer.receive(2, SECOND).unwrap().remove(0);
    lease.dead_letter("not mine").unwrap();
    assert_eq!(committed(&store), 3);
    let dead = store.dead_letters("billing").unwrap().list(10).unwrap();
    assert_eq!(dead.iter().filter(|letter| letter.failure_reason() == Some("not mine")).count(), 1);
}

#[test]
fn f105_a_dead_letter_that_is_given_back_is_received_with_all_attempts_before_it() {
    let store = store_with(1);
    let policy = RetryPolicy::new().max_retries(0);
    let consumer = store.consumer("billing").subscribe("orders", "*").retry_policy(policy).simple().unwrap();
    send(&store, 0, 1);
    drop(consumer.receive(1, SECOND).unwrap());
    store.advance(SECOND).unwrap();
    assert!(consumer.receive(1, SECOND).unwrap().is_empty());
    let redriven = store.dead_letters("billing").unwrap().redrive(10).unwrap();
    assert_eq!(redriven.len(), 1);
    let lease = consumer.receive(1, SECOND).unwrap().remove(0);
    assert_eq!((lease.attempt(), lease.topic()), (1, "orders"));
    lease.ack().unwrap();
}

#[test]
fn v10_what_the_filter_does_not_want_counts_as_consumed_and_what_has_expired_is_a_dead_letter() {
    let store = store_with(1);
    let producer = store.producer("shop").unwrap();
    for n in 0..300 {
        let tag = if n % 100 == 99 { "paid" } else { "created" };
        producer.send(Message::new("orders", n.to_string()).tag(tag)).unwrap();
    }
    producer.send(Message::new("orders", "late").tag("paid").expires_in(SECOND)).unwrap();
    store.advance(SECOND).unwrap();
    let consumer = store.consumer("billing").subscribe("orders", Filter::from("paid")).simple().unwrap();
    let leases = consumer.receive(32, MINUTE).unwrap();
    assert_eq!(numbers(&leases), [99, 199, 299]);
    assert_eq!(committed(&store), 99);
    ack_all(leases);
    assert!(consumer.receive(32, MINUTE).unwrap().is_empty());
    assert_eq!(committed(&store), 301);
    let dead = store.dead_letters("billing").unwrap().list(10).unwrap();
    assert_eq!(dead.iter().map(|letter| letter.failure_reason().unwrap()).collect::<Vec<_>>(), ["expired"]);
}

#[test]
fn t_g12_t_g13_t_g14_a_position_that_is_moved_makes_old_receipts_worth_nothing() {
    let store = store_with(1);
    let queue = store.queues("orders").unwrap().remove(0);
    let reset = |to| store.admin().reset_to_offset("billing", &queue, QueueOffset::new(to)).unwrap();
    let consumer = orderly(&store);
    send(&store, 0, 10);
    let old = consumer.receive(10, MINUTE).unwrap();
    reset(2);
    let new = consumer.receive(32, MINUTE).unwrap();
    assert_eq!(numbers(&new), (2..10).collect::<Vec<_>>(), "T-G13");
    for lease in old {
        assert!(is_refused(lease.ack()));
    }
    assert!(consumer.receive(32, MINUTE).unwrap().is_empty(), "they do not let the next ones come");
    ack_all(new);
    assert_eq!(committed(&store), 10);
    drop(consumer);
    reset(0);
    let consumer = simple(&store);
    let all = consumer.receive(10, MINUTE).unwrap();
    for lease in all.into_iter().skip(1) {
        lease.ack().unwrap();
    }
    drop(consumer);
    // Also where nobody runs who could be told: what was acknowledged out of turn is wanted again.
    reset(4);
    let consumer = simple(&store);
    let six = consumer.receive(32, MINUTE).unwrap();
    assert_eq!(numbers(&six), (4..10).collect::<Vec<_>>(), "T-G12, T-G14");
    ack_all(six);
    let later =
        store.consumer("later").subscribe("orders", "*").start_from(StartFrom::Latest).simple().unwrap();
    assert!(later.receive(32, MINUTE).unwrap().is_empty());
}

#[test]
fn leases_are_limited_and_an_acknowledgement_makes_room() {
    let store = store_with(2);
    let consumer = store.consumer("billing").subscribe("orders", "*").leases_max(5).simple().unwrap();
    send(&store, 0, 20);
    let mut leases = consumer.receive(32, MINUTE).unwrap();
    assert_eq!(leases.len(), 5);
    assert!(consumer.receive(32, MINUTE).unwrap().is_empty());
    let first = leases.remove(0);
    first.ack().unwrap();
    assert_eq!(consumer.receive(32, MINUTE).unwrap().len(), 1);
    let wrong = store.consumer("other").subscribe("orders", "*").leases_max(0).simple().unwrap_err();
    assert!(wrong.to_string().contains("leases_max"), "{wrong}");
}

#[test]
fn f93_an_invisible_time_out_of_its_range_is_refused() {
    let store = store_with(1);
    let consumer = simple(&store);
    send(&store, 0, 1);
    for wrong in [Duration::ZERO, Duration::from_micros(999), 13 * 60 * MINUTE] {
        assert!(matches!(consumer.receive(1, wrong), Err(Error::InvalidArgument { field: "invisible", .. })));
    }
    assert!(consumer.receive(0, MINUTE).unwrap().is_empty());
    let mut lease = consumer.receive(1, MINUTE).unwrap().remove(0);
    assert!(lease.change_invisible(13 * 60 * MINUTE).is_err());
    lease.change_invisible(Duration::ZERO).unwrap();
    assert_eq!(tried(&consumer.receive(1, MINUTE).unwrap()), [(0, 2)], "given back");
}

#[test]
fn v7_simple_consumers_of_a_group_subscribe_alike_and_a_topic_that_is_made_later_is_received() {
    let store = TestStore::new();
    let consumer = simple(&store);
    let other = store.consumer("billing").subscribe("orders", "paid").simple().unwrap_err();
    assert!(other.to_string().contains("already subscribes"), "{other}");
    let other = store.consumer("billing").subscribe("orders", "*").orderly().simple().unwrap_err();
    assert!(other.to_string().contains("in order"), "{other}");
    let other = store.consumer("billing").subscribe("orders", "*").broadcast("x").simple().unwrap_err();
    assert!(matches!(other, Error::InvalidConfig { field: "broadcast", .. }));
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    send(&store, 0, 1);
    let lease = consumer.receive(1, MINUTE).unwrap().remove(0);
    store.delete_topic("orders").unwrap();
    assert!(consumer.receive(1, MINUTE).unwrap().is_empty());
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    send(&store, 7, 1);
    assert!(is_refused(lease.ack()), "a message of a topic that is gone");
    assert_eq!(tried(&consumer.receive(1, MINUTE).unwrap()), [(7, 1)]);
}

#[test]
fn what_was_leased_before_a_kill_and_is_acknowledged_after_it_never_comes_again() {
    let store = store_with(1);
    send(&store, 0, 3);
    assert_eq!(simple(&store).receive(3, SECOND).unwrap().len(), 3);
    let store = store.kill_process().unwrap();
    store.advance(2 * SECOND).unwrap();
    let first = simple(&store).receive(1, MINUTE).unwrap().remove(0);
    assert_eq!((number(&first), first.attempt()), (0, 2));
    first.ack().unwrap();
    let store = store.kill_process().unwrap();
    store.advance(2 * MINUTE).unwrap();
    assert_eq!(tried(&simple(&store).receive(3, MINUTE).unwrap()), [(1, 2), (2, 2)]);
}

#[test]
fn leases_of_a_topic_that_nobody_subscribes_any_more_leave_room_for_others() {
    let store = store_with(1);
    store.create_topic("returns", TopicConfig::queues(1)).unwrap();
    send(&store, 0, 5);
    store.producer("shop").unwrap().send(Message::new("returns", "7")).unwrap();
    let of = |store: &Store, topic| {
        store.consumer("billing").subscribe(topic, "*").leases_max(5).simple().unwrap()
    };
    assert_eq!(of(&store, "orders").receive(5, MINUTE).unwrap().len(), 5);
    let store = store.kill_process().unwrap();
    assert_eq!(numbers(&of(&store, "returns").receive(5, MINUTE).unwrap()), [7]);
}

#[test]
fn a_queue_that_is_not_read_for_a_while_loses_nothing_that_was_leased() {
    let store = store_with(2);
    let last = store.queues("orders").unwrap().remove(1);
    store.producer("shop").unwrap().send_to(&last, Message::new("orders", "0")).unwrap();
    let consumer = simple(&store);
    assert_eq!(consumer.receive(5, MINUTE).unwrap().len(), 1);
    store.update_topic("orders", TopicConfig::queues(1)).unwrap();
    assert!(consumer.receive(5, MINUTE).unwrap().is_empty());
    store.update_topic("orders", TopicConfig::queues(2)).unwrap();
    store.advance(2 * MINUTE).unwrap();
    assert_eq!(numbers(&consumer.receive(5, MINUTE).unwrap()), [0]);
}

#[test]
fn what_has_expired_behind_a_lease_becomes_a_dead_letter_once() {
    let store = store_with(1);
    send(&store, 0, 1);
    let shop = store.producer("shop").unwrap();
    for n in 1..4 {
        shop.send(Message::new("orders", n.to_string()).expires_in(SECOND)).unwrap();
    }
    store.advance(2 * SECOND).unwrap();
    let hour = 60 * MINUTE;
    assert_eq!(numbers(&simple(&store).receive(9, hour).unwrap()), [0]);
    let dead = |store: &Store| store.dead_letters("billing").unwrap().count().unwrap();
    assert_eq!(dead(&store), 3);
    let store = store.kill_process().unwrap();
    assert!(simple(&store).receive(9, hour).unwrap().is_empty());
    assert_eq!(dead(&store), 3);
}

#[test]
fn any_number_of_workers_share_one_queue_and_each_message_is_handled_once() {
    const MESSAGES: usize = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let (seen, count) = (Mutex::new(vec![0; MESSAGES]), AtomicUsize::new(0));
    let builder =
        || store.consumer("billing").subscribe("orders", "*").await_duration(Duration::from_millis(50));
    let first = builder().simple().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let consumer = builder().simple().unwrap();
            let (seen, count) = (&seen, &count);
            scope.spawn(move || {
                while count.load(Ordering::SeqCst) < MESSAGES {
                    for lease in consumer.receive(7, MINUTE).unwrap() {
                        seen.lock().unwrap()[number(&lease)] += 1;
                        lease.ack().unwrap();
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        send(&store, 0, MESSAGES);
    });
    assert!(seen.into_inner().unwrap().iter().all(|times| *times == 1));
    assert_eq!(committed(&store), 2_000);
    drop(first);
    store.close().unwrap();
}

#[test]
fn a_waiting_worker_is_woken_by_a_message_and_by_the_end_of_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_topic("orders", TopicConfig::queues(1)).unwrap();
    let builder = store.consumer("billing").subscribe("orders", "*");
    let consumer = builder.await_duration(MINUTE).simple().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.receive(1, Duration::from_millis(20)).unwrap());
        send(&store, 0, 1);
        assert_eq!(tried(&waiting.join().unwrap()), [(0, 1)]);
        assert_eq!(tried(&consumer.receive(1, MINUTE).unwrap()), [(0, 2)]);
        let waiting = scope.spawn(|| consumer.receive(1, MINUTE));
        store.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    });
}
