//! Does the house keep its own rules: floors, short files, a first line that says what for, unsafe code in one place?
//!
//! Each rule is a function from sources to problems, so that the second half of this file can show that it fails on bad
//! input: a checker that finds nothing anywhere would pass for ever.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Modules by floor: each imports only from lower floors, and modules of one floor never import each other.
const FLOORS: [&[&str]; 13] = [
    &["types", "sync"],
    &["error", "events"],
    &["clock"],
    &["message", "config"],
    &["filter", "storage"],
    &["commitlog", "consumequeue", "index"],
    &["broker"],
    &["delay", "txn", "replica", "lease", "dedup"],
    &["cluster"],
    &["producer", "consumer"],
    &["admin"],
    &["store"],
    &["testing"],
];

/// Lines without tests above which a file fails.
const LINES_MAX: usize = 600;

/// The comparison with peers: a workspace of its own that the crate never compiles, whose probes of the machine map files.
const PEERS: &str = "benches/peers/";

/// The only file of the crate that may hold unsafe code.
const UNSAFE_FILE: &str = "src/storage/mapped_file.rs";

/// Folders of the repository; a word in backticks that starts with one of them is taken for a path.
const FOLDERS: [&str; 7] = ["src", "docs", "tests", "benches", "examples", "fuzz", ".ci"];

/// Rows of the table of RocketMQ's features in `docs/rocketmq.md`.
const FEATURES: u32 = 148;

/// Faults that must each have a test: bad arguments (a), bad settings and folders (b), damaged files (c).
const CASES: [(&str, &[u32]); 3] = [
    ("a", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 26, 28]),
    ("b", &[1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]),
    (
        "c",
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
            27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 50, 51,
            53,
        ],
    ),
];

// ---- Reading ----

/// One Rust file: its path from the root of the repository, its text, and the text without comments and literals.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank_comments_and_literals(text) }
    }

    /// The top-level module that the file belongs to: `storage` for `src/storage/json.rs`, `None` outside `src/`.
    fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        Some(inner.split('/').next()?.trim_end_matches(".rs"))
    }

    /// How many modules lie between the file and the crate's root: 1 for `src/x.rs` and `src/x/mod.rs`.
    fn depth(&self) -> usize {
        let parts = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file of the four folders, in the order of its path; fixtures are data.
fn repository() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        collect(&root().join(folder), &mut sources);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        // Fixtures are not ours to style, and what a build leaves is not ours at all.
        if path.ends_with("fixtures") || path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            sources.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The text with comments, strings and character literals overwritten by spaces, byte for byte in place.
fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment_end(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts there.
fn literal_or_comment_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment_len(rest);
    }
    if rest[0] == b'"' {
        return at + quoted_len(rest, b'"');
    }
    let after_word = at > 0 && is_word(bytes[at - 1]);
    if rest[0] == b'r' && !after_word || rest[0] == b'r' && at > 0 && matches!(bytes[at - 1], b'b' | b'c') {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &rest[2 + hashes..];
            let len = body.windows(close.len()).position(|window| window == close.as_bytes());
            return at + 2 + hashes + len.map_or(body.len(), |len| len + close.len());
        }
    }
    // A quote opens a character only if it closes after one character or an escape; else it is a lifetime.
    if rest[0] == b'\'' {
        let width = rest.get(1).map_or(1, |byte| {
            if *byte >= 0xf0 {
                4
            } else if *byte >= 0xe0 {
                3
            } else {
                1 + usize::from(*byte >= 0xc0)
            }
        });
        if rest.get(1) == Some(&b'\\') || rest.get(1 + width) == Some(&b'\'') {
            return at + quoted_len(rest, b'\'');
        }
    }
    at
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands in `text` with no letter, digit or underscore beside it.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).map(|before| text.as_bytes()[before]);
        let after = text.as_bytes().get(at + word.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

// ---- Test code ----

/// The code of a file without the items behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    for item in test_items(code) {
        // Newlines stay, so that the line numbers of what follows do.
        let blank: String = code[item.clone()].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        out.replace_range(item.clone(), &format!("{blank:width$}", width = item.len()));
    }
    out
}

/// Where the items behind `#[cfg(test)]` stand, the attribute included.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let (mut items, mut from) = (Vec::new(), 0);
    while let Some(at) = code[from..].find(MARK).map(|at| from + at) {
        from = at + MARK.len() + item_len(&code[at + MARK.len()..]);
        items.push(at..from);
    }
    items
}

