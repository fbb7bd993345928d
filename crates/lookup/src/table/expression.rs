//! `regexp:` and `pcre:` tables: expressions in order, the first one that matches gives the result.
//!
//! Where Postfix goes on with the next rule when an engine gives up on a key (too much backtracking, no memory), the
//! lookup fails here: else a client could get past a rule that refuses it with a name made for that. It fails, too, when
//! the expressions of a message take longer than they may ([`Budget`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postfix::notice::Notice;
use postfix::text::{LogicalLine, is_space, trim_end, trim_start};

use super::measure::measure;
use super::replacement::Replacement;
use super::rules::{Rules, Step, keyword, negations, rule_lines};
use super::{Call, Opened, Table, TableError};
use crate::budget::{Budget, Halt, Pace};
use crate::native::{Group, Pcre, PcreFlags, Posix, PosixFlags};
use crate::options::Options;
use crate::syntax::shown;
use crate::turns::Turns;
use crate::watch::Watched;

/// Which of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// `regexp:`
    Posix,
    /// `pcre:`
    Perl,
}

impl Engine {
    const fn type_name(self) -> &'static str {
        match self {
            Self::Posix => "regexp",
            Self::Perl => "pcre",
        }
    }
}

enum Program {
    Posix(Posix),
    Perl(Pcre),
}

/// An expression, and whether it counts when it does not match.
struct Pattern {
    program: Program,
    groups: usize,
    negated: bool,
    line: usize,
}

struct Rule {
    first: Pattern,
    /// The second of `/a/!/b/`.
    second: Option<Pattern>,
    replacement: Replacement,
    groups: usize,
}

struct Expressions {
    name: String,
    /// `regexp map F`, the beginning of the warnings.
    words: String,
    rules: Rules<Rule, Pattern>,
    file: Option<Watched>,
    /// For questions without a budget of their own.
    turns: Arc<Turns>,
    /// How long lookups have taken since the engine last forgot what it had learnt from keys, in nanoseconds.
    learning: AtomicU64,
}

/// After so much time in lookups a `regexp:` table forgets what it has learnt. An expression with very many states learns a
/// hundred megabytes in a second, if a client wants it so; others learn as much again in milliseconds.
const LEARNING_TIME_MAX: Duration = Duration::from_secs(1);

/// What ended a lookup, and at which line if it came so far.
struct Failed {
    line: usize,
    halt: Halt,
}

impl Pattern {
    /// Searches a key. `Some` if the pattern counts: with the groups, none for a negated one.
    fn search(&self, key: &[u8], groups: usize, pace: &mut Pace<'_>) -> Result<Option<Vec<Group>>, Failed> {
        let found = match &self.program {
            Program::Posix(program) => program.search(key, groups, pace),
            Program::Perl(program) => program.search(key, pace),
        };
        match found {
            Ok(Some(groups)) => Ok((!self.negated).then_some(groups)),
            Ok(None) => Ok(self.negated.then(Vec::new)),
            Err(halt) => Err(Failed { line: self.line, halt }),
        }
    }
}

impl Expressions {
    /// Frees what the engine keeps of the keys that it was asked about, from time to time.
    fn forget_after(&self, time: Duration) {
        let more = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let sum = self.learning.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        let is_enough = |nanoseconds| Duration::from_nanos(nanoseconds) >= LEARNING_TIME_MAX;
        // One thread does it; and what another one uses just now has its turn after as much time again.
        if !is_enough(sum) || !is_enough(self.learning.swap(0, Ordering::Relaxed)) {
            return;
        }
        let rules = self.rules.matches().flat_map(|rule| [Some(&rule.first), rule.second.as_ref()]).flatten();
        for pattern in rules.chain(self.rules.conditions()) {
            if let Program::Posix(program) = &pattern.program {
                program.forget();
            }
        }
    }

