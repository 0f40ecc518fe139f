//! How are the words of an SQL expression put together?
//!
//! ```text
//! or         = and ("OR" and)*
//! and        = negation ("AND" negation)*
//! negation   = "NOT"* equality
//! equality   = comparison (("=" | "<>") comparison | "IS" "NOT"? "NULL")*
//! comparison = unary (("<" | "<=" | ">" | ">=") unary | "NOT"? "BETWEEN" unary "AND" unary
//!            | "NOT"? "IN" "(" text ("," text)* ")" | "NOT"? ("CONTAINS" | "STARTSWITH" | "ENDSWITH") text)*
//! unary      = ("+" | "-" | "NOT")* (number | text | "TRUE" | "FALSE" | "NULL" | name | "(" or ")")
//! ```

use super::expression::{Comparison, Condition, Operand, Part};
use super::lexer::{Placed, Symbol, Token, Word};
use super::{DEPTH_MAX, Fault};

/// What has been read: it is decided by what follows whether it is an operand or a condition.
enum Term {
    Operand(Operand),
    Condition(Condition),
    /// The word `NULL`, which only a condition by itself may be.
    Null,
}

/// A part of an expression, where it begins, and how deep it is nested.
struct Piece {
    term: Term,
    column: usize,
    depth: usize,
}

pub(super) struct Parser<'a> {
    tokens: &'a [Placed],
    /// How many brackets and signs are open.
    open: usize,
}

impl<'a> Parser<'a> {
    /// Reads a whole expression.
    pub(super) fn read(tokens: &'a [Placed]) -> Result<Condition, Fault> {
        let mut parser = Self { tokens, open: 0 };
        let whole = parser.any()?;
        match parser.next() {
            (Token::End, _) => whole.into_condition(),
            (token, column) => Err(unexpected(&token, column, "AND, OR or the end")),
        }
    }

    fn peek(&self) -> &Token {
        self.tokens.first().map_or(&Token::End, |placed| &placed.token)
    }

    fn column(&self) -> usize {
        self.tokens.first().map_or(1, |placed| placed.column)
    }

