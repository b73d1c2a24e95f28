//! Words that a shell reads back byte for byte, whatever the bytes are.

/// For sh, bash and zsh: single quotes keep everything but themselves.
pub(super) fn posix(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'\'');
    for &b in value {
        match b {
            b'\'' => out.extend_from_slice(b"'\\''"),
            b => out.push(b),
        }
    }
    out.push(b'\'');
}

/// For fish: single quotes know `\'` and `\\`; bytes beyond ASCII stand outside
/// of them as `\xHH`, since fish uses some characters for itself.
pub(super) fn fish(out: &mut Vec<u8>, value: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
    let mut quoted = true;
    out.push(b'\'');
    for &b in value {
        if b.is_ascii() != quoted {
            out.push(b'\'');
            quoted = !quoted;
        }
        match b {
            b'\'' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            0..0x80 => out.push(b),
            _ => out.extend_from_slice(&[b'\\', b'X', digit(b >> 4), digit(b & 15)]),
        }
    }
    if quoted {
        out.push(b'\'');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// A shell, how it is made to read a script from its standard input, and the
    /// quoting that is meant for it.
    struct Real {
        program: &'static str,
        reads: &'static str,
        assign: &'static str,
        quote: fn(&mut Vec<u8>, &[u8]),
    }

    const fn posix(program: &'static str) -> Real {
        let (reads, assign) = ("eval \"$(cat)\"\nexec env -0", "export V{}=");
        Real { program, reads, assign, quote: super::posix }
    }

    const FISH: Real = Real {
        program: "/usr/bin/fish",
        reads: "cat | source\nexec env -0",
        assign: "set -gx V{} ",
        quote: super::fish,
    };

    impl Real {
        /// The values as the shell exports them.
        fn read_back(&self, values: &[Vec<u8>], locale: &str) -> Vec<Vec<u8>> {
            let mut script = Vec::new();
            for (number, value) in values.iter().enumerate() {
                script.extend(self.assign.replace("{}", &number.to_string()).into_bytes());
                (self.quote)(&mut script, value);
                script.push(b'\n');
            }
            let mut command = Command::new(self.program);
            command.args(["-c", self.reads]).env_clear().env("PATH", "/usr/bin:/bin");
            command.env("LC_ALL", locale).env("HOME", "/nonexistent");
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut shell = command.spawn().unwrap();
            shell.stdin.take().unwrap().write_all(&script).unwrap();
            let out = shell.wait_with_output().unwrap();
            let exported: HashMap<Vec<u8>, Vec<u8>> = out
                .stdout
                .split(|&b| b == 0)
                .filter_map(|pair| {
                    let at = pair.iter().position(|&b| b == b'=')?;
                    Some((pair[..at].to_vec(), pair[at + 1..].to_vec()))
                })
                .collect();
            let names = (0..values.len()).map(|number| format!("V{number}").into_bytes());
            names.map(|name| exported.get(&name).cloned().unwrap_or_default()).collect()
        }

        /// Counted as not run where the machine has no such shell.
        fn is_here(&self) -> bool {
            let here = Path::new(self.program).exists();
            if let (false, Some(list)) = (here, std::env::var_os("JSI_TESTS_NOT_RUN")) {
                let test = std::thread::current().name().unwrap_or("?").to_owned();
                let mut file = std::fs::OpenOptions::new().append(true).open(list).unwrap();
                writeln!(file, "{test}: {} is not there", self.program).unwrap();
            }
            here
        }

        fn keeps_everything(&self) {
            if !self.is_here() {
                return;
            }
            let every_byte: Vec<Vec<u8>> = (1..=255).map(|b| vec![b]).collect();
            let nasty: Vec<Vec<u8>> = [
                "'",
                "''",
                "'\\''",
                "\\",
                "\\'",
                "a'b\"c`d$(touch /tmp/x)e",
                "\n",
                "\n\n",
                "a\n",
                "\r\n",
                "$'x'",
                "!!",
                "~",
                "*",
                "#",
                " ",
                "\t",
                "-n",
                "\u{f600}\u{f6ff}\u{10ffff}",
                "ä\u{fffd}",
                "$(exit 9)",
                "; exit 9",
                "\"; exit 9; \"",
                "'; exit 9; '",
                "%s",
                "\\n\\x41\\u0041",
            ]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
            for locale in ["C.UTF-8", "C"] {
                for values in [&every_byte, &nasty] {
                    assert_eq!(&self.read_back(values, locale), values, "{locale}");
                }
            }
            let hostile = prop_oneof![
                prop::collection::vec(1u8..=255, 0..40),
                "['\"\\\\$`!\n\r (){};&|<>~*?#-]{0,40}".prop_map(String::into_bytes),
                ".{0,30}".prop_map(|text| text.replace('\0', "").into_bytes()),
            ];
            let config =
                ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() };
            proptest!(config, |(values in prop::collection::vec(hostile, 1..40))| {
                prop_assert_eq!(self.read_back(&values, "C.UTF-8"), values);
            });
        }
    }

    #[test]
    fn bash_reads_every_value_back() {
        posix("/bin/bash").keeps_everything();
    }

    #[test]
    fn dash_reads_every_value_back() {
        posix("/bin/dash").keeps_everything();
    }

    #[test]
    fn zsh_reads_every_value_back() {
        posix("/usr/bin/zsh").keeps_everything();
    }

    #[test]
    fn fish_reads_every_value_back() {
        FISH.keeps_everything();
    }
}