    /// Tries the rules in their order.
    fn first(&self, key: &[u8], pace: &mut Pace<'_>) -> Result<Option<Vec<u8>>, Failed> {
        // Both closures need it, one at a time.
        let pace = std::cell::RefCell::new(pace);
        self.rules.first(
            |rule| {
                let pace = &mut pace.borrow_mut();
                let Some(groups) = rule.first.search(key, rule.groups, pace)? else {
                    return Ok(None);
                };
                if let Some(second) = &rule.second
                    && second.search(key, 0, pace)?.is_none()
                {
                    return Ok(None);
                }
                Ok(Some(rule.replacement.expand(key, &groups)))
            },
            |condition| Ok(condition.search(key, 0, &mut pace.borrow_mut())?.is_some()),
        )
    }
}

impl Table for Expressions {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, key: &[u8], call: &mut Call<'_>) -> Result<Option<Vec<u8>>, TableError> {
        let of_this_question;
        let budget = match call.budget {
            Some(budget) => budget,
            None => {
                of_this_question = Budget::new(&self.turns, 0, None);
                &of_this_question
            }
        };
        let mut line = None;
        let began = Instant::now();
        let found = budget.run(call.deadline, |pace| {
            self.first(key, pace).map_err(|failed| {
                line = Some(failed.line);
                failed.halt
            })
        });
        self.forget_after(began.elapsed());
        found.map_err(|halt| {
            let words = &self.words;
            let mut place = line.map_or_else(|| words.clone(), |line| format!("{words}, line {line}"));
            if matches!(halt, Halt::Spent(_)) {
                // Later lookups of the message fail, too: the log is to name the expression that is to be mended.
                place = budget.spent_at(place).to_owned();
            }
            call.notices.push(Notice::warning(format!("{place}: {halt}")));
            TableError { table: self.name.clone(), temporary: true }
        })
    }

    fn is_fixed(&self) -> bool {
        false
    }

    fn has_expressions(&self) -> bool {
        true
    }

    fn changed(&self) -> Option<String> {
        self.file.as_ref().filter(|file| file.changed()).map(|file| file.path().display().to_string())
    }
}

/// `regexp:file`, `pcre:file`, or with `{{rule}, {rule}}` instead of a file.
pub(super) fn open(engine: Engine, name: &[u8], options: &Options, notices: &mut Vec<Notice>) -> Opened {
    let (lines, file) = rule_lines(engine.type_name(), name, options, notices)?;
    Ok(Box::new(build(engine, &shown(name), &lines, file, &options.turns, notices)?))
}

/// The table of some lines, or why there is no table: one of its rules must not be used, and without it the others would
/// mean something else.
fn build(
    engine: Engine,
    name: &str,
    lines: &[LogicalLine],
    file: Option<Watched>,
    turns: &Arc<Turns>,
    notices: &mut Vec<Notice>,
) -> Result<Expressions, String> {
    let words = format!("{} map {name}", engine.type_name());
    let place = |line: usize| format!("{words}, line {line}");
    let mut rules = Rules::new();
    for line in lines {
        let place = place(line.first_line);
        let mut reader = Reader { engine, place, line: line.first_line, refused: None, notices };
        let step = reader.rule(trim_end(&line.text), rules.depth());
        if let Some(reason) = reader.refused {
            return Err(reason);
        }
        if let Some(step) = step {
            rules.push(step, line.first_line);
        }
    }
    rules.finish(place, notices);
    let (name, turns) = (format!("{}:{name}", engine.type_name()), Arc::clone(turns));
    Ok(Expressions { name, words, rules, file, turns, learning: AtomicU64::new(0) })
}

/// An expression that is not compiled yet.
struct Source<'a> {
    pattern: &'a [u8],
    flags: Flags,
    negated: bool,
}

enum Flags {
    Posix(PosixFlags),
    Perl(PcreFlags),
}

/// Reads one line.
struct Reader<'a> {
    engine: Engine,
    place: String,
    line: usize,
    /// Why the whole table is not to be used.
    refused: Option<String>,
    notices: &'a mut Vec<Notice>,
}