    fn next(&mut self) -> (Token, usize) {
        match self.tokens.split_first() {
            // The end stays, however often it is asked for.
            Some((first, rest)) if !rest.is_empty() => {
                self.tokens = rest;
                (first.token.clone(), first.column)
            }
            Some((first, _)) => (first.token.clone(), first.column),
            None => (Token::End, 1),
        }
    }

    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.next();
        }
        found
    }

    fn accept_word(&mut self, word: Word) -> bool {
        self.accept(&Token::Word(word))
    }

    fn expect(&mut self, token: &Token, wanted: &str) -> Result<(), Fault> {
        if self.accept(token) {
            return Ok(());
        }
        let (found, column) = self.next();
        Err(unexpected(&found, column, wanted))
    }

    fn any(&mut self) -> Result<Piece, Fault> {
        self.list(Word::Or, Self::all, Condition::Any)
    }

    fn all(&mut self) -> Result<Piece, Fault> {
        self.list(Word::And, Self::negation, Condition::All)
    }

    /// Reads conditions with a word between them: side by side, so that a long list is not a deep one.
    fn list(
        &mut self,
        between: Word,
        part: impl Fn(&mut Self) -> Result<Piece, Fault>,
        join: impl Fn(Vec<Condition>) -> Condition,
    ) -> Result<Piece, Fault> {
        let first = part(self)?;
        if *self.peek() != Token::Word(between) {
            return Ok(first);
        }
        let (column, mut depth) = (first.column, first.depth);
        let mut conditions = vec![first.into_condition()?];
        while self.accept_word(between) {
            let next = part(self)?;
            depth = depth.max(next.depth);
            conditions.push(next.into_condition()?);
        }
        condition(join(conditions), column, depth)
    }

    /// Reads a comparison, or the opposite of one: `NOT a = 1` is `NOT (a = 1)`, as in SQL.
    fn negation(&mut self) -> Result<Piece, Fault> {
        let column = self.column();
        let mut count = 0_usize;
        while self.accept_word(Word::Not) {
            count = count.saturating_add(1);
        }
        let mut inside = self.equality()?;
        for _ in 0..count {
            let depth = inside.depth;
            inside = condition(Condition::Not(Box::new(inside.into_condition()?)), column, depth)?;
        }
        Ok(inside)
    }

    fn equality(&mut self) -> Result<Piece, Fault> {
        let mut left = self.comparison()?;
        loop {
            let (column, depth) = (left.column, left.depth);
            if self.accept(&Token::Symbol(Symbol::Equal)) {
                left = self.equal(left)?;
            } else if self.accept(&Token::Symbol(Symbol::NotEqual)) {
                let equal = self.equal(left)?;
                let depth = equal.depth;
                left = condition(Condition::Not(Box::new(equal.into_condition()?)), column, depth)?;
            } else if self.accept_word(Word::Is) {
                let not = self.accept_word(Word::Not);
                self.expect(&Token::Word(Word::Null), "NULL")?;
                let is_null = match left.term {
                    Term::Null => Condition::Constant(true),
                    term => Condition::IsNull(operand_of(term)),
                };
                left = condition(negated(is_null, not), column, depth)?;
            } else {
                return Ok(left);
            }
        }
    }

    fn equal(&mut self, left: Piece) -> Result<Piece, Fault> {
        let right = self.comparison()?;
        let (column, depth) = (left.column, left.depth.max(right.depth));
        let equal = Condition::Equal(left.into_operand()?, right.into_operand()?);
        condition(equal, column, depth)
    }

    fn comparison(&mut self) -> Result<Piece, Fault> {
        let mut left = self.unary()?;
        loop {
            let comparison = match self.peek() {
                Token::Symbol(Symbol::Less) => Comparison::Less,
                Token::Symbol(Symbol::LessOrEqual) => Comparison::LessOrEqual,
                Token::Symbol(Symbol::Greater) => Comparison::Greater,
                Token::Symbol(Symbol::GreaterOrEqual) => Comparison::GreaterOrEqual,
                Token::Word(Word::Not | Word::Between | Word::In) => {
                    left = self.test(left)?;
                    continue;
                }
                Token::Word(Word::Contains | Word::StartsWith | Word::EndsWith) => {
                    left = self.test(left)?;
                    continue;
                }
                _ => return Ok(left),
            };
            self.next();
            let right = self.unary()?;
            let (column, depth) = (left.column, left.depth.max(right.depth));
            let ordered = Condition::Ordered(left.into_number()?, comparison, right.into_number()?);
            left = condition(ordered, column, depth)?;
        }
    }

    /// Reads what may stand behind `NOT` as well.
    fn test(&mut self, left: Piece) -> Result<Piece, Fault> {
        let (column, depth) = (left.column, left.depth);
        let not = self.accept_word(Word::Not);
        let (token, at) = self.next();
        let tested = match token {
            Token::Word(Word::Between) => return self.between(left, not),
            Token::Word(Word::In) => self.is_in(left)?,
            Token::Word(Word::Contains) => self.holds(left, Part::Anywhere)?,
            Token::Word(Word::StartsWith) => self.holds(left, Part::Start)?,
            Token::Word(Word::EndsWith) => self.holds(left, Part::End)?,
            token => {
                return Err(unexpected(&token, at, "BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH"));
            }
        };
        condition(negated(tested, not), column, depth)
    }

    fn between(&mut self, value: Piece, not: bool) -> Result<Piece, Fault> {
        let low = self.unary()?;
        let column = low.column;
        self.expect(&Token::Word(Word::And), "AND and the upper bound")?;
        let high = self.unary()?;
        let (start, depth) = (value.column, value.depth.max(low.depth).max(high.depth));
        let (value, low, high) = (value.into_number()?, low.into_number()?, high.into_number()?);
        if is_empty_range(&low, &high) {
            let what = "the lower bound of BETWEEN is above the upper one".to_owned();
            return Err(Fault { column, what });
        }
        let above = Condition::Ordered(value.clone(), Comparison::GreaterOrEqual, low);
        let within = Condition::All(vec![above, Condition::Ordered(value, Comparison::LessOrEqual, high)]);
        condition(negated(within, not), start, depth)
    }

    fn is_in(&mut self, left: Piece) -> Result<Condition, Fault> {
        let Term::Operand(Operand::Property(name)) = left.term else {
            let what = "only a property can be IN a list".to_owned();
            return Err(Fault { column: left.column, what });
        };
        self.expect(&Token::Symbol(Symbol::Open), "( and a list of texts")?;
        let mut texts = vec![self.text()?];
        while self.accept(&Token::Symbol(Symbol::Comma)) {
            texts.push(self.text()?);
        }
        self.expect(&Token::Symbol(Symbol::Close), ", or )")?;
        Ok(Condition::In(name, texts))
    }

    fn holds(&mut self, left: Piece, part: Part) -> Result<Condition, Fault> {
        let wanted = self.text()?;
        Ok(Condition::Holds(left.into_operand()?, part, wanted))
    }

    fn text(&mut self) -> Result<Box<str>, Fault> {
        match self.next() {
            (Token::Text(text), _) => Ok(text),
            (token, column) => Err(unexpected(&token, column, "a text between single quotes")),
        }
    }

    fn unary(&mut self) -> Result<Piece, Fault> {
        let column = self.column();
        self.open = self.open.saturating_add(1);
        if self.open > DEPTH_MAX {
            return Err(too_deep(column));
        }
        let read = self.unary_inside(column);
        self.open = self.open.saturating_sub(1);
        read
    }

    fn unary_inside(&mut self, column: usize) -> Result<Piece, Fault> {
        let (token, _) = self.next();
        let operand = match token {
            Token::Name(name) => Operand::Property(name),
            Token::Text(text) => Operand::Text(text),
            Token::Integer(number) => Operand::Integer(number),
            Token::Float(number) => Operand::Float(number),
            Token::Word(Word::True) => Operand::Truth(true),
            Token::Word(Word::False) => Operand::Truth(false),
            Token::Word(Word::Null) => return Ok(Piece { term: Term::Null, column, depth: 1 }),
            Token::Symbol(Symbol::Open) => {
                let inside = self.any()?;
                self.expect(&Token::Symbol(Symbol::Close), ")")?;
                return Ok(inside);
            }
            Token::Symbol(Symbol::Plus) => return self.unary(),
            Token::Symbol(Symbol::Minus) => {
                let inside = self.unary()?;
                let depth = inside.depth;
                let term = Term::Operand(negative(inside.into_number()?));
                return nested(Piece { term, column, depth });
            }
            Token::Word(Word::Not) => {
                let inside = self.unary()?;
                let depth = inside.depth;
                return condition(Condition::Not(Box::new(inside.into_condition()?)), column, depth);
            }
            token => return Err(unexpected(&token, column, "a property, a number, a text or (")),
        };
        Ok(Piece { term: Term::Operand(operand), column, depth: 1 })
    }
}

