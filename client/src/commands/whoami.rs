//! `jsi whoami`: writing a policy starts here.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::policy_text::PolicyText;
use crate::{session, view};
use jsi_client::credential_name;
use jsi_client::v1::Attestation;
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "\
The policy names the program, its digest and its uid: read it, and loosen or join.
  jsi whoami --policy db/orders > ~/.config/jsi/policy.d/orders.cedar && jsi reload")]
pub(crate) struct Arguments {
    /// Print a policy that permits the requester this credential
    #[arg(long, value_name = "CREDENTIAL", value_parser = credential_name)]
    policy: Option<String>,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (attestation, version) =
        session::block_on(async { session::agent().await?.who_am_i().await })?;
    if let Some(credential) = &arguments.policy {
        return output::to_stdout(policy(&attestation, credential)?.render().as_bytes());
    }
    output::print(
        arguments.output,
        || json!({ "attestation": view::attestation(&attestation), "agent_version": version }),
        || view::attestation_text(&attestation),
    )
}

fn policy(attestation: &Attestation, credential: &str) -> Result<PolicyText, Failure> {
    let Some(requester) = &attestation.requester else {
        return Err(Failure::new("the agent found no requester, so there is nothing to permit"));
    };
    let Some(exe) = &requester.exe else {
        return Err(Failure::new("the agent could not read the requester's executable")
            .advise("why: jsi whoami"));
    };
    let mut comments = vec![
        format!("Permits {credential} to {}, as `jsi whoami` saw it.", exe.path),
        "Whoever can start this program can have what it is given: join it with a".to_owned(),
        "unit, a target or an approval where you can.".to_owned(),
        format!("Assurance: {}.", view::level(attestation.assurance)),
    ];
    for shortfall in &requester.shortfalls {
        comments.push(format!("Not {}: {}", view::level(shortfall.level), shortfall.reason));
    }
    comments.extend(attestation.advisory_reasons.iter().map(|why| format!("Advisory: {why}")));
    if !requester.unit.is_empty() {
        comments
            .push(format!("Its unit, for a condition: principal in Unit::\"{}\"", requester.unit));
    }
    Ok(PolicyText {
        id: PolicyText::name(credential, Some(&exe.path)),
        comments,
        credential: credential.to_owned(),
        uids: vec![requester.uid],
        exe: Some(exe.path.clone()),
        digest: (!exe.digest.is_empty()).then(|| exe.digest.clone()),
        ..Default::default()
    })
}
