//! What is mapped decides level 2, and whether exe is what runs level 1.

use super::*;
use std::os::unix::fs::FileExt;

/// The reasons why a level was missed.
fn missed(facts: &ProcessFacts, level: Assurance) -> String {
    let of_level = facts.shortfalls.iter().filter(|missed| missed.level == level);
    of_level.map(|missed| missed.reason.as_str()).collect::<Vec<_>>().join("; ")
}

/// Where the first executable mapping of a file with that name begins.
fn text_of(pid: u32, name: &str) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.contains("r-xp") && line.contains(name)).unwrap();
    u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
}

/// Writes a byte of text as a debugger does.
fn patch(pid: u32, at: u64) {
    let memory =
        std::fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
    let memory = memory.unwrap();
    let mut byte = [0];
    memory.read_exact_at(&mut byte, at).unwrap();
    memory.write_all_at(&byte, at).unwrap();
}

#[tokio::test]
async fn a_modified_text_page_is_seen_even_where_it_holds_the_same_bytes() {
    if !randomised() {
        return eprintln!("skipped: address randomisation is off");
    }
    let attestor = start(config(), &[]);
    let peer = Peers::sleep();
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    assert_eq!(seen.assurance, Assurance::Image, "{:?}", seen.caller.shortfalls);
    for name in ["sleep", "libc", "[vdso]"] {
        patch(peer.pid(), text_of(peer.pid(), name));
        let again = attestor.attest(seen.caller_image).await.unwrap();
        assert_eq!(again.assurance, Assurance::Executable, "{name}");
        assert_eq!(again.assurance_with_jit, Assurance::Executable, "{name}");
        let why = missed(&again.caller, Assurance::Image);
        assert!(why.contains("text page modified: ") && why.contains(name), "{name}: {why}");
        attestor.recheck(&again).await.unwrap();
    }
    // What was permitted for level 2 is not delivered any more, and what is
    // not delivered does not mind.
    let Err(AttestError::Caller(why)) = attestor.recheck(&seen).await else { panic!("served") };
    assert!(why.contains("had reached level 2") && why.contains("modified"), "{why}");
    attestor.still_there(&seen).await.unwrap();
}

