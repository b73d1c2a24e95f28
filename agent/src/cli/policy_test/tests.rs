use super::*;
use std::path::Path;

const POLICY: &str = r#"
@id("orders") @max_ttl("15m") @max_uses("2")
permit(principal in User::"1000", action in Action::"use", resource == Credential::"db/orders")
when { principal has unit && (principal.unit == "a.service" || principal.unit == "b.service") };
"#;

fn files(cases: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orders.cedar"), POLICY).unwrap();
    let path = dir.path().join("orders.test.toml");
    std::fs::write(&path, format!("policies = [\"orders.cedar\"]\n{cases}")).unwrap();
    (dir, path)
}

fn args(path: &Path) -> TestArgs {
    TestArgs::try_parse_from(["test", path.to_str().unwrap()]).unwrap()
}

/// What is reported of these cases.
fn reported(cases: &str) -> (bool, String) {
    let (_dir, path) = files(cases);
    let text = read(&path).unwrap();
    let tests = Tests::read(&path, &text).unwrap();
    let policies = policies(&args(&path), &tests).unwrap();
    let all: Vec<_> = tests.cases.iter().map(|case| try_one(&path, case, &policies)).collect();
    (all.iter().all(|tried| tried.differences.is_empty()), report::text(&all, false))
}

fn refused(cases: &str) -> String {
    let (_dir, path) = files(cases);
    run(&args(&path)).unwrap_err().to_string()
}

#[test]
fn the_published_examples_decide_as_their_cases_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = file.join("../contrib/policies/examples.test.toml");
    let text = read(&file).unwrap();
    let tests = Tests::read(&file, &text).unwrap();
    let policies = policies(&args(&file), &tests).unwrap();
    let all: Vec<_> = tests.cases.iter().map(|case| try_one(&file, case, &policies)).collect();
    let report = report::text(&all, false);
    assert!(report.ends_with(" passed, 0 failed\n"), "{report}");
    // Each policy decides some case, so that none stands there unproven.
    let decided: std::collections::BTreeSet<_> =
        all.iter().flat_map(|tried| decided_by(&tried.verdict)).collect();
    for (name, place) in policies.names().filter(|(_, place)| !place.starts_with("built in")) {
        assert!(decided.contains(name), "no case is decided by {name} ({place})");
    }
}

#[test]
fn a_case_passes_where_decision_limits_policies_and_reason_are_as_expected() {
    let (passed, report) = reported(
        r#"
[defaults]
credential = "db/orders"
[[case]]
name = "one"
unit = "b.service"
expect = "permit"
by = ["orders"]
limits = { max_ttl = "15m", max_uses = 2, default_ttl = "15m", hold = "lease", approval = [] }
[[case]]
name = "two"
unit = "c.service"
expect = "deny"
because = 'principal.unit is "c.service"'
by = []
"#,
    );
    assert!(passed && report == "2 passed, 0 failed\n", "{report}");
}

#[test]
fn a_case_that_fails_says_what_was_expected_what_was_seen_and_why() {
    let (passed, report) = reported(
        r#"
[[case]]
name = "a"
credential = "db/orders"
unit = "c.service"
expect = "permit"
[[case]]
name = "b"
credential = "db/orders"
unit = "a.service"
expect = "permit"
limits = { max_ttl = "1h", max_uses = 3, bind = "none", hold = "none" }
by = ["others"]
"#,
    );
    assert!(!passed);
    assert!(report.contains("FAILED  a  (") && report.contains("orders.test.toml:4)"), "{report}");
    for line in [
        "decision: expected permit, saw deny",
        "why: no permit applies; the nearest is orders: ",
        "principal.unit is \"c.service\"",
        "max_ttl: expected 1h, saw 15m",
        "max_uses: expected 3, saw 2",
        "bind: expected none, saw any",
        "hold: expected none, saw lease",
        "by: expected others, saw orders",
        "0 passed, 2 failed\n",
    ] {
        assert!(report.contains(line), "{line:?} is not in\n{report}");
    }
}

