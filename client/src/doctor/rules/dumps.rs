//! What could copy memory: dumps, tracing, swap, suspend to disk.

use crate::doctor::Finding;
use crate::doctor::facts::Facts;

const TOPIC: &str = "memory";

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![tracing(facts), suid(facts), cores(facts), swap(facts), hibernation(facts)]
}

fn tracing(facts: &Facts) -> Finding {
    let name = "ptrace";
    match facts.host.ptrace_scope {
        Some(0) => Finding::warn(
            TOPIC,
            name,
            "any program may trace others of its uid, and read what they were given (ptrace_scope 0)",
        )
        .mend("sysctl -w kernel.yama.ptrace_scope=1, and in /etc/sysctl.d"),
        Some(scope) => Finding::ok(TOPIC, name, format!("tracing is limited (ptrace_scope {scope})")),
        None => Finding::note(
            TOPIC,
            name,
            "there is no Yama: any program may trace others of its uid, and read what they were given",
        )
        .mend("a kernel with CONFIG_SECURITY_YAMA, and yama in lsm="),
    }
}

fn suid(facts: &Facts) -> Finding {
    let name = "suid_dumpable";
    match facts.host.suid_dumpable {
        Some(1) => Finding::warn(
            TOPIC,
            name,
            "set-uid and set-gid programs dump core readably, a set-gid jsi included",
        )
        .mend("sysctl -w fs.suid_dumpable=0, and in /etc/sysctl.d"),
        Some(mode) => Finding::ok(
            TOPIC,
            name,
            format!("programs that changed uid do not dump readably ({mode})"),
        ),
        None => Finding::note(TOPIC, name, "fs.suid_dumpable cannot be read"),
    }
}

/// The agent makes itself non-dumpable; its clients' children are themselves.
fn cores(facts: &Facts) -> Finding {
    let name = "core dumps";
    let handler = facts.host.core_pattern.strip_prefix('|');
    let mend = "for programs that are given secrets: ulimit -c 0, LimitCORE=0";
    match (handler, facts.client.rlimit_core) {
        (Some(handler), _) => {
            let program = handler.split_whitespace().next().unwrap_or_default();
            let text = format!(
                "cores go to {program}, whatever RLIMIT_CORE says; the agent's own are never made"
            );
            Finding::note(TOPIC, name, text)
                .mend("see that it keeps none of programs that are given secrets")
        }
        (None, 0) => {
            Finding::ok(TOPIC, name, "RLIMIT_CORE is 0 here; the agent's own are never made")
        }
        (None, _) => Finding::note(
            TOPIC,
            name,
            "programs started here dump core, with what they were given; the agent never does",
        )
        .mend(mend),
    }
}

fn swap(facts: &Facts) -> Finding {
    let name = "swap";
    if facts.host.swap.is_empty() {
        return Finding::ok(TOPIC, name, "there is none on a disk");
    }
    Finding::note(
        TOPIC,
        name,
        format!(
            "{}: the agent's keys are never swapped, what programs were given may be",
            facts.host.swap.join(", ")
        ),
    )
    .mend("encrypt swap, or use zram")
}

fn hibernation(facts: &Facts) -> Finding {
    let name = "suspend to disk";
    let guarded = facts.status.answered().map(|status| status.guarded_memory.as_str());
    match (facts.host.hibernation, guarded) {
        (false, _) => Finding::ok(TOPIC, name, "it is not possible now"),
        (true, Some("mlock")) => Finding::warn(
            TOPIC,
            name,
            "it would write the agent's memory to disk, keys included (mlock does not prevent that)",
        )
        .mend("a kernel with memfd_secret (secretmem.enable=1), or: systemctl mask hibernate.target"),
        (true, _) => Finding::note(
            TOPIC,
            name,
            "it is possible now; while an agent with memfd_secret runs the kernel forbids it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;
    use crate::doctor::facts::Operator;

    #[test]
    fn tracing_by_everybody_is_told() {
        let mut facts = Facts::recorded();
        for (scope, severity) in
            [(Some(1), Severity::Ok), (Some(0), Severity::Warn), (None, Severity::Note)]
        {
            facts.host.ptrace_scope = scope;
            assert_eq!(tracing(&facts).severity, severity, "{scope:?}");
        }
    }

    #[test]
    fn dumps_of_set_gid_programs_are_told() {
        let mut facts = Facts::recorded();
        for (mode, severity) in
            [(Some(0), Severity::Ok), (Some(2), Severity::Ok), (Some(1), Severity::Warn)]
        {
            facts.host.suid_dumpable = mode;
            assert_eq!(suid(&facts).severity, severity, "{mode:?}");
        }
    }

    #[test]
    fn a_handler_of_cores_is_named() {
        let mut facts = Facts::recorded();
        facts.host.core_pattern = "|/usr/lib/systemd/systemd-coredump %P %u".to_owned();
        let finding = cores(&facts);
        assert_eq!(finding.severity, Severity::Note);
        assert!(finding.text.contains("/usr/lib/systemd/systemd-coredump,"), "{}", finding.text);
        facts.host.core_pattern = "core".to_owned();
        assert_eq!(cores(&facts).severity, Severity::Ok);
        facts.client.rlimit_core = 1;
        assert_eq!(cores(&facts).severity, Severity::Note);
    }

    #[test]
    fn suspend_to_disk_is_worst_where_memory_is_only_locked() {
        let mut facts = Facts::recorded();
        facts.host.hibernation = true;
        assert_eq!(hibernation(&facts).severity, Severity::Note);
        let Operator::Answered(status) = &mut facts.status else { unreachable!() };
        status.guarded_memory = "mlock".to_owned();
        assert_eq!(hibernation(&facts).severity, Severity::Warn);
        facts.host.swap = vec!["/dev/sda2".to_owned()];
        assert!(swap(&facts).text.contains("/dev/sda2"));
    }
}
