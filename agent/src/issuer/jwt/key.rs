//! Signing keys: made, read, used. They rest as PKCS#8 in PEM, which openssl
//! reads as well. Everything that touches a private key runs where the stack is
//! cleared after it.

use super::jose::Jwk;
use crate::config::Algorithm;
use crate::memory::{SecretBuf, random, random_array, scrubbed, scrubbed_deep};
use data_encoding::BASE64;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use rsa::pkcs8::EncodePrivateKey;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";
/// A PKCS#8 v1 key of Ed25519 but for its 32 bytes (RFC 8410, 7). ring itself
/// makes v2, which fewer tools read.
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key that was just made.
pub(super) struct NewKey {
    pub(super) pem: SecretBuf,
    pub(super) public: Jwk,
}

/// Makes a key. RSA takes up to some seconds: call it where that may block.
pub(super) fn generate(algorithm: Algorithm, rsa_bits: u32) -> Result<NewKey, String> {
    let der = match algorithm {
        Algorithm::EdDsa => scrubbed(generate_ed25519),
        Algorithm::Es256 => scrubbed(generate_p256)?,
        Algorithm::Rs256 => scrubbed_deep(|| generate_rsa(rsa_bits))?,
    };
    let pem = to_pem(&der);
    let public = public_of(&pem, algorithm)?;
    Ok(NewKey { pem, public })
}

fn generate_ed25519() -> SecretBuf {
    let mut der = Vec::with_capacity(48);
    der.extend_from_slice(&ED25519_PKCS8);
    der.extend_from_slice(&*Zeroizing::new(random_array::<32>()));
    SecretBuf::new(der)
}

fn generate_p256() -> Result<SecretBuf, String> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map(|document| SecretBuf::from_slice(document.as_ref()))
        .map_err(|ring::error::Unspecified| "no P-256 key could be made".to_owned())
}

/// ring makes no RSA keys. The `rsa` crate makes this one and does nothing else
/// with it: its signing shows the key in its timing (RUSTSEC-2023-0071), so
/// signing is ring's.
fn generate_rsa(bits: u32) -> Result<SecretBuf, String> {
    let key = rsa::RsaPrivateKey::new(&mut Kernel, bits as usize)
        .map_err(|error| format!("no RSA key could be made: {error}"))?;
    let document = key.to_pkcs8_der().map_err(|error| error.to_string())?;
    Ok(SecretBuf::from_slice(document.as_bytes()))
}

/// The kernel's random numbers, as the `rsa` crate asks for them.
struct Kernel;

impl rsa::rand_core::RngCore for Kernel {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(random_array())
    }
    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(random_array())
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        random(bytes);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        random(bytes);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Kernel {}

/// The public part of a key.
pub(super) fn public_of(pem: &SecretBuf, algorithm: Algorithm) -> Result<Jwk, String> {
    let der = from_pem(pem)?;
    let rejected = |why| format!("it is no {} key ({why})", algorithm.name());
    match algorithm {
        Algorithm::EdDsa => scrubbed(|| {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.expose());
            key.map(|key| Jwk::ed25519(key.public_key().as_ref())).map_err(rejected)
        }),
        Algorithm::Es256 => scrubbed(|| {
            let key = p256(der.expose()).map_err(rejected)?;
            Jwk::p256(key.public_key().as_ref()).ok_or_else(|| "it is no point".to_owned())
        }),
        Algorithm::Rs256 => scrubbed_deep(|| {
            let key = RsaKeyPair::from_pkcs8(der.expose()).map_err(rejected)?;
            let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
            Ok(Jwk::rsa(&public.n, &public.e))
        }),
    }
}

/// Signs: 64 bytes for EdDSA (RFC 8037, 3.1) and ES256 (RFC 7518, 3.4), as many
/// as the modulus for RS256 (RFC 7518, 3.3).
pub(super) fn sign(
    pem: &SecretBuf,
    algorithm: Algorithm,
    message: &[u8],
) -> Result<Vec<u8>, String> {
    let der = from_pem(pem)?;
    let rejected = |why| format!("the signing key is no {} key ({why})", algorithm.name());
    let failed = |ring::error::Unspecified| "the token could not be signed".to_owned();
    match algorithm {
        Algorithm::EdDsa => scrubbed(|| {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.expose()).map_err(rejected)?;
            Ok(key.sign(message).as_ref().to_vec())
        }),
        Algorithm::Es256 => scrubbed(|| {
            let key = p256(der.expose()).map_err(rejected)?;
            let signature = key.sign(&SystemRandom::new(), message).map_err(failed)?;
            Ok(signature.as_ref().to_vec())
        }),
        Algorithm::Rs256 => scrubbed_deep(|| {
            let key = RsaKeyPair::from_pkcs8(der.expose()).map_err(rejected)?;
            let mut signature = vec![0; key.public().modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                .map_err(failed)?;
            Ok(signature)
        }),
    }
}

fn p256(der: &[u8]) -> Result<EcdsaKeyPair, ring::error::KeyRejected> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
}

