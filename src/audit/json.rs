//! A line of JSON, written member by member into one buffer.
//!
//! A record has up to thirty members and nearly every request leaves one. Through a serialiser and displayed pieces of text
//! a line took some 18,000 instructions, this way some 11,000.

use std::fmt::{Display, Write as _};

/// An object that is being written.
pub(super) struct Members<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

/// Writes an object.
pub(super) fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Members<'_>)) {
    out.push(b'{');
    fill(&mut Members { out, is_first: true });
    out.push(b'}');
}

impl Members<'_> {
    fn key(&mut self, key: &'static str) {
        self.out
            .extend_from_slice(if self.is_first { b"\"" } else { b",\"" });
        self.is_first = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A text, in pieces.
    pub(super) fn text(&mut self, key: &'static str, pieces: &[&str]) {
        self.key(key);
        self.out.push(b'"');
        pieces.iter().for_each(|piece| push_escaped(self.out, piece));
        self.out.push(b'"');
    }

    /// A text, if there is one.
    pub(super) fn some_text(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, &[text]);
        }
    }

    /// A text that is written by `write`, which writes plain text alone.
    pub(super) fn plain(&mut self, key: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        self.out.push(b'"');
        write(self.out);
        self.out.push(b'"');
    }

    /// A text, as it is displayed.
    pub(super) fn shown(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        self.out.push(b'"');
        // Writing to memory does not fail.
        let _ = write!(Escaped(self.out), "{value}");
        self.out.push(b'"');
    }

    /// A text as it is displayed, if there is one.
    pub(super) fn some_shown(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.shown(key, value);
        }
    }

    /// A whole number, if there is one.
    pub(super) fn some_number(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.key(key);
            push_digits(self.out, value, 1);
        }
    }

    /// A number of thousandths, with three decimals, if there is one.
    pub(super) fn some_thousandths(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.key(key);
            push_digits(self.out, value / 1000, 1);
            self.out.push(b'.');
            push_digits(self.out, value % 1000, 3);
        }
    }

    /// A truth, if there is one.
    pub(super) fn some_truth(&mut self, key: &'static str, value: Option<bool>) {
        if let Some(value) = value {
            self.key(key);
            self.out.extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    /// An object in it.
    pub(super) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut Members<'_>)) {
        self.key(key);
        object(self.out, fill);
    }
}

/// Decimal digits, with zeros in front up to `least`.
pub(super) fn push_digits(out: &mut Vec<u8>, mut value: u64, least: usize) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        if value == 0 && used >= least {
            break;
        }
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        used += 1;
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

struct Escaped<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

/// Nearly all text is plain; what is not is escaped as `serde_json` does it.
fn push_escaped(out: &mut Vec<u8>, text: &str) {
    // Without a way out of the loop, so that it is done many bytes at a time.
    let special = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\') | (*byte > 0x7e);
    let is_plain = !text
        .as_bytes()
        .iter()
        .fold(false, |found, byte| found | special(byte));
    if is_plain {
        out.extend_from_slice(text.as_bytes());
    } else if let Ok(quoted) = serde_json::to_string(text) {
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        out.extend_from_slice(inner.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_a_json_parser_reads(text: String, pieces in proptest::collection::vec(".{0,9}", 0..4), micros: u32, number: u64, truth: bool) {
            let mut out = Vec::new();
            object(&mut out, |o| {
                o.some_text("none", None);
                o.object("inner", |o| o.shown("text", &text));
                o.text("pieces", &pieces.iter().map(String::as_str).collect::<Vec<_>>());
                o.some_thousandths("ms", Some(micros.into()));
                o.some_number("number", Some(number));
                o.some_truth("truth", Some(truth));
            });
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, serde_json::json!({
                "inner": {"text": text},
                "pieces": pieces.concat(),
                "ms": f64::from(micros) / 1000.0,
                "number": number,
                "truth": truth,
            }));
        }
    }
}
