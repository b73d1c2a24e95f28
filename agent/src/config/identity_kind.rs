//! What an identity file holds, told by its first bytes and without any key.

use data_encoding::BASE64;

/// How an age file begins, in binary and in armour (age-encryption.org/v1).
const AGE: [&[u8]; 2] = [b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE-----"];
/// PROTOCOL.key of OpenSSH.
const OPENSSH_BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const OPENSSH_END: &str = "-----END OPENSSH PRIVATE KEY-----";
const OPENSSH_MAGIC: &[u8] = b"openssh-key-v1\0";

/// Keys that need the host's secret file, which only root reads (systemd's
/// creds-util.h: CRED_AES256_GCM_BY_HOST and its unions with a TPM).
const CREDS_BY_HOST: [[u8; 16]; 3] = [
    *b"\x5a\x1c\x6a\x86\xdf\x9d\x40\x96\xb1\xd5\xa6\x5e\x08\x62\xf1\x9a",
    *b"\x93\xa8\x94\x09\x48\x74\x44\x90\x90\xca\xf2\xfc\x93\xca\xb5\x53",
    *b"\xaf\x49\x50\xbe\x49\x13\x4e\xb1\xa7\x38\x46\x30\x4f\xf3\x0c\x05",
];
/// Keys that the TPM alone gives, or that any program of the uid may ask for
/// (the scoped ones of systemd 256).
const CREDS_OTHERS: [[u8; 16]; 5] = [
    *b"\x0c\x7c\xc0\x7b\x11\x76\x45\x91\x9c\x4b\x0b\xea\x08\xbc\x20\xfe",
    *b"\xfa\xf7\xeb\x93\x41\xe3\x41\x2c\xa1\xa4\x36\xf9\x5a\x29\x36\x2f",
    *b"\x55\xb9\xed\x1d\x38\x59\x4d\x43\xa8\x31\x9d\x2e\xbb\x33\x2a\xc6",
    *b"\xef\x4a\xc1\x36\x79\xa9\x48\x0e\xa7\xdb\x68\x89\x7f\x9f\x16\x5d",
    *b"\xad\xbc\x4c\xa3\xef\xb6\x42\x01\xba\x88\x1b\x6f\x2e\x40\x95\xea",
];
/// Encrypted under a key that everybody knows.
const CREDS_NULL: [u8; 16] = *b"\x05\x84\x69\xda\xf6\xf5\x43\x24\x80\x05\x49\xda\x0f\x8e\xa2\xfb";

/// What opens the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    /// `AGE-SECRET-KEY-1…`, in the clear.
    KeyFile,
    /// The same, encrypted by a passphrase.
    Passphrase,
    /// An SSH private key in the clear.
    Ssh,
    /// An SSH private key with a passphrase.
    SshPassphrase,
    /// `AGE-PLUGIN-…`: a program of others opens each file.
    Plugin,
    /// A systemd credential. `host_key`: nobody but root can open it.
    SystemdCreds {
        /// systemd's host key is among what opens it.
        host_key: bool,
    },
}

impl IdentityKind {
    /// Tells the kind of an identity file.
    ///
    /// # Errors
    /// What it is, or is not; never a part of it.
    pub fn of(bytes: &[u8]) -> Result<Self, &'static str> {
        if AGE.iter().any(|magic| bytes.trim_ascii_start().starts_with(magic)) {
            return Ok(Self::Passphrase);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
        let lines = || text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let Some(first) = lines().next() else { return Err("there is no key in it") };
        if first == OPENSSH_BEGIN {
            return of_openssh(text);
        }
        if first.starts_with("-----BEGIN") {
            return Err("it is a PEM file, but not OpenSSH's (ssh-keygen -p -f FILE rewrites an \
                older SSH key)");
        }
        let key = |line: &str| line.starts_with("AGE-SECRET-KEY-1");
        let plugin = |line: &str| line.starts_with("AGE-PLUGIN-");
        if lines().all(key) {
            return Ok(Self::KeyFile);
        }
        if lines().all(plugin) {
            return Ok(Self::Plugin);
        }
        if lines().any(|line| key(line) || plugin(line)) {
            return Err("it mixes kinds of keys; keep one kind in one file");
        }
        of_credential(text)
    }

    /// A passphrase of its own opens it.
    #[must_use]
    pub fn has_passphrase(self) -> bool {
        matches!(self, Self::Passphrase | Self::SshPassphrase)
    }

