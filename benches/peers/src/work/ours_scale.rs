//! How do costs grow: with the number of queues, with the number of keys?

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use pocketmq::{FileSizes, Message, TopicConfig};

use super::place;
use crate::contenders::ours::builder;
use crate::job::{Job, Outcome};
use crate::machine::{anonymous_memory, mappings, open_descriptors, page_tables};
use crate::traps::touch_memory;

/// Queues of one topic, at most.
const QUEUES_A_TOPIC: u32 = 1_000;

/// Makes queues, sends a message into each, sends `append` more in turn, and opens the store again.
pub fn queues(job: &Job, queues: u32, append: u64) -> Result<Outcome> {
    let sizes = FileSizes { consume_queue_units: 1_000, ..FileSizes::default() };
    let store = builder(&place(job)).file_sizes(sizes).open()?;
    let before = anonymous_memory()?;
    let producer = store.producer("bench")?;
    let body = vec![7_u8; job.size];
    let started = Instant::now();
    let topics: Vec<String> =
        (0..queues.div_ceil(QUEUES_A_TOPIC)).map(|topic| format!("topic-{topic}")).collect();
    for (topic, name) in topics.iter().enumerate() {
        let count = QUEUES_A_TOPIC.min(queues - topic as u32 * QUEUES_A_TOPIC);
        store.create_topic(name, TopicConfig::queues(count))?;
        let message = Message::new(name.clone(), body.clone());
        store.queues(name)?.iter().try_for_each(|queue| producer.send_to(queue, &message).map(drop))?;
    }
    let made = started.elapsed();
    let memory = anonymous_memory()?.saturating_sub(before);
    let mut all = Vec::new();
    for name in &topics {
        all.extend(store.queues(name)?);
    }
    let messages: Vec<Message> = topics.iter().map(|name| Message::new(name.clone(), body.clone())).collect();
    touch_memory(append * 300);
    let started = Instant::now();
    for n in 0..append {
        // A stride that is prime to any count here: neighbours in time are not neighbours in number.
        let place = (n * 7_919 % u64::from(queues)) as usize;
        black_box(producer.send_to(&all[place], &messages[place / QUEUES_A_TOPIC as usize])?);
    }
    let appended = started.elapsed();
    let outcome = Outcome::default()
        .set("first_ns", made.as_nanos() as f64 / f64::from(queues))
        .set("append_ns", appended.as_nanos() as f64 / append as f64)
        .set("memory", memory as f64)
        .set("page_tables", page_tables()? as f64)
        .set("descriptors", open_descriptors() as f64)
        .set("mappings", mappings() as f64);
    store.close()?;
    drop((producer, store));
    let started = Instant::now();
    let store = builder(&place(job)).open()?;
    let outcome = outcome.set("reopen_seconds", started.elapsed().as_secs_f64());
    std::mem::forget(store);
    Ok(outcome)
}

/// Sends messages with a key each and looks some of them up.
pub fn keys(job: &Job, keys: u64, entries: u32, lookups: u64) -> Result<Outcome> {
    let sizes = FileSizes { index_entries: entries, index_slots: entries / 4, ..FileSizes::default() };
    let store = builder(&place(job)).file_sizes(sizes).open()?;
    store.create_topic("bench", TopicConfig::queues(4))?;
    let producer = store.producer("bench")?;
    touch_memory(keys * 350);
    let body = vec![7_u8; job.size];
    for n in 0..keys {
        producer.send(Message::new("bench", body.clone()).key(format!("key-{n}")))?;
    }
    // The first lookup lets the index catch up.
    ensure!(store.query_by_key("bench", "key-0").limit(1).fetch()?.len() == 1, "the first key is not found");
    let started = Instant::now();
    for n in 0..lookups {
        let key = format!("key-{}", n * 7_919 % keys);
        let found = store.query_by_key("bench", key).limit(1).fetch()?;
        ensure!(found.len() == 1, "a key is not found");
        black_box(found);
    }
    let found = started.elapsed();
    let started = Instant::now();
    for n in 0..lookups {
        black_box(store.query_by_key("bench", format!("none-{n}")).limit(1).fetch()?);
    }
    let absent = started.elapsed();
    std::mem::forget(store);
    Ok(Outcome::default()
        .set("lookup_ns", found.as_nanos() as f64 / lookups as f64)
        .set("absent_ns", absent.as_nanos() as f64 / lookups as f64)
        .set("files", (keys * 2).div_ceil(u64::from(entries)) as f64))
}
