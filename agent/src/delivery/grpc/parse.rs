//! Messages as they come in become well-formed questions, or name the field
//! that is wrong.

use crate::attestation::{Anchor, Digest};
use crate::delivery::{Ask, BindingAsk, Failure};
use crate::lease::Selector;
use crate::memory::{Field, SecretBuf};
use crate::mutants::{Check, on};
use crate::names::{CredentialName, LeaseId, MAX_CREDENTIAL_LEN};
use crate::policy::{Delivery, Target};
use jsi_proto::v1;
use std::collections::BTreeMap;
use std::time::Duration;

/// Scope entries of one request.
const MAX_SCOPE: usize = 16;
/// Bytes of a scope key.
const MAX_SCOPE_KEY: usize = 64;
/// Bytes of a scope value.
const MAX_SCOPE_VALUE: usize = 256;
/// Characters of a note, an owner, a purpose.
const MAX_TEXT: usize = 256;
/// Fields of a secret.
const MAX_FIELDS: usize = 32;
/// Bytes of a field's name.
const MAX_FIELD_NAME: usize = 64;
/// Bytes of a lease's ID: a credential's name, a slash and 26 characters.
const MAX_LEASE_ID: usize = MAX_CREDENTIAL_LEN + 1 + 26;

/// Why the digests of a target do not count.
const UNSEALED: &str = "nobody keeps it from being changed before it runs; jsi exec --sealed does";

/// A request for a credential.
pub(super) fn ask(
    message: v1::RequestCredentialRequest,
    longest: Duration,
) -> Result<Ask, Failure> {
    let delivery = delivery(message.delivery)?;
    if message.fields.len() > MAX_FIELDS {
        return Err(Failure::field("fields", "a secret has at most 32 fields"));
    }
    if message.fields.iter().any(|name| name.len() > MAX_FIELD_NAME) {
        return Err(Failure::field("fields", "a field's name has at most 64 characters"));
    }
    Ok(Ask {
        credential: credential(&message.credential)?,
        scope: scope(message.scope)?,
        ttl: ttl("ttl", message.ttl, longest)?,
        binding: binding(message.binding)?,
        delivery,
        new_lease: message.new_lease,
        target: message.target.map(target).transpose()?,
        fields: message.fields,
        note: text("note", message.note)?,
    })
}

/// How the secret is to reach the program.
pub(super) fn delivery(number: i32) -> Result<Delivery, Failure> {
    match v1::Delivery::try_from(number) {
        Ok(v1::Delivery::Unspecified | v1::Delivery::Caller) => Ok(Delivery::Caller),
        Ok(v1::Delivery::Environment) => Ok(Delivery::Environment),
        Ok(v1::Delivery::Descriptor) => Ok(Delivery::Descriptor),
        Ok(v1::Delivery::File) => Ok(Delivery::File),
        Err(_) => Err(Failure::field("delivery", "no such delivery")),
    }
}

/// A credential's name.
pub(super) fn credential(name: &str) -> Result<CredentialName, Failure> {
    CredentialName::new(name).map_err(|wrong| Failure::field("credential", wrong.to_string()))
}

/// Which secrets are exported; `None`: all.
pub(super) fn exported(
    asked: v1::ExportSecretsRequest,
) -> Result<Option<Vec<CredentialName>>, Failure> {
    match (asked.all, asked.names.as_slice()) {
        (true, []) => Ok(None),
        (true, _) => Err(Failure::field("all", "stands beside names")),
        (false, []) => Err(Failure::field("names", "names nothing; say `all` for every secret")),
        (false, names) => {
            names.iter().map(|name| credential(name)).collect::<Result<_, _>>().map(Some)
        }
    }
}

/// A lease's ID: whether there is such a lease is not asked here.
pub(super) fn lease_id(text: &str) -> Result<LeaseId, Failure> {
    if text.is_empty() || text.len() > MAX_LEASE_ID || text.chars().any(char::is_control) {
        return Err(Failure::field("lease_id", "is not the ID of a lease"));
    }
    Ok(LeaseId::from_text(text))
}

/// The narrowing, with keys and values of a bounded length.
pub(super) fn scope(
    scope: std::collections::HashMap<String, String>,
) -> Result<BTreeMap<String, String>, Failure> {
    if scope.len() > MAX_SCOPE {
        return Err(Failure::field("scope", format!("more than {MAX_SCOPE} entries")));
    }
    for (key, value) in &scope {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if key.is_empty() || key.len() > MAX_SCOPE_KEY || !key.bytes().all(plain) {
            let wrong = "a key has 1 to 64 letters, digits, '_', '-' and '.'";
            return Err(Failure::field("scope", wrong));
        }
        if value.len() > MAX_SCOPE_VALUE || value.chars().any(char::is_control) {
            let wrong = format!("the value of {key} is longer than 256 bytes or not printable");
            return Err(Failure::field("scope", wrong));
        }
    }
    Ok(scope.into_iter().collect())
}

