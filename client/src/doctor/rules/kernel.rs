//! What the kernel can do for the agent, and what is lost without it.

use crate::doctor::facts::{Facts, Feature};
use crate::doctor::{Finding, Severity};

const TOPIC: &str = "kernel";

/// A feature, what is lost without it, and what brings it.
struct Wanted {
    name: &'static str,
    severity: Severity,
    lost: &'static str,
    remedy: &'static str,
}

const WANTED: [Wanted; 10] = [
    Wanted {
        name: "pidfd",
        severity: Severity::Fail,
        lost: "no process can be known for certain",
        remedy: "Linux 5.3, and no filter that forbids pidfd_open",
    },
    Wanted {
        name: "so_peerpidfd",
        severity: Severity::Fail,
        lost: "no caller can be known for certain",
        remedy: "Linux 6.5",
    },
    Wanted {
        name: "seccomp",
        severity: Severity::Warn,
        lost: "the agent's processes cannot be fenced in",
        remedy: "a kernel with CONFIG_SECCOMP_FILTER",
    },
    Wanted {
        name: "landlock",
        severity: Severity::Warn,
        lost: "the broker cannot be kept from files that it does not need",
        remedy: "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in lsm=",
    },
    Wanted {
        name: "memfd_secret",
        severity: Severity::Warn,
        lost: "the agent's keys are locked memory, which root and a tracer can read",
        remedy: "Linux 5.14 with CONFIG_SECRETMEM; secretmem.enable=1 on the kernel's command line",
    },
    Wanted {
        name: "pidfd_get_info",
        severity: Severity::Note,
        lost: "a set-gid client cannot be told from one that can be dumped",
        remedy: "Linux 6.16",
    },
    Wanted {
        name: "procmap_query",
        severity: Severity::Note,
        lost: "level 2 (image) would cost more",
        remedy: "Linux 6.11",
    },
    Wanted {
        name: "pagemap_scan",
        severity: Severity::Note,
        lost: "level 2 (image) would cost more",
        remedy: "Linux 6.7",
    },
    Wanted {
        name: "fs_verity",
        severity: Severity::Note,
        lost: "level 4 (enforced) cannot come from fs-verity where jsi-agent is installed",
        remedy: "ext4 or btrfs with the verity feature, and CONFIG_FS_VERITY",
    },
    Wanted {
        name: "so_passrights",
        severity: Severity::Note,
        lost: "the agent closes what others pass to it, instead of the kernel",
        remedy: "Linux 6.16",
    },
];

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![version(&facts.host.kernel)];
    if let Some(local) = &facts.local {
        found.extend(WANTED.iter().map(|wanted| one(wanted, local.kernel.get(wanted.name))));
    }
    found.push(if facts.host.ima {
        Finding::ok(TOPIC, "ima", "the kernel measures files")
    } else {
        Finding::note(TOPIC, "ima", "no IMA: level 4 (enforced) cannot come from it")
    });
    found.push(match facts.host.lsm.as_str() {
        "" => Finding::note(
            TOPIC,
            "lsm",
            "no LSM gives labels: level 4 (enforced) cannot come from one",
        ),
        label => Finding::ok(TOPIC, "lsm", format!("gives labels; this program's is {label:?}")),
    });
    found.push(level_4(facts));
    found.push(namespaces(facts.host.user_namespaces));
    found
}

/// Whether anything of the kernel's could give it.
fn level_4(facts: &Facts) -> Finding {
    let verity = facts.local.as_ref().and_then(|local| local.kernel.get("fs_verity"));
    let ways = [
        ("fs-verity", verity.is_some_and(|feature| feature.present)),
        ("IMA", facts.host.ima),
        ("an LSM", !facts.host.lsm.is_empty()),
    ];
    let there: Vec<&str> = ways.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    if there.is_empty() {
        return Finding::note(
            TOPIC,
            "level 4",
            "this kernel has neither fs-verity nor IMA nor an LSM: no program reaches it",
        )
        .mend("a kernel with one of them; until then demand level 3 at most");
    }
    Finding::ok(TOPIC, "level 4", format!("can come from {}", there.join(", ")))
}

