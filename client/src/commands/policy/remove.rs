//! `jsi policy rm`: takes a policy's file away, and has the agent follow; where it
//! will not, the file is put back.

use crate::beside::question_agent;
use crate::commands::allow::policy_dir;
use crate::failure::Failure;
use crate::{output, session};
use jsi_client::Kind;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The policy's @id, as jsi policy ls has it
    id: String,
    /// Where policies are [default: where the agent reads them]
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (directory, given) = match arguments.policy_dir {
        Some(directory) => (directory, true),
        None => (policy_dir()?, false),
    };
    let file = file_of(&arguments.id, &directory)?;
    // By another name first, which the agent does not read: it can be put back.
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let aside = file.with_file_name(format!(".{name}.removed-{}", std::process::id()));
    fs::rename(&file, &aside).map_err(|error| {
        Failure::new(format!("cannot remove {}: {error}", file.display()))
            .advise("policies are written by the agent's operator")
    })?;
    let reloaded = session::block_on(async { session::admin().await?.reload().await });
    match reloaded {
        Ok(now) => {
            discard(&aside);
            let policies = now.policies;
            output::note(&format!("removed {}; policies in force: {policies}", file.display()));
            Ok(())
        }
        Err(Failure::Told { code, .. }) if given && code == Kind::Unreachable.exit_code() => {
            discard(&aside);
            output::note(&format!("removed {}; no agent runs that could reload", file.display()));
            Ok(())
        }
        Err(failure) => match fs::rename(&aside, &file) {
            Ok(()) => Err(failure.advise(format!("{} is still there", file.display()))),
            Err(error) => Err(failure.advise(format!(
                "{} could not be put back ({error}); it is {}",
                file.display(),
                aside.display()
            ))),
        },
    }
}

fn discard(aside: &Path) {
    if let Err(error) = fs::remove_file(aside) {
        output::note(&format!("warning: {} is left behind: {error}", aside.display()));
    }
}

/// The file that holds that policy and no other.
fn file_of(id: &str, directory: &Path) -> Result<PathBuf, Failure> {
    let words: [OsString; 6] = [
        "policy".into(),
        "ls".into(),
        "-o".into(),
        "json".into(),
        "--policy-dir".into(),
        directory.as_os_str().to_owned(),
    ];
    let listed = question_agent(words, b"")?;
    let listed: Vec<Value> = serde_json::from_slice(&listed)
        .map_err(|error| Failure::new(format!("jsi-agent did not list policies: {error}")))?;
    let Some(found) = listed.iter().find(|one| one["id"] == id) else {
        let failure = Failure::new(format!("no policy {id:?} is in {}", directory.display()));
        return Err(failure.code(4).advise("those that are: jsi policy ls"));
    };
    let file = found["file"].as_str().unwrap_or_default();
    let others = listed.iter().filter(|one| one["file"] == file).count() - 1;
    if others > 0 {
        let place = format!("{file}:{}", found["line"]);
        return Err(Failure::new(format!("{file} holds {others} policies besides it"))
            .advise(format!("remove it by hand, at {place}; then: jsi reload")));
    }
    Ok(PathBuf::from(file))
}
