//! A server that is not the agent.

use jsi_tests::{PEERS, Setup, needs_root, permit, random_secret};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Binds, and says at a word how many bytes a client has sent.
const FORGED: &str = "import os,socket,sys\n\
    s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1],0o666)\n\
    s.listen(); print('READY',flush=True); sys.stdin.readline(); s.setblocking(False)\n\
    try: c,_=s.accept()\n\
    except BlockingIOError: print('GOT 0',flush=True); sys.exit()\n\
    c.settimeout(1)\n\
    try: got=c.recv(65536)\n\
    except OSError: got=b''\n\
    print('GOT',len(got),flush=True)\n";

/// A server with another uid than root, one's own or the host agent's is not
/// talked to, wherever it listens.
#[test]
fn a_forged_server_gets_no_request() {
    needs_root!();
    let host = Setup::host()
        .start(|world| vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    let serve = |place: &Path| {
        let forged = host.program(PEERS[1], "/usr/bin/python3");
        let mut forged = forged.args(["-c", FORGED, &place.display().to_string()]).talk();
        forged.expect("READY");
        forged
    };
    let asked = |place: &Path| format!("JSI_AUTH_SOCK={} jsi get db/orders", place.display());
    let forger = PEERS[1].uid.to_string();

    // In a directory of its own it is not even connected to; where everybody
    // may put a socket, its uid is seen before anything is sent.
    let shared = host.world.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    for place in [host.world.home(PEERS[1]), shared.clone()] {
        let place = place.join("agent.sock");
        let mut forged = serve(&place);
        host.shell(PEERS[0], &asked(&place)).run().coded(5).says(&forger);
        forged.say("how much was it?");
        forged.expect("GOT 0");
    }
    // A directory that is open and not sticky is not used at all.
    let open = host.world.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let mut forged = serve(&open.join("agent.sock"));
    host.shell(PEERS[0], &asked(&open.join("agent.sock"))).run().coded(5);
    forged.say("how much was it?");
    forged.expect("GOT 0");

    // The attack is real: where root names that uid, it gets the first bytes.
    let twin = shared.join("named.sock");
    let mut forged = serve(&twin);
    std::fs::write("/etc/jsi/client.toml", format!("owner = {forger}\n")).unwrap();
    let mut client = host.shell(PEERS[0], &asked(&twin)).talk();
    // It goes on waiting for an answer: it has asked.
    std::thread::sleep(std::time::Duration::from_millis(500));
    forged.say("how much was it?");
    let said = forged.line();
    assert!(said.starts_with("GOT ") && said != "GOT 0", "{said}");
    client.kill();
}
