//! The project file's own words: TOML, read strictly, each mistake with its
//! place and what may have been meant.
//!
//! ```toml
//! version = 1                      # of this format; may be left out
//! dotenv = [".env", { path = ".env.local", optional = true }]
//! [env]
//! DATABASE_URL = "postgres://app:${jsi:db/orders#password|urlencode}@localhost/orders"
//! PGPASSWORD = "jsi:db/orders#password"
//! TOKEN = { ref = "ci/deploy", ttl = "15m", scope = { repository = "app" } }
//! [fd]
//! KEY_FILE = "jsi:tls/key"
//! [file]
//! PGPASSFILE = "localhost:*:*:app:${jsi:db/orders#password}"
//! [template]
//! APP_CONFIG = "app.yaml.tmpl"     # filled in; the variable is the path of the result
//! [profile.ci.env]                 # `--profile ci`: all of these again, but version
//! LOG_LEVEL = "debug"
//! ```
//!
//! A section that hands its values over in another way is a [`Mode`] and a line
//! in `SECTIONS`.

use crate::failure::Failure;
use crate::place::{Source, near};
use crate::plan::{Item, Mode, Origin, Others, Text, is_variable};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Sections of variables, and how the command gets what they name.
const SECTIONS: [(&str, Mode); 3] =
    [("env", Mode::Environment), ("fd", Mode::Descriptor), ("file", Mode::File)];
/// Other keys of a layer.
const DOTENV: &str = "dotenv";
/// A section of files that are filled in.
const TEMPLATE: &str = "template";
/// The only format there is.
const VERSION: &str = "1";

/// What a project file says.
#[derive(Default)]
pub(crate) struct Document {
    /// What always holds.
    pub(crate) base: Layer,
    /// What holds over it, by name.
    pub(crate) profiles: BTreeMap<String, Layer>,
}

/// Some dotenv files, and variables over them.
#[derive(Default)]
pub(crate) struct Layer {
    /// In their order.
    pub(crate) dotenv: Vec<Dotenv>,
    /// Their names are unique, with those of the templates.
    pub(crate) items: Vec<Item>,
    /// Not read yet.
    pub(crate) templates: Vec<Template>,
}

/// A file with references in it that a project names.
pub(crate) struct Template {
    /// The variable that is to hold the path of what becomes of it.
    pub(crate) name: String,
    /// As written: relative to the project file's directory.
    pub(crate) path: PathBuf,
}

/// A dotenv file that a project names.
pub(crate) struct Dotenv {
    /// As written: relative to the project file's directory.
    pub(crate) path: PathBuf,
    /// It may be missing.
    pub(crate) optional: bool,
}

/// Reads a project file's text.
pub(crate) fn parse(source: &Source<'_>, bytes: &[u8]) -> Result<Document, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| source.fault(error.valid_up_to(), "this is not UTF-8"))?;
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map(|span| span.start).unwrap_or_default();
        source.fault(at, error.message())
    })?;
    let mut document = Document::default();
    for (key, value) in table.get_ref() {
        match key.get_ref().as_ref() {
            "version" => version(source, value)?,
            "profile" => {
                for (name, layer) in table_of(source, value, "a table for each profile")? {
                    let mut made = Layer::default();
                    for (key, value) in table_of(source, layer, "a table")? {
                        made.take(source, key, value, &[])?;
                    }
                    document.profiles.insert(name.get_ref().to_string(), made);
                }
            }
            _ => document.base.take(source, key, value, &["version", "profile"])?,
        }
    }
    Ok(document)
}

type Key<'i> = Spanned<toml::de::DeString<'i>>;
type Value<'i> = Spanned<DeValue<'i>>;

