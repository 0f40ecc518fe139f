//! Does the index keep its promises on real files, and does it survive what is found in folders?

use std::fs;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Geometry, Index, IndexKey, IndexOptions, key_hash};
use crate::clock::ManualClock;
use crate::error::{Error, Result};
use crate::storage::{Disk, PrivateDisk, RealDisk};
use crate::sync::{AtomicU64, Ordering};
use crate::types::PhysicalOffset;

const START: i64 = 1_700_000_000_001;
const SMALL: Geometry = Geometry { slots: 8, entries: 11 };

struct Fixture {
    folder: tempfile::TempDir,
    geometry: Geometry,
}

impl Fixture {
    fn new(geometry: Geometry) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), geometry }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    fn open_with_warnings(&self) -> (Index, Vec<String>) {
        self.open_on(Arc::new(RealDisk))
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> (Index, Vec<String>) {
        let options = IndexOptions {
            dir: self.dir(),
            temp_dir: self.folder.path().join("temp"),
            geometry: self.geometry,
            clock: Arc::new(ManualClock::new(START)),
        };
        Index::open(disk, options).unwrap()
    }

    fn open(&self) -> Index {
        let (index, warnings) = self.open_with_warnings();
        assert_eq!(warnings, [""; 0]);
        index
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// Puts `count` messages of 100 bytes, one every half second, each with the keys `own-<n>` and `all`.
    fn filled(count: u64) -> Self {
        let fixture = Self::new(SMALL);
        let index = fixture.open();
        (0..count).for_each(|number| put_nth(&index, number));
        index.advance_to(PhysicalOffset::new(count * 100));
        fixture
    }
}

/// Puts one message under all its keys.
fn put(index: &Index, physical: PhysicalOffset, store_millis: i64, hashes: &[u32]) -> Result<()> {
    let keys = hashes.iter().map(|hash| IndexKey { physical, store_millis, hash: *hash });
    index.put_run(&keys.collect::<Vec<_>>())
}

fn put_nth(index: &Index, number: u64) {
    let hashes = [key_hash("t", &format!("own-{number}")), key_hash("t", "all")];
    put(index, PhysicalOffset::new(number * 100), START + i64::try_from(number).unwrap() * 500, &hashes)
        .unwrap();
}

fn query(index: &Index, key: &str) -> Vec<u64> {
    query_at(index, key, i64::MIN..=i64::MAX)
}

fn query_at(index: &Index, key: &str, times: RangeInclusive<i64>) -> Vec<u64> {
    let mut found = Vec::new();
    let visit = &mut |physical: PhysicalOffset| {
        found.push(physical.get());
        ControlFlow::Continue(())
    };
    index.query(key_hash("t", key), times, visit).unwrap();
    found
}

/// Every message of `filled(count)` is found by both keys, and nothing else is.
fn assert_holds(index: &Index, count: u64) {
    let all: Vec<_> = (0..count).rev().map(|number| number * 100).collect();
    assert_eq!(query(index, "all"), all);
    for number in 0..count {
        assert_eq!(query(index, &format!("own-{number}")), [number * 100], "own-{number}");
    }
}

/// Puts again what lies at the end of the index or later, as a broker does after opening.
fn catch_up(index: &Index, count: u64) {
    (0..count).filter(|number| number * 100 >= index.end().get()).for_each(|number| put_nth(index, number));
}

fn patch(path: &Path, position: usize, bytes: &[u8]) {
    let mut content = fs::read(path).unwrap();
    content[position..position + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).unwrap();
}

fn read_u32(path: &Path, position: usize) -> u32 {
    u32::from_be_bytes(fs::read(path).unwrap()[position..position + 4].try_into().unwrap())
}

#[test]
fn the_worked_example_is_written_byte_for_byte() {
    let fixture = Fixture::new(Geometry { slots: 1_000, entries: 1_500 });
    let index = fixture.open();
    put(&index, PhysicalOffset::ZERO, START, &[key_hash("TopicTest", "K1")]).unwrap();
    let files = fixture.files();
    assert_eq!(files[0].file_name().unwrap(), "20231114101320001");
    let content = fs::read(&files[0]).unwrap();
    assert_eq!(content.len(), 34_040);
    let time = [0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x01];
    assert_eq!(content[..40], [time.as_slice(), &time, &[0; 16], &[0, 0, 0, 1, 0, 0, 0, 2]].concat());
    let entry = [0x00, 0x29, 0xe2, 0xc8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(content[40 + 4_000 + 20..][..20], entry);
    assert_eq!(content[40 + 4 * 32..][..4], [0, 0, 0, 1]);
    assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 6 + 6 + 2 + 3 + 1);
}

#[test]
fn a_second_message_counts_its_seconds_and_points_to_the_one_before_it_in_its_chain() {
    let fixture = Fixture::new(Geometry { slots: 1_000, entries: 1_500 });
    let index = fixture.open();
    let hash = key_hash("TopicTest", "K1");
    put(&index, PhysicalOffset::ZERO, START, &[hash]).unwrap();
    put(&index, PhysicalOffset::new(0x1_0000_0123), START + 2_999, &[hash]).unwrap();
    let content = fs::read(&fixture.files()[0]).unwrap();
    let entry = [0x00, 0x29, 0xe2, 0xc8, 0, 0, 0, 1, 0, 0, 1, 0x23, 0, 0, 0, 2, 0, 0, 0, 1];
    assert_eq!(content[40 + 4_000 + 40..][..20], entry);
    assert_eq!(content[24..40], [0, 0, 0, 1, 0, 0, 1, 0x23, 0, 0, 0, 1, 0, 0, 0, 3]);
    assert_eq!(content[40 + 4 * 32..][..4], [0, 0, 0, 2]);
}

#[test]
fn t_j7_a_file_takes_one_entry_less_than_it_has_room_for_and_the_next_one_goes_on() {
    let fixture = Fixture::new(Geometry { slots: 100, entries: 400 });
    let index = fixture.open();
    for number in 0..399_u64 {
        let hashes = [key_hash("t", &number.to_string())];
        put(&index, PhysicalOffset::new(number), START + i64::try_from(number).unwrap(), &hashes).unwrap();
    }
    assert_eq!(fixture.files().len(), 1);
    assert_eq!(query(&index, "60"), [60]);
    put(&index, PhysicalOffset::new(399), START + 7_000, &[key_hash("t", "399")]).unwrap();
    let files = fixture.files();
    assert_eq!(files.len(), 2);
    assert_eq!((read_u32(&files[0], 36), read_u32(&files[1], 36)), (400, 2));
    // The first entry of a file counts its seconds from the end of the file before: 7,000 - 398 milliseconds.
    assert_eq!(read_u32(&files[1], 40 + 400 + 20 + 12), 6);
    assert_eq!((query(&index, "60"), query(&index, "399")), ([60].to_vec(), [399].to_vec()));
}

#[test]
fn t_j5_keys_with_one_hash_lead_to_candidates_of_their_own_topic_and_hash() {
    let fixture = Fixture::new(SMALL);
    let index = fixture.open();
    put(&index, PhysicalOffset::ZERO, START, &[key_hash("AaTopic", "Aa")]).unwrap();
    put(&index, PhysicalOffset::new(100), START, &[key_hash("BBTopic", "BB")]).unwrap();
    // All four combinations share a hash: the caller must look at the message.
    assert_eq!(key_hash("AaTopic", "BB"), key_hash("BBTopic", "Aa"));
    let mut found = Vec::new();
    let visit = &mut |physical: PhysicalOffset| {
        found.push(physical.get());
        ControlFlow::Continue(())
    };
    index.query(key_hash("AaTopic", "BB"), i64::MIN..=i64::MAX, visit).unwrap();
    assert_eq!(found, [100, 0]);
}

#[test]
fn a12_a_message_with_a_thousand_keys_is_found_by_each_across_files() {
    let fixture = Fixture::new(SMALL);
    let index = fixture.open();
    let hashes: Vec<_> = (0..1_000).map(|number| key_hash("t", &format!("key-{number}"))).collect();
    put(&index, PhysicalOffset::new(5), START, &hashes).unwrap();
    for number in 0..1_000 {
        assert_eq!(query(&index, &format!("key-{number}")), [5]);
    }
    assert_eq!(fixture.files().len(), 100);
}

#[test]
fn a_message_that_carries_a_key_twice_has_two_entries_and_is_visited_once() {
    let fixture = Fixture::new(SMALL);
    let index = fixture.open();
    put(&index, PhysicalOffset::new(7), START, &[key_hash("t", "all"), key_hash("t", "all")]).unwrap();
    assert_eq!(query(&index, "all"), [7]);
    assert_eq!(read_u32(&fixture.files()[0], 36), 3);
}

#[test]
fn what_was_put_is_found_again_after_reopening_newest_first() {
    let fixture = Fixture::filled(23);
    let index = fixture.open();
    assert_holds(&index, 23);
    assert_eq!(index.end().get(), 2_200);
    assert_eq!(fixture.files().len(), 5);
}

#[test]
fn a_visit_ends_when_the_visitor_has_enough() {
    let fixture = Fixture::filled(23);
    let index = fixture.open();
    let mut found = Vec::new();
    let visit = &mut |physical: PhysicalOffset| {
        found.push(physical.get());
        if found.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    index.query(key_hash("t", "all"), i64::MIN..=i64::MAX, visit).unwrap();
    assert_eq!(found, [2_200, 2_100, 2_000]);
}

#[test]
fn a_time_range_leaves_out_other_seconds_and_never_a_message_inside() {
    let fixture = Fixture::filled(23);
    let index = fixture.open();
    for number in 0..23_u64 {
        let time = START + i64::try_from(number).unwrap() * 500;
        let found = query_at(&index, "all", time..=time);
        assert!(found.contains(&(number * 100)) && found.len() < 12, "{number}: {found:?}");
    }
    assert_eq!(query_at(&index, "all", START + 100_000..=i64::MAX), [0; 0]);
}

#[test]
fn a_message_stored_while_the_clock_was_set_back_is_found_by_its_time() {
    let fixture = Fixture::new(SMALL);
    let index = fixture.open();
    for (number, millis) in [(0, START), (1, START - 60_000), (2, START + 60_000)] {
        put(&index, PhysicalOffset::new(number), millis, &[key_hash("t", "all")]).unwrap();
    }
    assert_eq!(query_at(&index, "all", START - 60_000..=START - 60_000), [1]);
    assert_eq!(query_at(&index, "all", START + 60_000..=START + 60_000), [2]);
}

#[test]
fn t_k16_putting_again_what_is_there_changes_nothing() {
    let fixture = Fixture::filled(23);
    let before: Vec<_> = fixture.files().iter().map(|path| fs::read(path).unwrap()).collect();
    let index = fixture.open();
    (0..23).for_each(|number| put_nth(&index, number));
    let after: Vec<_> = fixture.files().iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_message_put_under_some_of_its_keys_gets_the_others() {
    let fixture = Fixture::new(SMALL);
    let hashes: Vec<_> = (0..25).map(|number| key_hash("t", &format!("key-{number}"))).collect();
    let index = fixture.open();
    put(&index, PhysicalOffset::new(5), START, &hashes[..17]).unwrap();
    drop(index);
    let index = fixture.open();
    put(&index, PhysicalOffset::new(5), START, &hashes).unwrap();
    let counts: Vec<_> = fixture.files().iter().map(|path| read_u32(path, 36)).collect();
    assert_eq!(counts, [11, 11, 6]);
}

#[test]
fn what_lies_before_the_end_is_passed_over() {
    let fixture = Fixture::new(SMALL);
    let index = fixture.open();
    index.advance_to(PhysicalOffset::new(1_000));
    put(&index, PhysicalOffset::new(999), START, &[1]).unwrap();
    assert!(!fixture.dir().exists());
    index.advance_to(PhysicalOffset::new(10));
    assert_eq!(index.end().get(), 1_000);
}

#[test]
fn a_run_is_put_like_its_messages_one_by_one() {
    let (one, run) = (Fixture::filled(200), Fixture::new(SMALL));
    let keys: Vec<_> = (0..200_u32)
        .flat_map(|number| {
            [format!("own-{number}"), "all".to_owned()].map(|key| IndexKey {
                physical: PhysicalOffset::new(u64::from(number) * 100),
                store_millis: START + i64::from(number) * 500,
                hash: key_hash("t", &key),
            })
        })
        .collect();
    run.open().put_run(&keys).unwrap();
    let content = |fixture: &Fixture| -> Vec<_> {
        fixture
            .files()
            .iter()
            .map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect()
    };
    assert!(content(&one) == content(&run));
}

#[test]
fn cutting_at_any_message_leaves_the_index_as_if_the_rest_had_never_been() {
    for kept in 0..=23 {
        let fixture = Fixture::filled(23);
        let index = fixture.open();
        index.cut(PhysicalOffset::new(kept * 100)).unwrap();
        assert_holds(&index, kept);
        assert!(index.end().get() <= kept * 100);
        (kept..30).for_each(|number| put_nth(&index, number));
        assert_holds(&index, 30);
        drop(index);
        assert_holds(&fixture.open(), 30);
    }
}

#[test]
fn cutting_where_nothing_is_changes_no_byte() {
    let fixture = Fixture::filled(23);
    let before = fs::read(fixture.files().last().unwrap()).unwrap();
    let index = fixture.open();
    index.cut(PhysicalOffset::new(2_300)).unwrap();
    assert_eq!(index.end().get(), 2_200);
    assert_eq!(fs::read(fixture.files().last().unwrap()).unwrap(), before);
}

#[test]
fn pages_that_a_power_loss_took_are_filled_again() {
    // The last file holds the messages 20 to 22, entries 1 to 6; the second message's entries never reached the disk.
    let fixture = Fixture::filled(23);
    let last = fixture.files().pop().unwrap();
    patch(&last, 40 + 32 + 60, &[0; 40]);
    let index = fixture.open();
    index.cut(PhysicalOffset::new(2_300)).unwrap();
    index.cut(PhysicalOffset::new(2_100)).unwrap();
    assert!(index.end().get() <= 2_100);
    catch_up(&index, 23);
    assert_holds(&index, 23);
}

#[test]
fn c27_a_header_that_contradicts_its_file_costs_only_the_work_to_fill_it_again() {
    let all = u64::MAX.to_be_bytes();
    let fields: [(usize, usize); 6] = [(0, 8), (8, 8), (16, 8), (24, 8), (32, 4), (36, 4)];
    for file in 0..5 {
        for (position, width) in fields {
            for bytes in
                [[0; 8], all, [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0, 0, 0, 3, 0, 0, 0, 3]]
            {
                let fixture = Fixture::filled(23);
                patch(&fixture.files()[file], position, &bytes[..width]);
                let (index, _) = fixture.open_with_warnings();
                index.cut(PhysicalOffset::new(2_300)).unwrap();
                catch_up(&index, 23);
                assert_holds(&index, 23);
            }
        }
    }
}

#[test]
fn c28_a_slot_beyond_the_entries_or_a_flipped_hash_is_a_miss() {
    for value in [12_u32, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let fixture = Fixture::filled(5);
        let index = fixture.open();
        (0..8).for_each(|slot| patch_shared(&fixture.files()[0], 40 + 4 * slot, &value.to_be_bytes()));
        assert_eq!(query(&index, "all"), [0; 0]);
    }
    let fixture = Fixture::filled(5);
    let index = fixture.open();
    patch_shared(&fixture.files()[0], 40 + 32 + 20, &[0xff; 4]);
    assert_eq!(query(&index, "own-0"), [0; 0]);
    assert_eq!(query(&index, "all"), [400, 300, 200, 100, 0]);
}

#[test]
fn c29_a_chain_that_runs_in_a_circle_or_forward_ends() {
    for older in [10_u32, 11, 9, 0x7fff_ffff, u32::MAX] {
        let fixture = Fixture::filled(5);
        let index = fixture.open();
        // The newest entry of the key `all` has number 10.
        patch_shared(&fixture.files()[0], 40 + 32 + 200 + 16, &older.to_be_bytes());
        assert!(query(&index, "all").len() <= 5);
        assert_eq!(query(&index, "all")[0], 400);
    }
}

#[test]
fn c30_an_entry_that_leads_anywhere_is_a_candidate_and_does_not_hide_that_the_index_is_behind() {
    for physical in [u64::MAX, i64::MAX.unsigned_abs(), 5_000] {
        let fixture = Fixture::filled(5);
        patch(&fixture.files()[0], 40 + 32 + 200 + 4, &physical.to_be_bytes());
        let (index, _) = fixture.open_with_warnings();
        index.cut(PhysicalOffset::new(500)).unwrap();
        assert!(index.end().get() <= 500);
        catch_up(&index, 7);
        assert_holds(&index, 7);
    }
}

#[test]
fn c31_a_file_of_wrong_size_goes_with_all_newer_ones_and_a_strange_name_stays() {
    for (position, len) in [(0, 0), (2, 100), (4, 313)] {
        let fixture = Fixture::filled(23);
        let files = fixture.files();
        fs::OpenOptions::new().write(true).open(&files[position]).unwrap().set_len(len).unwrap();
        fs::write(fixture.dir().join("2026-11-23"), "notes").unwrap();
        fs::create_dir(fixture.dir().join("20261123153756906")).unwrap();
        let (index, warnings) = fixture.open_with_warnings();
        assert_eq!(warnings.len(), 2 + 5 - position, "{warnings:?}");
        assert_eq!(index.end().get(), if position == 0 { 0 } else { position as u64 * 500 - 100 });
        catch_up(&index, 23);
        assert_holds(&index, 23);
        assert!(
            fixture.dir().join("2026-11-23").exists() && fixture.dir().join("20261123153756906").is_dir()
        );
    }
}

#[test]
fn c31_a_copy_of_a_file_under_another_name_is_dropped() {
    let fixture = Fixture::filled(23);
    let files = fixture.files();
    fs::copy(&files[0], fixture.dir().join("20250101000000000")).unwrap();
    let (index, warnings) = fixture.open_with_warnings();
    assert_eq!(warnings.len(), 1);
    assert_holds(&index, 23);
}

#[test]
fn a_process_killed_between_two_stores_leaves_a_file_that_is_mended() {
    // The entry and its slot are there, the header does not count it yet; then the other way round.
    let fixture = Fixture::filled(5);
    patch(&fixture.files()[0], 36, &10_u32.to_be_bytes());
    patch(&fixture.files()[0], 24, &400_u64.to_be_bytes());
    let (index, warnings) = fixture.open_with_warnings();
    assert_eq!(warnings.len(), 1);
    catch_up(&index, 5);
    assert_holds(&index, 5);
    drop(index);
    patch(&fixture.files()[0], 24, &300_u64.to_be_bytes());
    let (index, warnings) = fixture.open_with_warnings();
    assert_eq!(warnings.len(), 1);
    assert_holds(&index, 5);
    assert_eq!(fs::read(&fixture.files()[0]).unwrap()[24..32], 400_u64.to_be_bytes());
}

#[test]
fn a_damaged_folder_opened_for_reading_only_is_mended_and_filled_in_memory_alone() {
    let fixture = Fixture::filled(23);
    patch(&fixture.files()[4], 36, &3_u32.to_be_bytes());
    patch(&fixture.files()[2], 0, &[0xff; 8]);
    let content =
        || -> Vec<_> { fixture.files().into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect() };
    let before = content();
    let (index, warnings) = fixture.open_on(Arc::new(PrivateDisk::new()));
    assert_eq!(warnings.len(), 3);
    catch_up(&index, 30);
    index.cut(PhysicalOffset::new(2_500)).unwrap();
    assert_holds(&index, 25);
    index.sync().unwrap();
    assert!(before == content());
}

#[test]
fn an_index_dropped_or_missing_starts_from_the_beginning() {
    let fixture = Fixture::filled(23);
    let index = fixture.open();
    index.clear().unwrap();
    assert_eq!((index.end().get(), fixture.files().len()), (0, 0));
    catch_up(&index, 23);
    assert_holds(&index, 23);
    fs::remove_dir_all(fixture.dir()).unwrap();
    assert_eq!(fixture.open().end().get(), 0);
}

#[test]
fn d16_files_whose_messages_all_expired_are_dropped_but_never_the_last() {
    let fixture = Fixture::filled(23);
    let index = fixture.open();
    index.drop_before(PhysicalOffset::new(900)).unwrap();
    assert_eq!(fixture.files().len(), 4);
    index.drop_before(PhysicalOffset::MAX).unwrap();
    assert_eq!(fixture.files().len(), 1);
    assert_eq!(query(&index, "own-22"), [2_200]);
    assert_eq!(query(&index, "own-3"), [0; 0]);
    put_nth(&index, 23);
    assert_eq!(query(&fixture.open(), "all")[0], 2_300);
}

#[test]
fn a_sync_tells_what_is_safe_and_the_end_of_the_last_full_file() {
    let fixture = Fixture::filled(23);
    let index = fixture.open();
    index.advance_to(PhysicalOffset::new(2_300));
    assert_eq!(index.last_full_end_millis(), 0);
    assert_eq!(index.sync().unwrap().get(), 2_300);
    assert_eq!(index.last_full_end_millis(), START + 19 * 500);
}

#[test]
fn a_geometry_without_room_is_refused() {
    for (slots, entries) in [(0, 10), (10, 0), (10, 1), (u32::MAX, 10), (10, u32::MAX)] {
        let fixture = Fixture::new(Geometry { slots, entries });
        let options = IndexOptions {
            dir: fixture.dir(),
            temp_dir: fixture.dir(),
            geometry: fixture.geometry,
            clock: Arc::new(ManualClock::new(START)),
        };
        let refused = Index::open(Arc::new(RealDisk), options).unwrap_err();
        assert!(matches!(refused, Error::InvalidConfig { .. }), "{refused}");
    }
}

#[test]
fn an_existing_folder_tells_the_length_of_its_files() {
    let fixture = Fixture::filled(5);
    let len = Index::existing_len(&RealDisk, &fixture.dir()).unwrap();
    assert_eq!(len, Some(Index::file_len_of(SMALL)));
    assert_eq!(Index::existing_len(&RealDisk, &fixture.dir().join("none")).unwrap(), None);
}

#[test]
fn readers_find_every_finished_put_while_a_writer_goes_on() {
    let fixture = Fixture::new(Geometry { slots: 4, entries: 50 });
    let index = fixture.open();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..2_000 {
                put_nth(&index, number);
                done.store(number + 1, Ordering::Release);
            }
        });
        while done.load(Ordering::Acquire) < 2_000 {
            let finished = done.load(Ordering::Acquire);
            let found = query(&index, "all");
            assert!(found.len() as u64 >= finished);
            assert!(found.is_sorted_by(|newer, older| newer > older));
        }
    });
}

/// Writes into a file that is mapped.
fn patch_shared(path: &Path, position: usize, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, position as u64).unwrap();
}
