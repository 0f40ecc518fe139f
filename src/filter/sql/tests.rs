//! Does an expression want what RocketMQ's would, and is every other text an error with its place?

use proptest::prelude::*;

use super::*;
use crate::message::properties::append;

/// Judges a message with these properties; an expression that cannot be read is a failure of the test.
fn wants(expression: &str, properties: &[(&str, &str)]) -> bool {
    let mut encoded = Vec::new();
    properties.iter().for_each(|(name, value)| append(&mut encoded, name, value));
    let sql = Sql::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    sql.accepts(Properties::new(&encoded))
}

fn check(expression: &str, wanted: &[&[(&str, &str)]], unwanted: &[&[(&str, &str)]]) {
    for properties in wanted {
        assert!(wants(expression, properties), "{expression} must want {properties:?}");
    }
    for properties in unwanted {
        assert!(!wants(expression, properties), "{expression} must not want {properties:?}");
    }
}

fn fault(expression: &str) -> String {
    Sql::parse(expression).expect_err(expression).to_string()
}

#[test]
fn e1_rocketmqs_own_examples_are_judged_as_it_does() {
    let all = [("a", "3"), ("b", "5"), ("c", "6"), ("d", "1")];
    check("a=3 and b<>4 And c>5 AND d<=4", &[&all], &[&[("a", "4"), ("b", "5"), ("c", "6"), ("d", "1")]]);
    check(
        "a=3 or b<>4 Or c>5 OR d<=4",
        &[&[("a", "3")], &[("a", "4"), ("b", "5")], &[("a", "4"), ("b", "4"), ("c", "3"), ("d", "2")]],
        &[&[("a", "4"), ("b", "4"), ("c", "3"), ("d", "10")]],
    );
    check("a in ('3', '4', '5')", &[&[("a", "3")], &[("a", "5")]], &[&[("a", "8")], &[]]);
    check("a not in ('3', '4', '5')", &[&[("a", "8")]], &[&[("a", "3")], &[]]);
    check(
        "a between 2 and 10",
        &[&[("a", "2")], &[("a", "10")], &[("a", "3")]],
        &[&[("a", "1")], &[("a", "11")]],
    );
    check("a not between 2 and 10", &[&[("a", "1")], &[("a", "11")]], &[&[("a", "2")], &[("a", "10")]]);
    check("a is null", &[&[("abc", "2")]], &[&[("a", "2")]]);
    check("a is not null", &[&[("a", "2")]], &[&[("abc", "2")]]);
    check("a is not null and a='hello'", &[&[("a", "hello")]], &[&[]]);
    check("a=TRUE OR b=FALSE", &[&[("a", "true"), ("b", "false")]], &[&[("a", "false"), ("b", "true")]]);
    check("a is null OR a='hello'", &[&[], &[("a", "hello")]], &[&[("a", "abc")]]);
    check("TAGS is not null and TAGS='''''tag'''''", &[&[("TAGS", "''tag''")]], &[&[("TAGS", "tag")]]);
    check("a > 3.1E10", &[&[("a", "3.1415E10")]], &[&[("a", "3.0E10")]]);
    check("a > b", &[&[("a", "20"), ("b", "10")]], &[&[("a", "10"), ("b", "20")], &[("a", "x"), ("b", "y")]]);
    check("a<>b", &[&[("a", "3.14"), ("b", "3.141")]], &[&[("a", "3.14"), ("b", "3.14")]]);
}

#[test]
fn t_e8_t_e9_the_scenarios_expressions() {
    check(
        "(TAGS is not null and TAGS in ('TagA','TagB'))",
        &[&[("TAGS", "TagA")], &[("TAGS", "TagB")]],
        &[&[("TAGS", "TagC")], &[]],
    );
    check("TRUE", &[&[], &[("price", "1")]], &[]);
    check("price > 20", &[&[("price", "30")]], &[&[("price", "10")], &[]]);
    check(
        "price BETWEEN 10 AND 20 AND region IS NOT NULL",
        &[&[("price", "15"), ("region", "eu")]],
        &[&[("price", "15")]],
    );
}

#[test]
fn texts_are_looked_into() {
    check("a CONTAINS 'b'", &[&[("a", "abc")]], &[&[("a", "ac")], &[]]);
    check("a NOT CONTAINS 'b'", &[&[("a", "ac")]], &[&[("a", "abc")], &[]]);
    check("a startswith 'ab' and a ENDSWITH 'yz'", &[&[("a", "abyz")]], &[&[("a", "ab")], &[("a", "yz")]]);
    check(
        "a NOT STARTSWITH 'x' AND a NOT ENDSWITH 'x'",
        &[&[("a", "axa")]],
        &[&[("a", "xa")], &[("a", "ax")]],
    );
    check("a = 'it''s'", &[&[("a", "it's")]], &[&[("a", "its")]]);
    check("größe = 'ü'", &[&[("größe", "ü")]], &[]);
}

