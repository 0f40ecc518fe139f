//! How many messages a second go all the way: sent, received, acknowledged?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use pocketmq::{Message, Producer, Store, TopicConfig};

use super::place;
use crate::contender::{Load, checksum};
use crate::contenders::ours::{TOPIC, builder};
use crate::job::{Budget, Job, Outcome};
use crate::traps::touch_memory;

const QUEUES: u32 = 4;

/// One thread sends as fast as it can, others receive in a loop, read every byte, and acknowledge.
pub fn receive(job: &Job, consumers: usize, budget: Budget) -> Result<Outcome> {
    let store = open(job, budget)?;
    let consumer = store.consumer("bench").subscribe(TOPIC, "*").build()?;
    let (acked, sent, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let done =
        || over.load(Ordering::Acquire) && acked.load(Ordering::Relaxed) >= sent.load(Ordering::Relaxed);
    let started = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let receive = || -> Result<()> {
            while !done() {
                if let Some(delivery) = consumer.recv_timeout(Duration::from_millis(5))? {
                    std::hint::black_box(checksum(delivery.raw_body()));
                    delivery.ack()?;
                    acked.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..consumers).map(|_| scope.spawn(receive)).collect();
        send(&store.producer("bench")?, job, budget, &sent)?;
        over.store(true, Ordering::Release);
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a consumer panicked"))?)
    })?;
    Ok(Outcome::default().set("rate", acked.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()))
}

/// One thread sends as fast as it can; handlers of the members of one group read every byte.
pub fn listen(job: &Job, members: usize, pool: (usize, usize), budget: Budget) -> Result<Outcome> {
    let store = open(job, budget)?;
    let (handled, sent) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let listeners = (0..members)
        .map(|member| {
            let handled = Arc::clone(&handled);
            let consumer =
                store.consumer("bench").instance(&format!("member-{member}")).subscribe(TOPIC, "*");
            let handler = move |messages: &[pocketmq::MessageView], _: &mut pocketmq::ConsumeContext<'_>| {
                for message in messages {
                    std::hint::black_box(checksum(message.raw_body()));
                }
                handled.fetch_add(messages.len() as u64, Ordering::Relaxed);
            };
            Ok(consumer.listen_batch(pool.0, pool.1, handler)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    send(&store.producer("bench")?, job, budget, &sent)?;
    let sent = sent.load(Ordering::Relaxed);
    while handled.load(Ordering::Relaxed) < sent {
        ensure!(started.elapsed() < Duration::from_secs(60), "the handlers do not get everything");
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = started.elapsed();
    std::mem::forget((listeners, store));
    Ok(Outcome::default().set("rate", sent as f64 / took.as_secs_f64()))
}

fn open(job: &Job, budget: Budget) -> Result<Store> {
    let store = builder(&place(job)).open()?;
    store.create_topic(TOPIC, TopicConfig::queues(QUEUES))?;
    touch_memory(budget.messages * (job.size as u64 + 128));
    Ok(store)
}

fn send(producer: &Producer, job: &Job, budget: Budget, sent: &AtomicU64) -> Result<()> {
    let message = Message::new(TOPIC, Load::new(job.size, 1, false).body);
    let started = Instant::now();
    while sent.load(Ordering::Relaxed) < budget.messages && started.elapsed().as_secs_f64() < budget.seconds {
        (0..64).try_for_each(|_| producer.send(&message).map(drop))?;
        sent.fetch_add(64, Ordering::Relaxed);
    }
    Ok(())
}
