//! Completion, for all shells at once: their scripts give the words before the
//! cursor to `jsi complete` and offer what it answers. It never says anything
//! on standard error, waits for nobody, and prints no secret.

mod asked;
mod forwarded;
mod walk;

use crate::output;
use std::ffi::OsString;
use walk::Place;

#[cfg(test)]
pub(crate) use walk::forwards;

/// The scripts, as `jsi completions` prints them.
pub(crate) const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("../../../contrib/completions/jsi.bash")),
    ("zsh", include_str!("../../../contrib/completions/_jsi")),
    ("fish", include_str!("../../../contrib/completions/jsi.fish")),
];

/// What may stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One of these.
    Words(Vec<Candidate>),
    /// A file.
    Files,
    /// A directory.
    Directories,
    /// A command or its arguments, which begin at that word (the first is 0).
    Command(usize),
}

/// A word, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) word: String,
    pub(crate) about: String,
}

impl Candidate {
    fn new(word: impl Into<String>, about: impl Into<String>) -> Self {
        Self { word: word.into(), about: about.into() }
    }

    fn bare(word: impl Into<String>) -> Self {
        Self::new(word, "")
    }
}

/// The words behind `jsi complete --`: those before the cursor, and the one at
/// it up to the cursor, which may be empty.
pub(crate) fn main(words: &[OsString]) {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((current, before)) = words.split_last() else { return };
    let place = walk::find(&crate::commands::definition, before, current);
    let answer = answer(place, current);
    let _ = output::to_stdout(text(&answer, current).as_bytes()); // the shell goes on without
}

fn answer(place: Place, current: &str) -> Answer {
    match place {
        Place::Known(answer) => answer,
        Place::Dynamic { kind, prefix } => {
            let typed = current.strip_prefix(prefix.as_str()).unwrap_or_default();
            let mut answer = asked::ask(kind, typed);
            if let Answer::Words(words) = &mut answer {
                words.iter_mut().for_each(|found| found.word = format!("{prefix}{}", found.word));
            }
            answer
        }
        Place::Forwarded(words) => forwarded::of_help(&words, current),
    }
}

/// The first line says what follows; the words that fit the one at the cursor
/// follow, each with its meaning behind a tab.
fn text(answer: &Answer, current: &str) -> String {
    match answer {
        Answer::Files => "files\n".to_owned(),
        Answer::Directories => "directories\n".to_owned(),
        Answer::Command(first) => format!("command {first}\n"),
        Answer::Words(words) => {
            let mut text = "words\n".to_owned();
            for found in words.iter().filter(|found| found.word.starts_with(current)) {
                // Others chose purposes: nothing in them may move a cursor or
                // look like a word of its own.
                let word = output::printable(&found.word);
                let about = output::printable(&found.about);
                text.push_str(&format!("{word}\t{about}\n"));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(words: &[&str]) -> Answer {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let (current, before) = words.split_last().unwrap();
        match walk::find(&crate::commands::definition, before, current) {
            Place::Known(answer) => answer,
            Place::Dynamic { kind, prefix } => {
                Answer::Words(vec![Candidate::new(prefix, format!("{kind:?}"))])
            }
            Place::Forwarded(words) => {
                Answer::Words(vec![Candidate::new("forwarded", words.join(" "))])
            }
        }
    }

    fn offers(words: &[&str], word: &str) -> bool {
        let current = words.last().unwrap();
        text(&complete(words), current).lines().any(|line| line.split('\t').next() == Some(word))
    }

    fn dynamic(words: &[&str]) -> (String, String) {
        match complete(words) {
            Answer::Words(words) if words.len() == 1 => {
                (words[0].word.clone(), words[0].about.clone())
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn subcommands_options_and_values_come_from_the_definition() {
        assert!(offers(&["le"], "leases") && !offers(&["le"], "get"));
        assert!(offers(&["--"], "--color") && offers(&["--color", "a"], "always"));
        assert!(offers(&["leases", "--"], "--ended") && offers(&["leases", "--"], "--help"));
        assert!(offers(&["secret", ""], "put") && offers(&["secret", "ls", "-"], "-o"));
        assert!(offers(&["leases", "-o", "j"], "json"));
        assert!(offers(&["leases", "--output=j"], "--output=json"));
        assert!(offers(&["--color", "never", "sta"], "status"));
        assert!(offers(&["completions", ""], "zsh"));
        assert!(offers(&["help", "lea"], "leases"));
    }

    #[test]
    fn what_only_the_agent_knows_is_asked_of_it() {
        assert_eq!(dynamic(&["get", "db"]), (String::new(), "Credential".into()));
        assert_eq!(dynamic(&["get", "-n", "--ttl", "5m", "db"]).1, "Credential");
        assert_eq!(dynamic(&["exec", "-e", "PW=db"]), ("PW=".into(), "Credential".into()));
        assert_eq!(dynamic(&["exec", "--env=PW=db"]), ("--env=PW=".into(), "Credential".into()));
        assert_eq!(dynamic(&["release", "x", "y"]).1, "Lease");
        assert_eq!(dynamic(&["renew", ""]).1, "Lease");
        assert_eq!(dynamic(&["revoke", "--prefix", ""]).1, "AnyLease");
        assert_eq!(dynamic(&["secret", "rm", ""]).1, "Stored");
        assert_eq!(dynamic(&["allow", ""]).1, "AnyCredential");
    }

    #[test]
    fn files_are_offered_where_files_are_meant() {
        assert_eq!(complete(&["allow", "db/orders", "--exe", ""]), Answer::Files);
        assert_eq!(complete(&["exec", "-e", "A=b", "--", "ps"]), Answer::Command(4));
        assert_eq!(complete(&["exec", "-e", "A=b", "--", "psql", "-h"]), Answer::Command(4));
    }

    #[test]
    fn what_is_forwarded_is_asked_of_whom_it_is_forwarded_to() {
        assert_eq!(dynamic(&["audit", "--"]).1, "audit");
        assert_eq!(dynamic(&["audit", "tail", "-"]).1, "audit tail");
    }

    #[test]
    fn nothing_is_offered_where_nothing_is_known() {
        for words in
            [&["nonsense", ""][..], &["get", "a", "b"], &["exec", "-e", "NAME"], &["lock", "x"]]
        {
            assert_eq!(complete(words), Answer::Words(Vec::new()), "{words:?}");
        }
    }

    #[test]
    fn what_others_wrote_stays_on_its_line() {
        let words = vec![Candidate::new("a", "x\ny\tz\x1b[2J")];
        assert_eq!(text(&Answer::Words(words), "").lines().count(), 2);
    }
}
