//! Is damage told from a record?

use super::*;
use crate::message::draft::{Coverage, Draft, DraftFields, encode_blank};

const PLACE: PhysicalOffset = PhysicalOffset::new(4_096);

fn draft(topic: &str, body: &[u8], properties: &[u8], coverage: Coverage) -> Vec<u8> {
    let fields = DraftFields {
        topic,
        queue_id: 1,
        flag: 3,
        sys_flag: SysFlag::NONE,
        born_millis: 1_700_000_000_000,
        born_host: "127.0.0.1:12345".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: PhysicalOffset::ZERO,
        body,
        properties,
    };
    let mut buffer = Vec::new();
    let draft = Draft::new(&fields, coverage, &mut buffer).unwrap();
    draft.seal(&mut buffer, QueueOffset::new(9), PLACE, 1_700_000_000_001);
    draft.pieces(&buffer).concat()
}

fn good() -> Vec<u8> {
    draft("orders", b"hello", b"KEYS\x01a b\x02TAGS\x01t\x02UNIQ_KEY\x01u\x02", Coverage::WholeRecord)
}

/// The good record with some bytes replaced.
fn patched(position: usize, bytes: &[u8]) -> Vec<u8> {
    let mut record = good();
    record[position..position + bytes.len()].copy_from_slice(bytes);
    record
}

fn fault(bytes: &[u8]) -> Option<RecordFault> {
    Record::parse(bytes).err()
}

fn whole_fault(bytes: &[u8]) -> Option<RecordFault> {
    Record::parse(bytes).unwrap().check_whole_crc().err()
}

#[test]
fn a_good_record_is_believed() {
    let bytes = good();
    let record = Record::parse(&bytes).unwrap();
    record.check_place(PLACE).unwrap();
    record.check_body_crc().unwrap();
    record.check_whole_crc().unwrap();
    assert_eq!(record.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(record.index_keys().collect::<Vec<_>>(), [&b"u"[..], b"a", b"b"]);
    assert_eq!(record.unique_key(), Some("u"));
    assert_eq!(record.message_id(), record.offset_id(), "a unique key that is no id");
    let again = Record::with_layout(&bytes, record.layout()).unwrap();
    assert_eq!(again.topic(), "orders");
    assert!(Record::with_layout(&bytes[1..], record.layout()).is_none());
}

#[test]
fn a_record_may_be_followed_by_anything() {
    let mut bytes = good();
    let size = bytes.len();
    bytes.extend_from_slice(b"what comes behind it");
    assert_eq!(Record::parse(&bytes).unwrap().bytes().len(), size);
}

#[test]
fn c1_an_impossible_size_is_no_record() {
    let size = good().len() as i32;
    for wrong in [1, 90, -1, i32::MIN, size + 1, i32::MAX] {
        let bytes = patched(0, &wrong.to_be_bytes());
        assert_eq!(fault(&bytes), Some(RecordFault::Size), "{wrong}");
        assert!(matches!(scan(&bytes), Scanned::Fault(RecordFault::Size)), "{wrong}");
    }
    assert_eq!(fault(&patched(0, &(size - 1).to_be_bytes())), Some(RecordFault::PropertiesLength));
    let mut longer = patched(0, &(size + 1).to_be_bytes());
    longer.push(0);
    assert_eq!(fault(&longer), Some(RecordFault::PropertiesLength));
    assert!(matches!(scan(&patched(0, &[0; 4])), Scanned::End));
    for short in 0..good().len() {
        assert!(fault(&good()[..short]).is_some(), "{short}");
    }
}

#[test]
fn c2_a_wrong_magic_is_no_record() {
    assert_eq!(fault(&patched(4, &[0; 4])), Some(RecordFault::Magic));
    assert_eq!(fault(&patched(4, &(MAGIC_V1 ^ 1).to_be_bytes())), Some(RecordFault::Magic));
    // Read as the other version, the lengths behind the topic do not fit any more.
    assert!(fault(&patched(4, &MAGIC_V2.to_be_bytes())).is_some());
    let long = draft(&"t".repeat(200), b"x", b"", Coverage::BodyOnly);
    let mut as_v1 = long.clone();
    as_v1[4..8].copy_from_slice(&MAGIC_V1.to_be_bytes());
    assert!(Record::parse(&long).is_ok() && fault(&as_v1).is_some());
}

#[test]
fn c2_a_blank_record_must_fill_its_file() {
    let mut rest = vec![0; 84];
    rest[..8].copy_from_slice(&encode_blank(84));
    assert!(matches!(scan(&rest), Scanned::Blank));
    assert!(matches!(scan(&rest[..8]), Scanned::Fault(RecordFault::Blank)));
    rest.push(0);
    assert!(matches!(scan(&rest), Scanned::Fault(RecordFault::Blank)));
    assert_eq!(fault(&rest), Some(RecordFault::Blank));
    assert!(matches!(scan(&encode_blank(8)), Scanned::Blank));
}

#[test]
fn zeros_are_the_end() {
    for len in 0..100 {
        assert!(matches!(scan(&vec![0; len]), Scanned::End), "{len}");
    }
    assert!(matches!(scan(&[0, 1]), Scanned::Fault(RecordFault::Size)));
}

#[test]
fn c3_a_changed_body_is_seen() {
    for bytes in [patched(8, &[9; 4]), patched(88, b"j")] {
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.check_body_crc(), Err(RecordFault::BodyCrc));
    }
}

