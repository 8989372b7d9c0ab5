//! Request bodies as JSON. The secret's value never meets the JSON parser: [`take_value`] lifts it out of the buffer first.

use std::borrow::Cow;
use std::fmt;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::model::{AttributesChange, Backup, SecretBytes, Tags, UnixSeconds};

/// Why a body is refused. It names members that are ours and never what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBody {
    /// Not JSON, not an object, nested too deep, or a member of the wrong type.
    #[error("The request body is not a JSON object of the expected form.")]
    Malformed,
    /// A set without `value`.
    #[error("The parameter 'value' is required and must be a string.")]
    NoValue,
    /// A date beyond the year 9999 or before 1970.
    #[error(
        "Property attributes.nbf or attributes.exp has an invalid value. It must be a whole number of Unix seconds."
    )]
    Date,
    /// Not base64url.
    #[error("Malformed backup blob: it is not base64url.")]
    Backup,
}

/// The body of a set.
#[derive(Debug)]
pub(super) struct SetBody {
    pub(super) value: SecretBytes,
    pub(super) content_type: Option<String>,
    pub(super) tags: Tags,
    pub(super) attributes: AttributesChange,
}

/// The body of an update.
#[derive(Debug)]
pub(super) struct UpdateBody {
    pub(super) content_type: Option<String>,
    pub(super) tags: Option<Tags>,
    pub(super) attributes: AttributesChange,
}

/// Reads the body of a set. The buffer loses the value and is wiped.
///
/// # Errors
/// [`BadBody`].
pub(super) fn set(mut buffer: Zeroizing<Vec<u8>>) -> Result<SetBody, BadBody> {
    let value = take_value(&mut buffer)?;
    let members = Members::parse(&buffer)?;
    // The parser's own view must agree: exactly one `value`, a string.
    let (Some(value), Some(_)) = (value, members.value) else {
        return Err(BadBody::NoValue);
    };
    Ok(SetBody {
        value,
        content_type: members.content_type,
        tags: members.tags.unwrap_or_default().0,
        attributes: members.attributes.unwrap_or_default().change()?,
    })
}

/// Reads the body of a restore: a backup as base64url, with or without padding.
///
/// # Errors
/// [`BadBody`].
pub(super) fn restore(buffer: &[u8]) -> Result<Backup, BadBody> {
    #[derive(Deserialize)]
    struct Restore<'a> {
        #[serde(borrow, default)]
        value: Option<Cow<'a, str>>,
    }
    if !is_object(buffer) {
        return Err(BadBody::Malformed);
    }
    let restore: Restore<'_> = serde_json::from_slice(buffer).map_err(|_| BadBody::Malformed)?;
    let value = restore.value.ok_or(BadBody::NoValue)?;
    let blob = BASE64URL.decode(value.as_bytes()).map_err(|_| BadBody::Backup)?;
    Ok(Backup(blob))
}

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A sequence would deserialise into a struct too.
fn is_object(buffer: &[u8]) -> bool {
    buffer.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Reads the body of an update. A `value` in it is ignored, as every member that an update does not have.
///
/// # Errors
/// [`BadBody`].
pub(super) fn update(mut buffer: Zeroizing<Vec<u8>>) -> Result<UpdateBody, BadBody> {
    drop(take_value(&mut buffer)?);
    let members = Members::parse(&buffer)?;
    Ok(UpdateBody {
        content_type: members.content_type,
        tags: members.tags.map(|tags| tags.0),
        attributes: members.attributes.unwrap_or_default().change()?,
    })
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Members<'a> {
    #[serde(borrow, default)]
    value: Option<&'a str>,
    #[serde(rename = "contentType", default)]
    content_type: Option<String>,
    #[serde(default)]
    tags: Option<UniqueTags>,
    #[serde(default)]
    attributes: Option<WireAttributes>,
}

impl<'a> Members<'a> {
    fn parse(buffer: &'a [u8]) -> Result<Self, BadBody> {
        if !is_object(buffer) {
            return Err(BadBody::Malformed);
        }
        serde_json::from_slice(buffer).map_err(|_| BadBody::Malformed)
    }
}

#[derive(Default, Deserialize)]
struct WireAttributes {
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    exp: Option<i64>,
}

impl WireAttributes {
    fn change(&self) -> Result<AttributesChange, BadBody> {
        /// The last second of the year 9999.
        const LATEST: i64 = 253_402_300_799;
        let date = |seconds: Option<i64>| {
            seconds
                .map(|seconds| {
                    if (0..=LATEST).contains(&seconds) {
                        Ok(UnixSeconds(seconds))
                    } else {
                        Err(BadBody::Date)
                    }
                })
                .transpose()
        };
        Ok(AttributesChange {
            enabled: self.enabled,
            not_before: date(self.nbf)?,
            expires: date(self.exp)?,
        })
    }
}

/// Tags of which no name comes twice: which of two values counts is nothing that a client should have to guess.
#[derive(Default)]
struct UniqueTags(Tags);

impl<'de> Deserialize<'de> for UniqueTags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = UniqueTags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueTags, A::Error> {
                let mut tags = Tags::new();
                while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                    if tags.insert(name, value.unwrap_or_default()).is_some() {
                        return Err(A::Error::custom("a tag twice"));
                    }
                }
                Ok(UniqueTags(tags))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

/// Lifts the string of the top-level member `value` out of a JSON object, unescaped, and overwrites it in the buffer, so
/// that no parser, error text or scratch space ever holds it.
///
/// # Errors
/// [`BadBody::Malformed`] if the buffer is no JSON, or the string is no text.
fn take_value(buffer: &mut [u8]) -> Result<Option<SecretBytes>, BadBody> {
    // Skipping checks the grammar without copying anything; from here on the scan below may trust it.
    serde_json::from_slice::<IgnoredAny>(buffer).map_err(|_| BadBody::Malformed)?;
    let Some((start, end)) = find_value(buffer)? else {
        return Ok(None);
    };
    let text = buffer.get_mut(start..end).ok_or(BadBody::Malformed)?;
    let value = unescape(text).ok_or(BadBody::Malformed)?;
    text.fill(b'x');
    Ok(Some(value))
}

/// Deepest nesting that is read: ours is 2, what clients of later versions may add is not far from that.
const MOST_NESTED: u32 = 32;

/// Where the content of the top-level string member `value` stands, between its quotes. `json` is well-formed.
///
/// # Errors
/// [`BadBody::Malformed`] if it is nested too deep.
fn find_value(json: &[u8]) -> Result<Option<(usize, usize)>, BadBody> {
    let mut depth = 0_u32;
    let mut position = 0;
    let mut member_is_value = false;
    let mut found = None;
    while let Some(byte) = json.get(position) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => member_is_value = false,
            b'"' => {
                let start = position + 1;
                let end = end_of_string(json, start).ok_or(BadBody::Malformed)?;
                if depth == 1 && member_is_value {
                    found = Some((start, end));
                }
                let is_name = next_byte(json, end + 1) == Some(b':');
                member_is_value = depth == 1 && is_name && json.get(start..end) == Some(b"value");
                position = end;
            }
            _ => {}
        }
        if depth > MOST_NESTED {
            return Err(BadBody::Malformed);
        }
        position += 1;
    }
    Ok(found)
}

