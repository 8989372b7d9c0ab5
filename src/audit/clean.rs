//! Strangers' text, as far as it may stand in a record.

/// A text of which only listed characters are shown, up to a bound; any other becomes `_`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clean<'a> {
    text: &'a str,
    bound: usize,
    allowed: Allowed,
}

/// The ASCII characters that are shown, a bit each.
type Allowed = u128;

const fn letters_digits_and(others: &[u8]) -> Allowed {
    let mut allowed = 0;
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            allowed |= 1 << byte;
        }
        byte += 1;
    }
    let mut rest = others;
    while let [first, tail @ ..] = rest {
        allowed |= 1 << *first;
        rest = tail;
    }
    allowed
}

const IN_CLIENT_INFO: Allowed = letters_digits_and(b" ._-/():;,+=@");
const IN_IDS: Allowed = letters_digits_and(b"._:-");

impl<'a> Clean<'a> {
    /// `User-Agent`.
    pub(super) const fn client_info(text: &'a str) -> Self {
        Self {
            text,
            bound: 256,
            allowed: IN_CLIENT_INFO,
        }
    }

    /// Ids of requests.
    pub(super) const fn id(text: &'a str) -> Self {
        Self {
            text,
            bound: 64,
            allowed: IN_IDS,
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

    /// Writes it: ASCII without quotes, backslashes and control characters.
    pub(super) fn push_to(self, out: &mut Vec<u8>) {
        let shown = |byte: &u8| {
            let allowed = *byte < 128 && self.allowed >> *byte & 1 == 1;
            if allowed { *byte } else { b'_' }
        };
        let bytes = self.text.as_bytes();
        let is_shown = |byte: &u8| *byte < 128 && self.allowed >> *byte & 1 == 1;
        if bytes.len() <= self.bound && bytes.iter().all(is_shown) {
            return out.extend_from_slice(bytes);
        }
        // A character is as much as its first byte.
        let characters = self.text.as_bytes().iter().filter(|byte| **byte & 0xc0 != 0x80);
        out.extend(characters.take(self.bound).map(shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: Clean<'_>) -> String {
        let mut out = Vec::new();
        text.push_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_shows_bounded_plain_text_of_what_strangers_send() {
        let agent = "azsdk-python-keyvault-secrets/4.9.0 Python/3.13.5 (Linux-6.1; x86_64)";
        let bad = "\"},{\"resultType\":\"Success\n\u{202e}\0<script>";
        for (shown, expected) in [
            (shown(Clean::client_info(agent)), agent),
            (
                shown(Clean::client_info(bad)),
                "__,__resultType_:_Success____script_",
            ),
            (shown(Clean::id("6b4c-1 x")), "6b4c-1_x"),
            (shown(Clean::version("7.6-preview.1")), "7.6-preview.1"),
            (shown(Clean::host("demo.team-a.svc:8443")), "demo.team-a.svc:8443"),
        ] {
            assert_eq!(shown, expected);
        }
        assert_eq!(shown(Clean::id(&"a".repeat(1_000))).len(), 64);
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_string(text in ".{0,400}") {
            let shown = shown(Clean::client_info(&text));
            prop_assert!(shown.is_ascii() && shown.len() <= 256);
            prop_assert!(!shown.contains(['"', '\\', '\n']));
        }
    }
}
