//! Does the checker see a bug when there is one? Each history here has one, made by hand.

use std::collections::BTreeSet;

use crate::event::{Answer, Body, Event, History, Mode, Place, Receive, Rules};
use crate::judge;

const GROUP: &str = "g";
const QUEUE: &str = "a/orders/0";

fn place(offset: u64) -> Place {
    Place { queue: QUEUE.to_owned(), offset }
}

fn rules(mode: Mode) -> Rules {
    Rules { mode, tag: None, attempts_max: 2 }
}

fn sent(body: Body, offset: u64) -> Event {
    Event::Sent { producer: 0, body, tag: "t".into(), place: place(offset), answer: Answer::Stored }
}

fn receive(body: Body, offset: u64, attempt: u32) -> Receive {
    let place = place(offset);
    Receive { group: GROUP, member: 0, body, intact: true, tag: "t".into(), place, attempt, until: None }
}

fn received(body: Body, offset: u64, attempt: u32) -> Event {
    Event::Received(receive(body, offset, attempt))
}

fn acked(body: Body, offset: u64) -> Event {
    Event::Acked { group: GROUP, member: 0, body, place: place(offset) }
}

fn failed(body: Body, offset: u64, not_before: i64) -> Event {
    Event::Failed { group: GROUP, member: 0, body, place: place(offset), not_before }
}

fn committed(offset: u64) -> Event {
    Event::Committed { group: GROUP, queue: QUEUE.into(), offset }
}

fn scanned(found: &[(u64, Body, i64)]) -> Event {
    let max = found.last().map_or(0, |(at, ..)| at + 1);
    Event::Scanned { queue: QUEUE.into(), min: 0, max, found: found.to_vec() }
}

fn dead(found: &[Body]) -> Event {
    Event::DeadLetters { group: GROUP, found: found.to_vec() }
}

fn assigned(member: usize) -> Event {
    Event::Assigned { group: GROUP, member, queue: QUEUE.into() }
}

fn released(member: usize) -> Event {
    Event::Released { group: GROUP, member, queue: QUEUE.into() }
}

/// Two messages, sent, handed out and acknowledged, each event 10 ms after the one before.
fn sound() -> Vec<Event> {
    vec![
        sent(1, 0),
        sent(2, 1),
        assigned(0),
        received(1, 0, 1),
        acked(1, 0),
        committed(1),
        received(2, 1, 1),
        acked(2, 1),
        committed(2),
        scanned(&[(0, 1, 0), (1, 2, 10)]),
        Event::Searched { queue: QUEUE.into(), millis: 5, offset: 1 },
        Event::Searched { queue: QUEUE.into(), millis: 11, offset: 2 },
        Event::FoundByKey { key: "k".into(), found: [1, 2].into() },
        dead(&[]),
        Event::Called { what: "send", millis: 3 },
    ]
}

fn history(mode: Mode, events: Vec<Event>) -> History {
    let entries = events.into_iter().enumerate().map(|(n, event)| (n as i64 * 10, event)).collect();
    let keys = [(1, "k".to_owned()), (2, "k".to_owned())].into();
    History { groups: [(GROUP, rules(mode))].into(), keys, entries }
}

fn found_in(mode: Mode, events: Vec<Event>) -> BTreeSet<&'static str> {
    judge(&history(mode, events)).iter().map(|violation| violation.invariant).collect()
}

/// Changes a sound history, and tells which invariants it breaks.
fn broken(change: impl FnOnce(&mut Vec<Event>)) -> BTreeSet<&'static str> {
    let mut events = sound();
    change(&mut events);
    found_in(Mode::Loop, events)
}

fn at(events: &[Event], wanted: &Event) -> usize {
    events.iter().position(|event| event == wanted).unwrap()
}

#[test]
fn a_sound_history_breaks_nothing() {
    for mode in [Mode::Loop, Mode::LoopOrderly, Mode::Push, Mode::PushOrderly, Mode::Pull, Mode::Broadcast] {
        assert_eq!(found_in(mode, sound()), BTreeSet::new(), "{mode:?}");
    }
}

