//! The script for fish.

use super::{Script, quote};
use zeroize::Zeroizing;

/// What undoes a script. Values come back before the leases go.
pub(super) const UNDO: &str = "\
if functions -q __jsi_undo; __jsi_undo; __jsi_release
else; echo 'jsi: this shell has nothing of jsi env' >&2; end
";

/// Undoes an earlier one; its leases stay in the list.
const BEGIN: &str = "\
if functions -q __jsi_undo; __jsi_undo; end
";

pub(super) fn script(script: &Script<'_>) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(script.room()));
    out.extend_from_slice(BEGIN.as_bytes());
    for (name, value) in &script.variables {
        let old = format!(
            "set -e -g __jsi_how_{name}; set -e -g __jsi_old_{name}\n\
             if set -qg {name}; set -g __jsi_old_{name} ${name}; set -g __jsi_how_{name} -gu\n\
             if set -qgx {name}; set -g __jsi_how_{name} -gx; end; end\n\
             set -gx {name} "
        );
        out.extend_from_slice(old.as_bytes());
        quote::fish(&mut out, value);
        out.push(b'\n');
    }
    undo(&mut out, script);
    let leases = format!("set -g __jsi_leases $__jsi_leases {}\n", script.leases.join(" "));
    out.extend_from_slice(leases.as_bytes());
    out.extend_from_slice(
        b"function __jsi_release --on-event fish_exit\nif set -q __jsi_leases[1]\n",
    );
    quote::fish(&mut out, &script.jsi);
    out.extend_from_slice(
        b" release --within 2s $__jsi_leases >/dev/null 2>&1; end\nset -g __jsi_leases\nend\n",
    );
    out
}

fn undo(out: &mut Vec<u8>, script: &Script<'_>) {
    out.extend_from_slice(b"function __jsi_undo\n");
    for (name, _) in &script.variables {
        let line = format!(
            "set -e -g {name}\n\
             if set -q __jsi_how_{name}; set $__jsi_how_{name} {name} $__jsi_old_{name}; end\n\
             set -e -g __jsi_how_{name}; set -e -g __jsi_old_{name}\n"
        );
        out.extend_from_slice(line.as_bytes());
    }
    out.extend_from_slice(b"functions -e __jsi_undo\nend\n");
}
