//! Does a disk in memory do what the store asks of any disk?

use super::*;

fn disk() -> MemoryDisk {
    let disk = MemoryDisk::new(1 << 20);
    disk.create_dir_all(Path::new("/store/log")).unwrap();
    disk
}

fn names(disk: &MemoryDisk, dir: &str) -> Vec<String> {
    let entries = disk.list(Path::new(dir)).unwrap().unwrap();
    entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect()
}

#[test]
fn a_folder_lists_its_own_names_in_order_and_nothing_below_or_beside() {
    let disk = disk();
    for path in ["/store/log/b", "/store/log/a", "/store/log.old"] {
        disk.write_new(Path::new(path), b"x").unwrap();
    }
    disk.create_dir_all(Path::new("/store/log/c/d")).unwrap();
    assert_eq!(names(&disk, "/store/log"), ["a", "b", "c"]);
    assert_eq!(names(&disk, "/store"), ["log", "log.old"]);
    assert!(disk.list(Path::new("/nowhere")).unwrap().is_none());
    assert!(disk.write_new(Path::new("/nowhere/x"), b"x").is_err());
    disk.remove_dir_all(Path::new("/store/log")).unwrap();
    assert_eq!(names(&disk, "/store"), ["log.old"]);
}

#[test]
fn all_windows_of_a_file_show_the_same_bytes_whatever_its_name() {
    let disk = disk();
    let (path, other) = (Path::new("/store/log/a"), Path::new("/store/log/b"));
    disk.create_file(path, 16_384).unwrap();
    assert!(disk.create_file(path, 1).is_err());
    let one = disk.map(path, 4_096..8_192, Access::Random).unwrap();
    let two = disk.map(path, 0..16_384, Access::Random).unwrap();
    one.put(0, b"hello").unwrap();
    assert_eq!(two.bytes(4_096..4_101).unwrap(), b"hello");
    disk.rename(path, other).unwrap();
    assert_eq!(disk.read_at(other, 4_096, 5).unwrap(), b"hello");
    assert_eq!(disk.read_at(other, 16_383, 5).unwrap(), [0]);
    disk.punch(other, 4_097..4_100).unwrap();
    assert_eq!(disk.read_at(other, 4_096, 5).unwrap(), b"h\0\0\0o");
    disk.remove_file(other).unwrap();
    assert_eq!(two.bytes(4_096..4_097).unwrap(), b"h", "who reads keeps the memory");
    assert!(disk.map(other, 0..1, Access::Random).is_err());
}

#[test]
fn a_folder_is_renamed_with_everything_in_it() {
    let disk = disk();
    disk.write_new(Path::new("/store/log/a"), b"x").unwrap();
    disk.rename(Path::new("/store"), Path::new("/other")).unwrap();
    assert_eq!(names(&disk, "/other/log"), ["a"]);
    assert!(disk.metadata(Path::new("/store/log")).unwrap().is_none());
}

#[test]
fn d4_a_memory_that_is_full_says_so_before_a_byte_is_written_and_has_room_again() {
    let disk = disk();
    let path = Path::new("/store/log/a");
    disk.create_file(path, 8 << 20).unwrap();
    disk.allocate(path, 0..1 << 19).unwrap();
    disk.allocate(path, 0..1 << 19).unwrap();
    assert_eq!(disk.free_bytes(path).unwrap(), 1 << 19);
    assert!(matches!(disk.allocate(path, 1 << 19..2 << 20), Err(Error::StoreFull(_))));
    let large = Path::new("/store/log/large");
    assert!(matches!(disk.write_new(large, &vec![1; (1 << 19) + 1]), Err(Error::StoreFull(_))));
    assert!(disk.metadata(large).unwrap().is_none());
    assert_eq!(disk.free_bytes(path).unwrap(), 1 << 19);
    disk.remove_file(path).unwrap();
    assert_eq!(disk.free_bytes(path).unwrap(), 1 << 20);
}

#[test]
fn a_folder_in_memory_is_kept_for_one_store_alone_until_that_lets_go() {
    let disk = disk();
    let path = Path::new("/store/lock");
    let first = disk.lock(path).unwrap();
    assert!(matches!(disk.lock(path), Err(Error::Locked(_))));
    drop(first);
    disk.lock(path).unwrap();
    assert_eq!(disk.read(path, 10).unwrap().unwrap(), b"lock");
}

#[test]
fn a_file_without_a_byte_is_a_file() {
    let disk = disk();
    let path = Path::new("/store/log/a");
    disk.write_new(path, b"").unwrap();
    assert_eq!(disk.read(path, 0).unwrap().unwrap(), b"");
    assert_eq!(disk.metadata(path).unwrap().unwrap().kind, EntryKind::File);
}
