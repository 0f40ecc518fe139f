//! How is the store of a version frozen, so that every later one can show that it opens it?
//!
//! Before a release: `cargo test --test it write_the_fixtures -- --ignored`, then a test of the two archives beside the
//! others in `golden.rs`. An archive that is committed is never written again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use pocketmq::{Background, FileSizes, Message, SendReceipt, StartFrom, Store, StoreBuilder, TopicConfig};
use serde_json::{Value, json};

use crate::golden;

/// Small files, so that every kind of roll-over happens.
const SIZES: FileSizes =
    FileSizes { commit_log: 256 << 10, consume_queue_units: 200, index_slots: 1_000, index_entries: 1_500 };
const BROKERS: [&str; 2] = ["broker-a", "broker-b"];

fn builder(dir: &Path) -> StoreBuilder {
    // Nothing may write while the folder is copied, so no thread runs.
    Store::builder(dir).brokers(BROKERS).file_sizes(SIZES).background(Background::Manual)
}

#[test]
#[ignore = "writes tests/fixtures/golden/pocketmq-VERSION-*.tar.gz, once for each version"]
fn write_the_fixtures_of_this_version() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    builder(&dir).open().unwrap().close().unwrap();
    for broker in BROKERS {
        give_whole_seconds(&dir.join(broker).join("lock"));
    }
    let store = builder(&dir).open().unwrap();
    let acknowledged = traffic(&store);
    let name = concat!("pocketmq-", env!("CARGO_PKG_VERSION"));
    write(&format!("{name}-killed"), &dir, "acked_before_kill", &acknowledged);
    store.close().unwrap();
    write(&format!("{name}-clean"), &dir, "plain", &acknowledged);
}

/// The store knows by the time of `lock` that nobody else has had its folder; archives keep whole seconds only.
fn give_whole_seconds(lock: &Path) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    File::options().write(true).open(lock).unwrap().set_modified(whole).unwrap();
}

/// Sends a little of everything, and consumes a part.
fn traffic(store: &Store) -> Vec<SendReceipt> {
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    store.create_topic("payments", TopicConfig::queues(1)).unwrap();
    let producer = store.producer("shop").unwrap();
    let mut receipts = Vec::new();
    for number in 0..2_500_u32 {
        let order = number / 4;
        let step = ["created", "paid", "sent", "done"][number as usize % 4];
        let message =
            Message::new("orders", format!("order {order} is {step}; {}", "x".repeat(number as usize % 300)))
                .tag(step)
                .key(format!("order-{order}"))
                .key(format!("customer-{}", order % 20))
                .property("land", "Österreich 🇦🇹")
                .flag(number.cast_signed())
                .order_key(order.to_string());
        receipts.push(producer.send(message).unwrap());
        if number == 1_700 {
            // Index files and checkpoint stand somewhere before the end, as in a store that works.
            store.step().unwrap();
            store.flush().unwrap();
        }
    }
    for number in 0..10 {
        receipts.push(producer.send(Message::new("payments", vec![number; 20_000])).unwrap());
    }
    let batch =
        (0..20).map(|number| Message::new("payments", format!("payment {number}")).tag("batch").key("b"));
    producer.send_batch(batch).unwrap();
    let billing =
        store.consumer("billing").subscribe("orders", "paid || sent").start_from(StartFrom::Earliest);
    let billing = billing.build().unwrap();
    for _ in 0..300 {
        billing.try_recv().unwrap().unwrap().ack().unwrap();
    }
    let audit =
        store.consumer("audit").subscribe("payments", "*").start_from(StartFrom::Earliest).build().unwrap();
    audit.try_recv().unwrap().unwrap().ack().unwrap();
    receipts
}

fn write(name: &str, dir: &Path, kind: &str, acknowledged: &[SendReceipt]) {
    let staging = tempfile::tempdir().unwrap();
    let root = staging.path().join(name);
    // By way of an archive: what is listed is what will be unpacked.
    let mut copy = tar::Builder::new(Vec::new());
    copy.append_dir_all("store", dir).unwrap();
    tar::Archive::new(copy.into_inner().unwrap().as_slice()).unpack(&root).unwrap();
    let lines = golden::listing(&Store::builder(root.join("store")).open_read_only().unwrap());
    write_lines(&root.join("listing.jsonl"), &lines);
    let acknowledged: Vec<Value> = acknowledged.iter().map(|receipt| acked(kind, receipt)).collect();
    write_lines(&root.join("acked.jsonl"), &acknowledged);
    let archive = golden::archive(name);
    let file = File::create_new(&archive).unwrap();
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::best()));
    archive.append_dir_all(name, &root).unwrap();
    archive.into_inner().unwrap().finish().unwrap().sync_all().unwrap();
}

fn acked(kind: &str, receipt: &SendReceipt) -> Value {
    json!({"kind": kind, "topic": receipt.queue().topic().as_str(), "queue": receipt.queue().queue_id(),
        "queue_offset": receipt.queue_offset().get(), "id": receipt.message_id().to_string()})
}

fn write_lines(path: &PathBuf, lines: &[Value]) {
    let mut text = Vec::new();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    File::create_new(path).unwrap().write_all(&text).unwrap();
    assert!(fs::metadata(path).unwrap().len() > 0);
}
