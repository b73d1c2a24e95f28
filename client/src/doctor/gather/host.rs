//! The machine, by what /proc and /sys tell everybody.

use crate::doctor::facts::Host;
use nix::time::{ClockId, clock_gettime};
use std::path::Path;

/// What keeps clocks, and its trace in /run.
const DAEMONS: [(&str, &str); 5] = [
    ("chrony", "/run/chrony"),
    ("systemd-timesyncd", "/run/systemd/timesync/synchronized"),
    ("ntpd", "/run/ntpd.pid"),
    ("ntpsec", "/run/ntpsec"),
    ("openntpd", "/run/ntpd.sock"),
];

/// Looks at it.
pub(super) fn gather() -> Host {
    let seconds = |clock| clock_gettime(clock).map_or(0, |time| time.tv_sec());
    Host {
        kernel: text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        ptrace_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
        suid_dumpable: number("/proc/sys/fs/suid_dumpable"),
        core_pattern: text("/proc/sys/kernel/core_pattern").unwrap_or_default(),
        user_namespaces: user_namespaces(),
        swap: swap(&text("/proc/swaps").unwrap_or_default()),
        hibernation: offers_hibernation(
            &text("/sys/power/state").unwrap_or_default(),
            &text("/sys/power/disk").unwrap_or_default(),
        ),
        ima: Path::new("/sys/kernel/security/ima").exists(),
        lsm: text("/proc/self/attr/current")
            .unwrap_or_default()
            .trim_end_matches(['\0', '\n'])
            .to_owned(),
        clock_source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .unwrap_or_default(),
        time_daemon: DAEMONS
            .iter()
            .find(|(_, trace)| Path::new(trace).exists())
            .map(|(name, _)| (*name).to_owned())
            .unwrap_or_default(),
        now: seconds(ClockId::CLOCK_REALTIME),
        since_boot: seconds(ClockId::CLOCK_BOOTTIME),
        memory_available: available(&text("/proc/meminfo").unwrap_or_default()),
    }
}

fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

fn number(path: &str) -> Option<u32> {
    text(path)?.trim().parse().ok()
}

/// By the limit, Debian's switch and Ubuntu's.
fn user_namespaces() -> Option<bool> {
    let most = number("/proc/sys/user/max_user_namespaces")?;
    let debian = number("/proc/sys/kernel/unprivileged_userns_clone").unwrap_or(1);
    let ubuntu = number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or(0);
    Some(most > 0 && debian > 0 && ubuntu == 0)
}

/// Swap areas, by name; those in compressed memory are none.
fn swap(table: &str) -> Vec<String> {
    let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| !name.starts_with("/dev/zram")).map(str::to_owned).collect()
}

/// `disk` in /sys/power/state, and not switched off. memfd_secret in use
/// switches it off (kernel/power/hibernate.c).
fn offers_hibernation(states: &str, disk: &str) -> bool {
    states.split_whitespace().any(|state| state == "disk") && !disk.contains("[disabled]")
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_in_compressed_memory_is_none() {
        let table = "Filename\tType\tSize\n/dev/zram0 partition 1 0 100\n/swap.img file 2 0 -2\n";
        assert_eq!(swap(table), ["/swap.img"]);
        assert!(swap("").is_empty());
    }

    #[test]
    fn hibernation_is_offered_unless_it_is_switched_off() {
        assert!(offers_hibernation("freeze mem disk", "[platform] shutdown"));
        assert!(!offers_hibernation("freeze mem disk", "[disabled]"));
        assert!(!offers_hibernation("freeze mem", "[platform]"));
    }

    #[test]
    fn available_memory_is_in_bytes() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available(""), None);
    }
}
