//! What policy would say to requests that nobody makes: for operators.

use super::Pipeline;
use crate::config::near_miss;
use crate::connection::Connection;
use crate::delivery::{Explained, Failure};
use crate::names::{CredentialName, RequestId};
use crate::policy::{Action, Supposed};
use jsi_proto::v1::Reason;
use std::sync::Arc;

impl Pipeline {
    /// Decides by the policies in force. Nothing is issued, and nothing logged
    /// but that somebody administered.
    pub(super) async fn suppose_request(
        &self,
        on: &Connection,
        name: &CredentialName,
        supposed: Supposed,
    ) -> Result<Explained, Failure> {
        let operator = self.administer(on, Action::Administer).await?;
        let force = self.in_force();
        let Some(entry) = force.catalogue.find(name) else {
            return Err(self.no_such(name));
        };
        let now = self.clock.now().wall;
        // What holds for the operator's own attestation holds for every other.
        let supposed = Supposed { advisory: !operator.advisory.is_empty(), ..supposed };
        let mut attestation = supposed.attestation();
        attestation.advisory.clone_from(&operator.advisory);
        let verdict = force.policies.suppose(&supposed, &entry.facts, now);
        Ok(Explained {
            request: RequestId::from_text(""),
            at: supposed.at.unwrap_or(now),
            action: supposed.action.name().to_owned(),
            credential: name.to_string(),
            permitted: verdict.limits.is_some(),
            reason: verdict.reason,
            attestation: Arc::new(attestation),
            steps: verdict.steps,
            limits: verdict.limits,
            scope: supposed.scope,
            delivery: supposed.delivery,
            binding: supposed.binding,
            target: supposed.target,
        })
    }

    /// Operators may know every name.
    fn no_such(&self, name: &CredentialName) -> Failure {
        let names = self.in_force().catalogue.names();
        let near = near_miss(name.as_str(), names.iter().map(CredentialName::as_str));
        let hint = match near {
            Some(near) => format!("; did you mean {near}?"),
            None => "; `jsi secret ls` and the configuration name those that are".to_owned(),
        };
        let message = format!("no credential {name} is defined{hint}");
        Failure::new(Reason::UnknownCredential, message)
    }
}
