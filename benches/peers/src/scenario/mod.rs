//! What is measured? Every scenario with its number, in the order in which they run.
//!
//! Durable scenarios come first: they need a disk at rest, and the others leave gigabytes of deleted files behind.

mod append;
mod durable;
mod latency;
mod memory;
mod push;
mod read;
mod recovery;
mod scale;

use anyhow::Result;

use crate::bench::{Bench, Kind, Race, Row};
use crate::contender::{DEFAULTS, LIKE};
use crate::report::numbers::{count, or_dash, short};
use crate::report::{Line, Section, Table, WITH_DEFAULTS};

/// One scenario.
pub struct Scenario {
    pub id: &'static str,
    pub title: &'static str,
    pub run: fn(&mut Bench) -> Result<Section>,
    /// Whether it belongs to a pass that names none.
    pub always: bool,
}

/// In the order in which they run.
pub const ALL: &[Scenario] = &[
    scenario("7", "durable append, 1 KiB, 1 producer", durable::one),
    scenario("8", "durable append, 1 KiB, 8 producers", durable::eight),
    scenario("9", "durable append, 1 KiB, 64 producers", durable::sixty_four),
    scenario("1", "append 128 B, 1 producer", append::small),
    scenario("2", "append 1 KiB, 1 producer", append::middle),
    scenario("3", "append 16 KiB, 1 producer", append::large),
    scenario("4", "append from 4 producers", append::four),
    scenario("5", "append in batches of 64, 128 B", append::batches),
    scenario("6", "append 128 B with a key", append::keys),
    scenario("10", "consume everything, every byte read", read::everything),
    scenario("11", "latency of an append at a fixed rate", latency::append),
    scenario("12", "latency from sending to a sleeping consumer", latency::wake),
    scenario("13", "open again after a kill", recovery::reopen),
    scenario("14", "send, receive, acknowledge", push::push),
    scenario("14b", "a cold backlog, read beside appends", push::backlog),
    scenario("14c", "shards", push::shards),
    scenario("15", "memory", memory::memory),
    scale_only("scale-queues", "1 to 100,000 queues", scale::queues),
    scale_only("scale-backlog", "backlogs of any size", scale::backlog),
    scale_only("scale-keys", "up to 100 million keys", scale::keys),
    scale_only("scale-reopen", "opening by size of the log", scale::reopen),
];

const fn scenario(id: &'static str, title: &'static str, run: fn(&mut Bench) -> Result<Section>) -> Scenario {
    Scenario { id, title, run, always: true }
}

const fn scale_only(
    id: &'static str,
    title: &'static str,
    run: fn(&mut Bench) -> Result<Section>,
) -> Scenario {
    Scenario { id, title, run, always: false }
}

/// The order in which scenarios stand in the document.
pub fn order() -> Vec<&'static str> {
    let mut ids: Vec<&str> = ALL.iter().map(|scenario| scenario.id).collect();
    ids.sort_by_key(|id| {
        let number: String = id.chars().take_while(char::is_ascii_digit).collect();
        (number.parse().unwrap_or(u32::MAX), *id)
    });
    ids
}

/// The best peer of a race.
fn best_peer(race: &Race, figure: &str, lower: bool) -> Option<(String, f64)> {
    let peers = race.rows.iter().filter(|row| row.kind == Kind::Peer);
    let reached = peers.filter_map(|row| Some((row.name.clone(), row.get(figure)?)));
    reached.min_by(|one, other| if lower { one.1.total_cmp(&other.1) } else { other.1.total_cmp(&one.1) })
}

/// Two lines of a target: like for like, and with all defaults on.
fn both(race: &Race, figure: &str, target: f64, line: impl Fn(Line) -> Line, base: &Line) -> Vec<Line> {
    [(LIKE, "like for like", 1.0), (DEFAULTS, "defaults", WITH_DEFAULTS)]
        .into_iter()
        .map(|(name, word, part)| {
            let mut one = line(base.clone()).ours(race.get(name, figure));
            one.figure = format!("{}, {word}", base.figure);
            one.limit_target = one.limit_target.map(|target| target * part);
            one.peer(best_peer(race, figure, base.lower), target * part).judged()
        })
        .collect()
}

/// A table of rates: who, how many, the spread, how many times slower than ours like for like.
fn rates(race: &Race, unit: &str) -> Table {
    let ours = race.get(LIKE, "rate");
    let header = ["contender", unit, "lowest – highest", "runs", "ours is × faster", "CPU ns each"];
    let rows = race.rows.iter().map(|row| {
        let rate = row.get("rate");
        let ratio = match row.kind {
            Kind::Ours => None,
            Kind::Peer | Kind::Limit => ours.zip(rate).map(|(ours, rate)| ours / rate),
        };
        vec![
            row.name.clone(),
            rate.map_or_else(|| failed(row), count),
            spread(row, "rate"),
            row.outcomes.len().to_string(),
            or_dash(ratio, short),
            or_dash(row.get("cpu_ns"), count),
        ]
    });
    Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
}

fn spread(row: &Row, figure: &str) -> String {
    let all = row.all(figure);
    let (low, high) =
        all.iter().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    if all.len() < 2 { "–".to_owned() } else { format!("{} – {}", count(low), count(high)) }
}

/// Why there is no figure, in a few words.
fn failed(row: &Row) -> String {
    match &row.error {
        Some(error) => format!("– ({})", error.chars().take(80).collect::<String>().replace('|', "/")),
        None => "–".to_owned(),
    }
}

/// Notes about the disk under a durable race.
fn disk_note(race: &Race) -> Option<String> {
    let (low, high) =
        race.syncs.iter().fold((f64::MAX, 0.0_f64), |(low, high), us| (low.min(*us), high.max(*us)));
    (!race.syncs.is_empty()).then(|| {
        format!(
            "Before and after each run a 4 KiB overwrite and sync took {} to {} µs (a disk at rest: under 220).",
            short(low),
            short(high)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_stand_in_the_document_by_number() {
        let order = order();
        assert_eq!(&order[..3], ["1", "2", "3"]);
        let place = |id| order.iter().position(|other| *other == id);
        assert!(
            place("14") < place("14b") && place("14c") < place("15") && place("15") < place("scale-keys")
        );
        assert_eq!(order.len(), 21);
    }
}
