//! `jsi explain`: how a request was decided, or would be.

mod suppose;
mod words;

use super::allow::remedy;
use crate::beside;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::v1::{ExplainCondition, ExplainLimit, ExplainRequest, ExplainResponse, Hypothesis};
use jsi_client::{Message, credential_name};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "\
An ID is explained as it was decided; of each uid the last decisions since the
agent was started are kept, 4,096 in all, and the log keeps every denial:
jsi audit show ID.
  jsi explain hhyrx6o4yxoiy

A credential is explained as it would be decided now: for you and the shell that
you are in, or for what the options suppose, and nothing else.
  jsi explain db/orders
  jsi explain db/orders --uid 999 --unit report.service --target /usr/bin/psql
  jsi explain db/orders --exe /usr/bin/psql --at 2026-01-05T22:00:00Z

With --policy-dir nothing runs: the policies there are asked, as jsi policy check
reads them. For operators: requesters are told none of this.")]
pub(crate) struct Arguments {
    /// The request ID that a denial or a lease gave, or a credential
    #[arg(value_name = "ID|CREDENTIAL")]
    what: String,
    #[command(flatten)]
    facts: suppose::Facts,
    /// Ask the policies there, not the running agent
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// Also show the conditions that hold, and who asked
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { what, facts, policy_dir, verbose, output } = arguments;
    let supposed = !facts.is_empty() || policy_dir.is_some();
    let found = if is_request_id(&what) && !supposed {
        session::block_on(async { session::admin().await?.explain(&what).await })?
    } else {
        let credential = credential_name(&what).map_err(|why| {
            Failure::usage(format!("{what:?} is neither a request ID nor a credential: {why}"))
        })?;
        let hypothesis = suppose::hypothesis(credential, facts)?;
        match policy_dir {
            Some(dir) => offline(hypothesis, dir)?,
            None => session::block_on(async { session::admin().await?.suppose(hypothesis).await })?,
        }
    };
    output::print(output, || as_json(&found), || words::text(&found, verbose))
}

/// As the agent writes them: 13 base32 characters.
pub(super) fn is_request_id(text: &str) -> bool {
    text.len() == 13 && text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
}

/// By `jsi-agent`, which has Cedar; the same message that a running one answers.
fn offline(hypothesis: Hypothesis, dir: PathBuf) -> Result<ExplainResponse, Failure> {
    let request = ExplainRequest { hypothesis: Some(hypothesis), ..Default::default() };
    let words: [OsString; 4] =
        ["policy".into(), "explain".into(), "--policy-dir".into(), dir.into_os_string()];
    let answer = beside::question_agent(words, &request.encode_to_vec())?;
    ExplainResponse::decode(answer.as_slice())
        .map_err(|error| Failure::new(format!("jsi-agent did not answer as expected: {error}")))
}

fn as_json(found: &ExplainResponse) -> Value {
    json!({
        "request_id": found.request_id,
        "at": view::at(found.at.as_ref()),
        "action": found.action,
        "credential": found.credential,
        "scope": found.scope,
        "delivery": view::delivery_word(found.delivery),
        "binding": found.binding,
        "target": found.target.as_ref().map(|target| json!({
            "exe": target.exe, "digest": target.digest,
        })),
        "decision": found.decision,
        "reason": found.reason,
        "remedy": remedy::line(found),
        "attestation": found.attestation.as_ref().map(view::attestation),
        "steps": found.steps.iter().map(|step| json!({
            "policy": step.policy,
            "place": step.place,
            "effect": step.effect,
            "outcome": step.outcome,
            "nearest": step.nearest,
            "detail": step.detail,
            "conditions": step.conditions.iter().map(condition).collect::<Vec<_>>(),
            "limits": step.limits.iter().map(limit).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "limits": found.limits,
        "limit_sources": found.limit_sources.iter().map(limit).collect::<Vec<_>>(),
    })
}

fn condition(condition: &ExplainCondition) -> Value {
    json!({
        "text": condition.text,
        "outcome": condition.outcome,
        "saw": condition.saw.iter().map(|saw| json!({ "name": saw.name, "value": saw.value }))
            .collect::<Vec<_>>(),
        "wanted": condition.wanted,
        "either": condition.either.iter().map(self::condition).collect::<Vec<_>>(),
        "note": condition.note,
    })
}

fn limit(limit: &ExplainLimit) -> Value {
    json!({ "name": limit.name, "value": limit.value, "from": limit.from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_told_from_a_credential() {
        assert!(is_request_id("hhyrx6o4yxoiy"));
        for credential in ["db/orders", "hhyrx6o4yxoi", "hhyrx6o4yxoi1", "hhyrx6o4yxoi-"] {
            assert!(!is_request_id(credential), "{credential}");
        }
    }
}
