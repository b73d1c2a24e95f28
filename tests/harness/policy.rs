//! Policies that tests write.

use std::path::Path;

/// Permits `uid` to use `credential` from the program at `exe`.
#[must_use]
pub fn permit(uid: u32, credential: &str, exe: &Path) -> String {
    permit_with("", uid, credential, exe)
}

/// As [`permit`], by the SHA-256 (hex) of its bytes instead of a path.
#[must_use]
pub fn permit_digest(uid: u32, credential: &str, digest: &str) -> String {
    format!(
        "permit(\n  principal in User::\"{uid}\",\n  action in Action::\"use\",\n  \
         resource == Credential::\"{credential}\"\n) when {{\n  context.assurance >= 1 &&\n  \
         principal has digest && principal.digest == \"{digest}\"\n}};\n"
    )
}

/// SHA-256 of a file, hex.
#[must_use]
pub fn digest(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

/// As [`permit`], with annotations in front: `@max_ttl("15m")`.
#[must_use]
pub fn permit_with(annotations: &str, uid: u32, credential: &str, exe: &Path) -> String {
    format!(
        "{annotations}\npermit(\n  principal in User::\"{uid}\",\n  action in Action::\"use\",\n  \
         resource == Credential::\"{credential}\"\n) when {{\n  context.assurance >= 1 &&\n  \
         principal has exe && principal.exe == \"{}\"\n}};\n",
        exe.display()
    )
}
