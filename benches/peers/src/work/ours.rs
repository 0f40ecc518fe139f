//! What can only this store be asked: waking a consumer, tickets, shards, a backlog beside appends?

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use pocketmq::{
    FileSizes, Filter, Message, Producer, PullStatus, QueueOffset, SendTicket, Store, TopicConfig,
};

use super::append::from_threads;
use super::latency::percentiles;
use super::{ours_group, ours_scale, place};
use crate::contender::LIKE;
use crate::contender::{Load, Writer, checksum};
use crate::contenders::ours::like_for_like;
use crate::contenders::ours::{TOPIC, builder};
use crate::job::{Budget, Job, Ours, Outcome};
use crate::traps::touch_memory;

pub fn run(job: &Job, what: &Ours) -> Result<Outcome> {
    match what {
        Ours::Wake { rate, seconds } => wake(job, *rate, *seconds),
        Ours::Receive { consumers, budget } => ours_group::receive(job, *consumers, *budget),
        Ours::Listen { members, threads, batch, budget } => {
            ours_group::listen(job, *members, (*threads, *batch), *budget)
        }
        Ours::Tickets { threads, in_flight, budget } => tickets(job, (*threads, *in_flight), *budget),
        Ours::Shards { brokers, budget } => shards(job, *brokers, *budget),
        Ours::Backlog { append, seconds } => backlog(job, *append, *seconds),
        Ours::Queues { queues, append } => ours_scale::queues(job, *queues, *append),
        Ours::Keys { keys, entries, lookups } => ours_scale::keys(job, *keys, *entries, *lookups),
    }
}

/// From the moment at which a message was due to a consumer that sleeps having it.
fn wake(job: &Job, rate: f64, seconds: f64) -> Result<Outcome> {
    let store = builder(&place(job)).open()?;
    store.create_topic(TOPIC, TopicConfig::queues(1))?;
    let consumer = store.consumer("bench").subscribe(TOPIC, "*").build()?;
    let producer = store.producer("bench")?;
    let count = (rate * seconds) as usize;
    touch_memory(count as u64 * (job.size as u64 + 128));
    let messages = numbered(job.size, count);
    let started = Instant::now();
    let lead = Duration::from_millis(50);
    let nanos = std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| -> Result<Vec<u32>> {
            let mut nanos = Vec::with_capacity(count);
            while nanos.len() < count {
                let delivery = consumer.recv()?;
                let now = started.elapsed();
                let number =
                    delivery.raw_body().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let due = lead + Duration::from_secs_f64(number as f64 / rate);
                nanos.push(u32::try_from(now.saturating_sub(due).as_nanos()).unwrap_or(u32::MAX));
                delivery.ack()?;
            }
            Ok(nanos)
        });
        for (n, message) in messages.iter().enumerate() {
            let due = lead + Duration::from_secs_f64(n as f64 / rate);
            wait_until(started, due, rate);
            producer.send(message)?;
        }
        sleeper.join().map_err(|_| anyhow!("the consumer panicked"))?
    })?;
    Ok(percentiles(nanos).set("rate", count as f64 / started.elapsed().saturating_sub(lead).as_secs_f64()))
}

/// Spins where messages follow each other closely, sleeps for most of the time where they do not.
fn wait_until(started: Instant, due: Duration, rate: f64) {
    if rate < 5_000.0 {
        let left = due.saturating_sub(started.elapsed());
        std::thread::sleep(left.saturating_sub(Duration::from_micros(80)));
    }
    while started.elapsed() < due {
        std::hint::spin_loop();
    }
}

/// Messages that carry their number.
fn numbered(size: usize, count: usize) -> Vec<Message> {
    let mut body = Load::new(size, 1, false).body;
    (0..count as u64)
        .map(|n| {
            body[..8].copy_from_slice(&n.to_le_bytes());
            Message::new(TOPIC, body.clone())
        })
        .collect()
}

fn shards(job: &Job, brokers: usize, budget: Budget) -> Result<Outcome> {
    let names = (0..brokers).map(|n| format!("broker-{n}"));
    let sizes = FileSizes { commit_log: 64 << 20, ..FileSizes::default() };
    let store = builder(&place(job)).brokers(names).file_sizes(sizes).open()?;
    store.create_topic(TOPIC, TopicConfig::queues(4))?;
    let load = Arc::new(Load::new(job.size, 1, false));
    touch_memory(budget.messages * (job.size as u64 + 128));
    let writers = (0..4).map(|_| sender(&store, &load)).collect::<Result<Vec<_>>>()?;
    let (count, took) = from_threads(writers, 1, budget)?;
    std::mem::forget(store);
    Ok(Outcome::default().set("rate", count as f64 / took.as_secs_f64()))
}

