//! The published schema, parsed.

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

/// The schema, as published: `agent/src/policy/jsi.cedarschema`.
pub const SCHEMA: &str = include_str!("jsi.cedarschema");
/// Policies that every agent has: `agent/src/policy/builtin.cedar`.
pub const BUILTIN: &str = include_str!("builtin.cedar");

/// Parses [`SCHEMA`]. That it parses is a test; an error is a bug of this build.
pub(super) fn schema() -> Result<Schema, String> {
    Schema::from_cedarschema_str(SCHEMA)
        .map(|(schema, _)| schema)
        .map_err(|error| error.to_string())
}

/// The kinds of entities of [`SCHEMA`].
const KINDS: [&str; 9] =
    ["Action", "Agent", "Credential", "Group", "Path", "Requester", "Scope", "Unit", "User"];

/// `Kind::"id"`.
///
/// Kinds are parsed once: Cedar takes some ten microseconds for each, and a
/// decision names a dozen.
pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    static PARSED: LazyLock<HashMap<&'static str, EntityTypeName>> = LazyLock::new(|| {
        let parsed = KINDS.map(|kind| Some((kind, EntityTypeName::from_str(kind).ok()?)));
        parsed.into_iter().flatten().collect()
    });
    let kind = PARSED.get(kind).ok_or_else(|| format!("the schema has no entities {kind}"))?;
    Ok(EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_schema_is_known() {
        for kind in schema().unwrap().entity_types() {
            assert!(uid(&kind.to_string(), "x").is_ok(), "{kind}");
        }
        assert!(uid("Action", "request").is_ok());
        assert!(uid("Nobody", "x").is_err());
    }

    #[test]
    fn the_published_schema_parses_without_a_warning() {
        let (_, warnings) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), [""; 0]);
    }
}
