//! Strangers' text, as far as it may stand in a record.

use serde::{Serialize, Serializer};

/// A text of which only listed characters are shown, up to a bound; anything else becomes `_`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clean<'a> {
    text: &'a str,
    bound: usize,
    allowed: fn(char) -> bool,
}

impl<'a> Clean<'a> {
    /// `User-Agent`.
    pub(super) const fn client_info(text: &'a str) -> Self {
        Self {
            text,
            bound: 256,
            allowed: |c| c.is_ascii_alphanumeric() || " ._-/():;,+=@".contains(c),
        }
    }

    /// Ids of requests.
    pub(super) const fn id(text: &'a str) -> Self {
        Self {
            text,
            bound: 64,
            allowed: |c| c.is_ascii_alphanumeric() || "._:-".contains(c),
        }
    }

    /// `api-version`.
    pub(super) const fn version(text: &'a str) -> Self {
        Self {
            bound: 32,
            ..Self::id(text)
        }
    }

    /// Hosts, with a port or without.
    pub(super) const fn host(text: &'a str) -> Self {
        Self {
            bound: 260,
            ..Self::id(text)
        }
    }
}

impl std::fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        let mut shown = self.text.chars().take(self.bound);
        shown.try_for_each(|c| f.write_char(if (self.allowed)(c) { c } else { '_' }))
    }
}

impl Serialize for Clean<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_shows_bounded_plain_text_of_what_strangers_send() {
        let agent = "azsdk-python-keyvault-secrets/4.9.0 Python/3.13.5 (Linux-6.1; x86_64)";
        let bad = "\"},{\"resultType\":\"Success\n\u{202e}\0<script>";
        for (shown, expected) in [
            (Clean::client_info(agent).to_string(), agent),
            (
                Clean::client_info(bad).to_string(),
                "__,__resultType_:_Success____script_",
            ),
            (Clean::id("6b4c-1 x").to_string(), "6b4c-1_x"),
            (Clean::version("7.6-preview.1").to_string(), "7.6-preview.1"),
            (
                Clean::host("demo.team-a.svc:8443").to_string(),
                "demo.team-a.svc:8443",
            ),
        ] {
            assert_eq!(shown, expected);
        }
        assert_eq!(Clean::id(&"a".repeat(1_000)).to_string().len(), 64);
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_string(text in ".{0,400}") {
            let json = serde_json::to_string(&Clean::client_info(&text)).unwrap();
            prop_assert!(json.is_ascii() && json.len() <= 258);
            prop_assert!(!json[1..json.len() - 1].contains(['"', '\\', '\n']));
        }
    }
}