fn end_of_string(json: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    loop {
        match json.get(position)? {
            b'"' => return Some(position),
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
}

fn next_byte(json: &[u8], from: usize) -> Option<u8> {
    json.get(from..)?
        .iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// Unescapes a JSON string's content. None if it is no UTF-8 or has half of a surrogate pair.
fn unescape(text: &[u8]) -> Option<SecretBytes> {
    let text = std::str::from_utf8(text).ok()?;
    // Escapes only shrink, so the one allocation never moves and leaves no copy behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.extend_from_slice(before.as_bytes());
        let mut chars = after.chars();
        let character = match chars.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (character, length) = unicode_escape(after.get(1..)?)?;
                chars = after.get(1 + length..)?.chars();
                character
            }
            other @ ('"' | '\\' | '/') => other,
            _ => return None,
        };
        plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = chars.as_str();
    }
    plain.extend_from_slice(rest.as_bytes());
    Some(SecretBytes::new(std::mem::take(&mut *plain)))
}

/// Reads `XXXX` or `XXXX\uXXXX`, and says how many bytes that took.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |text: &str| {
        let digits = text
            .get(..4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(text)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, 4));
    }
    let second = unit(text.get(4..)?.strip_prefix("\\u")?)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set_text(text: &str) -> Result<SetBody, BadBody> {
        set(Zeroizing::new(text.as_bytes().to_vec()))
    }

    fn update_text(text: &str) -> Result<UpdateBody, BadBody> {
        update(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_set_is_read_as_an_sdk_writes_it() {
        let body = set_text(
            r#"{"value":"s3cr\"et\u00e9\ud83d\ude00","contentType":"text/plain","tags":{"a":"1"},
               "attributes":{"enabled":false,"nbf":1,"exp":2,"created":3},"unknown":{"value":["x",{"value":"y"}]}}"#,
        )
        .unwrap();
        assert_eq!(body.value.expose(), "s3cr\"eté😀".as_bytes());
        assert_eq!(body.content_type.as_deref(), Some("text/plain"));
        assert_eq!(body.tags.get("a").map(String::as_str), Some("1"));
        let expected = AttributesChange {
            enabled: Some(false),
            not_before: Some(UnixSeconds(1)),
            expires: Some(UnixSeconds(2)),
        };
        assert_eq!(body.attributes, expected);
    }

    #[test]
    fn nulls_are_as_good_as_nothing() {
        let body =
            set_text(r#"{"value":"x","contentType":null,"tags":null,"attributes":{"exp":null}}"#).unwrap();
        assert_eq!(
            (body.content_type, body.attributes),
            (None, AttributesChange::default())
        );
        let body = update_text("{}").unwrap();
        assert!(body.content_type.is_none() && body.tags.is_none());
        assert_eq!(update_text(r#"{"tags":{}}"#).unwrap().tags, Some(Tags::new()));
    }

    #[test]
    fn a_body_of_another_form_is_refused() {
        for text in [
            "",
            "x",
            "null",
            "[]",
            r#"["x"]"#,
            r#""value""#,
            r#"{"value":"x""#,
            r#"{"value":"x"}}"#,
            r#"{"value":"\ud800"}"#,
            r#"{"value":"a","value":"b"}"#,
            r#"{"value":"x","tags":[]}"#,
            r#"{"value":"x","tags":{"a":1}}"#,
            r#"{"value":"x","tags":{"a":"1","a":"2"}}"#,
            r#"{"value":"x","attributes":{"enabled":"yes"}}"#,
            r#"{"value":"x","attributes":{"exp":1.5}}"#,
            r#"{"value":"x","contentType":1}"#,
            "{\"value\":\"\u{1}\"}",
            r#"{"value":"x","attributes":{"exp":1,"exp":2}}"#,
        ] {
            assert_eq!(set_text(text).map(|_| ()), Err(BadBody::Malformed), "{text}");
        }
        let deep = format!(
            r#"{{"value":"x","a":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(set_text(&deep).map(|_| ()), Err(BadBody::Malformed));
        for text in [
            r#"{"attributes":{}}"#,
            r#"{"value":null}"#,
            r#"{"unknown":{"value":"x"}}"#,
            r#"{"va\u006cue":"x"}"#,
        ] {
            assert_eq!(set_text(text).map(|_| ()), Err(BadBody::NoValue), "{text}");
        }
        for text in [r#"{"value":1}"#, r#"{"value":{"value":"x"}}"#] {
            assert_eq!(set_text(text).map(|_| ()), Err(BadBody::Malformed), "{text}");
        }
        for text in [
            r#"{"value":"x","attributes":{"exp":-1}}"#,
            r#"{"value":"x","attributes":{"nbf":253402300800}}"#,
        ] {
            assert_eq!(set_text(text).map(|_| ()), Err(BadBody::Date), "{text}");
        }
    }

    #[test]
    fn a_backup_is_base64url_with_or_without_padding() {
        for text in [
            r#"{"value":"-__-AA"}"#,
            r#"{"value":"-__-AA=="}"#,
            r#"{"value":"-__-\u0041A","other":1}"#,
        ] {
            assert_eq!(
                restore(text.as_bytes()),
                Ok(Backup(vec![0xfb, 0xff, 0xfe, 0])),
                "{text}"
            );
        }
        for (text, expected) in [
            ("", BadBody::Malformed),
            ("[]", BadBody::Malformed),
            (r#"["AA"]"#, BadBody::Malformed),
            (r#"{"value":1}"#, BadBody::Malformed),
            (r#"{"value":"AA","value":"AA"}"#, BadBody::Malformed),
            ("{}", BadBody::NoValue),
            (r#"{"value":null}"#, BadBody::NoValue),
            (r#"{"value":"+/+A"}"#, BadBody::Backup),
            (r#"{"value":"A"}"#, BadBody::Backup),
            (r#"{"value":"not a blob"}"#, BadBody::Backup),
        ] {
            assert_eq!(restore(text.as_bytes()), Err(expected), "{text}");
        }
        assert_eq!(restore(br#"{"value":""}"#), Ok(Backup(Vec::new())));
    }

    #[test]
    fn the_value_is_gone_from_the_buffer_before_it_is_parsed() {
        let mut buffer = br#"{ "tags" : {"value":"kept"}, "value" : "hunter2\n" }"#.to_vec();
        let value = take_value(&mut buffer).unwrap().unwrap();
        assert_eq!(value.expose(), b"hunter2\n");
        assert_eq!(buffer, br#"{ "tags" : {"value":"kept"}, "value" : "xxxxxxxxx" }"#);
    }

    proptest! {
        #[test]
        fn every_text_survives_as_a_value(value: String, escaped: bool, name in "[a-z]{0,8}") {
            let mut json = serde_json::json!({ "value": value, "contentType": name }).to_string();
            if escaped {
                let units: String = value.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                json = format!(r#"{{"contentType":"{name}","value":"{units}"}}"#);
            }
            let body = set_text(&json).unwrap();
            prop_assert_eq!(body.value.expose(), value.as_bytes());
        }

        #[test]
        fn whatever_is_accepted_is_what_the_json_parser_reads(text in r#"[{}\[\]:,"\\valueu0d8x ]{0,60}"#) {
            if let Ok(body) = set_text(&text) {
                let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(body.value.expose(), parsed["value"].as_str().unwrap().as_bytes());
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = restore(&bytes);
            let _ = set(Zeroizing::new(bytes.clone()));
            let _ = update(Zeroizing::new(bytes));
        }
    }
}
