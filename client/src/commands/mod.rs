//! The subcommands, one file for each, and the table of them.

mod allow;
mod audit;
mod backup;
mod completions;
mod doctor;
mod env;
mod exec;
mod explain;
mod get;
mod init;
mod jwt;
mod leases;
mod lock;
#[cfg(test)]
mod manual;
mod policy;
mod project;
mod rekey;
mod release;
mod reload;
mod render;
mod renew;
mod restore;
mod revoke;
mod secret;
mod status;
mod unlock;
mod watch;
mod whoami;

use crate::failure::Failure;
use crate::output::{self, When};
use crate::supervise::child::{MONITOR, UNDER};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use std::ffi::OsString;
use std::process::ExitCode;

/// A subcommand. Its arguments are defined only when it is the one that runs:
/// building all of them would take longer than most calls.
struct Entry {
    name: &'static str,
    about: &'static str,
    define: fn(Command) -> Command,
    run: fn(&mut ArgMatches) -> Result<(), Failure>,
}

macro_rules! entries {
    ($($name:literal $module:ident $about:literal;)*) => {
        &[$(Entry {
            name: $name,
            about: $about,
            // Behind it, since a flattened group would put its own comment there.
            define: |command| $module::Arguments::augment_args(command).about($about).long_about(None),
            run: |matches| $module::run($module::Arguments::from_arg_matches_mut(matches)?),
        }),*]
    };
}

const ENTRIES: &[Entry] = entries! {
    "init" init "Make the agent's key, directories and configuration (jsi-agent init)";
    "secret" secret "Put, import, rotate, export, list and remove stored secrets";
    "get" get "Print a credential, leased to the shell that asks";
    "exec" exec "Become a command that has credentials in its environment or descriptors";
    "env" env "Print a project's variables for the shell that asks, until it ends";
    "project" project "Look at project files (jsi.toml), and allow them";
    "render" render "Fill in a template; the file lives as long as its leases";
    "renew" renew "Lengthen a lease";
    "release" release "Give leases up";
    "leases" leases "List leases and what is left of them";
    "watch" watch "Print each change of a lease as it happens";
    "whoami" whoami "Show who the agent thinks is asking";
    "allow" allow "Write a policy that permits a program a credential";
    "policy" policy "Check and test policies, without an agent (jsi-agent policy)";
    "jwt" jwt "Show and rotate the keys by which tokens are verified";
    "explain" explain "Show how a request was decided, or would be, and why";
    "audit" audit "Read and verify the log (jsi-agent audit)";
    "backup" backup "Copy the whole store into a file, as ciphertext";
    "restore" restore "Put the store of a backup in the place of this one";
    "revoke" revoke "End leases of others";
    "status" status "Show how the agent is";
    "doctor" doctor "Look for what is wrong or weak, and say what mends it";
    "rekey" rekey "Give the store another identity (jsi-agent rekey)";
    "lock" lock "Stop issue, renewal and reads; leases still end";
    "unlock" unlock "Undo lock, or open the store by its passphrase";
    "reload" reload "Read configuration and policy again, both or neither";
    "completions" completions "Print the completion script of a shell";
};

const EXIT_CODES: &str = "\
A first day:
  jsi init && eval \"$(jsi-agent)\"
  jsi secret put db/orders --owner dba --purpose 'orders database'
  jsi allow db/orders --exe /usr/bin/bash --ttl 15m
  jsi exec -e PGPASSWORD=db/orders -- psql -h db orders

Exit codes: 0 done, 1 error, 2 usage, 3 denied, 4 not found, 5 agent unreachable,
6 locked, 7 limit; exec returns its command's own, or 125, 126, 127.
The agent is found by $JSI_AUTH_SOCK, else $XDG_RUNTIME_DIR/jsi/agent.sock, else
/run/jsi/agent.sock; its admin socket by $JSI_ADMIN_SOCK, else beside that.
secret, backup, restore, allow, explain, revoke, status, lock, unlock, reload and
leases --all use the admin socket.";

