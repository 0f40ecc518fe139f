//! Are the timers' files made again where they are missing, short or damaged, and is what a broker began continued?

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{Background, Clock, FileSizes, Filter, ManualClock, Message, MessageQueue, Store};
use serde_json::Value;

use crate::golden::Golden;
use crate::timer::{TIMERS, after, consumer, drain, millis, one_queue, send};

const HOUR: Duration = Duration::from_secs(3_600);
/// Where the first file of the timer log lies.
const LOG: &str = "timerlog/00000000000000000000";

/// A store that opens fast after a kill: it has little log to look through.
fn small() -> TestStore {
    let sizes =
        FileSizes { commit_log: 1 << 20, index_slots: 1_000, index_entries: 1_500, ..FileSizes::default() };
    one_queue(TestStore::builder(move |builder| builder.file_sizes(sizes)))
}

/// Changes bytes of a file in place: the whole of it is mostly holes.
fn overwrite(path: &Path, position: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, position).unwrap();
}

fn cut(path: &Path, len: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

type Harm = fn(&Path);

/// Every way in which the files may be found.
const HARMS: [(&str, Harm); 14] = [
    ("nothing", |_| {}),
    ("no wheel", |dir| std::fs::remove_file(dir.join("timerwheel")).unwrap()),
    ("a short wheel", |dir| cut(&dir.join("timerwheel"), 4_096)),
    ("a wheel of zeros", |dir| {
        cut(&dir.join("timerwheel"), 0);
        cut(&dir.join("timerwheel"), 38_707_200);
    }),
    ("no log", |dir| std::fs::remove_dir_all(dir.join("timerlog")).unwrap()),
    ("an empty log", |dir| cut(&dir.join(LOG), 0)),
    ("a log of zeros", |dir| overwrite(&dir.join(LOG), 0, &[0; 52 * 40])),
    ("a torn entry", |dir| overwrite(&dir.join(LOG), 52 * 3 + 20, &[0xAB; 30])),
    ("a chain that leads to itself", |dir| overwrite(&dir.join(LOG), 52 * 2 + 4, &104_u64.to_be_bytes())),
    ("a chain that leads ahead", |dir| overwrite(&dir.join(LOG), 52 * 2 + 4, &520_u64.to_be_bytes())),
    ("an entry of another length", |dir| overwrite(&dir.join(LOG), 52 * 4, &53_u32.to_be_bytes())),
    ("neither", |dir| {
        std::fs::remove_file(dir.join("timerwheel")).unwrap();
        std::fs::remove_dir_all(dir.join("timerlog")).unwrap();
    }),
    ("no note of ours", |dir| std::fs::remove_file(dir.join("pocketmq/timer")).unwrap()),
    ("a log whose files do not fit", |dir| {
        std::fs::write(dir.join("timerlog/00000000000000000777"), b"stray").unwrap();
    }),
];

#[test]
fn c53_wheel_and_log_are_made_again_and_every_timer_comes_once() {
    for (what, harm) in HARMS {
        for clean in [true, false] {
            let store = small();
            for n in 0..12_u64 {
                // Several in one second, several seconds, one that comes round, one that is recalled.
                send(&store, after(n, millis(1_000 + n % 4 * 300 + n / 4 * 5_000)));
            }
            let recalled = send(&store, after("recalled", millis(6_500)));
            send(&store, after("far", 50 * HOUR));
            store.advance(millis(1_400)).unwrap();
            store.producer("shop").unwrap().recall(recalled.recall_handle()).unwrap();
            store.step().unwrap();
            let mut came = drain(&consumer(&store));
            let store = if clean { store.reopen().unwrap() } else { store };
            if clean {
                store.store().close().unwrap();
            }
            let folder = store.kill_into_folder();
            harm(&folder.path().join("broker-a"));
            let mut store = folder.open().unwrap();
            for wait in [Duration::ZERO, millis(400), millis(5_000), millis(5_000), 24 * HOUR, 26 * HOUR] {
                store.advance(wait).unwrap();
                came.extend(drain(&consumer(&store)));
                store = store.kill_process().unwrap();
            }
            let mut count: BTreeMap<&str, u32> = BTreeMap::new();
            came.iter().for_each(|body| *count.entry(body.as_str()).or_default() += 1);
            let numbers: Vec<String> = (0..12).map(|n| n.to_string()).collect();
            for body in numbers.iter().map(String::as_str).chain(["far"]) {
                let times = count.remove(body).unwrap_or(0);
                // Without our note RocketMQ's marks count: what was delivered since they were written is repeated.
                let most = if what == "no note of ours" { 2 } else { 1 };
                assert!((1..=most).contains(&times), "{what}, clean {clean}: {body} came {times} times");
            }
            assert!(count.is_empty(), "{what}, clean {clean}: {count:?}");
        }
    }
}

#[test]
fn c53_damage_that_shows_while_the_store_runs_is_mended() {
    let store = one_queue(TestStore::new());
    for n in 0..10 {
        send(&store, after(n, millis(10_000 + n)));
    }
    store.step().unwrap();
    let broker = store.brokers()[0].dir().to_path_buf();
    overwrite(&broker.join(LOG), 52 * 5, &[0xFF; 52]);
    store.advance(HOUR).unwrap();
    let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(drain(&consumer(&store)), expected);
}

#[test]
fn e5_a_store_without_timers_has_none_of_their_files() {
    let store = TestStore::new();
    send(&store, Message::new("orders", "x"));
    let store = store.reopen().unwrap();
    store.advance(HOUR).unwrap();
    let broker = store.brokers()[0].dir().to_path_buf();
    for file in ["timerwheel", "timerlog", "config/timercheck", "pocketmq/timer"] {
        assert!(!broker.join(file).exists(), "{file}");
    }
}

#[test]
fn e5_the_files_are_where_and_as_long_as_rocketmq_expects_them() {
    let store = TestStore::new();
    let receipt = send(&store, after("x", millis(7_500)));
    store.step().unwrap();
    let store = store.reopen().unwrap();
    let broker = store.brokers()[0].dir().to_path_buf();
    let len = |file: &str| std::fs::metadata(broker.join(file)).unwrap().len();
    assert_eq!([len("timerwheel"), len(LOG), len("config/timercheck")], [38_707_200, 104_857_600, 4_096]);
    let number = |bytes: &[u8], at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let check = std::fs::read(broker.join("config/timercheck")).unwrap();
    assert_eq!([number(&check, 8), number(&check, 16), number(&check, 24)], [52, 1, 1]);
    assert!(number(&check, 0) % 1_000 == 0 && number(&check, 0) <= 1_700_000_007_000);
    let second = 1_700_000_007;
    let slot = usize::try_from(second % 1_209_600 * 32).unwrap();
    let wheel = std::fs::read(broker.join("timerwheel")).unwrap();
    assert_eq!([0, 8, 16, 24].map(|at| number(&wheel, slot + at)), [second, 0, 0, 1 << 32]);
    let log = std::fs::read(broker.join(LOG)).unwrap();
    let physical = i64::try_from(receipt.physical_offset().get()).unwrap();
    assert_eq!((&log[..4], number(&log, 4), number(&log, 28)), (&[0, 0, 0, 52][..], -1, physical));
}

#[test]
fn e5_old_files_of_the_log_go_when_all_their_timers_had_their_turn() {
    let store = one_queue(TestStore::builder(|builder| {
        builder.file_sizes(FileSizes { commit_log: 1 << 20, ..FileSizes::default() })
    }));
    send(&store, after("x", HOUR));
    store.step().unwrap();
    let folder = store.reopen().unwrap().kill_into_folder();
    let broker = folder.path().join("broker-a");
    // Small files, as a test of RocketMQ's would set them.
    std::fs::remove_dir_all(broker.join("timerlog")).unwrap();
    let conf = std::fs::read_to_string(broker.join("broker.conf")).unwrap_or_default();
    std::fs::write(broker.join("broker.conf"), format!("{conf}\nmappedFileSizeTimerLog=600\n")).unwrap();
    let mut store = folder.open().unwrap();
    let files = || std::fs::read_dir(broker.join("timerlog")).unwrap().count();
    for n in 0..40 {
        send(&store, after(n, millis(n)));
    }
    store.advance(millis(40)).unwrap();
    store = store.reopen().unwrap();
    let most = files();
    assert!(most >= 3, "{most} files");
    for _ in 0..6 {
        store.advance(12 * HOUR).unwrap();
        send(&store, after("later", millis(1)));
        store.advance(millis(1)).unwrap();
        store.advance(HOUR).unwrap();
        store = store.reopen().unwrap();
    }
    assert!(files() < most, "{} files", files());
    assert_eq!(drain(&consumer(&store)).len(), 47);
}

#[test]
fn d16_the_log_keeps_what_a_timer_needs_and_lets_go_of_it_afterwards() {
    let small = FileSizes { commit_log: 64 << 10, ..FileSizes::default() };
    let retention = pocketmq::Retention::new().hours(1);
    let store = TestStore::builder(move |builder| builder.file_sizes(small).retention(retention.clone()));
    let store = one_queue(store);
    send(&store, after("waits", 40 * HOUR));
    let fill = |store: &TestStore| {
        for _ in 0..60 {
            send(store, Message::new("filler", vec![0; 4_096]));
        }
    };
    fill(&store);
    store.advance(millis(1)).unwrap();
    store.advance(30 * HOUR).unwrap();
    store.retain().unwrap();
    let start = |store: &TestStore| store.brokers()[0].log_range().start.get();
    assert_eq!(start(&store), 0);
    store.advance(10 * HOUR).unwrap();
    assert_eq!(drain(&consumer(&store)), ["waits"]);
    fill(&store);
    store.advance(30 * HOUR).unwrap();
    for _ in 0..3 {
        store.retain().unwrap();
    }
    assert!(start(&store) > 0);
}

#[test]
fn e5_a_snapshot_delivers_what_waited_when_it_was_taken() {
    let store = one_queue(TestStore::new());
    for n in 0..20 {
        send(&store, after(n, millis(1_000 + 100 * n)));
    }
    store.advance(millis(1_950)).unwrap();
    let place = store.path().parent().unwrap().join("copy");
    store.snapshot(&place).unwrap();
    let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(store.clock());
    let copy = Store::builder(&place).clock(hands).background(Background::Manual).open().unwrap();
    store.clock().advance(HOUR);
    copy.step().unwrap();
    let mut bodies = drain(&consumer(&copy));
    bodies.sort_by_key(|body| body.parse::<u32>().unwrap());
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(bodies, expected);
}

/// What a random run of sends, recalls, steps, kills and damage must have delivered.
#[test]
fn i_random_timers_through_kills_come_once_and_never_early_and_recalled_ones_never() {
    for seed in 1..=5_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut store = small();
        let (mut now, mut sent) = (0_u64, Vec::new());
        let mut came: BTreeMap<usize, (u64, u32)> = BTreeMap::new();
        for _ in 0..300 {
            match random(10) {
                0..=4 => {
                    let range = [1_000, 100_000, 300_000_000, 3_000_000_000][random(4) as usize];
                    let due = now + 1 + random(range);
                    let receipt = send(&store, after(sent.len(), millis(due - now)));
                    sent.push((due, receipt.recall_handle().unwrap(), false));
                }
                5 if !sent.is_empty() => {
                    let n = random(sent.len() as u64) as usize;
                    let recalled = store.producer("shop").unwrap().recall(sent[n].1.clone());
                    assert_eq!(recalled.is_ok(), sent[n].0 > now || sent[n].2, "seed {seed}: {recalled:?}");
                    sent[n].2 |= recalled.is_ok();
                }
                6 => store = store.kill_process().unwrap(),
                7 => store = store.reopen().unwrap(),
                8 if random(8) == 0 => {
                    let folder = store.kill_into_folder();
                    let _ = std::fs::remove_file(folder.path().join("broker-a/timerwheel"));
                    let _ = std::fs::remove_dir_all(folder.path().join("broker-a/timerlog"));
                    store = folder.open().unwrap();
                }
                _ => {
                    let range = [50, 5_000, 50_000_000, 200_000_000][random(4) as usize];
                    let wait = random(range);
                    now += wait;
                    store.advance(millis(wait)).unwrap();
                }
            }
            for body in drain(&consumer(&store)) {
                let entry = came.entry(body.parse().unwrap()).or_insert((now, 0));
                entry.1 += 1;
            }
        }
        store.advance(millis(4_000_000_000)).unwrap();
        now += 4_000_000_000;
        for body in drain(&consumer(&store)) {
            came.entry(body.parse().unwrap()).or_insert((now, 0)).1 += 1;
        }
        for (n, (due, _, recalled)) in sent.iter().enumerate() {
            let (when, times) = came.get(&n).copied().unwrap_or((u64::MAX, 0));
            assert_eq!(
                times,
                u32::from(!recalled),
                "seed {seed}: message {n}, due at {due}, came {times} times"
            );
            assert!(times == 0 || when >= *due, "seed {seed}: message {n}, due at {due}, came at {when}");
        }
    }
}

