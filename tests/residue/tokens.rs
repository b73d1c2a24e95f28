//! Tokens and the keys that sign them: neither is left in memory, the token once
//! its lease has ended, the key while nothing is signed.

use crate::scan::{Copies, Needle};
use crate::{copies_in, root_may};
use jsi_proto::v1::RequestCredentialRequest;
use jsi_tests::{Client, Host, Setup, needs_root};
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

const MINTED: usize = 200;

fn host(algorithm: &str) -> Host {
    let text = format!(
        "[issuers.internal]\nkind = \"jwt\"\niss = \"https://jsi.example.org\"\n\
         algorithm = \"{algorithm}\"\n[credentials.\"planted\"]\nissuer = \"internal\"\n\
         owner = \"tests\"\npurpose = \"to be asked for\"\naudiences = [\"a\"]\nsubject = \"s\"\n"
    );
    Setup::host().text(&text).start(|_| vec![("root", root_may("planted"))])
}

/// The private key as it lies on disk, opened by the age tool.
fn private_key(host: &Host) -> String {
    let dir = host.world.store_dir().join("_jwt/internal");
    let mut sealed = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let sealed = sealed.find(|path| path.extension().is_some_and(|e| e == "age"));
    let mut age = Command::new("age");
    age.arg("-d").arg("-i").arg(host.world.identity()).arg(sealed.expect("there is a key"));
    let out = age.output().expect("age runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What to look for of a key: the text of its file, and its secret number as
/// bytes in either order, as far as they hold no zero.
fn needles(pem: &str, algorithm: &str) -> Vec<Needle> {
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let text = lines.join("\n");
    let der = data_encoding::BASE64.decode(lines.concat().as_bytes()).unwrap();
    let secret = match algorithm {
        "EdDSA" => &der[16..48],
        "ES256" => &der[36..68],
        // Past the modulus: the private exponent, and the primes behind it.
        _ => &der[320..],
    };
    let mut numbers = vec![secret.to_vec()];
    if algorithm == "EdDSA" {
        // What signing makes of it (RFC 8032, 5.1.5).
        let expanded = ring::digest::digest(&ring::digest::SHA512, secret);
        numbers.extend([expanded.as_ref()[1..31].to_vec(), expanded.as_ref()[32..].to_vec()]);
    }
    let runs = numbers.iter().flat_map(|number| number.split(|b| *b == 0));
    let runs = runs.filter(|run| run.len() >= 16).take(6);
    let reversed = |run: &[u8]| Needle::new(&run.iter().rev().copied().collect::<Vec<_>>());
    let mut needles: Vec<Needle> = runs.flat_map(|run| [Needle::new(run), reversed(run)]).collect();
    assert!(!needles.is_empty());
    // The beginning is the same for all keys of a kind.
    needles.push(Needle::new(&text.as_bytes()[if algorithm == "EdDSA" { 24 } else { 64 }..]));
    needles
}

async fn mint(host: &Host, clients: &mut Vec<Client>) -> Vec<(usize, String, Vec<u8>)> {
    let mut minted = Vec::new();
    for number in 0..4 {
        clients.push(Client::connect(&host.world.socket()).await.expect("connects"));
        for _ in 0..MINTED / 4 {
            let request = RequestCredentialRequest {
                credential: "planted".into(),
                fields: vec!["token".into()],
                new_lease: true,
                ..RequestCredentialRequest::default()
            };
            let delivered = clients[number].request(request).await.expect("minted");
            minted.push((number, delivered.lease.id, delivered.secret));
        }
    }
    minted
}

fn no_copy_is_left(algorithm: &str) {
    let host = host(algorithm);
    let runtime = Runtime::new().unwrap();
    let mut clients = Vec::new();
    let minted = runtime.block_on(mint(&host, &mut clients));
    // What makes a token one is its signature; the rest is known to many.
    let signature = |token: &[u8]| {
        let at = token.iter().rposition(|b| *b == b'.').unwrap();
        Needle::new(&token[at + 1..])
    };
    let tokens: Vec<Needle> =
        minted.iter().step_by(50).map(|(.., token)| signature(token)).collect();
    let key = needles(&private_key(&host), algorithm);
    let found =
        |needles: &[Needle]| -> Copies { needles.iter().map(|n| copies_in(&host, n)).sum() };
    let idle = found(&key);
    let leased = found(&tokens);
    runtime.block_on(async {
        for (client, lease, _) in &minted {
            clients[*client].release(lease).await.expect("released");
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    let after = found(&tokens);
    println!(
        "{algorithm}, {MINTED} tokens: key {idle}, while leased {leased}, after release {after}"
    );
    for (what, copies) in [("key", idle), ("tokens while leased", leased), ("tokens after", after)]
    {
        assert_eq!(copies, Copies::default(), "{algorithm}: {what}: whole/partial copies left");
    }
}

#[test]
fn no_copy_of_a_token_or_of_the_key_is_left_by_eddsa() {
    needs_root!();
    no_copy_is_left("EdDSA");
}

#[test]
fn no_copy_of_a_token_or_of_the_key_is_left_by_es256() {
    needs_root!();
    no_copy_is_left("ES256");
}

#[test]
fn no_copy_of_a_token_or_of_the_key_is_left_by_rs256() {
    needs_root!();
    no_copy_is_left("RS256");
}
