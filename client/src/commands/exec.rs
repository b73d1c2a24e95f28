//! `jsi exec`: becomes the command, so that signals, terminal and exit code
//! are native, with each lease bound to this very process.
//!
//! Plan, [`obtain`], [`deliver::prepare`], [`become_it`]: the steps are described
//! in [`crate::plan`]. A mode that keeps a supervisor takes the place
//! of [`become_it`] and is given the same things.

mod broker;
mod deliver;
mod dry_run;
pub(super) mod files;
mod modes;
pub(super) mod target;
mod under;

use crate::failure::Failure;
use crate::files::{Place, Reaper};
use crate::obtain::{Obtained, Terms, obtain};
use crate::output::OutputFlag;
use crate::plan::{Assignment, Gathered, Mode, Plan, Sources, assignment};
use crate::project::require_allowed;
use crate::session;
use crate::supervise::child;
use crate::supervise::link::Report;
use crate::supervise::supervise;
use deliver::Prepared;
use jsi_client::v1::{TargetClaim, binding};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use target::Target;
pub(super) use target::measure;
pub(super) use under::under;

#[derive(clap::Args)]
#[command(after_help = "\
Becomes COMMAND by exec. The leases end when it exits, however it exits. Returns
the command's own exit code, or 125 where jsi fails, 126 where the command cannot
be run, 127 where it is not found.

Variables are readable by every process of the same user; --fd is not: the
command reads the value from the path in the variable.
  jsi exec -e PGPASSWORD=db/orders#password -- psql -h db orders
  jsi exec --fd TOKEN_FILE=ci/deploy -- deploy --token-file-from-env
  jsi exec -e 'URL=postgres://app:${jsi:db/orders|urlencode}@db/orders' -- app
--file and --template are for what must have a path; the file is removed when the
command has ended, even by SIGKILL, and when its lease has.
  jsi exec --template CONFIG=app.yaml.tmpl -- sh -c 'app --config $CONFIG'
--renew, --watch and --redact keep jsi beside the command, with the same signals,
terminal and exit code.
  jsi exec --renew --watch --file CERT=tls/app -- server")]
pub(crate) struct Arguments {
    #[command(flatten)]
    sources: Sources,
    /// Put the same into a sealed memory file; NAME becomes its path, /dev/fd/N
    #[arg(long = "fd", value_name = "NAME=REF", value_parser = assignment)]
    fd: Vec<Assignment>,
    #[command(flatten)]
    files: files::FileFlags,
    #[command(flatten)]
    modes: modes::ModeFlags,
    /// Only show what the command would be given, and whether it would be permitted; -o json for
    /// programs. Exits with 3 where something is denied, 4 where there is no such credential
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputFlag,
    /// Keep variables that let others' code into the command (LD_PRELOAD, …). The agent is then
    /// not told which program it is, so rules that ask for one do not permit it
    #[arg(long)]
    keep_env: bool,
    /// Run a copy of the command that nobody can change, so that rules may demand its digest
    /// (context.target.digest); where it is root's it runs as it is
    #[arg(long, conflicts_with = "keep_env")]
    sealed: bool,
    /// Run this script, as its #! line says, from such a copy; what follows -- are its arguments.
    /// The script finds its own path in $JSI_SCRIPT
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keep_env", "sealed"])]
    script: Option<PathBuf>,
    /// Let the command reach the agent where a sandbox forbids it to make a Unix socket: by an
    /// inherited descriptor, whose number is in $JSI_AUTH_FD
    #[arg(long)]
    broker_fd: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// The command and its arguments
    #[arg(required_unless_present = "script", last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Returns only where something failed, or where a supervisor has done its work.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Some(wanted) = dry(&arguments)? else { return Ok(()) };
    let modes = arguments.modes.modes(&wanted.plan);
    if modes.any() {
        // What can be known to be wrong is told before anything is started.
        arguments.files.place(&wanted.plan)?;
        return supervise(modes, under::arguments());
    }
    go(arguments, wanted, &mut Duty::Own)
}

/// What the command is to have, and the command.
struct Wanted {
    plan: Plan,
    target: Target,
}

/// Who sees to what goes on while the command runs.
enum Duty<'a> {
    /// Nobody; a reaper removes its files.
    Own,
    /// A supervisor, which is told, and whose end is to be this one's.
    Told { report: &'a mut Report, secrets: bool, parent: u32 },
}

/// `None`: it was only to be shown.
fn dry(arguments: &Arguments) -> Result<Option<Wanted>, Failure> {
    let (gathered, target) = gather(arguments)?;
    if arguments.dry_run {
        return dry_run::run(&gathered, &target, arguments.output).map(|()| None);
    }
    allowed(gathered, target).map(Some)
}

fn wanted(arguments: &Arguments) -> Result<Wanted, Failure> {
    let (gathered, target) = gather(arguments)?;
    allowed(gathered, target)
}

