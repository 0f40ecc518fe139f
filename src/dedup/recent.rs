//! What was done a moment ago, and is nobody else doing it right now?
//!
//! Keys are spread over stripes, each with a lock: whoever does something about a key holds its stripe, so two who want
//! the same come one after the other, and the second finds what the first has done.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::sync::Mutex;

/// Enough that senders of different keys rarely meet.
const STRIPES: usize = 64;
/// Keys that one stripe remembers.
const KEYS_MAX: usize = 256;

/// What was done about keys, for a while.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    window: Duration,
    hasher: RandomState,
    stripes: Vec<Mutex<Stripe<V>>>,
}

#[derive(Debug)]
struct Stripe<V> {
    done: HashMap<Box<str>, (Duration, V)>,
    /// The same, oldest first.
    order: VecDeque<(Duration, Box<str>)>,
}

impl<V> Default for Stripe<V> {
    fn default() -> Self {
        Self { done: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V: Clone> Recent<V> {
    /// Remembers for so long.
    pub(crate) fn new(window: Duration) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { window, hasher: RandomState::new(), stripes }
    }

    /// Returns how long is remembered.
    pub(crate) const fn window(&self) -> Duration {
        self.window
    }

    /// Returns what was done about a key at this moment or in the window before it, else does it. Others who ask for
    /// the same key wait meanwhile. What fails is not remembered.
    pub(crate) fn once<E>(
        &self,
        key: &str,
        now: Duration,
        act: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let place = usize::try_from(self.hasher.hash_one(key) % 64).unwrap_or(0);
        let Some(stripe) = self.stripes.get(place) else { return act() };
        let mut stripe = stripe.lock();
        stripe.forget(now.saturating_sub(self.window));
        if let Some((_, done)) = stripe.done.get(key) {
            return Ok(done.clone());
        }
        let done = act()?;
        stripe.remember(key, now, done.clone());
        Ok(done)
    }
}

impl<V> Stripe<V> {
    /// Forgets what was done before a moment, and the oldest where there is too much.
    fn forget(&mut self, before: Duration) {
        while let Some((when, _)) = self.order.front()
            && (*when < before || self.order.len() >= KEYS_MAX)
        {
            if let Some((_, key)) = self.order.pop_front() {
                self.done.remove(&key);
            }
        }
    }

    fn remember(&mut self, key: &str, now: Duration, done: V) {
        self.order.push_back((now, key.into()));
        self.done.insert(key.into(), (now, done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const MINUTE: Duration = Duration::from_secs(60);

    fn done(recent: &Recent<u32>, key: &str, now: Duration, value: u32) -> u32 {
        recent.once::<()>(key, now, || Ok(value)).unwrap()
    }

    #[test]
    fn what_was_done_in_the_window_is_not_done_again() {
        let recent = Recent::new(MINUTE);
        assert_eq!(done(&recent, "a", Duration::ZERO, 1), 1);
        assert_eq!(done(&recent, "a", MINUTE, 2), 1);
        assert_eq!(done(&recent, "b", MINUTE, 3), 3);
        assert_eq!(done(&recent, "a", MINUTE + Duration::from_nanos(1), 4), 4);
    }

    #[test]
    fn what_failed_is_done_again() {
        let recent = Recent::new(MINUTE);
        assert_eq!(recent.once("a", Duration::ZERO, || Err::<u32, _>("no")), Err("no"));
        assert_eq!(done(&recent, "a", Duration::ZERO, 1), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::new(MINUTE);
        for n in 0..100_000 {
            done(&recent, &n.to_string(), Duration::ZERO, n);
        }
        let kept: usize = recent.stripes.iter().map(|stripe| stripe.lock().done.len()).sum();
        assert!(kept <= STRIPES * KEYS_MAX, "{kept}");
    }

    #[test]
    fn two_who_want_the_same_at_once_get_one_result() {
        let (recent, count) = (Recent::new(MINUTE), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..200 {
                        let act = || Ok::<_, ()>(count.fetch_add(1, Ordering::Relaxed));
                        recent.once(&n.to_string(), Duration::ZERO, act).unwrap();
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 200);
    }
}