impl Layer {
    fn take(
        &mut self,
        source: &Source<'_>,
        key: &Key<'_>,
        value: &Value<'_>,
        others: &[&str],
    ) -> Result<(), Failure> {
        let word = key.get_ref().as_ref();
        if word == DOTENV {
            self.dotenv = dotenv(source, value)?;
            return Ok(());
        }
        let Some(mode) = SECTIONS.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode)
        else {
            if word == TEMPLATE {
                return self.take_templates(source, value);
            }
            let sections = SECTIONS.iter().map(|(name, _)| *name);
            let known = sections.chain([TEMPLATE, DOTENV]).chain(others.iter().copied());
            return Err(unknown(source, key, known));
        };
        let others = self.names();
        for (name, value) in table_of(source, value, "a table of variables")? {
            let item = item(source, name, value, mode)?;
            alone(source, name, &others)?;
            self.items.push(item);
        }
        Ok(())
    }

    fn take_templates(&mut self, source: &Source<'_>, value: &Value<'_>) -> Result<(), Failure> {
        let others = self.names();
        for (name, value) in table_of(source, value, "a table of variables")? {
            let path = string(source, value)?;
            if path.is_empty() {
                return Err(source.fault(value.span().start, "no path is given"));
            }
            let named = variable(source, name)?;
            alone(source, name, &others)?;
            self.templates.push(Template { name: named, path: path.into() });
        }
        Ok(())
    }

    fn names(&self) -> HashSet<String> {
        let items = self.items.iter().map(|item| item.name.clone());
        items.chain(self.templates.iter().map(|template| template.name.clone())).collect()
    }
}

/// No section before it names it; within one, TOML sees to that.
fn alone(source: &Source<'_>, name: &Key<'_>, others: &HashSet<String>) -> Result<(), Failure> {
    if others.contains(name.get_ref().as_ref()) {
        let why = format!("{} stands in another section already", name.get_ref());
        return Err(source.fault(name.span().start, why));
    }
    Ok(())
}

fn variable(source: &Source<'_>, name: &Key<'_>) -> Result<String, Failure> {
    if is_variable(name.get_ref()) {
        return Ok(name.get_ref().to_string());
    }
    let why = "a variable's name has letters, digits and underscores, and no digit first";
    Err(source.fault(name.span().start, why))
}

fn version(source: &Source<'_>, value: &Value<'_>) -> Result<(), Failure> {
    match value.get_ref() {
        DeValue::Integer(found) if found.as_str() == VERSION => Ok(()),
        _ => Err(source
            .fault(value.span().start, "this jsi knows version 1 of project files only")
            .advise("a newer jsi may know it")),
    }
}

fn dotenv(source: &Source<'_>, value: &Value<'_>) -> Result<Vec<Dotenv>, Failure> {
    let DeValue::Array(files) = value.get_ref() else {
        return Err(source.fault(value.span().start, "write it as a list: dotenv = [\".env\"]"));
    };
    files.iter().map(|file| dotenv_file(source, file)).collect()
}

fn dotenv_file(source: &Source<'_>, value: &Value<'_>) -> Result<Dotenv, Failure> {
    let (mut path, mut optional) = (None, false);
    match value.get_ref() {
        DeValue::String(given) => path = Some(given.to_string()),
        _ => {
            for (key, value) in table_of(source, value, "a path, or { path = …, optional = true }")?
            {
                match (key.get_ref().as_ref(), value.get_ref()) {
                    ("path", DeValue::String(given)) => path = Some(given.to_string()),
                    ("optional", DeValue::Boolean(given)) => optional = *given,
                    ("path", _) => return Err(wanted(source, value, "a string")),
                    ("optional", _) => return Err(wanted(source, value, "true or false")),
                    _ => return Err(unknown(source, key, ["path", "optional"])),
                }
            }
        }
    }
    match path {
        Some(path) if !path.is_empty() => Ok(Dotenv { path: path.into(), optional }),
        _ => Err(source.fault(value.span().start, "no path is given")),
    }
}

