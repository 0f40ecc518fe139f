//! Which threads does a push consumer have, and how do messages get to them?
//!
//! One dispatcher takes batches from the member's queues, in turn, and sends them through a bounded channel to the
//! workers, which call the handler. A worker that has handled a batch of an orderly queue goes on with that queue
//! itself, so that order costs no hop.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::member::Batch;
use super::work::Work;
use crate::error::{Error, Result};
use crate::sync::{Parker, deadline_in};

/// How long the dispatcher rests after an error (RocketMQ's `pullTimeDelayMillsWhenException`).
const ERROR_REST: Duration = Duration::from_secs(3);

/// Starts the dispatcher and so many workers.
pub(super) fn start(work: &Arc<Work>, workers: usize) -> Result<()> {
    let (jobs, to_do) = bounded::<Batch>(workers);
    let (stop, stopped) = bounded::<()>(0);
    let mut threads = Vec::new();
    for number in 0..workers {
        let (work, to_do) = (Arc::clone(work), to_do.clone());
        threads.push(spawn(&format!("pocketmq-worker-{number}"), move || {
            while let Some(handed) = work.next_of(&to_do) {
                work.handle(handed, || !to_do.is_empty());
            }
        })?);
    }
    drop(to_do);
    let dispatcher = Dispatcher { work: Arc::clone(work), jobs, stopped, next_look: None };
    threads.push(spawn("pocketmq-dispatch", move || dispatcher.run())?);
    work.keep(threads, stop);
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::io("start the thread", std::path::Path::new(name), error))
}

struct Dispatcher {
    work: Arc<Work>,
    jobs: Sender<Batch>,
    stopped: Receiver<()>,
    /// When a handler may have had its messages for too long.
    next_look: Option<Duration>,
}

impl Dispatcher {
    fn run(mut self) {
        let member = Arc::clone(&self.work.member);
        let bed = Arc::new(Parker::default());
        let _listening = member.listen(&bed);
        loop {
            bed.clear();
            if self.work.is_stopping() {
                return;
            }
            // Looked at after the bed is cleared: what arrives from here on wakes it.
            let mut rest = None;
            match member.take_batch(self.work.batch) {
                Ok(Some(batch)) => {
                    if self.offer(batch) {
                        continue;
                    }
                    return;
                }
                Ok(None) => self.work.note(Ok(())),
                Err(Error::Closed) => return,
                Err(error) => {
                    self.work.note(Err(error));
                    rest = Some(ERROR_REST);
                }
            }
            let due = [member.next_due(), self.until_look()].into_iter().flatten().min();
            // After an error nothing is looked at before the rest is over, however much is due.
            let wait = rest.or(due);
            bed.park_until(wait.and_then(deadline_in));
        }
    }

    /// Gives a batch to the workers. Blocks while the channel is full, and says whether to go on.
    fn offer(&mut self, batch: Batch) -> bool {
        loop {
            let wait = self.until_look().unwrap_or(ERROR_REST);
            select! {
                send(self.jobs, batch) -> sent => {
                    if let Err(back) = sent {
                        self.work.member.release(back.into_inner());
                        return false;
                    }
                    return true;
                }
                recv(self.stopped) -> _ => {
                    self.work.member.release(batch);
                    return false;
                }
                default(wait) => {}
            }
        }
    }

    /// Looks for handlers that have had their messages for too long, if it is time, and returns how long until the next
    /// look; `None` where nobody needs to look.
    fn until_look(&mut self) -> Option<Duration> {
        let now = self.work.member.now();
        if self.next_look.is_none_or(|due| due <= now) {
            self.next_look = self.work.member.expire(now);
        }
        self.next_look.map(|due| due.saturating_sub(now))
    }
}
