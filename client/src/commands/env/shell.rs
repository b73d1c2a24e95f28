//! Which shell will read it.

use crate::failure::Failure;
use clap::ValueEnum;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A shell's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// POSIX, and nothing else
    Sh,
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

impl Shell {
    /// The program that started this one; where that is no shell, `$SHELL`.
    pub(super) fn that_asks() -> Result<Self, Failure> {
        let parent = format!("/proc/{}/exe", nix::unistd::getppid());
        let parent = std::fs::read_link(parent).ok();
        let shell = std::env::var_os("SHELL").map(PathBuf::from);
        let found = [parent, shell].into_iter().flatten().find_map(|path| Self::named(&path));
        found.ok_or_else(|| {
            Failure::usage("which shell will read this is not known")
                .advise("say it: --shell sh, bash, zsh or fish")
        })
    }

    /// How it is given the script.
    pub(super) fn reads_it(self) -> &'static str {
        match self {
            Self::Fish => "jsi env | source",
            Self::Sh | Self::Bash | Self::Zsh => "eval \"$(jsi env)\"",
        }
    }

    fn named(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        Some(match name {
            "bash" | "rbash" => Self::Bash,
            "fish" => Self::Fish,
            "sh" | "dash" | "ash" | "busybox" | "mksh" | "yash" => Self::Sh,
            _ if name.starts_with("ksh") => Self::Sh,
            // `zsh-5.9` and `zsh5` are names of its binary.
            _ if name.starts_with("zsh") => Self::Zsh,
            _ if name.starts_with("bash-") => Self::Bash,
            _ => return None,
        })
    }
}

/// This very program: what PATH finds at the end may be another.
pub(super) fn own_path() -> Vec<u8> {
    let own = std::fs::read_link("/proc/self/exe").ok();
    let own = own.filter(|path| path.is_absolute() && path.exists());
    own.map_or_else(
        || OsStr::new("jsi").as_bytes().to_vec(),
        |path| path.into_os_string().into_vec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_known_by_their_names() {
        for (path, shell) in [
            ("/usr/bin/bash", Some(Shell::Bash)),
            ("/bin/zsh-5.9", Some(Shell::Zsh)),
            ("/usr/bin/fish", Some(Shell::Fish)),
            ("/bin/dash (deleted)", Some(Shell::Sh)),
            ("/bin/busybox", Some(Shell::Sh)),
            ("/usr/bin/python3", None),
            ("/", None),
        ] {
            assert_eq!(Shell::named(Path::new(path)), shell, "{path}");
        }
    }
}
