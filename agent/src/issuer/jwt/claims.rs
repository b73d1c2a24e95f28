//! From templates and facts to claims. A fact that is absent or could not be
//! read refuses the request: a verifier would take an empty text for a fact.

use super::super::{IssuerError, Order};
use crate::attestation::{Fact, Via};
use crate::config::{ClaimTemplate, JwtCredential, Piece, Placeholder, Template};
use crate::policy::Target;
use serde_json::{Map, Value};

/// What templates are filled from.
pub(super) struct Facts<'a> {
    pub(super) order: &'a Order<'a>,
    /// The host's name.
    pub(super) host: &'a str,
}

/// `sub` and the further claims of one credential.
pub(super) fn claims(
    credential: &JwtCredential,
    facts: &Facts<'_>,
) -> Result<Map<String, Value>, IssuerError> {
    let mut claims = Map::new();
    for (name, template) in &credential.claims {
        claims.insert(name.clone(), facts.fill(name, template)?);
    }
    claims.insert("sub".to_owned(), facts.text("sub", &credential.subject)?.into());
    Ok(claims)
}

impl Facts<'_> {
    fn fill(&self, claim: &str, template: &ClaimTemplate) -> Result<Value, IssuerError> {
        Ok(match template {
            ClaimTemplate::Fixed(value) => value.clone(),
            ClaimTemplate::Text(template) => match template.lone() {
                Some(placeholder) => self.value(claim, placeholder)?,
                None => Value::String(self.text(claim, template)?),
            },
            ClaimTemplate::List(items) => {
                let items = items.iter().map(|item| self.fill(claim, item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            ClaimTemplate::Object(fields) => {
                let fields =
                    fields.iter().map(|(name, field)| Ok((name.clone(), self.fill(claim, field)?)));
                Value::Object(fields.collect::<Result<_, IssuerError>>()?)
            }
        })
    }

    fn text(&self, claim: &str, template: &Template) -> Result<String, IssuerError> {
        let mut text = String::new();
        for piece in template.pieces() {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Placeholder(placeholder) => match self.value(claim, placeholder)? {
                    Value::String(value) => text.push_str(&value),
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(text)
    }

    fn value(&self, claim: &str, placeholder: &Placeholder) -> Result<Value, IssuerError> {
        let refused = |why: String| {
            let name = placeholder.name();
            IssuerError::Fact(format!("the claim {claim} needs {{{{{name}}}}}, but {why}"))
        };
        let value = self.fact(placeholder).map_err(refused)?;
        match value.as_str() {
            Some("") => Err(refused("it is empty".to_owned())),
            Some(text) if text.chars().any(char::is_control) => {
                Err(refused("it holds control characters".to_owned()))
            }
            _ => Ok(value),
        }
    }

    /// The fact, or why there is none.
    fn fact(&self, placeholder: &Placeholder) -> Result<Value, String> {
        let order = self.order;
        let requester = &order.attestation.requester;
        let exe = || match &requester.exe {
            Fact::Known(exe) => Ok(exe),
            Fact::Absent => Err("the requester runs no file".to_owned()),
            Fact::Unreadable(why) => Err(format!("it could not be read: {why}")),
        };
        let known = |fact: &Fact<String>, what: &str| match fact {
            Fact::Known(text) => Ok(Value::from(text.as_str())),
            Fact::Absent => Err(format!("the requester runs in no {what}")),
            Fact::Unreadable(why) => Err(format!("it could not be read: {why}")),
        };
        let target = || match (order.target, order.attestation.via) {
            (None, _) => Err("the request names none; ask by `jsi exec`".to_owned()),
            // Whoever asks for itself could name any program.
            (Some(_), Via::Direct) => {
                Err("only the word of a jsi that root installed or that is enrolled counts for it"
                    .to_owned())
            }
            (Some(target), Via::GenuineClient | Via::EnrolledClient) => Ok(target),
        };
        Ok(match placeholder {
            Placeholder::RequesterUid => requester.uid.into(),
            Placeholder::RequesterGid => requester.gid.into(),
            Placeholder::RequesterExe => exe()?.path.clone().map(Value::from).ok_or_else(|| {
                "the agent's own view of its path is another file, or it was deleted".to_owned()
            })?,
            Placeholder::RequesterDigest => exe()?.digest.hex().into(),
            Placeholder::RequesterUnit => known(&requester.unit, "systemd unit")?,
            Placeholder::RequesterContainer => known(&requester.container, "container")?,
            Placeholder::RequesterPod => known(&requester.around.pod, "Kubernetes pod")?,
            Placeholder::RequesterInvocation => {
                known(&requester.around.invocation, "systemd unit that is known to run")?
            }
            Placeholder::Assurance => order.attestation.assurance.level().into(),
            Placeholder::TargetExe => match target()? {
                Target { unseen: Some(why), .. } => return Err(why.clone()),
                target => target.exe.as_str().into(),
            },
            Placeholder::TargetDigest => match target()? {
                Target { unsealed: Some(why), .. } => return Err(why.clone()),
                target => target.digest.as_str().into(),
            },
            Placeholder::Scope(key) => {
                let value = order.permit.scope().get(key);
                let why = || format!("nothing was asked for; say --scope {key}=…");
                value.map(|value| Value::from(value.as_str())).ok_or_else(why)?
            }
            Placeholder::Credential => order.permit.credential().as_str().into(),
            Placeholder::Lease => order.lease.as_str().into(),
            Placeholder::Host => self.host.into(),
        })
    }
}
