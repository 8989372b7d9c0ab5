//! The head of every answer.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::Hex;

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const SERVICE_VERSION: HeaderName = HeaderName::from_static("x-ms-keyvault-service-version");

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Numbers answers, so that a person can name one: unique, and not to be guessed from another.
#[derive(Debug)]
pub(super) struct RequestIds {
    process: u64,
    count: AtomicU64,
    keyed: RandomState,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self {
            process: RandomState::new().hash_one(0),
            count: AtomicU64::new(0),
            keyed: RandomState::new(),
        }
    }
}

impl RequestIds {
    /// The next number, as a GUID.
    pub(super) fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let id = u128::from(self.process) << 64 | u128::from(self.keyed.hash_one(count));
        // In the form of a version 4 GUID, which is what Azure's are.
        let id = id & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = Hex::of(&id.to_be_bytes());
        let mut text = String::with_capacity(36);
        for part in [0..8, 8..12, 12..16, 16..20, 20..32] {
            if part.start > 0 {
                text.push('-');
            }
            text.push_str(hex.as_str().get(part).unwrap_or_default());
        }
        text
    }
}

/// The client's own number of a request, if it has the form of one: 1 to 128 characters of letters, digits and `-_.`.
pub(super) fn client_request_id(request: &HeaderMap) -> Option<&HeaderValue> {
    request.get(CLIENT_REQUEST_ID).filter(|id| {
        (1..=128).contains(&id.len())
            && id
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    })
}

/// The headers that every answer has (Azure Key Vault, "Authentication, requests and responses").
static HEAD: LazyLock<HeaderMap> = LazyLock::new(|| {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
        (header::EXPIRES, HeaderValue::from_static("-1")),
        (
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000;includeSubDomains"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            SERVICE_VERSION,
            HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
        ),
        (header::CONTENT_TYPE, JSON),
    ]
    .into_iter()
    .collect()
});

/// The head of one answer.
pub(super) fn of_answer(id: String, client_request_id: Option<HeaderValue>) -> HeaderMap {
    let mut head = HEAD.clone();
    if let Ok(id) = HeaderValue::try_from(id) {
        head.insert(REQUEST_ID, id);
    }
    if let Some(id) = client_request_id {
        head.insert(CLIENT_REQUEST_ID, id);
    }
    head
}

/// What follows `Bearer ` in the one Authorization header.
pub(super) fn bearer(request: &HeaderMap) -> Option<&str> {
    let mut values = request.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn request_ids_are_guids_and_never_the_same() {
        let ids = RequestIds::default();
        let made: HashSet<_> = (0..1_000).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 1_000);
        for id in made {
            let text = id;
            let lengths: Vec<_> = text.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12]);
            assert!(
                text[14..].starts_with('4') && matches!(&text[19..20], "8" | "9" | "a" | "b"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_client_request_id_comes_back_only_if_it_is_plain() {
        let echo = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CLIENT_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            client_request_id(&headers).cloned()
        };
        assert!(echo(b"9f0a3a5e-1111-4222-8333-abcdefabcdef").is_some());
        for bad in [&b""[..], b"a b", b"a\"b", b"\xff", &[b'a'; 129]] {
            assert_eq!(echo(bad), None);
        }
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(read(&["bearer  abc "]).as_deref(), Some("abc"));
        for bad in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["PoP abc"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
