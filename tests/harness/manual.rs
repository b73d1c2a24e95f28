//! Manual pages from the definitions that commands are parsed by.

use clap::Command;
use clap_mangen::Man;
use std::collections::BTreeMap;
use std::path::Path;

/// A page is as old as the version that it names; pages must have a date.
const DATE: &str = "2026-11-26";

/// One page, in the macros of man(7). `also` are pages to see also: `jsi(1)`.
#[must_use]
pub fn manual_page(name: &str, command: Command, also: &[String]) -> String {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let spoken = name.replace('-', " ").replacen("jsi agent", "jsi-agent", 1);
    // What is deferred has pages of its own.
    let command = command
        // clap keeps names for ever; a test makes a few.
        .name(&*Box::leak(name.to_owned().into_boxed_str()))
        .display_name(name)
        .bin_name(spoken)
        .disable_help_subcommand(true)
        .after_help("");
    let subcommands = command.has_subcommands();
    let source = concat!("jsi ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).title(name.to_uppercase()).source(source).manual("jsi").date(DATE);
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(
            |()| if subcommands { man.render_subcommands_section(&mut page) } else { Ok(()) },
        );
    rendered.expect("a page is rendered");
    let mut page = clean(&String::from_utf8(page).expect("a page is text"));
    if !after.trim().is_empty() {
        page.push_str(".SH NOTES\n");
        page.push_str(&notes(&after));
    }
    if !also.is_empty() {
        page.push_str(".SH SEE ALSO\n");
        let refer = |page: &String| match page.split_once('(') {
            Some((name, section)) => format!("\\fB{}\\fR({section}", escaped(name)),
            None => escaped(page),
        };
        page.push_str(&also.iter().map(refer).collect::<Vec<_>>().join(",\n"));
        page.push('\n');
    }
    page
}

/// What is to be done about pages that are out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Golden {
    /// Nothing: whoever changes a command need not change its page at once.
    Leave,
    /// Tell (tests/run).
    Check,
    /// Write them (contrib/regenerate).
    Write,
}

impl Golden {
    /// As `JSI_GOLDEN` says: `check`, `write`, or nothing.
    #[must_use]
    pub fn asked() -> Self {
        match std::env::var("JSI_GOLDEN").as_deref() {
            Ok("write") => Self::Write,
            Ok("check") => Self::Check,
            _ => Self::Leave,
        }
    }
}

/// Compares pages with those in `directory`, or writes them; `own` tells which
/// of the files there belong to them.
///
/// # Panics
/// Where a page is missing, out of date, or of no command, and that is to be told.
pub fn keep_manual(
    golden: Golden,
    directory: &Path,
    pages: &BTreeMap<String, String>,
    own: &dyn Fn(&str) -> bool,
) {
    for (name, text) in pages {
        for part in [".TH ", ".SH NAME", ".SH DESCRIPTION"] {
            assert!(text.contains(part), "{name} has no {part}:\n{text}");
        }
    }
    if golden == Golden::Leave {
        return;
    }
    if golden == Golden::Write {
        std::fs::create_dir_all(directory).unwrap();
    }
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if own(&name) && !pages.contains_key(&name) {
            let of_none = format!("contrib/man/{name} is of no command: run contrib/regenerate");
            assert!(golden == Golden::Write, "{of_none}");
            std::fs::remove_file(directory.join(&name)).unwrap();
        }
    }
    for (name, text) in pages {
        let path = directory.join(name);
        if golden == Golden::Write {
            std::fs::write(&path, text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == *text, "contrib/man/{name} is out of date: run contrib/regenerate");
    }
}