/// `NAME = "text"` or `NAME = { ref = … }`.
fn item(
    source: &Source<'_>,
    name: &Key<'_>,
    value: &Value<'_>,
    mode: Mode,
) -> Result<Item, Failure> {
    let at = name.span().start;
    let name = variable(source, name)?;
    let text = match value.get_ref() {
        DeValue::String(_) => text(source, value)?,
        DeValue::Table(table) => detailed(source, value, table)?,
        _ => return Err(wanted(source, value, "a string, or { ref = … }")),
    };
    let origin = Origin::File { path: source.path(), line: source.line(at) };
    Ok(Item { name, mode, text, origin })
}

/// `{ ref = "db/orders#password", ttl = "15m", scope = { role = "reader" } }`;
/// `value` instead of `ref` is text with references in it.
fn detailed(source: &Source<'_>, whole: &Value<'_>, table: &DeTable<'_>) -> Result<Text, Failure> {
    let mut text_of = None;
    let mut ttl: Option<Duration> = None;
    let mut scope = BTreeMap::new();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "ref" | "value" if text_of.is_some() => {
                return Err(source.fault(key.span().start, "give either ref or value"));
            }
            "ref" => {
                let found = Text::reference(string(source, value)?);
                text_of = Some(found.map_err(|error| source.fault(value.span().start, error))?);
            }
            "value" => text_of = Some(text(source, value)?),
            "ttl" => {
                let found = jsi_client::parse_ttl(string(source, value)?);
                ttl = Some(found.map_err(|error| source.fault(value.span().start, error))?);
            }
            "scope" => {
                for (key, value) in table_of(source, value, "a table: { role = \"reader\" }")? {
                    scope.insert(key.get_ref().to_string(), string(source, value)?.to_owned());
                }
            }
            _ => return Err(unknown(source, key, ["ref", "value", "ttl", "scope"])),
        }
    }
    let Some(mut text) = text_of else {
        return Err(source.fault(whole.span().start, "neither ref nor value is given"));
    };
    for want in text.wants_mut() {
        want.ttl = ttl;
        want.scope = scope.clone();
    }
    Ok(text)
}

fn text(source: &Source<'_>, value: &Value<'_>) -> Result<Text, Failure> {
    Text::value(string(source, value)?.as_bytes(), Others::Refused, |_| false)
        .map_err(|error| source.fault(value.span().start, error))
}

fn string<'a>(source: &Source<'_>, value: &'a Value<'_>) -> Result<&'a str, Failure> {
    value.get_ref().as_str().ok_or_else(|| wanted(source, value, "a string"))
}

fn table_of<'a, 'i>(
    source: &Source<'_>,
    value: &'a Value<'i>,
    what: &str,
) -> Result<&'a DeTable<'i>, Failure> {
    value.get_ref().as_table().ok_or_else(|| wanted(source, value, what))
}

fn wanted(source: &Source<'_>, value: &Value<'_>, what: &str) -> Failure {
    let found = value.get_ref().type_str();
    source.fault(value.span().start, format!("this is to be {what}, and is of type {found}"))
}

