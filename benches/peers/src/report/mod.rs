//! What has been measured, and what is made of it: tables, lines of JSON, a document with pictures.

pub mod doc;
pub mod numbers;
pub mod svg;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// A target is met within this, which is the noise here.
pub const NOISE: f64 = 0.85;
/// Nobody is asked to pass the ceiling: so much of it is enough, whatever a peer reaches.
pub const NEAR_CEILING: f64 = 0.9;
/// With all defaults on, so much of a target that holds like for like.
pub const WITH_DEFAULTS: f64 = 0.6;

/// One target and how it was met; one line of JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Line {
    pub scenario: String,
    pub figure: String,
    pub unit: String,
    pub durability: String,
    pub ours: Option<f64>,
    pub best_peer: Option<f64>,
    pub peer: Option<String>,
    /// How many times better than the best peer; above 1 is better, whichever direction the figure has.
    pub ratio: Option<f64>,
    /// The ratio that is wanted.
    pub target: Option<f64>,
    /// What the machine, or a bound, allows, and what it is.
    pub limit: Option<f64>,
    pub limit_name: Option<String>,
    /// How close to the limit; 1 is at it.
    pub limit_ratio: Option<f64>,
    pub limit_target: Option<f64>,
    /// What a prototype of the record format reached: nobody is asked to pass it.
    pub ceiling: Option<f64>,
    /// Whether less is better.
    pub lower: bool,
    /// None where there is no target, or a part of it could not be measured.
    pub met: Option<bool>,
}

impl Line {
    pub fn new(scenario: &str, figure: impl Into<String>, unit: &str, durability: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            figure: figure.into(),
            unit: unit.to_owned(),
            durability: durability.to_owned(),
            ..Self::default()
        }
    }

    pub fn lower(mut self) -> Self {
        self.lower = true;
        self
    }

    pub fn ours(mut self, value: Option<f64>) -> Self {
        self.ours = value;
        self
    }

    pub fn peer(mut self, best: Option<(String, f64)>, target: f64) -> Self {
        self.target = Some(target);
        if let Some((name, value)) = best {
            (self.peer, self.best_peer) = (Some(name), Some(value));
        }
        self
    }

    pub fn limit(mut self, name: &str, value: Option<f64>, target: f64) -> Self {
        (self.limit_name, self.limit, self.limit_target) = (Some(name.to_owned()), value, Some(target));
        self
    }

    pub fn ceiling(mut self, value: Option<f64>) -> Self {
        self.ceiling = value;
        self
    }

    /// Works out the ratios and whether the target is met.
    pub fn judged(mut self) -> Self {
        let better = |ours: f64, other: f64| if self.lower { other / ours } else { ours / other };
        self.ratio = self.ours.zip(self.best_peer).map(|(ours, peer)| better(ours, peer));
        self.limit_ratio = self.ours.zip(self.limit).map(|(ours, limit)| better(ours, limit));
        let at_ceiling =
            self.ours.zip(self.ceiling).is_some_and(|(ours, top)| better(ours, top) >= NEAR_CEILING);
        let peer = self.target.map(|target| self.ratio.map(|ratio| ratio >= target * NOISE || at_ceiling));
        let limit = self.limit_target.map(|target| self.limit_ratio.map(|ratio| ratio >= target * NOISE));
        self.met = match (peer, limit) {
            (None, None) | (Some(None), _) | (_, Some(None)) => None,
            (peer, limit) => Some(peer.flatten().unwrap_or(true) && limit.flatten().unwrap_or(true)),
        };
        self
    }
}

/// A table of a document.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// A point of a picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Point {
    pub picture: String,
    pub series: String,
    pub x: f64,
    pub y: f64,
}

