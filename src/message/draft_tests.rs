//! Are the bytes of a drafted record those that Apache RocketMQ writes?

use super::*;
use crate::message::record::{Record, RecordFault};

const GOLDEN: &str = "0000007bdaa320a73610a6860000000200000000000000000000000000000000000000000000\
    00000000018bcfe568007f000001000030390000018bcfe568017f00000100002a9f0000000000000000000000000000000568656c6c6f\
    09546f7069635465737400124b455953014b310254414753015461674102";

fn fields<'a>(body: &'a [u8], properties: &'a [u8]) -> DraftFields<'a> {
    DraftFields {
        topic: "TopicTest",
        queue_id: 2,
        flag: 0,
        sys_flag: SysFlag::NONE,
        born_millis: 1_700_000_000_000,
        born_host: "127.0.0.1:12345".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: PhysicalOffset::ZERO,
        body,
        properties,
    }
}

fn sealed(fields: &DraftFields<'_>, coverage: Coverage, physical_offset: u64) -> Vec<u8> {
    let mut buffer = b"what the buffer held before".to_vec();
    let draft = Draft::new(fields, coverage, &mut buffer).unwrap();
    draft.seal(&mut buffer, QueueOffset::new(99), PhysicalOffset::new(99), 99);
    let queue_offset = QueueOffset::new(physical_offset / 100);
    draft.seal(&mut buffer, queue_offset, PhysicalOffset::new(physical_offset), 1_700_000_000_001);
    let record = draft.pieces(&buffer).concat();
    assert_eq!(record.len(), draft.size() as usize);
    record
}

#[test]
fn the_worked_example_is_written_byte_for_byte() {
    let golden: Vec<u8> =
        (0..GOLDEN.len()).step_by(2).map(|at| u8::from_str_radix(&GOLDEN[at..at + 2], 16).unwrap()).collect();
    let fields = fields(b"hello", b"KEYS\x01K1\x02TAGS\x01TagA\x02");
    assert_eq!(sealed(&fields, Coverage::BodyOnly, 0), golden);
    let record = Record::parse(&golden).unwrap();
    assert_eq!(record.offset_id().to_string(), "7F00000100002A9F0000000000000000");
    assert_eq!(record.tag(), Some("TagA"));
}

#[test]
fn every_field_is_read_back_as_it_was_written() {
    let hosts = ["10.1.2.3:65535", "[fd00::2]:10911"];
    for (born, store) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let fields = DraftFields {
            flag: -7,
            sys_flag: SysFlag::new(0x38),
            born_host: hosts[born].parse().unwrap(),
            store_host: hosts[store].parse().unwrap(),
            reconsume_times: 3,
            prepared_transaction_offset: PhysicalOffset::new(77),
            ..fields(b"body", b"TAGS\x01t\x02")
        };
        let bytes = sealed(&fields, Coverage::WholeRecord, 4_200);
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.bytes().len(), 91 + 4 + 9 + 7 + 20 + 12 * (born + store));
        assert_eq!((record.topic(), record.body()), ("TopicTest", &b"body"[..]));
        assert_eq!((record.queue_id(), record.flag(), record.reconsume_times()), (2, -7, 3));
        assert_eq!((record.born_millis(), record.store_millis()), (1_700_000_000_000, 1_700_000_000_001));
        assert_eq!((record.born_host(), record.store_host()), (fields.born_host, fields.store_host));
        assert_eq!((record.queue_offset().get(), record.physical_offset().get()), (42, 4_200));
        assert_eq!(record.prepared_transaction_offset().get(), 77);
        assert_eq!(record.sys_flag().bits() & 0x0C, 0x08);
        assert_eq!(record.tag(), Some("t"));
        record.check_body_crc().unwrap();
        record.check_whole_crc().unwrap();
    }
}

#[test]
fn the_checksum_of_the_record_is_the_same_however_it_is_computed() {
    for len in [0, 1, 128, 511, 512, 513, 1_024, 1_900, 1_901, 1_999, 2_048, 4_096, 65_537, 1 << 20] {
        let body: Vec<u8> = (0..len).map(|place| (place * 7 + place / 251) as u8).collect();
        let fields = fields(&body, b"KEYS\x01K1\x02");
        // From the second time on the thread knows the length.
        for time in 0..3 {
            let bytes = sealed(&fields, Coverage::WholeRecord, 1 << 40);
            let record = Record::parse(&bytes).unwrap();
            record.check_body_crc().unwrap();
            record.check_whole_crc().unwrap();
            let expected = crc32fast::hash(&bytes[..bytes.len() - 20]) & 0x7FFF_FFFF;
            assert_eq!(record.whole_crc(), Some(expected), "{len} {time}");
        }
    }
}

