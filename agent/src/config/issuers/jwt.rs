//! `kind = "jwt"`: tokens that the agent signs itself.

use crate::config::document::Section;
use crate::config::error::ConfigError;
use crate::config::raw::{AbsolutePath, Span};
use crate::config::template::Template;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;

/// The kind's name.
pub(super) const KIND: &str = "jwt";

/// Life of a token where nothing is said: nothing can end it earlier.
const MAX_TTL: Duration = Duration::from_secs(3_600);
/// Days for verifiers that fetch the key set once a day.
const PUBLISH_AHEAD: Duration = Duration::from_secs(24 * 3_600);
/// Longest `backdate`: more would hide a clock that is wrong.
const MAX_BACKDATE: Duration = Duration::from_secs(300);
/// Claims that the agent alone sets (RFC 7519, 4.1).
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];
/// The scope key that chooses the audience.
const AUDIENCE: &str = "audience";
/// Claims of one credential, nested ones counted: a token goes into a header line.
const MAX_CLAIMS: usize = 64;
/// How deep claims may be nested.
const MAX_DEPTH: usize = 4;
/// Bytes of one audience, type or template.
const MAX_TEXT: usize = 512;

/// How tokens are signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA over P-256 with SHA-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// Its name in headers and keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtIssuerConfig {
    /// The `iss` of its tokens: an http(s) URL.
    pub iss: String,
    /// How new keys sign.
    pub algorithm: Algorithm,
    /// Bits of new RSA keys.
    pub rsa_bits: u32,
    /// The header's `typ`.
    pub token_type: String,
    /// Longest life of a token.
    pub max_ttl: Duration,
    /// How much earlier than now `nbf` lies, for verifiers whose clock is late.
    pub backdate: Duration,
    /// Age at which a signing key is replaced; `None`: by command only.
    pub rotate_after: Option<Duration>,
    /// How long a key is published before it signs.
    pub publish_ahead: Duration,
    /// Where the key set is written.
    pub jwks_file: Option<PathBuf>,
    /// Where the discovery document is written.
    pub discovery_file: Option<PathBuf>,
    /// Where verifiers find the key set, as the discovery document says.
    pub jwks_uri: String,
}

/// What goes into the tokens of one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtCredential {
    /// The audiences that may be asked for; never empty.
    pub audiences: Vec<String>,
    /// `sub`.
    pub subject: Template,
    /// Further claims.
    pub claims: BTreeMap<String, ClaimTemplate>,
    /// Scope keys besides `audience`.
    pub scope: BTreeSet<String>,
}

