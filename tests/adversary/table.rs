//! The table of mutants: each check of the agent is left out in turn, and an
//! attack that is refused with it succeeds without it. Where several checks stand
//! in the way of one attack, each is shown to hold alone, and the attack to
//! succeed without all of them.

use crate::attack::{Attack, Came};
use jsi_tests::{mutants, needs_root, not_run};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every attack that names checks.
fn attacks() -> Vec<Attack> {
    [
        crate::bootstrap::ATTACKS,
        crate::connection::ATTACKS,
        crate::files::ATTACKS,
        crate::flood::ATTACKS,
        crate::image::ATTACKS,
        crate::isolated::ATTACKS,
        crate::libraries::ATTACKS,
        crate::mapped::ATTACKS,
        crate::pids::ATTACKS,
        crate::policy::ATTACKS,
        crate::requester::ATTACKS,
        crate::setgid::ATTACKS,
        crate::swaps::ATTACKS,
        crate::target::ATTACKS,
        crate::workload::ATTACKS,
    ]
    .concat()
}

/// Checks that no attack needs on this machine, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    (
        "pid-zero",
        "of pid 0 nothing can be read, so that no answer but a refusal is possible; the check says why",
    ),
    (
        "requester-older",
        "the kernel keeps every parent older than its child; held by a unit test of the agent",
    ),
    (
        "run-of-root",
        "only root can put another directory in the place of systemd's; held by a unit test of the agent",
    ),
    (
        "target-sealed",
        "a client of this version claims no such digest; held by a unit test of the agent",
    ),
];

/// One run of the agent: an attack, and the checks left out.
struct Run {
    attack: Attack,
    without: Vec<&'static str>,
    succeeds: bool,
}

fn runs(attacks: &[Attack]) -> Vec<Run> {
    let mut runs = Vec::new();
    for attack in attacks {
        let run = |without, succeeds| Run { attack: *attack, without, succeeds };
        if attack.checks.len() > 1 {
            for alone in attack.checks {
                let others = attack.checks.iter().filter(|check| *check != alone);
                runs.push(run(others.copied().collect(), false));
            }
        }
        runs.push(run(attack.checks.to_vec(), true));
    }
    runs
}

#[test]
fn each_check_is_shown_to_matter() {
    needs_root!();
    let Some(agent) = mutants() else {
        let why = "JSI_MUTANTS_BIN_DIR names no build of tests/mutants";
        return not_run(module_path!(), line!(), why);
    };
    let attacks: Vec<Attack> = attacks().into_iter().filter(|a| !a.checks.is_empty()).collect();
    let mut faults = unaccounted(&names(&agent), &attacks);
    let (hindered, attacks): (Vec<Attack>, Vec<Attack>) =
        attacks.into_iter().partition(|attack| (attack.hindrance)().is_some());
    // For whoever works on one of them.
    let only = std::env::var("JSI_ATTACK").unwrap_or_default();
    let attacks: Vec<Attack> =
        attacks.into_iter().filter(|attack| attack.test.contains(&only)).collect();
    let runs = runs(&attacks);
    let (next, came) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = runs.get(at) else { return };
                    // In a thread of its own, as each test is: some change its namespaces.
                    let one = || run.attack.without(&agent, &run.without);
                    let one = std::thread::scope(|scope| scope.spawn(one).join());
                    came.lock().unwrap().insert(at, one.unwrap_or_else(|_| Came::panicked()));
                }
            });
        }
    });
    let came = came.into_inner().unwrap();
    for (run, came) in runs.iter().zip(came.values()) {
        match (came, run.succeeds) {
            (Came::Failed(said), true) => {
                let (test, without) = (run.attack.test, run.without.join(", "));
                faults.push(format!("{test} is refused without {without} too:\n{said}"));
            }
            (Came::Succeeded, false) => {
                let (test, without) = (run.attack.test, run.without.join(", "));
                faults.push(format!("{test} succeeds without {without} already"));
            }
            _ => {}
        }
    }
    // Past the capture of passing tests: everybody who runs them is to see it.
    let _ = writeln!(std::io::stderr(), "{}", table(&attacks, &hindered));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The checks that there are: the agent names them to whoever names another.
fn names(agent: &Path) -> Vec<String> {
    let out = std::process::Command::new(agent).env("JSI_MUTANT", "?").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let names = said.split("there are: ").nth(1).expect("it names them");
    names.split_whitespace().map(str::to_owned).collect()
}

/// Checks that no attack needs, and names that are no check's.
fn unaccounted(names: &[String], attacks: &[Attack]) -> Vec<String> {
    let shown = |name: &str| attacks.iter().any(|attack| attack.checks.contains(&name));
    let excused = |name: &str| NOT_SHOWN.iter().any(|(check, _)| *check == name);
    let mut faults = Vec::new();
    for name in names {
        if shown(name) == excused(name) {
            faults.push(format!("{name}: one attack needs it, or a reason says why none does"));
        }
    }
    let named =
        attacks.iter().flat_map(|attack| attack.checks).chain(NOT_SHOWN.iter().map(|n| &n.0));
    for name in named.filter(|name| !names.iter().any(|known| known == *name)) {
        faults.push(format!("{name} is no check of the agent"));
    }
    faults
}

fn table(attacks: &[Attack], hindered: &[Attack]) -> String {
    let mut rows: Vec<[String; 4]> =
        vec![["check", "attack", "with the check", "without"].map(str::to_owned)];
    for attack in attacks {
        for check in attack.checks {
            let others: Vec<&str> =
                attack.checks.iter().filter(|other| *other != check).copied().collect();
            let without = match others.as_slice() {
                [] => "succeeds".to_owned(),
                others => {
                    format!("refused by each of {0}; succeeds without {0} too", others.join(", "))
                }
            };
            rows.push([(*check).to_owned(), attack.test.to_owned(), "refused".to_owned(), without]);
        }
    }
    rows[1..].sort();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (check, attack, with) = (width(0), width(1), width(2));
    let mut text = String::from("\n");
    for row in &rows {
        let [a, b, c, d] = row;
        writeln!(text, "{a:check$} | {b:attack$} | {c:with$} | {d}").unwrap();
    }
    for attack in hindered {
        let why = (attack.hindrance)().unwrap_or_default();
        writeln!(text, "not shown here: {}: {}: {why}", attack.checks.join(", "), attack.test)
            .unwrap();
    }
    for (check, why) in NOT_SHOWN {
        writeln!(text, "not shown: {check}: {why}").unwrap();
    }
    text
}