impl Reader<'_> {
    fn warn(&mut self, text: &str) {
        self.notices.push(Notice::warning(format!("{}: {text}", self.place)));
    }

    /// The step that a line makes; `None` if it makes none, with a warning.
    fn rule(&mut self, line: &[u8], depth: usize) -> Option<Step<Rule, Pattern>> {
        if !line.first()?.is_ascii_alphanumeric() {
            return self.match_rule(line).map(Step::Match);
        }
        if let Some(rest) = keyword(line, "IF") {
            return self.condition(trim_start(rest)).map(Step::If);
        }
        let Some(rest) = keyword(line, "ENDIF") else {
            self.warn("ignoring unrecognized request");
            return None;
        };
        if depth == 0 {
            self.warn("ignoring ENDIF without matching IF");
            return None;
        }
        if !trim_start(rest).is_empty() {
            self.warn("ignoring extra text after ENDIF");
        }
        Some(Step::EndIf)
    }

    fn match_rule(&mut self, line: &[u8]) -> Option<Rule> {
        let (first, rest) = self.source(line)?;
        let (second, rest) = match (self.engine, rest.first()) {
            (Engine::Posix, Some(b'!')) => self.source(rest).map(|(second, rest)| (Some(second), rest))?,
            _ => (None, rest),
        };
        let text = trim_start(rest);
        if text.is_empty() {
            self.warn("no replacement text: using empty string");
        }
        let zero = if self.engine == Engine::Posix { "out-of-range" } else { "out of range" };
        let replacement = Replacement::parse(text, &self.place, zero, self.notices)?;
        let groups = replacement.highest();
        if groups > 0 && first.negated {
            self.warn("$number found in negative match replacement text: skipping this rule");
            return None;
        }
        let first = self.compile(&first)?;
        if groups > first.groups {
            self.warn(&format!("out of range replacement index \"{groups}\": skipping this rule"));
            return None;
        }
        let second = match second {
            Some(second) => Some(self.compile(&second)?),
            None => None,
        };
        Some(Rule { first, second, replacement, groups })
    }

    fn condition(&mut self, text: &[u8]) -> Option<Pattern> {
        let (source, rest) = self.source(text)?;
        let extra = trim_start(rest);
        if !extra.is_empty() {
            self.warn(&format!("ignoring extra text after IF statement: \"{}\"", shown(extra)));
            self.warn("do not prepend whitespace to statements between IF and ENDIF");
        }
        self.compile(&source)
    }

    /// Takes `!/expression/flags` off the front. The delimiter is whatever byte stands first.
    fn source<'t>(&mut self, text: &'t [u8]) -> Option<(Source<'t>, &'t [u8])> {
        let (negated, text) = negations(text);
        let Some((&delimiter, text)) = text.split_first() else {
            self.warn("no regexp: skipping this rule");
            return None;
        };
        let Some((pattern, rest)) = self.delimited(text, delimiter) else {
            let what = if self.engine == Engine::Posix { "skipping" } else { "ignoring" };
            let delimiter = shown(&[delimiter]);
            self.warn(&format!("no closing regexp delimiter \"{delimiter}\": {what} this rule"));
            return None;
        };
        let (flags, rest) = self.flags(rest)?;
        Some((Source { pattern, flags, negated }, rest))
    }

    /// Splits at the closing delimiter; a backslash takes the next byte with it, and stays. In a `regexp:` table a
    /// backslash at the very end closes the expression, as in Postfix.
    fn delimited<'t>(&self, text: &'t [u8], delimiter: u8) -> Option<(&'t [u8], &'t [u8])> {
        let mut at: usize = 0;
        loop {
            let byte = *text.get(at)?;
            let next = at.saturating_add(1);
            let closes = if byte == b'\\' {
                next == text.len() && self.engine == Engine::Posix
            } else {
                byte == delimiter
            };
            if closes {
                return Some((text.get(..at)?, text.get(next..)?));
            }
            at = if byte == b'\\' { next.saturating_add(1) } else { next };
        }
    }

    fn flags<'t>(&mut self, text: &'t [u8]) -> Option<(Flags, &'t [u8])> {
        let posix = self.engine == Engine::Posix;
        let stops = |&byte: &u8| is_space(byte) || (posix && byte == b'!');
        let end = text.iter().position(stops).unwrap_or(text.len());
        let (letters, rest) = text.split_at_checked(end)?;
        let mut posix_flags = PosixFlags { ignore_case: true, newline: false, extended: true };
        let mut perl_flags = PcreFlags::DEFAULT;
        for &letter in letters {
            let known = match (self.engine, letter) {
                (Engine::Posix, b'i') => toggle(&mut posix_flags.ignore_case),
                (Engine::Posix, b'm') => toggle(&mut posix_flags.newline),
                (Engine::Posix, b'x') => toggle(&mut posix_flags.extended),
                (Engine::Posix, _) => false,
                (Engine::Perl, _) => {
                    perl_flags.toggle(letter).inspect(|toggled| perl_flags = *toggled).is_some()
                }
            };
            if self.engine == Engine::Perl && letter == b'X' {
                self.warn("ignoring obsolete regexp option \"X\"");
            }
            if !known {
                let letter = shown(&[letter]);
                self.warn(&format!("unknown regexp option \"{letter}\": skipping this rule"));
                return None;
            }
        }
        Some((if posix { Flags::Posix(posix_flags) } else { Flags::Perl(perl_flags) }, rest))
    }

    fn compile(&mut self, source: &Source<'_>) -> Option<Pattern> {
        let compiled = match source.flags {
            Flags::Posix(flags) => {
                let groups = measure(source.pattern, flags.extended)
                    .map_err(|reason| self.refused = Some(format!("{}: {reason}", self.place)))
                    .ok()?;
                Posix::compile(source.pattern, flags).map(|program| (Program::Posix(program), groups))
            }
            Flags::Perl(flags) => Pcre::compile(source.pattern, flags).map(|program| {
                let groups = program.groups();
                (Program::Perl(program), groups)
            }),
        };
        match compiled {
            Ok((program, groups)) => {
                Some(Pattern { program, groups, negated: source.negated, line: self.line })
            }
            Err(reason) => {
                self.warn(&reason);
                None
            }
        }
    }
}