/// What one scenario measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Section {
    pub scenario: String,
    pub title: String,
    /// How it was measured: durability, sizes, rounds.
    pub how: String,
    pub table: Table,
    pub lines: Vec<Line>,
    pub notes: Vec<String>,
    pub points: Vec<Point>,
    #[serde(default)]
    pub day: String,
    #[serde(default)]
    pub commit: String,
    #[serde(default)]
    pub quick: bool,
    #[serde(default)]
    pub machine: Machine,
}

impl Section {
    pub fn new(scenario: &str, title: impl Into<String>, how: impl Into<String>) -> Self {
        Self { scenario: scenario.to_owned(), title: title.into(), how: how.into(), ..Self::default() }
    }

    pub fn point(&mut self, picture: &str, series: &str, x: f64, y: Option<f64>) {
        if let Some(y) = y {
            self.points.push(Point { picture: picture.to_owned(), series: series.to_owned(), x, y });
        }
    }
}

/// Everything that is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub sections: Vec<Section>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

impl Report {
    /// The file where figures are kept between passes.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("results.json")
    }

    pub fn kept() -> Result<Self> {
        let path = Self::path();
        if !path.exists() {
            return Ok(Self::default());
        }
        serde_json::from_str(&std::fs::read_to_string(&path)?)
            .with_context(|| format!("read {}", path.display()))
    }

    pub fn keep(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(std::fs::write(Self::path(), text + "\n")?)
    }

    /// Puts new sections in the place of older ones of the same scenario; `order` is that of the scenarios.
    pub fn merge(&mut self, new: Vec<Section>, left_out: Vec<String>, order: &[&str]) {
        self.sections.retain(|old| !new.iter().any(|section| section.scenario == old.scenario));
        self.sections.extend(new);
        let place =
            |section: &Section| order.iter().position(|id| *id == section.scenario).unwrap_or(usize::MAX);
        self.sections.sort_by_key(place);
        self.left_out = left_out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ours: f64) -> Line {
        Line::new("2", "append", "messages/s", "async").ours(Some(ours))
    }

    #[test]
    fn a_target_is_met_within_the_noise_or_near_the_ceiling() {
        let peer = Some(("peer".to_owned(), 10.0));
        assert_eq!(line(17.0).peer(peer.clone(), 2.0).judged().met, Some(true), "0.85 of 2 times");
        assert_eq!(line(16.9).peer(peer.clone(), 2.0).judged().met, Some(false));
        assert_eq!(line(9.0).peer(peer.clone(), 2.0).ceiling(Some(10.0)).judged().met, Some(true));
        assert_eq!(line(17.0).peer(peer, 2.0).limit("copy", Some(40.0), 0.6).judged().met, Some(false));
        assert_eq!(line(17.0).peer(None, 2.0).judged().met, None, "nobody to compare with");
        assert_eq!(line(17.0).judged().met, None, "no target");
    }

    #[test]
    fn where_less_is_better_the_ratio_still_grows_with_what_is_better() {
        let judged = line(3.0).lower().peer(Some(("peer".to_owned(), 30.0)), 10.0).judged();
        assert_eq!((judged.ratio, judged.met), (Some(10.0), Some(true)));
        let judged = line(39.0).lower().limit("wake", Some(26.0), 1.0 / 1.5).judged();
        assert_eq!(judged.met, Some(true));
        let judged = line(60.0).lower().limit("wake", Some(26.0), 1.0 / 1.5).judged();
        assert_eq!(judged.met, Some(false));
    }

    #[test]
    fn a_new_measurement_takes_the_place_of_the_old_one_of_its_scenario() {
        let section = |id: &str, title: &str| Section::new(id, title, "");
        let mut report = Report::default();
        report.merge(vec![section("2", "old"), section("1", "one")], Vec::new(), &["1", "2"]);
        report.merge(vec![section("2", "new")], Vec::new(), &["1", "2"]);
        let titles: Vec<&str> = report.sections.iter().map(|section| section.title.as_str()).collect();
        assert_eq!(titles, ["one", "new"]);
    }
}
