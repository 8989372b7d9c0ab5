//! JSON, written member by member into one buffer that the caller made.
//!
//! # Why
//! Every request leaves a record and an answer, and making them of displayed pieces and intermediate texts was among the
//! largest costs of a read. And where an answer holds a value, no piece of it may be left behind in a
//! buffer that nobody wipes: everything goes straight into the caller's.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

/// The name of a member; made by [`key!`](crate::json::key).
#[derive(Debug, Clone, Copy)]
pub struct Key(
    /// `,"name":"`
    #[doc(hidden)]
    pub &'static str,
);

/// The name of a member, which is plain text.
macro_rules! key {
    ($name:literal) => {
        $crate::json::Key(concat!(",\"", $name, "\":\""))
    };
}
pub(crate) use key;

impl Key {
    /// What stands before a text.
    const fn before_text(self) -> &'static str {
        self.0
    }

    /// What stands before anything else.
    fn before(self) -> &'static str {
        self.0.strip_suffix('"').unwrap_or(self.0)
    }
}

/// An object that is being written.
#[derive(Debug)]
pub struct Members<'a> {
    out: &'a mut Vec<u8>,
}

/// Writes an object.
pub fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Members<'_>)) {
    bracketed(out, b'{', b'}', |out| fill(&mut Members { out }));
}

/// Everything in it begins with a comma; the first one becomes the bracket.
fn bracketed(out: &mut Vec<u8>, open: u8, close: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    fill(out);
    match out.get_mut(start) {
        Some(comma) => *comma = open,
        None => out.push(open),
    }
    out.push(close);
}

