//! The `reason` of google.rpc.ErrorInfo.

use crate::v1::Reason;

/// The `domain` of every google.rpc.ErrorInfo that the agent sends.
pub const DOMAIN: &str = "jsi.v1";

/// The stable code of a reason: its name without the `REASON_` prefix.
#[must_use]
pub fn reason_code(reason: Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("REASON_").unwrap_or(name)
}
