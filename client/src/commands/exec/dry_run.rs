//! `jsi exec --dry-run`: what the command would be given, and whether the agent
//! would permit it. No lease is asked for, so nothing is granted or minted.

use super::target::Target;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::plan::{Gathered, Plan, Verdict, Verdicts, table};
use crate::project::{Standing, standings};
use crate::session;
use jsi_client::Error;
use serde_json::json;
use std::collections::BTreeSet;

/// Not permitted, or a project file that is not allowed.
const DENIED: u8 = 3;
/// No such credential.
const NOT_FOUND: u8 = 4;

pub(super) fn run(gathered: &Gathered, target: &Target, flag: OutputFlag) -> Result<(), Failure> {
    let (Gathered { plan, project }, claim) = (gathered, target.claim());
    let files = project.as_ref().map(standings).transpose()?.unwrap_or_default();
    let verdicts = match session::block_on(verdicts(plan)) {
        Ok(found) => Some(found),
        Err(failure @ Failure::Told { .. }) => {
            let told = format!("note: the agent could not be asked: {}", failure.message());
            output::note(&told);
            None
        }
        Err(failure) => return Err(failure),
    };
    let open: Vec<_> =
        files.iter().filter(|(_, standing)| *standing != Standing::Allowed).collect();
    output::print(
        flag,
        || {
            json!({
                "target": claim.exe,
                "sealed": claim.sealed,
                "digest": claim.digest,
                "script_digest": claim.script_digest,
                "interpreter": claim.interpreter,
                "interpreter_digest": claim.interpreter_digest,
                "files": files.iter().map(|(path, standing)| json!({
                    "path": path.display().to_string(),
                    "allowed": *standing == Standing::Allowed,
                })).collect::<Vec<_>>(),
                "items": table::json(plan, verdicts.as_ref()),
            })
        },
        || table::table(plan, verdicts.as_ref()),
    )?;
    for (path, _) in &open {
        output::note(&format!("note: {} is not allowed yet: jsi project allow", path.display()));
    }
    let found = |verdict| verdicts.iter().flat_map(Verdicts::values).any(|one| *one == verdict);
    match (found(Verdict::Missing), found(Verdict::Refused) || !open.is_empty()) {
        (true, _) => Err(Failure::Quiet(NOT_FOUND)),
        (false, true) => Err(Failure::Quiet(DENIED)),
        (false, false) => Ok(()),
    }
}

/// What may be listed may be had, as far as that depends on who asks; what may
/// not is told apart from what is not there only to operators.
async fn verdicts(plan: &Plan) -> Result<Verdicts, Error> {
    let wanted: BTreeSet<&str> =
        plan.wants().map(|(_, want)| want.reference.credential.as_str()).collect();
    let mut verdicts = Verdicts::new();
    if wanted.is_empty() {
        return Ok(verdicts);
    }
    let names = |found: Vec<jsi_client::v1::Credential>| -> BTreeSet<String> {
        found.into_iter().map(|credential| credential.name).collect()
    };
    let listed = names(session::agent().await?.credentials("").await?);
    let all = match wanted.iter().all(|name| listed.contains(*name)) {
        true => None,
        false => match session::agent_of_operators().await {
            Ok(agent) => agent.credentials("").await.ok().map(names),
            Err(_) => None,
        },
    };
    for name in wanted {
        let verdict = if listed.contains(name) {
            Verdict::Permitted
        } else if all.as_ref().is_some_and(|all| !all.contains(name)) {
            Verdict::Missing
        } else {
            Verdict::Refused
        };
        verdicts.insert(name.to_owned(), verdict);
    }
    Ok(verdicts)
}
