//! FILES AND MAPS: everything on disk, without knowing what a message is.
//!
//! All writes and syncs of the store go through [`Disk`] and [`MappedFile`], so that another disk can stand behind it.

mod create;
mod disk;
mod lock;
mod mapped_file;
mod names;
mod real;

pub(crate) use create::{Durable, create_segment};
pub(crate) use disk::{Access, Disk, Entry, EntryKind, FileLock, Metadata};
pub(crate) use mapped_file::{MappedFile, PutObserver};
pub(crate) use names::{file_name, parse_file_name};
pub(crate) use real::RealDisk;
