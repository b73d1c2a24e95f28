//! The build whose checks can be disabled is one of a kind: what is shipped has
//! no such thing, and the other says what it is wherever one looks.

use jsi_tests::{Setup, Stage, mutants, needs_root, not_run, shipped};
use std::path::Path;
use std::process::Command;

/// What only the other build knows.
const WORDS: [&str; 3] = ["JSI_MUTANT", "DISABLES CHECKS", "pidfd-names-peer"];

fn has(binary: &Path, word: &str) -> bool {
    let found = Command::new("grep").args(["-aqF", "--", word]).arg(binary).status();
    match found.unwrap().code() {
        Some(code @ (0 | 1)) => code == 0,
        other => panic!("grep {word} {}: {other:?}", binary.display()),
    }
}

fn says(binary: &Path, variable: &str, arguments: &[&str]) -> (i32, String) {
    let mut agent = Command::new(binary);
    let out = agent.args(arguments).env("JSI_MUTANT", variable).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_build_that_is_shipped_cannot_leave_a_check_out() {
    for word in WORDS {
        assert!(!has(&shipped(), word), "{word} stands in {}", shipped().display());
    }
    let (code, said) = says(&shipped(), "no such check", &["--version"]);
    assert!(code == 0 && !said.contains("mutants"), "{said}");
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/build");
    let build = std::fs::read_to_string(build).unwrap();
    assert!(!build.contains("features"), "contrib/build turns a feature on");

    needs_root!();
    let stage = Stage::with(Setup::host().env("JSI_MUTANT", "sender,own-view-of-path,challenge"));
    let out = stage.run(&stage.trusted(), "hand-to-child", &[&stage.hostile()]);
    stage.refuses_because(&out.stdout, "which is not the peer");
    stage.serves_the_twin();
}

#[test]
fn a_build_that_can_leave_checks_out_says_so_wherever_one_looks() {
    needs_root!();
    let Some(agent) = mutants() else {
        return not_run(
            module_path!(),
            line!(),
            "JSI_MUTANTS_BIN_DIR names no build of tests/mutants",
        );
    };
    for word in WORDS {
        assert!(has(&agent, word), "{word} does not stand in {}", agent.display());
    }
    let (code, said) = says(&agent, "tracer", &["--version"]);
    assert!(code == 0 && said.contains("never use it"), "{said}");
    assert!(said.contains("THIS BUILD DISABLES CHECKS (tracer)"), "{said}");
    for unknown in ["no such check", "tracer,x", "Tracer", "@"] {
        let (code, said) = says(&agent, unknown, &["--version"]);
        assert!(code == 2 && said.contains("there is no check"), "{unknown}: {said}");
        assert!(said.contains("exec-generation"), "it names those that there are: {said}");
    }

    // All of its processes are told, the log too; with nothing left out it refuses.
    let stage = Stage::with(Setup::host().mutant(agent, &[]));
    let started = stage.host.await_record("started", "");
    assert!(started["version"].as_str().unwrap().contains("never use it"), "{started}");
    let said = stage.host.world.said();
    assert!(said.contains("THIS BUILD DISABLES CHECKS (none now)"), "{said}");
    let out = stage.run(&stage.trusted(), "hand-to-child", &[&stage.hostile()]);
    stage.refuses_because(&out.stdout, "which is not the peer");
    stage.serves_the_twin();
}