/// The length of the item at the head: up to its first `;` or to the end of its first block of braces.
fn item_len(item: &str) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, byte) in item.bytes().enumerate() {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.saturating_sub(1),
            b'{' => braces += 1,
            b'}' if braces <= 1 => {
                // `use a::{b};` goes on to its semicolon.
                let semicolon = item[at + 1..].trim_start().starts_with(';');
                return if semicolon { at + 1 + item[at + 1..].find(';').unwrap_or(0) + 1 } else { at + 1 };
            }
            b'}' => braces -= 1,
            b';' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Paths of the files that hold only tests: those declared by `#[cfg(test)] mod name;`, with or without a `#[path]`.
fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src/")) {
        let own = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let head = ["/mod.rs", "/lib.rs"].iter().any(|name| source.path.ends_with(name));
        let inner = if head { own } else { source.path.trim_end_matches(".rs") };
        for item in test_items(&source.code) {
            let code = &source.code[item.clone()];
            let Some(name) = code.strip_suffix(';').and_then(|code| code.rsplit_once("mod ")) else {
                continue;
            };
            files.insert(format!("{inner}/{}.rs", name.1));
            files.insert(format!("{inner}/{}/mod.rs", name.1));
            if let Some((_, path)) = source.text[item].split_once("#[path = \"") {
                files.insert(format!("{own}/{}", path.split('"').next().unwrap_or(path)));
            }
        }
    }
    files
}

// ---- Rules ----

/// Floors: what each module imports by `crate::` or by climbing with `super::`.
fn floor_problems(sources: &[Source]) -> Vec<String> {
    let tests = test_files(sources);
    let mut problems = Vec::new();
    for source in sources {
        let Some(module) = source.module() else { continue };
        if module == "lib" || module == "bin" || tests.contains(&source.path) {
            continue;
        }
        let Some(floor) = floor_of(module) else {
            problems.push(format!("{}: module {module} has no floor", source.path));
            continue;
        };
        let code = without_tests(&source.code);
        for (at, name) in imports(&code, source.depth()) {
            let place = format!("{}:{}", source.path, line_of(&code, at));
            match floor_of(&name) {
                _ if name == module => {}
                None => problems.push(format!("{place}: crate::{name} is not a module of the floor table; import from the module that owns it")),
                Some(other) if other >= floor => {
                    problems.push(format!("{place}: {module} (floor {floor}) imports {name} (floor {other})"));
                }
                Some(_) => {}
            }
        }
    }
    problems
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The first name after each path that reaches the crate's root, with where it stands.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        if let Some(tail) = path_tail(&code[at + "crate".len()..]) {
            found.extend(first_names(tail).into_iter().map(|name| (at, name)));
        }
    }
    for at in words(code, "super") {
        // Only the head of a chain counts: `super::super` is one climb of two.
        if code[..at].trim_end().ends_with("::") {
            continue;
        }
        let (mut climbed, mut rest) = (1, &code[at + "super".len()..]);
        while let Some(tail) = path_tail(rest) {
            if let Some(next) =
                tail.strip_prefix("super").filter(|next| !next.bytes().next().is_some_and(is_word))
            {
                climbed += 1;
                rest = next;
                continue;
            }
            if climbed >= depth {
                found.extend(first_names(tail).into_iter().map(|name| (at, name)));
            }
            break;
        }
    }
    found
}

fn path_tail(rest: &str) -> Option<&str> {
    rest.trim_start().strip_prefix("::").map(str::trim_start)
}