#[test]
fn i1_a_lost_write_is_seen() {
    assert!(broken(|events| events[9] = scanned(&[(0, 1, 0)])).contains("I1"));
}

#[test]
fn i2_a_hole_is_seen() {
    let found = broken(|events| {
        events[9] = Event::Scanned { queue: QUEUE.into(), min: 1, max: 2, found: vec![(1, 2, 10)] }
    });
    assert!(found.contains("I2") && !found.contains("I6"), "{found:?}");
}

#[test]
fn i3_a_phantom_is_seen() {
    assert!(broken(|events| events.insert(9, received(7, 7, 1))).contains("I3"));
    let mut changed = receive(2, 1, 1);
    changed.intact = false;
    assert_eq!(broken(|events| events[6] = Event::Received(changed)), ["I3"].into());
}

#[test]
fn i3_what_was_refused_is_a_phantom() {
    let refused =
        Event::Sent { producer: 0, body: 2, tag: "t".into(), place: place(1), answer: Answer::Refused };
    assert!(broken(|events| events[1] = refused).contains("I3"));
}

#[test]
fn i4_a_zombie_is_seen() {
    let found = broken(|events| events.insert(9, scanned(&[(0, 1, 0)])));
    assert!(found.contains("I4"), "{found:?}");
}

#[test]
fn i5_two_messages_at_one_place_are_seen() {
    assert!(broken(|events| events[6] = received(2, 0, 1)).contains("I5"));
}

#[test]
fn i6_a_missing_offset_is_seen() {
    let hole = Event::Scanned { queue: QUEUE.into(), min: 0, max: 3, found: vec![(0, 1, 0), (1, 2, 10)] };
    assert!(broken(|events| events[9] = hole).contains("I6"));
}

#[test]
fn i7_sends_and_receives_out_of_order_are_seen() {
    let found = broken(|events| {
        (events[0], events[1]) = (sent(1, 1), sent(2, 0));
    });
    assert!(found.contains("I7"), "{found:?}");
    let skipped = broken(|events| {
        let (first, second) = (at(events, &received(1, 0, 1)), at(events, &received(2, 1, 1)));
        events.swap(first, second);
    });
    assert!(skipped.contains("I7"), "{skipped:?}");
}

#[test]
fn i8_a_message_that_nobody_got_or_nobody_ended_is_seen() {
    let never = broken(|events| events.retain(|event| *event != received(2, 1, 1)));
    assert_eq!(never, ["I8"].into());
    let open = broken(|events| events.retain(|event| *event != acked(2, 1) && *event != committed(2)));
    assert_eq!(open, ["I8"].into());
}

#[test]
fn i9_a_message_that_the_filter_does_not_take_is_seen() {
    let mut history = history(Mode::Loop, sound());
    history.groups.get_mut(GROUP).unwrap().tag = Some("other");
    let found: BTreeSet<_> = judge(&history).iter().map(|violation| violation.invariant).collect();
    assert_eq!(found, ["I9"].into());
}

#[test]
fn i10_a_duplicate_without_a_reason_is_seen() {
    let in_hand = broken(|events| events.insert(4, received(1, 0, 1)));
    assert!(in_hand.contains("I10"), "{in_hand:?}");
    let settled = broken(|events| {
        // Committed before it is acknowledged for the last time, so nothing is left to come again.
        events.splice(
            9..9,
            [Event::Reopened, received(2, 1, 1), acked(2, 1), Event::Reopened, received(2, 1, 1)],
        );
    });
    assert!(settled.contains("I10"), "{settled:?}");
}

#[test]
fn i10_a_reason_is_taken_for_one() {
    for reason in [released(0), Event::Gone { group: GROUP, member: 0 }, Event::Reopened] {
        let found = broken(|events| {
            events.splice(4..4, [reason.clone(), received(1, 0, 1)]);
        });
        assert_eq!(found, BTreeSet::new(), "{reason:?}");
    }
}