fn condition(condition: Condition, column: usize, depth: usize) -> Result<Piece, Fault> {
    nested(Piece { term: Term::Condition(condition), column, depth })
}

/// Counts one more level.
fn nested(part: Piece) -> Result<Piece, Fault> {
    let depth = part.depth.saturating_add(1);
    if depth > DEPTH_MAX { Err(too_deep(part.column)) } else { Ok(Piece { depth, ..part }) }
}

fn too_deep(column: usize) -> Fault {
    Fault { column, what: format!("the expression is nested deeper than {DEPTH_MAX} levels") }
}

fn negated(condition: Condition, not: bool) -> Condition {
    if not { Condition::Not(Box::new(condition)) } else { condition }
}

fn negative(operand: Operand) -> Operand {
    match operand {
        Operand::Integer(number) => Operand::Integer(number.saturating_neg()),
        Operand::Float(number) => Operand::Float(-number),
        operand => Operand::Negated(Box::new(operand)),
    }
}

fn is_empty_range(low: &Operand, high: &Operand) -> bool {
    match (low, high) {
        (Operand::Integer(low), Operand::Integer(high)) => low > high,
        (Operand::Float(low), Operand::Float(high)) => low > high,
        _ => false,
    }
}

fn operand_of(term: Term) -> Operand {
    match term {
        Term::Operand(operand) => operand,
        Term::Condition(condition) => Operand::Condition(Box::new(condition)),
        Term::Null => Operand::Condition(Box::new(Condition::Unknown)),
    }
}

impl Piece {
    /// Takes what must have a value.
    fn into_operand(self) -> Result<Operand, Fault> {
        match self.term {
            Term::Null => {
                Err(Fault { column: self.column, what: "NULL equals nothing: write IS NULL".to_owned() })
            }
            term => Ok(operand_of(term)),
        }
    }

    /// Takes what is compared by size.
    fn into_number(self) -> Result<Operand, Fault> {
        let what = match &self.term {
            Term::Operand(Operand::Text(text)) => format!("the text '{text}' has no size: compare numbers"),
            Term::Operand(Operand::Truth(_)) | Term::Condition(_) => {
                "a truth has no size: compare numbers".to_owned()
            }
            Term::Null => "NULL has no size: compare numbers".to_owned(),
            Term::Operand(_) => return self.into_operand(),
        };
        Err(Fault { column: self.column, what })
    }

    /// Takes what must be true or false.
    fn into_condition(self) -> Result<Condition, Fault> {
        match self.term {
            Term::Condition(condition) => Ok(condition),
            Term::Null => Ok(Condition::Unknown),
            Term::Operand(Operand::Truth(truth)) => Ok(Condition::Constant(truth)),
            Term::Operand(Operand::Property(name)) => Ok(Condition::Property(name)),
            Term::Operand(Operand::Condition(condition)) => Ok(*condition),
            Term::Operand(_) => {
                let what = "this is not true or false: compare it with something".to_owned();
                Err(Fault { column: self.column, what })
            }
        }
    }
}

fn unexpected(found: &Token, column: usize, wanted: &str) -> Fault {
    let found = match found {
        Token::End => "the expression ends".to_owned(),
        Token::Name(name) => format!("the name {name} stands"),
        Token::Text(_) => "a text stands".to_owned(),
        Token::Integer(_) | Token::Float(_) => "a number stands".to_owned(),
        Token::Word(word) => format!("{} stands", format!("{word:?}").to_uppercase()),
        Token::Symbol(symbol) => format!("{:?} stands", symbol.text()),
    };
    Fault { column, what: format!("{found} where {wanted} is expected") }
}