/// What waits for its time in a store of a broker: when it is due, its topic and its id.
pub(crate) fn timers_of(golden: &Golden) -> Vec<(u64, String, String)> {
    let check = std::fs::read(golden.path("store/config/timercheck")).unwrap();
    let done = u64::from_be_bytes(check[..8].try_into().unwrap());
    let lines = golden.json_lines("listing.jsonl");
    let timers = lines.iter().filter(|line| line["kind"] == "message" && line["topic"] == TIMERS);
    let text = |line: &Value, name: &str| line["properties"][name].as_str().unwrap().to_owned();
    let all = timers.map(|line| {
        let due = text(line, "TIMER_DELIVER_MS").parse().unwrap();
        (due, text(line, "REAL_TOPIC"), text(line, "UNIQ_KEY"))
    });
    all.filter(|(due, _, _)| *due >= done).collect()
}

fn ids_in(store: &Store, topic: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for queue in store.queues(topic).unwrap() {
        let Some(range) = store.queue_offsets(&queue) else { continue };
        let mut at = range.start;
        while at < range.end {
            let pulled = store.pull(&queue, &Filter::all(), at, 32).unwrap();
            at = pulled.next_offset;
            ids.extend(pulled.messages.iter().map(|view| view.property("UNIQ_KEY").unwrap().to_owned()));
        }
    }
    ids
}

