//! Does a message fit an SQL92 expression over its properties?
//!
//! The language is RocketMQ's, which is that of JMS selectors without `LIKE` and with `CONTAINS`, `STARTSWITH` and
//! `ENDSWITH`. Whatever somebody writes, reading and judging take a bounded depth, and time in proportion to the text.

mod expression;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::message::Properties;
use expression::Condition;
use parser::Parser;

/// The deepest nesting.
const DEPTH_MAX: usize = 64;
/// The longest expression, in bytes.
const LEN_MAX: usize = 64 << 10;

/// What is wrong with an expression, and at which column, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    column: usize,
    what: String,
}

/// An expression. Two are equal if their texts are.
#[derive(Debug, Clone)]
pub(super) struct Sql {
    text: Arc<str>,
    condition: Arc<Condition>,
}

impl Sql {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` names the column and what would be right there.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > LEN_MAX {
            let reason =
                format!("the expression has {} bytes, and at most {LEN_MAX} are allowed", text.len());
            return Err(Error::argument("filter", reason));
        }
        let read = lexer::split(text).and_then(|tokens| Parser::read(&tokens));
        match read {
            Ok(condition) => Ok(Self { text: text.into(), condition: Arc::new(condition) }),
            Err(Fault { column, what }) => {
                Err(Error::argument("filter", format!("{what}, at column {column} of {}", shown(text))))
            }
        }
    }

    /// Tells whether a message with these properties is wanted.
    pub(super) fn accepts(&self, properties: Properties<'_>) -> bool {
        self.condition.judge(&|name| properties.get(name)) == Ok(Some(true))
    }

    /// The same for a message of which only the tag is known.
    pub(super) fn accepts_tag(&self, tag: Option<&str>) -> bool {
        let lookup = |name: &str| tag.filter(|_| name == crate::message::properties::name::TAGS);
        self.condition.judge(&lookup) == Ok(Some(true))
    }
}

/// Returns the beginning of a text, to be shown in an error.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

impl PartialEq for Sql {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Sql {}

impl Hash for Sql {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for Sql {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}
