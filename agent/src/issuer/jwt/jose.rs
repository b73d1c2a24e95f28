//! What verifiers read: public keys (RFC 7517, 7518, 8037), their names
//! (RFC 7638), tokens (RFC 7515, 7519) and the discovery document.

use crate::config::Algorithm;
use crate::memory::SecretBuf;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A public key: exactly the members that its thumbprint is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Jwk(BTreeMap<String, String>);

impl Jwk {
    pub(super) fn ed25519(public: &[u8]) -> Self {
        Self::of([("kty", "OKP"), ("crv", "Ed25519"), ("x", &b64(public))])
    }

    /// From an uncompressed point.
    pub(super) fn p256(point: &[u8]) -> Option<Self> {
        let (&4, coordinates) = point.split_first()? else { return None };
        let (x, y) = coordinates.split_at_checked(32).filter(|(_, y)| y.len() == 32)?;
        Some(Self::of([("kty", "EC"), ("crv", "P-256"), ("x", &b64(x)), ("y", &b64(y))]))
    }

    /// From big-endian numbers without leading zeros.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Self {
        Self::of([("kty", "RSA"), ("n", &b64(n)), ("e", &b64(e))])
    }

    fn of<const N: usize>(members: [(&str, &str); N]) -> Self {
        Self(members.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// SHA-256 over the members in the order of their names (RFC 7638, 3).
    pub(super) fn thumbprint(&self) -> String {
        // A map of texts is always written, and in order.
        let canonical = serde_json::to_vec(&self.0).unwrap_or_default();
        b64(ring::digest::digest(&ring::digest::SHA256, &canonical).as_ref())
    }

    /// As a member of a key set.
    pub(super) fn published(&self, kid: &str, algorithm: Algorithm) -> Value {
        let members = self.0.iter().map(|(name, value)| (name.clone(), json!(value)));
        let mut key: Map<String, Value> = members.collect();
        key.insert("kid".to_owned(), json!(kid));
        key.insert("alg".to_owned(), json!(algorithm.name()));
        key.insert("use".to_owned(), json!("sig"));
        Value::Object(key)
    }

    #[cfg(test)]
    pub(super) fn member(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The key as ring verifies with it.
    #[cfg(test)]
    pub(super) fn verifying_bytes(&self) -> Vec<u8> {
        let bytes = |name| BASE64URL_NOPAD.decode(self.0[name].as_bytes()).unwrap();
        match self.0["kty"].as_str() {
            "OKP" => bytes("x"),
            "EC" => [vec![4], bytes("x"), bytes("y")].concat(),
            _ => {
                let integer = |n: Vec<u8>| {
                    let pad = if n[0] & 0x80 == 0 { vec![] } else { vec![0] };
                    der(2, [pad, n].concat())
                };
                der(0x30, [integer(bytes("n")), integer(bytes("e"))].concat())
            }
        }
    }
}

#[cfg(test)]
fn der(tag: u8, content: Vec<u8>) -> Vec<u8> {
    let len = content.len();
    let head = match len {
        0..0x80 => vec![tag, len as u8],
        0x80..0x100 => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [head, content].concat()
}

/// A token but for its signature (RFC 7515, 5.1).
pub(super) struct Unsigned(Vec<u8>);

impl Unsigned {
    /// Header and claims.
    pub(super) fn new(
        algorithm: Algorithm,
        kid: &str,
        token_type: &str,
        claims: &Map<String, Value>,
    ) -> Self {
        let header = json!({ "alg": algorithm.name(), "kid": kid, "typ": token_type });
        // Maps of texts are always written.
        let claims = serde_json::to_vec(claims).unwrap_or_default();
        let parts = [b64(header.to_string().as_bytes()), b64(&claims)];
        Self(parts.join(".").into_bytes())
    }

    /// What is signed.
    pub(super) fn message(&self) -> &[u8] {
        &self.0
    }

    /// The whole token, by which whoever has it is believed.
    pub(super) fn signed(&self, signature: &[u8]) -> SecretBuf {
        let signature = zeroize::Zeroizing::new(b64(signature));
        // Of that length at once: growing would leave copies behind.
        let mut token = Vec::with_capacity(self.0.len() + 1 + signature.len());
        token.extend_from_slice(&self.0);
        token.push(b'.');
        token.extend_from_slice(signature.as_bytes());
        SecretBuf::new(token)
    }
}

/// OpenID Connect Discovery 1.0, 3, so far as it concerns who only verifies.
pub(super) fn discovery(iss: &str, jwks_uri: &str, algorithms: &[&str]) -> Value {
    json!({
        "issuer": iss,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

fn b64(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_as_in_the_example_of_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = Jwk::of([("kty", "RSA"), ("n", n), ("e", "AQAB")]);
        assert_eq!(jwk.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_published_key_has_no_private_member() {
        let key = Jwk::ed25519(&[7; 32]).published("k", Algorithm::EdDsa);
        let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
    }

    #[test]
    fn a_point_that_is_not_uncompressed_is_no_key() {
        assert!(Jwk::p256(&[4; 65]).is_some());
        for bad in [&[4_u8; 64][..], &[4; 66], &[2; 33], &[]] {
            assert!(Jwk::p256(bad).is_none());
        }
    }

    #[test]
    fn a_token_has_three_parts() {
        let claims = Map::from_iter([("sub".to_owned(), json!("a\"\n"))]);
        let unsigned = Unsigned::new(Algorithm::Es256, "k", "at+jwt", &claims);
        let token = unsigned.signed(b"signature");
        let text = std::str::from_utf8(token.expose()).unwrap();
        let parts: Vec<_> = text.split('.').collect();
        let part = |at: usize| BASE64URL_NOPAD.decode(parts[at].as_bytes()).unwrap();
        assert_eq!(parts.len(), 3);
        assert_eq!(part(0), br#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#);
        assert_eq!(part(1), br#"{"sub":"a\"\n"}"#);
        assert_eq!(part(2), b"signature");
    }
}