/// The value of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimTemplate {
    /// A text; one placeholder alone keeps its JSON type.
    Text(Template),
    /// A number or a truth value.
    Fixed(Value),
    /// A list.
    List(Vec<ClaimTemplate>),
    /// An object.
    Object(BTreeMap<String, ClaimTemplate>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIssuer {
    #[serde(rename = "kind")]
    _kind: String,
    iss: Spanned<String>,
    #[serde(default)]
    algorithm: Algorithm,
    rsa_bits: Option<Spanned<u32>>,
    token_type: Option<Spanned<String>>,
    max_ttl: Option<Spanned<Span>>,
    backdate: Option<Spanned<Span>>,
    rotate_after: Option<Spanned<Span>>,
    publish_ahead: Option<Spanned<Span>>,
    jwks_file: Option<AbsolutePath>,
    discovery_file: Option<AbsolutePath>,
    jwks_uri: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredential {
    audiences: Spanned<Vec<Spanned<String>>>,
    subject: Spanned<String>,
    #[serde(default)]
    claims: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    #[serde(default)]
    scope: Vec<Spanned<String>>,
}

/// Checks `[issuers.NAME]`.
pub(super) fn issuer(section: &Section<'_>) -> Result<JwtIssuerConfig, ConfigError> {
    let raw: RawIssuer = section.read()?;
    url(section, "iss", &raw.iss)?;
    let iss = raw.iss.into_inner();
    if let Some(uri) = &raw.jwks_uri {
        url(section, "jwks_uri", uri)?;
    }
    let rsa_bits = match &raw.rsa_bits {
        None => 2048,
        Some(bits) if raw.algorithm != Algorithm::Rs256 => {
            return Err(section.error_of(bits, "rsa_bits is for algorithm = \"RS256\""));
        }
        Some(bits) if [2048, 3072, 4096].contains(bits.get_ref()) => *bits.get_ref(),
        Some(bits) => return Err(section.error_of(bits, "rsa_bits is 2048, 3072 or 4096")),
    };
    let span = |span: &Option<Spanned<Span>>| span.as_ref().map(|span| span.get_ref().0);
    let second = Duration::from_secs(1);
    if let Some(ttl) = raw.max_ttl.as_ref().filter(|ttl| ttl.get_ref().0 < second) {
        return Err(section.error_of(ttl, "tokens count whole seconds: max_ttl is 1s or more"));
    }
    if let Some(backdate) = raw.backdate.as_ref().filter(|span| span.get_ref().0 > MAX_BACKDATE) {
        return Err(section.error_of(backdate, "backdate is at most 5m; mend the clocks instead"));
    }
    let publish_ahead = span(&raw.publish_ahead).unwrap_or(PUBLISH_AHEAD);
    if let Some(age) = raw.rotate_after.as_ref().filter(|age| age.get_ref().0 <= publish_ahead) {
        let message = "rotate_after must be longer than publish_ahead, the time for which the next \
                       key is published before it signs";
        return Err(section.error_of(age, message));
    }
    Ok(JwtIssuerConfig {
        algorithm: raw.algorithm,
        rsa_bits,
        token_type: match raw.token_type {
            None => "JWT".to_owned(),
            Some(text) => media_type(section, text)?,
        },
        max_ttl: span(&raw.max_ttl).unwrap_or(MAX_TTL),
        backdate: span(&raw.backdate).unwrap_or(Duration::ZERO),
        rotate_after: span(&raw.rotate_after),
        publish_ahead,
        jwks_file: raw.jwks_file.map(|path| path.0),
        discovery_file: raw.discovery_file.map(|path| path.0),
        jwks_uri: raw.jwks_uri.map_or_else(
            || format!("{}/.well-known/jwks.json", iss.trim_end_matches('/')),
            Spanned::into_inner,
        ),
        iss,
    })
}

/// An issuer is an https URL without query and fragment (OpenID Connect
/// Discovery 1.0, 3); plain http only where it does not leave the host.
fn url(section: &Section<'_>, key: &str, url: &Spanned<String>) -> Result<(), ConfigError> {
    let text = url.get_ref().as_str();
    let wrong = |why: &str| Err(section.error_of(url, format!("{key}: {why}")));
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("it is to be a URL: https://…");
    };
    let host = rest.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if text.len() > MAX_TEXT || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong("it is to be at most 512 printable ASCII characters");
    }
    if text.contains(['?', '#', '@', '\\', '"', '<', '>']) || name.is_empty() {
        return wrong("it is to have a host, and no user, query or fragment");
    }
    match scheme {
        "https" => Ok(()),
        "http" if ["localhost", "127.0.0.1", "[::1]"].contains(&name) => Ok(()),
        _ => wrong("it is to begin with https:// (http:// only for localhost)"),
    }
}

/// `JWT`, `at+jwt`: a media type without `application/` (RFC 7515, 4.1.9).
fn media_type(section: &Section<'_>, text: Spanned<String>) -> Result<String, ConfigError> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"+-._!#$&^".contains(&b);
    let is = text.get_ref();
    if is.is_empty() || is.len() > 127 || !is.bytes().all(ok) {
        let message = "token_type is a media type without application/: JWT, at+jwt";
        return Err(section.error_of(&text, message));
    }
    Ok(text.into_inner())
}

