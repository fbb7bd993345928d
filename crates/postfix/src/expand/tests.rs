//! Every vector with a result was compared with what a real Postfix 3.7 makes of it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

impl Map {
    fn new(entries: &[(&str, &str)]) -> Self {
        Self(
            entries
                .iter()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
                .collect(),
        )
    }
}

impl Names for Map {
    fn find(&self, name: &[u8]) -> Option<NameValue<'_>> {
        self.0.get(name).map(|value| NameValue { text: Cow::Borrowed(value), is_default: false })
    }
}

fn expanded(value: &str) -> Result<String, String> {
    let names = Map::new(&[
        ("foo", "FOO"),
        ("empty", ""),
        ("nested", "<$foo>"),
        ("rawempty", "$empty"),
        ("level", "3.6"),
        ("n", "9"),
        ("cycle", "$cycle2"),
        ("cycle2", "${cycle}"),
    ]);
    expand(value.as_bytes(), &names)
        .map(|value| String::from_utf8(value).unwrap())
        .map_err(|error| error.to_string())
}

#[test]
fn values() {
    for (value, result) in [
        ("plain # text", "plain # text"),
        ("$foo", "FOO"),
        ("a${foo}b$(foo)c", "aFOObFOOc"),
        ("$foo-bar.$foo", "FOO-bar.FOO"),
        ("$$foo $$", "$foo $"),
        ("[$undefined$empty]", "[]"),
        ("$nested", "<FOO>"),
        ("${foo?yes:no}", "yes:no"),
        ("${empty?yes}", ""),
        ("${empty:no}", "no"),
        ("${foo:no}", ""),
        ("${undefined:$foo}", "FOO"),
        ("${rawempty?yes}", "yes"),
        ("${foo? yes }", " yes "),
        ("${ foo ?{ a }:{ b }}", " a "),
        ("${empty ? {a} : { b }}", " b "),
        ("${empty?{a}}", ""),
        ("${foo?{a}}", "a"),
        ("${empty?{a}:b c}", "b c"),
        ("$(foo?{a}:{b})", "a"),
        ("$(foo?x}y)", "x}y"),
        ("${foo?x)y}", "x)y"),
        ("${foo?${empty?1}${foo?2}}", "2"),
        ("${{$foo} == {FOO}?{same}:{other}}", "same"),
        ("${{$foo} != {FOO}?{same}:{other}}", "other"),
        ("${{10} > {9}}", "true"),
        ("${{10} < {$n}}", ""),
        ("${{1.0} == {1}?{y}:{n}}", "n"),
        ("${{-1} < {0}?{y}:{n}}", "y"),
        ("${{007} == {7}?y}", "y"),
        ("${{a} <= {b}:n}", ""),
        ("${{} == {}?y}", "y"),
        ("${{$level} <level {3.10} ? {no} : {yes}}", "no"),
        ("${{$level} >=level {3} ? {no} : {yes}}", "no"),
        ("${{$level} ==level {3.6.0} ? {eq}}", "eq"),
        ("${ }", ""),
        ("${?x}", ""),
        ("${:x}", "x"),
    ] {
        assert_eq!(expanded(value).as_deref(), Ok(result), "{value}");
    }
}

#[test]
fn errors_are_worded_as_in_postfix() {
    for (value, text) in [
        ("$", "empty macro name: \"$\""),
        ("a $ x", "empty macro name: \"a $ x\""),
        ("${}", "empty macro name: \"${}\""),
        ("$-", "empty macro name: \"$-\""),
        ("x${foo", "truncated macro reference: \"x${foo\""),
        ("${foo-bar}", "attribute name syntax error at: \"...foo>>>-bar\""),
        ("${foo bar}", "attribute name syntax error at: \"...foo>>> bar\""),
        ("${foo{x}}", "unknown function \"foo\" at\"...>>>foo{x}\""),
        ("${domain_to_ascii{x}z}", "unexpected input at: \"...x}>>>z\""),
        ("${domain_to_ascii{}}", "bad domain argument in: 'domain_to_ascii{}'"),
        ("${domain_to_utf8{}}", "bad domain argument in: 'domain_to_utf8{}'"),
        ("${domain_to_ascii{\u{fc}..x}}", "bad domain argument in: 'domain_to_ascii{\u{fc}..x}'"),
        ("$cycle", "unreasonable macro call nesting: \"cycle2\""),
        (
            "${{a} = {b}}",
            "\"==\" or \"!=\"\" or \"<\"\" or \"<=\"\" or \">=\"\" or \">\" expected at: \"...a}>>>= {b}\"",
        ),
        ("${{a} == b}", "\"{expression}\" expected at: \"...{a} ==>>> b\""),
        ("${foo?{a}x}", "\":\" expected at: \"...a}>>>x\""),
        ("${empty:{a}x}", "unexpected input at: \"...a}>>>x\""),
        ("${{a} <foo {b}}", "bad operator suffix at: \"...<>>>foo\""),
        ("${{x} <level {1}}", "malformed compatibility level syntax: \"x\""),
        ("${{a} == {b} x}", "\"?\" or \":\" expected at: \"...}>>>x\""),
        ("$(foo?{a)", "unbalanced {} in attribute expression: \"{a\""),
        ("${{99999999999999999999} == {1}}", "mac_exp_eval: bad conversion: 99999999999999999999"),
    ] {
        assert_eq!(expanded(value), Err(text.to_owned()), "{value}");
    }
}