    /// In words, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Passphrase => "key file with a passphrase",
            Self::Ssh => "SSH key",
            Self::SshPassphrase => "SSH key with a passphrase",
            Self::Plugin => "age plugin",
            Self::SystemdCreds { .. } => "systemd credential",
        }
    }
}

/// The name of the cipher stands behind the magic.
fn of_openssh(text: &str) -> Result<IdentityKind, &'static str> {
    let broken = "it is a damaged SSH key";
    let body: String = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != OPENSSH_BEGIN)
        .skip(1)
        .take_while(|line| *line != OPENSSH_END)
        .collect();
    let body = zeroize::Zeroizing::new(body);
    let bytes = zeroize::Zeroizing::new(BASE64.decode(body.as_bytes()).map_err(|_| broken)?);
    let rest = bytes.strip_prefix(OPENSSH_MAGIC).ok_or(broken)?;
    let (len, rest) = rest.split_first_chunk::<4>().ok_or(broken)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| broken)?;
    match rest.get(..len).ok_or(broken)? {
        b"none" => Ok(IdentityKind::Ssh),
        _ => Ok(IdentityKind::SshPassphrase),
    }
}

fn of_credential(text: &str) -> Result<IdentityKind, &'static str> {
    let unknown = "it is no age key, SSH key, plugin identity or systemd credential";
    let joined: String = text.split_ascii_whitespace().collect();
    let head = joined.get(..24).ok_or(unknown)?;
    let id = BASE64.decode(head.as_bytes()).map_err(|_| unknown)?;
    let id = id.get(..16).ok_or(unknown)?;
    let among = |list: &[[u8; 16]]| list.iter().any(|known| known == id);
    if id == CREDS_NULL {
        return Err("it is a systemd credential under the null key, which everybody knows");
    }
    if among(&CREDS_BY_HOST) {
        return Ok(IdentityKind::SystemdCreds { host_key: true });
    }
    if among(&CREDS_OTHERS) {
        return Ok(IdentityKind::SystemdCreds { host_key: false });
    }
    Err(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_by_its_first_bytes() {
        let kind = |text: &str| IdentityKind::of(text.as_bytes());
        assert_eq!(kind("# made\nAGE-SECRET-KEY-1QQ\n"), Ok(IdentityKind::KeyFile));
        assert_eq!(kind("age-encryption.org/v1\n-> scrypt"), Ok(IdentityKind::Passphrase));
        assert_eq!(kind("\nAGE-PLUGIN-TPM-1QQ\n"), Ok(IdentityKind::Plugin));
        let host = BASE64.encode(&[&CREDS_BY_HOST[0][..], &[0; 64]].concat());
        assert_eq!(kind(&host), Ok(IdentityKind::SystemdCreds { host_key: true }));
        let tpm = BASE64.encode(&[&CREDS_OTHERS[0][..], &[0; 64]].concat());
        assert_eq!(kind(&tpm), Ok(IdentityKind::SystemdCreds { host_key: false }));
        let ssh = |cipher: &str| {
            let len = u32::try_from(cipher.len()).unwrap().to_be_bytes();
            let body = BASE64.encode(&[OPENSSH_MAGIC, &len, cipher.as_bytes(), b"rest"].concat());
            format!("{OPENSSH_BEGIN}\n{body}\n{OPENSSH_END}\n")
        };
        assert_eq!(kind(&ssh("none")), Ok(IdentityKind::Ssh));
        assert_eq!(kind(&ssh("aes256-ctr")), Ok(IdentityKind::SshPassphrase));
    }

    #[test]
    fn what_is_no_identity_is_said_to_be_none() {
        let null = BASE64.encode(&[&CREDS_NULL[..], &[0; 64]].concat());
        for (text, says) in [
            ("", "no key"),
            ("# only a comment", "no key"),
            ("hunter2", "no age key"),
            ("AGE-SECRET-KEY-1QQ\nAGE-PLUGIN-TPM-1QQ", "mixes"),
            ("-----BEGIN RSA PRIVATE KEY-----", "ssh-keygen -p"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "damaged"),
            (&null, "null key"),
        ] {
            let why = IdentityKind::of(text.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{text:?}: {why}");
        }
        assert!(IdentityKind::of(&[0xff, 0xfe]).is_err());
    }
}