fn unknown<'k>(
    source: &Source<'_>,
    key: &Key<'_>,
    known: impl IntoIterator<Item = &'k str>,
) -> Failure {
    let known: Vec<&str> = known.into_iter().collect();
    let failure = source.fault(key.span().start, "there is no such key");
    match near(key.get_ref(), known.iter().copied()) {
        Some(near) => failure.advise(format!("did you mean {near}?")),
        None => failure.advise(format!("there are: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Document, String> {
        let source = Source::new(Path::new("jsi.toml"), text.as_bytes());
        parse(&source, text.as_bytes()).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn a_project_names_variables_descriptors_and_dotenv_files() {
        let text = r#"
            version = 1
            dotenv = [".env", { path = ".env.local", optional = true }]
            [env]
            URL = "postgres://${jsi:db/orders#user}@h/$${x}"
            PLAIN = "x"
            TOKEN = { ref = "ci/deploy#t|base64", ttl = "15m", scope = { repository = "app" } }
            [fd]
            KEY = "jsi:tls/key"
            [profile.ci]
            dotenv = ["ci.env"]
            [profile.ci.env]
            PLAIN = "y"
        "#;
        let document = read(text).unwrap();
        let base = &document.base;
        let names: Vec<_> = base.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(base.dotenv.len(), 2);
        assert!(base.dotenv[1].optional && !base.dotenv[0].optional);
        let item = |name: &str| base.items.iter().find(|item| item.name == name).unwrap();
        assert_eq!(names.len(), 4);
        assert_eq!(item("KEY").mode, Mode::Descriptor);
        assert_eq!(item("PLAIN").text.wants().count(), 0);
        let token = item("TOKEN").text.wants().next().unwrap();
        assert_eq!(token.to_string(), "ci/deploy#t|base64");
        assert_eq!(token.ttl, Some(Duration::from_secs(900)));
        assert_eq!(token.scope["repository"], "app");
        assert_eq!(
            item("TOKEN").origin,
            Origin::File { path: Path::new("jsi.toml").into(), line: 7 }
        );
        let ci = &document.profiles["ci"];
        assert_eq!((ci.dotenv.len(), ci.items.len()), (1, 1));
    }

    #[test]
    fn the_example_says_what_it_means() {
        let document = read(include_str!("../../../contrib/examples/jsi.toml")).unwrap();
        let base = &document.base;
        assert_eq!((base.items.len(), base.templates.len(), document.profiles.len()), (7, 1, 1));
    }

    #[test]
    fn mistakes_are_named_by_place_with_what_may_have_been_meant() {
        for (text, place, said) in [
            ("[enf]\nA='b'", "1:2", "did you mean env?"),
            ("dotnev = []", "1:1", "did you mean dotenv?"),
            ("quite = 'x'", "1:1", "there are: env, fd, file, template, dotenv, version, profile"),
            ("[profile.ci]\nversion = 1", "2:1", "no such key"),
            ("version = 2", "1:11", "version 1"),
            ("version = '1'", "1:11", "version 1"),
            ("[env]\nA = 5", "2:5", "a string"),
            ("[env]\n\"A-B\" = 'x'", "2:1", "letters"),
            ("[env]\nA = 'jsi:HUNTER2'", "2:5", "no reference"),
            ("[env]\nA = 'x${jsi:a'", "2:5", "not closed"),
            ("[env]\nA = '${HOME}'", "2:5", "$${"),
            ("[env]\nA = { reff = 'a' }", "2:7", "did you mean ref?"),
            ("[env]\nA = { ref = 'a', value = 'b' }", "2:18", "either"),
            ("[env]\nA = { ttl = '5m' }", "2:5", "neither"),
            ("[env]\nA = { ref = 'a', ttl = 'soon' }", "2:24", ""),
            ("[env]\nA = { ref = 'a', scope = 'x' }", "2:26", "a table"),
            ("[env]\nA = 'x'\n[fd]\nA = 'jsi:a'", "4:1", "another section"),
            ("[env]\nA = 'x'\nA = 'y'", "3:1", "duplicate"),
            ("[file]\nA = 'x'\n[template]\nA = 'x'", "4:1", "another section"),
            ("[template]\nA = ''", "2:5", "no path"),
            ("[template]\nA = { ref = 'a' }", "2:5", "a string"),
            ("dotenv = '.env'", "1:10", "a list"),
            ("dotenv = [{ optional = true }]", "1:11", "no path"),
            ("[env\n", "1:5", ""),
            ("env = 'HUNTER2'", "1:7", "a table"),
            ("[env]\nA = \"\\q\"", "2:7", ""),
        ] {
            let Err(found) = read(text) else { panic!("{text}") };
            assert!(found.contains(&format!("jsi.toml:{place}:")), "{text:?}: {found}");
            assert!(found.contains(said), "{text:?}: {found}");
            assert!(!found.contains("HUNTER2"), "{found}");
        }
    }
}