/// Observed on Postfix 3.12.
#[test]
fn functions_of_domains() {
    for (value, result) in [
        ("${domain_to_ascii{b\u{fc}cher.example}}", "xn--bcher-kva.example"),
        ("${ domain_to_ascii { B\u{dc}CHER.example } }", "xn--bcher-kva.example"),
        ("${domain_to_ascii{\u{df}.de}}", "xn--zca.de"),
        ("$(domain_to_ascii{x})", "x"),
        ("${domain_to_ascii{a b}}", "a b"),
        ("${domain_to_ascii{$nested}}", "<FOO>"),
        ("<${domain_to_ascii{${foo?{b\u{fc}cher}}}}>", "<xn--bcher-kva>"),
        ("${domain_to_utf8{xn--bcher-kva.example}}", "b\u{fc}cher.example"),
        ("${domain_to_utf8{ABC.example}}", "abc.example"),
        ("${domain_to_utf8{\u{dc}}}", "\u{dc}"),
        // Without an argument it is a name like any other.
        ("${domain_to_ascii}", ""),
        ("${domain_to_ascii?{a}:{b}}", "b"),
        ("$domain_to_ascii{x}", "{x}"),
    ] {
        assert_eq!(expanded(value), Ok(result.to_owned()), "{value}");
    }
    let named: Vec<_> = references("${domain_to_ascii{$foo}} ${bar {x}}".as_bytes()).collect();
    assert_eq!(named, [b"foo"]);
}

fn chain(links: usize) -> Result<Vec<u8>, ExpandError> {
    let mut names = BTreeMap::new();
    for link in 1..links {
        names.insert(format!("a{link}").into_bytes(), format!("$a{}", link + 1).into_bytes());
    }
    names.insert(format!("a{links}").into_bytes(), b"end".to_vec());
    expand(b"$a1", &Map(names))
}

#[test]
fn a_hundred_nested_references_work_and_one_more_does_not() {
    assert_eq!(chain(100), Ok(b"end".to_vec()));
    assert_eq!(chain(101), Err(ExpandError::Syntax("unreasonable macro call nesting: \"end\"".to_owned())));
}

#[test]
fn a_cycle_through_a_relational_expression_ends() {
    let names = Map::new(&[("a", "${{$a} == {x}?y}")]);
    let error = expand(b"$a", &names).unwrap_err();
    assert!(error.to_string().starts_with("unreasonable macro call nesting"), "{error}");
}

#[test]
fn a_value_may_be_as_long_as_the_limit() {
    let longest = "x".repeat(VALUE_BYTES_MAX);
    assert_eq!(expanded(&longest).map(|value| value.len()), Ok(VALUE_BYTES_MAX));
    assert!(expanded(&(longest + "x")).unwrap_err().contains("more than 1048576 bytes"));
}

#[test]
fn bombs_are_bounded() {
    for (leaf, wrap) in
        [("0123456789", "$X$X"), ("", "$X$X"), ("abc", "${{$X} == {$X}?$X}"), ("", "${X?$X}$X$X")]
    {
        let mut names = BTreeMap::new();
        names.insert(b"a0".to_vec(), leaf.as_bytes().to_vec());
        for link in 1..30 {
            let reference = format!("a{}", link - 1);
            names.insert(format!("a{link}").into_bytes(), wrap.replace('X', &reference).into_bytes());
        }
        assert_eq!(expand(b"$a29", &Map(names)), Err(ExpandError::TooLarge), "{wrap}");
    }
}

#[test]
fn references_are_found_everywhere() {
    let value = b"$a ${b?$c:d} $(e) $$f ${{$g} == {h}?{${i}}:{j}} ${ k ?} $- $";
    let names: Vec<_> = references(value).map(|name| std::str::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "e", "g", "i", "k"]);
}

proptest! {
    #[test]
    fn text_without_dollar_is_unchanged(value in "[^$]{0,60}") {
        prop_assert_eq!(expanded(&value), Ok(value));
    }

    #[test]
    fn doubled_dollars_quote(value in "\\PC{0,60}") {
        prop_assert_eq!(expanded(&value.replace('$', "$$")), Ok(value));
    }

    #[test]
    fn nothing_panics(value in proptest::collection::vec(prop::sample::select(vec![
        "$", "{", "}", "(", ")", "?", ":", " ", "foo", "empty", "==", "<level", "\u{e9}", "${{",
    ]), 0..40)) {
        let value = value.concat();
        let names = Map::new(&[("foo", "FOO"), ("empty", "")]);
        let _ = expand(value.as_bytes(), &names);
        let _ = references(value.as_bytes()).count();
    }
}
