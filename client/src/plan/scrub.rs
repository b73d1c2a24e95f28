//! Variables that let somebody else's code into the command. The credential is
//! leased to the program that was named, not to what its environment loads.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Name, or beginning of a name where it ends in `*`, and why.
const DANGEROUS: &[(&str, &str)] = &[
    ("LD_*", "the dynamic linker loads or audits objects it names"),
    ("GLIBC_TUNABLES", "it changes the C library's behaviour (CVE-2023-4911)"),
    ("GCONV_PATH", "iconv loads modules from it"),
    ("LOCPATH", "the C library reads locale files from it"),
    ("NLSPATH", "the C library reads message catalogues, with formats, from it"),
    ("MALLOC_*", "the allocator writes traces where it says"),
    ("GETCONF_DIR", "getconf runs programs from it"),
    ("HOSTALIASES", "it redirects host names"),
    ("LOCALDOMAIN", "it redirects host names"),
    ("RES_OPTIONS", "it changes how host names are resolved"),
    ("RESOLV_HOST_CONF", "it changes how host names are resolved"),
    ("BASH_ENV", "bash runs the file it names"),
    ("ENV", "sh runs the file it names"),
    ("BASH_FUNC_*", "bash defines functions from it"),
    ("SHELLOPTS", "it sets options of bash, with PS4 running commands"),
    ("BASHOPTS", "it sets options of bash"),
    ("PS4", "bash expands it, commands included, when it traces"),
    ("PROMPT_COMMAND", "bash runs it before each prompt"),
    ("IFS", "shells split words by it"),
    ("ZDOTDIR", "zsh runs files from it"),
    ("PYTHON*", "python loads code by PYTHONPATH, PYTHONSTARTUP, PYTHONHOME and others"),
    ("PERL5*", "perl loads code by PERL5OPT, PERL5LIB and PERL5DB"),
    ("PERLLIB", "perl loads code from it"),
    ("PERL_*", "perl's I/O layers and Unicode handling are changed by it"),
    ("RUBYOPT", "ruby loads code that it names"),
    ("RUBYLIB", "ruby loads code from it"),
    ("RUBYSHELL", "ruby runs commands by it"),
    ("GEM_*", "ruby loads gems from it"),
    ("BUNDLE_*", "bundler loads gems by it"),
    ("NODE_OPTIONS", "node loads code by --require and --import"),
    ("NODE_PATH", "node loads modules from it"),
    ("NODE_REPL_*", "node loads or writes what it names"),
    ("NODE_EXTRA_CA_CERTS", "node trusts certificates from it"),
    ("JAVA_TOOL_OPTIONS", "the JVM loads agents that it names"),
    ("_JAVA_OPTIONS", "the JVM loads agents that it names"),
    ("JDK_JAVA_OPTIONS", "the java launcher takes options from it"),
    ("CLASSPATH", "the JVM loads classes from it"),
    ("DOTNET_STARTUP_HOOKS", "the .NET runtime loads assemblies that it names"),
    ("DOTNET_ADDITIONAL_DEPS", "the .NET runtime loads assemblies that it names"),
    ("CORECLR_*", "the .NET runtime loads profilers that it names"),
    ("COR_PROFILER*", "the .NET runtime loads profilers that it names"),
    ("LUA_*", "lua runs code and loads modules by it"),
    ("PHPRC", "php reads its configuration from it"),
    ("PHP_INI_SCAN_DIR", "php reads its configuration from it"),
    ("R_PROFILE*", "R runs the file it names"),
    ("R_ENVIRON*", "R reads the file it names"),
    ("JULIA_LOAD_PATH", "julia loads code from it"),
    ("TCLLIBPATH", "tcl loads code from it"),
    ("GUILE_LOAD_*", "guile loads code from it"),
    ("ERL_*", "erlang takes flags from it"),
    ("ELIXIR_ERL_OPTIONS", "erlang takes flags from it"),
    ("OPENSSL_CONF", "OpenSSL loads engines that it names"),
    ("OPENSSL_MODULES", "OpenSSL loads providers from it"),
    ("OPENSSL_ENGINES", "OpenSSL loads engines from it"),
    ("SSLKEYLOGFILE", "TLS libraries write session keys to it"),
    ("PKCS11_MODULE_PATH", "it names an object to load"),
    ("KRB5_CONFIG", "Kerberos loads plugins that it names"),
    ("GIO_EXTRA_MODULES", "GLib loads modules from it"),
    ("GTK_*", "GTK loads modules that it names"),
    ("QT_PLUGIN_PATH", "Qt loads plugins from it"),
    ("GST_PLUGIN_*", "GStreamer loads plugins from it"),
    ("GIT_SSH*", "git runs the command it names"),
    ("GIT_EXTERNAL_DIFF", "git runs the command it names"),
    ("GIT_EXEC_PATH", "git runs programs from it"),
    ("GIT_TEMPLATE_DIR", "git copies hooks from it"),
    ("GIT_CONFIG*", "git takes settings, and so commands, from it"),
    ("GIT_PROXY_COMMAND", "git runs the command it names"),
    ("PAGER", "many programs run it"),
    ("GIT_PAGER", "git runs it"),
    ("PSQL_PAGER", "psql runs it"),
    ("LESSOPEN", "less runs it"),
    ("LESSCLOSE", "less runs it"),
    ("PSQLRC", "psql runs the file it names"),
];

