//! A line for each change: for pipes, for screen readers, for terminals that
//! cannot move their cursor.

use super::follow::News;
use crate::failure::Failure;
use crate::output;
use crate::view;
use jsi_client::v1::Lease;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Words,
    /// One JSON value a line.
    Json,
}

/// Prints what is new.
pub(crate) fn print(news: &News, form: Form) -> Result<(), Failure> {
    let at = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let at = at.format(&Rfc3339).unwrap_or_default();
    let line = match form {
        Form::Words => words(news, &at),
        Form::Json => output::json_line(&value(news, &at)),
    };
    output::to_stdout(line.as_bytes())
}

fn kind(news: &News) -> String {
    match news {
        News::Changed { kind, .. } => view::event_kind(*kind),
        News::Synced => "synced".to_owned(),
        News::Lost => "lost".to_owned(),
        News::Gone(_) => "gone".to_owned(),
        News::Back => "back".to_owned(),
    }
}

/// Time, kind, lease, holder; nothing of it moves a cursor.
fn words(news: &News, at: &str) -> String {
    let rest = match news {
        News::Changed { lease, .. } => format!("{}  {}", lease.id, about(lease)),
        News::Synced => "these are all; changes follow".to_owned(),
        News::Lost => "changes were missed; these are all that there are now".to_owned(),
        News::Gone(why) => format!("no agent ({why}); trying again"),
        News::Back => "an agent answers again; these are all that it has".to_owned(),
    };
    output::printable(&format!("{at}  {:8}  {rest}", kind(news))) + "\n"
}

/// What is left or why it ended, and who holds it.
pub(super) fn about(lease: &Lease) -> String {
    let ended = view::end_reason(lease);
    let left = view::remaining(lease);
    let how = match (ended.as_str(), left.as_str()) {
        ("", "") => view::state(lease),
        ("", left) => format!("{left} left"),
        (why, _) => why.to_owned(),
    };
    format!("{how}  {}", view::holder(lease))
}

fn value(news: &News, at: &str) -> Value {
    let mut value = json!({ "at": at, "kind": kind(news) });
    match news {
        News::Changed { lease, .. } => value["lease"] = view::lease(lease),
        News::Gone(why) => value["why"] = json!(why),
        News::Synced | News::Lost | News::Back => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(kind: i32, exe: &str) -> News {
        let lease = Lease {
            id: "db/orders/abc".to_owned(),
            state: 2,
            remaining: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            holder_exe: exe.to_owned(),
            holder_pid: 7,
            holder_uid: 1000,
            ..Lease::default()
        };
        News::Changed { kind, lease: Box::new(lease) }
    }

    #[test]
    fn a_change_is_one_line_whatever_a_holder_is_called() {
        let line = words(&changed(2, "/tmp/a\nb\x1b[2J"), "T");
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.contains('\x1b'));
        assert!(line.starts_with("T  granted   db/orders/abc  1m30s left  /tmp/a"), "{line}");
    }

    #[test]
    fn a_kind_of_a_later_version_is_told_as_unknown() {
        assert!(words(&changed(99, "/bin/sh"), "T").starts_with("T  unknown"));
        assert_eq!(value(&changed(99, "/bin/sh"), "T")["kind"], "unknown");
    }

    #[test]
    fn json_has_a_lease_where_there_is_one() {
        assert_eq!(value(&changed(5, "/bin/sh"), "T")["lease"]["id"], "db/orders/abc");
        assert_eq!(value(&News::Gone("x".to_owned()), "T")["why"], "x");
        assert!(value(&News::Synced, "T").get("lease").is_none());
    }
}
