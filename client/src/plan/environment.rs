//! References in variables that the caller has set: `jsi exec --env-refs`.

use super::{Item, Mode, Origin, Others, Text, is_variable, scrub};
use crate::failure::Failure;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Every variable whose value begins with `jsi:` or has `${jsi:` in it. Others
/// stay as they are, and so does any other `$` in these.
pub(super) fn items(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<Item>, Failure> {
    const INSIDE: &[u8] = b"${jsi:";
    let mut items = Vec::new();
    for (name, value) in variables {
        let value = value.as_bytes();
        if !value.starts_with(b"jsi:") && !value.windows(INSIDE.len()).any(|w| w == INSIDE) {
            continue;
        }
        // What is removed from the command's environment is not resolved into it.
        let Some(name) = name.to_str().filter(|n| is_variable(n) && scrub::reason(n).is_none())
        else {
            continue;
        };
        let text = Text::value(value, Others::Kept, |_| false).map_err(|error| {
            Failure::usage(format!("the variable {name} of this environment: {error}"))
                .advise("unset it, or leave --env-refs out")
        })?;
        if text.wants().next().is_some() {
            let (name, mode) = (name.to_owned(), Mode::Environment);
            items.push(Item { name, mode, text, origin: Origin::Environment });
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(variables: &[(&str, &str)]) -> Result<Vec<String>, Failure> {
        let items = items(variables.iter().map(|(n, v)| (n.into(), v.into())))?;
        Ok(items.into_iter().map(|item| item.name).collect())
    }

    #[test]
    fn only_variables_that_hold_references_are_resolved() {
        let variables = [
            ("A", "jsi:db/orders"),
            ("B", "x ${HOME} ${jsi:db/orders}"),
            ("C", "plain"),
            ("D", "$${jsi:db/orders}"),
            ("BASH_ENV", "jsi:db/orders"),
            ("E%%", "jsi:db/orders"),
        ];
        assert_eq!(planned(&variables).unwrap(), ["A", "B"]);
    }

    #[test]
    fn a_malformed_one_is_named_and_its_value_is_not() {
        let failure = planned(&[("TOKEN", "jsi:HUNTER2")]).unwrap_err();
        let said = format!("{failure:?}");
        assert!(said.contains("TOKEN") && !said.contains("HUNTER2"), "{said}");
    }
}
