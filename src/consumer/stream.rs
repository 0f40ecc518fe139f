//! How does an async task wait for messages, under any runtime and none?
//!
//! A [`DeliveryStream`] lists a bed among those that are woken by arrivals, as a waiting thread does; being woken means
//! that the task is. What has to wait for a time (a queue that rests, an owner that lets go late) is woken by a thread of
//! the member, which starts with the first such wait.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use futures_core::Stream;

use super::member::Listening;
use super::{Consumer, Delivery};
use crate::config::Background;
use crate::error::{Error, Result};
use crate::sync::{Mutex, Parker, deadline_in, has_passed};

/// Wake-ups that may be ordered and not yet be taken over by the thread.
const ORDERS_MAX: usize = 1_024;

/// The messages of a consumer as a `Stream`, for any runtime and none.
///
/// [`Consumer::stream`] makes one. It never ends while the store is open; when that is closed, it does. In a store that is
/// driven by hand it ends when there is nothing more. Several streams of one consumer share its messages. An error does
/// not end it.
///
/// Polling reads from mapped files and never waits. [`Delivery::ack`] may be called from a task too; what stores a copy of
/// a message, [`Delivery::fail`] and dropping a delivery among them, blocks as a send does.
#[must_use = "a stream does nothing unless it is polled"]
#[doc(alias = "receive_async")]
pub struct DeliveryStream {
    consumer: Consumer,
    bed: Arc<Parker>,
    /// `None` until it has to wait for the first time.
    listening: Option<Listening>,
}

impl DeliveryStream {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { consumer, bed: Arc::default(), listening: None }
    }

    /// Returns the next message, or has the task woken when there may be one.
    fn poll_delivery(&mut self, context: &Context<'_>) -> Poll<Result<Option<Delivery>>> {
        let member = &self.consumer.member;
        if let Some(delivery) = member.take()? {
            return Poll::Ready(Ok(Some(delivery)));
        }
        if member.background() == Background::Manual {
            return Poll::Ready(Ok(None));
        }
        self.listening.get_or_insert_with(|| member.listen(&self.bed));
        self.bed.wake_task(context.waker());
        // Looked at after the bed is listed and has the waker: what arrives from here on wakes the task.
        if let Some(delivery) = member.take()? {
            return Poll::Ready(Ok(Some(delivery)));
        }
        if let Some(due) = member.next_due().and_then(deadline_in) {
            member.alarm.wake_at(due, &self.bed)?;
        }
        Poll::Pending
    }

    pub(super) fn poll_recv(&mut self, context: &Context<'_>) -> Poll<Result<Delivery>> {
        self.poll_delivery(context).map(|received| received?.ok_or(Error::Timeout))
    }
}

impl Stream for DeliveryStream {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_delivery(context).map(|received| match received {
            Err(Error::Closed) => None,
            received => received.transpose(),
        })
    }
}

impl fmt::Debug for DeliveryStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DeliveryStream").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

/// A bed that is to be woken at a time.
type Order = (Instant, Weak<Parker>);

/// Wakes beds at their times, by a thread that starts with the first order and ends with the member.
#[derive(Debug, Default)]
pub(super) struct Alarm(Mutex<Option<Sender<Order>>>);

impl Alarm {
    fn wake_at(&self, due: Instant, bed: &Arc<Parker>) -> Result<()> {
        let mut orders = self.0.lock();
        if orders.is_none() {
            let (sender, receiver) = bounded(ORDERS_MAX);
            let thread = std::thread::Builder::new().name("pocketmq-alarm".to_owned());
            thread.spawn(move || ring(&receiver)).map_err(|error| {
                Error::io("start a thread for", std::path::Path::new("pocketmq-alarm"), error)
            })?;
            *orders = Some(sender);
        }
        let sent = orders.as_ref().map(|orders| orders.try_send((due, Arc::downgrade(bed))));
        if !matches!(sent, Some(Ok(()))) {
            // Too many at once: the task looks again at once, and orders then.
            bed.unpark();
        }
        Ok(())
    }
}

/// When each bed is woken: once, at the earliest of its times. A bed that is woken looks itself how long it waits then.
#[derive(Default)]
struct Beds(HashMap<usize, (Instant, Weak<Parker>)>);

impl Beds {
    fn order(&mut self, due: Instant, bed: Weak<Parker>) {
        let known = self.0.entry(bed.as_ptr().addr()).or_insert_with(|| (due, Weak::clone(&bed)));
        // Another bed may lie where one lay that is gone.
        let is_same = known.1.ptr_eq(&bed) && known.1.strong_count() > 0;
        if !is_same || due < known.0 {
            *known = (due, bed);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().map(|(due, _)| *due).min()
    }

    /// Takes out the beds whose time has come.
    fn take_due(&mut self) -> Vec<Arc<Parker>> {
        let mut woken = Vec::new();
        self.0.retain(|_, (due, bed)| {
            let stays = bed.strong_count() > 0 && !has_passed(*due);
            if !stays {
                woken.extend(bed.upgrade());
            }
            stays
        });
        woken
    }
}

/// Takes orders and carries them out until nobody can give any more.
fn ring(orders: &Receiver<Order>) {
    let mut beds = Beds::default();
    loop {
        beds.take_due().iter().for_each(|bed| bed.unpark());
        let order = match beds.next() {
            Some(due) => orders.recv_deadline(due),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok((due, bed)) => beds.order(due, bed),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn however_often_a_task_waits_its_alarm_is_one() {
        let mut beds = Beds::default();
        let bed = Arc::new(Parker::default());
        let at = |seconds| deadline_in(Duration::from_secs(seconds)).unwrap();
        let first = at(1_000);
        for wait in 0..10_000 {
            beds.order(first + Duration::from_millis(wait), Arc::downgrade(&bed));
        }
        assert_eq!((beds.0.len(), beds.next()), (1, Some(first)));
        let earlier = at(10);
        beds.order(earlier, Arc::downgrade(&bed));
        assert_eq!((beds.0.len(), beds.next()), (1, Some(earlier)));
        beds.order(at(0), Arc::downgrade(&bed));
        assert_eq!((beds.take_due().len(), beds.0.len()), (1, 0));
        // Beds that are gone are not kept.
        for _ in 0..100 {
            beds.order(at(1_000), Arc::downgrade(&Arc::new(Parker::default())));
        }
        assert!(beds.take_due().is_empty() && beds.0.is_empty());
    }
}
