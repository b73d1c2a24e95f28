//! The script for sh, bash and zsh.
//!
//! It runs in somebody's shell, so it holds with `set -eu`, with functions and
//! variables of its own under `__jsi_`, and with what the shell had before. A
//! repeated `jsi env` undoes the one before it first.

use super::shell::Shell;
use super::{Script, quote};
use zeroize::Zeroizing;

/// What undoes a script. Values come back before the leases go.
pub(super) const UNDO: &str = "\
if command -v __jsi_undo >/dev/null 2>&1; then __jsi_undo; __jsi_release
else echo 'jsi: this shell has nothing of jsi env' >&2; fi
";

/// Undoes an earlier one; its leases stay in the list.
const BEGIN: &str = "\
if command -v __jsi_undo >/dev/null 2>&1; then __jsi_undo; fi
";

/// Prints those of its arguments that are names of exported variables: a shell
/// of its own sees no others.
const EXPORTED: &str =
    "for n do if eval \"[ \\\"\\${$n+x}\\\" ]\"; then printf \" %s\" \"$n\"; fi; done";

/// Gives up the leases, and keeps `$?`. An agent that hangs must not keep a
/// shell from ending; the lease ends with the shell anyway.
const RELEASE_BEGIN: &str = "\
__jsi_release() {
__jsi_status=$?
if [ \"${__jsi_leases:-}\" ]; then eval ";
const RELEASE_END: &str = "\"$__jsi_leases\"' >/dev/null 2>&1' || :; fi
__jsi_leases=
return \"$__jsi_status\"
}
";

/// Before the trap that may be there: that one may call exit. `&& :` keeps `$?`
/// for it, and keeps `set -e` from ending the trap there. `trap -p` in a
/// substitution prints the traps of the shell itself.
const BASH_EXIT: &str = "\
__jsi_trap=$(trap -p EXIT)
case $__jsi_trap in
*__jsi_release*) ;;
'') trap '__jsi_release && :' EXIT ;;
*) __jsi_trap=${__jsi_trap#trap -- }
eval \"trap -- '__jsi_release && :; '${__jsi_trap% EXIT} EXIT\" ;;
esac
unset __jsi_trap
";

const ZSH_EXIT: &str = "\
typeset -ga zshexit_functions
case \" ${zshexit_functions[*]} \" in
*' __jsi_release '*) ;;
*) zshexit_functions+=(__jsi_release) ;;
esac
";

/// POSIX has no way to see a trap that is there, and dash none of its own: ours
/// would take its place. The lease ends with the shell all the same.
const SH_EXIT: &str = "";

pub(super) fn script(script: &Script<'_>, shell: Shell) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(script.room()));
    out.extend_from_slice(BEGIN.as_bytes());
    exported(&mut out, script);
    for (name, value) in &script.variables {
        let old = format!(
            "if [ \"${{{name}+x}}\" ]; then __jsi_old_{name}=${name}; else unset __jsi_old_{name}; fi\n\
             export {name}="
        );
        out.extend_from_slice(old.as_bytes());
        quote::posix(&mut out, value);
        out.push(b'\n');
    }
    undo(&mut out, script);
    let leases = format!("__jsi_leases=\"${{__jsi_leases:-}} {}\"\n", script.leases.join(" "));
    out.extend_from_slice(leases.as_bytes());
    out.extend_from_slice(RELEASE_BEGIN.as_bytes());
    // Quoted for the eval, and within that for the shell.
    let mut call = Vec::new();
    quote::posix(&mut call, &script.jsi);
    call.extend_from_slice(b" release --within 2s");
    quote::posix(&mut out, &call);
    out.extend_from_slice(RELEASE_END.as_bytes());
    out.extend_from_slice(match shell {
        Shell::Bash => BASH_EXIT.as_bytes(),
        Shell::Zsh => ZSH_EXIT.as_bytes(),
        Shell::Sh | Shell::Fish => SH_EXIT.as_bytes(),
    });
    out
}

/// Which of the variables the shell exports so far: only those will be again.
fn exported(out: &mut Vec<u8>, script: &Script<'_>) {
    out.extend_from_slice(b"__jsi_exported=\" $(/bin/sh -c ");
    quote::posix(out, EXPORTED.as_bytes());
    out.extend_from_slice(b" sh");
    for (name, _) in &script.variables {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(b") \"\n");
}

fn undo(out: &mut Vec<u8>, script: &Script<'_>) {
    out.extend_from_slice(b"__jsi_undo() {\n");
    for (name, _) in &script.variables {
        let line = format!(
            "unset {name}\n\
             if [ \"${{__jsi_old_{name}+x}}\" ]; then {name}=$__jsi_old_{name}; unset __jsi_old_{name}\n\
             case $__jsi_exported in *' {name} '*) export {name} ;; esac; fi\n"
        );
        out.extend_from_slice(line.as_bytes());
    }
    out.extend_from_slice(b"unset __jsi_exported\nunset -f __jsi_undo\n}\n");
}