/// What a file may not set besides: the file comes with a project, and these
/// steer what the caller brought along. A command line may set them.
const NOT_BY_A_FILE: &[(&str, &str)] = &[
    ("PATH", "it says which programs are run"),
    ("HOME", "programs take their settings, and so commands, from there"),
    ("XDG_*", "programs take their settings, and so commands, from there"),
    ("SHELL", "many programs run it"),
    ("EDITOR", "many programs run it"),
    ("VISUAL", "many programs run it"),
    ("BROWSER", "many programs run it"),
    ("SSH_*", "it says which agent and which programs ssh uses"),
    ("SUDO_*", "sudo runs what it names"),
    ("GNUPGHOME", "gpg takes its keys from there"),
    ("DBUS_*", "it says which bus is spoken to"),
    ("JSI_*", "it says which agent is spoken to"),
    ("DOCKER_HOST", "it says which daemon is spoken to"),
    ("DOCKER_CONFIG", "docker runs helpers that it names"),
    ("KUBECONFIG", "kubectl runs helpers that it names"),
    ("AWS_CONFIG_FILE", "the AWS tools run helpers that it names"),
    ("AWS_ENDPOINT_URL*", "it says where credentials are sent"),
    ("MAKEFLAGS", "make runs what it names"),
    ("GNUMAKEFLAGS", "make runs what it names"),
    ("MAKEFILES", "make reads the files it names"),
    ("HTTP_PROXY", "it says through whom requests go"),
    ("HTTPS_PROXY", "it says through whom requests go"),
    ("ALL_PROXY", "it says through whom requests go"),
    ("http_proxy", "it says through whom requests go"),
    ("https_proxy", "it says through whom requests go"),
    ("all_proxy", "it says through whom requests go"),
    ("SSL_CERT_*", "it says whose certificates are believed"),
    ("CURL_CA_BUNDLE", "it says whose certificates are believed"),
    ("REQUESTS_CA_BUNDLE", "it says whose certificates are believed"),
    ("GIT_SSL_*", "it says whose certificates are believed"),
];

