//! What root vouches for: it raises assurance, so it counts only in a file that
//! root owns.

use super::error::ConfigError;
use super::load::Place;
use std::collections::BTreeSet;
use toml::Spanned;

impl Place<'_> {
    pub(super) fn isolated_uids(
        &self,
        uids: Option<&Spanned<Vec<u32>>>,
        file_owner: Option<u32>,
    ) -> Result<BTreeSet<u32>, ConfigError> {
        let Some(uids) = uids else { return Ok(BTreeSet::new()) };
        if file_owner != Some(0) && !uids.get_ref().is_empty() {
            return Err(self.error(
                uids,
                format!(
                    "isolated_uids raises assurance to level 3, so it counts only in a file that root owns; this one belongs to uid {}",
                    file_owner.unwrap_or(self.env.euid)
                ),
            ));
        }
        if uids.get_ref().contains(&0) {
            return Err(
                self.error(uids, "uid 0 is never isolated: every root process could tamper")
            );
        }
        Ok(uids.get_ref().iter().copied().collect())
    }

    pub(super) fn enforced_labels(
        &self,
        labels: Option<&Spanned<Vec<String>>>,
        file_owner: Option<u32>,
    ) -> Result<BTreeSet<String>, ConfigError> {
        let Some(labels) = labels else { return Ok(BTreeSet::new()) };
        if !labels.get_ref().is_empty() {
            self.by_root(labels, "enforced_labels", file_owner)?;
        }
        if let Some(bad) =
            labels.get_ref().iter().find(|label| label.trim() != *label || label.is_empty())
        {
            return Err(self.error(labels, format!("{bad:?} is no label; jsi whoami shows them")));
        }
        Ok(labels.get_ref().iter().cloned().collect())
    }

    pub(super) fn enforced_ima(
        &self,
        given: Option<&Spanned<bool>>,
        file_owner: Option<u32>,
    ) -> Result<bool, ConfigError> {
        let Some(given) = given else { return Ok(false) };
        if *given.get_ref() {
            self.by_root(given, "enforced_ima", file_owner)?;
        }
        Ok(*given.get_ref())
    }

    /// What raises assurance to level 4 counts only in a file that root owns.
    fn by_root<T>(
        &self,
        given: &Spanned<T>,
        key: &str,
        file_owner: Option<u32>,
    ) -> Result<(), ConfigError> {
        if file_owner == Some(0) {
            return Ok(());
        }
        let owner = file_owner.unwrap_or(self.env.euid);
        Err(self.error(
            given,
            format!(
                "{key} raises assurance to level 4, so it counts only in a file that root owns; this one belongs to uid {owner}"
            ),
        ))
    }

    pub(super) fn listed_libraries(
        &self,
        digests: Option<&Spanned<Vec<String>>>,
        file_owner: Option<u32>,
    ) -> Result<BTreeSet<[u8; 32]>, ConfigError> {
        let Some(digests) = digests else { return Ok(BTreeSet::new()) };
        if file_owner != Some(0) && !digests.get_ref().is_empty() {
            return Err(self.error(
                digests,
                format!(
                    "listed_libraries vouches for files at level 2, so it counts only in a file that root owns; this one belongs to uid {}",
                    file_owner.unwrap_or(self.env.euid)
                ),
            ));
        }
        let digest = |text: &String| {
            let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
                self.error(
                    digests,
                    format!("{text:?} is not a SHA-256 in lower-case hex, as sha256sum prints it"),
                )
            })
        };
        digests.get_ref().iter().map(digest).collect()
    }
}
