//! Is this tag one of those that were asked for?

use std::fmt;

use crate::message::tags::tags_code;

/// Some tags with their codes, in order and each once: equal expressions are equal sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Tags(Box<[(Box<str>, i64)]>);

impl Tags {
    pub(super) fn parse(list: &str) -> Self {
        let mut tags: Vec<(Box<str>, i64)> = list
            .split("||")
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .map(|tag| (tag.into(), tags_code(Some(tag))))
            .collect();
        tags.sort_unstable();
        tags.dedup();
        Self(tags.into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contain(&self, tag: &str) -> bool {
        self.0.iter().any(|(other, _)| **other == *tag)
    }

    /// Tells whether a message with this code may have one of the tags. What does not fit 32 bits is no tag's code: the
    /// time of a delayed message, or the place of an entry in `consumequeue_ext`.
    pub(super) fn may_contain_code(&self, code: i64) -> bool {
        i32::try_from(code).is_err() || self.0.iter().any(|(_, other)| *other == code)
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, (tag, _)) in self.0.iter().enumerate() {
            if count > 0 {
                formatter.write_str(" || ")?;
            }
            formatter.write_str(tag)?;
        }
        Ok(())
    }
}