/// The page of a configuration file, from an example that explains each key:
/// comments are prose, `key = value` lines (also behind a `#`) are its keys.
#[must_use]
pub fn configuration_page(name: &str, about: &str, example: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH {} 5 \"{DATE}\" \"jsi {version}\" \"jsi\"\n.SH NAME\n{} \\- {}\n.SH DESCRIPTION\n",
        name.to_uppercase(),
        escaped(name),
        escaped(about)
    );
    for block in example.split("\n\n") {
        let (mut prose, mut keys) = (String::new(), Vec::new());
        for line in block.lines() {
            if let Some(title) = line.strip_prefix('[') {
                page.push_str(&format!(".SH [{}\n", escaped(title)));
                continue;
            }
            let bare = line.trim_start_matches("# ");
            let is_key = bare
                .split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            if is_key {
                keys.push(bare);
            } else {
                prose.push_str(&escaped(line.trim_start_matches('#').trim_start()));
                prose.push('\n');
            }
        }
        if keys.is_empty() {
            page.push_str(&format!(".PP\n{prose}"));
        }
        for (number, key) in keys.iter().enumerate() {
            let (key, said) = key.split_once("  #").unwrap_or((key, ""));
            page.push_str(&format!(".TP\n.B {}\n", escaped(key.trim())));
            if !said.is_empty() {
                page.push_str(&format!("{}\n", escaped(said.trim())));
            }
            if number + 1 == keys.len() {
                page.push_str(&prose);
            }
        }
    }
    page = page.replace(".SH DESCRIPTION\n.PP\n", ".SH DESCRIPTION\n");
    page.push_str(".SH SEE ALSO\n\\fBjsi\\-agent\\fR(1),\n\\fBjsi\\fR(1)\n");
    page
}

/// What clap_mangen writes and mandoc complains of.
fn clean(page: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in page.lines() {
        // Apostrophe definitions for groff 1.22 alone, and empty macros.
        if line.starts_with(".ie ") || line.starts_with(".el ") || line == ".br" {
            continue;
        }
        let line = line.trim_end().replace("\\*(Aq", "'");
        if line.is_empty() {
            continue;
        }
        // A line that begins with an apostrophe would be a request.
        lines.push(if line.starts_with('\'') { format!("\\&{line}") } else { line });
    }
    lines.join("\n") + "\n"
}

/// Paragraphs; lines that are set in keep their breaks.
fn notes(text: &str) -> String {
    let mut out = String::new();
    let mut verbatim = false;
    for line in text.lines() {
        if line.trim().is_empty() {
            if !verbatim && !out.is_empty() {
                out.push_str(".PP\n");
            }
            continue;
        }
        if line.starts_with("  ") != verbatim {
            verbatim = !verbatim;
            out.push_str(if verbatim { ".PP\n.nf\n" } else { ".fi\n.PP\n" });
        }
        out.push_str(&escaped(line));
        out.push('\n');
    }
    if verbatim {
        out.push_str(".fi\n");
    }
    out.replace(".PP\n.PP\n", ".PP\n").strip_prefix(".PP\n").map(str::to_owned).unwrap_or(out)
}

fn escaped(line: &str) -> String {
    let line =
        line.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga").replace('…', "...");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_an_example_is_on_its_page() {
        let example =
            "# What it is.\n\n[agent]\n# Who.\n# user = \"jsi\"\n\n[limits]\nleases = 2  # live\n";
        let page = configuration_page("x.toml", "an example", example);
        let wanted =
            ".SH [agent]\n.TP\n.B user = \"jsi\"\nWho.\n.SH [limits]\n.TP\n.B leases = 2\nlive\n";
        assert!(page.contains(wanted), "{page}");
        assert!(page.contains(".SH DESCRIPTION\nWhat it is.\n"), "{page}");
    }

    #[test]
    fn examples_keep_their_lines_and_nothing_becomes_a_request() {
        let text = notes("One line\nand another.\n  jsi get 'a' \\\n  .b\nAfter.\n");
        assert_eq!(
            text,
            "One line\nand another.\n.PP\n.nf\n  jsi get 'a' \\e\n  .b\n.fi\n.PP\nAfter.\n"
        );
        assert_eq!(escaped(".x"), "\\&.x");
        assert_eq!(escaped("'x"), "\\&'x");
    }
}
