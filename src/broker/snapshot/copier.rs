//! How does a file of the store get into a copy: by a second name, or byte by byte?

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage::{Disk, EntryKind};
use crate::types::to_u64;

/// More files than this are synced by syncing the file system once.
const SYNC_ONE_BY_ONE_MAX: usize = 256;
/// The deepest folder of another broker's data that is copied.
const DEPTH_MAX: u32 = 8;
/// Bytes up to which a strange file is read whole.
const WHOLE_MAX: u64 = 64 << 20;

/// How much of a file is copied, and how long the copy is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) used: u64,
    pub(super) len: u64,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) linked_files: u64,
    pub(super) linked_bytes: u64,
    pub(super) copied_files: u64,
    pub(super) copied_bytes: u64,
}

/// Puts files of one disk on another, or on the same.
#[derive(Debug)]
pub(super) struct Copier<'a> {
    source: &'a dyn Disk,
    target: &'a dyn Disk,
    root: &'a Path,
    /// Bytes that must stay free where the copy shares a disk with the store.
    reserve: u64,
    links: bool,
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
    pub(super) done: Done,
}

impl<'a> Copier<'a> {
    pub(super) fn new(source: &'a dyn Disk, target: &'a dyn Disk, root: &'a Path, reserve: u64) -> Self {
        let (files, dirs) = (Vec::new(), vec![root.to_path_buf()]);
        Self { source, target, root, reserve, links: false, files, dirs, done: Done::default() }
    }

    /// Tries with one file whether a file of the store can have a second name in the copy: only on one disk, and not on
    /// every one.
    pub(super) fn find_out_whether_links_work(&mut self, file: &Path) {
        let probe = self.root.join("link.tmp");
        self.links = !self.source.is_memory()
            && self.target.hard_link(file, &probe).is_ok()
            && self.target.remove_file(&probe).is_ok();
    }

    pub(super) fn make_dir(&mut self, dir: &Path) -> Result<()> {
        if self.target.metadata(dir)?.is_none() {
            self.target.create_dir(dir)?;
            self.dirs.push(dir.to_path_buf());
        }
        Ok(())
    }

    /// Gives a file that is never written again a second name, or copies it. `false` if it is gone.
    pub(super) fn link_or_copy(&mut self, from: &Path, to: &Path, len: u64) -> Result<bool> {
        if !self.links {
            return self.copy(from, to, Copied { used: len, len });
        }
        let linked = self.target.hard_link(from, to);
        if linked.is_err() {
            // Gone meanwhile; or a file like no other, which may not be linked.
            return Ok(
                self.source.metadata(from)?.is_some() && self.copy(from, to, Copied { used: len, len })?
            );
        }
        self.files.push(to.to_path_buf());
        self.done.linked_files = self.done.linked_files.saturating_add(1);
        self.done.linked_bytes = self.done.linked_bytes.saturating_add(len);
        Ok(true)
    }

    /// Copies the beginning of a file into one of full length. `false` if it is gone.
    pub(super) fn copy(&mut self, from: &Path, to: &Path, Copied { used, len }: Copied) -> Result<bool> {
        self.check_room(used)?;
        self.target.create_file(to, len)?;
        let copied = if used == 0 { Ok(()) } else { self.target.copy_from(self.source, from, to, used) };
        if copied.is_err() && self.source.metadata(from)?.is_none() {
            self.target.remove_file(to)?;
            return Ok(false);
        }
        copied?;
        self.files.push(to.to_path_buf());
        self.done.copied_files = self.done.copied_files.saturating_add(1);
        self.done.copied_bytes = self.done.copied_bytes.saturating_add(used);
        Ok(true)
    }

    /// Refuses to take the room that the store keeps free for its own messages.
    fn check_room(&self, bytes: u64) -> Result<()> {
        let reserve = if self.links { self.reserve } else { 0 };
        let free = self.target.free_bytes(self.root)?;
        if free < bytes.saturating_add(reserve) {
            let root = self.root.display();
            let reason =
                format!("{root} has {free} bytes free, {bytes} are to be copied and {reserve} are kept");
            return Err(Error::StoreFull(reason.into()));
        }
        Ok(())
    }

    /// Copies the files of a folder, and of those in it, that are wanted.
    pub(super) fn copy_tree(&mut self, from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        let mut folders = vec![(from.to_path_buf(), to.to_path_buf(), DEPTH_MAX)];
        while let Some((from, to, depth)) = folders.pop() {
            for entry in self.source.list(&from)?.unwrap_or_default() {
                let (path, copy) = (from.join(&entry.name), to.join(&entry.name));
                match entry.kind {
                    EntryKind::File if wanted(&path) => self.copy_other(&path, &copy, entry.len)?,
                    EntryKind::Dir if wanted(&path) && depth > 0 => {
                        self.make_dir(&copy)?;
                        folders.push((path, copy, depth.saturating_sub(1)));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Copies a file that somebody may replace meanwhile: one of the two, whole.
    fn copy_other(&mut self, from: &Path, to: &Path, len: u64) -> Result<()> {
        if len > WHOLE_MAX {
            return self.copy(from, to, Copied { used: len, len }).map(drop);
        }
        let Some(content) = self.source.read(from, WHOLE_MAX)? else { return Ok(()) };
        self.target.write_new(to, &content)?;
        self.done.copied_files = self.done.copied_files.saturating_add(1);
        self.done.copied_bytes = self.done.copied_bytes.saturating_add(to_u64(content.len()));
        Ok(())
    }

    /// Forgets a file that somebody has removed since it was copied.
    pub(super) fn forget_if_gone(&mut self, path: &Path) -> Result<()> {
        if self.target.metadata(path)?.is_none() {
            self.files.retain(|file| file != path);
        }
        Ok(())
    }

    /// Gets everything to disk, contents and names.
    pub(super) fn sync(&self) -> Result<()> {
        if self.files.len().saturating_add(self.dirs.len()) > SYNC_ONE_BY_ONE_MAX {
            return self.target.sync_filesystem(self.root);
        }
        self.files.iter().try_for_each(|file| self.target.sync_file(file))?;
        self.dirs.iter().try_for_each(|dir| self.target.sync_dir(dir))
    }
}