/// A span of time that may be left out, but not be zero, negative or absurd.
pub(super) fn ttl(
    field: &str,
    span: Option<prost_types::Duration>,
    longest: Duration,
) -> Result<Option<Duration>, Failure> {
    let Some(span) = span else { return Ok(None) };
    if span.seconds < 0 || span.nanos < 0 {
        return Err(Failure::field(field, "is negative; leave it out for the default"));
    }
    let nanos = u32::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let (Ok(seconds), Some(nanos)) = (u64::try_from(span.seconds), nanos) else {
        return Err(Failure::field(field, "is not a google.protobuf.Duration"));
    };
    let ttl = Duration::new(seconds, nanos);
    if ttl.is_zero() {
        return Err(Failure::field(field, "is zero; leave it out for the default"));
    }
    if ttl > longest {
        let wrong = format!("is longer than limits.longest_ttl ({} s)", longest.as_secs());
        return Err(Failure::field(field, wrong));
    }
    Ok(Some(ttl.max(Duration::from_millis(1))))
}

fn binding(binding: Option<v1::Binding>) -> Result<Option<BindingAsk>, Failure> {
    use v1::binding::Kind;
    let Some(kind) = binding.and_then(|binding| binding.kind) else { return Ok(None) };
    Ok(Some(match kind {
        Kind::Requester(_) => BindingAsk::Process(Anchor::Requester),
        Kind::Caller(_) => BindingAsk::Process(Anchor::Caller),
        Kind::Parent(_) => BindingAsk::Process(Anchor::Parent),
        Kind::Session(_) => BindingAsk::Process(Anchor::Session),
        Kind::Pid(0) => return Err(Failure::field("binding.pid", "is zero")),
        Kind::Pid(pid) => BindingAsk::Process(Anchor::Pid(pid)),
        Kind::Connection(_) => BindingAsk::Connection,
        Kind::None(_) => BindingAsk::None,
    }))
}

/// What the caller says that it will become. Digests of what anybody may change
/// before it runs are dropped here.
pub(super) fn target(target: v1::TargetClaim) -> Result<Target, Failure> {
    let path = |field: &str, path: &str| match path.starts_with('/') && path.len() <= 4096 {
        true => Ok(()),
        false => Err(Failure::field(field, "is not an absolute path")),
    };
    path("target.exe", &target.exe)?;
    if !target.interpreter.is_empty() {
        path("target.interpreter", &target.interpreter)?;
    }
    for (field, digest) in [
        ("target.digest", &target.digest),
        ("target.script_digest", &target.script_digest),
        ("target.interpreter_digest", &target.interpreter_digest),
    ] {
        // A program may be executable and yet unreadable: nobody could measure it.
        if !digest.is_empty() && Digest::from_hex(digest).is_none() {
            return Err(Failure::field(field, "is not a SHA-256 in lower-case hex"));
        }
    }
    let claimed = Target {
        exe: target.exe,
        digest: target.digest,
        script_digest: target.script_digest,
        interpreter: target.interpreter,
        interpreter_digest: target.interpreter_digest,
        file: (target.inode != 0).then_some((target.device, target.inode)),
        unseen: None,
        unsealed: None,
    };
    Ok(if target.sealed || !on(Check::TargetSealed) { claimed } else { claimed.open(UNSEALED) })
}

/// A target of a request that nobody makes: what is named is taken to be so.
pub(super) fn supposed_target(target: v1::TargetClaim) -> Result<Target, Failure> {
    self::target(v1::TargetClaim { sealed: true, ..target })
}

/// A short text for people.
pub(super) fn text(field: &str, text: String) -> Result<String, Failure> {
    if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(Failure::field(field, "has more than 256 characters, or control characters"));
    }
    Ok(text)
}

/// A short text that must be there.
pub(super) fn required(field: &str, given: String) -> Result<String, Failure> {
    let given = text(field, given)?;
    if given.trim().is_empty() {
        return Err(Failure::field(field, "is required"));
    }
    Ok(given)
}

/// Which leases to revoke: at least one condition.
pub(super) fn selector(selector: Option<v1::LeaseSelector>) -> Result<Selector, Failure> {
    let given = selector.unwrap_or_default();
    if !given.digest.is_empty() && Digest::from_hex(&given.digest).is_none() {
        return Err(Failure::field("selector.digest", "is not a SHA-256 in lower-case hex"));
    }
    let some = |text: String| (!text.is_empty()).then_some(text);
    let selector = Selector {
        prefix: text("selector.prefix", given.prefix)?,
        credential: None,
        digest: some(given.digest),
        uid: given.uid,
        unit: some(text("selector.unit", given.unit)?),
        container: some(text("selector.container", given.container)?),
        all: given.all,
    };
    let narrowed = !selector.prefix.is_empty()
        || selector.digest.is_some()
        || selector.uid.is_some()
        || selector.unit.is_some()
        || selector.container.is_some();
    match (selector.all, narrowed) {
        (true, true) => Err(Failure::field("selector.all", "stands beside other conditions")),
        (false, false) => {
            Err(Failure::field("selector", "selects nothing; say `all` for every lease"))
        }
        _ => Ok(selector),
    }
}

