//! Stage 4: who must say yes, and how they are asked.
//!
//! No approver can be asked yet: a permit that demands one is refused here, so
//! that `@approval` never means less than it says.

use crate::policy::{Action, Permit};

/// Proof that everybody who had to has said yes to one permit. Only [`approve`]
/// makes one.
#[derive(Clone)]
pub struct Approved(Permit);

impl Approved {
    /// The permit that was approved.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.0
    }
}

/// Why a permit is not approved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// `APPROVAL_UNAVAILABLE`: a permit demands approvers and none can be asked.
    #[error("approval is needed from {}, and no approver can be asked by this agent", names.join(", "))]
    NoApprover {
        /// Who would have to say yes.
        names: Vec<String>,
    },
    /// A bug: the permit is for something that nothing is issued for.
    #[error("a permit for {action:?} issues nothing")]
    NothingToIssue {
        /// What it is for.
        action: Action,
    },
}

/// Asks everybody whom the permit names.
///
/// # Errors
/// [`ApprovalError::NoApprover`] where it names anybody; and permits that are
/// for nothing that is issued (a list, a revocation) go no further.
pub fn approve(permit: Permit) -> Result<Approved, ApprovalError> {
    let action = permit.action();
    if !matches!(action, Action::Request | Action::Renew | Action::Wrap) {
        return Err(ApprovalError::NothingToIssue { action });
    }
    if permit.limits().approvals.is_empty() {
        return Ok(Approved(permit));
    }
    Err(ApprovalError::NoApprover { names: permit.limits().approvals.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Decision;
    use crate::policy::testing::{Ask, policies};

    fn permit(text: &str, action: Action) -> Permit {
        let ask = Ask { action, ..Ask::psql("db/orders") };
        match ask.of(&policies(text)) {
            Decision::Permit(permit, _) => *permit,
            Decision::Deny(denial) => panic!("{}", denial.reason),
        }
    }

    #[test]
    fn a_permit_without_approvers_passes() {
        let approved = approve(permit("permit(principal, action, resource);", Action::Request));
        assert_eq!(approved.unwrap().permit().credential().as_str(), "db/orders");
    }

    #[test]
    fn a_permit_that_demands_approval_does_not_pass_unasked() {
        let text = r#"@approval("operator") permit(principal, action, resource);
                      @approval("security") permit(principal, action, resource);"#;
        let error = approve(permit(text, Action::Request)).err().unwrap();
        let names = vec!["operator".to_owned(), "security".to_owned()];
        assert_eq!(error, ApprovalError::NoApprover { names });
    }

    #[test]
    fn a_permit_to_list_does_not_issue() {
        assert!(approve(permit("permit(principal, action, resource);", Action::List)).is_err());
    }
}
