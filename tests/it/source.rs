//! Reading the project's own source: which top-level modules a file names. Text, not syntax: it leans on what rustfmt
//! guarantees, and errs towards seeing too much.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every file under `directory`, build output and hidden folders left out.
pub fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_str().unwrap();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The text without comments and without what stands in string literals.
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if next == '"' {
            string_length(rest)
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// The top-level modules that `text`, the file of module `path` (`["http", "door"]`), names through `crate::`,
/// `strongroom::` or a chain of `super::` that reaches the root.
pub fn modules_named(text: &str, path: &[&str]) -> BTreeSet<String> {
    let code = code_only(text);
    let mut named = BTreeSet::new();
    for root in ["crate::", "strongroom::"] {
        for (at, _) in code.match_indices(root).filter(|(at, _)| !is_inside_word(&code, *at)) {
            named.extend(heads(&code[at + root.len()..]));
        }
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
        let after = code[at..].trim_start_matches("super::");
        let steps = (code.len() - at - after.len()) / "super::".len();
        let depth = path.len() + usize::from(is_inside_inline_module(&code, at));
        if steps >= depth {
            named.extend(heads(after));
        }
    }
    named
}

fn is_inside_word(code: &str, at: usize) -> bool {
    code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// rustfmt ends an inline module of a file with a brace at the line's start.
fn is_inside_inline_module(code: &str, at: usize) -> bool {
    let before = &code[..at];
    let opened = before
        .lines()
        .scan(0, |offset, line| {
            let start = *offset;
            *offset += line.len() + 1;
            Some((start, line))
        })
        .filter(|(_, line)| {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            line.starts_with("mod ") && line.ends_with('{')
        })
        .map(|(start, _)| start)
        .last();
    opened.is_some_and(|start| !before[start..].contains("\n}"))
}

/// The first word, or the first word of each branch of a braced group.
fn heads(text: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = text.strip_prefix('{') else {
        return vec![word(text)];
    };
    let (mut depth, mut branch_starts, mut found) = (0_usize, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => branch_starts = true,
            _ if branch_starts && !c.is_whitespace() => {
                found.push(word(&group[at..]));
                branch_starts = false;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn imports_are_found_in_every_form() {
    let named =
        |text: &str, path: &[&str]| modules_named(text, path).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(named("use crate::storage::pool::Database;", &["http"]), "storage");
    assert_eq!(
        named("use crate::{audit, domain::{id, class::X},\n    keys::ring};", &["http"]),
        "audit domain keys"
    );
    assert_eq!(named("fn f() { crate::crypto::seal(); strongroom::tls::x() }", &["http"]), "crypto tls");
    assert_eq!(named("use super::super::keys::Ring;", &["http", "door"]), "keys");
    assert_eq!(named("use super::keys::Ring;", &["http", "door"]), "");
    assert_eq!(named("use super::keys;", &["http"]), "keys");
    assert_eq!(named("mod tests {\n    use super::keys;\n    use super::super::tls;\n}\n", &["http"]), "tls");
    assert_eq!(named("mod tests {\n    use super::keys;\n}\nuse super::tls;\n", &["http"]), "tls");
    assert_eq!(
        named("// crate::keys\nlet a = \"crate::tls \\\" crate::keys\"; '\"'; crate::audit;", &["http"]),
        "audit"
    );
    assert_eq!(named("let a = r#\"crate::tls \" \"#; mycrate::keys;", &["http"]), "");
}