#[test]
fn the_checksum_is_right_for_every_mix_of_short_and_long_bodies_and_properties() {
    for body in [1, INLINE_BODY_MAX, INLINE_BODY_MAX + 1, 1_500, 2_049, 100_000].map(|len| vec![b'b'; len]) {
        for value in [1, 900, 1_400, 2_100, 32_000].map(|len| "v".repeat(len)) {
            let properties = format!("name\x01{value}\x02");
            let bytes = sealed(&fields(&body, properties.as_bytes()), Coverage::WholeRecord, 4_200);
            let record = Record::parse(&bytes).unwrap();
            let what = (body.len(), value.len());
            assert_eq!(record.check_whole_crc(), Ok(()), "{what:?}");
            assert_eq!(
                (record.body(), record.properties().get("name")),
                (&body[..], Some(value.as_str())),
                "{what:?}"
            );
        }
    }
}

#[test]
fn a_record_without_a_checksum_of_the_whole_has_none() {
    let bytes = sealed(&fields(b"hello", b"KEYS\x01K1\x02"), Coverage::BodyOnly, 0);
    let record = Record::parse(&bytes).unwrap();
    assert_eq!(record.whole_crc(), None);
    assert_eq!(record.check_whole_crc(), Err(RecordFault::WholeCrcMissing));
}

#[test]
fn a_checksum_is_written_with_its_digits_reversed() {
    assert_eq!(&reversed_digits(1_163_779_295), b"5929773611");
    assert_eq!(&reversed_digits(5), b"5000000000");
    assert_eq!(&reversed_digits(0x7FFF_FFFF), b"7463847412");
    assert_eq!(&reversed_digits(0), b"0000000000");
}

#[test]
fn a_missing_separator_is_put_before_the_checksum() {
    let bytes = sealed(&fields(b"hello", b"KEYS\x01K1"), Coverage::WholeRecord, 0);
    let record = Record::parse(&bytes).unwrap();
    assert!(record.properties().encoded().starts_with(b"KEYS\x01K1\x02__CRC32#\x01"));
    record.check_whole_crc().unwrap();
    let bytes = sealed(&fields(b"hello", b"KEYS\x01K1"), Coverage::BodyOnly, 0);
    assert!(bytes.ends_with(b"\x00\x07KEYS\x01K1"));
    let bytes = sealed(&fields(b"hello", b""), Coverage::WholeRecord, 0);
    Record::parse(&bytes).unwrap().check_whole_crc().unwrap();
}

#[test]
fn a_topic_over_127_bytes_makes_a_record_of_the_second_version() {
    for (len, magic) in [(127, 0xA7), (128, 0xAB), (255, 0xAB)] {
        let topic = "t".repeat(len);
        let bytes = sealed(&DraftFields { topic: &topic, ..fields(b"x", b"") }, Coverage::WholeRecord, 0);
        assert_eq!(bytes[7], magic, "{len}");
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.topic(), topic);
        record.check_whole_crc().unwrap();
    }
    for topic in [String::new(), "t".repeat(256)] {
        let fields = DraftFields { topic: &topic, ..fields(b"x", b"") };
        assert!(Draft::new(&fields, Coverage::BodyOnly, &mut Vec::new()).is_err());
    }
}

#[test]
fn a10_properties_of_32767_bytes_fit_and_one_more_does_not() {
    let value = "v".repeat(32_767);
    for (coverage, len) in [(Coverage::BodyOnly, 32_767), (Coverage::WholeRecord, 32_747)] {
        let mut properties = format!("n\x01{}\x02", &value[..len - 3]).into_bytes();
        let bytes = sealed(&fields(b"x", &properties), coverage, 0);
        assert_eq!(Record::parse(&bytes).unwrap().properties().get("n").unwrap().len(), len - 3);
        properties.insert(2, b'v');
        let mut buffer = b"before".to_vec();
        let error = Draft::new(&fields(b"x", &properties), coverage, &mut buffer).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "properties", .. }), "{error}");
        assert_eq!(buffer, b"before");
    }
}

#[test]
fn the_records_of_a_batch_lie_one_behind_the_other() {
    let mut buffer = Vec::new();
    let drafts: Vec<Draft<'_>> = [&b"one"[..], b"two", b"three"]
        .into_iter()
        .map(|body| Draft::new(&fields(body, b""), Coverage::WholeRecord, &mut buffer).unwrap())
        .collect();
    let mut place = 0;
    for (count, draft) in (0..).zip(&drafts) {
        draft.seal(&mut buffer, QueueOffset::new(count), PhysicalOffset::new(place), 5);
        place += u64::from(draft.size());
    }
    let mut rest = buffer.as_slice();
    for body in [&b"one"[..], b"two", b"three"] {
        let record = Record::parse(rest).unwrap();
        assert_eq!(record.body(), body);
        record.check_whole_crc().unwrap();
        rest = &rest[record.bytes().len()..];
    }
    assert!(rest.is_empty());
}

#[test]
fn a_blank_record_is_the_one_of_the_reference() {
    assert_eq!(encode_blank(84), [0, 0, 0, 0x54, 0xCB, 0xD4, 0x31, 0x94]);
}
