//! `jsi exec`: becomes the command, so that signals, terminal and exit code
//! are native, with each lease bound to this very process.

mod deliver;
mod scrub;
mod target;

use crate::failure::Failure;
use crate::{output, session};
use deliver::{Mode, Wanted};
use jsi_client::{Agent, Reference};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use target::Target;
pub(super) use target::measure;

#[derive(clap::Args)]
#[command(after_help = "\
Becomes COMMAND by exec. The leases end when it exits, however it exits. Returns
the command's own exit code, or 125 where jsi fails, 126 where the command cannot
be run, 127 where it is not found.

Variables are readable by every process of the same user; --fd is not: the
command reads the value from the path in the variable.
  jsi exec -e PGPASSWORD=db/orders#password -- psql -h db orders
  jsi exec --fd TOKEN_FILE=ci/deploy -- deploy --token-file-from-env")]
pub(crate) struct Arguments {
    /// Put a field into a variable of the command's environment (exposed)
    #[arg(short = 'e', long = "env", value_name = "NAME=REF", value_parser = assignment)]
    env: Vec<(String, Reference)>,
    /// Put a field into a sealed memory file; NAME becomes its path, /dev/fd/N
    #[arg(long = "fd", value_name = "NAME=REF", value_parser = assignment)]
    fd: Vec<(String, Reference)>,
    /// How long, at most: 90s, 15m, 1h30m, 2d
    #[arg(long, value_name = "TIME", value_parser = super::renew::ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    /// Narrow every credential; keys are the issuer's
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::get::scope)]
    scope: Vec<(String, String)>,
    /// Keep variables that let others' code into the command (LD_PRELOAD, …)
    #[arg(long)]
    keep_env: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn assignment(text: &str) -> Result<(String, Reference), String> {
    let (name, reference) = text.split_once('=').ok_or("write it as NAME=db/orders#password")?;
    if !is_variable(name) {
        return Err(format!("{name:?} is no name for a variable"));
    }
    Ok((name.to_owned(), reference.parse().map_err(|e: jsi_client::ReferenceError| e.to_string())?))
}

/// Letters, digits and underscores, and no digit first.
pub(super) fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Returns only where something failed.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let wanted = wanted(&arguments)?;
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Failure::usage("no command is given"));
    };
    let target = Target::find(program, std::env::var_os("PATH").as_deref())?;
    let mut command = Command::new(target.path());
    command.arg0(program).args(rest);
    if !arguments.keep_env {
        for name in scrub::dangerous(std::env::vars_os().map(|(name, _)| name)) {
            command.env_remove(name);
        }
    }
    let delivered = session::block_on(async {
        let agent = session::agent().await?;
        let delivered = deliver::all(&agent, &wanted, &target, &arguments).await?;
        // From here on nothing fails but exec itself; what is granted to a
        // process that does not come to be is given back.
        match deliver::prepare(&mut command, &wanted, &delivered) {
            Ok(open) => Ok((delivered, open)),
            Err(failure) => {
                give_back(&agent, delivered.fresh()).await;
                Err(failure)
            }
        }
    })?;
    let (delivered, open) = delivered;
    let failure = match target.unchanged() {
        Ok(()) => target::cannot_run(target.path(), &command.exec()),
        Err(failure) => failure,
    };
    drop(open);
    let _ = session::block_on(async {
        give_back(&session::agent().await?, delivered.fresh()).await;
        Ok::<_, Failure>(())
    }); // the end of this process ends them anyway
    Err(failure)
}

async fn give_back(agent: &Agent, leases: impl Iterator<Item = &str>) {
    for id in leases {
        if let Err(error) = agent.release(id).await {
            output::note(&format!("note: {id} could not be given back: {error}"));
        }
    }
}

fn wanted(arguments: &Arguments) -> Result<Vec<Wanted>, Failure> {
    let env = arguments.env.iter().map(|pair| (pair, Mode::Environment));
    let fd = arguments.fd.iter().map(|pair| (pair, Mode::Descriptor));
    let mut wanted: Vec<Wanted> = Vec::new();
    for ((name, reference), mode) in env.chain(fd) {
        if wanted.iter().any(|other| other.name == *name) {
            return Err(Failure::usage(format!("{name} is given twice")));
        }
        if !arguments.keep_env
            && let Some(reason) = scrub::reason(name)
        {
            return Err(Failure::usage(format!("{name} is not set for a command: {reason}"))
                .advise("say --keep-env if that is meant"));
        }
        wanted.push(Wanted { name: name.clone(), reference: reference.clone(), mode });
    }
    if wanted.is_empty() {
        return Err(Failure::usage("no credential is asked for")
            .advise("for example: jsi exec -e PGPASSWORD=db/orders#password -- psql"));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_name_a_variable_and_a_reference() {
        let (name, reference) = assignment("PGPASSWORD=db/orders#password").unwrap();
        assert_eq!(
            (name.as_str(), reference.to_string().as_str()),
            ("PGPASSWORD", "db/orders#password")
        );
        for bad in ["X", "=a", "1X=a", "X-Y=a", "X=", "X=A"] {
            assert!(assignment(bad).is_err(), "{bad}");
        }
    }
}