fn gather(arguments: &Arguments) -> Result<(Gathered, Target), Failure> {
    let fd = arguments.fd.iter().map(|given| given.item(Mode::Descriptor, "--fd"));
    let mut others = fd.collect::<Result<Vec<_>, _>>()?;
    others.extend(arguments.files.items()?);
    let gathered = arguments.sources.gather(others, arguments.keep_env)?;
    if gathered.plan.items().is_empty() && !arguments.broker_fd {
        return Err(Failure::usage("no credential is asked for")
            .advise("for example: jsi exec -e PGPASSWORD=db/orders#password -- psql")
            .advise("or write a jsi.toml: jsi project --help"));
    }
    Ok((gathered, measured(arguments)?))
}

/// The command, as it is to run.
fn measured(arguments: &Arguments) -> Result<Target, Failure> {
    let path = std::env::var_os("PATH");
    match (&arguments.script, arguments.command.first()) {
        (Some(script), _) => Target::script(script, path.as_deref()),
        (None, Some(program)) if arguments.sealed => Target::sealed(program, path.as_deref()),
        (None, Some(program)) => Target::find(program, path.as_deref()),
        (None, None) => Err(Failure::usage("no command is given")),
    }
}

/// The command's words, the first of which is its name.
fn words(arguments: &Arguments) -> Vec<OsString> {
    let script = arguments.script.iter().map(|script| script.clone().into_os_string());
    script.chain(arguments.command.iter().cloned()).collect()
}

fn allowed(gathered: Gathered, target: Target) -> Result<Wanted, Failure> {
    let Gathered { plan, project } = gathered;
    if let Some(project) = &project {
        require_allowed(project, &plan)?;
    }
    Ok(Wanted { plan, target })
}

/// What the agent is told of the command. Nothing where its environment may
/// bring others' code: rules on programs could not see that.
fn claim(target: &Target, keep_env: bool) -> Option<TargetClaim> {
    (!keep_env).then(|| target.claim())
}

/// Obtains, delivers, becomes. Returns only where something failed.
fn go(arguments: Arguments, wanted: Wanted, duty: &mut Duty<'_>) -> Result<(), Failure> {
    let Wanted { plan, target } = wanted;
    let place = arguments.files.place(&plan)?;
    let words = words(&arguments);
    let mut command = target.command(&words, arguments.keep_env);
    let terms = Terms {
        binding: Some(binding::Kind::Caller(binding::Unit {})),
        target: claim(&target, arguments.keep_env),
        note: arguments.note,
        ..Terms::default()
    };
    let broker = if arguments.broker_fd { broker::hand_down(&mut command)? } else { None };
    let what = (&plan, place.as_ref());
    let (obtained, prepared) = if plan.wants().next().is_some() {
        session::block_on(supply(&mut command, what, &terms, duty))?
    } else {
        session::drop_group(); // no connection is made that would do so
        let nothing = Obtained::default();
        let prepared = duty.prepare(&mut command, what, &nothing)?;
        (nothing, prepared)
    };
    if let Some(broker) = &broker {
        broker::leave_open(broker)?;
    }
    Err(become_it(&mut command, (&target, &words), &obtained, prepared))
}

/// Obtains everything and hands it to the command to be. From then on nothing
/// fails but exec itself; what is granted to a process that does not come to be
/// is given back.
async fn supply(
    command: &mut Command,
    (plan, place): (&Plan, Option<&Place>),
    terms: &Terms,
    duty: &mut Duty<'_>,
) -> Result<(Obtained, Prepared), Failure> {
    let agent = session::agent().await?;
    let obtained = obtain(&agent, plan, terms).await?;
    match duty.prepare(command, (plan, place), &obtained) {
        Ok(prepared) => Ok((obtained, prepared)),
        Err(failure) => {
            obtained.give_back(&agent).await;
            Err(failure)
        }
    }
}

impl Duty<'_> {
    fn prepare(
        &mut self,
        command: &mut Command,
        what: (&Plan, Option<&Place>),
        obtained: &Obtained,
    ) -> Result<Prepared, Failure> {
        if let Self::Told { report, secrets, .. } = self {
            report.obtained(obtained, *secrets)?;
        }
        let prepared = deliver::prepare(command, what, obtained, |dir, orders| match self {
            // This process becomes the command.
            Self::Own => Reaper::start(dir, std::process::id(), orders).map(drop),
            Self::Told { report, .. } => report.files(orders),
        })?;
        if let Self::Told { report, parent, .. } = self {
            report.ready()?;
            // Once more: where root installed jsi set-group-ID, what was said
            // before was forgotten when the group changed (prctl(2)).
            session::drop_group();
            child::die_with(*parent)?;
        }
        Ok(prepared)
    }
}

/// Executes the command. What comes back is why that could not be done.
fn become_it(
    command: &mut Command,
    (target, words): (&Target, &[OsString]),
    obtained: &Obtained,
    prepared: Prepared,
) -> Failure {
    let failure = target.become_it(command, words);
    drop(prepared);
    let _ = session::block_on(async {
        obtained.give_back(&session::agent().await?).await;
        Ok::<_, Failure>(())
    }); // the end of this process ends them anyway
    failure
}