/// Pieces of a secret that comes in, put together.
#[derive(Default)]
pub(super) struct Pieces {
    fields: Vec<(Field, bool)>,
    bytes: usize,
}

impl Pieces {
    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: v1::FieldPiece, most: usize) -> Result<(), Failure> {
        self.bytes += piece.value.len();
        if self.bytes > most {
            return Err(Failure::field(
                "pieces",
                format!("the secret is longer than {most} bytes"),
            ));
        }
        let value = SecretBuf::new(piece.value);
        if let Some((last, more)) = self.fields.last_mut()
            && *more
        {
            if last.name != piece.name {
                return Err(Failure::field("pieces", "a field ends before its last piece"));
            }
            let mut whole = Vec::with_capacity(last.value.len() + value.len());
            whole.extend_from_slice(last.value.expose());
            whole.extend_from_slice(value.expose());
            last.value = SecretBuf::new(whole);
            *more = piece.more;
            return Ok(());
        }
        if self.fields.len() >= MAX_FIELDS {
            return Err(Failure::field("pieces", "a secret has at most 32 fields"));
        }
        let field = Field {
            name: piece.name,
            sensitive: piece.sensitive,
            is_default: piece.is_default,
            value,
        };
        self.fields.push((field, piece.more));
        Ok(())
    }

    /// The fields, once all is there.
    pub(super) fn finish(self) -> Result<Vec<Field>, Failure> {
        if self.fields.last().is_some_and(|(_, more)| *more) {
            return Err(Failure::field("pieces", "the last field is cut short"));
        }
        Ok(self.fields.into_iter().map(|(field, _)| field).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn a_ttl_is_neither_zero_nor_negative_nor_huge() {
        let span = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        assert_eq!(ttl("ttl", None, YEAR).unwrap(), None);
        assert_eq!(ttl("ttl", span(60, 0), YEAR).unwrap(), Some(Duration::from_secs(60)));
        for bad in [span(0, 0), span(-1, 0), span(0, -1), span(i64::MAX, 0), span(1, i32::MAX)] {
            let wrong = ttl("ttl", bad, YEAR).unwrap_err();
            assert_eq!(wrong.violation.unwrap().0, "ttl");
        }
    }

    #[test]
    fn a_digest_of_what_can_still_be_changed_is_none() {
        let hex = "ab".repeat(32);
        let claim = |sealed| v1::TargetClaim {
            exe: "/home/me/tool".into(),
            digest: hex.clone(),
            sealed,
            device: 7,
            inode: 8,
            script_digest: hex.clone(),
            interpreter: "/bin/sh".into(),
            interpreter_digest: hex.clone(),
        };
        let (sealed, open) = (target(claim(true)).unwrap(), target(claim(false)).unwrap());
        assert_eq!((sealed.digest.as_str(), &sealed.unsealed), (hex.as_str(), &None));
        assert_eq!((open.exe.as_str(), open.file), ("/home/me/tool", Some((7, 8))));
        assert!(open.digest.is_empty() && open.script_digest.is_empty());
        assert!(open.interpreter.is_empty() && open.interpreter_digest.is_empty());
        assert!(open.unsealed.unwrap().contains("--sealed"));
        for (field, bad) in [
            ("target.exe", v1::TargetClaim { exe: "tool".into(), ..claim(true) }),
            ("target.interpreter", v1::TargetClaim { interpreter: "sh".into(), ..claim(true) }),
            ("target.digest", v1::TargetClaim { digest: "AB".repeat(32), ..claim(true) }),
            ("target.script_digest", v1::TargetClaim { script_digest: "a".into(), ..claim(true) }),
        ] {
            assert_eq!(target(bad).unwrap_err().violation.unwrap().0, field);
        }
    }

    #[test]
    fn a_selector_without_conditions_selects_nothing() {
        assert!(selector(None).is_err());
        assert!(selector(Some(v1::LeaseSelector { all: true, ..Default::default() })).is_ok());
        let both = v1::LeaseSelector { all: true, uid: Some(1), ..Default::default() };
        assert!(selector(Some(both)).is_err());
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let piece = |name: &str, more| v1::FieldPiece {
            name: name.to_owned(),
            value: vec![1; 10],
            more,
            ..Default::default()
        };
        let mut pieces = Pieces::default();
        pieces.take(piece("a", true), 100).unwrap();
        assert!(pieces.take(piece("b", false), 100).is_err());
        let mut pieces = Pieces::default();
        pieces.take(piece("a", true), 100).unwrap();
        pieces.take(piece("a", false), 100).unwrap();
        assert_eq!(pieces.finish().unwrap()[0].value.len(), 20);
        let mut pieces = Pieces::default();
        pieces.take(piece("a", true), 100).unwrap();
        assert!(pieces.finish().is_err());
        assert!(Pieces::default().take(piece("a", false), 9).is_err());
    }
}