fn to_pem(der: &SecretBuf) -> SecretBuf {
    let text = Zeroizing::new(BASE64.encode(der.expose()));
    // Long enough: growing would leave copies behind.
    let mut pem = Vec::with_capacity(text.len() * 2 + 128);
    pem.extend_from_slice(BEGIN.as_bytes());
    for line in text.as_bytes().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(END.as_bytes());
    SecretBuf::new(pem)
}

fn from_pem(pem: &SecretBuf) -> Result<SecretBuf, String> {
    let malformed = || "it is no private key in PEM (PKCS#8)".to_owned();
    let text = std::str::from_utf8(pem.expose()).map_err(|_| malformed())?;
    let inner = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let inner = inner.ok_or_else(malformed)?;
    let mut joined = Zeroizing::new(Vec::with_capacity(inner.len()));
    joined.extend(inner.bytes().filter(|b| *b != b'\n'));
    BASE64.decode(&joined).map(SecretBuf::new).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL_NOPAD;
    use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
    use rsa::BigUint;

    fn b64(text: &str) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn ed25519_signs_as_in_the_example_of_rfc_8037() {
        let seed = b64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
        let pem = to_pem(&SecretBuf::new([&ED25519_PKCS8[..], &seed].concat()));
        let public = public_of(&pem, Algorithm::EdDsa).unwrap();
        assert_eq!(public.member("x"), Some("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
        assert_eq!(public.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = sign(&pem, Algorithm::EdDsa, message).unwrap();
        assert_eq!(
            BASE64URL_NOPAD.encode(&signature),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt\
             9g7sVvpAr_MuM0KAg"
        );
    }

    /// RFC 7515, appendix A.2.
    #[test]
    fn rs256_signs_as_in_the_example_of_rfc_7515() {
        let number = |text: &str| BigUint::from_bytes_be(&b64(text));
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let d = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
        let p = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
        let q = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
        let key = rsa::RsaPrivateKey::from_components(
            number(n),
            number("AQAB"),
            number(d),
            vec![number(p), number(q)],
        )
        .unwrap();
        let pem = to_pem(&SecretBuf::from_slice(key.to_pkcs8_der().unwrap().as_bytes()));
        let public = public_of(&pem, Algorithm::Rs256).unwrap();
        assert_eq!((public.member("n"), public.member("e")), (Some(n), Some("AQAB")));
        let message = b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = BASE64URL_NOPAD.encode(&sign(&pem, Algorithm::Rs256, message).unwrap());
        assert_eq!(
            signature,
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
    }

    /// RFC 7515, appendix A.3: the key; its signature differs each time.
    #[test]
    fn es256_signs_with_the_key_of_rfc_7515() {
        let d = b64("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
        let point = [&[4][..], &b64(x), &b64(y)].concat();
        // PKCS#8 around RFC 5915's ECPrivateKey.
        let head = [
            0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce,
            0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04,
            0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,
        ];
        let middle = [0xa1, 0x44, 0x03, 0x42, 0x00];
        let der = [&head[..], &d, &middle, &point].concat();
        let pem = to_pem(&SecretBuf::new(der));
        let public = public_of(&pem, Algorithm::Es256).unwrap();
        assert_eq!((public.member("x"), public.member("y")), (Some(x), Some(y)));
        let message = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let given = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let verifier = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point);
        verifier.verify(message, &b64(given)).unwrap();
        verifier.verify(message, &sign(&pem, Algorithm::Es256, message).unwrap()).unwrap();
    }

    #[test]
    fn what_each_new_key_signs_verifies_by_its_public_part_and_by_no_other() {
        let cases: [(Algorithm, &dyn VerificationAlgorithm); 3] = [
            (Algorithm::EdDsa, &signature::ED25519),
            (Algorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED),
            (Algorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
        ];
        for (algorithm, verification) in cases {
            let key = generate(algorithm, 2048).unwrap();
            let other = generate(algorithm, 2048).unwrap();
            let signature = sign(&key.pem, algorithm, b"message").unwrap();
            let verify = |public: &Jwk, message: &[u8]| {
                UnparsedPublicKey::new(verification, public.verifying_bytes())
                    .verify(message, &signature)
                    .is_ok()
            };
            assert!(verify(&key.public, b"message"), "{algorithm:?}");
            assert!(!verify(&key.public, b"massage"), "{algorithm:?}");
            assert!(!verify(&other.public, b"message"), "{algorithm:?}");
            assert_ne!(key.public.thumbprint(), other.public.thumbprint());
        }
    }

    #[test]
    fn what_is_no_key_of_the_algorithm_is_refused() {
        let ed = generate(Algorithm::EdDsa, 0).unwrap();
        for (pem, algorithm) in [
            (ed.pem.expose().to_vec(), Algorithm::Es256),
            (ed.pem.expose().to_vec(), Algorithm::Rs256),
            (b"".to_vec(), Algorithm::EdDsa),
            (format!("{BEGIN}AAAA\n{END}").into_bytes(), Algorithm::EdDsa),
            (format!("{BEGIN}!!!!\n{END}").into_bytes(), Algorithm::EdDsa),
        ] {
            let pem = SecretBuf::new(pem);
            assert!(public_of(&pem, algorithm).is_err());
            assert!(sign(&pem, algorithm, b"m").is_err());
        }
    }
}