/// Checks what `[credentials."NAME"]` says to an issuer of tokens.
pub(super) fn credential(section: &Section<'_>) -> Result<JwtCredential, ConfigError> {
    section.only(&["audiences", "subject", "claims", "scope"])?;
    let raw: RawCredential = section.read()?;
    let mut audiences: Vec<String> = Vec::new();
    for audience in raw.audiences.get_ref() {
        let text = audience.get_ref();
        if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            let message = "an audience is a printable text of 1 to 512 bytes";
            return Err(section.error_of(audience, message));
        }
        if audiences.contains(text) {
            return Err(section.error_of(audience, format!("the audience {text:?} is there twice")));
        }
        audiences.push(text.clone());
    }
    if audiences.is_empty() {
        let message = "audiences is empty; name who may accept the token";
        return Err(section.error_of(&raw.audiences, message));
    }
    let scope = scope(section, raw.scope)?;
    let subject = template(section, &raw.subject.span(), raw.subject.get_ref(), &scope).and_then(
        |subject| match subject.pieces() {
            [] => Err(section.error_of(&raw.subject, "subject is empty")),
            _ => Ok(subject),
        },
    )?;
    let mut claims = BTreeMap::new();
    let mut count = 0;
    for (name, value) in raw.claims {
        if REGISTERED.contains(&name.get_ref().as_str()) {
            let message = format!(
                "the claim {} is the agent's own; sub comes from subject, aud from audiences",
                name.get_ref()
            );
            return Err(section.error_of(&name, message));
        }
        let claim = claim(section, &value.span(), value.get_ref(), &scope, 1, &mut count)?;
        claims.insert(name.into_inner(), claim);
    }
    Ok(JwtCredential { audiences, subject, claims, scope })
}

fn scope(
    section: &Section<'_>,
    keys: Vec<Spanned<String>>,
) -> Result<BTreeSet<String>, ConfigError> {
    let mut scope = BTreeSet::new();
    for key in keys {
        let text = key.get_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            let message = "a scope key has 1 to 64 letters, digits, '_', '-' and '.'";
            return Err(section.error_of(&key, message));
        }
        if text == AUDIENCE {
            return Err(section.error_of(&key, "the scope key audience is taken anyway"));
        }
        scope.insert(key.into_inner());
    }
    Ok(scope)
}

fn claim(
    section: &Section<'_>,
    at: &std::ops::Range<usize>,
    value: &toml::Value,
    scope: &BTreeSet<String>,
    depth: usize,
    count: &mut usize,
) -> Result<ClaimTemplate, ConfigError> {
    let wrong = |why: &str| Err(section.error_of(&Spanned::new(at.clone(), ()), why));
    *count += 1;
    if *count > MAX_CLAIMS {
        return wrong("more than 64 claims; a token goes into a header line");
    }
    if depth > MAX_DEPTH {
        return wrong("claims are nested deeper than 4");
    }
    let mut inner = |value: &toml::Value| claim(section, at, value, scope, depth + 1, count);
    Ok(match value {
        toml::Value::String(text) => ClaimTemplate::Text(template(section, at, text, scope)?),
        toml::Value::Integer(number) => ClaimTemplate::Fixed(Value::from(*number)),
        toml::Value::Boolean(truth) => ClaimTemplate::Fixed(Value::from(*truth)),
        toml::Value::Array(items) => {
            ClaimTemplate::List(items.iter().map(&mut inner).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let fields = table.iter().map(|(name, value)| Ok((name.clone(), inner(value)?)));
            ClaimTemplate::Object(fields.collect::<Result<_, ConfigError>>()?)
        }
        toml::Value::Float(_) => return wrong("write a number with a fraction as a text"),
        toml::Value::Datetime(_) => return wrong("write a time as a text"),
    })
}

fn template(
    section: &Section<'_>,
    at: &std::ops::Range<usize>,
    text: &str,
    scope: &BTreeSet<String>,
) -> Result<Template, ConfigError> {
    let at = Spanned::new(at.clone(), ());
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(section.error_of(&at, "a template is printable and has at most 512 bytes"));
    }
    Template::parse(text, scope).map_err(|wrong| section.error_of(&at, wrong))
}
