//! Which number stands for a tag in a consume queue?

use crate::types::java_string_hash;

/// Returns the code that a queue unit carries for a tag: Java's hash of the text, widened with its sign, and 0 for a
/// message without a tag.
pub(crate) fn tags_code(tag: Option<&str>) -> i64 {
    tag.map_or(0, |tag| i64::from(java_string_hash(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_tag_is_its_java_hash_with_the_sign_kept() {
        assert_eq!(tags_code(Some("TagA")), 0x27_A807);
        assert_eq!(tags_code(Some("polygenelubricants")), i64::from(i32::MIN));
        assert_eq!(tags_code(Some("")), 0);
        assert_eq!(tags_code(None), 0);
    }

    #[test]
    fn a11_two_tags_may_have_one_code() {
        assert_eq!(tags_code(Some("Aa")), tags_code(Some("BB")));
    }
}
