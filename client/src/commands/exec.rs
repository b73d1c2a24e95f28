//! `jsi exec`: becomes the command, so that signals, terminal and exit code
//! are native, with each lease bound to this very process.
//!
//! [`plan`] → [`obtain`] → [`deliver::prepare`] → [`become_it`]: the steps are
//! described in [`crate::plan`]. A mode that keeps a supervisor takes the place
//! of [`become_it`] and is given the same things.

mod deliver;
pub(super) mod files;
pub(super) mod target;

use crate::failure::Failure;
use crate::files::{FileDir, Orders, Reaper};
use crate::obtain::{Obtained, Terms, obtain};
use crate::plan::{Item, Mode, Origin, Others, Plan, Text, environment, is_variable, scrub};
use crate::session;
use deliver::Prepared;
use jsi_client::Reference;
use jsi_client::v1::binding;
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
  jsi exec --fd TOKEN_FILE=ci/deploy -- deploy --token-file-from-env
  jsi exec -e 'URL=postgres://app:${jsi:db/orders|urlencode}@db/orders' -- app")]
pub(crate) struct Arguments {
    /// Put a field, or text with ${jsi:REF} in it, into a variable (exposed)
    #[arg(short = 'e', long = "env", value_name = "NAME=REF", value_parser = assignment)]
    env: Vec<Assignment>,
    /// Put the same into a sealed memory file; NAME becomes its path, /dev/fd/N
    #[arg(long = "fd", value_name = "NAME=REF", value_parser = assignment)]
    fd: Vec<Assignment>,
    #[command(flatten)]
    files: files::Flags,
    /// Also resolve variables of this environment whose value is jsi:REF, or has ${jsi:REF} in it
    #[arg(long)]
    env_refs: bool,
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

/// `NAME=VALUE` as it was given, and known to be good.
#[derive(Clone)]
struct Assignment {
    name: String,
    value: String,
}

fn assignment(given: &str) -> Result<Assignment, String> {
    let (name, value) = given.split_once('=').ok_or("write it as NAME=db/orders#password")?;
    if !is_variable(name) {
        return Err(format!("{name:?} is no name for a variable"));
    }
    text(value)?;
    Ok(Assignment { name: name.to_owned(), value: value.to_owned() })
}

/// `db/orders#password`, or text with `${jsi:…}` in it.
fn text(value: &str) -> Result<Text, String> {
    if value.contains("${") || value.starts_with("jsi:") {
        let text = Text::value(value.as_bytes(), Others::Refused, |_| false);
        return text.map_err(|error| error.to_string());
    }
    let reference: Result<Reference, _> = value.parse();
    Ok(Text::field(reference.map_err(|error| error.to_string())?))
}

/// Returns only where something failed.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let plan = plan(&arguments)?;
    let place = arguments.files.place(&plan)?;
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
    let terms = Terms {
        binding: Some(binding::Kind::Caller(binding::Unit {})),
        target: Some(target.claim()),
        note: arguments.note,
    };
    let (obtained, prepared) = session::block_on(async {
        let agent = session::agent().await?;
        let obtained = obtain(&agent, &plan, &terms).await?;
        // From here on nothing fails but exec itself; what is granted to a
        // process that does not come to be is given back.
        match deliver::prepare(&mut command, &plan, &obtained, place.as_ref(), guard) {
            Ok(prepared) => Ok((obtained, prepared)),
            Err(failure) => {
                obtained.give_back(&agent).await;
                Err(failure)
            }
        }
    })?;
    Err(become_it(&mut command, &target, &obtained, prepared))
}

/// Starts what removes the files when this process, which becomes the command,
/// has ended.
fn guard(dir: &FileDir, orders: &Orders) -> Result<(), Failure> {
    Reaper::start(dir, std::process::id(), orders).map(drop)
}

/// Executes the command. What comes back is why that could not be done.
fn become_it(
    command: &mut Command,
    target: &Target,
    obtained: &Obtained,
    prepared: Prepared,
) -> Failure {
    let failure = match target.unchanged() {
        Ok(()) => target::cannot_run(target.path(), &command.exec()),
        Err(failure) => failure,
    };
    drop(prepared);
    let _ = session::block_on(async {
        obtained.give_back(&session::agent().await?).await;
        Ok::<_, Failure>(())
    }); // the end of this process ends them anyway
    failure
}

fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let env = arguments.env.iter().map(|pair| (pair, Mode::Environment, "--env"));
    let fd = arguments.fd.iter().map(|pair| (pair, Mode::Descriptor, "--fd"));
    for (Assignment { name, value }, mode, flag) in env.chain(fd) {
        if !arguments.keep_env
            && let Some(reason) = scrub::reason(name)
        {
            return Err(Failure::usage(format!("{name} is not set for a command: {reason}"))
                .advise("say --keep-env if that is meant"));
        }
        let text = text(value).map_err(Failure::usage)?;
        plan.add(Item { name: name.clone(), mode, text, origin: Origin::Flag(flag) })?;
    }
    arguments.files.plan(&mut plan, arguments.keep_env)?;
    if arguments.env_refs {
        let named: Vec<_> = plan.items().iter().map(|item| item.name.clone()).collect();
        let others =
            std::env::vars_os().filter(|(name, _)| !named.iter().any(|n| name == n.as_str()));
        environment::add(&mut plan, others)?;
    }
    if plan.items().is_empty() {
        return Err(Failure::usage("no credential is asked for")
            .advise("for example: jsi exec -e PGPASSWORD=db/orders#password -- psql"));
    }
    for want in plan.wants_mut() {
        want.ttl = arguments.ttl;
        want.scope.extend(arguments.scope.iter().cloned());
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_name_a_variable_and_a_reference_or_text_with_references() {
        for good in ["PGPASSWORD=db/orders#password", "A=jsi:a", "A=x${jsi:a|urlencode}y${jsi:a#b}"]
        {
            assert!(assignment(good).is_ok(), "{good}");
        }
        for bad in
            ["X", "=a", "1X=a", "X-Y=a", "X=", "X=A", "X=jsi:A", "X=${jsi:a", "X=${HOME}", "X=a b"]
        {
            assert!(assignment(bad).is_err(), "{bad}");
        }
    }
}
