//! Which words does an SQL expression consist of, and where do they stand?

use super::Fault;

/// A word of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A property's name.
    Name(Box<str>),
    /// A text between single quotes; two of them inside stand for one.
    Text(Box<str>),
    Integer(i64),
    Float(f64),
    Word(Word),
    Symbol(Symbol),
    End,
}

/// A word that means something, however it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Not,
    And,
    Or,
    Between,
    In,
    Is,
    Null,
    True,
    False,
    Contains,
    StartsWith,
    EndsWith,
}

/// A sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
}

impl Symbol {
    /// Returns the sign as it is written.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }
}

const WORDS: [(&str, Word); 12] = [
    ("NOT", Word::Not),
    ("AND", Word::And),
    ("OR", Word::Or),
    ("BETWEEN", Word::Between),
    ("IN", Word::In),
    ("IS", Word::Is),
    ("NULL", Word::Null),
    ("TRUE", Word::True),
    ("FALSE", Word::False),
    ("CONTAINS", Word::Contains),
    ("STARTSWITH", Word::StartsWith),
    ("ENDSWITH", Word::EndsWith),
];

/// A word and the column at which it begins, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) column: usize,
}

/// Splits an expression into its words. Comments (`-- …` to the end of the line, `/* … */`) are passed over.
pub(super) fn split(text: &str) -> Result<Vec<Placed>, Fault> {
    let mut lexer = Lexer { text, rest: text };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let column = lexer.column();
        let token = lexer.next_token()?;
        let done = token == Token::End;
        tokens.push(Placed { token, column });
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn column(&self) -> usize {
        let read = self.text.len().saturating_sub(self.rest.len());
        self.text.get(..read).map_or(0, |read| read.chars().count()).saturating_add(1)
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { column: self.column(), what: what.into() }
    }

    /// Takes so many bytes, which end at the end of a character.
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let len = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.take(len)
    }

    fn skip_blanks(&mut self) -> Result<(), Fault> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest.starts_with("--") {
                self.take_while(|c| c != '\n');
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let len = comment.find("*/").ok_or_else(|| self.fault("the comment does not end"))?;
                self.take(len.saturating_add(4));
            } else {
                return Ok(());
            }
        }
    }

    fn next_token(&mut self) -> Result<Token, Fault> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        let after = self.rest.get(first.len_utf8()..).and_then(|rest| rest.chars().next());
        let (symbol, len) = match (first, after) {
            ('<', Some('>')) => (Symbol::NotEqual, 2),
            ('<', Some('=')) => (Symbol::LessOrEqual, 2),
            ('>', Some('=')) => (Symbol::GreaterOrEqual, 2),
            ('<', _) => (Symbol::Less, 1),
            ('>', _) => (Symbol::Greater, 1),
            ('=', _) => (Symbol::Equal, 1),
            ('(', _) => (Symbol::Open, 1),
            (')', _) => (Symbol::Close, 1),
            (',', _) => (Symbol::Comma, 1),
            ('+', _) => (Symbol::Plus, 1),
            ('-', _) => (Symbol::Minus, 1),
            ('\'', _) => return self.text_literal(),
            ('0'..='9', _) | ('.', Some('0'..='9')) => return self.number(),
            _ if is_name_start(first) => return Ok(self.name()),
            _ => {
                let cure = if first == '"' { ": texts stand between single quotes" } else { "" };
                return Err(self.fault(format!("{first:?} means nothing here{cure}")));
            }
        };
        self.take(len);
        Ok(Token::Symbol(symbol))
    }

    fn text_literal(&mut self) -> Result<Token, Fault> {
        let start = self.fault("the text that begins here has no closing quote");
        self.take(1);
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|c| c != '\''));
            if self.rest.starts_with("''") {
                self.take(2);
                text.push('\'');
            } else if self.rest.is_empty() {
                return Err(start);
            } else {
                self.take(1);
                return Ok(Token::Text(text.into()));
            }
        }
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.rest;
        let begin = self.column();
        self.take_while(|c| c.is_ascii_digit());
        let mut is_float = false;
        if self.rest.starts_with('.') {
            is_float = true;
            self.take(1);
            self.take_while(|c| c.is_ascii_digit());
        }
        if let Some(exponent) = self.rest.strip_prefix(['e', 'E']) {
            let signed = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if signed.starts_with(|c: char| c.is_ascii_digit()) {
                is_float = true;
                self.take(1_usize.saturating_add(exponent.len().saturating_sub(signed.len())));
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let len = start.len().saturating_sub(self.rest.len());
        let digits = start.get(..len).unwrap_or_default();
        if !is_float {
            // Java's suffix of a long number.
            let suffix = self.rest.starts_with(['l', 'L']);
            self.take(usize::from(suffix));
        }
        if self.rest.starts_with(is_name_part) {
            return Err(Fault { column: begin, what: format!("{digits} runs into a name") });
        }
        let wrong = || Fault { column: begin, what: format!("the number {digits} is out of range") };
        if is_float {
            let value: f64 = digits.parse().map_err(|_| wrong())?;
            return if value.is_finite() { Ok(Token::Float(value)) } else { Err(wrong()) };
        }
        digits.parse().map(Token::Integer).map_err(|_| wrong())
    }

    fn name(&mut self) -> Token {
        let name = self.take_while(is_name_part);
        let word = WORDS.iter().find(|(text, _)| text.eq_ignore_ascii_case(name));
        word.map_or_else(|| Token::Name(name.into()), |(_, word)| Token::Word(*word))
    }
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn is_name_part(c: char) -> bool {
    is_name_start(c) || c.is_numeric()
}