/// `a` of `a::b`, or `a` and `c` of `{a::b, c::{d, e}}`.
fn first_names(tail: &str) -> Vec<String> {
    let Some(group) = tail.strip_prefix('{') else {
        let end = tail.bytes().position(|byte| !is_word(byte)).unwrap_or(tail.len());
        return if end == 0 { vec![tail.chars().take(1).collect()] } else { vec![tail[..end].to_owned()] };
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => {
                let part = group[start..at].trim();
                if !part.is_empty() {
                    names.extend(first_names(part));
                }
                start = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn length_problems(sources: &[Source]) -> Vec<String> {
    let tests = test_files(sources);
    let counted =
        sources.iter().filter(|source| !source.path.starts_with("tests/") && !tests.contains(&source.path));
    counted
        .filter_map(|source| {
            let tested = test_items(&source.code).into_iter().map(|item| source.code[item].lines().count());
            let lines = source.text.lines().count() - tested.sum::<usize>();
            (lines > LINES_MAX).then(|| format!("{}: {lines} lines without tests", source.path))
        })
        .collect()
}

fn head_problems(sources: &[Source]) -> Vec<String> {
    let bare = sources.iter().filter(|source| !source.text.starts_with("//! "));
    bare.map(|source| format!("{}: does not open with a `//!` line", source.path)).collect()
}

fn unsafe_problems(sources: &[Source]) -> Vec<String> {
    let others =
        sources.iter().filter(|source| source.path != UNSAFE_FILE && !source.path.starts_with(PEERS));
    others
        .flat_map(|source| {
            words(&source.code, "unsafe")
                .map(|at| format!("{}:{}: unsafe code", source.path, line_of(&source.code, at)))
        })
        .collect()
}

/// Open ends: macros that stand for missing code, and the words that promise it.
fn open_end_problems(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        for name in ["todo", "unimplemented"] {
            let calls =
                words(&source.code, name).filter(|at| source.code[at + name.len()..].starts_with('!'));
            problems.extend(calls.map(|at| format!("{}:{}: {name}", source.path, line_of(&source.code, at))));
        }
        for word in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            let notes = words(&source.text, word);
            problems.extend(notes.map(|at| format!("{}:{}: {word}", source.path, line_of(&source.text, at))));
        }
    }
    problems
}

/// Words in backticks and targets of links that look like paths of the repository, and do not exist.
fn path_problems(document: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let missing = document_paths(text).into_iter().filter(|path| !exists(path));
    missing.map(|path| format!("{document}: {path} does not exist")).collect()
}

fn document_paths(text: &str) -> BTreeSet<String> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let paths = in_backticks(text).into_iter().filter(|word| {
        let folder = word.split('/').next().is_some_and(|head| FOLDERS.contains(&head) && word.contains('/'));
        let file = [".rs", ".md", ".toml"].iter().any(|end| word.ends_with(end));
        (folder || file) && !word.contains(|c: char| c.is_whitespace() || "<>*…({:".contains(c))
    });
    links.chain(paths).map(|path| path.split('#').next().unwrap_or(path).to_owned()).collect()
}

/// Every word between single backticks, outside fenced blocks.
fn in_backticks(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.lines()).flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Names of at least three words that a document gives in backticks, of which no function is defined.
fn name_problems(document: &str, text: &str, functions: &BTreeSet<&str>) -> Vec<String> {
    let names = in_backticks(text).into_iter().filter(|name| {
        // RocketMQ's own topics look like names of tests.
        !name.starts_with("rmq_sys_")
            && name.matches('_').count() >= 3
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    });
    names
        // A figure has the crate's name before its own.
        .filter(|name| !functions.contains(name) && !name.starts_with("pocketmq_"))
        .map(|name| format!("{document}: no test is called {name}"))
        .collect()
}

fn functions(sources: &[Source]) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for source in sources {
        for at in words(&source.code, "fn") {
            let rest = source.code[at + 2..].trim_start();
            let end = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
            names.insert(&rest[..end]);
        }
    }
    names
}

/// Required cases that no test carries at the head of its name: `c19_a_unit_…`, `c36_c37_a_file_…` for two, or
/// `c1_to_c17_…` for a range.
fn case_problems(required: &[(&str, &[u32])], functions: &BTreeSet<&str>) -> Vec<String> {
    let claimed: BTreeSet<(&str, u32)> = functions.iter().flat_map(|name| claims(name)).collect();
    let numbered = required.iter().flat_map(|(letter, numbers)| numbers.iter().map(move |n| (*letter, *n)));
    numbered
        .filter(|case| !claimed.contains(case))
        .map(|(letter, n)| format!("no test is called {letter}{n}_…"))
        .collect()
}

fn claims(name: &str) -> Vec<(&str, u32)> {
    let (mut cases, mut range) = (Vec::new(), false);
    for word in name.split('_') {
        let Some((letter, number)) = case(word) else {
            range = word == "to" && !cases.is_empty();
            if range {
                continue;
            }
            break;
        };
        let first = cases.last().filter(|_| range).map_or(number, |(_, last)| last + 1);
        cases.extend((first..=number).map(|n| (letter, n)));
        range = false;
    }
    cases
}

/// `c19` as its letter and its number.
fn case(word: &str) -> Option<(&str, u32)> {
    let number = word.trim_start_matches(|c: char| c.is_ascii_lowercase());
    Some((&word[..word.len() - number.len()], number.parse().ok()?)).filter(|(letter, _)| !letter.is_empty())
}

/// Rows of RocketMQ's features that the table lacks or has twice.
fn row_problems(text: &str) -> Vec<String> {
    let rows: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| F")?.split_once(' ').map(|(n, _)| n)).collect();
    (1..=FEATURES)
        .filter(|n| rows.iter().filter(|row| **row == n.to_string()).count() != 1)
        .map(|n| format!("docs/rocketmq.md: row F{n} does not stand there once"))
        .collect()
}