#[test]
fn what_is_missing_is_neither_true_nor_false() {
    let none: &[(&str, &str)] = &[];
    for unknown in [
        "a = 1",
        "a <> 1",
        "1 <> a",
        "NOT a = 1",
        "a > 1",
        "NOT a > 1",
        "a = b",
        "NOT (a = 1 AND TRUE)",
        "a",
        "NOT a",
        "NULL",
    ] {
        assert!(!wants(unknown, none), "{unknown}");
    }
    check("a = 1 OR TRUE", &[none], &[]);
    check("NOT (a = 1 AND FALSE)", &[none], &[]);
    check("(a = 1) IS NULL", &[none], &[&[("a", "1")]]);
    check("(a > 1) = TRUE", &[&[("a", "2")]], &[none, &[("a", "1")]]);
}

#[test]
fn a20_a_property_that_is_no_number_is_not_wanted_and_no_error() {
    check(
        "a > 1",
        &[],
        &[&[("a", "abc")], &[("a", "")], &[("a", "nan")], &[("a", "inf")], &[("a", "1e999")]],
    );
    check("NOT a > 1", &[], &[&[("a", "abc")]]);
    check("TRUE OR a > 1", &[&[("a", "abc")]], &[]);
    check("a > 1 OR TRUE", &[&[("a", "2")]], &[&[("a", "abc")]]);
    check("a = 1", &[&[("a", "1.0")], &[("a", " 1 ")]], &[&[("a", "one")]]);
    check(
        "vip AND NOT blocked",
        &[&[("vip", "true"), ("blocked", "False")]],
        &[&[("vip", "yes"), ("blocked", "false")]],
    );
    check("-a > 5", &[&[("a", "-6")]], &[&[("a", "6")], &[("a", "x")]]);
}

#[test]
fn whole_numbers_are_compared_exactly() {
    let near = "9007199254740993";
    check("a = 9007199254740993", &[&[("a", near)]], &[&[("a", "9007199254740992")]]);
    check("a > 9007199254740992.0", &[&[("a", near)]], &[&[("a", "9007199254740992")]]);
    check("a < 1.5 AND a > 0.5", &[&[("a", "1")]], &[&[("a", "2")], &[("a", "0")]]);
    check("a > -1.5 AND a < -0.5", &[&[("a", "-1")]], &[&[("a", "-2")]]);
    check("a < 1e300", &[&[("a", "9223372036854775807")]], &[]);
    check("a > -1e300", &[&[("a", "-9223372036854775808")]], &[]);
    check("a >= -9223372036854775807", &[&[("a", "0")]], &[&[("a", "-9223372036854775808")]]);
    check("a = 5L and b = .5 and c = 5.", &[&[("a", "5"), ("b", "0.5"), ("c", "5")]], &[]);
}

#[test]
fn precedence_and_comments_are_sqls() {
    check("TRUE OR FALSE AND FALSE", &[&[]], &[]);
    check("(TRUE OR FALSE) AND FALSE", &[], &[&[]]);
    check("NOT FALSE AND TRUE", &[&[]], &[]);
    check("a /* of\n all */ = 1 -- the end\n AND + + b = - - 2", &[&[("a", "1"), ("b", "2")]], &[]);
}

#[test]
fn a20_what_cannot_be_read_is_an_error_that_names_the_column() {
    let cases = [
        ("", "the expression ends where a property", 1),
        ("a", "", 0),
        ("a =", "the expression ends", 4),
        ("a = = 1", "\"=\" stands where a property", 5),
        ("a > 'x'", "the text 'x' has no size", 5),
        ("a > TRUE", "a truth has no size", 5),
        ("a = NULL", "NULL equals nothing: write IS NULL", 5),
        ("a BETWEEN 3 AND 1", "is above the upper one", 11),
        ("a BETWEEN NULL AND 1", "NULL has no size", 11),
        ("a BETWEEN 1", "the expression ends where AND", 12),
        ("a IN ()", "\")\" stands where a text", 7),
        ("a IN (1)", "a number stands where a text", 7),
        ("5 IN ('5')", "only a property can be IN a list", 1),
        ("a IS 5", "a number stands where NULL", 6),
        ("(a = 1", "the expression ends where )", 7),
        ("a = 1)", "\")\" stands where AND, OR or the end", 6),
        ("a = 'x", "has no closing quote", 5),
        ("a = \"x\"", "texts stand between single quotes", 5),
        ("a != 1", "'!' means nothing here", 3),
        ("1", "this is not true or false", 1),
        ("a = 1 AND 'x'", "this is not true or false", 11),
        ("a NOT = 1", "\"=\" stands where BETWEEN, IN", 7),
        ("a LIKE 'x'", "the name LIKE stands where AND, OR", 3),
        ("a = 99999999999999999999", "out of range", 5),
        ("a = 1e999", "out of range", 5),
        ("a = 5x", "runs into a name", 5),
        ("/* a", "the comment does not end", 1),
        ("größe = ü = ", "the expression ends", 12),
    ];
    for (expression, what, column) in cases {
        if column == 0 {
            Sql::parse(expression).unwrap();
            continue;
        }
        let text = fault(expression);
        assert!(text.contains(what), "{expression:?}: {text}");
        assert!(text.contains(&format!("at column {column} ")), "{expression:?}: {text}");
    }
}

