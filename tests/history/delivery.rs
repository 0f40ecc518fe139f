//! I8 to I10, I12, I14 to I17: does every group get what it asked for, as often and as early as it should?

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::{Answer, Body, Event, History, Mode, Place, Receive, Rules, Violation, violation};

pub(crate) fn judge(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (group, rules) in &history.groups {
        violations.extend(match rules.mode {
            Mode::Broadcast => i12_every_instance_gets_all(history, group, rules),
            _ => i8_everything_is_delivered_and_settled(history, group, rules),
        });
        violations.extend(i9_filters_are_exact(history, group, rules));
        violations.extend(i10_nothing_comes_again_without_a_reason(history, group, rules));
        violations.extend(i14_nothing_comes_back_early(history, group, rules));
        violations.extend(i15_attempts_count_up_and_end_among_the_dead(history, group, rules));
        violations.extend(i16_positions_never_run_ahead(history, group, rules));
        violations.extend(i17_positions_never_go_back(history, group));
    }
    violations
}

/// What a group has finally said of a message.
fn settled<'a>(event: &'a Event, of: &str) -> Option<(Body, &'a Place)> {
    match event {
        Event::Acked { group, body, place, .. } | Event::GivenUp { group, body, place, .. }
            if *group == of =>
        {
            Some((*body, place))
        }
        _ => None,
    }
}

fn dead_letters(history: &History, of: &str) -> Vec<Body> {
    let last = history.events().rev().find_map(|event| match event {
        Event::DeadLetters { group, found } if *group == of => Some(found.clone()),
        _ => None,
    });
    last.unwrap_or_default()
}

/// What is in the user's queues in the end and the group takes.
fn wanted(history: &History, rules: &Rules) -> BTreeSet<Body> {
    let there: BTreeSet<Body> =
        history.last_scan().values().flat_map(|queue| queue.values().copied()).collect();
    let taken = history.stored().filter(|(body, _, tag)| there.contains(body) && rules.takes(tag));
    taken.map(|(body, ..)| body).collect()
}

fn i8_everything_is_delivered_and_settled(history: &History, group: &str, rules: &Rules) -> Vec<Violation> {
    let received: BTreeSet<Body> = history.received_by(group).map(|receive| receive.body).collect();
    let mut ended: BTreeSet<Body> =
        history.events().filter_map(|event| settled(event, group)).map(|(body, _)| body).collect();
    ended.extend(dead_letters(history, group));
    let mut violations = Vec::new();
    for body in wanted(history, rules) {
        if !received.contains(&body) {
            violations.push(violation("I8", format!("{group} never got {body}")));
        } else if !ended.contains(&body) {
            violations.push(violation("I8", format!("{group} got {body}, and it ended nowhere")));
        }
    }
    violations
}

fn i9_filters_are_exact(history: &History, group: &str, rules: &Rules) -> Vec<Violation> {
    let wrong = history.received_by(group).filter(|receive| !rules.takes(&receive.tag));
    wrong
        .map(|receive| violation("I9", format!("{group} got {} with the tag {}", receive.body, receive.tag)))
        .collect()
}

/// Whatever makes a message come to its group again.
fn i10_nothing_comes_again_without_a_reason(history: &History, of: &str, rules: &Rules) -> Vec<Violation> {
    let mut violations = Vec::new();
    // Who has it, or what it was last, by message; broadcasting counts for each instance.
    let mut out: HashMap<(usize, Body), &Receive> = HashMap::new();
    let mut over: BTreeSet<(usize, Body)> = BTreeSet::new();
    let mut committed: HashMap<&str, u64> = HashMap::new();
    let share = |member: usize| if rules.mode == Mode::Broadcast { member } else { 0 };
    for (now, event) in &history.entries {
        match event {
            Event::Received(receive) if receive.group == of => {
                let key = (share(receive.member), receive.body);
                let leased =
                    out.get(&key).is_some_and(|before| before.until.is_none_or(|until| until > *now));
                if over.contains(&key) {
                    violations
                        .push(violation("I10", format!("{of} settled {}, and gets it again", receive.body)));
                } else if leased {
                    violations.push(violation(
                        "I10",
                        format!("{of} has {} in hand, and gets it again", receive.body),
                    ));
                }
                out.insert(key, receive);
            }
            Event::Committed { group, queue, offset } if *group == of => {
                committed.insert(queue, *offset);
            }
            Event::Failed { group, member, body, .. } if *group == of => {
                out.remove(&(share(*member), *body));
            }
            // A commit of the place itself, or a lease's acknowledgement, survives the death of the process.
            Event::Acked { group, member, body, place } | Event::GivenUp { group, member, body, place }
                if *group == of =>
            {
                let key = (share(*member), *body);
                out.remove(&key);
                if rules.mode.is_simple()
                    || committed.get(place.queue.as_str()).is_some_and(|at| *at > place.offset)
                {
                    over.insert(key);
                }
            }
            Event::Gone { group, member } if *group == of => {
                out.retain(|_, receive| rules.mode.is_simple() || receive.member != *member);
            }
            Event::Released { group, queue, .. } if *group == of => {
                out.retain(|_, receive| rules.mode.is_simple() || receive.place.queue != *queue);
            }
            Event::Reopened if !rules.mode.is_simple() => out.clear(),
            _ => {}
        }
    }
    violations
}