impl Members<'_> {
    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A text, in pieces.
    pub fn text(&mut self, key: Key, pieces: &[&str]) {
        self.push(key.before_text());
        pieces.iter().for_each(|piece| push_escaped(self.out, piece));
        self.out.push(b'"');
    }

    /// A fixed text in which JSON escapes nothing.
    pub fn word(&mut self, key: Key, word: &'static str) {
        self.plain(key, |out| out.extend_from_slice(word.as_bytes()));
    }

    /// A text, if there is one.
    pub fn some_text(&mut self, key: Key, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, &[text]);
        }
    }

    /// A text that is written by `write`, which writes plain text alone: nothing that JSON escapes.
    pub fn plain(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        self.push(key.before_text());
        write(self.out);
        self.out.push(b'"');
    }

    /// A text, as it is displayed.
    pub fn shown(&mut self, key: Key, value: impl Display) {
        self.push(key.before_text());
        // Writing to memory does not fail.
        let _ = write!(Escaped(self.out), "{value}");
        self.out.push(b'"');
    }

    /// An address, if there is one.
    pub fn some_address(&mut self, key: Key, address: Option<IpAddr>) {
        match address {
            Some(IpAddr::V4(address)) => self.plain(key, |out| {
                for (at, octet) in address.octets().into_iter().enumerate() {
                    if at > 0 {
                        out.push(b'.');
                    }
                    push_digits(out, octet.into(), 1);
                }
            }),
            Some(address) => self.shown(key, address),
            None => {}
        }
    }

    /// A whole number.
    pub fn number(&mut self, key: Key, value: i64) {
        self.push(key.before());
        if value < 0 {
            self.out.push(b'-');
        }
        push_digits(self.out, value.unsigned_abs(), 1);
    }

    /// A whole number, if there is one.
    pub fn some_number(&mut self, key: Key, value: Option<i64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// A count, if there is one.
    pub fn some_count(&mut self, key: Key, value: Option<u64>) {
        if let Some(value) = value {
            self.push(key.before());
            push_digits(self.out, value, 1);
        }
    }

    /// A number of thousandths, with three decimals, if there is one.
    pub fn some_thousandths(&mut self, key: Key, value: Option<u64>) {
        if let Some(value) = value {
            self.push(key.before());
            push_digits(self.out, value / 1000, 1);
            self.out.push(b'.');
            push_digits(self.out, value % 1000, 3);
        }
    }

    /// A truth.
    pub fn truth(&mut self, key: Key, value: bool) {
        self.push(key.before());
        self.push(if value { "true" } else { "false" });
    }

    /// A truth, if there is one.
    pub fn some_truth(&mut self, key: Key, value: Option<bool>) {
        if let Some(value) = value {
            self.truth(key, value);
        }
    }

    /// Nothing, said aloud.
    pub fn null(&mut self, key: Key) {
        self.push(key.before());
        self.push("null");
    }

    /// An object in it.
    pub fn object(&mut self, key: Key, fill: impl FnOnce(&mut Members<'_>)) {
        self.push(key.before());
        object(self.out, fill);
    }

    /// An object of texts in it.
    pub fn texts<'t>(&mut self, key: Key, texts: impl Iterator<Item = (&'t str, &'t str)>) {
        self.push(key.before());
        bracketed(self.out, b'{', b'}', |out| {
            for (name, text) in texts {
                out.extend_from_slice(b",\"");
                push_escaped(out, name);
                out.extend_from_slice(b"\":\"");
                push_escaped(out, text);
                out.push(b'"');
            }
        });
    }

    /// A list of objects in it.
    pub fn list<T>(&mut self, key: Key, items: &[T], fill: impl Fn(&mut Members<'_>, &T)) {
        self.push(key.before());
        bracketed(self.out, b'[', b']', |out| {
            for item in items {
                out.push(b',');
                object(out, |members| fill(members, item));
            }
        });
    }
}

/// Decimal digits, with zeros in front up to `least`.
pub fn push_digits(out: &mut Vec<u8>, mut value: u64, least: usize) {
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

/// Two hexadecimal digits.
pub fn push_hex(out: &mut Vec<u8>, byte: u8) {
    let digit = |nibble: u8| {
        if nibble < 10 {
            b'0' + nibble
        } else {
            b'a' + nibble - 10
        }
    };
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
}

struct Escaped<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// How many bytes a text has once it is escaped.
#[must_use]
pub fn escaped_len(text: &[u8]) -> usize {
    let longer = |byte: &u8| match escape(*byte) {
        _ if !is_special(*byte) => 0,
        Some(_) => 1,
        None => 5,
    };
    text.len() + text.iter().map(longer).sum::<usize>()
}

/// Nearly all text is plain (RFC 8259, section 7, says what is not).
fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    // Without a way out of the loop, so that it is done many bytes at a time.
    if !bytes.iter().fold(false, |found, byte| found | is_special(*byte)) {
        return out.extend_from_slice(bytes);
    }
    for &byte in bytes {
        match escape(byte) {
            _ if !is_special(byte) => out.push(byte),
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None => {
                let digit = |nibble: u8| {
                    if nibble < 10 {
                        b'0' + nibble
                    } else {
                        b'a' + nibble - 10
                    }
                };
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
    }
}

/// The letter that stands for a special byte after a backslash, for those that have one.
const fn escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_a_json_parser_reads(
            text: String,
            pieces in proptest::collection::vec(".{0,9}", 0..4),
            texts in proptest::collection::btree_map(".{0,9}", "[\"\\\\\u{0}-\u{20}a]{0,9}", 0..4),
            micros: u32,
            number: i64,
            count: u64,
            truth: bool,
            address: IpAddr,
        ) {
            let mut out = Vec::new();
            object(&mut out, |o| {
                o.some_text(key!("none"), None);
                o.object(key!("inner"), |o| o.shown(key!("text"), &text));
                o.object(key!("empty"), |_| ());
                o.text(key!("pieces"), &pieces.iter().map(String::as_str).collect::<Vec<_>>());
                o.texts(key!("texts"), texts.iter().map(|(name, text)| (&**name, &**text)));
                o.list(key!("list"), &pieces, |o, piece| o.text(key!("piece"), &[piece]));
                o.some_thousandths(key!("ms"), Some(micros.into()));
                o.number(key!("number"), number);
                o.some_count(key!("count"), Some(count));
                o.truth(key!("truth"), truth);
                o.null(key!("nothing"));
                o.some_address(key!("address"), Some(address));
            });
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let list: Vec<_> = pieces.iter().map(|piece| serde_json::json!({"piece": piece})).collect();
            prop_assert_eq!(read, serde_json::json!({
                "inner": {"text": text},
                "empty": {},
                "pieces": pieces.concat(),
                "texts": texts,
                "list": list,
                "ms": f64::from(micros) / 1000.0,
                "number": number,
                "count": count,
                "truth": truth,
                "nothing": null,
                "address": address.to_string(),
            }));
        }

        #[test]
        fn a_text_is_escaped_as_other_writers_do_it_and_its_length_is_known_before(text in "[\"\\\\\u{0}-\u{7f}ä€]{0,40}") {
            let mut out = Vec::new();
            push_escaped(&mut out, &text);
            prop_assert_eq!(out.len(), escaped_len(text.as_bytes()));
            let quoted = format!("\"{}\"", String::from_utf8(out).unwrap());
            prop_assert_eq!(quoted, serde_json::to_string(&text).unwrap());
        }
    }
}
