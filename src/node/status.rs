//! What is known about a volume, for whoever waits for it.

use std::sync::Arc;

use tokio::time::Instant;

use super::files::{Device, FilesError};
use crate::model::Kind;

/// Longest text of another process that is passed on to a person.
const MAX_TEXT: usize = 1024;
/// What is known about a volume now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// Which file system is mounted; none before the first files.
    pub(super) mounted: Option<Device>,
    /// What was heard last.
    pub(super) answer: Answer,
    /// Since when `serve` refuses a mounted volume, which then stays as it is.
    pub(super) refused_since: Option<Instant>,
}

/// What was heard last about a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing yet.
    Nothing,
    /// Its files, which are mounted.
    Files,
    /// A refusal.
    Refused { kind: Kind, message: Arc<str> },
    /// That there is no answer for now.
    Unavailable { message: Arc<str> },
    /// Its files, which could not be mounted.
    Failed(FilesError),
    /// That its pod is being deleted.
    PodEnding,
}

/// A text of another process as it may stand in an event: bounded, one line.
pub(super) fn for_a_person(text: &str) -> Arc<str> {
    let mut shown = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if shown.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        shown.push(c);
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_bounded_and_one_line() {
        assert_eq!(&*for_a_person("a\nb\0c"), "a b c");
        assert_eq!(for_a_person(&"é".repeat(2000)).len(), MAX_TEXT);
        assert_eq!(
            for_a_person(&format!("x{}", "é".repeat(2000))).len(),
            MAX_TEXT - 1
        );
    }
}
