//! Policies that tests write.

use std::path::Path;

/// Permits `uid` to use `credential` from the program at `exe`.
#[must_use]
pub fn permit(uid: u32, credential: &str, exe: &Path) -> String {
    permit_with("", uid, credential, exe)
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
