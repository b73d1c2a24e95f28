//! Exec generation: numbers in `/proc/PID/stat` that differ at every exec.

/// Highest stack addresses of the architectures and personalities that Linux
/// has: x86-64, 32-bit on it, 3 GiB personality, arm64 with 48 bits.
const STACK_TOPS: [u64; 5] =
    [0x7fff_ffff_f000, 0xffff_e000, 0xc000_0000, 0x1_0000_0000_0000, 0xffff_ffff_f000];
/// Between the end of the environment and the top of the stack lie the name of
/// the program (PATH_MAX) and a null pointer (execve's layout, fs/exec.c).
const NEAR_TOP: u64 = 4096 + 16;

/// proc_pid_stat(5), fields 22, 26, 28 and 48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generation {
    /// Clock ticks since boot. Survives exec.
    pub(super) start_time: u64,
    pub(super) start_code: u64,
    pub(super) start_stack: u64,
    pub(super) arg_start: u64,
}

impl Generation {
    /// The kernel writes 0 or 1 where the reader may not see a number.
    pub(super) fn hidden(&self) -> bool {
        self.start_code <= 1 || self.start_stack <= 1 || self.arg_start <= 1
    }

    /// The same image. Hidden numbers are never the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        !self.hidden() && !other.hidden() && self == other
    }
}

/// What is used of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: String,
    pub(super) state: u8,
    pub(super) parent: u32,
    pub(super) session: u32,
    pub(super) terminal: i32,
    pub(super) generation: Generation,
    /// End of the environment strings; 0: hidden.
    pub(super) env_end: u64,
}

impl Stat {
    /// Parses the file. The name may hold anything, parentheses, spaces and
    /// newlines included: it ends at the last `)`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|&b| b == b'(')?;
        let close = text.iter().rposition(|&b| b == b')')?;
        let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field 3 is the first one behind the name.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |at: usize| field(at)?.parse::<u64>().ok();
        Some(Self {
            comm,
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().unwrap_or(0),
            session: field(6)?.parse().unwrap_or(0),
            terminal: field(7)?.parse().ok()?,
            generation: Generation {
                start_time: number(22)?,
                start_code: number(26)?,
                start_stack: number(28)?,
                arg_start: number(48)?,
            },
            env_end: number(51)?,
        })
    }

    /// Whether the stack was put at a random place. Without that the numbers
    /// repeat (`setarch -R`). Told by the end of the environment, which lies
    /// right under the top whatever the size of arguments and environment.
    pub(super) fn randomised(&self) -> bool {
        let near = |at: u64| STACK_TOPS.iter().any(|&top| at <= top && top - at <= NEAR_TOP);
        !near(self.env_end) && !near(self.generation.start_stack)
    }

    /// The controlling terminal: `pts/3`, `tty1`; `None`: there is none.
    pub(super) fn tty(&self) -> Option<String> {
        let device = self.terminal.cast_unsigned();
        let major = (device >> 8) & 0xfff;
        let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
        match (major, minor) {
            (0, _) => None,
            (136..=143, _) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
            (4, 0..=63) => Some(format!("tty{minor}")),
            (4, _) => Some(format!("ttyS{}", minor - 64)),
            _ => Some(format!("{major}:{minor}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(comm: &str) -> String {
        let mut fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        fields[0] = "S".into();
        fields[4] = "34819".into();
        format!("77 ({comm}) {}\n", fields.join(" "))
    }

    #[test]
    fn a_name_with_parentheses_spaces_and_newlines_does_not_shift_the_fields() {
        for comm in ["sleep", "a b", ") R 1 1", "((x)", "a\nb", ""] {
            let stat = Stat::parse(line(comm).as_bytes()).unwrap();
            assert_eq!(stat.comm, comm);
            assert_eq!((stat.state, stat.parent, stat.session), (b'S', 4, 6));
            let want =
                Generation { start_time: 22, start_code: 26, start_stack: 28, arg_start: 48 };
            assert_eq!(stat.generation, want);
            assert_eq!(stat.env_end, 51);
            assert_eq!(stat.tty().as_deref(), Some("pts/3"));
        }
    }

    #[test]
    fn a_short_or_foreign_file_is_not_parsed() {
        for text in ["", "1 (x", "1 (x) S 1", "1 x S 1 2 3", ")("] {
            assert!(Stat::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn hidden_numbers_never_equal() {
        let seen = Generation {
            start_time: 5,
            start_code: 0x5000,
            start_stack: 0x7000,
            arg_start: 0x8000,
        };
        assert!(seen.same(&seen));
        for hidden in [
            Generation { start_code: 1, ..seen },
            Generation { start_stack: 0, ..seen },
            Generation { arg_start: 0, ..seen },
        ] {
            assert!(hidden.hidden() && !hidden.same(&hidden) && !hidden.same(&seen));
        }
        assert!(!seen.same(&Generation { start_code: 0x6000, ..seen }));
    }

    #[test]
    fn this_process_was_put_at_a_random_place_unless_that_is_off() {
        let stat = Stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let fixed = std::fs::read_to_string("/proc/self/personality")
            .ok()
            .and_then(|text| u32::from_str_radix(text.trim(), 16).ok())
            .is_some_and(|bits| bits & 0x0004_0000 != 0);
        assert_eq!(stat.randomised(), !fixed);
    }
}
