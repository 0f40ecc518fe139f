//! How does a file of lines get into a topic, in as few sends as possible?
//!
//! `cargo run --release --example batch -- [FILE] [DIR]`: sends each line as a message, in batches that are as large as may
//! be, then reads them back in order and compares. Without a file, this one's own source.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use pocketmq::{Filter, Message, MessageQueue, QueueOffset, Result, Store, TopicConfig};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/batch.rs");
    let file = arguments.next().map_or_else(|| PathBuf::from(own), PathBuf::from);
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);

    let store = Store::open(dir)?;
    // One queue, so that the lines keep their order.
    store.create_topic("lines", TopicConfig::queues(1))?;
    let before = end(&store)?;
    let lines: Vec<String> = BufReader::new(File::open(&file)?)
        .lines()
        .filter(|line| !line.as_ref().is_ok_and(|line| line.is_empty()))
        .collect::<std::io::Result<_>>()?;

    let producer = store.producer("import")?;
    let messages = lines.iter().map(|line| Message::new("lines", line.as_str()).order_key("one file"));
    for receipt in producer.send_batches(messages) {
        // What is printed here is what a log wants: status, ids, place, number of messages.
        println!("{}", receipt?);
    }

    let stored = read_from(&store, before)?;
    assert!(stored == lines, "what is read is not what was sent");
    println!("{} lines read back in order", stored.len());
    Ok(store.close()?)
}

fn queue(store: &Store) -> Result<MessageQueue> {
    let queues = store.queues("lines")?;
    queues.into_iter().next().ok_or(pocketmq::Error::Closed)
}

fn end(store: &Store) -> Result<QueueOffset> {
    Ok(store.queue_offsets(&queue(store)?).map_or(QueueOffset::ZERO, |range| range.end))
}

fn read_from(store: &Store, mut at: QueueOffset) -> Result<Vec<String>> {
    let (queue, mut lines) = (queue(store)?, Vec::new());
    loop {
        let page = store.pull(&queue, &Filter::all(), at, 1_000)?;
        if page.messages.is_empty() {
            return Ok(lines);
        }
        for message in &page.messages {
            lines.push(message.body_str()?.into_owned());
        }
        at = page.next_offset;
    }
}
