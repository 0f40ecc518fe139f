//! Does the real disk refuse what it must not open, and leave nothing half made?

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use super::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    (dir, path)
}

#[test]
fn files_and_folders_are_their_users_alone() {
    let (dir, _) = folder();
    let inner = dir.path().join("a/b/c");
    RealDisk.create_dir_all(&inner).unwrap();
    RealDisk.create_dir_all(&inner).unwrap();
    let (written, made) = (inner.join("written"), inner.join("made"));
    RealDisk.write_new(&written, b"x").unwrap();
    RealDisk.create_file(&made, 10_000).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&written), mode(&made)), (0o700, 0o600, 0o600));
    assert_eq!(std::fs::metadata(&made).unwrap().blocks(), 0);
}

#[test]
fn what_exists_is_never_made_anew() {
    let (_dir, path) = folder();
    RealDisk.write_new(&path, b"kept").unwrap();
    assert!(RealDisk.write_new(&path, b"other").is_err());
    assert!(RealDisk.create_file(&path, 9).is_err());
    assert_eq!(RealDisk.read(&path, 4).unwrap().unwrap(), b"kept");
}

#[test]
fn c46_a_link_a_socket_a_device_or_a_folder_in_place_of_a_file_is_refused_without_waiting() {
    let (dir, path) = folder();
    let canary = dir.path().join("canary");
    RealDisk.write_new(&canary, &[7; 4_096]).unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    symlink(&canary, &path).unwrap();
    let strange = [path, socket, PathBuf::from("/dev/null"), dir.path().to_path_buf()];
    for path in &strange {
        assert!(RealDisk.read(path, 10).is_err(), "{}", path.display());
        assert!(RealDisk.read_at(path, 0, 10).is_err(), "{}", path.display());
        assert!(RealDisk.map(path, 0..4_096, Access::Random).is_err(), "{}", path.display());
        assert!(RealDisk.allocate(path, 0..4_096).is_err(), "{}", path.display());
        assert!(RealDisk.punch(path, 0..4_096).is_err(), "{}", path.display());
        assert!(RealDisk.sync_file(path).is_err(), "{}", path.display());
    }
    assert_eq!(RealDisk.read(&canary, 4_096).unwrap().unwrap(), [7; 4_096]);
    let kinds = RealDisk.list(dir.path()).unwrap().unwrap();
    let others = kinds.iter().filter(|entry| entry.kind == EntryKind::Other).count();
    assert_eq!(others, 2, "the link and the socket");
}

#[test]
fn c38_a_file_beyond_the_limit_is_refused_before_it_is_read() {
    let (_dir, path) = folder();
    RealDisk.create_file(&path, 1 << 40).unwrap();
    assert!(matches!(RealDisk.read(&path, 64 << 20), Err(Error::Corrupt(_))));
    assert_eq!(RealDisk.read_at(&path, (1 << 40) - 3, 1_000_000).unwrap(), [0, 0, 0]);
}

#[test]
fn c43_a_map_never_reaches_beyond_its_file() {
    let (_dir, path) = folder();
    RealDisk.create_file(&path, 5_000).unwrap();
    for window in [0..5_001, 4_096..8_192, 8_192..8_193, 0..0] {
        assert!(RealDisk.map(&path, window, Access::Random).is_err());
    }
    assert!(RealDisk.map(&path, 20..4_096, Access::Random).is_err(), "cells would not be aligned");
    let map = RealDisk.map(&path, 4_096..5_000, Access::Random).unwrap();
    assert_eq!(map.len(), 904);
}

#[test]
fn what_is_absent_is_none_and_the_rest_has_an_error_with_its_path() {
    let (dir, path) = folder();
    assert!(RealDisk.read(&path, 1).unwrap().is_none());
    assert!(RealDisk.metadata(&path).unwrap().is_none());
    assert!(RealDisk.list(&path).unwrap().is_none());
    RealDisk.remove_dir_all(&path).unwrap();
    let error = RealDisk.map(&path, 0..4_096, Access::Random).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    assert!(RealDisk.free_bytes(dir.path()).unwrap() > 0);
    RealDisk.sync_dir(dir.path()).unwrap();
    RealDisk.sync_filesystem(dir.path()).unwrap();
}