/// Always true: the flag was known.
const fn toggle(flag: &mut bool) -> bool {
    *flag = !*flag;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use postfix::text::read_logical_lines;
    use proptest::prelude::*;

    fn table(engine: Engine, rules: &[u8]) -> (Expressions, Vec<String>) {
        let mut notices = Vec::new();
        let lines = read_logical_lines("f", rules, &mut notices);
        let turns = &Options::default().turns;
        let table = build(engine, "f", &lines, None, turns, &mut notices).unwrap();
        (table, notices.into_iter().map(|notice| notice.text).collect())
    }

    fn ask(table: &Expressions, key: &str) -> Result<Option<String>, TableError> {
        let mut notices = Vec::new();
        let mut call = Call { notices: &mut notices, deadline: None, budget: None };
        Ok(table.lookup(key.as_bytes(), &mut call)?.map(|value| shown(&value)))
    }

    #[test]
    fn rules_of_both_engines() {
        for engine in [Engine::Posix, Engine::Perl] {
            let (table, notices) = table(
                engine,
                b"/^(.*)-old[.](.*)$/ $2/${1}$$\nif !/^a/\n!/b/ no a, no b\nendif\n|^a/\\|b|i bar\n",
            );
            assert_eq!(notices, Vec::<String>::new());
            for (key, value) in [
                ("Mail-OLD.example", Some("example/Mail$")),
                ("c", Some("no a, no b")),
                ("b", None),
                ("a", None),
                ("a/|b", Some("bar")),
                ("A/|b", None),
            ] {
                assert_eq!(ask(&table, key), Ok(value.map(str::to_owned)), "{engine:?} {key}");
            }
        }
    }

    #[test]
    fn two_expressions_in_one_rule() {
        let (table, _) = table(Engine::Posix, b"/k(.)/!/k2/ $1\n");
        assert_eq!(ask(&table, "k1"), Ok(Some("1".to_owned())));
        assert_eq!(ask(&table, "k2"), Ok(None));
    }

    #[test]
    fn an_engine_that_gives_up_fails_the_lookup() {
        let (table, _) = table(Engine::Perl, b"/^(a+)+$/ x\n/./ y\n");
        let error = TableError { table: "pcre:f".to_owned(), temporary: true };
        assert_eq!(ask(&table, &format!("{}!", "a".repeat(60))), Err(error));
    }

    #[test]
    fn what_takes_all_its_time_fails_with_place_and_limit() {
        let (posix, perl) =
            (table(Engine::Posix, b"/a/ b\n/x+y/ x\n").0, table(Engine::Perl, b"/a/ b\n/x++[yz]/ x\n").0);
        let time_limit = Duration::from_millis(20);
        let turns = Turns::new(crate::TurnOptions { time_limit, ..crate::TurnOptions::default() });
        for table in [&posix, &perl] {
            let budget = Budget::new(&turns, 0, None);
            let mut notices = Vec::new();
            let mut call = Call { notices: &mut notices, deadline: None, budget: Some(&budget) };
            let key = "x".repeat(100_000);
            assert!(table.lookup(key.as_bytes(), &mut call).is_err());
            let text = format!(
                "{}, line 2: expressions have used all processor time of this message: \
                 qmqpd_expression_time_limit = 0.02s",
                table.words
            );
            assert_eq!(notices, [Notice::warning(text)]);
        }
    }

    #[test]
    fn what_the_c_library_would_not_survive_is_no_table() {
        let said = |rules: String| {
            let lines = read_logical_lines("f", rules.as_bytes(), &mut Vec::new());
            build(Engine::Posix, "f", &lines, None, &Options::default().turns, &mut Vec::new()).err()
        };
        for (rule, reason) in [
            ("(".repeat(100_000) + &")".repeat(100_000), "more than 250 groups one in the other"),
            ("()".repeat(100_000), "more than 1000 groups and repetitions, counting those that are repeated"),
            ("x*".repeat(100_000), "more than 1000 groups and repetitions, counting those that are repeated"),
            (
                "(".repeat(30) + "x" + &"+)".repeat(30),
                "more than 1000 groups and repetitions, counting those that are repeated",
            ),
            (
                "((x{100}){100}){100}".to_owned(),
                "more than 1000 groups and repetitions, counting those that are repeated",
            ),
            (
                "x{30000}x{30000}x{30000}x{30000}".to_owned(),
                "more than 100000 characters, counting those that are repeated",
            ),
            (
                r"(x*)\1".to_owned(),
                r"\1 refers back to a group, which can use all memory and time; write the rule into a pcre: table",
            ),
        ] {
            let text = format!("regexp map f, line 2: {reason}");
            assert_eq!(said(format!("/a/ b\n/{rule}/ c\n")), Some(text), "{reason}");
        }
        let usual = r"/^(Subject|[\1(+*]): .{3,20}(a|b)+ x{1000} [[:space:]]{100,}(foo|bar)?\.(exe|com)$/ x";
        assert_eq!(said(usual.to_owned()), None);
    }

    #[test]
    fn groups_are_counted_as_the_library_does() {
        for (pattern, extended, groups) in [
            (&b"(a)(b(c))"[..], true, 3),
            (b"\\(a\\)", true, 0),
            (b"\\(a\\)(", false, 1),
            (b"[(](a)[]()](b)[^]()](c)", true, 3),
            (b"[[:alpha:](](a)", true, 1),
            (b"[[.(.]](a)[[=]=]](b)", true, 2),
            (b"\\\\(a)", true, 1),
        ] {
            assert!(
                Posix::compile(pattern, PosixFlags { ignore_case: false, newline: false, extended }).is_ok()
            );
            assert_eq!(measure(pattern, extended), Ok(groups), "{}", shown(pattern));
        }
    }

    /// What `postmap -q k1` of Postfix 3.7.11 says about the same lines.
    #[test]
    fn warnings_in_the_words_of_postfix() {
        let lines =
            b"/a(b)/ x$2\n/a/ x$0\n/a/ x$foo\n/a/ $\n!/z/ n$1\n/a/q t\n/abc\\\n/abc\n!\nabc def\n/nothing/\n\
            if /x/ extra\n/x/ y\nendif z\nendif\n/k1/!/k2/ both\nif /never/\n/m/!/m2/i r\n/(/ u\nif\nIFx\n/x/X y\n";
        let common = [
            "line 1: out of range replacement index \"2\": skipping this rule",
            "line 3: non-numeric replacement index \"foo\"",
            "line 3: bad replacement syntax: skipping this rule",
            "line 4: bad replacement syntax: skipping this rule",
            "line 5: $number found in negative match replacement text: skipping this rule",
            "line 6: unknown regexp option \"q\": skipping this rule",
            "line 9: no regexp: skipping this rule",
            "line 10: ignoring unrecognized request",
            "line 11: no replacement text: using empty string",
            "line 12: ignoring extra text after IF statement: \"extra\"",
            "line 12: do not prepend whitespace to statements between IF and ENDIF",
            "line 14: ignoring extra text after ENDIF",
            "line 15: ignoring ENDIF without matching IF",
            "line 20: no regexp: skipping this rule",
            "line 21: ignoring unrecognized request",
            "line 17: IF has no matching ENDIF",
        ];
        let posix = [
            "line 2: out-of-range replacement index \"0\"",
            "line 7: no replacement text: using empty string",
            "line 8: no closing regexp delimiter \"/\": skipping this rule",
            "line 19: Unmatched ( or \\(",
        ];
        let perl = [
            "line 2: out of range replacement index \"0\"",
            "line 7: no closing regexp delimiter \"/\": ignoring this rule",
            "line 8: no closing regexp delimiter \"/\": ignoring this rule",
            "line 16: unknown regexp option \"!\": skipping this rule",
            "line 18: unknown regexp option \"!\": skipping this rule",
            "line 22: ignoring obsolete regexp option \"X\"",
        ];
        for (engine, own) in [(Engine::Posix, &posix[..]), (Engine::Perl, &perl[..])] {
            let (_, notices) = table(engine, lines);
            let words = format!("{} map f, ", engine.type_name());
            assert!(notices.contains(&"empty macro name: \"$\"".to_owned()));
            for text in common.iter().chain(own) {
                assert!(notices.contains(&format!("{words}{text}")), "{engine:?}: {text}\n{notices:#?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_rules_make_it_panic(
            rules in proptest::collection::vec(
                prop_oneof![
                    any::<u8>(), Just(b'/'), Just(b'\n'), Just(b'!'), Just(b'$'), Just(b'('), Just(b'['), Just(b'\\'), Just(b'1')
                ],
                0..60,
            ),
            key in "[a-z()/.]{0,12}",
        ) {
            for engine in [Engine::Posix, Engine::Perl] {
                let lines = read_logical_lines("f", &rules, &mut Vec::new());
                let table = build(engine, "f", &lines, None, &Options::default().turns, &mut Vec::new());
                let _ = table.map(|table| ask(&table, &key));
            }
        }

        #[test]
        fn a_group_that_is_counted_can_be_asked_for(pattern in "[(][a-c.*|()]{0,6}[)]?") {
            let flags = PosixFlags { ignore_case: true, newline: false, extended: true };
            if let Ok(program) = Posix::compile(pattern.as_bytes(), flags) {
                let groups = measure(pattern.as_bytes(), true).unwrap();
                // One more than there are never takes part.
                let mut pace = Pace::Quick { until: None };
                let found = program.search(b"abcabc", groups + 1, &mut pace).unwrap();
                prop_assert!(found.is_none_or(|found| found.last() == Some(&None)));
            }
        }
    }
}
