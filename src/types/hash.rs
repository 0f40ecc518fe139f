//! Which number does RocketMQ give to a text, and which queue to a number? Two hashes whose results lie on disk or
//! decide where a message goes, so they can never change.

/// Returns Java's `String.hashCode`: over UTF-16 code units, `h = 31 * h + unit`, wrapping at 32 bits.
pub(crate) fn java_string_hash(text: &str) -> i32 {
    if text.is_ascii() {
        return text.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    }
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Places `input` in one of `buckets` so that a new bucket takes its share from all others and moves nothing else.
///
/// This is Guava's `Hashing.consistentHash(long, int)`, which RocketMQ 5's proxy uses for message groups: a linear
/// congruential generator drives jumps from bucket to bucket. Returns 0 for zero or one bucket.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "Java's narrowing casts and doubles are part of the definition"
)]
pub(crate) fn consistent_hash(input: i64, buckets: u32) -> u32 {
    let mut state = input as u64;
    let mut candidate = 0_u32;
    loop {
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = f64::from(((state >> 33) as i32).wrapping_add(1)) / (1_u64 << 31) as f64;
        let next = ((f64::from(candidate) + 1.0) / draw) as i64;
        match u32::try_from(next) {
            Ok(next) if next < buckets => candidate = next,
            _ => return candidate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_hash_equals_java_for_the_reference_vectors() {
        for (text, hash) in [
            ("", 0),
            ("TagA", 2_598_919),
            ("order-42", 1_234_255_197),
            ("customer-20260901", -715_338_021),
            ("polygenelubricants", i32::MIN),
            ("订单-1", 1_085_411_543),
            ("😀", 1_772_899),
        ] {
            assert_eq!(java_string_hash(text), hash, "{text}");
        }
        assert_eq!(java_string_hash("Aa"), java_string_hash("BB"));
    }

    #[test]
    fn consistent_hash_equals_guava_for_the_reference_vectors() {
        let expected = [0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83];
        for (input, bucket) in (0_i64..).zip(expected) {
            assert_eq!(consistent_hash(input, 100), bucket, "{input}");
        }
        assert_eq!(consistent_hash(10_863_919_174_838_991, 11), 6);
        assert_eq!(consistent_hash(2_016_238_256_797_177_309, 11), 3);
        assert_eq!(consistent_hash(1_673_758_223_894_951_030, 11), 5);
        let placed = ["order-42", "customer-20260901", "polygenelubricants", "订单-1", "😀"]
            .map(|key| consistent_hash(i64::from(java_string_hash(key)), 8));
        assert_eq!(placed, [3, 1, 2, 4, 4]);
    }

    #[test]
    fn consistent_hash_of_no_or_one_bucket_is_the_first() {
        assert_eq!((consistent_hash(7, 0), consistent_hash(-7, 1)), (0, 0));
    }
}
