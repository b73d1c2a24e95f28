//! What can go wrong, and whose turn it is then.

use crate::discovery::Socket;
use crate::trust::TrustError;
use jsi_proto::v1::Reason;
use std::io;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No agent answers.
    #[error("no agent answers at {} ({})", socket.path.display(), socket.origin)]
    Unreachable {
        /// Where it was looked for.
        socket: Socket,
        /// What connecting gave.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection to the agent broke: {0}")]
    Broken(String),
    /// The server is not one to be trusted with a secret.
    #[error("the agent is not trusted")]
    Untrusted(#[from] TrustError),
    /// The agent said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The agent's answer does not follow the protocol.
    #[error("the agent's answer is malformed: {0}")]
    Protocol(&'static str),
}

/// The agent's no, as `google.rpc` error details give it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The stable reason; `None`: the agent gave none that is known here.
    pub reason: Option<Reason>,
    /// The gRPC code.
    pub code: Code,
    /// In words.
    pub message: String,
    /// Names the decision for `jsi explain`.
    pub request_id: Option<String>,
    /// Malformed fields: which, and what is wrong.
    pub violations: Vec<(String, String)>,
    /// Whatever else came with the reason: the limit's name, for one.
    pub metadata: Vec<(String, String)>,
}

/// Errors by what the asker can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something else.
    Other,
    /// The request was malformed: write it otherwise.
    Usage,
    /// Policy or attestation says no: talk to an operator.
    Denied,
    /// There is nothing of that name.
    NotFound,
    /// No agent, or one that is going: start one.
    Unreachable,
    /// Agent or store are locked: unlock.
    Locked,
    /// A limit is reached: wait, or raise it.
    Limit,
}

impl Kind {
    /// The documented exit code of `jsi`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NotFound => 4,
            Self::Unreachable => 5,
            Self::Locked => 6,
            Self::Limit => 7,
        }
    }
}

impl Error {
    /// What the asker can do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } | Self::Broken(_) | Self::Untrusted(_) => Kind::Unreachable,
            Self::Refused(refusal) => refusal.kind(),
            Self::Protocol(_) => Kind::Other,
        }
    }

    /// The agent's no, where it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl Refusal {
    /// The agent has no such call: it is of an older version.
    #[must_use]
    pub fn is_unknown_call(&self) -> bool {
        self.code == Code::Unimplemented && self.reason.is_none()
    }

    /// What the asker can do about it. The reason decides; the gRPC code only
    /// where this client does not know the reason.
    #[must_use]
    pub fn kind(&self) -> Kind {
        use Reason as R;
        match self.reason {
            Some(R::InvalidField | R::UnknownScope | R::BindingRefused) => Kind::Usage,
            Some(
                R::UnknownCredential
                | R::UnknownField
                | R::UnknownLease
                | R::SecretMissing
                | R::UnknownIssuer,
            ) => Kind::NotFound,
            Some(
                R::DeniedByPolicy
                | R::CallerNotVerified
                | R::RequesterRefused
                | R::ApprovalUnavailable
                | R::AdminOnly
                | R::WrongPassphrase
                | R::DeliveryForbidden
                | R::FactMissing,
            ) => Kind::Denied,
            Some(R::Locked) => Kind::Locked,
            Some(R::LimitReached) => Kind::Limit,
            Some(R::Stopping) => Kind::Unreachable,
            Some(
                R::LogUnavailable
                | R::IssuerUnavailable
                | R::Reconciling
                | R::StoreDamaged
                | R::LeaseEnded
                | R::NotRenewable
                | R::InvalidConfiguration
                | R::RestartRequired
                | R::Internal,
            ) => Kind::Other,
            Some(R::Unspecified) | None => match self.code {
                Code::InvalidArgument | Code::OutOfRange => Kind::Usage,
                Code::PermissionDenied | Code::Unauthenticated => Kind::Denied,
                Code::NotFound => Kind::NotFound,
                Code::Unavailable => Kind::Unreachable,
                Code::ResourceExhausted => Kind::Limit,
                _ => Kind::Other,
            },
        }
    }
}

impl From<Status> for Error {
    /// A status with a source never crossed the wire: it tells of the connection.
    fn from(status: Status) -> Self {
        if let Some(source) = std::error::Error::source(&status) {
            let mut text = source.to_string();
            let mut next = source.source();
            while let Some(cause) = next {
                text = format!("{text}: {cause}");
                next = cause.source();
            }
            return Self::Broken(text);
        }
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == jsi_proto::DOMAIN);
        let mut metadata: Vec<_> = info
            .map(|info| info.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .unwrap_or_default();
        metadata.sort();
        let request_id =
            metadata.iter().find(|(key, _)| key == "request_id").map(|(_, id)| id.clone());
        metadata.retain(|(key, _)| key != "request_id");
        let violations = details.bad_request().map(|bad| {
            let fields = bad.field_violations.iter();
            fields.map(|field| (field.field.clone(), field.description.clone())).collect()
        });
        Self::Refused(Box::new(Refusal {
            reason: info.and_then(|info| Reason::from_str_name(&format!("REASON_{}", info.reason))),
            code: status.code(),
            message: if status.message().is_empty() {
                format!("the agent answered {:?}", status.code())
            } else {
                status.message().to_owned()
            },
            request_id,
            violations: violations.unwrap_or_default(),
            metadata,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    fn refusal(code: Code, domain: &str, reason: &str) -> Error {
        let mut details = ErrorDetails::new();
        let metadata = HashMap::from([("request_id".to_owned(), "abc".to_owned())]);
        details.set_error_info(reason, domain, metadata);
        details.add_bad_request_violation("ttl", "it is negative");
        Status::with_error_details(code, "no", details).into()
    }

    #[test]
    fn the_reason_decides_the_exit_code() {
        for (code, reason, exit) in [
            (Code::PermissionDenied, "DENIED_BY_POLICY", 3),
            (Code::NotFound, "UNKNOWN_CREDENTIAL", 4),
            (Code::FailedPrecondition, "LOCKED", 6),
            (Code::FailedPrecondition, "FACT_MISSING", 3),
            (Code::NotFound, "UNKNOWN_ISSUER", 4),
            (Code::ResourceExhausted, "LIMIT_REACHED", 7),
            (Code::InvalidArgument, "INVALID_FIELD", 2),
            (Code::Unavailable, "LOG_UNAVAILABLE", 1),
            (Code::Unavailable, "STOPPING", 5),
            (Code::PermissionDenied, "OF_A_LATER_VERSION", 3),
        ] {
            let error = refusal(code, "jsi.v1", reason);
            assert_eq!(error.kind().exit_code(), exit, "{reason}");
        }
    }

    #[test]
    fn another_domains_reason_is_not_believed() {
        let error = refusal(Code::Internal, "example.org", "LOCKED");
        assert_eq!(error.refusal().unwrap().reason, None);
        assert_eq!(error.kind().exit_code(), 1);
    }

    #[test]
    fn request_id_and_violations_come_through() {
        let error = refusal(Code::PermissionDenied, "jsi.v1", "DENIED_BY_POLICY");
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.request_id.as_deref(), Some("abc"));
        assert_eq!(refusal.violations, [("ttl".to_owned(), "it is negative".to_owned())]);
    }
}
