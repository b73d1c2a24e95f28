use super::*;
use std::os::unix::fs::MetadataExt;

fn init(words: &[&str]) -> Result<String, InitError> {
    let words = std::iter::once("init").chain(words.iter().copied());
    let mut out = Vec::new();
    run(&InitArgs::parse_from(words), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_new_agent_gets_all_it_needs_and_a_second_run_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a b/jsi");
    let words = ["--config-dir", dir.to_str().unwrap(), "--no-passphrase"];
    let said = init(&words).unwrap();
    assert!(said.contains("without asking the agent") && said.contains("advisory"), "{said}");
    for (name, expected) in
        [("", 0o700), ("policy.d", 0o700), ("store", 0o700), ("log", 0o700), ("identity", 0o600)]
    {
        assert_eq!(mode(&dir.join(name)), expected, "{name}");
    }
    crate::store::Store::open(&dir.join("store"), &dir.join("identity")).unwrap();
    let read = || ["identity", "agent.toml"].map(|name| std::fs::read(dir.join(name)).unwrap());
    let before = read();
    let said = init(&words).unwrap();
    assert!(!said.contains("made "), "{said}");
    assert_eq!(read(), before);
    let config: toml::Table = toml::from_str(std::str::from_utf8(&before[1]).unwrap()).unwrap();
    let agent = config["agent"].as_table().unwrap();
    assert_eq!(agent["mode"].as_str(), Some("user"));
    assert_eq!(agent["store_dir"].as_str(), dir.join("store").to_str());
}

#[test]
fn an_identity_may_be_named_and_is_kept_where_it_is() {
    let home = tempfile::tempdir().unwrap();
    let identity = home.path().join("mine");
    std::fs::write(&identity, "as it was").unwrap();
    let dir = home.path().join("jsi");
    let words = ["--config-dir", dir.to_str().unwrap(), "--identity", identity.to_str().unwrap()];
    let said = init(&words).unwrap();
    assert!(!said.contains("no passphrase"), "{said}");
    assert_eq!(std::fs::read(&identity).unwrap(), b"as it was");
    assert!(!dir.join("identity").exists());
    let config = std::fs::read_to_string(dir.join("agent.toml")).unwrap();
    assert!(config.contains(&format!("identity = \"{}\"", identity.display())));
}

#[test]
fn a_passphrase_makes_an_identity_that_leaves_the_store_locked() {
    let home = tempfile::tempdir().unwrap();
    let places = Places::below(home.path());
    let plan =
        Plan { places, host: false, spelled_out: true, agent: None, identity: Adopt::Nothing };
    let mut out = Vec::new();
    let passphrase = SecretBuf::from_slice(b"open sesame");
    plan.make(Some(&passphrase), 4, &mut out).unwrap();
    assert!(!String::from_utf8(out).unwrap().contains("no passphrase"));
    let store = crate::store::Store::open(&plan.places.store, &plan.places.identity).unwrap();
    assert!(store.is_locked());
    store.unlock(&passphrase).unwrap();
}

#[test]
fn a_host_agent_is_set_up_with_directories_of_its_own_user() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: only root can give files to another uid");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let config = Places::below(&home.path().join("etc"));
    let data = Places::below(&home.path().join("var"));
    let places = Places { store: data.store, log: data.log, identity: data.identity, ..config };
    let plan = Plan {
        places,
        host: true,
        spelled_out: false,
        agent: Some((4321, 4322)),
        identity: Adopt::Nothing,
    };
    plan.make(None, 4, &mut Vec::new()).unwrap();
    let facts = |path: &Path| {
        let facts = std::fs::metadata(path).unwrap();
        (facts.uid(), facts.gid(), facts.mode() & 0o7777)
    };
    let places = &plan.places;
    assert_eq!(facts(&places.policy), (0, 0, 0o755));
    assert_eq!(facts(&places.config), (0, 0, 0o644));
    assert_eq!(facts(&home.path().join("var")), (4321, 4322, 0o700));
    assert_eq!(facts(&places.store), (4321, 4322, 0o700));
    assert_eq!(facts(&places.log), (4321, 4322, 0o700));
    assert_eq!(facts(&places.identity), (4321, 4322, 0o600));
}

#[test]
fn an_ssh_key_is_used_where_it_is_and_anything_else_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (key, dir) = (home.path().join("id_ed25519"), home.path().join("jsi"));
    let words = ["--config-dir", dir.to_str().unwrap(), "--ssh-key", key.to_str().unwrap()];
    assert!(matches!(init(&words), Err(InitError::SshKey { .. })), "it is not there");
    std::fs::write(&key, "planted").unwrap();
    let refused = init(&words).unwrap_err().to_string();
    assert!(refused.contains("id_ed25519") && !refused.contains("planted"), "{refused}");
    assert!(!dir.exists(), "nothing was made");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(home.path().join("real"))
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("not run: ssh-keygen is not installed");
        return;
    }
    std::fs::rename(home.path().join("real"), &key).unwrap();
    let said = init(&words).unwrap();
    assert!(said.contains("identity, SSH key"), "{said}");
    assert!(!dir.join("identity").exists());
    let config = std::fs::read_to_string(dir.join("agent.toml")).unwrap();
    assert!(config.contains(&format!("\nidentity = \"{}\"", key.display())), "{config}");
    crate::store::Store::open(&dir.join("store"), &key).unwrap();
}
