//! The manual pages are read without complaint by groff and by mandoc.

use std::path::Path;
use std::process::Command;

#[test]
fn no_manual_page_makes_a_formatter_complain() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/man");
    let pages: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 20, "{pages:?}");
    for (program, arguments) in
        [("mandoc", &["-Tlint", "-W", "warning"][..]), ("man", &["--warnings", "-P", "cat", "-l"])]
    {
        if Command::new(program).arg("--help").output().is_err() {
            jsi_tests::not_run(module_path!(), line!(), &format!("it needs {program}"));
            continue;
        }
        for page in &pages {
            let out = Command::new(program).args(arguments).arg(page).output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            let found = if program == "mandoc" {
                said + &String::from_utf8_lossy(&out.stdout)
            } else {
                said
            };
            assert!(found.is_empty(), "{program} of {}:\n{found}", page.display());
        }
    }
}
