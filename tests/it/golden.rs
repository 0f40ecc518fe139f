//! Do stores written by Apache RocketMQ, and by released versions of this crate, open here, whole, and stay what they are?
//!
//! `tests/fixtures/golden/NAME.tar.gz` holds a store's folder as it was left (stopped, or killed under load), and what
//! the store that wrote it reads from it. Each test unpacks one and compares.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use pocketmq::{Background, Store, StoreBuilder};
use serde_json::Value;
use tempfile::TempDir;

#[path = "../../examples/dump/listing.rs"]
mod listing;

/// Lines by what they are about: all but `message` have one line each; messages keep the order of their queue.
type Lines = BTreeMap<String, Vec<Value>>;

pub(crate) struct Golden {
    folder: TempDir,
    name: &'static str,
}

impl Golden {
    pub(crate) fn unpack(name: &'static str) -> Option<Self> {
        let archive = archive(name);
        let Ok(file) = File::open(&archive) else {
            println!("SKIPPED: {} is not part of the published package", archive.display());
            assert!(std::env::var_os("CI").is_none(), "the golden stores are missing");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        tar::Archive::new(GzDecoder::new(file)).unpack(folder.path()).unwrap();
        Some(Self { folder, name })
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(self.name).join(file)
    }

    pub(crate) fn json_lines(&self, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn open(&self) -> StoreBuilder {
        let builder = Store::builder(self.path("store"));
        let conf = self.path("broker.conf");
        // Ours lies in each broker's own folder.
        if conf.exists() { builder.broker_conf(conf) } else { builder }
    }

    fn dump(&self) -> Lines {
        sorted(listing(&self.open().open_read_only().unwrap()))
    }
}

/// Where the archive of that name lies.
pub(crate) fn archive(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/golden")
        .join(name)
        .with_added_extension("tar.gz")
}

/// What the example `dump` prints.
pub(crate) fn listing(store: &Store) -> Vec<Value> {
    let mut lines = Vec::new();
    listing::list(store, &mut |line| {
        lines.push(line);
        Ok(())
    })
    .unwrap();
    lines
}

/// Sorts lines by what they are about. Whether an empty queue has files is no statement about messages.
fn sorted(lines: Vec<Value>) -> Lines {
    let mut sorted = Lines::new();
    for mut line in lines {
        let text = |member: &str| line[member].as_str().unwrap_or_default().to_owned();
        let about = match line["kind"].as_str().unwrap() {
            "queue" if line["max_offset"] == 0 => continue,
            kind @ ("queue" | "message") => {
                format!("{kind} {} {} {}", text("topic"), line["queue"], text("broker"))
            }
            kind => {
                let of = (text("group"), text("topic"), &line["queue"], text("key"), text("broker"));
                format!("{kind} {} {} {} {} {}", of.0, of.1, of.2, of.3, of.4)
            }
        };
        if let Some(places) = line.get_mut("physical_offsets").and_then(Value::as_array_mut) {
            // Apache's index names a place twice where a crash made it dispatch again.
            places.sort_by_key(|place| place.as_u64());
            places.dedup();
        }
        sorted.entry(about).or_default().push(line);
    }
    sorted
}

fn assert_same(expected: &Lines, found: &Lines, what: &str) {
    let subjects: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let none = Vec::new();
    let mut different = Vec::new();
    for subject in subjects {
        let (expected, found) = (expected.get(subject).unwrap_or(&none), found.get(subject).unwrap_or(&none));
        if expected == found {
            continue;
        }
        let at =
            expected.iter().zip(found).position(|(a, b)| a != b).unwrap_or(expected.len().min(found.len()));
        different.push(format!(
            "{subject}: {} and {} lines, the first difference at {at}:\n  expected {:?}\n  found    {:?}",
            expected.len(),
            found.len(),
            expected.get(at).map(Value::to_string),
            found.get(at).map(Value::to_string),
        ));
    }
    let count = different.len();
    different.truncate(10);
    assert!(count == 0, "{what}: {count} differences, such as\n{}", different.join("\n"));
}

/// Every file and folder below a path: its length, its mode, its time of change and a hash of its content.
fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, u64)> {
    let mut prints = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let hash = if metadata.is_dir() { 0 } else { hash(&path) };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let length = if metadata.is_dir() { 0 } else { metadata.len() };
            prints.insert(path, (length, metadata.mode(), metadata.mtime(), hash));
        }
    }
    prints
}

/// Hashes a file's content with the place of each piece. Pieces of zeros are compared, not hashed: most of a sparse file.
fn hash(path: &Path) -> u64 {
    const PIECE: usize = 1 << 16;
    let zeros = vec![0; PIECE];
    let mut piece = vec![0; PIECE];
    let mut hasher = DefaultHasher::new();
    let mut file = File::open(path).unwrap();
    let mut position = 0_u64;
    loop {
        let len = file.read(&mut piece).unwrap();
        if len == 0 {
            return hasher.finish();
        }
        if piece[..len] != zeros[..len] {
            hasher.write_u64(position);
            hasher.write(&piece[..len]);
        }
        position += len as u64;
    }
}

