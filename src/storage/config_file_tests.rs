//! Does a settings file survive everything that can happen to it?

use std::fs;

use serde_json::json;

use super::super::RealDisk;
use super::*;

fn write(path: &Path, text: &str) {
    fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
}

#[test]
fn what_was_saved_is_loaded_and_the_version_before_is_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("topics.json");
    assert_eq!(load_config(&RealDisk, &path).unwrap().from, Source::Absent);
    for n in 1..=3 {
        save_config(&RealDisk, &path, dir.path(), &json!({"n": n})).unwrap();
    }
    let loaded = load_config(&RealDisk, &path).unwrap();
    assert_eq!((loaded.value, loaded.from), (Some(json!({"n": 3})), Source::Main));
    fs::remove_file(&path).unwrap();
    let loaded = load_config(&RealDisk, &path).unwrap();
    assert_eq!((loaded.value, loaded.from), (Some(json!({"n": 2})), Source::Backup));
}

#[test]
fn c36_a_broken_file_falls_back_to_its_backup_and_without_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("consumerOffset.json");
    for broken in ["", "   ", "{\"a\":", "\0\0\0\0"] {
        write(&path, broken);
        assert!(matches!(load_config(&RealDisk, &path), Err(Error::Corrupt(_))), "{broken:?}");
    }
    write(&dir.path().join("consumerOffset.json.bak"), "{\"offsetTable\":{\"T@g\":{0:5}}}");
    let loaded = load_config(&RealDisk, &path).unwrap();
    assert_eq!(loaded.value, Some(json!({"offsetTable": {"T@g": {"0": 5}}})));
    assert_eq!(loaded.from, Source::Backup);
}

#[test]
fn c39_the_main_file_wins_over_a_newer_backup_and_two_broken_ones_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (path, backup) = (dir.path().join("x.json"), dir.path().join("x.json.bak"));
    write(&path, "{\"main\":1}");
    write(&backup, "{\"backup\":1}");
    assert_eq!(load_config(&RealDisk, &path).unwrap().value, Some(json!({"main": 1})));
    write(&path, "{");
    write(&backup, "[");
    assert!(load_config(&RealDisk, &path).is_err());
}

#[test]
fn a_changed_byte_is_found_by_the_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    save_config(&RealDisk, &path, dir.path(), &json!({"offset": 12345})).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    write(&path, &text.replace("12345", "12346"));
    let error = load_config(&RealDisk, &path).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn c39_a_broken_file_never_takes_the_place_of_a_backup_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, backup) = (dir.path().join("x.json"), dir.path().join("x.json.bak"));
    write(&path, "{\"half\":");
    write(&backup, "{\"backup\":1}");
    save_config(&RealDisk, &path, dir.path(), &json!({"main": 1})).unwrap();
    assert_eq!(fs::read_to_string(&backup).unwrap(), "{\"backup\":1}");
    assert_eq!(load_config(&RealDisk, &path).unwrap().value, Some(json!({"main": 1})));
}

#[test]
fn c39_what_a_crash_left_of_a_saving_does_not_stop_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    write(&dir.path().join("x.json.tmp"), "{\"left\":");
    write(&dir.path().join("x.json.bak.tmp"), "{");
    save_config(&RealDisk, &path, dir.path(), &json!({"main": 1})).unwrap();
    assert_eq!(load_config(&RealDisk, &path).unwrap().value, Some(json!({"main": 1})));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
