//! The published schema, parsed.

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use std::str::FromStr;

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

/// `Kind::"id"`.
pub(super) fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind = EntityTypeName::from_str(kind).map_err(|error| error.to_string())?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schema_parses_without_a_warning() {
        let (_, warnings) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), [""; 0]);
    }
}
