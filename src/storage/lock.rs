//! How is a folder kept for one store alone?
//!
//! With an open-file-description lock on byte 0 of `lock`: it conflicts with the record lock that a Java broker takes
//! there, and with a second store in this very process.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use super::disk::FileLock;
use crate::error::{Error, Result};

/// What stands in the file, as RocketMQ writes it.
const CONTENT: &[u8] = b"lock";

#[derive(Debug)]
struct Lock {
    file: File,
}

impl FileLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that was forked meanwhile shares the descriptor: closing ours would not unlock.
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&byte_zero(libc::F_UNLCK)));
    }
}

fn byte_zero(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    }
}

/// Takes the lock, or says who has it.
pub(super) fn take(path: &Path) -> Result<Box<dyn FileLock>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits());
    let mut file = options.open(path).map_err(|error| Error::io("open", path, error))?;
    let found = file.metadata().map_err(|error| Error::io("look at", path, error))?;
    if !found.is_file() {
        return Err(Error::corrupt(path, 0, "is not a regular file"));
    }
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte_zero(libc::F_WRLCK))) {
        Ok(_) => {}
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => return Err(in_use(path)),
        Err(errno) => return Err(Error::io("lock", path, errno.into())),
    }
    // Somebody may have replaced the file between the opening and the lock.
    if std::fs::symlink_metadata(path).map(|now| now.ino()).ok() != Some(found.ino()) {
        return Err(in_use(path));
    }
    if found.len() == 0 {
        file.write_all(CONTENT).map_err(|error| Error::io("write", path, error))?;
    }
    Ok(Box::new(Lock { file }))
}

fn in_use(path: &Path) -> Error {
    let pid = path.parent().and_then(|dir| std::fs::read_to_string(dir.join("abort")).ok());
    let who = pid.and_then(|text| text.trim().parse::<u32>().ok()).map_or_else(
        || "another process, or another Store of this one,".to_owned(),
        |pid| format!("process {pid}, as far as its mark says,"),
    );
    Error::Locked(format!("{who} holds {}; close it there first", path.display()).into())
}
