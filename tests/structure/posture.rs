//! Pages that promise are tables that are tested: each row of the failure posture
//! (`contrib/doc/failure.md`) and of the attacks (`contrib/doc/attestation.md`)
//! names tests, and they are there.

use std::collections::BTreeSet;
use std::fs;

/// The rows of the table under a heading whose first column has that name.
fn rows<'a>(page: &'a str, first: &str) -> Vec<(&'a str, &'a str)> {
    let begun = page.lines().skip_while(|line| !line.starts_with(&format!("| {first} |")));
    let rows = begun.skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).collect()
}

/// What stands between backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Rows without a test, and tests that are not there.
fn faults(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let tested = rows(page, "row");
    let mut faults = Vec::new();
    for (what, _) in rows(page, "what fails") {
        match tested.iter().find(|(row, _)| *row == what) {
            None => faults.push(format!("{what:?} names no test")),
            Some((_, cell)) if names(cell).next().is_none() => {
                faults.push(format!("{what:?} names no test"));
            }
            Some((_, cell)) => {
                let missing = names(cell).filter(|name| !tests.contains(*name));
                faults.extend(missing.map(|name| format!("{what:?}: there is no test {name}")));
            }
        }
    }
    faults
}

/// The names of all tests below these directories.
fn tests_in(parts: &[&str]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for file in parts.iter().flat_map(|part| crate::sources(&crate::root().join(part))) {
        let text = fs::read_to_string(&file).unwrap();
        let after = text.split("#[test]").skip(1);
        tests.extend(after.filter_map(|code| {
            let name = code.split_once("fn ")?.1;
            Some(name[..name.find('(')?].to_owned())
        }));
    }
    tests
}

/// Rows of the tables whose last column is `tests` that name none, and tests
/// that are not there.
fn unheld(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut within = false;
    for line in page.lines() {
        within = line.starts_with('|') && (within || line.ends_with("| tests |"));
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else { continue };
        if !within || line.ends_with("| tests |") || line.starts_with("|---") {
            continue;
        }
        if names(last).next().is_none() {
            faults.push(format!("{first:?} names no test"));
        }
        let missing = names(last).filter(|name| !tests.contains(*name));
        faults.extend(missing.map(|name| format!("{first:?}: there is no test {name}")));
    }
    faults
}

#[test]
fn each_attack_of_the_threat_model_names_tests_that_are_there() {
    let tests = tests_in(&["tests", "agent"]);
    let page = fs::read_to_string(crate::root().join("contrib/doc/attestation.md")).unwrap();
    assert!(page.matches("| tests |").count() >= 2, "the tables are found");
    assert_eq!(unheld(&page, &tests), Vec::<String>::new());

    let short = "| what | x |\n|---|---|\n| a | `gone` |\n\n\
                 | attack | tests |\n|---|---|\n| b | `gone` |\n| c | none |\n\ntext `gone`\n";
    assert_eq!(unheld(short, &tests), ["\" b\": there is no test gone", "\" c\" names no test"]);
}

#[test]
fn each_row_of_the_failure_posture_names_tests_that_are_there() {
    let tests = tests_in(&["tests"]);
    let page = fs::read_to_string(crate::root().join("contrib/doc/failure.md")).unwrap();
    assert!(rows(&page, "what fails").len() >= 12, "the table is found");
    assert_eq!(faults(&page, &tests), Vec::<String>::new());

    let short = "| what fails | x |\n|---|---|\n| a | x |\n| b | x |\n\n\
                 | row | tests |\n|---|---|\n| a | `gone` |\n";
    assert_eq!(faults(short, &tests).len(), 2, "a missing row and a missing test");
}
