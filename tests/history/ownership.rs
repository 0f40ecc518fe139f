//! I7 and I11 of a group: has a queue one owner at a time, and does it come in order, without a skip?

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::{Answer, Event, History, Mode, Receive, Rules, Violation, violation};

pub(crate) fn judge(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (group, rules) in &history.groups {
        if rules.mode != Mode::Broadcast && !rules.mode.is_simple() {
            violations.extend(i11_a_queue_has_one_owner(history, group, rules));
            violations.extend(i7_a_queue_comes_in_order(history, group, rules));
        }
        if rules.mode.is_orderly() {
            violations.extend(i11_in_order_nothing_overlaps(history, group, rules));
        }
        if rules.mode.is_orderly() && !rules.mode.is_simple() {
            violations.extend(i11_in_order_nothing_is_passed(history, group, rules));
        }
    }
    violations
}

fn i11_a_queue_has_one_owner(history: &History, of: &str, rules: &Rules) -> Vec<Violation> {
    let mut owners: HashMap<&str, usize> = HashMap::new();
    let mut violations = Vec::new();
    for event in history.events() {
        match event {
            Event::Assigned { group, member, queue } if *group == of => {
                if let Some(other) = owners.insert(queue, *member).filter(|other| other != member) {
                    violations
                        .push(violation("I11", format!("{queue} of {of} belongs to {other} and {member}")));
                }
            }
            Event::Released { group, member, queue }
                if *group == of && owners.get(queue.as_str()) == Some(member) =>
            {
                owners.remove(queue.as_str());
            }
            Event::Gone { group, member } if *group == of => owners.retain(|_, owner| owner != member),
            Event::Reopened => owners.clear(),
            // A handler is called while a queue changes hands, and owners are noted afterwards.
            Event::Received(Receive { group, member, place, body, .. })
                if *group == of && !matches!(rules.mode, Mode::Push | Mode::PushOrderly) =>
            {
                if let Some(owner) = owners.get(place.queue.as_str()).filter(|owner| *owner != member) {
                    let what = format!("{member} of {of} gets {body} of {}, which is {owner}'s", place.queue);
                    violations.push(violation("I11", what));
                }
            }
            _ => {}
        }
    }
    violations
}

/// While a member has a queue, its messages come for the first time in the order of their places, and none is left out.
fn i7_a_queue_comes_in_order(history: &History, of: &str, rules: &Rules) -> Vec<Violation> {
    let mut waiting: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    for (body, place, tag) in history.stored() {
        if rules.takes(tag) {
            waiting.entry(&place.queue).or_default().insert(place.offset, body);
        }
    }
    let mut violations = Vec::new();
    for receive in history.received_by(of) {
        let Some(queue) = waiting.get_mut(receive.place.queue.as_str()) else { continue };
        // One that has been handed out before comes whenever it likes; what is new is the first that is left.
        if queue.remove(&receive.place.offset).is_some()
            && let Some((at, body)) = queue.range(..receive.place.offset).next()
        {
            let what =
                format!("{of} gets {} at {}, and {body} at {at} was left out", receive.body, receive.place);
            violations.push(violation("I7", what));
        }
    }
    violations
}

/// Nothing comes while one before it in its queue is not settled, failed attempts or not.
fn i11_in_order_nothing_is_passed(history: &History, of: &str, rules: &Rules) -> Vec<Violation> {
    let mut open: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    let mut last_attempts: BTreeSet<u64> = BTreeSet::new();
    let mut violations = Vec::new();
    for event in history.events() {
        match event {
            Event::Sent { body, place, tag, answer: Answer::Stored, .. } if rules.takes(tag) => {
                open.entry(&place.queue).or_default().insert(place.offset, *body);
            }
            Event::Received(receive) if receive.group == of => {
                if receive.attempt == rules.attempts_max {
                    last_attempts.insert(receive.body);
                }
                let queue = open.get(receive.place.queue.as_str());
                if let Some((at, body)) = queue.and_then(|queue| queue.range(..receive.place.offset).next()) {
                    let what = format!("{} comes, and {body} at {at} before it is not settled", receive.body);
                    violations.push(violation("I11", what));
                }
            }
            Event::Failed { group, body, place, .. } if *group == of && last_attempts.contains(body) => {
                open.entry(&place.queue).or_default().remove(&place.offset);
            }
            Event::Acked { group, place, .. } | Event::GivenUp { group, place, .. } if *group == of => {
                open.entry(&place.queue).or_default().remove(&place.offset);
            }
            _ => {}
        }
    }
    violations
}

fn i11_in_order_nothing_overlaps(history: &History, of: &str, rules: &Rules) -> Vec<Violation> {
    // What is in hand, by queue, and what comes next.
    let mut in_hand: HashMap<&str, &Receive> = HashMap::new();
    let mut violations = Vec::new();
    for (now, event) in &history.entries {
        match event {
            Event::Received(receive) if receive.group == of => {
                let before = in_hand.insert(&receive.place.queue, receive);
                let held = before.filter(|before| before.until.is_none_or(|until| until > *now));
                // A batch of a lease has several in order, all of them before any is said to be done.
                let same_batch =
                    held.is_some_and(|held| rules.mode.is_simple() && held.until == receive.until);
                if let Some(held) = held.filter(|_| !same_batch) {
                    let what =
                        format!("{} of {} is in hand, and {} comes", held.body, held.place, receive.body);
                    violations.push(violation("I11", what));
                }
            }
            Event::Acked { group, place, .. }
            | Event::Failed { group, place, .. }
            | Event::GivenUp { group, place, .. }
                if *group == of
                    && in_hand.get(place.queue.as_str()).is_some_and(|held| held.place == *place) =>
            {
                in_hand.remove(place.queue.as_str());
            }
            Event::Gone { group, member } if *group == of => {
                in_hand.retain(|_, held| held.member != *member || held.until.is_some())
            }
            Event::Released { group, queue, .. } if *group == of => drop(in_hand.remove(queue.as_str())),
            Event::Reopened => in_hand.retain(|_, held| held.until.is_some()),
            _ => {}
        }
    }
    violations
}
