//! `jsi explain`.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::v1::ExplainResponse;
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "\
The last 4,096 decisions since the agent was started are explained; the log
keeps every denial: jsi audit show ID.
  jsi explain hhyrx6o4yxoiy")]
pub(crate) struct Arguments {
    /// The request ID that a denial or a lease gave
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let found = session::block_on(async { session::admin().await?.explain(&arguments.id).await })?;
    output::print(arguments.output, || as_json(&found), || as_text(&found))
}

fn as_json(found: &ExplainResponse) -> serde_json::Value {
    json!({
        "request_id": found.request_id,
        "at": view::at(found.at.as_ref()),
        "action": found.action,
        "credential": found.credential,
        "decision": found.decision,
        "reason": found.reason,
        "attestation": found.attestation.as_ref().map(view::attestation),
        "steps": found.steps.iter().map(|step| json!({
            "policy": step.policy,
            "effect": step.effect,
            "outcome": step.outcome,
            "detail": step.detail,
        })).collect::<Vec<_>>(),
        "limits": found.limits,
    })
}

fn as_text(found: &ExplainResponse) -> String {
    let mut text = output::pairs(&[
        ("request", found.request_id.clone()),
        ("at", view::at(found.at.as_ref())),
        ("action", found.action.clone()),
        ("credential", found.credential.clone()),
        ("decision", found.decision.clone()),
        ("reason", found.reason.clone()),
        ("limits", found.limits.join(", ")),
    ]);
    if !found.steps.is_empty() {
        let rows: Vec<_> = found
            .steps
            .iter()
            .map(|s| vec![s.policy.clone(), s.effect.clone(), s.outcome.clone(), s.detail.clone()])
            .collect();
        text.push('\n');
        text.push_str(&output::table(&["POLICY", "EFFECT", "OUTCOME", "DETAIL"], &rows));
    }
    if let Some(attestation) = &found.attestation {
        text.push('\n');
        text.push_str(&view::attestation_text(attestation));
    }
    text
}
