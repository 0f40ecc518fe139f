//! FILES AND MAPS: everything on disk, without knowing what a message is.
//!
//! All writes and syncs of the store go through [`Disk`] and [`MappedFile`], so that another disk can stand behind it.

mod blocks;
mod config_file;
mod create;
mod disk;
#[cfg(test)]
pub(crate) mod faulty;
mod json;
mod lock;
mod mapped_file;
mod memory;
mod names;
mod private;
mod real;
mod slots;

pub(crate) use config_file::{Source, encode_config, load_config, save_config};
pub(crate) use create::{Durable, NewFile};
pub(crate) use disk::{Access, Disk, Entry, EntryKind, FileLock};
pub(crate) use mapped_file::MappedFile;
pub(crate) use memory::MemoryDisk;
pub(crate) use names::{file_name, parse_file_name};
pub(crate) use private::PrivateDisk;
pub(crate) use real::RealDisk;
pub(crate) use slots::TwoSlots;