/// What the broker had acknowledged before it was killed, as topic and unique id.
fn assert_nothing_acknowledged_is_missing(golden: &Golden, found: &Lines) {
    let messages =
        found.iter().filter(|(about, _)| about.starts_with("message ")).flat_map(|(_, lines)| lines);
    let there: HashSet<(&str, u64, u64, &str)> = messages
        .filter_map(|line| {
            let id = line["properties"]["UNIQ_KEY"].as_str()?;
            Some((line["topic"].as_str()?, line["queue"].as_u64()?, line["queue_offset"].as_u64()?, id))
        })
        .collect();
    let acknowledged = golden.json_lines("acked.jsonl");
    let before_kill: Vec<&Value> =
        acknowledged.iter().filter(|line| line["kind"] == "acked_before_kill").collect();
    assert_eq!(before_kill.is_empty(), golden.name.ends_with("clean"));
    for line in before_kill {
        let place = (
            line["topic"].as_str().unwrap(),
            line["queue"].as_u64().unwrap(),
            line["queue_offset"].as_u64().unwrap(),
            line["id"].as_str().unwrap(),
        );
        assert!(there.contains(&place), "acknowledged and missing: {line}");
    }
}

/// The whole claim for one store.
fn check(name: &'static str) {
    let Some(golden) = Golden::unpack(name) else { return };
    let expected = sorted(golden.json_lines("listing.jsonl"));
    let before = fingerprint(golden.folder.path());
    let read_only = golden.dump();
    assert!(before == fingerprint(golden.folder.path()), "opening read-only has changed something");
    assert_same(&expected, &read_only, "opened read-only");
    assert_nothing_acknowledged_is_missing(&golden, &read_only);
    // By hand: threads would deliver what is due by now.
    golden.open().background(Background::Manual).open().unwrap().close().unwrap();
    let left = fingerprint(&golden.path("store"));
    assert!(!left.keys().any(|path| path.ends_with("abort")), "a clean stop leaves no abort file");
    assert_same(&read_only, &golden.dump(), "after an opening for writing and a clean stop");
}

#[test]
fn pocketmq_0_1_0_stopped_cleanly_is_read_whole() {
    check("pocketmq-0.1.0-clean");
}

#[test]
fn pocketmq_0_1_0_killed_is_read_whole() {
    check("pocketmq-0.1.0-killed");
}

#[test]
fn apache_4_9_7_stopped_cleanly_is_read_whole() {
    check("apache-4.9.7-clean");
}

#[test]
fn apache_4_9_7_killed_is_read_whole() {
    check("apache-4.9.7-killed");
}

#[test]
fn apache_5_4_0_stopped_cleanly_is_read_whole() {
    check("apache-5.4.0-clean");
}

#[test]
fn apache_5_4_0_killed_is_read_whole() {
    check("apache-5.4.0-killed");
}

#[test]
fn apache_5_5_0_killed_is_read_whole() {
    check("apache-5.5.0-killed");
}

#[test]
fn apache_5_4_0_with_its_default_sizes_killed_is_read_whole() {
    if std::env::var_os("CI").is_none() {
        println!("SKIPPED outside CI: a store of gigabyte files (set CI=true to run it)");
        return;
    }
    check("apache-5.4.0-default-sizes-killed");
}

#[test]
fn a_snapshot_of_a_brokers_store_says_what_the_store_says_and_carries_what_we_do_not_know() {
    for name in ["apache-4.9.7-clean", "apache-5.4.0-clean", "apache-5.5.0-killed"] {
        let Some(golden) = Golden::unpack(name) else { return };
        // Driven by hand, so that no delayed message is delivered meanwhile.
        let store = golden.open().background(Background::Manual).open().unwrap();
        let place = golden.path("copy");
        store.snapshot(&place).unwrap();
        let expected = sorted(listing(&store));
        store.close().unwrap();
        drop(store);
        let copy = Store::open_read_only(&place).unwrap();
        assert!(!copy.recovery()[0].foreign && copy.recovery()[0].lost.is_empty(), "{}", copy.recovery()[0]);
        assert_same(&expected, &sorted(listing(&copy)), name);
        let settings = |dir: PathBuf| -> BTreeSet<String> {
            let entries = fs::read_dir(dir.join("config")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(".json")).collect()
        };
        let broker = copy.brokers()[0].dir().to_path_buf();
        assert!(settings(broker).is_superset(&settings(golden.path("store"))));
    }
}
