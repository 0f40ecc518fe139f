//! What is an index file called? By the time at which it was made, in 17 digits `yyyyMMddHHmmssSSS`, and files are
//! ordered by name.
//!
//! RocketMQ writes its own zone's time. The names here are in the zone farthest west, 12 hours behind UTC, so that a
//! broker in any zone that goes on in the same folder names its next file later than ours.

use std::ffi::OsStr;

const ZONE_MILLIS: i64 = -12 * 3_600_000;
const DAY_MILLIS: i64 = 86_400_000;

/// Names the next file: the time, but at least one above the last name.
pub(super) fn next_name(wall_millis: i64, last: Option<u64>) -> u64 {
    let now = name_of(wall_millis);
    last.map_or(now, |last| now.max(last.saturating_add(1)))
}

pub(super) fn file_name(name: u64) -> String {
    format!("{name:017}")
}

/// Reads a name; `None` if it is not 17 digits that start with a date.
pub(super) fn parse_file_name(name: &OsStr) -> Option<u64> {
    let text = name.to_str()?;
    if text.len() != 17 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = text.parse().ok()?;
    let date = number / 1_000_000_000;
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    ((1970..9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)).then_some(number)
}

fn name_of(wall_millis: i64) -> u64 {
    let local = wall_millis.saturating_add(ZONE_MILLIS).clamp(0, MAX_MILLIS);
    let (year, month, day) = civil_date(local / DAY_MILLIS);
    let millis = local % DAY_MILLIS;
    let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60);
    let date = year * 10_000 + month * 100 + day;
    let time = hour * 10_000_000 + minute * 100_000 + second * 1_000 + millis % 1_000;
    (date * 1_000_000_000 + time).unsigned_abs()
}

/// The last millisecond of the year 9000: a clock that is farther off names its files as if it were then.
const MAX_MILLIS: i64 = 221_876_927_999_999;

/// Turns days since 1970 into year, month and day, counting in years that start in March, so that the leap day
/// comes last.
const fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_time_twelve_hours_west_of_greenwich() {
        assert_eq!(file_name(next_name(1_700_000_000_001, None)), "20231114101320001");
        assert_eq!(file_name(next_name(951_868_799_999, None)), "20000229115959999");
        assert_eq!(file_name(next_name(0, None)), "19700101000000000");
        assert_eq!(file_name(next_name(i64::MAX, None)).get(..4), Some("9000"));
    }

    #[test]
    fn a_name_is_above_the_last_one_even_if_the_clock_stands_or_goes_back() {
        let first = next_name(1_700_000_000_001, None);
        assert_eq!(next_name(1_700_000_000_001, Some(first)), first + 1);
        assert_eq!(next_name(5, Some(first)), first + 1);
        assert!(next_name(1_700_000_000_999, Some(first)) > first + 1);
    }

    #[test]
    fn c31_a_name_that_is_not_a_time_is_no_index_file() {
        let parse = |name: &str| parse_file_name(OsStr::new(name));
        assert_eq!(parse("20261123153756906"), Some(20_261_123_153_756_906));
        for bad in ["", "2026112315375690", "202611231537569060", "2026112315375690x", "20261323153756906"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("99999999999999999"), None);
        assert_eq!(parse("00000000000000000"), None);
    }
}
