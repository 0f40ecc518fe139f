//! Does a map stay inside its window, and does its observer see everything?

use super::super::{Access, Disk, RealDisk};
use super::*;
use crate::sync::Mutex;

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<Range<usize>>>);

impl PutObserver for Notes {
    fn changed(&self, _: &MappedFile, range: Range<usize>) {
        self.0.lock().push(range);
    }

    fn before_sync(&self, _: &Path, _: Range<usize>) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(nix::libc::EIO))
    }
}

fn map(len: u64) -> (tempfile::TempDir, Arc<MappedFile>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    RealDisk.create_file(&path, len).unwrap();
    RealDisk.allocate(&path, 0..len).unwrap();
    let map = RealDisk.map(&path, 0..len, Access::Random).unwrap();
    (dir, map)
}

#[test]
fn no_access_reaches_outside_the_window() {
    let (_dir, map) = map(10_000);
    for (position, len) in [(10_000, 1), (9_999, 2), (usize::MAX, 1), (usize::MAX, 0), (10_001, 0)] {
        assert!(map.put(position, &vec![1; len]).is_err(), "{position} {len}");
    }
    map.put(10_000, &[]).unwrap();
    assert_eq!(map.bytes(9_999..10_001), None);
    #[expect(clippy::reversed_empty_ranges, reason = "a range that ends before it starts is the case")]
    let reversed = 5..4;
    assert_eq!(map.bytes(reversed), None);
    assert_eq!((map.load_u32(9_998), map.load_u64(9_996)), (None, None));
    assert!(map.sync(0..10_001).is_err());
    assert!(map.rewrite(0..10_001).is_err());
    assert!(map.zero(0..10_001).is_err());
}

#[test]
fn cells_are_big_endian_and_aligned() {
    let (_dir, map) = map(4_096);
    map.store_u32(4, 0x0102_0304).unwrap();
    map.store_u64(8, 0x0102_0304_0506_0708).unwrap();
    assert_eq!(map.bytes(4..16), Some(&[1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8][..]));
    assert_eq!((map.load_u32(4), map.load_u64(8)), (Some(0x0102_0304), Some(0x0102_0304_0506_0708)));
    assert_eq!((map.load_u32(5), map.load_u64(4)), (None, None));
    assert!(map.store_u32(2, 1).is_err() && map.store_u64(4, 1).is_err());
}

#[test]
fn what_is_put_and_synced_is_in_the_file_and_zeroing_takes_it_out_again() {
    let (_dir, map) = map(12_288);
    map.populate(0..12_288).unwrap();
    map.put(4_090, b"across a page").unwrap();
    map.sync(4_090..4_103).unwrap();
    assert_eq!(RealDisk.read_at(map.path(), 4_090, 13).unwrap(), b"across a page");
    map.rewrite(0..12_288).unwrap();
    assert_eq!(map.bytes(4_090..4_103), Some(&b"across a page"[..]));
    map.zero(4_093..12_288).unwrap();
    assert_eq!(map.bytes(4_090..4_096), Some(&b"acr\0\0\0"[..]));
}

#[test]
fn an_observer_hears_of_every_change_and_may_refuse_a_sync() {
    let (_dir, map) = map(8_192);
    let notes = Arc::new(Notes::default());
    let observed = map.observed(notes.clone());
    observed.put(1, b"ab").unwrap();
    observed.store_u32(8, 1).unwrap();
    observed.store_u64(16, 1).unwrap();
    observed.zero(0..8_192).unwrap();
    observed.rewrite(5..6).unwrap();
    assert_eq!(*notes.0.lock(), [1..3, 8..12, 16..24, 0..4_096, 5..6]);
    assert!(observed.sync(0..8_192).is_err());
    map.sync(0..8_192).unwrap();
}
