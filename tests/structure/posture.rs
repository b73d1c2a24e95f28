//! The failure posture is a table that is tested: each row of
//! `contrib/doc/failure.md` names tests, and they are there.

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

#[test]
fn each_row_of_the_failure_posture_names_tests_that_are_there() {
    let mut tests = BTreeSet::new();
    for file in crate::sources(&crate::root().join("tests")) {
        let text = fs::read_to_string(&file).unwrap();
        let after = text.split("#[test]").skip(1);
        tests.extend(after.filter_map(|code| {
            let name = code.split_once("fn ")?.1;
            Some(name[..name.find('(')?].to_owned())
        }));
    }
    let page = fs::read_to_string(crate::root().join("contrib/doc/failure.md")).unwrap();
    assert!(rows(&page, "what fails").len() >= 12, "the table is found");
    assert_eq!(faults(&page, &tests), Vec::<String>::new());

    let short = "| what fails | x |\n|---|---|\n| a | x |\n| b | x |\n\n\
                 | row | tests |\n|---|---|\n| a | `gone` |\n";
    assert_eq!(faults(short, &tests).len(), 2, "a missing row and a missing test");
}