/// Runs the command and maps its result to an exit code, once.
pub(crate) fn main() -> ExitCode {
    if let Some(hidden) = hidden() {
        return hidden;
    }
    code_of(run(), becomes_a_command())
}

fn code_of(done: Result<(), Failure>, exec: bool) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A command's own, by way of its supervisor.
        Err(Failure::Quiet(code)) if exec => ExitCode::from(code),
        Err(failure) => {
            let code = failure.report();
            // What `jsi exec` returns otherwise is its command's own.
            ExitCode::from(if exec && !matches!(code, 0 | 126 | 127) { 125 } else { code })
        }
    }
}

/// `jsi exec`, unless it is only to say what it would do.
fn becomes_a_command() -> bool {
    is_exec(std::env::args_os().skip(1))
}

/// The subcommand may stand behind `--color WHEN`, the one flag of `jsi` itself.
fn is_exec(words: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let mut own = words.take_while(|arg| arg != "--").skip_while({
        let mut when = false;
        move |arg| {
            let skipped =
                std::mem::take(&mut when) || arg.as_encoded_bytes().starts_with(b"--color");
            when = arg == "--color";
            skipped
        }
    });
    own.next().is_some_and(|arg| arg == "exec") && !own.any(|arg| arg == "--dry-run")
}

/// What jsi starts itself as, and nobody asks for: of no use without what it is
/// started with.
fn hidden() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == crate::files::REAPER => Some(crate::files::reap::main(words)),
        Some(word) if word == UNDER => Some(code_of(exec::under(words), true)),
        Some(word) if word == MONITOR => Some(crate::supervise::monitor::main(words)),
        // The scripts of shells: `jsi complete -- WORDS`.
        Some(word) if word == "complete" => {
            let words: Vec<OsString> = words.skip(1).collect();
            crate::complete::main(&words);
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}

fn run() -> Result<(), Failure> {
    let mut matches = whole().try_get_matches()?;
    if let Some(when) = matches.get_one::<When>("color") {
        output::set_colour(*when);
    }
    let Some((name, mut matches)) = matches.remove_subcommand() else {
        return Ok(()); // clap has asked for one
    };
    match ENTRIES.iter().find(|entry| entry.name == name) {
        Some(entry) => (entry.run)(&mut matches),
        None => Ok(()), // clap knows no other
    }
}

/// How the words of a subcommand are read; those of `jsi` itself by the empty name.
pub(crate) fn definition(name: &str) -> Option<Command> {
    if name.is_empty() {
        return Some(whole());
    }
    let entry = ENTRIES.iter().find(|entry| entry.name == name)?;
    Some((entry.define)(Command::new(entry.name)))
}

fn whole() -> Command {
    let jsi = Command::new("jsi")
        .about("Short-lived credentials for the program that asks, by the jsi agent")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("color")
                .long("color")
                .value_name("auto|always|never")
                .help("Colours [default: on a terminal; NO_COLOR, CLICOLOR_FORCE and TERM=dumb count]")
                .value_parser(value_parser!(When))
                .hide_possible_values(true),
        )
        .after_help(EXIT_CODES);
    ENTRIES.iter().fold(jsi, |jsi, entry| {
        jsi.subcommand(Command::new(entry.name).about(entry.about).defer(entry.define))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_is_exec_behind_a_colour_too_and_a_dry_run_is_not() {
        let is_exec = |line: &str| is_exec(line.split(' ').map(Into::into));
        for line in ["exec -- true", "--color=never exec -- true", "--color never exec -e A=b -- x"]
        {
            assert!(is_exec(line), "{line}");
        }
        for line in ["get exec", "--color exec get", "exec --dry-run -- true", "-- exec", ""] {
            assert!(!is_exec(line), "{line}");
        }
        assert!(is_exec("exec -- x --dry-run"));
    }

    #[test]
    fn every_subcommand_is_well_defined() {
        for entry in ENTRIES {
            (entry.define)(Command::new(entry.name)).debug_assert();
        }
        whole().debug_assert();
    }
}