fn i12_every_instance_gets_all(history: &History, group: &str, rules: &Rules) -> Vec<Violation> {
    let mut by_member: BTreeMap<usize, BTreeSet<Body>> = BTreeMap::new();
    for receive in history.received_by(group) {
        by_member.entry(receive.member).or_default().insert(receive.body);
    }
    let wanted = wanted(history, rules);
    let missing = by_member.iter().flat_map(|(member, got)| {
        wanted
            .difference(got)
            .map(move |body| violation("I12", format!("instance {member} never got {body}")))
    });
    missing.collect()
}

fn i14_nothing_comes_back_early(history: &History, of: &str, rules: &Rules) -> Vec<Violation> {
    let mut waits: HashMap<Body, i64> = HashMap::new();
    let mut violations = Vec::new();
    for (now, event) in &history.entries {
        match event {
            Event::Failed { group, body, not_before, .. } if *group == of => {
                waits.insert(*body, *not_before);
            }
            Event::Received(receive) if receive.group == of => {
                if let Some(due) = waits.remove(&receive.body)
                    && *now < due
                {
                    let what = format!("{} comes back {} ms early", receive.body, due - now);
                    violations.push(violation("I14", what));
                }
            }
            // In order it is the queue that rests, at the one who has it.
            Event::Gone { group, .. } | Event::Released { group, .. }
                if *group == of && rules.mode.is_orderly() =>
            {
                waits.clear();
            }
            Event::Reopened => waits.clear(),
            _ => {}
        }
    }
    violations
}

fn i15_attempts_count_up_and_end_among_the_dead(
    history: &History,
    of: &str,
    rules: &Rules,
) -> Vec<Violation> {
    if matches!(rules.mode, Mode::Broadcast | Mode::Pull) {
        return Vec::new();
    }
    let dead = dead_letters(history, of);
    let mut violations = Vec::new();
    // The highest attempt: after a crash the first one may come again beside its copies.
    let mut highest: HashMap<Body, u32> = HashMap::new();
    let mut may_die: BTreeSet<Body> = BTreeSet::new();
    let mut must_die: BTreeSet<Body> = BTreeSet::new();
    let mut over: BTreeSet<Body> = BTreeSet::new();
    for event in history.events() {
        match event {
            Event::Received(receive) if receive.group == of => {
                let Receive { body, attempt, .. } = receive;
                let before = highest.get(body).copied().unwrap_or(0);
                highest.insert(*body, before.max(*attempt));
                if *attempt > before + 1 || *attempt > rules.attempts_max || over.contains(body) {
                    let what = format!("{of} gets {body} for the {attempt}. time, after {before}");
                    violations.push(violation("I15", what));
                }
                if *attempt == rules.attempts_max {
                    may_die.insert(*body);
                }
            }
            Event::Failed { group, body, .. } if *group == of && may_die.contains(body) => {
                must_die.insert(*body);
                over.insert(*body);
            }
            Event::GivenUp { group, body, .. } if *group == of => {
                may_die.insert(*body);
                must_die.insert(*body);
                over.insert(*body);
            }
            Event::Reopened => over.clear(),
            _ => {}
        }
    }
    let set: BTreeSet<Body> = dead.iter().copied().collect();
    violations
        .extend(set.difference(&may_die).map(|body| violation("I15", format!("{body} of {of} died early"))));
    violations.extend(
        must_die
            .difference(&set)
            .map(|body| violation("I15", format!("{body} of {of} is not among the dead"))),
    );
    if !history.events().any(|event| *event == Event::Reopened) && set.len() != dead.len() {
        violations
            .push(violation("I15", format!("{} dead letters of {} messages of {of}", dead.len(), set.len())));
    }
    violations
}

/// A committed position passes nothing that is not settled, and what is handed out first is not behind it.
fn i16_positions_never_run_ahead(history: &History, of: &str, rules: &Rules) -> Vec<Violation> {
    if rules.mode == Mode::Broadcast {
        return Vec::new();
    }
    let mut open: BTreeMap<&str, BTreeMap<u64, Body>> = BTreeMap::new();
    // Whose last lease ends when.
    let mut dying: HashMap<Body, i64> = HashMap::new();
    let mut violations = Vec::new();
    for (now, event) in &history.entries {
        match event {
            Event::Sent { body, place, tag, answer: Answer::Stored, .. } if rules.takes(tag) => {
                open.entry(&place.queue).or_default().insert(place.offset, *body);
            }
            Event::Received(receive) if receive.group == of && receive.attempt == rules.attempts_max => {
                dying.extend(receive.until.map(|until| (receive.body, until)));
            }
            Event::Acked { group, place, .. }
            | Event::Failed { group, place, .. }
            | Event::GivenUp { group, place, .. }
                if *group == of =>
            {
                open.entry(&place.queue).or_default().remove(&place.offset);
            }
            Event::Committed { group, queue, offset } if *group == of => {
                let passed = open.get(queue.as_str()).into_iter().flat_map(|queue| queue.range(..*offset));
                let passed = passed.filter(|(_, body)| dying.get(body).is_none_or(|until| until > now));
                violations.extend(passed.map(|(at, body)| {
                    violation(
                        "I16",
                        format!("{of} is at {offset} in {queue}, and {body} at {at} is not handled"),
                    )
                }));
            }
            _ => {}
        }
    }
    violations
}

fn i17_positions_never_go_back(history: &History, of: &str) -> Vec<Violation> {
    let mut last: HashMap<&str, u64> = HashMap::new();
    let mut violations = Vec::new();
    for event in history.events() {
        if let Event::Committed { group, queue, offset } = event
            && *group == of
            && let Some(before) = last.insert(queue, *offset)
            && before > *offset
        {
            violations.push(violation("I17", format!("{of} was at {before} in {queue}, and is at {offset}")));
        }
    }
    violations
}
