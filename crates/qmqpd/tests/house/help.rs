//! Help texts tell what a command or an option does in the imperative: "Print the defaults", not "The defaults" or
//! "Prints the defaults".

use std::fs;

use super::{root, sources};

/// Verbs with which a help text may begin. Another one is added here; a noun is not.
const VERBS: &[&str] = &[
    "Accept", "Add", "Allow", "Also", "Begin", "Check", "Choose", "Close", "Compare", "Count", "Delay",
    "Delete", "Deliver", "Do", "Draw", "Exit", "Expand", "Explain", "Find", "Flush", "Generate", "Hold",
    "Ignore", "Keep", "Leave", "Let", "Limit", "List", "Listen", "Make", "Move", "Name", "Open", "Pause",
    "Print", "Put", "Read", "Record", "Release", "Relay", "Reload", "Remove", "Repeat", "Replay", "Report",
    "Requeue", "Resume", "Run", "Search", "Seed", "Select", "Send", "Serve", "Set", "Show", "Simulate",
    "Sort", "Start", "Stop", "Sum", "Take", "Tell", "Try", "Use", "Wait", "Watch", "Work", "Write",
];

/// What stands in an attribute or in front of an item, as far as help is concerned.
#[derive(Default)]
struct Item<'t> {
    /// The first line of its documentation, and the number of that line.
    help: Option<(usize, &'t str)>,
    attributes: String,
}

impl Item<'_> {
    /// Its documentation is shown by `--help`: not that of a type or field whose parts are shown in its place.
    fn is_shown(&self) -> bool {
        !["flatten", "subcommand)", "skip"].iter().any(|word| self.attributes.contains(word))
    }
}

/// The help texts that clap takes from a file, with the numbers of their lines.
fn help_texts(text: &str) -> Vec<(usize, &str)> {
    let mut texts = Vec::new();
    let mut item = Item::default();
    // Within a type whose parts are options or commands.
    let mut is_within = false;
    for (number, line) in (1..).zip(text.lines()) {
        let word = line.trim();
        if let Some(help) = word.strip_prefix("///") {
            item.help = item.help.or_else(|| Some((number, help.trim())));
        } else if word.starts_with("#[") || (!item.attributes.is_empty() && !item.attributes.ends_with(']')) {
            item.attributes.push_str(word);
        } else {
            let derives = |name: &str| {
                let derive = item.attributes.split("derive(").nth(1).unwrap_or_default();
                let list = derive.split(')').next().unwrap_or_default();
                list.split([',', ':', ' ']).any(|word| word == name)
            };
            let is_type = !line.starts_with(' ') && line.ends_with('{');
            if is_type && ["Args", "Parser", "Subcommand"].into_iter().any(derives) {
                is_within = true;
                texts.extend(item.help.filter(|_| derives("Parser")));
            } else if is_within && !word.is_empty() && item.is_shown() {
                texts.extend(item.help);
            }
            is_within &= line != "}";
            item = Item::default();
        }
        for written in ["about = \"", "help = \""] {
            // Not `after_help`.
            let found = line.split_once(written).filter(|(before, _)| before.ends_with(['(', ' ']));
            let string = found.map(|(_, rest)| rest.split('"').next().unwrap_or_default());
            texts.extend(string.filter(|_| word.starts_with("#[")).map(|string| (number, string)));
        }
    }
    texts
}

fn is_imperative(help: &str) -> bool {
    let first = help.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    VERBS.contains(&first)
}

#[test]
fn help_is_imperative() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for directory in ["crates", "bench"] {
        for path in
            sources(&root().join(directory)).into_iter().filter(|path| !path.ends_with("house/help.rs"))
        {
            let text = fs::read_to_string(&path).unwrap();
            for (number, help) in help_texts(&text) {
                count += 1;
                if !is_imperative(help) {
                    wrong.push(format!("{}:{number}: {help}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "begin with a verb in the imperative:\n{}", wrong.join("\n"));
    assert!(count > 80, "only {count} help texts were found");
}

#[test]
fn help_texts_are_found() {
    let text = "\
/// Does a thing
#[derive(Debug, Parser)]
#[command(name = \"x\")]
struct Arguments {
    /// Print it
    ///
    /// At length.
    #[arg(
        long
    )]
    print: bool,
    /// Parts.
    #[command(flatten)]
    parts: Parts,
}

/// Not shown.
#[derive(Debug, clap::Args)]
struct Parts {
    /// The number
    number: u64,
}

/// Not of the command line.
struct Other {
    /// Nor this.
    other: u64,
}
";
    let texts: Vec<&str> = help_texts(text).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["Does a thing", "Print it", "The number"]);
    assert_eq!(texts.iter().map(|text| is_imperative(text)).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(help_texts("#[command(about = \"A server\")]\n"), [(1, "A server")]);
}
