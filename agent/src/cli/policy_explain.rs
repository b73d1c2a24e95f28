//! `jsi-agent policy explain`: what the policies of a directory say to a request
//! that nobody makes. The other half of `jsi explain --policy-dir`, which asks
//! and prints: it reads jsi.v1.ExplainRequest and writes jsi.v1.ExplainResponse.

use crate::clock::Clock;
use crate::config;
use crate::delivery::{Explained, grpc};
use crate::names::{CredentialName, IssuerName, RequestId};
use crate::policy::{CredentialFacts, Policies};
use clap::Parser;
use jsi_proto::{Message, v1};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Bytes of a question.
const MAX_QUESTION: u64 = 1024 * 1024;

/// Explain what the policies of a directory would decide (jsi explain --policy-dir)
#[derive(Clone, Debug, Parser)]
#[command(
    name = "jsi-agent policy explain",
    version,
    after_help = "Reads jsi.v1.ExplainRequest, a hypothesis, from stdin and writes \
jsi.v1.ExplainResponse\nto stdout, both in protobuf. People ask: jsi explain db/orders --policy-dir DIR"
)]
pub(super) struct ExplainArgs {
    /// The policies
    #[arg(long, value_name = "DIR")]
    policy_dir: PathBuf,
    /// The configuration that defines credentials; left out, the one that the agent would take
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// `jsi-agent policy explain` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: ExplainArgs = match super::parsed("jsi-agent policy explain", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &ExplainArgs) -> Result<(), String> {
    let mut question = Vec::new();
    let input = io::stdin().lock().take(MAX_QUESTION).read_to_end(&mut question);
    input.map_err(|error| format!("cannot read the question: {error}"))?;
    let asked = v1::ExplainRequest::decode(question.as_slice())
        .map_err(|error| format!("the question is malformed: {error}"))?;
    let hypothesis = asked.hypothesis.ok_or("the question supposes nothing")?;
    let answer = answer(args, hypothesis)?.encode_to_vec();
    let mut out = io::stdout().lock();
    let written = out.write_all(&answer).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot write the answer: {error}"))
}

fn answer(args: &ExplainArgs, hypothesis: v1::Hypothesis) -> Result<v1::ExplainResponse, String> {
    let (name, supposed) = grpc::hypothesis(hypothesis).map_err(|wrong| wrong.message)?;
    let policies = Policies::load(&args.policy_dir).map_err(|error| super::chain(&error))?;
    let facts = credential(args.config.as_deref(), &name);
    let now = Clock::system().now().wall;
    let verdict = policies.suppose(&supposed, &facts, now);
    Ok(grpc::explained(Explained {
        request: RequestId::from_text(""),
        at: supposed.at.unwrap_or(now),
        action: supposed.action.name().to_owned(),
        credential: name.to_string(),
        permitted: verdict.limits.is_some(),
        reason: verdict.reason,
        attestation: Arc::new(supposed.attestation()),
        steps: verdict.steps,
        limits: verdict.limits,
        scope: supposed.scope,
        delivery: supposed.delivery,
        binding: supposed.binding,
        target: supposed.target,
    }))
}

/// As the configuration has it, where there is one; else a stored secret.
fn credential(config: Option<&Path>, name: &CredentialName) -> CredentialFacts {
    let mut facts = CredentialFacts::supposed(name.clone());
    let Ok(config) = config::load(config, None) else { return facts };
    facts.lifetimes = config.lifetimes;
    if let Some(known) = config.credentials.get(name) {
        if known.issuer != IssuerName::store() {
            facts.class = "dynamic";
            let kind = config.issuers.get(&known.issuer).map(config::IssuerConfig::kind);
            facts.issuer = kind.unwrap_or(known.issuer.as_str()).to_owned();
        }
        facts.owner.clone_from(&known.owner);
        facts.purpose.clone_from(&known.purpose);
        facts.lifetimes = known.lifetimes;
    }
    facts
}