#[test]
fn e5_what_waited_for_its_time_in_a_brokers_store_comes_at_that_time_and_once() {
    for name in ["apache-5.4.0-clean", "apache-5.4.0-killed", "apache-5.5.0-killed"] {
        let Some(golden) = Golden::unpack(name) else { return };
        let timers = timers_of(&golden);
        assert_eq!(timers.len(), 3, "{name}");
        let first = timers.iter().map(|(due, _, _)| *due).min().unwrap();
        let clock = Arc::new(ManualClock::new(i64::try_from(first - 1_000).unwrap()));
        let open = || {
            let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
            golden.open().clock(hands).background(Background::Manual).open().unwrap()
        };
        let mut store = open();
        let warnings = &store.recovery()[0].warnings;
        assert!(!warnings.iter().any(|warning| warning.contains("timer")), "{warnings:?}");
        assert_eq!(store.brokers()[0].pending_timers(), 3);
        let times =
            |store: &Store, id: &str| ids_in(store, "later").iter().filter(|known| *known == id).count();
        let mut now = first - 1_000;
        for (due, topic, id) in &timers {
            assert_eq!(topic, "later");
            clock.advance(millis(due - now - 1));
            store.step().unwrap();
            assert_eq!(times(&store, id), 0, "{name}: {id} came early");
            store.close().unwrap();
            store = open();
            clock.advance(millis(1));
            now = *due;
            store.step().unwrap();
            assert_eq!(times(&store, id), 1, "{name}: {id}");
        }
        clock.advance(100 * HOUR);
        store.step().unwrap();
        store.close().unwrap();
        let store = open();
        store.step().unwrap();
        for (_, _, id) in &timers {
            assert_eq!(times(&store, id), 1, "{name}: {id}");
        }
        let queue = MessageQueue::new(TIMERS.try_into().unwrap(), store.brokers()[0].name().clone(), 0);
        assert_eq!(store.queue_offsets(&queue).unwrap().end.get(), 6);
    }
}