fn version(release: &str) -> Finding {
    let numbers: Vec<u32> =
        release.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
    let text = format!("Linux {release}");
    match numbers.as_slice() {
        [] | [_] => Finding::note(TOPIC, "version", format!("{text}: not a version that is known")),
        // SO_PEERPIDFD came with 6.5.
        numbers if numbers < [6, 5].as_slice() => Finding::fail(TOPIC, "version", text)
            .mend("Linux 6.5 or later; 6.16 has all that is used"),
        _ => Finding::ok(TOPIC, "version", text),
    }
}

fn one(wanted: &Wanted, found: Option<&Feature>) -> Finding {
    match found {
        None => Finding::note(
            TOPIC,
            wanted.name,
            "this jsi-agent does not look for it: it is of another version",
        ),
        Some(Feature { present: true, version: Some(version), .. }) => {
            Finding::ok(TOPIC, wanted.name, format!("version {version}"))
        }
        Some(Feature { present: true, .. }) => Finding::ok(TOPIC, wanted.name, "present"),
        Some(feature) => {
            let text = format!("{} ({})", wanted.lost, feature.why);
            Finding::new(TOPIC, wanted.name, wanted.severity, text).mend(wanted.remedy)
        }
    }
}

/// No weakness by itself: what is said inside of them is not believed.
fn namespaces(allowed: Option<bool>) -> Finding {
    let name = "user namespaces";
    match allowed {
        Some(true) => Finding::note(
            TOPIC,
            name,
            "everybody may make them: the agent believes no sender inside, as it should",
        ),
        Some(false) => Finding::ok(TOPIC, name, "only root may make them"),
        None => Finding::ok(TOPIC, name, "the kernel has none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_fails() {
        for (release, severity) in [
            ("6.18.44-fc", Severity::Ok),
            ("6.5.0", Severity::Ok),
            ("6.1.0-18-amd64", Severity::Fail),
            ("5.15.0", Severity::Fail),
            ("10.0.1", Severity::Ok),
            ("strange", Severity::Note),
        ] {
            assert_eq!(version(release).severity, severity, "{release}");
        }
    }

    #[test]
    fn each_feature_that_is_missing_is_told_with_what_is_lost() {
        let mut facts = Facts::recorded();
        assert!(judge(&facts).iter().all(|finding| finding.severity <= Severity::Note));
        for feature in facts.local.as_mut().unwrap().kernel.values_mut() {
            *feature = Feature { present: false, why: "ENOSYS".to_owned(), ..Feature::default() };
        }
        let found = judge(&facts);
        for wanted in &WANTED {
            let finding = found.iter().find(|finding| finding.name == wanted.name).unwrap();
            assert_eq!(finding.severity, wanted.severity);
            assert!(finding.text.contains("ENOSYS") && finding.remedy.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn a_feature_that_an_older_agent_does_not_know_is_no_fault() {
        assert_eq!(one(&WANTED[0], None).severity, Severity::Note);
    }

    #[test]
    fn user_namespaces_are_told() {
        assert_eq!(namespaces(Some(true)).severity, Severity::Note);
        assert_eq!(namespaces(Some(false)).severity, Severity::Ok);
        assert_eq!(namespaces(None).severity, Severity::Ok);
    }

    #[test]
    fn a_kernel_with_nothing_that_enforces_is_told_to_reach_no_level_4() {
        let mut facts = Facts::recorded();
        facts.host.ima = false;
        facts.host.lsm = String::new();
        if let Some(verity) = facts.local.as_mut().unwrap().kernel.get_mut("fs_verity") {
            verity.present = false;
        }
        let none = level_4(&facts);
        assert_eq!(none.severity, Severity::Note);
        assert!(none.text.contains("neither fs-verity nor IMA nor an LSM"), "{none:?}");
        facts.host.lsm = "unconfined".to_owned();
        let some = level_4(&facts);
        assert_eq!(some.severity, Severity::Ok);
        assert!(some.text.contains("an LSM") && !some.text.contains("IMA"), "{some:?}");
    }
}
