//! Which messages of a topic does a group want?

mod sql;
mod tag;

use std::fmt;

use crate::error::{Error, Result};
use crate::message::Properties;
use crate::message::properties::name;
use sql::Sql;
use tag::Tags;

/// What a consumer chooses from a topic: everything, the messages that have one of some tags, or those whose properties
/// fit an SQL expression.
///
/// Texts turn into filters: `*` or nothing is everything, `created || paid` is either of two tags. An expression is made
/// by [`Filter::sql`].
///
/// ```
/// use pocketmq::Filter;
///
/// assert_eq!(Filter::from(" paid ||created"), Filter::from("created || paid"));
/// assert!(Filter::from("created").accepts(Some("created")));
/// assert!(!Filter::from("created").accepts(None));
/// assert_eq!(Filter::from(""), Filter::all());
/// ```
#[doc(alias = "MessageSelector")]
#[doc(alias = "SubscriptionData")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    All,
    Tags(Tags),
    Sql(Sql),
}

impl Filter {
    /// Returns the filter that takes everything, messages without a tag as well.
    #[must_use]
    pub const fn all() -> Self {
        Self(Kind::All)
    }

    /// Reads a tag expression as RocketMQ does: tags separated by `||`, blanks around them and empty ones dropped.
    #[must_use]
    pub fn tags(expression: &str) -> Self {
        match expression.trim() {
            "" | "*" => Self::all(),
            list => Self(Kind::Tags(Tags::parse(list))),
        }
    }

    /// Reads an SQL92 expression over a message's properties, as RocketMQ does: `=`, `<>`, `<`, `<=`, `>`, `>=`,
    /// `[NOT] BETWEEN … AND …`, `[NOT] IN ('…', …)`, `IS [NOT] NULL`, `[NOT] CONTAINS`, `STARTSWITH` and `ENDSWITH`,
    /// joined by `AND`, `OR` and `NOT`, over numbers, texts between single quotes, `TRUE`, `FALSE` and the names of
    /// properties, `TAGS` and `KEYS` among them. Words may be written in either case, names may not.
    ///
    /// A comparison with a property that is missing is neither true nor false (`NOT` leaves it so), and only a message
    /// for which the expression is true is wanted. A property that is compared with a number is read as one; where it
    /// is none, the message is not wanted, and that is no error.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` names the column and what is expected there; also for an expression of more than 64 KiB or
    /// nested deeper than 64 levels.
    ///
    /// ```
    /// use pocketmq::Filter;
    ///
    /// let filter = Filter::sql("price > 10 AND region IN ('eu', 'us')")?;
    /// assert_eq!(filter.to_string(), "price > 10 AND region IN ('eu', 'us')");
    /// let error = Filter::sql("price > 'ten'").unwrap_err();
    /// assert!(error.to_string().contains("at column 9"));
    /// # Ok::<(), pocketmq::Error>(())
    /// ```
    #[doc(alias = "bySql")]
    #[doc(alias = "SQL92")]
    pub fn sql(expression: &str) -> Result<Self> {
        Sql::parse(expression).map(|sql| Self(Kind::Sql(sql)))
    }

    /// Tells exactly whether a message with this tag, or with none, and without other properties is wanted.
    #[must_use]
    pub fn accepts(&self, tag: Option<&str>) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Tags(tags) => tag.is_some_and(|tag| tags.contain(tag)),
            Kind::Sql(sql) => sql.accepts_tag(tag),
        }
    }

    /// Tells exactly whether a message with these properties is wanted.
    #[must_use]
    pub fn accepts_properties(&self, properties: Properties<'_>) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Tags(_) => self.accepts(properties.get(name::TAGS)),
            Kind::Sql(sql) => sql.accepts(properties),
        }
    }

    /// Tells from the code in a queue unit whether the message may be wanted. Two tags can have one code, and a unit
    /// may hold something else in place of it: what may be wanted has to be asked with [`accepts`](Self::accepts).
    pub(crate) fn may_accept_code(&self, code: i64) -> bool {
        match &self.0 {
            Kind::All | Kind::Sql(_) => true,
            Kind::Tags(tags) => tags.may_contain_code(code),
        }
    }

    /// Checks that some message can pass.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an expression of separators alone.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.0 {
            Kind::Tags(tags) if tags.is_empty() => Err(Error::argument(
                "filter",
                "names no tag: write * for all messages, or tags separated by ||",
            )),
            _ => Ok(()),
        }
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::all()
    }
}

impl From<&str> for Filter {
    fn from(expression: &str) -> Self {
        Self::tags(expression)
    }
}

impl From<String> for Filter {
    fn from(expression: String) -> Self {
        Self::tags(&expression)
    }
}

impl From<&String> for Filter {
    fn from(expression: &String) -> Self {
        Self::tags(expression)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::All => formatter.write_str("*"),
            Kind::Tags(tags) => tags.fmt(formatter),
            Kind::Sql(sql) => sql.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tags::tags_code;

    #[test]
    fn everything_is_wanted_by_a_star_and_by_nothing() {
        for expression in ["*", "", "  ", " * "] {
            let filter = Filter::from(expression);
            assert_eq!(filter, Filter::all());
            assert!(filter.accepts(None) && filter.accepts(Some("a")) && filter.may_accept_code(0));
        }
    }

    #[test]
    fn tags_are_trimmed_and_empty_ones_dropped() {
        let filter = Filter::from(" created||  || paid || created ");
        assert_eq!(filter.to_string(), "created || paid");
        assert_eq!(filter, Filter::from(String::from("paid || created")));
        assert!(filter.accepts(Some("paid")) && !filter.accepts(Some("created || paid")));
        assert!(!filter.accepts(None) && !filter.accepts(Some("")));
        assert!(Filter::from("a|b").accepts(Some("a|b")));
    }

    #[test]
    fn a11_tags_with_equal_codes_are_told_apart_by_their_text() {
        let filter = Filter::from("Aa");
        assert!(filter.may_accept_code(tags_code(Some("BB"))));
        assert!(!filter.accepts(Some("BB")) && filter.accepts(Some("Aa")));
        assert!(!filter.may_accept_code(tags_code(Some("Ab"))) && !filter.may_accept_code(0));
    }

    #[test]
    fn a_code_that_is_no_hash_is_decided_from_the_message() {
        let filter = Filter::from("created");
        for code in [i64::MIN, i64::from(i32::MIN) - 1, 1_700_000_000_000] {
            assert!(filter.may_accept_code(code), "{code}");
        }
    }

    #[test]
    fn a_filter_of_separators_alone_is_refused() {
        for expression in ["||", " || || "] {
            let error = Filter::from(expression).check().unwrap_err();
            assert!(error.to_string().contains("names no tag"), "{error}");
        }
        Filter::from("a").check().unwrap();
        Filter::all().check().unwrap();
    }
}
