//! The parameter sections of qmqpd-config(5) are made from the parameter table.
//!
//! This test fails when the page is out of date; `BLESS=1 cargo test -p postfix --test manual` writes it anew.

use std::path::PathBuf;

use postfix::parameter::{DefaultValue, Parameter, Reach, table::PARAMETERS};

const BEGIN: &str = ".\\\" BEGIN of what crates/postfix/tests/manual.rs makes from the parameter table\n";
const END: &str = ".\\\" END of what is made from the parameter table\n";

/// Longest line of running text.
const LINE_CHARS_MAX: usize = 78;

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../man/qmqpd-config.5")
}

#[test]
fn the_manual_page_is_up_to_date() {
    let old = std::fs::read_to_string(page()).expect("man/qmqpd-config.5 is there");
    let (head, rest) = old.split_once(BEGIN).expect("the page has the line that begins the made part");
    let (_, tail) = rest.split_once(END).expect("the page has the line that ends the made part");
    let new = format!("{head}{BEGIN}{}{END}{tail}", sections());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(page(), &new).expect("the page can be written");
    } else {
        assert!(new == old, "man/qmqpd-config.5 is out of date; BLESS=1 cargo test -p postfix --test manual");
    }
}

#[test]
fn text_becomes_mdoc() {
    assert_eq!(
        mdoc("Takes `a b`, `c`: or soft_bounce. Then `.x`."),
        "Takes\n.Ql \"a b\" ,\n.Ql c :\nor\n.Va soft_bounce .\nThen\n.Ql \\&.x .\n"
    );
    assert_eq!(escape("'a\\b \"c\""), "\\&'a\\eb \\(dqc\\(dq");
}

fn sections() -> String {
    let mut text = String::new();
    let rows = |test: fn(&Parameter) -> bool| PARAMETERS.iter().filter(move |row| test(row));
    text += ".Sh PARAMETERS OF THIS SERVER\nPostfix does not know these.\n";
    list(&mut text, rows(|row| row.is_own()));
    text += ".Sh PARAMETERS OF POSTFIX\nThese take effect as in Postfix.\n";
    list(&mut text, rows(|row| !row.is_own() && row.reach == Reach::Effective));
    text += ".Ss Checked only\nThe server checks these at its start, as Postfix does.\nThey have no other effect.\n";
    list(&mut text, rows(|row| matches!(row.reach, Reach::Validated(_))));
    text += ".Ss Without effect on QMQP mail\n\
             The server checks these.\nThey have no effect, as in Postfix or for the reason given.\n";
    list(&mut text, rows(|row| matches!(row.reach, Reach::NoEffectOnQmqp(_))));
    text += ".Ss For other programs\n\
             Other programs of Postfix read these.\n\
             The server checks them, since Postfix's\n.Xr qmqpd 8\nreads most of them too,\n\
             and other values can refer to them.\n";
    list(&mut text, rows(|row| matches!(row.reach, Reach::OtherPrograms(_))));
    text
}

fn list<'a>(text: &mut String, rows: impl Iterator<Item = &'a Parameter>) {
    *text += ".Bl -tag -width Ds\n";
    for row in rows {
        let kind = row.kind_in_words();
        *text += &format!(".It Va {} Pq {}\n", row.name, escape(&kind));
        match row.default {
            DefaultValue::Text("") => *text += "Default: empty.\n",
            // A long default would only be noise here; qmqpctl shows it.
            DefaultValue::Text(default) if default.len() > 300 => *text += "Default: a long list.\n",
            DefaultValue::Text(default) => {
                *text += &format!("Default:\n.Ql {} .\n", argument(default));
            }
            DefaultValue::Computed(how) => *text += &mdoc(&format!("Default: {how}.")),
        }
        *text += ".br\n";
        *text += &mdoc(row.doc.trim());
        match row.reach {
            Reach::Effective => {}
            Reach::Validated(why) | Reach::NoEffectOnQmqp(why) => *text += &mdoc(&format!("Why: {why}.")),
            Reach::OtherPrograms(who) => *text += &mdoc(&format!("For: {who}.")),
        }
    }
    *text += ".El\n";
}

/// Running text as mdoc source: a new line for each sentence, `code` and parameter names marked up.
fn mdoc(text: &str) -> String {
    let mut source = String::new();
    let mut line = String::new();
    for word in words(text) {
        let end = word.trim_end_matches([',', ';', ':', '.']);
        let punctuation: Vec<&str> =
            word.get(end.len()..).unwrap_or_default().split("").filter(|c| !c.is_empty()).collect();
        let code = end.strip_prefix('`').and_then(|code| code.strip_suffix('`'));
        let name = PARAMETERS.iter().any(|row| row.name == end && end.contains('_'));
        if let Some((mark, inner)) = code.map(|code| ("Ql", code)).or_else(|| name.then_some(("Va", end))) {
            finish(&mut source, &mut line);
            let punctuation: String = punctuation.iter().map(|mark| format!(" {mark}")).collect();
            source += &format!(".{mark} {}{punctuation}\n", argument(inner));
            continue;
        }
        if line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            finish(&mut source, &mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
        if word.ends_with('.') {
            finish(&mut source, &mut line);
        }
    }
    finish(&mut source, &mut line);
    source
}

fn finish(source: &mut String, line: &mut String) {
    if !line.is_empty() {
        source.push_str(&escape(line));
        source.push('\n');
        line.clear();
    }
}

/// Words, where `a piece of code` is one.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if open => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        open ^= word.matches('`').count() % 2 == 1;
    }
    words
}

/// A macro's argument: quoted if it has blanks, and never taken for a macro or for punctuation.
fn argument(text: &str) -> String {
    let callable = text.len() <= 3 && text.starts_with(|c: char| c.is_ascii_uppercase());
    let punctuation = text.chars().all(|c| !c.is_alphanumeric());
    let guard = if callable || punctuation { "\\&" } else { "" };
    let escaped = escape(text);
    let guard = if escaped.starts_with("\\&") { "" } else { guard };
    if text.contains(' ') { format!("\"{guard}{escaped}\"") } else { format!("{guard}{escaped}") }
}

fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('"', "\\(dq");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}