/// Durable sends whose answers are awaited later: each thread keeps its share in flight, and waits for the oldest.
fn tickets(job: &Job, (threads, in_flight): (usize, usize), budget: Budget) -> Result<Outcome> {
    let builder = if job.contender == LIKE { like_for_like(&place(job)) } else { builder(&place(job)) };
    let store = builder.open()?;
    store.create_topic(TOPIC, TopicConfig::queues(4))?;
    let load = Load::new(job.size, 1, false);
    let writers = (0..threads)
        .map(|_| {
            let (producer, message) = (store.producer("bench")?, Message::new(TOPIC, load.body.clone()));
            let mut writer =
                Ticketed { producer, message, flying: VecDeque::new(), most: in_flight / threads };
            writer.append(0)?;
            Ok(Box::new(writer) as Box<dyn Writer>)
        })
        .collect::<Result<Vec<_>>>()?;
    let (count, took) = from_threads(writers, 1, budget)?;
    std::mem::forget(store);
    Ok(Outcome::default().set("rate", count as f64 / took.as_secs_f64()))
}

struct Ticketed {
    producer: Producer,
    message: Message,
    flying: VecDeque<SendTicket>,
    most: usize,
}

impl Writer for Ticketed {
    fn append(&mut self, _: u64) -> Result<()> {
        if self.flying.len() == self.most {
            if let Some(oldest) = self.flying.pop_front() {
                oldest.wait()?;
            }
        }
        self.flying.push_back(self.producer.send_async(&self.message));
        Ok(())
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        self.append(n)
    }
}

struct Sender {
    producer: Producer,
    message: Message,
}

fn sender(store: &Store, load: &Load) -> Result<Box<dyn Writer>> {
    let mut sender =
        Sender { producer: store.producer("bench")?, message: Message::new(TOPIC, load.body.clone()) };
    sender.append(0)?;
    Ok(Box::new(sender))
}

impl Writer for Sender {
    fn append(&mut self, _: u64) -> Result<()> {
        std::hint::black_box(self.producer.send(&self.message)?);
        Ok(())
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        self.append(n)
    }
}

/// Consumes what the folder has from its start, beside an appender or alone; how fast each is. Without a consumer
/// (`seconds` negative) the appender runs alone for so long.
fn backlog(job: &Job, append: bool, seconds: f64) -> Result<Outcome> {
    let store = builder(&place(job)).open()?;
    let queue = store.queues(TOPIC)?.remove(0);
    let end = store.queue_offsets(&queue).map_or(QueueOffset::ZERO, |range| range.end);
    let load = Load::new(job.size, 1, false);
    let producer = store.producer("bench")?;
    let message = Message::new("beside", load.body);
    producer.send(&message)?;
    let (over, barrier) = (AtomicBool::new(false), Barrier::new(2));
    let started = Instant::now();
    let (sent, read) = std::thread::scope(|scope| -> Result<(f64, f64)> {
        let appender = scope.spawn(|| -> Result<f64> {
            barrier.wait();
            let (started, mut count) = (Instant::now(), 0_u64);
            while append && !over.load(Ordering::Acquire) {
                (0..64).try_for_each(|_| producer.send(&message).map(drop))?;
                count += 64;
                // An appender with a pace: as fast as it can, it fills the memory that the backlog is read through.
                std::thread::sleep(Duration::from_micros(500));
            }
            Ok(count as f64 / started.elapsed().as_secs_f64())
        });
        barrier.wait();
        let mut bytes = 0_u64;
        if seconds < 0.0 {
            std::thread::sleep(Duration::from_secs_f64(-seconds));
        } else {
            let filter = Filter::all();
            let mut at = QueueOffset::ZERO;
            while at < end && started.elapsed().as_secs_f64() < seconds {
                let page = store.pull(&queue, &filter, at, 256)?;
                if page.status == PullStatus::NoNewMessage {
                    break;
                }
                for message in &page.messages {
                    std::hint::black_box(checksum(message.raw_body()));
                    bytes += message.raw_body().len() as u64;
                }
                at = page.next_offset;
            }
        }
        let took = started.elapsed().as_secs_f64();
        over.store(true, Ordering::Release);
        let sent = appender.join().map_err(|_| anyhow!("the appender panicked"))??;
        Ok((sent, bytes as f64 / took))
    })?;
    std::mem::forget(store);
    Ok(Outcome::default().set("appends", sent).set("bytes_per_second", read))
}
