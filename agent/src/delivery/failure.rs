//! Why a call failed, as every protocol can say it.

use jsi_proto::v1::Reason;

/// A failed call: a stable reason, a sentence for the caller, and details that
/// it may know.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Stable code.
    pub reason: Reason,
    /// What was wrong, where, and what to do.
    pub message: String,
    /// Further facts by name: `request_id`, `limit`.
    pub metadata: Vec<(&'static str, String)>,
    /// The malformed field and what is wrong with it.
    pub violation: Option<(String, String)>,
}

impl Failure {
    /// A failure without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), metadata: Vec::new(), violation: None }
    }

    /// A malformed field of the request.
    pub fn field(field: &str, wrong: impl Into<String>) -> Self {
        let wrong = wrong.into();
        Self {
            reason: Reason::InvalidField,
            message: format!("{field}: {wrong}"),
            metadata: vec![("field", field.to_owned())],
            violation: Some((field.to_owned(), wrong)),
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((name, value.into()));
        self
    }
}