/// The documents at the root and in `docs/`.
fn documents() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in [root(), root().join("docs")] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

// ---- The rules on this repository ----

#[test]
fn modules_import_only_from_lower_floors() {
    none(floor_problems(&repository()));
}

#[test]
fn no_file_is_longer_than_six_hundred_lines_without_tests() {
    none(length_problems(&repository()));
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    none(head_problems(&repository()));
}

#[test]
fn unsafe_code_lives_in_one_file() {
    none(unsafe_problems(&repository()));
}

#[test]
fn nothing_is_left_open() {
    none(open_end_problems(&repository()));
}

#[test]
fn every_path_that_a_document_names_exists() {
    for (name, text) in documents() {
        let folder = root().join(&name).parent().unwrap().to_owned();
        let exists = |path: &str| {
            root().join(path).exists() || folder.join(path).exists() || root().join("src").join(path).exists()
        };
        none(path_problems(&name, &text, &exists));
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let sources = repository();
    let functions = functions(&sources);
    for (name, text) in documents() {
        none(name_problems(&name, &text, &functions));
    }
}

#[test]
fn every_required_fault_has_a_test() {
    none(case_problems(&CASES, &functions(&repository())));
}

#[test]
fn every_feature_of_rocketmq_has_its_row() {
    none(row_problems(&fs::read_to_string(root().join("docs/rocketmq.md")).unwrap()));
}

#[test]
fn the_checker_sees_the_whole_repository() {
    let sources = repository();
    for path in ["src/lib.rs", "src/error.rs", "tests/tidy.rs"] {
        assert!(sources.iter().any(|source| source.path == path), "{path} was not read");
    }
}

// ---- The rules on bad input ----

fn one(path: &str, text: &str) -> Vec<Source> {
    vec![Source::new(path, text)]
}

#[test]
fn an_import_from_a_higher_floor_is_found() {
    for line in [
        "use crate::broker::Broker;",
        "use crate::{error::Error, broker};",
        "use crate::{\n    error::{Error, Result},\n    broker::Broker,\n};",
        "use super::super::broker::Broker;",
        "fn f() { crate::broker::open(); }",
        "fn f(b: &crate :: broker::Broker) {}",
        "#[cfg(any(test, feature = \"testing\"))]\nuse crate::broker::Broker;",
    ] {
        let problems = floor_problems(&one("src/storage/disk.rs", line));
        assert_eq!(problems.len(), 1, "{line}: {problems:?}");
        assert!(problems[0].contains("storage (floor 4) imports broker (floor 6)"), "{problems:?}");
    }
}

#[test]
fn an_import_on_the_same_floor_an_unknown_module_and_a_name_of_the_root_are_found() {
    assert_eq!(floor_problems(&one("src/index/mod.rs", "use crate::commitlog::X;")).len(), 1);
    assert_eq!(floor_problems(&one("src/index/mod.rs", "use super::commitlog::X;")).len(), 1);
    assert_eq!(floor_problems(&one("src/attic.rs", "")).len(), 1);
    assert_eq!(floor_problems(&one("src/index/mod.rs", "use crate::Result;")).len(), 1);
    assert_eq!(floor_problems(&one("src/index/mod.rs", "use crate::*;")).len(), 1);
    assert_eq!(floor_problems(&one("src/clock.rs", "use super::message::X;")).len(), 1);
}

#[test]
fn imports_from_below_from_itself_and_in_tests_are_allowed() {
    for text in [
        "use crate::{error::{Error, Result}, storage::Disk};\nuse super::file::File;\nuse crate::index::file;",
        "// crate::broker is above\nconst A: &str = \"crate::broker\"; const B: &str = r#\"crate::broker \" \"#;",
        "#[cfg(test)]\nmod tests {\n    use crate::broker::Broker;\n    fn f() { if true {} }\n}\n",
        "#[cfg(test)]\nuse crate::{broker::Broker, store};\nuse crate::error::Error;",
    ] {
        none(floor_problems(&one("src/index/query.rs", text)));
    }
    let after = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::broker::Broker;";
    assert_eq!(
        floor_problems(&one("src/index/query.rs", after)),
        ["src/index/query.rs:3: index (floor 5) imports broker (floor 6)"]
    );
}

#[test]
fn a_file_of_tests_is_one_only_if_its_parent_says_so() {
    let file = || Source::new("src/index/tests.rs", "use crate::broker::Broker;");
    let parent = |text| Source::new("src/index/mod.rs", text);
    none(floor_problems(&[file(), parent("#[cfg(test)]\nmod tests;\n")]));
    assert_eq!(floor_problems(&[file(), parent("mod tests;\n")]).len(), 1);
    let beside = || Source::new("src/index/query_tests.rs", "use crate::broker::Broker;");
    let query = |text| Source::new("src/index/query.rs", text);
    none(floor_problems(&[beside(), query("#[cfg(test)]\n#[path = \"query_tests.rs\"]\nmod tests;\n")]));
    assert_eq!(floor_problems(&[beside(), query("#[cfg(test)]\nmod tests;\n")]).len(), 1);
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let long = "//! x\n".to_owned() + &"fn f() {}\n".repeat(LINES_MAX);
    assert_eq!(length_problems(&one("src/clock.rs", &long)).len(), 1);
    let tested = format!(
        "//! x\nfn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
        "    fn f() {}\n".repeat(LINES_MAX)
    );
    none(length_problems(&one("src/clock.rs", &tested)));
    let hidden = format!("#[cfg(test)]\nmod tests {{}}\n{long}");
    assert_eq!(length_problems(&one("src/clock.rs", &hidden)).len(), 1);
}

#[test]
fn a_missing_first_line_unsafe_code_and_open_ends_are_found() {
    assert_eq!(head_problems(&one("benches/a.rs", "use std::fs;\n")).len(), 1);
    assert_eq!(head_problems(&one("benches/a.rs", "// x\n//! y\n")).len(), 1);
    assert_eq!(unsafe_problems(&one("src/storage/real.rs", "fn f() { unsafe { g() } }")).len(), 1);
    none(unsafe_problems(&one(UNSAFE_FILE, "fn f() { unsafe { g() } }")));
    none(unsafe_problems(&one(
        "src/lib.rs",
        "#![deny(unsafe_code)] // unsafe\nconst A: char = '\"'; // unsafe \"\n",
    )));
    assert_eq!(unsafe_problems(&one("src/lib.rs", "fn f<'a>(x: &'a str) { '\\''; unsafe {} }")).len(), 1);
    assert_eq!(open_end_problems(&one("src/clock.rs", concat!("fn f() { to", "do!() }"))).len(), 1);
    assert_eq!(open_end_problems(&one("src/clock.rs", concat!("fn f() { unimple", "mented!() }"))).len(), 1);
    assert_eq!(open_end_problems(&one("src/clock.rs", concat!("// TO", "DO: later"))).len(), 1);
    none(open_end_problems(&one("src/clock.rs", "const A: &str = \"SCHEDULE_TOPIC_XXXX\"; let todo = 1;")));
}

#[test]
fn a_dead_path_and_a_dead_test_name_in_a_document_are_found() {
    let text = "See `src/gone.rs`, [design](docs/gone.md#why) and `src/here.rs`; `commitlog/<20 digits>` and `a/b` are no paths of ours.";
    let exists = |path: &str| path == "src/here.rs";
    assert_eq!(
        path_problems("X.md", text, &exists),
        ["X.md: docs/gone.md does not exist", "X.md: src/gone.rs does not exist"]
    );
    let sources = one("tests/a.rs", "#[test]\nfn a_claim_that_holds() {}");
    let named =
        "shown by `a_claim_that_holds` and `a_claim_that_nobody_checks`; `flush_interval` is a setting";
    assert_eq!(
        name_problems("X.md", named, &functions(&sources)),
        ["X.md: no test is called a_claim_that_nobody_checks"]
    );
}

#[test]
fn a_missing_case_and_a_missing_row_are_found() {
    let sources = one(
        "tests/a.rs",
        "fn c1_c3_two_in_one() {} fn c2() {} fn later_c4_does_not_count() {} fn crc32_of_c5() {} fn c7_to_c9_a_range() {}",
    );
    let functions = functions(&sources);
    assert_eq!(
        case_problems(&[("c", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])], &functions),
        [
            "no test is called c4_…",
            "no test is called c5_…",
            "no test is called c6_…",
            "no test is called c10_…"
        ]
    );
    let table: String = (1..=FEATURES).filter(|n| *n != 7).map(|n| format!("| F{n} | a | b |\n")).collect();
    assert_eq!(row_problems(&table), ["docs/rocketmq.md: row F7 does not stand there once"]);
    assert_eq!(
        row_problems(&(table + "| F7 | a | b |\n| F7 | a | b |\n")),
        ["docs/rocketmq.md: row F7 does not stand there once"]
    );
}
