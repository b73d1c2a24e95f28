//! The tables of the file whose keys depend on what stands in them: an issuer's
//! on its kind, a credential's on its issuer. They are taken from the document
//! by name, with the place of each key and value, so that errors have a line.

use super::error::{ConfigError, near_miss};
use super::raw::{Source, with_suggestion};
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// One table, `[issuers.NAME]` or `[credentials."NAME"]`.
pub(super) struct Section<'a> {
    source: Source<'a>,
    /// NAME.
    pub(super) name: String,
    /// Where NAME stands.
    span: Range<usize>,
    table: DeTable<'a>,
    table_span: Range<usize>,
    /// Keys that were taken out for somebody else; still known here.
    known_besides: &'static [&'static str],
}

/// The tables below `[top]`, in order of their names.
pub(super) fn sections<'a>(source: Source<'a>, top: &str) -> Result<Vec<Section<'a>>, ConfigError> {
    let document = DeTable::parse(source.text).map_err(|error| source.toml(&error))?;
    let tops = document.into_inner().into_iter();
    let Some((_, below)) = tops.into_iter().find(|(key, _)| key.get_ref() == top) else {
        return Ok(Vec::new());
    };
    let below = table(source, below, top)?.1;
    let section = |(name, value): (Spanned<_>, _)| {
        let span = name.span();
        let name: std::borrow::Cow<'_, str> = name.into_inner();
        let (table_span, table) = table(source, value, &name)?;
        let name = name.into_owned();
        Ok(Section { source, name, span, table, table_span, known_besides: &[] })
    };
    below.into_iter().map(section).collect()
}

fn table<'a>(
    source: Source<'_>,
    value: Spanned<DeValue<'a>>,
    name: &str,
) -> Result<(Range<usize>, DeTable<'a>), ConfigError> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok((span, table)),
        _ => Err(source.error(span, format!("{name} is to be a table"))),
    }
}

impl<'a> Section<'a> {
    /// The value of a key, where it is a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)?.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// An error at the name of the table.
    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        self.source.error(self.span.clone(), message)
    }

    /// An error at the value of that key, or else at the table's name.
    pub(super) fn error_at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let span = self.value(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.source.error(span, message)
    }

    /// An error at a value that was read.
    pub(super) fn error_of<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> ConfigError {
        self.source.error(at.span(), message)
    }

    fn value(&self, key: &str) -> Option<&Spanned<DeValue<'a>>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// Takes these keys out into a section of their own; both still know of the
    /// other's.
    pub(super) fn split(mut self, keys: &'static [&'static str]) -> (Self, Self) {
        let mut taken = DeTable::new();
        let mut rest = DeTable::new();
        for (key, value) in std::mem::take(&mut self.table) {
            let goal = if keys.contains(&key.get_ref().as_ref()) { &mut taken } else { &mut rest };
            goal.insert(key, value);
        }
        let (name, span) = (self.name.clone(), self.span.clone());
        let taken = Section {
            source: self.source,
            name,
            span,
            table: taken,
            table_span: self.table_span.clone(),
            known_besides: &[],
        };
        (taken, Self { table: rest, known_besides: keys, ..self })
    }

    /// Refuses every key but these.
    pub(super) fn only(&self, keys: &[&str]) -> Result<(), ConfigError> {
        let Some(strange) = self.table.keys().find(|key| !keys.contains(&key.get_ref().as_ref()))
        else {
            return Ok(());
        };
        let written = strange.get_ref();
        let known: Vec<&str> =
            self.known_besides.iter().copied().chain(keys.iter().copied()).collect();
        let message = match near_miss(written, known.iter().copied()) {
            Some(near) => format!("unknown key `{written}`; did you mean `{near}`?"),
            None => format!("unknown key `{written}`; known here: {}", known.join(", ")),
        };
        Err(self.source.error(strange.span(), message))
    }

    /// Reads the table.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let whole = Spanned::new(self.table_span.clone(), self.table.clone());
        T::deserialize(Deserializer::from(whole)).map_err(|error| {
            let span = error.span().filter(|span| !span.is_empty());
            let message = with_suggestion(error.message());
            self.source.error(span.unwrap_or_else(|| self.span.clone()), message)
        })
    }
}
