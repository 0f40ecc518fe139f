//! Which route did this thread use last? So that a thread that sends to one topic again and again looks nothing up.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use super::Route;

thread_local! {
    /// A weak one: a thread that no longer sends keeps no store open.
    static LAST: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// A route as it was looked up.
struct Known {
    route: Weak<Route>,
    /// The cluster's version before it was.
    version: u64,
}

/// Returns the route that this thread used last, if it is one of this topic, of this cluster (that has no `key` in
/// common with another), and nothing has changed since.
pub(super) fn last_route(key: &Arc<()>, version: u64, topic: &str) -> Option<Arc<Route>> {
    // Neither is there while the thread ends.
    let last = |last: &RefCell<Option<Known>>| {
        let known = last.try_borrow().ok()?;
        known.as_ref().filter(|known| known.version == version)?.route.upgrade()
    };
    let route = LAST.try_with(last).ok().flatten()?;
    (Arc::ptr_eq(&route.cluster, key) && route.topic.as_str() == topic).then_some(route)
}

/// Remembers a route that was looked up when the cluster had this version.
pub(super) fn remember_route(route: &Arc<Route>, version: u64) {
    let known = Known { route: Arc::downgrade(route), version };
    // Ended by now: the next look is one into the table.
    let _ = LAST.try_with(|last| last.replace(Some(known)));
}
