//! `jsi restore`: the store of a backup, all of it or nothing.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::RestoreHow;
use jsi_client::v1::RestoreResponse;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Names of one kind that a person is shown.
const SHOWN: usize = 20;

#[derive(clap::Args)]
#[command(after_help = "\
Every digest is checked before anything is touched, and the old store stays until the
new one is whole: killed or out of room anywhere on the way, there is the one or the
other, never half of each. Leases on secrets that are another now are told, leases on
secrets that are gone end. Policies and configuration are in the archive to be read
(tar xf), and are not put back. To begin on a new machine:
  put the identity back, jsi-agent init, eval \"$(jsi-agent)\", jsi restore FILE --verify")]
pub(crate) struct Arguments {
    /// What jsi backup wrote; - for standard input
    file: PathBuf,
    /// Replace a store that holds secrets; those that are not in the backup are lost
    #[arg(long)]
    replace: bool,
    /// Open every secret with the agent's identity first
    #[arg(long)]
    verify: bool,
    /// Take a backup that was not sealed under this agent's identity: its digests are
    /// checked, but not who wrote them
    #[arg(long)]
    unsealed: bool,
    /// Check everything, say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { file, replace, verify, unsealed, dry_run, output } = arguments;
    let archive: Box<dyn Read + Send> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        let opened = File::open(&file).and_then(|opened| {
            let kind = opened.metadata()?.file_type();
            let directory = || std::io::Error::from(std::io::ErrorKind::IsADirectory);
            if kind.is_dir() { Err(directory()) } else { Ok(opened) }
        });
        let code = |error: &std::io::Error| {
            if error.kind() == std::io::ErrorKind::NotFound { 4 } else { 1 }
        };
        Box::new(opened.map_err(|error| {
            Failure::new(format!("{}: {error}", file.display())).code(code(&error))
        })?)
    };
    let how = RestoreHow { replace, verify, dry_run, unsealed };
    let done = session::block_on(async { session::admin().await?.restore(how, archive).await })?;
    tell(&done, dry_run);
    if output.format == output::Format::Json {
        return output::print(output, || view_of(&done, dry_run), String::new);
    }
    Ok(())
}

fn tell(done: &RestoreResponse, dry_run: bool) {
    let backup = done.backup.clone().unwrap_or_default();
    let made = view::at(backup.made_at.as_ref());
    let did = if dry_run { "would restore" } else { "restored" };
    output::note(&format!("{did} {} secrets of the backup of {made}", backup.secrets));
    for (what, names) in
        [("added", &done.added), ("changed", &done.changed), ("removed", &done.removed)]
    {
        if names.is_empty() {
            continue;
        }
        let shown: Vec<_> = names.iter().take(SHOWN).map(String::as_str).collect();
        let more = names.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        output::note(&format!("  {what}: {}{more}", shown.join(", ")));
    }
    output::note(&format!("  the same: {}", done.unchanged));
    if done.opened > 0 {
        output::note(&format!("  opened with this agent's identity: {}", done.opened));
    }
    if !done.sealed {
        output::note("warning: who made the backup was not checked (--unsealed)");
    }
    if !dry_run {
        let (told, ended) = (done.leases_told, done.leases_ended);
        output::note(&format!("  live leases told: {told}, ended: {ended}"));
    }
}

fn view_of(done: &RestoreResponse, dry_run: bool) -> Value {
    let backup = done.backup.clone().unwrap_or_default();
    json!({
        "dry_run": dry_run,
        "made_at": view::at(backup.made_at.as_ref()),
        "secrets": backup.secrets,
        "manifest": backup.manifest,
        "sealed": done.sealed,
        "added": done.added,
        "changed": done.changed,
        "removed": done.removed,
        "unchanged": done.unchanged,
        "opened": done.opened,
        "leases_told": done.leases_told,
        "leases_ended": done.leases_ended,
    })
}
