//! `jsi exec` below a supervisor: what it starts itself as.

use super::{Arguments, Duty, files, go, wanted};
use crate::failure::Failure;
use crate::files::FileDir;
use crate::obtain::{Obtained, Terms, obtain};
use crate::plan::{Mode, Plan};
use crate::session;
use crate::supervise::child;
use crate::supervise::link::Report;
use clap::{Args, Command, FromArgMatches};
use jsi_client::v1::binding;
use std::ffi::OsString;
use std::path::Path;

/// The arguments of this `jsi exec`, for one below it.
pub(super) fn arguments() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "exec").skip(1).collect()
}

/// The hidden subcommand. Returns only where something failed, or where it was
/// to fill files in anew.
pub(crate) fn under(words: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let child::Orders { mut report, secrets, parent, refresh, arguments } = child::under(words)?;
    let done = parse(arguments).and_then(|arguments| match refresh {
        None => {
            let wanted = wanted(&arguments)?;
            go(arguments, wanted, &mut Duty::Told { report: &mut report, secrets, parent })
        }
        Some((pid, directory)) => {
            let wanted = wanted(&arguments)?;
            let plan = wanted.plan.split(|item| item.mode == Mode::File).0;
            let terms = Terms {
                binding: Some(binding::Kind::Pid(pid)),
                target: (!arguments.keep_env).then(|| wanted.target.claim_of(pid)),
                delivery: None,
                note: arguments.note,
            };
            session::block_on(again(&plan, &terms, &directory, &mut report, secrets))
        }
    });
    if let Err(failure) = &done {
        // A locked or unreachable agent, and a limit, may be otherwise later.
        report.failed(matches!(failure, Failure::Told { code: 1 | 5 | 6 | 7, .. }));
    }
    done
}

fn parse(words: Vec<OsString>) -> Result<Arguments, Failure> {
    let command = Arguments::augment_args(Command::new("exec").no_binary_name(true));
    Ok(Arguments::from_arg_matches_mut(&mut command.try_get_matches_from(words)?)?)
}

/// The files once more, with leases that are bound to the command.
async fn again(
    plan: &Plan,
    terms: &Terms,
    directory: &Path,
    report: &mut Report,
    secrets: bool,
) -> Result<(), Failure> {
    let dir = FileDir::existing(directory)?;
    let agent = session::agent().await?;
    let obtained = obtain(&agent, plan, terms).await?;
    let done = write(plan, &obtained, &dir, report, secrets);
    if done.is_err() {
        obtained.give_back(&agent).await;
    }
    done
}

fn write(
    plan: &Plan,
    obtained: &Obtained,
    dir: &FileDir,
    report: &mut Report,
    secrets: bool,
) -> Result<(), Failure> {
    let named = files::names(plan);
    let values: Vec<_> =
        named.iter().map(|(item, _)| obtained.value(item)).collect::<Result<_, _>>()?;
    report.obtained(obtained, secrets)?;
    report.files(&files::orders(dir, &named, obtained))?;
    for ((_, name), value) in named.iter().zip(&values) {
        dir.write(name, value)?;
    }
    report.ready()
}
