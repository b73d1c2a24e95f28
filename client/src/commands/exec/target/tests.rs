//! Programs that are found, measured and copied.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

fn code(found: Result<Target, Failure>) -> u8 {
    match found {
        Err(Failure::Told { code, .. }) => code,
        _ => panic!("it was found"),
    }
}

fn says(found: Result<Target, Failure>) -> String {
    found.err().map(|failure| failure.message().to_owned()).expect("it was found")
}

/// A directory with an executable file.
fn with(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("program");
    write(&path, text);
    (dir, path)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn hash(text: &str) -> String {
    data_encoding::HEXLOWER
        .encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

#[test]
fn what_is_not_there_gives_127_and_what_cannot_run_126() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    let path = dir.path().as_os_str();
    for find in [Target::find, Target::sealed] {
        assert_eq!(code(find(OsStr::new("nothing-here"), Some(path))), 127);
        assert_eq!(code(find(OsStr::new("/nothing/here"), None)), 127);
        assert_eq!(code(find(OsStr::new(""), Some(path))), 127);
        assert_eq!(code(find(OsStr::new("plain"), Some(path))), 126);
        assert_eq!(code(find(plain.as_os_str(), None)), 126);
        assert_eq!(code(find(path, None)), 126);
    }
    assert_eq!(code(Target::script(&dir.path().join("none"), None)), 127);
    assert_eq!(code(Target::script(&plain, None)), 126);
}

#[test]
fn of_a_file_that_others_can_change_no_digest_is_claimed() {
    let (_dir, path) = with("abc");
    let target = Target::find(path.as_os_str(), None).unwrap();
    let claim = target.claim();
    assert_eq!((claim.exe.as_str(), claim.sealed), (path.to_str().unwrap(), false));
    assert!(claim.digest.is_empty() && claim.inode != 0);
    let Program::At(at, seen) = &target.program else { panic!("copied") };
    assert!(unchanged(at, seen).is_ok());
    write(&path, "abcd");
    assert!(unchanged(at, seen).is_err());
}

#[test]
fn roots_program_is_measured_where_it_is() {
    for find in [Target::find, Target::sealed] {
        let target = find(OsStr::new("/bin/sh"), None).unwrap();
        let real = Path::new("/bin/sh").canonicalize().unwrap();
        let claim = target.claim();
        assert_eq!(claim.exe, real.to_str().unwrap());
        assert_eq!(claim.digest, measure(&real).unwrap());
        assert!(claim.sealed && matches!(target.program, Program::At(..)));
    }
}

#[test]
fn a_copy_stays_what_was_measured() {
    let (_dir, path) = with("abc");
    let target = Target::sealed(path.as_os_str(), None).unwrap();
    write(&path, "evil");
    let Program::Copy(copy) = &target.program else { panic!("not copied") };
    assert_eq!(digest(copy).unwrap(), hash("abc"));
    let claim = target.claim();
    assert!(claim.sealed);
    assert_eq!((claim.digest, claim.exe.as_str()), (hash("abc"), path.to_str().unwrap()));
}

#[test]
fn a_script_is_measured_with_what_runs_it() {
    let text = "#!/bin/sh -e\nexit\n";
    let (_dir, path) = with(text);
    for target in [Target::script(&path, None), Target::sealed(path.as_os_str(), None)] {
        let target = target.unwrap();
        let (claim, shell) = (target.claim(), Path::new("/bin/sh").canonicalize().unwrap());
        assert_eq!(claim.exe, path.to_str().unwrap());
        assert_eq!((claim.digest, claim.script_digest), (hash(text), hash(text)));
        assert_eq!(claim.interpreter, shell.to_str().unwrap());
        assert_eq!(claim.interpreter_digest, measure(&shell).unwrap());
        let words = target.words(&["program".into(), "x".into()]);
        let [name, flag, read, last] = words.as_slice() else { panic!("{words:?}") };
        assert_eq!(
            (name.to_str(), flag.to_str(), last.to_str()),
            (Some("/bin/sh"), Some("-e"), Some("x"))
        );
        assert!(read.to_str().unwrap().starts_with("/dev/fd/"));
        assert_eq!(std::fs::read_to_string(read).unwrap(), text);
    }
}

#[test]
fn an_interpreter_that_its_user_chose_is_named_and_the_script_alone_is_no_digest() {
    let text = "#!/usr/bin/env mine\n";
    let (dir, path) = with(text);
    std::fs::copy("/bin/sh", dir.path().join("real")).unwrap();
    symlink("/bin/sh", dir.path().join("mine")).unwrap();
    let search = dir.path().as_os_str();
    let claim = Target::sealed(path.as_os_str(), Some(search)).unwrap().claim();
    // A link of the user's chose root's shell: it need not be copied.
    assert!(claim.digest.is_empty() && claim.sealed);
    assert_eq!(claim.script_digest, hash(text));
    assert_eq!(Path::new(&claim.interpreter), Path::new("/bin/sh").canonicalize().unwrap());
    std::fs::remove_file(dir.path().join("mine")).unwrap();
    symlink("real", dir.path().join("mine")).unwrap();
    let target = Target::sealed(path.as_os_str(), Some(search)).unwrap();
    assert!(matches!(target.program, Program::Copy(_)) && target.claim().digest.is_empty());
    assert_eq!(target.claim().interpreter_digest, measure(Path::new("/bin/sh")).unwrap());
}

#[test]
fn node_reads_a_copy_where_it_is() {
    let (dir, path) = with("#!/usr/bin/env node\n");
    std::fs::copy("/bin/sh", dir.path().join("node")).unwrap();
    let target = Target::script(&path, Some(dir.path().as_os_str())).unwrap();
    let words = target.words(&["program".into()]);
    assert_eq!(words[..2], ["node", "--preserve-symlinks-main"].map(OsString::from));
}

#[test]
fn what_cannot_be_sealed_says_why() {
    let (dir, path) = with("#!/usr/bin/env -i sh\n");
    assert!(says(Target::sealed(path.as_os_str(), None)).contains("more than look"));
    write(&path, "echo\n");
    assert!(says(Target::script(&path, None)).contains("no #! line"));
    let wrapper = dir.path().join("wrapper");
    write(&wrapper, "#!/bin/sh\n");
    write(&path, &format!("#!{}\n", wrapper.display()));
    assert!(says(Target::sealed(path.as_os_str(), None)).contains("itself a script"));
    write(&path, "abc");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4755)).unwrap();
    assert!(says(Target::sealed(path.as_os_str(), None)).contains("set-user-ID"));
}

#[test]
fn what_a_link_led_to_is_what_is_executed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
    for name in ["good", "bad"] {
        write(&at(name), name);
    }
    symlink(at("good"), at("link")).unwrap();
    let target = Target::find(at("link").as_os_str(), None).unwrap();
    std::fs::remove_file(at("link")).unwrap();
    symlink(at("bad"), at("link")).unwrap();
    let command = target.command(&[at("link").into()], false);
    assert_eq!(command.get_program(), at("good"));
    assert_eq!(target.claim().exe, at("good").to_str().unwrap());
    // Another file in its place is another program.
    let Program::At(path, seen) = &target.program else { panic!("copied") };
    assert!(unchanged(path, seen).is_ok());
    std::fs::rename(at("bad"), at("good")).unwrap();
    assert!(unchanged(path, seen).is_err());
}
