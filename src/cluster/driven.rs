//! What do handles have to do now and then, where no thread does it for them?
//!
//! A store that is driven by hand has no threads: `Store::step` does what is due, in the brokers and then in the
//! handles that have listed themselves here.

use std::fmt;
use std::sync::{Arc, Weak};

use super::Cluster;
use crate::sync::Mutex;

/// A handle with work of its own.
pub(crate) trait Driven: Send + Sync {
    /// Does what is due by now.
    fn step(&self);

    /// Ends what it does by itself, and waits for what is under way, for a while: the store is about to close. It never
    /// waits for the thread that calls it.
    fn stop(&self) {}
}

/// The handles that have listed themselves; one that is gone is dropped from the list.
#[derive(Default)]
pub(super) struct DrivenHandles(Mutex<Vec<Weak<dyn Driven>>>);

impl fmt::Debug for DrivenHandles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("DrivenHandles").field(&self.0.lock().len()).finish()
    }
}

impl Cluster {
    /// Lists a handle, to be driven as long as somebody holds it.
    pub(crate) fn drive(&self, handle: Weak<dyn Driven>) {
        self.driven.0.lock().push(handle);
    }

    /// Does what is due in every handle.
    pub(crate) fn step_handles(&self) {
        self.handles().iter().for_each(|handle| handle.step());
    }

    /// Ends what handles do by themselves.
    pub(super) fn stop_handles(&self) {
        self.handles().iter().for_each(|handle| handle.stop());
    }

    /// Returns the handles that live. Nobody holds the list while they work: they may make new handles.
    fn handles(&self) -> Vec<Arc<dyn Driven>> {
        let mut listed = self.driven.0.lock();
        listed.retain(|handle| handle.strong_count() > 0);
        listed.iter().filter_map(Weak::upgrade).collect()
    }
}