#[test]
fn i11_two_owners_are_seen() {
    assert_eq!(broken(|events| events.insert(3, assigned(1))), ["I11"].into());
    let mut stranger = receive(2, 1, 1);
    stranger.member = 1;
    assert_eq!(broken(|events| events[6] = Event::Received(stranger)), ["I11"].into());
}

#[test]
fn i11_two_messages_of_an_ordered_queue_at_once_are_seen() {
    let mut events = sound();
    let (ack, second) = (at(&events, &acked(1, 0)), at(&events, &received(2, 1, 1)));
    events.swap(ack, second);
    events.retain(|event| *event != committed(1));
    assert_eq!(found_in(Mode::LoopOrderly, events.clone()), ["I11"].into());
    assert_eq!(found_in(Mode::Loop, events), BTreeSet::new());
}

#[test]
fn i11_an_ordered_queue_that_goes_on_past_a_failure_is_seen() {
    let mut events = sound();
    events[4] = failed(1, 0, 0);
    events.splice(9..9, [received(1, 0, 2), acked(1, 0)]);
    events.retain(|event| *event != committed(1));
    assert!(found_in(Mode::LoopOrderly, events).contains("I11"));
}

#[test]
fn i12_an_instance_that_misses_one_is_seen() {
    let mut events = sound();
    let mut other = receive(1, 0, 1);
    other.member = 1;
    events.insert(9, Event::Received(other));
    assert_eq!(found_in(Mode::Broadcast, events), ["I12"].into());
}

#[test]
fn i14_what_comes_back_early_is_seen() {
    let again = |not_before| {
        broken(|events| {
            events.splice(4..5, [failed(1, 0, not_before), received(1, 0, 2), acked(1, 0)]);
        })
    };
    assert_eq!(again(50), BTreeSet::new());
    assert_eq!(again(51), ["I14"].into());
}

#[test]
fn i15_attempts_that_skip_or_never_end_are_seen() {
    let skips = broken(|events| {
        events.splice(4..5, [failed(1, 0, 0), received(1, 0, 3), acked(1, 0)]);
    });
    assert!(skips.contains("I15"), "{skips:?}");
    let lives = broken(|events| {
        events.splice(4..5, [failed(1, 0, 0), received(1, 0, 2), failed(1, 0, 0)]);
    });
    assert!(lives.contains("I15"), "{lives:?}");
    let early = broken(|events| {
        let last = at(events, &dead(&[]));
        events[last] = dead(&[1]);
    });
    assert_eq!(early, ["I15"].into());
    let twice = broken(|events| {
        events.splice(4..5, [failed(1, 0, 0), received(1, 0, 2), failed(1, 0, 0)]);
        let last = at(events, &dead(&[]));
        events[last] = dead(&[1, 1]);
    });
    assert_eq!(twice, ["I15"].into());
}

#[test]
fn i16_a_position_that_passes_what_is_open_is_seen() {
    let found = broken(|events| events.insert(3, committed(1)));
    assert!(found.contains("I16"), "{found:?}");
}

#[test]
fn i17_a_position_that_goes_back_is_seen() {
    assert_eq!(broken(|events| events.insert(9, committed(1))), ["I17"].into());
}

#[test]
fn i18_a_key_that_does_not_find_is_seen() {
    assert_eq!(
        broken(|events| events[12] = Event::FoundByKey { key: "k".into(), found: [1].into() }),
        ["I18"].into()
    );
}

#[test]
fn i19_a_wrong_search_by_time_is_seen() {
    assert_eq!(
        broken(|events| events[10] = Event::Searched { queue: QUEUE.into(), millis: 5, offset: 0 }),
        ["I19"].into()
    );
}

#[test]
fn i22_a_call_that_hangs_is_seen() {
    assert_eq!(broken(|events| events[14] = Event::Called { what: "send", millis: 600_000 }), ["I22"].into());
}
