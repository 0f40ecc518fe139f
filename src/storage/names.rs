//! How is a file named by the offset at which it starts? With 20 decimal digits, as RocketMQ does.

use std::ffi::OsStr;

/// Digits of a name.
const DIGITS: usize = 20;

/// Returns the name of the file that starts at an offset.
pub(crate) fn file_name(start: u64) -> String {
    format!("{start:020}")
}

/// Returns the offset that a name gives, `None` unless it is 20 decimal digits of a signed 64-bit number.
pub(crate) fn parse_file_name(name: &OsStr) -> Option<u64> {
    let name = name
        .to_str()
        .filter(|name| name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_digit()))?;
    name.parse::<i64>().ok().and_then(|start| u64::try_from(start).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c44_only_twenty_digits_of_a_signed_number_name_a_file() {
        assert_eq!(parse_file_name(OsStr::new(&file_name(1_073_741_824))), Some(1_073_741_824));
        for bad in [
            "0000000000000000000",
            "000000000000000000000",
            "0000000000000000000a",
            "99999999999999999999",
            "-0000000000000000001",
            "+0000000000000000001",
            "",
        ] {
            assert_eq!(parse_file_name(OsStr::new(bad)), None, "{bad}");
        }
    }
}
