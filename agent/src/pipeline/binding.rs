//! What a lease will be bound to.

use super::{Pipeline, failures};
use crate::attestation::{Anchor, Attestation, BoundProcess};
use crate::connection::Connection;
use crate::delivery::{Ask, BindingAsk, Failure};
use crate::lease::Bound;
use crate::policy::{BindingKind, Target};
use jsi_proto::v1::Reason;
use std::sync::Arc;

impl Pipeline {
    /// What the lease will be bound to: what was asked for, else what policy
    /// demands, else the requester.
    pub(super) async fn bind(
        &self,
        on: &Arc<Connection>,
        attestation: &Attestation,
        ask: &Ask,
        demanded: Option<BindingKind>,
        requester: Option<BoundProcess>,
    ) -> Result<Bound, Failure> {
        match chosen_binding(ask.binding, demanded)? {
            BindingAsk::None => Ok(Bound::None),
            BindingAsk::Connection => {
                let connection = Arc::clone(on);
                let closed = Box::pin(async move { connection.closed().await });
                Ok(Bound::Connection { id: on.id, closed })
            }
            BindingAsk::Process(anchor) => {
                let process = match requester.filter(|_| anchor == Anchor::Requester) {
                    Some(process) => process,
                    None => self
                        .attestor
                        .resolve(attestation.caller_image, anchor)
                        .await
                        .map_err(|error| failures::binding(&error))?,
                };
                Ok(Bound::Process(becoming(process, anchor, ask.target.as_ref())))
            }
        }
    }
}

/// `jsi exec` binds to itself and becomes its target: people know it by that,
/// where the agent sees the same file there.
fn becoming(mut process: BoundProcess, anchor: Anchor, target: Option<&Target>) -> BoundProcess {
    if let (Anchor::Caller, Some(target @ Target { unseen: None, .. })) = (anchor, target) {
        process.identity.exe = Some(target.exe.clone());
    }
    process
}

/// What was asked for where policy lets it, else what policy demands. Clients
/// name the requester where nobody said anything, so that this gives way; what
/// only a person can have meant is refused instead.
fn chosen_binding(
    asked: Option<BindingAsk>,
    demanded: Option<BindingKind>,
) -> Result<BindingAsk, Failure> {
    let policys = match demanded {
        None | Some(BindingKind::Process) => BindingAsk::Process(Anchor::Requester),
        Some(BindingKind::Connection) => BindingAsk::Connection,
        Some(BindingKind::None) => BindingAsk::None,
    };
    let Some(asked) = asked else { return Ok(policys) };
    let kind = match asked {
        BindingAsk::Process(_) => BindingKind::Process,
        BindingAsk::Connection => BindingKind::Connection,
        BindingAsk::None => BindingKind::None,
    };
    match (asked, demanded) {
        (_, None) => Ok(asked),
        (_, Some(demanded)) if demanded == kind => Ok(asked),
        (BindingAsk::Process(Anchor::Requester), Some(_)) => Ok(policys),
        (_, Some(demanded)) => Err(Failure::new(
            Reason::BindingRefused,
            format!("policy demands that the lease be bound to {}", demanded.name()),
        )
        .with("field", "binding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_that_policy_demands_is_not_evaded_by_naming_another() {
        let requester = BindingAsk::Process(Anchor::Requester);
        let connection = Some(BindingKind::Connection);
        assert_eq!(chosen_binding(None, None).unwrap(), requester);
        assert_eq!(chosen_binding(Some(BindingAsk::None), None).unwrap(), BindingAsk::None);
        // What `jsi get` sends where nothing was said.
        assert_eq!(chosen_binding(Some(requester), connection).unwrap(), BindingAsk::Connection);
        assert_eq!(chosen_binding(None, connection).unwrap(), BindingAsk::Connection);
        let process = Some(BindingKind::Process);
        let session = BindingAsk::Process(Anchor::Session);
        assert_eq!(chosen_binding(Some(session), process).unwrap(), session);
        for (asked, demanded) in [
            (BindingAsk::Process(Anchor::Pid(7)), connection),
            (session, Some(BindingKind::None)),
            (BindingAsk::None, process),
            (BindingAsk::Connection, process),
        ] {
            let refused = chosen_binding(Some(asked), demanded).unwrap_err();
            assert_eq!(refused.reason, Reason::BindingRefused);
        }
    }
}
