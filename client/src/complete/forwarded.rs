//! Commands that `jsi-agent` answers: their words come from their own help,
//! since only they know them.

use super::{Answer, Candidate};
use std::process::{Command, Stdio};

/// Options and actions of the help of these words.
pub(super) fn of_help(words: &[String], current: &str) -> Answer {
    let plain = words.iter().filter(|word| !word.starts_with('-'));
    let out = Command::new("/proc/self/exe")
        .args(plain)
        .arg("--help")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(out) = out else { return Answer::Words(Vec::new()) };
    let help = String::from_utf8_lossy(&out.stdout);
    let found = read(&help, current.starts_with('-'));
    if found.is_empty() && !current.starts_with('-') { Answer::Files } else { Answer::Words(found) }
}

/// Lines of `Options:` or `Commands:`, as clap prints them.
fn read(help: &str, options: bool) -> Vec<Candidate> {
    let wanted = if options { "Options:" } else { "Commands:" };
    let lines = help.lines().skip_while(|line| line.trim_end() != wanted).skip(1);
    let mut found: Vec<Candidate> = Vec::new();
    for line in lines.take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let words = line.trim_start();
        let (names, about) = match words.find("  ") {
            Some(at) => (&words[..at], words[at..].trim()),
            None => (words, ""),
        };
        if line.len() - words.len() > 8 {
            continue; // the rest of what the line above says
        }
        let names = names.split([',', ' ']).filter(|name| !name.is_empty());
        let names = names.filter(|name| name.starts_with('-') == options);
        let names = if options { names.collect() } else { names.take(1).collect::<Vec<_>>() };
        found.extend(names.into_iter().map(|name| {
            Candidate::new(name.split('=').next().unwrap_or(name).trim_end_matches('…'), about)
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Read and check the log

Usage: jsi-agent audit [OPTIONS] <COMMAND>

Commands:
  tail    The last records
  verify  Check every record; name the first that does not
          fit

Options:
      --log <DIR>            Directory of the log
  -o, --output <table|json>  A line for people
  -h, --help                 Print help

For example:
  jsi audit tail -f
";

    #[test]
    fn options_and_actions_are_read_from_help() {
        let words = |options| -> Vec<String> {
            read(HELP, options).into_iter().map(|found| found.word).collect()
        };
        assert_eq!(words(false), ["tail", "verify"]);
        assert_eq!(words(true), ["--log", "-o", "--output", "-h", "--help"]);
        assert_eq!(read(HELP, false)[0].about, "The last records");
    }
}