/// What shells use themselves: setting it does not set a variable, or more.
const NOT_IN_A_SHELL: &[(&str, &str)] = &[
    ("_", "the shell sets it itself"),
    ("__jsi_*", "jsi env uses it itself"),
    ("UID", "the shell sets it itself"),
    ("EUID", "the shell sets it itself"),
    ("GID", "the shell sets it itself"),
    ("EGID", "the shell sets it itself"),
    ("PPID", "the shell sets it itself"),
    ("PWD", "the shell sets it itself"),
    ("OLDPWD", "the shell sets it itself"),
    ("SHLVL", "the shell sets it itself"),
    ("RANDOM", "the shell sets it itself"),
    ("SECONDS", "the shell sets it itself"),
    ("LINENO", "the shell sets it itself"),
    ("OPTIND", "the shell sets it itself"),
    ("OPTARG", "the shell sets it itself"),
    ("OPTERR", "the shell sets it itself"),
    ("FUNCNAME", "the shell sets it itself"),
    ("GROUPS", "the shell sets it itself"),
    ("DIRSTACK", "the shell sets it itself"),
    ("USERNAME", "zsh changes its user by it"),
    ("TMOUT", "the shell ends by it"),
    ("CDPATH", "the shell finds directories by it"),
    ("FPATH", "the shell loads functions from it"),
    ("PS1", "the shell expands it, commands included"),
    ("PS2", "the shell expands it, commands included"),
    ("PS3", "the shell expands it, commands included"),
    ("PROMPT", "the shell expands it, commands included"),
    ("PROMPT2", "the shell expands it, commands included"),
    ("PROMPT3", "the shell expands it, commands included"),
    ("PROMPT4", "the shell expands it, commands included"),
    ("RPROMPT", "the shell expands it, commands included"),
    ("RPS1", "the shell expands it, commands included"),
    ("HISTFILE", "the shell keeps its history by it"),
    ("HISTSIZE", "the shell keeps its history by it"),
    ("HISTCMD", "the shell keeps its history by it"),
    ("BASH*", "bash uses it itself"),
    ("ZSH*", "zsh uses it itself"),
    ("fish_*", "fish uses it itself"),
    ("path", "zsh ties it to PATH"),
    ("cdpath", "zsh ties it to CDPATH"),
    ("fpath", "zsh ties it to FPATH"),
    ("manpath", "zsh ties it to MANPATH"),
    ("module_path", "zsh ties it to MODULE_PATH"),
    ("mailpath", "zsh ties it to MAILPATH"),
    ("psvar", "zsh ties it to PSVAR"),
    ("argv", "zsh and fish use it themselves"),
    ("status", "zsh and fish use it themselves"),
    ("pipestatus", "zsh and fish use it themselves"),
    ("history", "zsh and fish use it themselves"),
    ("version", "fish uses it itself"),
    ("umask", "fish uses it itself"),
];

/// Those of the names that are dangerous.
pub(crate) fn dangerous(names: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    names.filter(|name| found(name).is_some())
}

/// Why a name is dangerous; `None`: it is not.
pub(crate) fn reason(name: &str) -> Option<&'static str> {
    found(OsStr::new(name))
}

/// Why a file may not set a name, besides [`reason`]; `None`: it may.
pub(crate) fn reason_in_a_file(name: &str) -> Option<&'static str> {
    listed(NOT_BY_A_FILE, OsStr::new(name))
}

/// Why a shell cannot be given a name, besides [`reason`]; `None`: it can.
pub(crate) fn reason_in_a_shell(name: &str) -> Option<&'static str> {
    listed(NOT_IN_A_SHELL, OsStr::new(name))
}

fn found(name: &OsStr) -> Option<&'static str> {
    listed(DANGEROUS, name)
}

fn listed(names: &'static [(&'static str, &'static str)], name: &OsStr) -> Option<&'static str> {
    let name = name.as_bytes();
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => name == pattern.as_bytes(),
    };
    names.iter().find(|(pattern, _)| matches(pattern)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_code_is_removed_and_the_rest_is_kept() {
        let names = [
            "LD_PRELOAD",
            "PATH",
            "HOME",
            "BASH_ENV",
            "ENV",
            "ENVIRONMENT",
            "PYTHONPATH",
            "NODE_OPTIONS",
            "NODE_ENV",
            "BASH_FUNC_ls%%",
            "PERL5OPT",
            "PGHOST",
            "LDAP",
            "TERM",
        ];
        let removed: Vec<_> = dangerous(names.iter().map(OsString::from)).collect();
        assert_eq!(
            removed,
            [
                "LD_PRELOAD",
                "BASH_ENV",
                "ENV",
                "PYTHONPATH",
                "NODE_OPTIONS",
                "BASH_FUNC_ls%%",
                "PERL5OPT"
            ]
        );
    }
    #[test]
    fn a_file_may_not_steer_what_its_user_brought_along() {
        for name in ["PATH", "HOME", "JSI_AUTH_SOCK", "XDG_STATE_HOME", "HTTPS_PROXY"] {
            assert!(reason_in_a_file(name).is_some() && reason(name).is_none(), "{name}");
        }
        for name in ["PATHS", "DATABASE_URL", "PGPASSWORD", "AWS_REGION"] {
            assert!(reason_in_a_file(name).is_none() && reason(name).is_none(), "{name}");
        }
    }
}
