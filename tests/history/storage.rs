//! I1 to I7, I18, I19 and I22: is everything where it was put, once, in order, and found?

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::{Answer, Body, Event, History, Place, Seen, Violation, violation};

/// How long a call may take, in real milliseconds: what is longer hangs.
const STUCK_MILLIS: u128 = 120_000;

pub(crate) fn judge(history: &History) -> Vec<Violation> {
    [
        i1_i2_nothing_stored_is_lost(history),
        i3_nothing_comes_from_nowhere(history),
        i4_nothing_comes_back(history),
        i5_a_place_has_one_message(history),
        i6_offsets_are_dense(history),
        i7_sends_keep_their_order(history),
        i18_keys_find_their_messages(history),
        i19_times_find_the_first(history),
        i22_no_call_is_stuck(history),
    ]
    .concat()
}

fn i1_i2_nothing_stored_is_lost(history: &History) -> Vec<Violation> {
    let last = history.last_scan();
    let there = |place: &Place| last.get(place.queue.as_str()).and_then(|queue| queue.get(&place.offset));
    let mut violations = Vec::new();
    // Of each broker, the first message that is missing: nothing stored later may be there.
    let mut missing: HashMap<&str, Body> = HashMap::new();
    for (body, place, _) in history.stored() {
        let broker = place.queue.split('/').next().unwrap_or_default();
        match there(place) {
            Some(found) if *found == body => {
                if let Some(hole) = missing.get(broker) {
                    violations.push(violation("I2", format!("{body} is there and {hole} before it is not")));
                }
            }
            other => {
                violations.push(violation("I1", format!("{body} is not at {place}, but {other:?}")));
                missing.entry(broker).or_insert(body);
            }
        }
    }
    violations
}

fn i3_nothing_comes_from_nowhere(history: &History) -> Vec<Violation> {
    let mut known = BTreeSet::new();
    let mut violations = Vec::new();
    for event in history.events() {
        match event {
            Event::Sent { body, answer: Answer::Stored, .. } => drop(known.insert(*body)),
            Event::Received(receive) if !known.contains(&receive.body) => {
                violations.push(violation("I3", format!("{} was handed out and never sent", receive.body)));
            }
            Event::Received(receive) if !receive.intact => {
                violations.push(violation("I3", format!("{} has other bytes than were sent", receive.body)));
            }
            Event::Scanned { queue, found, .. } => {
                let strangers = found.iter().filter(|(_, body, _)| !known.contains(body));
                violations
                    .extend(strangers.map(|(at, body, _)| {
                        violation("I3", format!("{queue}@{at} has {body}, never sent"))
                    }));
            }
            _ => {}
        }
    }
    violations
}

fn i4_nothing_comes_back(history: &History) -> Vec<Violation> {
    // What a look at a queue missed among what had been stored by then.
    let mut stored: HashMap<&Place, Body> = HashMap::new();
    let mut absent: BTreeSet<Body> = BTreeSet::new();
    let mut violations = Vec::new();
    for event in history.events() {
        match event {
            Event::Sent { body, place, answer: Answer::Stored, .. } => drop(stored.insert(place, *body)),
            Event::Scanned { queue, found, .. } => {
                let there: BTreeSet<_> = found.iter().map(|(_, body, _)| *body).collect();
                for body in there.intersection(&absent) {
                    violations.push(violation("I4", format!("{body} was gone from {queue} and is back")));
                }
                let here = stored.iter().filter(|(place, _)| place.queue == *queue);
                absent.extend(here.map(|(_, body)| *body).filter(|body| !there.contains(body)));
            }
            _ => {}
        }
    }
    violations
}

fn i5_a_place_has_one_message(history: &History) -> Vec<Violation> {
    let mut places: HashMap<Place, Body> = HashMap::new();
    let mut violations = Vec::new();
    let mut see = |place: Place, body: Body| {
        let before = *places.entry(place.clone()).or_insert(body);
        if before != body {
            violations.push(violation("I5", format!("{place} has {body} and had {before}")));
        }
    };
    for event in history.events() {
        match event {
            Event::Sent { body, place, answer: Answer::Stored, .. } => see(place.clone(), *body),
            Event::Received(receive) => see(receive.place.clone(), receive.body),
            Event::Scanned { queue, found, .. } => {
                found
                    .iter()
                    .for_each(|(at, body, _)| see(Place { queue: queue.clone(), offset: *at }, *body));
            }
            _ => {}
        }
    }
    violations
}

fn i6_offsets_are_dense(history: &History) -> Vec<Violation> {
    let scans = history.events().filter_map(|event| match event {
        Event::Scanned { queue, min, max, found } => Some((queue, min, max, found)),
        _ => None,
    });
    let holes = scans.filter(|(_, min, max, found)| found.iter().map(|(at, ..)| *at).ne(**min..**max));
    holes
        .map(|(queue, min, max, found)| {
            violation("I6", format!("{queue} {min}..{max} has {} messages", found.len()))
        })
        .collect()
}

fn i7_sends_keep_their_order(history: &History) -> Vec<Violation> {
    let mut last: HashMap<(u32, &str), u64> = HashMap::new();
    let mut violations = Vec::new();
    for event in history.events() {
        if let Event::Sent { producer, body, place, answer: Answer::Stored, .. } = event
            && let Some(before) = last.insert((*producer, &place.queue), place.offset)
            && before >= place.offset
        {
            violations
                .push(violation("I7", format!("{body} is at {place}, and one sent before it at {before}")));
        }
    }
    violations
}

fn i18_keys_find_their_messages(history: &History) -> Vec<Violation> {
    let mut by_key: BTreeMap<&str, BTreeSet<Body>> = BTreeMap::new();
    for (body, _, _) in history.stored() {
        if let Some(key) = history.keys.get(&body) {
            by_key.entry(key).or_default().insert(body);
        }
    }
    let looks = history.events().filter_map(|event| match event {
        Event::FoundByKey { key, found } => Some((key, found)),
        _ => None,
    });
    let wrong = looks.filter(|(key, found)| by_key.get(key.as_str()) != Some(found));
    wrong.map(|(key, found)| violation("I18", format!("{key} finds {found:?}"))).collect()
}

fn i19_times_find_the_first(history: &History) -> Vec<Violation> {
    let mut queues: HashMap<&str, (&[Seen], u64)> = HashMap::new();
    let mut violations = Vec::new();
    for event in history.events() {
        match event {
            Event::Scanned { queue, max, found, .. } => drop(queues.insert(queue, (found, *max))),
            Event::Searched { queue, millis, offset } => {
                let Some((found, max)) = queues.get(queue.as_str()) else { continue };
                let first = found.iter().find(|(_, _, stored)| stored >= millis).map_or(*max, |(at, ..)| *at);
                if first != *offset {
                    let what = format!("{queue} at {millis} is {offset}, and should be {first}");
                    violations.push(violation("I19", what));
                }
            }
            _ => {}
        }
    }
    violations
}

fn i22_no_call_is_stuck(history: &History) -> Vec<Violation> {
    let calls = history.events().filter_map(|event| match event {
        Event::Called { what, millis } if *millis > STUCK_MILLIS => Some((what, millis)),
        _ => None,
    });
    calls.map(|(what, millis)| violation("I22", format!("{what} took {millis} ms"))).collect()
}
