//! Who belongs to which group? A seat is taken when a handle is made, and is free again when it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::types::GroupName;

/// What a group does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GroupKind {
    /// It sends. Any number of producers may belong to it.
    Producer,
    /// It consumes. One consumer may belong to it.
    Consumer,
}

/// The members of all groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: Mutex<HashMap<(GroupName, GroupKind), usize>>,
}

impl Groups {
    pub(super) fn join(self: &Arc<Self>, group: &GroupName, kind: GroupKind) -> Result<GroupSeat> {
        let mut members = self.members.lock();
        let count = members.entry((group.clone(), kind)).or_insert(0);
        if kind == GroupKind::Consumer && *count > 0 {
            let reason = format!(
                "{group:?} has a consumer already: drop that one first, share it between threads, or name another group"
            );
            return Err(Error::config("group", reason));
        }
        *count += 1;
        Ok(GroupSeat { groups: Arc::clone(self), key: (group.clone(), kind) })
    }
}

/// One member's place in its group, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct GroupSeat {
    groups: Arc<Groups>,
    key: (GroupName, GroupKind),
}

impl GroupSeat {
    /// Returns the group.
    pub(crate) const fn group(&self) -> &GroupName {
        &self.key.0
    }
}

impl Drop for GroupSeat {
    fn drop(&mut self) {
        let mut members = self.groups.members.lock();
        match members.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                members.remove(&self.key);
            }
        }
    }
}