#[test]
fn c4_a_changed_queue_id_is_seen_by_the_checksum_of_the_record() {
    let other = patched(12, &7_u32.to_be_bytes());
    Record::parse(&other).unwrap().check_body_crc().unwrap();
    assert_eq!(whole_fault(&other), Some(RecordFault::WholeCrc));
    assert_eq!(fault(&patched(12, &(-1_i32).to_be_bytes())), Some(RecordFault::Negative));
}

#[test]
fn c5_a_changed_flag_is_seen_by_the_checksum_of_the_record() {
    assert_eq!(whole_fault(&patched(16, &[1; 4])), Some(RecordFault::WholeCrc));
}

#[test]
fn c6_a_changed_queue_offset_is_seen_by_the_checksum_of_the_record() {
    assert_eq!(whole_fault(&patched(20, &10_u64.to_be_bytes())), Some(RecordFault::WholeCrc));
    assert_eq!(fault(&patched(20, &(-1_i64).to_be_bytes())), Some(RecordFault::Negative));
}

#[test]
fn c7_a_record_that_lies_elsewhere_is_not_believed() {
    let bytes = patched(28, &4_097_u64.to_be_bytes());
    assert_eq!(Record::parse(&bytes).unwrap().check_place(PLACE), Err(RecordFault::Place));
    assert_eq!(fault(&patched(28, &i64::MIN.to_be_bytes())), Some(RecordFault::Negative));
}

#[test]
fn c8_changed_host_bits_shift_the_fields_and_are_seen() {
    for bits in [0x10_u32, 0x20, 0x30] {
        assert!(fault(&patched(36, &bits.to_be_bytes())).is_some(), "{bits:x}");
    }
    assert_eq!(whole_fault(&patched(36, &4_u32.to_be_bytes())), Some(RecordFault::WholeCrc));
}

#[test]
fn c9_any_time_is_read_without_overflow() {
    for millis in [0, -1, i64::MIN, i64::MAX] {
        let born = patched(40, &millis.to_be_bytes());
        let stored = patched(56, &millis.to_be_bytes());
        assert_eq!(Record::parse(&born).unwrap().born_millis(), millis);
        assert_eq!(Record::parse(&stored).unwrap().store_millis(), millis);
    }
}

#[test]
fn c10_an_impossible_port_is_read_as_none() {
    for port in [65_536, u32::MAX] {
        let born = patched(52, &port.to_be_bytes());
        assert_eq!(Record::parse(&born).unwrap().born_host().to_string(), "127.0.0.1:0");
        let stored = patched(68, &port.to_be_bytes());
        assert_eq!(Record::parse(&stored).unwrap().store_host().to_string(), "127.0.0.1:0");
    }
}