#[test]
fn a20_h9_h10_depth_and_length_are_bounded() {
    for nested in [
        format!("{}a = 1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}a = 1", "NOT ".repeat(10_000)),
        format!("a = {}1", "-".repeat(2) + &"- ".repeat(10_000)),
        format!("a{}", " = b".repeat(10_000)),
        format!("a{}", " IS NULL".repeat(8_000)),
    ] {
        let text = fault(&nested);
        assert!(text.contains("nested deeper than 64") || text.contains("column"), "{text}");
    }
    assert!(fault(&format!("a = '{}'", "x".repeat(1 << 20))).contains("at most 65536 are allowed"));
    // Deep enough for people, and wide lists are not deep.
    let deep = format!("{}a = 1{}", "(".repeat(60), ")".repeat(60));
    check(&deep, &[&[("a", "1")]], &[]);
    let wide = vec!["a = 1"; 5_000].join(" OR ");
    check(&wide, &[&[("a", "1")]], &[&[("a", "2")]]);
}

/// An expression over three properties, and what it must say of a message.
#[derive(Debug, Clone)]
enum Model {
    Compare(&'static str, &'static str, i64),
    Missing(&'static str),
    Not(Box<Model>),
    And(Box<Model>, Box<Model>),
    Or(Box<Model>, Box<Model>),
}

impl Model {
    fn text(&self) -> String {
        match self {
            Self::Compare(name, sign, number) => format!("{name} {sign} {number}"),
            Self::Missing(name) => format!("{name} IS NULL"),
            Self::Not(inside) => format!("NOT ({})", inside.text()),
            Self::And(left, right) => format!("({}) AND ({})", left.text(), right.text()),
            Self::Or(left, right) => format!("({}) OR ({})", left.text(), right.text()),
        }
    }

    fn verdict(&self, values: &dyn Fn(&str) -> Option<i64>) -> Option<bool> {
        match self {
            Self::Compare(name, sign, number) => values(name).map(|value| match *sign {
                "=" => value == *number,
                "<>" => value != *number,
                "<" => value < *number,
                "<=" => value <= *number,
                ">" => value > *number,
                _ => value >= *number,
            }),
            Self::Missing(name) => Some(values(name).is_none()),
            Self::Not(inside) => inside.verdict(values).map(|truth| !truth),
            Self::And(left, right) => match (left.verdict(values), right.verdict(values)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(left, right) => match (left.verdict(values), right.verdict(values)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}

fn models() -> impl Strategy<Value = Model> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let sign = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        4 => (name.clone(), sign, -3_i64..4).prop_map(|(name, sign, number)| Model::Compare(name, sign, number)),
        1 => name.prop_map(Model::Missing),
    ];
    leaf.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|model| Model::Not(Box::new(model))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Model::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Model::Or(Box::new(a), Box::new(b))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_expression_says_what_three_valued_logic_says(
        model in models(),
        values in prop::array::uniform3(prop::option::of(-3_i64..4)),
    ) {
        let lookup = |name: &str| values[usize::from(name.as_bytes()[0] - b'a')];
        let texts: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .filter_map(|name| lookup(name).map(|value| (name, value.to_string())))
            .collect();
        let properties: Vec<_> = texts.iter().map(|(name, value)| (*name, value.as_str())).collect();
        prop_assert_eq!(wants(&model.text(), &properties), model.verdict(&lookup) == Some(true));
    }

    #[test]
    fn a20_no_text_does_harm(text in "\\PC{0,200}") {
        let _ = Sql::parse(&text);
    }

    #[test]
    fn a20_no_row_of_words_does_harm(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "a", "NOT", "AND", "OR", "BETWEEN", "IN", "IS", "NULL", "TRUE", "(", ")", ",", "=", "<>", "<", ">=",
                "-", "+", "'x'", "1", "2.5", "CONTAINS", "ENDSWITH", "''",
            ]),
            0..30,
        ),
        value in "\\PC{0,5}",
    ) {
        if let Ok(sql) = Sql::parse(&words.join(" ")) {
            let mut encoded = Vec::new();
            append(&mut encoded, "a", &value);
            let _ = sql.accepts(Properties::new(&encoded));
        }
    }

    #[test]
    fn whole_numbers_and_others_are_ordered_as_the_real_numbers_are(whole in any::<i64>(), other in -1e19_f64..1e19) {
        let expression = format!("a < {other:?}").replace("inf", "1");
        let exact = i128::from(whole);
        let floor: i128 = format!("{:.0}", other.floor()).parse().unwrap();
        let less = if other > other.floor() { exact <= floor } else { exact < floor };
        prop_assert_eq!(wants(&expression, &[("a", &whole.to_string())]), less);
    }
}
