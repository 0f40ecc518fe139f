//! How is JSON read that is not quite JSON? RocketMQ's fastjson writes numbers and whole objects as names of members.
//!
//! One pass turns such names into texts, so that a strict parser can take the rest: `{0:5}` becomes `{"0":5}`, and
//! `{{"a":1}:9}` becomes `{"{\"a\":1}":9}`.

use serde_json::Value;

/// The deepest nesting that is read.
const DEPTH_MAX: usize = 32;

/// Reads a text.
///
/// # Errors
///
/// What is wrong, with line and column.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_depth(text)?;
    let quoted = quote_names(text)?;
    serde_json::from_str(&quoted).map_err(|error| error.to_string())
}

fn check_depth(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut scanner = Scanner::new(text);
    while let Some((_, byte)) = scanner.next_outside_texts() {
        match byte {
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
    }
    Ok(())
}

/// Walks over bytes that are not inside texts.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    in_text: bool,
}

impl<'a> Scanner<'a> {
    const fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0, in_text: false }
    }

    fn next_outside_texts(&mut self) -> Option<(usize, u8)> {
        loop {
            let at = self.at;
            let byte = *self.bytes.get(at)?;
            self.at = at.saturating_add(1);
            match (self.in_text, byte) {
                (true, b'\\') => self.at = self.at.saturating_add(1),
                (true, b'"') => self.in_text = false,
                (true, _) => {}
                (false, b'"') => {
                    self.in_text = true;
                    return Some((at, byte));
                }
                (false, _) => return Some((at, byte)),
            }
        }
    }
}

/// Puts quotes around names that are numbers or objects.
fn quote_names(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len().saturating_add(64));
    let mut copied = 0;
    // For every open bracket: whether it is an object in which a name comes next.
    let mut open: Vec<Option<bool>> = Vec::new();
    let mut scanner = Scanner::new(text);
    while let Some((at, byte)) = scanner.next_outside_texts() {
        let expects_name = open.last().copied().flatten() == Some(true);
        match byte {
            b'{' if expects_name => {
                let end = end_of_object(text, at)
                    .ok_or_else(|| format!("an object used as a name does not end, from byte {at}"))?;
                out.push_str(text.get(copied..at).unwrap_or_default());
                let name = text.get(at..end).unwrap_or_default();
                out.push_str(&Value::from(compact(name)).to_string());
                copied = end;
                scanner.at = end;
                mark(&mut open, false);
            }
            b'{' => {
                mark(&mut open, false);
                open.push(Some(true));
            }
            b'[' => {
                mark(&mut open, false);
                open.push(None);
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => mark(&mut open, true),
            b'-' | b'0'..=b'9' if expects_name => {
                let end = scanner
                    .bytes
                    .iter()
                    .skip(at)
                    .position(|byte| !matches!(byte, b'-' | b'0'..=b'9'))
                    .map_or(text.len(), |len| at.saturating_add(len));
                out.push_str(text.get(copied..at).unwrap_or_default());
                out.push('"');
                out.push_str(text.get(at..end).unwrap_or_default());
                out.push('"');
                copied = end;
                scanner.at = end;
                mark(&mut open, false);
            }
            b'"' => mark(&mut open, false),
            _ => {}
        }
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Ok(out)
}

/// Says of the innermost object whether a name comes next.
fn mark(open: &mut [Option<bool>], name_next: bool) {
    if let Some(Some(expects)) = open.last_mut() {
        *expects = name_next;
    }
}

fn end_of_object(text: &str, start: usize) -> Option<usize> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: start, in_text: false };
    let mut depth = 0_usize;
    while let Some((at, byte)) = scanner.next_outside_texts() {
        match byte {
            b'{' => depth = depth.saturating_add(1),
            b'}' if depth == 1 => return Some(at.saturating_add(1)),
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Writes an object without the white space between its parts, so that equal ones are equal names.
fn compact(object: &str) -> String {
    serde_json::from_str::<Value>(object).map_or_else(|_| object.to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn c37_what_fastjson_writes_is_read() {
        let text = "{\"offsetTable\":{ \"T@g\":{0:5,1:7\n\t\t} , \"x\":{-3 : \"a,{0:1}\"}}}";
        assert_eq!(
            parse(text).unwrap(),
            json!({"offsetTable": {"T@g": {"0": 5, "1": 7}, "x": {"-3": "a,{0:1}"}}})
        );
        let text = "{\"offsetTable\":{{\n\t\"brokerName\":\"broker-a\",\n\t\"queueId\":0\n}:9}}";
        let name = "{\"brokerName\":\"broker-a\",\"queueId\":0}";
        assert_eq!(parse(text).unwrap(), json!({"offsetTable": {name: 9}}));
    }

    #[test]
    fn c37_a_byte_order_mark_line_ends_and_plain_json_are_read() {
        assert_eq!(
            parse("\u{feff}{\r\n\"a\":[1,{\"b\":\"\\\"{1:2}\"}]}").unwrap(),
            json!({"a": [1, {"b": "\"{1:2}"}]})
        );
    }

    #[test]
    fn c36_a_text_cut_short_anywhere_is_an_error_with_line_and_column() {
        let text = "{\"offsetTable\":{\"T@g\":{0:5,1:7}}}";
        for len in 0..text.len() {
            let error = parse(&text[..len]).unwrap_err();
            assert!(!error.is_empty());
        }
        assert!(parse("{\"a\":\n 1,,}").unwrap_err().contains("line 2"));
    }

    #[test]
    fn c38_deep_nesting_is_refused_before_it_is_parsed() {
        let text = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(parse(&text).unwrap_err().contains("nested"));
    }
}
