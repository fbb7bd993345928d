//! Who imports whom inside a crate, read from the `use` lines and paths of its files.
//!
//! A re-export is a signpost: an import that goes through it counts for the file in which the item stands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The path of a module below its crate: empty for `lib.rs`.
type Module = Vec<String>;

/// What one file says.
#[derive(Default)]
struct File {
    /// Its imports, and paths in its code: `crate::disk::Disk` is `["crate", "disk", "Disk"]`.
    paths: Vec<Vec<String>>,
    /// Names that it gives to what is elsewhere, and the path behind each.
    names: BTreeMap<String, Vec<String>>,
}

/// Files, or folders, that import each other: each list is one knot.
pub(super) fn knots(edges: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let reached_from = |start: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(at) = open.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| *from == at) {
                if seen.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        seen
    };
    let nodes: BTreeSet<&String> = edges.iter().map(|(from, _)| from).collect();
    let reach: BTreeMap<&String, BTreeSet<String>> = nodes.iter().map(|at| (*at, reached_from(at))).collect();
    let knots: BTreeSet<Vec<String>> = reach
        .iter()
        .filter(|(at, reached)| reached.contains(**at))
        .map(|(at, reached)| {
            let is_tied = |other: &&String| reach.get(other).is_some_and(|back| back.contains(*at));
            reached.iter().filter(is_tied).cloned().collect()
        })
        .collect();
    knots.into_iter().collect()
}

/// The imports among folders: each file counts for the module directly below the crate that it is in.
pub(super) fn folders(edges: &BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    let top = |file: &String| file.split("::").next().unwrap_or_default().to_owned();
    edges.iter().map(|(from, to)| (top(from), top(to))).filter(|(from, to)| from != to).collect()
}

/// The imports among the files of a crate, without those of its tests: pairs of module paths.
pub(super) fn edges(src: &Path, sources: &[std::path::PathBuf]) -> BTreeSet<(String, String)> {
    let files: BTreeMap<Module, File> = sources
        .iter()
        .filter_map(|path| Some((module_of(path.strip_prefix(src).ok()?)?, read(path))))
        .collect();
    let mut found = BTreeSet::new();
    for (module, file) in &files {
        for path in &file.paths {
            if let Some(target) = resolve(&files, module, path, 0)
                && target != *module
            {
                found.insert((module.join("::"), target.join("::")));
            }
        }
    }
    found
}

/// `None` for a file that has only tests, and for the crate's head, which has only signposts.
fn module_of(file: &Path) -> Option<Module> {
    let mut parts: Module =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    (!parts.iter().any(|part| part == "tests")).then_some(parts)
}

/// The file in which the item at the end of a path stands; `None` for other crates' items.
fn resolve(files: &BTreeMap<Module, File>, from: &Module, path: &[String], depth: usize) -> Option<Module> {
    assert!(depth < 20, "re-exports in a circle: {path:?} in {from:?}");
    let (first, mut rest) = path.split_first()?;
    let mut at = match first.as_str() {
        "crate" => Module::new(),
        "self" => from.clone(),
        "super" => from.split_last()?.1.to_vec(),
        name => {
            let child = [from.as_slice(), &[name.to_owned()]].concat();
            let other = files.get(from)?.names.get(name);
            return match other {
                _ if files.contains_key(&child) => resolve(files, &child, &with_self(rest), depth + 1),
                Some(target) if target.first().map(String::as_str) != Some(name) => {
                    resolve(files, from, &[target.as_slice(), rest].concat(), depth + 1)
                }
                _ => None,
            };
        }
    };
    while let Some((next, more)) = rest.split_first() {
        if next == "super" {
            at.pop();
        } else {
            let child = [at.as_slice(), std::slice::from_ref(next)].concat();
            if !files.contains_key(&child) {
                break;
            }
            at = child;
        }
        rest = more;
    }
    // A module by itself is nothing yet: what is used of it stands in other paths.
    let item = rest.first()?;
    match files.get(&at)?.names.get(item) {
        Some(target) => resolve(files, &at, &[target.as_slice(), &rest[1..]].concat(), depth + 1),
        _ => Some(at),
    }
}

fn with_self(rest: &[String]) -> Vec<String> {
    [&["self".to_owned()], rest].concat()
}

fn read(path: &Path) -> File {
    let text = std::fs::read_to_string(path).unwrap();
    let code: String = text
        .split("#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default()
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut file = File::default();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let before = statement.rfind("use ").map(|at| statement.split_at(at));
        let Some((before, import)) = before.filter(|(before, import)| is_import(before, import)) else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(before);
        let before = before.trim_end();
        if before.ends_with("#[cfg(test)]") {
            continue;
        }
        let is_public = before.ends_with("pub") || before.ends_with(')');
        for (path, name) in tree(import.trim_start_matches("use ").trim_end_matches(';'), &[]) {
            if !is_public {
                file.paths.push(path.clone());
            }
            file.names.insert(name, path);
        }
    }
    file.paths.extend(paths(&rest));
    file
}

/// Whether this is a `use` line, and not the end of a word or a string.
fn is_import(before: &str, import: &str) -> bool {
    before.chars().next_back().is_none_or(char::is_whitespace) && !import.contains('"')
}

/// The paths of a `use` tree, each with the name that it gives.
fn tree(text: &str, before: &[String]) -> Vec<(Vec<String>, String)> {
    let text = text.trim();
    if let Some((head, inner)) = text.split_once('{') {
        let head: Vec<String> = [before, &segments(head)].concat();
        let inner = inner.strip_suffix('}').unwrap_or(inner);
        return parts(inner).into_iter().flat_map(|part| tree(part, &head)).collect();
    }
    let (path, alias) =
        text.split_once(" as ").map_or((text, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path = [before, &segments(path)].concat();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let Some(last) = path.last().cloned() else { return Vec::new() };
    vec![(path, alias.map_or(last, str::to_owned))]
}

/// Splits at commas that are in no braces.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let is_border = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(is_border).filter(|part| !part.trim().is_empty()).collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Paths of more than one segment in code.
fn paths(code: &str) -> Vec<Vec<String>> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("::"))
        .map(segments)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        list.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn a_knot_is_found_through_a_detour_and_a_branch_is_none() {
        assert!(knots(&pairs(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])).is_empty());
        let found = knots(&pairs(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")]));
        assert_eq!(found, [["a", "b", "c"]]);
        assert_eq!(folders(&pairs(&[("a::x", "a::y"), ("a::x", "b")])), pairs(&[("a", "b")]));
    }

    #[test]
    fn an_import_through_a_signpost_counts_for_where_it_leads() {
        let src = Path::new(env!("CARGO_TARGET_TMPDIR")).join("imports");
        std::fs::create_dir_all(src.join("inner")).unwrap();
        let files = [
            ("lib.rs", "mod inner;\nmod user;\npub use inner::Thing;\n"),
            ("inner/mod.rs", "mod deep;\npub use deep::{Thing, other as renamed};\n"),
            ("inner/deep.rs", "pub struct Thing;\npub fn other() {}\n"),
            (
                "user.rs",
                "use crate::Thing;\n// use crate::nothing::Comment;\nfn f() { crate::inner::renamed(); }\n",
            ),
            ("tests.rs", "use crate::user::f;\n"),
        ];
        let paths = files.map(|(name, text)| {
            std::fs::write(src.join(name), text).unwrap();
            src.join(name)
        });
        assert_eq!(edges(&src, &paths), pairs(&[("user", "inner::deep")]));
    }
}
