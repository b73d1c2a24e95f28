//! From the words before the cursor to what may stand at it, by the same
//! definition that the commands are parsed by.

use super::asked::Kind;
use super::{Answer, Candidate};
use clap::builder::ValueHint;
use clap::{Arg, Command};

/// What may stand at the cursor.
pub(super) enum Place {
    /// It is known here.
    Known(Answer),
    /// The agent knows it. What is typed of it follows the prefix.
    Dynamic { kind: Kind, prefix: String },
    /// `jsi-agent` takes these words.
    Forwarded(Vec<String>),
}

/// Options that clap adds itself.
const HELP: (&str, &str) = ("--help", "Print help");

/// Follows the words. `define` gives the definition of a subcommand; of `jsi`
/// itself by the empty name.
pub(super) fn find(
    define: &dyn Fn(&str) -> Option<Command>,
    before: &[String],
    current: &str,
) -> Place {
    let Some(mut command) = define("") else { return nothing() };
    let mut path: Vec<String> = Vec::new();
    let mut given = 0; // positional arguments
    let mut waiting: Option<Arg> = None;
    for (at, word) in before.iter().enumerate() {
        if waiting.take().is_some() {
            continue;
        }
        if word == "--" {
            return command_behind(&command, at + 1);
        }
        if forwards(&command) {
            return Place::Forwarded([&path[..], &before[at..]].concat());
        }
        if word.starts_with('-') && word.len() > 1 {
            waiting = takes_value(&command, word);
            continue;
        }
        let sub = match path.is_empty() {
            true if word == "help" => define(""),
            true => define(word),
            false => command.find_subcommand(word).cloned(),
        };
        match sub {
            Some(sub) if word == "help" && path.is_empty() => command = sub,
            Some(sub) => {
                command = sub;
                path.push(word.clone());
                given = 0;
            }
            None if command.has_subcommands() => return nothing(), // a mistake
            None => given += 1,
        }
    }
    if let Some(arg) = waiting {
        return values(&path, &arg, "", current);
    }
    if forwards(&command) {
        return Place::Forwarded(path);
    }
    at_cursor(&command, &path, given, current)
}

fn at_cursor(command: &Command, path: &[String], given: usize, current: &str) -> Place {
    if let Some((name, value)) = current.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
        let long = |arg: &&Arg| arg.get_long() == Some(name) && arg.get_action().takes_values();
        return match command.get_arguments().find(long) {
            Some(arg) => values(path, arg, &format!("--{name}="), value),
            None => nothing(),
        };
    }
    if current.starts_with('-') {
        return words(options(command));
    }
    if command.has_subcommands() {
        let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let subs = shown.map(|sub| Candidate::new(sub.get_name(), about(sub.get_about())));
        return words(subs.collect());
    }
    let positionals: Vec<&Arg> = command.get_positionals().filter(|a| !a.is_last_set()).collect();
    let many = |arg: &&&Arg| arg.get_num_args().is_some_and(|n| n.max_values() > 1) || repeats(arg);
    match positionals.get(given).or_else(|| positionals.last().filter(many)) {
        Some(arg) => values(path, arg, "", current),
        None => nothing(),
    }
}

fn repeats(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

/// The values of an argument, behind what is typed already.
fn values(path: &[String], arg: &Arg, prefix: &str, typed: &str) -> Place {
    let possible: Vec<Candidate> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| {
            Candidate::new(format!("{prefix}{}", value.get_name()), about(value.get_help()))
        })
        .collect();
    if !possible.is_empty() {
        return words(possible);
    }
    match Kind::of(path, arg) {
        Some(Kind::Files) => Place::Known(Answer::Files),
        Some(Kind::Directories) => Place::Known(Answer::Directories),
        Some(Kind::Assignment) => match typed.split_once('=') {
            Some((name, _)) => {
                Place::Dynamic { kind: Kind::Credential, prefix: format!("{prefix}{name}=") }
            }
            None => nothing(), // a name of the user's choice
        },
        Some(kind) => Place::Dynamic { kind, prefix: prefix.to_owned() },
        None => nothing(),
    }
}

fn options(command: &Command) -> Vec<Candidate> {
    let shown = command.get_opts().chain(
        command
            .get_arguments()
            .filter(|arg| !arg.is_positional() && !arg.get_action().takes_values()),
    );
    let mut found: Vec<Candidate> = shown
        .filter(|arg| !arg.is_hide_set())
        .flat_map(|arg| {
            let about = about(arg.get_help());
            let long = arg.get_long().map(|long| format!("--{long}"));
            let short = arg.get_short().map(|short| format!("-{short}"));
            long.into_iter().chain(short).map(move |word| Candidate::new(word, about.clone()))
        })
        .collect();
    found.push(Candidate::new(HELP.0, HELP.1));
    found
}

/// The option of this word, where the next word is its value.
fn takes_value(command: &Command, word: &str) -> Option<Arg> {
    let takes = |arg: &Arg| arg.get_action().takes_values();
    if let Some(long) = word.strip_prefix("--") {
        if long.contains('=') {
            return None;
        }
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long))?;
        return takes(arg).then(|| arg.clone());
    }
    let mut letters = word.chars().skip(1).peekable();
    while let Some(letter) = letters.next() {
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
        if takes(arg) {
            // What follows in the same word is its value.
            return letters.peek().is_none().then(|| arg.clone());
        }
    }
    None
}

/// Everything goes to another program, which knows its own words.
pub(crate) fn forwards(command: &Command) -> bool {
    command.get_positionals().any(|arg| {
        arg.is_trailing_var_arg_set() && arg.is_allow_hyphen_values_set() && !arg.is_last_set()
    })
}

fn command_behind(command: &Command, first: usize) -> Place {
    match command.get_positionals().any(|arg| arg.is_last_set() || arg.is_trailing_var_arg_set()) {
        true => Place::Known(Answer::Command(first)),
        false => Place::Known(Answer::Files),
    }
}

/// What is meant by an argument's hint, where it has one.
pub(super) fn hinted(arg: &Arg) -> Option<Kind> {
    match arg.get_value_hint() {
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::ExecutablePath => Some(Kind::Files),
        ValueHint::DirPath => Some(Kind::Directories),
        _ => None,
    }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn words(found: Vec<Candidate>) -> Place {
    Place::Known(Answer::Words(found))
}

fn nothing() -> Place {
    words(Vec::new())
}
