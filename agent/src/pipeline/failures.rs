//! What the stages refuse, as the requester may know it.

use crate::approval::ApprovalError;
use crate::attestation::AttestError;
use crate::connection::Refusal;
use crate::delivery::Failure;
use crate::issuer::IssuerError;
use crate::lease::LeaseError;
use crate::log::{BindingRecord, LogError};
use crate::names::RequestId;
use crate::policy::BindingKind;
use crate::store::StoreError;
use jsi_proto::v1::Reason;

pub(super) fn refusal(refused: &Refusal) -> Failure {
    let reason = match refused {
        Refusal::Limit(_) => Reason::LimitReached,
        Refusal::NoAttestor => Reason::Stopping,
        Refusal::NoPid | Refusal::Gone | Refusal::Unverified(_) => Reason::CallerNotVerified,
    };
    Failure::new(reason, refused.to_string())
}

pub(super) fn attestation(error: &AttestError) -> Failure {
    let reason = match error {
        AttestError::Caller(_) => Reason::CallerNotVerified,
        AttestError::Requester(_) => Reason::RequesterRefused,
        AttestError::Limit(_) => Reason::LimitReached,
        AttestError::NoAttestor => Reason::Stopping,
    };
    Failure::new(reason, error.to_string())
}

pub(super) fn binding(error: &AttestError) -> Failure {
    match error {
        AttestError::NoAttestor | AttestError::Limit(_) => attestation(error),
        AttestError::Caller(why) | AttestError::Requester(why) => {
            Failure::new(Reason::BindingRefused, format!("the lease cannot be bound: {why}"))
                .with("field", "binding")
        }
    }
}

/// What a requester may know of a denial: that it was one, and its name.
pub(super) fn denied(request: &RequestId, action: &str, credential: &str) -> Failure {
    let what = match (action, credential) {
        ("administer" | "revoke", _) => "administer this agent".to_owned(),
        (_, "") => action.to_owned(),
        (_, credential) => format!("{action} {credential}"),
    };
    Failure::new(Reason::DeniedByPolicy, format!("policy does not permit this program to {what}"))
        .with("request_id", request.as_str())
}

pub(super) fn approval(error: &ApprovalError) -> Failure {
    Failure::new(Reason::ApprovalUnavailable, error.to_string())
}

pub(super) fn issuer(error: &IssuerError) -> Failure {
    let reason = match error {
        IssuerError::Scope(key, why) => {
            return Failure::field("scope", format!("{key}: {why}"));
        }
        IssuerError::Fact(_) => Reason::FactMissing,
        IssuerError::Locked => Reason::Locked,
        IssuerError::Missing(_) => Reason::SecretMissing,
        IssuerError::Damaged(..) | IssuerError::Keys(..) => Reason::StoreDamaged,
        IssuerError::Unavailable(_) | IssuerError::Refused(_) => Reason::IssuerUnavailable,
        IssuerError::Limit(_) => Reason::LimitReached,
    };
    Failure::new(reason, error.to_string())
}

pub(super) fn lease(error: &LeaseError) -> Failure {
    let reason = match error {
        LeaseError::NotFound => Reason::UnknownLease,
        LeaseError::Limit(_) => Reason::LimitReached,
        LeaseError::Locked => Reason::Locked,
        LeaseError::Stopping => Reason::Stopping,
        LeaseError::Journal(_) => Reason::LogUnavailable,
        LeaseError::HolderGone(_) => Reason::BindingRefused,
        LeaseError::Ended | LeaseError::UsesSpent | LeaseError::NotHeld => Reason::LeaseEnded,
        LeaseError::NotRenewable(_) => Reason::NotRenewable,
        LeaseError::Zero => Reason::InvalidField,
        LeaseError::Issuer(_) => Reason::IssuerUnavailable,
        LeaseError::NeedsReopen | LeaseError::Internal(_) => Reason::Internal,
    };
    Failure::new(reason, error.to_string())
}

pub(super) fn log(error: &LogError) -> Failure {
    Failure::new(Reason::LogUnavailable, format!("nothing is issued: {error}"))
}

/// What the log calls a binding, as policy calls it.
pub(super) fn binding_kind(binding: &BindingRecord) -> BindingKind {
    match binding {
        BindingRecord::Process { .. } => BindingKind::Process,
        BindingRecord::Connection => BindingKind::Connection,
        BindingRecord::None => BindingKind::None,
    }
}

pub(super) fn store(error: &StoreError) -> Failure {
    match error {
        StoreError::Exists(_) => Failure::field("replace", error.to_string()),
        StoreError::Incomplete(what) => Failure::field(what, error.to_string()),
        StoreError::Unstorable(_) => Failure::field("name", error.to_string()),
        StoreError::Unfit(_) => Failure::field("pieces", error.to_string()),
        StoreError::Occupied(_) => Failure::field("replace", error.to_string()),
        StoreError::ForeignArchive => Failure::field("unsealed", error.to_string()),
        StoreError::Archive(_) => Failure::field("piece", error.to_string()),
        _ => {
            let reason = match error {
                StoreError::Locked => Reason::Locked,
                StoreError::WrongPassphrase => Reason::WrongPassphrase,
                StoreError::Missing(_) => Reason::UnknownCredential,
                StoreError::Damaged { .. } | StoreError::NotReadBack(_) => Reason::StoreDamaged,
                StoreError::NoField { .. } => Reason::UnknownField,
                StoreError::Busy => Reason::LimitReached,
                _ => Reason::IssuerUnavailable,
            };
            Failure::new(reason, error.to_string())
        }
    }
}

/// An error and everything that led to it, in one line of words or, where a
/// policy has several faults, in as many.
pub(super) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
