//! `jsi exec`: becomes the command, so that signals, terminal and exit code
//! are native, with each lease bound to this very process.
//!
//! Plan, [`obtain`], [`deliver::prepare`], [`become_it`]: the steps are described
//! in [`crate::plan`]. A mode that keeps a supervisor takes the place
//! of [`become_it`] and is given the same things.

mod deliver;
mod dry_run;
pub(super) mod files;
pub(super) mod target;

use crate::failure::Failure;
use crate::files::{FileDir, Orders, Place, Reaper};
use crate::obtain::{Obtained, Terms, obtain};
use crate::output::OutputFlag;
use crate::plan::{Assignment, Gathered, Mode, Plan, Sources, assignment, scrub};
use crate::project::require_allowed;
use crate::session;
use deliver::Prepared;
use jsi_client::v1::binding;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
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
    #[command(flatten)]
    sources: Sources,
    /// Put the same into a sealed memory file; NAME becomes its path, /dev/fd/N
    #[arg(long = "fd", value_name = "NAME=REF", value_parser = assignment)]
    fd: Vec<Assignment>,
    #[command(flatten)]
    files: files::Flags,
    /// Only show what the command would be given, and whether it would be permitted; -o json for
    /// programs. Exits with 3 where something is denied, 4 where there is no such credential
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputFlag,
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

/// Returns only where something failed.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let fd = arguments.fd.iter().map(|given| given.item(Mode::Descriptor, "--fd"));
    let mut others = fd.collect::<Result<Vec<_>, _>>()?;
    others.extend(arguments.files.items()?);
    let gathered = arguments.sources.gather(others, arguments.keep_env)?;
    if gathered.plan.items().is_empty() {
        return Err(Failure::usage("no credential is asked for")
            .advise("for example: jsi exec -e PGPASSWORD=db/orders#password -- psql")
            .advise("or write a jsi.toml: jsi project --help"));
    }
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Failure::usage("no command is given"));
    };
    let target = Target::find(program, std::env::var_os("PATH").as_deref())?;
    if arguments.dry_run {
        return dry_run::run(&gathered, &target, arguments.output);
    }
    let Gathered { plan, project } = gathered;
    if let Some(project) = &project {
        require_allowed(project, &plan)?;
    }
    let place = arguments.files.place(&plan)?;
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
        ..Terms::default()
    };
    let (obtained, prepared) = if plan.wants().next().is_some() {
        session::block_on(supply(&mut command, (&plan, place.as_ref()), &terms))?
    } else {
        session::drop_group(); // no connection is made that would do so
        let nothing = Obtained::default();
        let prepared = deliver::prepare(&mut command, (&plan, place.as_ref()), &nothing, guard)?;
        (nothing, prepared)
    };
    Err(become_it(&mut command, &target, &obtained, prepared))
}

/// Obtains everything and hands it to the command to be. From then on nothing
/// fails but exec itself; what is granted to a process that does not come to be
/// is given back.
async fn supply(
    command: &mut Command,
    (plan, place): (&Plan, Option<&Place>),
    terms: &Terms,
) -> Result<(Obtained, Prepared), Failure> {
    let agent = session::agent().await?;
    let obtained = obtain(&agent, plan, terms).await?;
    match deliver::prepare(command, (plan, place), &obtained, guard) {
        Ok(prepared) => Ok((obtained, prepared)),
        Err(failure) => {
            obtained.give_back(&agent).await;
            Err(failure)
        }
    }
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
