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
        let _ = set(&self.file, libc::F_UNLCK);
    }
}

/// Locks or unlocks byte 0 without waiting.
fn set(file: &File, kind: libc::c_int) -> nix::Result<()> {
    let wanted = byte_zero(kind);
    loop {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let answer = fcntl(file, FcntlArg::F_OFD_SETLK(&wanted));
        // Weaker: such a lock is the process's, and does not keep a second store of the same process out.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let answer = fcntl(file, FcntlArg::F_SETLK(&wanted));
        match answer {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map(|_| ()),
        }
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
    match set(&file, libc::F_WRLCK) {
        Ok(()) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_in_the_same_process_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = take(&path).unwrap();
        assert!(matches!(take(&path), Err(Error::Locked(_))));
        drop(first);
        take(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
    }

    #[test]
    fn taking_the_lock_again_does_not_change_the_time_that_a_broker_would_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(take(&path).unwrap());
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        drop(take(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), long_ago);
    }

    #[test]
    fn c35_a_link_or_a_folder_in_place_of_the_lock_is_refused_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (canary, link) = (dir.path().join("canary"), dir.path().join("link"));
        File::create(&canary).unwrap();
        std::os::unix::fs::symlink(&canary, &link).unwrap();
        assert!(take(&link).is_err());
        assert!(take(dir.path()).is_err());
        assert_eq!(std::fs::metadata(&canary).unwrap().len(), 0);
    }
}
