//! `jsi secret rotate`: new values, while leases live.

use super::input;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, terminal, view};
use jsi_client::v1::GeneratedValue;
use jsi_client::{NewValues, credential_name};
use serde_json::json;

/// Characters of a generated value where none are named: 190 bits.
const LENGTH: &str = "32";
/// A generated value that is easier to guess than this is warned of, in bits.
const WEAK_BITS: f64 = 64.0;

#[derive(clap::Args)]
#[command(after_help = "\
Owner, purpose, and the fields that are not named stay as they are. Leases on it stay:
their holders are told, and whoever asks again gets the new value. --revoke ends them.
A generated value is made by the agent and shown to nobody; jsi get reads it.
The log has who did it, when, which fields, and the version; no value.
  printf %s \"$NEW\" | jsi secret rotate db/orders
  jsi secret rotate db/orders --field password --generate=40 --charset ascii
  jsi secret rotate db/orders --generate --revoke --dry-run
Sets of characters: alnum, ascii, hex, digits, base64url, or the characters themselves.")]
pub(super) struct Arguments {
    /// The credential
    #[arg(value_parser = credential_name)]
    name: String,
    /// A field; NAME=- takes its value from standard input [default: the default one]
    #[arg(long = "field", value_name = "NAME[=-]", value_parser = input::field)]
    fields: Vec<input::Field>,
    /// Read the fields from standard input, as json: {"NAME": "value"}
    #[arg(long, value_name = "json", value_enum, hide_possible_values = true, conflicts_with_all = ["fields", "generate"])]
    fields_from: Option<super::From>,
    /// Let the agent make the value, of that many characters [default: 32]
    #[arg(long, value_name = "LENGTH", num_args = 0..=1, require_equals = true, default_missing_value = LENGTH)]
    generate: Option<u32>,
    /// The characters to choose from
    #[arg(long, value_name = "SET", default_value = "alnum", requires = "generate", value_parser = alphabet)]
    charset: String,
    /// End the leases on it
    #[arg(long)]
    revoke: bool,
    /// Keep a trailing newline
    #[arg(long)]
    exact: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputFlag,
}

/// For clap: a named set of characters, or the characters themselves.
fn alphabet(text: &str) -> Result<String, String> {
    let span = |from: char, to: char| (from..=to).collect::<String>();
    let alnum = span('a', 'z') + &span('A', 'Z') + &span('0', '9');
    let set = match text {
        "alnum" => alnum,
        "ascii" => span('!', '~'),
        "hex" => span('0', '9') + &span('a', 'f'),
        "digits" => span('0', '9'),
        "base64url" => alnum + "-_",
        own => own.to_owned(),
    };
    let mut letters: Vec<char> = set.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    if letters.len() < 2
        || letters.len() != set.len()
        || !letters.iter().all(char::is_ascii_graphic)
    {
        return Err(
            "it is none of the sets, and not at least two different characters of printable ASCII"
                .to_owned(),
        );
    }
    Ok(set)
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { name, fields, fields_from, generate, charset, revoke, exact, dry_run, output } =
        arguments;
    let mut values = NewValues::new(&name);
    (values.revoke, values.dry_run) = (revoke, dry_run);
    match generate {
        Some(length) => values.generate = Some(generated(&fields, length, charset)?),
        None if dry_run && fields_from.is_none() => {
            // Nothing is asked for that would not be used.
            let names: Vec<_> = fields.iter().map(input::Field::name).collect();
            for name in if names.is_empty() { vec![""] } else { names } {
                values.field(name, Vec::new().into());
            }
        }
        None => {
            for field in given(fields, fields_from, exact)? {
                if field.value.is_empty() {
                    return Err(Failure::usage("the new value is empty"));
                }
                values.field(&field.name, field.value);
            }
        }
    }
    let done = session::block_on(async { session::admin().await?.rotate(values).await })?;
    let secret = done.secret.unwrap_or_default();
    let (told, ended) = (done.leases_told, done.leases_ended);
    let fields = done.fields.join(", ");
    output::note(&if dry_run {
        format!(
            "would rotate {name} ({fields}), now version {}; live leases that would be told: {told}, ended: {ended}",
            secret.version
        )
    } else {
        format!(
            "rotated {name} ({fields}), version {}; live leases told: {told}, ended: {ended}",
            secret.version
        )
    });
    if output.format == output::Format::Json {
        let json = || {
            json!({
                "secret": view::secret(&secret), "fields": done.fields, "dry_run": dry_run,
                "leases_told": told, "leases_ended": ended,
            })
        };
        return output::print(output, json, String::new);
    }
    Ok(())
}

fn generated(
    fields: &[input::Field],
    length: u32,
    alphabet: String,
) -> Result<GeneratedValue, Failure> {
    let field = match fields {
        [] => String::new(),
        [field] => field.name().to_owned(),
        _ => return Err(Failure::usage("one value is generated at a time: name one field")),
    };
    if length == 0 || length > 4096 {
        return Err(Failure::usage("a generated value has 1 to 4096 characters"));
    }
    let letters = u32::try_from(alphabet.len()).unwrap_or(u32::MAX);
    let bits = f64::from(length) * f64::from(letters).log2();
    if bits < WEAK_BITS {
        output::note(&format!(
            "warning: {length} of {letters} characters have {bits:.0} bits, which can be guessed"
        ));
    }
    Ok(GeneratedValue { field, length, alphabet })
}

/// The values; where no field is named, one for the default field.
fn given(
    fields: Vec<input::Field>,
    from: Option<super::From>,
    exact: bool,
) -> Result<Vec<input::Filled>, Failure> {
    if from.is_some() {
        return input::from_json(&terminal::all_input()?);
    }
    let unnamed = fields.is_empty();
    let mut filled = input::from_flags(fields, exact)?;
    if unnamed {
        filled.iter_mut().for_each(|field| field.name.clear());
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_characters_are_named_or_written_out() {
        assert_eq!(alphabet("alnum").unwrap().len(), 62);
        assert_eq!(alphabet("ascii").unwrap().len(), 94);
        assert_eq!(alphabet("base64url").unwrap().len(), 64);
        assert_eq!(alphabet("xyz").unwrap(), "xyz");
        for bad in ["", "a", "aa", "a b", "aä"] {
            assert!(alphabet(bad).is_err(), "{bad:?}");
        }
    }
}
