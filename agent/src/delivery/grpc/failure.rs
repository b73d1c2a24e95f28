//! Failures as gRPC statuses with google.rpc error details.

use crate::connection::Refusal;
use crate::delivery::Failure;
use jsi_proto::v1::Reason;
use jsi_proto::{DOMAIN, reason_code};
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The status of a failure.
pub(super) fn status(failure: Failure) -> Status {
    let metadata: HashMap<_, _> =
        failure.metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut details = ErrorDetails::with_error_info(reason_code(failure.reason), DOMAIN, metadata);
    if let Some((field, wrong)) = failure.violation {
        details.add_bad_request_violation(field, wrong);
    }
    Status::with_error_details(code(failure.reason), failure.message, details)
}

/// What a refused connection is told.
pub(super) fn refusal(refusal: &Refusal) -> Failure {
    let reason = match refusal {
        Refusal::NoPid | Refusal::Gone | Refusal::Unverified(_) => Reason::CallerNotVerified,
        Refusal::Limit(_) => Reason::LimitReached,
        Refusal::NoAttestor => Reason::Stopping,
    };
    Failure::new(reason, refusal.to_string())
}

/// The gRPC code of each reason; `jsi/v1/types.proto` documents the same table.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidField | Reason::UnknownScope | Reason::BindingRefused => {
            Code::InvalidArgument
        }
        Reason::UnknownCredential
        | Reason::UnknownField
        | Reason::UnknownLease
        | Reason::UnknownIssuer => Code::NotFound,
        Reason::DeniedByPolicy
        | Reason::CallerNotVerified
        | Reason::RequesterRefused
        | Reason::ApprovalUnavailable
        | Reason::AdminOnly
        | Reason::WrongPassphrase
        | Reason::DeliveryForbidden => Code::PermissionDenied,
        Reason::Locked
        | Reason::StoreDamaged
        | Reason::SecretMissing
        | Reason::LeaseEnded
        | Reason::NotRenewable
        | Reason::FactMissing
        | Reason::InvalidConfiguration
        | Reason::RestartRequired => Code::FailedPrecondition,
        Reason::LimitReached => Code::ResourceExhausted,
        Reason::LogUnavailable
        | Reason::IssuerUnavailable
        | Reason::Reconciling
        | Reason::Stopping => Code::Unavailable,
        Reason::Unspecified | Reason::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_in_the_details() {
        let status = status(Failure::field("ttl", "must be positive"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_FIELD");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "ttl");
    }

    #[test]
    fn every_documented_code_is_the_one_that_is_sent() {
        let text = include_str!("../../../../proto/jsi/v1/types.proto");
        let mut comment = String::new();
        let mut seen = 0;
        for line in text.lines().map(str::trim).take_while(|line| *line != "}") {
            if let Some(words) = line.strip_prefix("//") {
                comment.push_str(words);
            } else if let Some((name, number)) = line.trim_end_matches(';').split_once(" = ") {
                if name.starts_with("REASON_") && name != "REASON_UNSPECIFIED" {
                    let reason = Reason::try_from(number.parse::<i32>().unwrap()).unwrap();
                    let name = format!("{:?}", code(reason));
                    let written: String =
                        comment.chars().filter(|c| c.is_ascii_uppercase() || *c == '_').collect();
                    let wanted: String = name
                        .chars()
                        .flat_map(|c| {
                            if c.is_uppercase() {
                                vec!['_', c]
                            } else {
                                vec![c.to_ascii_uppercase()]
                            }
                        })
                        .collect();
                    assert!(
                        written.ends_with(wanted.trim_start_matches('_')),
                        "{reason:?}: {comment}"
                    );
                    seen += 1;
                }
                comment.clear();
            }
        }
        assert_eq!(seen, 28);
    }
}