/// What a program prints when it is ready; then it waits.
fn ready(program: &str, args: &[&str]) -> Option<Peers> {
    if !Path::new(program).exists() {
        eprintln!("skipped: there is no {program}");
        return None;
    }
    let mut peer = Peers::start(Command::new(program).args(args));
    let mut line = String::new();
    BufReader::new(peer.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{program}");
    Some(peer)
}

#[tokio::test]
async fn programs_of_the_distribution_reach_level_2() {
    if !randomised() {
        return eprintln!("skipped: address randomisation is off");
    }
    let attestor = start(config(), &[]);
    let modules = "import ssl, asyncio, json, sys; print('ready', flush=True); sys.stdin.read()";
    let perl = "use POSIX; use Socket; $| = 1; print \"ready\\n\"; <STDIN>";
    for (program, args) in [
        ("/bin/bash", &["-c", "echo ready; read x"][..]),
        ("/usr/bin/python3", &["-c", modules]),
        ("/usr/bin/perl", &["-e", perl]),
    ] {
        let Some(peer) = ready(program, args) else { continue };
        let seen = attest(&attestor, peer.pid()).await.unwrap();
        assert_eq!(seen.assurance, Assurance::Image, "{program}: {:?}", seen.caller.shortfalls);
    }
}

#[tokio::test]
async fn a_callback_that_is_compiled_while_it_runs_is_let_pass_by_name_only() {
    if !randomised() {
        return eprintln!("skipped: address randomisation is off");
    }
    let callback = "import ctypes, sys; call = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1); \
                    print('ready', flush=True); sys.stdin.read()";
    let Some(peer) = ready("/usr/bin/python3", &["-c", callback]) else { return };
    let seen = attest(&start(config(), &[]), peer.pid()).await.unwrap();
    let why = missed(&seen.caller, Assurance::Image);
    assert!(why.contains("executable memory that no file backs"), "{why}");
    assert_eq!(
        (seen.assurance, seen.assurance_with_jit),
        (Assurance::Executable, Assurance::Image)
    );
}

/// A library in a directory that anybody may write, loaded before all others.
fn preloaded(dir: &Path) -> (Peers, PathBuf) {
    let libm = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = libm.lines().find(|line| line.contains("r-xp") && line.contains("/libc")).unwrap();
    let copy = dir.join("copy.so");
    std::fs::copy(&libc[libc.find('/').unwrap()..], &copy).unwrap();
    let peer = Peers::start(Command::new("/bin/sleep").arg("60").env("LD_PRELOAD", &copy));
    wait_for(&peer, "sleep");
    wait_until("the library is mapped", || {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", peer.pid())).unwrap();
        maps.lines().any(|line| line.contains("r-xp") && line.contains("copy.so"))
    });
    (peer, copy)
}

#[tokio::test]
async fn a_library_that_others_could_have_written_counts_only_where_it_is_listed() {
    if !randomised() {
        return eprintln!("skipped: address randomisation is off");
    }
    let dir = tempfile::tempdir().unwrap();
    let (peer, copy) = preloaded(dir.path());
    let attestor = start(config(), &[]);
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    assert_eq!(seen.assurance, Assurance::Executable);
    let why = missed(&seen.caller, Assurance::Image);
    let root = nix::unistd::geteuid().is_root();
    let expected = if root { "which others than root may write" } else { "is writable by uid" };
    assert!(why.contains("copy.so") && why.contains(expected), "{why}");

    let mut listing = config();
    listing.listed_libraries.insert(executable::digest_of(&copy).unwrap().1.digest.0);
    let seen = attest(&start(listing.clone(), &[]), peer.pid()).await.unwrap();
    // Whoever can write it can write it after it was hashed.
    let want = if root { Assurance::Image } else { Assurance::Executable };
    assert_eq!(seen.assurance, want, "{:?}", seen.caller.shortfalls);

    let mut other = config();
    other.listed_libraries.insert([7; 32]);
    let seen = attest(&start(other, &[]), peer.pid()).await.unwrap();
    let why = missed(&seen.caller, Assurance::Image);
    assert_eq!(why.contains("is not in listed_libraries"), root, "{why}");

    // Replaced by an upgrade: what is mapped is what it was.
    std::fs::remove_file(&copy).unwrap();
    let seen = attest(&start(config(), &[]), peer.pid()).await.unwrap();
    let why = missed(&seen.caller, Assurance::Image);
    assert!(!root || why.contains("link count 0"), "{why}");
    let listed = attest(&start(listing, &[]), peer.pid()).await.unwrap();
    assert_eq!(listed.assurance, want, "{:?}", listed.caller.shortfalls);
}

#[tokio::test]
async fn an_isolated_uid_reaches_level_3_and_an_advisory_agent_gives_no_more_than_1() {
    if !randomised() {
        return eprintln!("skipped: address randomisation is off");
    }
    let uid = nix::unistd::geteuid().as_raw();
    let mut isolating = config();
    isolating.isolated_uids.insert(uid);
    let peer = Peers::sleep();
    let seen = attest(&start(isolating.clone(), &[]), peer.pid()).await.unwrap();
    assert_eq!(seen.assurance, Assurance::Isolated, "{:?}", seen.caller.shortfalls);
    let seen = attest(&start(config(), &[]), peer.pid()).await.unwrap();
    assert!(missed(&seen.caller, Assurance::Isolated).contains(&format!("uid {uid} is")));
    let seen = attest(&start(isolating, &["the key can be read"]), peer.pid()).await.unwrap();
    assert_eq!((seen.assurance, seen.caller.assurance), (Assurance::Executable, seen.assurance));
    let why = missed(&seen.caller, Assurance::Image);
    assert!(why.contains("advisory") && why.contains("the key can be read"), "{why}");
}

#[tokio::test]
async fn a_requester_found_by_ancestry_does_not_exceed_level_1() {
    let clients = Config { genuine_clients: vec![PathBuf::from("/bin/sleep")], ..config() };
    let mut isolating = clients;
    isolating.isolated_uids.insert(nix::unistd::geteuid().as_raw());
    let attestor = start(isolating, &[]);
    let mut peer = Peers::start(Command::new("/bin/sh").args(["-c", "sleep 60 & echo $!; wait"]));
    let pid = peer.printed_pid();
    wait_for_pid(pid, "sleep");
    let seen = attest(&attestor, pid).await.unwrap();
    assert_eq!(seen.requester.pid, peer.pid());
    let level = u8::from(randomised());
    assert_eq!((seen.assurance.level(), seen.requester.assurance.level()), (level, level));
    assert_eq!(seen.caller.assurance.level(), 3 * level, "{:?}", seen.caller.shortfalls);
    assert!(missed(&seen.requester, Assurance::Image).contains("ancestry"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
}

/// `cargo test -p jsi-agent --release -- --ignored --nocapture what_an_attestation`
#[test]
#[ignore = "prints figures"]
fn what_an_attestation_costs() {
    figures::print();
}

mod figures {
    use super::super::super::executable::Look;
    use super::super::super::server::Server;
    use super::super::super::wire::Reached;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ROUNDS: u32 = 3_000;

    pub(super) fn print() {
        let mut isolating = config();
        isolating.isolated_uids.insert(nix::unistd::geteuid().as_raw());
        println!("{:<44} {:>9} {:>9} {:>9}", "µs, median", "attest", "at 2", "at 1");
        // Not below /tmp, which everybody may write.
        let dir = tempfile::tempdir_in("/var/lib").unwrap();
        let asleep = statically_linked(dir.path());
        let sleeping = "import ssl, asyncio, time; print(0, flush=True); time.sleep(600)";
        for (name, program, args) in [
            ("sleep", "/bin/sleep", vec!["600"]),
            ("bash", "/bin/bash", vec!["-c", "echo 0; read x"]),
            ("python3 with ssl, asyncio", "/usr/bin/python3", vec!["-c", sleeping]),
            ("a static program", asleep.as_str(), vec![]),
        ] {
            if !Path::new(program).exists() {
                println!("{name:<44} not there");
                continue;
            }
            let peer = Peers::start(Command::new(program).args(args));
            std::thread::sleep(Duration::from_millis(700));
            one(name, &isolating, peer.pid());
        }
    }

    /// A program without libraries that waits; a path that is not there where
    /// there is no compiler.
    fn statically_linked(dir: &Path) -> String {
        let (source, program) = (dir.join("asleep.c"), dir.join("asleep"));
        let text = "#include <unistd.h>\nint main(void) { return pause(); }\n";
        std::fs::write(&source, text).unwrap();
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
        // Whether it could, the program's being there says.
        let _ = Command::new("cc").arg("-static-pie").arg("-o").args([&program, &source]).status();
        program.display().to_string()
    }

    fn one(name: &str, config: &Config, pid: u32) {
        let server = Server::new(config, Vec::new()).unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let held = server
            .images
            .hold(pid, uid, false, None, || pidfd::open(pid).map_err(|e| e.to_string()))
            .unwrap();
        // The pool would read it; here it is read while nobody measures.
        let mut learned = Vec::new();
        let first = loop {
            match server.attest(&held, &learned) {
                Ok(first) => break first,
                Err(super::super::super::server::Stop::Read(look)) => {
                    let limits =
                        executable::HashLimits { bytes: 1 << 30, time: Duration::from_secs(60) };
                    let digests = executable::Digests::new(process::own_user_namespace().unwrap());
                    let look: Box<Look> = look;
                    learned.push((look.key(), digests.read(&look, limits)));
                }
                Err(super::super::super::server::Stop::Error(error)) => panic!("{error}"),
            }
        };
        let reached = Reached::of(&first.facts.caller);
        let low = Reached { assurance: Assurance::Executable, with_jit: Assurance::Executable };
        let name = format!("{name}, level {}", reached.assurance.level());
        let attest = median(|| drop(server.attest(&held, &learned)));
        let high = median(|| server.still(&held, reached).unwrap());
        let low = median(|| server.still(&held, low).unwrap());
        println!("{name:<44} {attest:>9.1} {high:>9.1} {low:>9.1}");
    }

    fn median(mut work: impl FnMut()) -> f64 {
        let mut all: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let began = Instant::now();
                work();
                began.elapsed()
            })
            .collect();
        all.sort();
        all[all.len() / 2].as_secs_f64() * 1e6
    }
}
