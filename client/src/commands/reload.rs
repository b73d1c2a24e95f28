//! `jsi reload`.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::session;
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "\
What is invalid changes nothing. SIGHUP does the same.
  jsi policy check && jsi reload")]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let now = session::block_on(async { session::admin().await?.reload().await })?;
    for warning in &now.warnings {
        output::note(&format!("warning: {warning}"));
    }
    output::print(
        arguments.output,
        || {
            json!({
                "policies": now.policies,
                "credentials": now.credentials,
                "warnings": now.warnings,
            })
        },
        || {
            output::pairs(&[
                ("policies", now.policies.to_string()),
                ("credentials", now.credentials.to_string()),
            ])
        },
    )
}
