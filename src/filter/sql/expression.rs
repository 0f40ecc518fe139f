//! What does an SQL expression say of a message?
//!
//! A condition is true, false, or unknown, and only what is true is wanted. A property is a text; where a number or a
//! truth is asked for, it is read as one. One that cannot be read so makes the whole expression fail, and the message
//! is not wanted.

use std::cmp::Ordering;

/// A value: a property's, or one that stands in the expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// The property is missing.
    Null,
    Truth(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

/// An expression with a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Property(Box<str>),
    Text(Box<str>),
    Integer(i64),
    Float(f64),
    Truth(bool),
    Negated(Box<Operand>),
    /// The truth of a condition; unknown is no value.
    Condition(Box<Condition>),
}

/// An expression that is true, false or unknown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Constant(bool),
    /// `NULL` alone: never known.
    Unknown,
    /// A property that is to be read as `true` or `false`.
    Property(Box<str>),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    IsNull(Operand),
    Equal(Operand, Operand),
    Ordered(Operand, Comparison, Operand),
    /// The property has one of these texts.
    In(Box<str>, Vec<Box<str>>),
    /// The property's text contains this one, at the place.
    Holds(Operand, Part, Box<str>),
}

/// How two numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Where in a text another one is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Anywhere,
    Start,
    End,
}

/// The value of a property is not what the expression needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit;

/// True, false, or unknown; or a property that cannot be read as what is needed.
pub(super) type Verdict = Result<Option<bool>, Unfit>;

/// Where the values of properties come from.
pub(super) type Lookup<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

impl Operand {
    fn value<'a>(&'a self, lookup: &Lookup<'a>) -> Result<Value<'a>, Unfit> {
        Ok(match self {
            Self::Property(name) => lookup(name).map_or(Value::Null, Value::Text),
            Self::Text(text) => Value::Text(text),
            Self::Integer(number) => Value::Integer(*number),
            Self::Float(number) => Value::Float(*number),
            Self::Truth(truth) => Value::Truth(*truth),
            Self::Condition(condition) => condition.judge(lookup)?.map_or(Value::Null, Value::Truth),
            Self::Negated(operand) => match operand.value(lookup)? {
                Value::Text(text) => negate(number(text)?)?,
                value => negate(value)?,
            },
        })
    }
}

fn negate(value: Value<'_>) -> Result<Value<'_>, Unfit> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Integer(number) => number.checked_neg().map(Value::Integer).ok_or(Unfit),
        Value::Float(number) => Ok(Value::Float(-number)),
        Value::Truth(_) | Value::Text(_) => Err(Unfit),
    }
}

/// Reads a text as a number: a whole one if it is one.
fn number(text: &str) -> Result<Value<'_>, Unfit> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Ok(Value::Integer(number));
    }
    let number: f64 = text.parse().map_err(|_| Unfit)?;
    if number.is_finite() { Ok(Value::Float(number)) } else { Err(Unfit) }
}

fn truth(text: &str) -> Result<bool, Unfit> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Unfit),
    }
}

impl Condition {
    /// Judges a message.
    pub(super) fn judge<'a>(&'a self, lookup: &Lookup<'a>) -> Verdict {
        match self {
            Self::Constant(truth) => Ok(Some(*truth)),
            Self::Unknown => Ok(None),
            Self::Property(name) => lookup(name).map(truth).transpose(),
            Self::Not(condition) => Ok(condition.judge(lookup)?.map(|truth| !truth)),
            Self::All(conditions) => join(conditions, lookup, false),
            Self::Any(conditions) => join(conditions, lookup, true),
            Self::IsNull(operand) => Ok(Some(operand.value(lookup)? == Value::Null)),
            Self::Equal(left, right) => equal(left.value(lookup)?, right.value(lookup)?),
            Self::Ordered(left, comparison, right) => {
                let (left, right) = (left.value(lookup)?, right.value(lookup)?);
                Ok(order(left, right)?.map(|found| comparison.holds(found)))
            }
            Self::In(name, texts) => Ok(lookup(name).map(|value| texts.iter().any(|text| **text == *value))),
            Self::Holds(operand, part, wanted) => match operand.value(lookup)? {
                Value::Text(text) => Ok(Some(part.holds(text, wanted))),
                Value::Null => Ok(None),
                _ => Ok(Some(false)),
            },
        }
    }
}

/// Joins conditions by *and* or by *or*: the first one that `decides` ends it, else one that is unknown leaves all so.
fn join<'a>(conditions: &'a [Condition], lookup: &Lookup<'a>, decides: bool) -> Verdict {
    let mut joined = Some(!decides);
    for condition in conditions {
        match condition.judge(lookup)? {
            Some(truth) if truth == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => joined = None,
        }
    }
    Ok(joined)
}

fn equal(left: Value<'_>, right: Value<'_>) -> Verdict {
    Ok(Some(match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::Truth(left), Value::Truth(right)) => left == right,
        (Value::Truth(known), Value::Text(text)) | (Value::Text(text), Value::Truth(known)) => {
            // As Java reads a truth: everything else is false.
            known == text.eq_ignore_ascii_case("true")
        }
        (Value::Truth(_), _) | (_, Value::Truth(_)) => false,
        _ => return Ok(order(left, right)?.map(|found| found == Ordering::Equal)),
    }))
}

/// Compares two values as numbers; `None` where one is missing.
fn order(left: Value<'_>, right: Value<'_>) -> Result<Option<Ordering>, Unfit> {
    let as_number = |value| match value {
        Value::Text(text) => number(text),
        Value::Truth(_) => Err(Unfit),
        value => Ok(value),
    };
    if left == Value::Null || right == Value::Null {
        return Ok(None);
    }
    match (as_number(left)?, as_number(right)?) {
        (Value::Integer(left), Value::Integer(right)) => Ok(Some(left.cmp(&right))),
        (Value::Integer(left), Value::Float(right)) => mixed(left, right),
        (Value::Float(left), Value::Integer(right)) => Ok(mixed(right, left)?.map(Ordering::reverse)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(&right).map(Some).ok_or(Unfit),
        _ => Err(Unfit),
    }
}

/// Compares a whole number with another one, exactly: a float cannot hold every one of 64 bits.
fn mixed(whole: i64, float: f64) -> Result<Option<Ordering>, Unfit> {
    // Beyond 2^63 the float lies outside of all whole numbers.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return Err(Unfit);
    }
    if float >= BEYOND {
        return Ok(Some(Ordering::Less));
    }
    if float < -BEYOND {
        return Ok(Some(Ordering::Greater));
    }
    let floor = float.floor();
    // In range and whole: its text is that of the integer.
    let floored: i64 = format!("{floor:.0}").parse().map_err(|_| Unfit)?;
    let fraction = if float > floor { Ordering::Less } else { Ordering::Equal };
    Ok(Some(whole.cmp(&floored).then(fraction)))
}

impl Comparison {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

impl Part {
    fn holds(self, text: &str, wanted: &str) -> bool {
        match self {
            Self::Anywhere => text.contains(wanted),
            Self::Start => text.starts_with(wanted),
            Self::End => text.ends_with(wanted),
        }
    }
}
