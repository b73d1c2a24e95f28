//! What can be wrong with a configuration: always the operator's to mend.

use super::trust::TrustError;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named does not exist.
    #[error("there is no configuration file {}; leave --config out for the built-in defaults", .0.display())]
    Missing(PathBuf),
    /// The file could not be read, or another could change it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The text is not what it should be.
    #[error("{}:{line}:{column}: {message}\n  {line} | {source_line}\n  {} | {}^", path.display(),
        " ".repeat(line.to_string().len()), " ".repeat(column.saturating_sub(1)))]
    Text {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// That line of the file.
        source_line: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// Two things that were said do not fit.
    #[error("{0}")]
    Contradiction(String),
    /// A directory must be known and is not.
    #[error("neither ${variable} nor $HOME names a directory; set one of them")]
    NoDirectory {
        /// The variable that would name it.
        variable: &'static str,
    },
    /// The user or group of a host agent is missing or unfit.
    #[error("{0}")]
    Account(String),
}

/// The known name that is nearest to what was written, where one is near
/// enough to be meant.
#[must_use]
pub fn near_miss<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(written, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Edits (insert, remove, replace; swapped neighbours count once) between two names.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let mut best =
                (rows[i][j] + usize::from(l != r)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && left[i - 1] == *r && right[j - 1] == *l {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["socket", "policy_dir", "max_ttl"];
        assert_eq!(near_miss("sokcet", known), Some("socket"));
        assert_eq!(near_miss("policydir", known), Some("policy_dir"));
        assert_eq!(near_miss("colour", known), None);
    }
}