#[test]
fn what_is_malformed_is_refused_with_its_line() {
    let case = "[[case]]\nname = \"a\"\ncredential = \"db/orders\"\nexpect = \"permit\"\n";
    for (cases, says) in [
        (
            format!("{case}exec = \"/a\"\n"),
            "orders.test.toml:6:1: unknown key `exec`; did you mean `exe`?",
        ),
        (format!("[default]\n{case}"), "unknown key `default`; did you mean `defaults`?"),
        (case.replace("permit", "allow"), "5:10: expect is \"permit\" or \"deny\""),
        (case.replace("db/orders", "DB"), "is not a credential name"),
        (case.replace("credential = \"db/orders\"\n", ""), "names no credential"),
        (format!("{case}{case}"), "two cases are called \"a\""),
        (format!("{case}action = \"reqest\"\n"), "did you mean \"request\"?"),
        (format!("{case}digest = \"AB\"\n"), "64 hex digits"),
        (format!("{case}at = \"yesterday\"\n"), "2026-01-05T12:00:00Z"),
        (format!("{case}assurance = 9\n"), "a level is 0 to 4"),
        (format!("{case}unreadable = [\"uid\"]\n"), "\"uid\" is none of exe"),
        (format!("{case}ttl = \"15\"\n"), "a number has no unit"),
        (format!("{case}because = \"x\"\n"), "a denial's reason"),
        (format!("{}limits = {{ max_uses = 1 }}\n", case.replace("permit", "deny")), "no limits"),
        (case.replace("expect = \"permit\"", "by = []"), "what is expected is not said"),
        (String::new(), "no [[case]]"),
        ("case = 1".to_owned(), "orders.test.toml:2:"),
    ] {
        let said = refused(&cases);
        assert!(said.contains(says), "{cases}\n{said}");
    }
}

#[test]
fn a_file_that_is_none_is_refused_and_not_waited_for() {
    let (dir, path) = files("");
    for bad in [dir.path().to_owned(), dir.path().join("none")] {
        assert!(run(&args(&bad)).unwrap_err().to_string().contains("cannot read"));
    }
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(run(&args(&path)).unwrap_err().to_string().contains("UTF-8"));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(run(&args(&fifo)).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn record_writes_what_is_seen_and_keeps_the_rest_of_the_file() {
    let cases = r#"
# A comment.
[[case]]
name = "a"   # the first
credential = "db/orders"
unit = "a.service"

[[case]]
name = "b"
credential = "db/orders"
expect = "permit"

[[case]]
name = "c"
credential = "db/orders""#;
    let (_dir, path) = files(cases);
    let before = read(&path).unwrap();
    assert!(!run(&args(&path)).unwrap(), "nothing is expected of two of them");
    // `b` fails as before: what is expected is not replaced.
    assert!(!run(&TestArgs { record: true, ..args(&path) }).unwrap());
    let after = read(&path).unwrap();
    let first = "name = \"a\"   # the first\nexpect = \"permit\"\nlimits = { max_ttl = \"15m\", max_uses = 2 }\nby = [\"orders\"]\ncredential";
    assert!(after.contains(first), "{after}");
    assert!(after.contains("name = \"c\"\nexpect = \"deny\"\nby = []\n"), "{after}");
    let mut lines = after.lines();
    for old in before.lines() {
        assert!(lines.any(|line| line == old), "{old:?} is not where it was in\n{after}");
    }
    let (passed, report) = {
        let tests = Tests::read(&path, &after).unwrap();
        let policies = policies(&args(&path), &tests).unwrap();
        let all: Vec<_> = tests.cases.iter().map(|case| try_one(&path, case, &policies)).collect();
        (all.iter().filter(|tried| tried.differences.is_empty()).count(), report::text(&all, true))
    };
    assert_eq!(passed, 2, "{report}");
}