#[test]
fn c11_negative_reconsume_times_are_none() {
    assert_eq!(Record::parse(&patched(72, &(-5_i32).to_be_bytes())).unwrap().reconsume_times(), 0);
    let most = patched(72, &i32::MAX.to_be_bytes());
    assert_eq!(Record::parse(&most).unwrap().reconsume_times(), i32::MAX.unsigned_abs());
}

#[test]
fn c12_a_negative_transaction_offset_is_none() {
    let bytes = patched(76, &i64::MIN.to_be_bytes());
    assert_eq!(Record::parse(&bytes).unwrap().prepared_transaction_offset(), PhysicalOffset::ZERO);
}

#[test]
fn c13_an_impossible_body_length_is_no_record() {
    for len in [-1, i32::MIN, i32::MAX, 1_000] {
        assert_eq!(fault(&patched(84, &len.to_be_bytes())), Some(RecordFault::BodyLength), "{len}");
    }
    let mut empty = draft("orders", b"", b"", Coverage::BodyOnly);
    Record::parse(&empty).unwrap().check_body_crc().unwrap();
    empty[8] = 1;
    assert_eq!(Record::parse(&empty).unwrap().check_body_crc(), Err(RecordFault::BodyCrc));
}

#[test]
fn c14_an_impossible_topic_length_is_no_record() {
    for len in [0_u8, 0x80, 0xFF, 127] {
        assert_eq!(fault(&patched(93, &[len])), Some(RecordFault::TopicLength), "{len}");
    }
    let long = draft(&"t".repeat(200), b"x", b"", Coverage::BodyOnly);
    for len in [0_u16, 0x8000, 0xFFFF, 0x7FFF] {
        let mut bytes = long.clone();
        bytes[89..91].copy_from_slice(&len.to_be_bytes());
        assert_eq!(fault(&bytes), Some(RecordFault::TopicLength), "{len}");
    }
}

#[test]
fn c15_a_topic_is_whatever_stands_there_and_passes_no_check_unread() {
    let hostile = draft("../../x", b"x", b"", Coverage::BodyOnly);
    let record = Record::parse(&hostile).unwrap();
    assert!(crate::types::TopicName::new(record.topic()).is_err());
    let bytes = patched(94, &[0xFF]);
    let record = Record::parse(&bytes).unwrap();
    assert_eq!((record.topic(), record.topic_bytes()), ("", &b"\xFFrders"[..]));
}

#[test]
fn c16_an_impossible_properties_length_is_no_record() {
    let at = 94 + 6;
    for len in [-1_i16, i16::MIN, i16::MAX, 0] {
        assert_eq!(fault(&patched(at, &len.to_be_bytes())), Some(RecordFault::PropertiesLength), "{len}");
    }
    let bytes = draft("orders", b"x", b"no separator", Coverage::BodyOnly);
    assert_eq!(Record::parse(&bytes).unwrap().properties().iter().count(), 0);
}

#[test]
fn a_checksum_counts_only_as_the_last_property() {
    for properties in [
        &b"__CRC32#\x015929773611\x02a\x01b\x02"[..],
        b"__CRC32#\x015929773611",
        b"a\x01b__CRC32#\x015929773611\x02",
        b"__CRC32#\x01592977361x\x02",
        b"__CRC32#\x019999999999\x02",
        b"__CRC33#\x015929773611\x02",
    ] {
        let bytes = draft("orders", b"x", properties, Coverage::BodyOnly);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.whole_crc(), None);
        assert_eq!(record.check_whole_crc(), Err(RecordFault::WholeCrcMissing));
    }
    let bytes = draft("orders", b"x", b"__CRC32#\x015929773611\x02", Coverage::BodyOnly);
    let record = Record::parse(&bytes).unwrap();
    assert_eq!(record.whole_crc(), Some(1_163_779_295));
    assert_eq!(record.check_whole_crc(), Err(RecordFault::WholeCrc), "a stale one");
}

#[test]
fn every_flipped_bit_of_a_record_is_seen() {
    let record = good();
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let believed = Record::parse(&flipped).and_then(|record| {
            record.check_whole_crc()?;
            record.check_body_crc()?;
            record.check_place(PLACE)
        });
        assert!(believed.is_err(), "bit {bit}");
    }
}
