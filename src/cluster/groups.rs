//! Who belongs to which group? Producers take a seat; consumers of one group find each other here.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::types::GroupName;

/// What the members of a consumer group share. What it is only consumers know.
pub(crate) type Shared = dyn Any + Send + Sync;

/// Which members belong together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Circle {
    /// All members of a clustering group, which divide the queues among them.
    Clustering,
    /// One instance of a broadcasting group: alone with all queues.
    Broadcasting(Box<str>),
}

/// The members of all groups.
#[derive(Default)]
pub(crate) struct Groups {
    producers: Mutex<HashMap<GroupName, usize>>,
    consumers: Mutex<HashMap<GroupName, HashMap<Circle, Weak<Shared>>>>,
    members: AtomicU64,
}

impl fmt::Debug for Groups {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Groups").field("producers", &self.producers).finish_non_exhaustive()
    }
}

impl Groups {
    /// Seats a producer.
    pub(super) fn seat_producer(self: &Arc<Self>, group: &GroupName) -> GroupSeat {
        let mut producers = self.producers.lock();
        let count = producers.entry(group.clone()).or_insert(0);
        *count = count.saturating_add(1);
        GroupSeat { groups: Arc::clone(self), group: group.clone() }
    }

    /// Returns what the members of a group share, made by the first of them. It lives as long as one of them holds it.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` where the group consumes the other way.
    pub(crate) fn meet<T: Any + Send + Sync>(
        &self,
        group: &GroupName,
        circle: &Circle,
        make: impl FnOnce() -> T,
    ) -> Result<Arc<T>> {
        let mut consumers = self.consumers.lock();
        // What nobody holds is swept out by whoever comes next.
        consumers.retain(|_, circles| {
            circles.retain(|_, shared| shared.strong_count() > 0);
            !circles.is_empty()
        });
        let circles = consumers.entry(group.clone()).or_default();
        let is_clustering = |circle: &Circle| *circle == Circle::Clustering;
        if circles.keys().any(|other| is_clustering(other) != is_clustering(circle)) {
            let (is, asks) = match circle {
                Circle::Clustering => ("broadcasting", "clustering"),
                Circle::Broadcasting(_) => ("clustering", "broadcasting"),
            };
            let reason = format!(
                "group {group:?} has {is} members, and a {asks} one was asked for: name another group, or drop those first"
            );
            return Err(Error::config("broadcast", reason));
        }
        let known = circles.get(circle).and_then(Weak::upgrade);
        if let Some(Ok(known)) = known.map(Arc::downcast::<T>) {
            return Ok(known);
        }
        let made = Arc::new(make());
        let shared: Arc<Shared> = Arc::<T>::clone(&made);
        circles.insert(circle.clone(), Arc::downgrade(&shared));
        Ok(made)
    }

    /// Returns the groups of which a consumer runs.
    pub(super) fn consuming(&self) -> Vec<GroupName> {
        let consumers = self.consumers.lock();
        let runs = |circles: &HashMap<Circle, Weak<Shared>>| {
            circles.values().any(|shared| shared.strong_count() > 0)
        };
        consumers.iter().filter(|(_, circles)| runs(circles)).map(|(group, _)| group.clone()).collect()
    }

    /// Returns a number that no member has had.
    pub(crate) fn next_member(&self) -> u64 {
        // Ordering: a number dispenser; nothing is published through it.
        self.members.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

/// One producer's place in its group, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct GroupSeat {
    groups: Arc<Groups>,
    group: GroupName,
}

impl GroupSeat {
    /// Returns the group.
    pub(crate) const fn group(&self) -> &GroupName {
        &self.group
    }
}

impl Drop for GroupSeat {
    fn drop(&mut self) {
        let mut producers = self.groups.producers.lock();
        match producers.get_mut(&self.group) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(producers.remove(&self.group)),
        }
    }
}
