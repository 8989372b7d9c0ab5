//! The one route table of the data plane, and how a request's path and query are read.
//!
//! # Why
//! Azure's paths have empty segments (`/secrets/x/` asks for the newest version), leading double slashes and words that
//! clients write in any case; a router that normalises or redirects breaks SDKs. So paths are split by hand and matched
//! against [`ROUTES`], and nothing else answers.

use std::borrow::Cow;
use std::num::NonZeroU8;

use http::Method;

use crate::model::{ObjectName, PageRequest, Version};

/// One row: a method and a shape of path lead to an action.
#[derive(Debug)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// The shape of the path.
    pub path: &'static [Segment],
    /// What is done.
    pub action: Action,
}

/// One segment of a path's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// A word, compared without case. It wins over a version in the same place.
    Word(&'static str),
    /// An object's name.
    Name,
    /// A version; the segment may be empty or missing.
    Version,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `GET /secrets`.
    ListSecrets,
    /// `GET /secrets/{name}/versions`.
    ListSecretVersions,
    /// `GET /secrets/{name}/{version}`.
    GetSecret,
    /// `PUT /secrets/{name}`.
    SetSecret,
    /// `PATCH /secrets/{name}/{version}`.
    UpdateSecret,
    /// `DELETE /secrets/{name}`.
    DeleteSecret,
    /// `GET /deletedsecrets`.
    ListDeletedSecrets,
    /// `GET /deletedsecrets/{name}`.
    GetDeletedSecret,
    /// `POST /deletedsecrets/{name}/recover`.
    RecoverSecret,
    /// `DELETE /deletedsecrets/{name}`.
    PurgeSecret,
    /// `POST /secrets/{name}/backup`.
    BackupSecret,
    /// `POST /secrets/restore`.
    RestoreSecret,
}

use Segment::{Name, Word};

/// Every route there is.
pub static ROUTES: &[Row] = &[
    Row {
        method: Method::GET,
        path: &[Word("secrets"), Name, Segment::Version],
        action: Action::GetSecret,
    },
    Row {
        method: Method::PUT,
        path: &[Word("secrets"), Name],
        action: Action::SetSecret,
    },
    Row {
        method: Method::GET,
        path: &[Word("secrets")],
        action: Action::ListSecrets,
    },
    Row {
        method: Method::GET,
        path: &[Word("secrets"), Name, Word("versions")],
        action: Action::ListSecretVersions,
    },
    Row {
        method: Method::PATCH,
        path: &[Word("secrets"), Name, Segment::Version],
        action: Action::UpdateSecret,
    },
    Row {
        method: Method::DELETE,
        path: &[Word("secrets"), Name],
        action: Action::DeleteSecret,
    },
    Row {
        method: Method::GET,
        path: &[Word("deletedsecrets")],
        action: Action::ListDeletedSecrets,
    },
    Row {
        method: Method::GET,
        path: &[Word("deletedsecrets"), Name],
        action: Action::GetDeletedSecret,
    },
    Row {
        method: Method::POST,
        path: &[Word("deletedsecrets"), Name, Word("recover")],
        action: Action::RecoverSecret,
    },
    Row {
        method: Method::DELETE,
        path: &[Word("deletedsecrets"), Name],
        action: Action::PurgeSecret,
    },
    Row {
        method: Method::POST,
        path: &[Word("secrets"), Name, Word("backup")],
        action: Action::BackupSecret,
    },
    Row {
        method: Method::POST,
        path: &[Word("secrets"), Word("restore")],
        action: Action::RestoreSecret,
    },
];

/// A request's path, matched: what is to be done and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) action: Action,
    pub(super) name: Option<ObjectName>,
    pub(super) version: Option<Version>,
}

/// Why a path leads nowhere. None of these holds what the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// Percent signs, dot segments, empty segments or characters that no path of ours has.
    Malformed,
    /// A name in the path is no object name.
    BadName,
    /// A version in the path is no version.
    BadVersion,
    /// No route has this path.
    Unknown,
    /// The path is a route's, the method is not; these are.
    Method(&'static str),
}

/// At most so many segments matter; a longer path is nobody's.
const MOST_SEGMENTS: usize = 4;

/// Matches a method and a path.
///
/// # Errors
/// [`NoRoute`].
pub(super) fn find(method: &Method, path: &str) -> Result<Target, NoRoute> {
    // Every segment that is ever valid is made of letters, digits and '-'. What else a client may write (`%2e`, `..`,
    // `;`, `\`, NUL) has no second reading here: it is refused, never decoded.
    if !path
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'/')
    {
        return Err(NoRoute::Malformed);
    }
    let mut segments = [""; MOST_SEGMENTS];
    let mut count = 0;
    for segment in path.trim_start_matches('/').split('/') {
        *segments.get_mut(count).ok_or(NoRoute::Unknown)? = segment;
        count += 1;
    }
    // One trailing slash is an empty last segment: SDKs write it where a version may stand.
    if count > 1 && segments.get(count - 1) == Some(&"") {
        count -= 1;
    }
    let segments = segments.get(..count).unwrap_or_default();
    if segments.contains(&"") {
        return Err(if segments.len() == 1 {
            NoRoute::Unknown
        } else {
            NoRoute::Malformed
        });
    }

    let mut best: Option<&Row> = None;
    for row in ROUTES.iter().filter(|row| row.method == *method) {
        // A word wins over a version, so `/secrets/x/versions` is never a version called "versions".
        let wins = |other: &Row| ends_with_word(row) && !ends_with_word(other);
        if fits(row.path, segments) && best.is_none_or(wins) {
            best = Some(row);
        }
    }
    read(best.ok_or_else(|| without_method(segments))?, segments)
}

/// Why a path leads nowhere that has no route of the request's method.
fn without_method(segments: &[&str]) -> NoRoute {
    let (mut allowed, mut shaped) = (Methods::default(), Methods::default());
    for row in ROUTES.iter().filter(|row| fits(row.path, segments)) {
        shaped.add(&row.method);
        if read(row, segments).is_ok() {
            allowed.add(&row.method);
        }
    }
    let allowed = allowed.header().or_else(|| shaped.header());
    allowed.map_or(NoRoute::Unknown, NoRoute::Method)
}

fn fits(shape: &[Segment], segments: &[&str]) -> bool {
    let optional = usize::from(shape.last() == Some(&Segment::Version));
    (shape.len() - optional..=shape.len()).contains(&segments.len())
        && shape.iter().zip(segments).all(|(shape, segment)| match shape {
            Word(word) => word.eq_ignore_ascii_case(segment),
            Name | Segment::Version => true,
        })
}

fn ends_with_word(row: &Row) -> bool {
    matches!(row.path.last(), Some(Word(_)))
}

/// The methods that a path takes.
#[derive(Debug, Default)]
struct Methods {
    delete: bool,
    get: bool,
    patch: bool,
    post: bool,
    put: bool,
}

impl Methods {
    fn add(&mut self, method: &Method) {
        match *method {
            Method::DELETE => self.delete = true,
            Method::GET => self.get = true,
            Method::PATCH => self.patch = true,
            Method::POST => self.post = true,
            _ => self.put = true,
        }
    }

    /// The `Allow` header, as a constant text; none where no route has the path. A test holds it to [`ROUTES`].
    const fn header(&self) -> Option<&'static str> {
        match (self.delete, self.get, self.patch, self.post, self.put) {
            (true, true, true, true, true) => Some("DELETE, GET, PATCH, POST, PUT"),
            (true, true, true, false, true) => Some("DELETE, GET, PATCH, PUT"),
            (true, true, false, false, false) => Some("DELETE, GET"),
            (false, true, true, false, false) => Some("GET, PATCH"),
            (false, true, false, false, false) => Some("GET"),
            (false, false, false, true, false) => Some("POST"),
            _ => None,
        }
    }
}

fn read(row: &Row, segments: &[&str]) -> Result<Target, NoRoute> {
    let mut target = Target {
        action: row.action,
        name: None,
        version: None,
    };
    for (shape, segment) in row.path.iter().zip(segments) {
        match shape {
            Word(_) => {}
            Name => target.name = Some(ObjectName::parse(segment).map_err(|_| NoRoute::BadName)?),
            Segment::Version => {
                target.version = Some(Version::parse(segment).map_err(|_| NoRoute::BadVersion)?);
            }
        }
    }
    Ok(target)
}

/// What the query says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) api_version: String,
    max_results: Option<NonZeroU8>,
    skip_token: Option<String>,
}

impl Query {
    /// The page that a list asks for; Azure's default and greatest number of items is 25.
    pub(super) fn page(&self) -> PageRequest {
        PageRequest {
            limit: self.max_results.unwrap_or(MOST_RESULTS),
            skip_token: self.skip_token.clone(),
        }
    }

    /// The page size that was asked for, to be carried on by the next link.
    pub(super) const fn max_results(&self) -> Option<NonZeroU8> {
        self.max_results
    }
}

/// Why a query is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadQuery {
    /// No `api-version`.
    NoApiVersion,
    /// An `api-version` in no known form.
    ApiVersion,
    /// `maxresults` outside 1 to 25.
    MaxResults,
    /// A parameter of ours twice.
    Twice,
    /// `outContentType`: for the secrets of certificates alone.
    OutContentType,
    /// A percent sign that begins no pair of hexadecimal digits, or bytes that are no UTF-8.
    Encoding,
}

const MOST_RESULTS: NonZeroU8 = NonZeroU8::new(25).unwrap();

/// Reads the query. Parameters that are not ours are ignored, names compare without case after decoding (an SDK writes
/// `api%2Dversion`).
///
/// # Errors
/// [`BadQuery`].
pub(super) fn query(text: &str) -> Result<Query, BadQuery> {
    let mut api_version: Option<String> = None;
    let mut query = Query::default();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or(BadQuery::Encoding)?;
        let value = || decode(value).ok_or(BadQuery::Encoding);
        if name.eq_ignore_ascii_case("api-version") {
            let value = value()?;
            if !is_api_version(&value) {
                return Err(BadQuery::ApiVersion);
            }
            once(&mut api_version, value.into_owned())?;
        } else if name.eq_ignore_ascii_case("maxresults") {
            let number = value()?
                .parse::<NonZeroU8>()
                .ok()
                .filter(|number| *number <= MOST_RESULTS);
            once(&mut query.max_results, number.ok_or(BadQuery::MaxResults)?)?;
        } else if name.eq_ignore_ascii_case("$skiptoken") {
            once(&mut query.skip_token, value()?.into_owned())?;
        } else if name.eq_ignore_ascii_case("outContentType") {
            return Err(BadQuery::OutContentType);
        }
    }
    query.api_version = api_version.ok_or(BadQuery::NoApiVersion)?;
    Ok(query)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), BadQuery> {
    if slot.replace(value).is_some() {
        Err(BadQuery::Twice)
    } else {
        Ok(())
    }
}

/// Azure's forms: `7.4`, `7.6-preview.2`, `2025-07-01`, `2026-01-01-preview`. Which exist grows by the month and SDKs move
/// their default without notice, so every one in these forms is served.
fn is_api_version(text: &str) -> bool {
    let digits = |text: &str, least: usize, most: usize| {
        (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let (stable, preview) = match text.split_once("-preview") {
        Some((stable, rest)) => (stable, Some(rest)),
        None => (text, None),
    };
    let preview_is_good = match preview {
        None | Some("") => true,
        Some(rest) => rest.strip_prefix('.').is_some_and(|number| digits(number, 1, 2)),
    };
    let dated = |text: &str| {
        let mut parts = text.splitn(3, '-');
        let (year, month, day) = (parts.next(), parts.next(), parts.next());
        let within = |part: Option<&str>, range: std::ops::RangeInclusive<u8>| {
            part.is_some_and(|part| digits(part, 2, 2) && part.parse().is_ok_and(|n| range.contains(&n)))
        };
        year.is_some_and(|year| digits(year, 4, 4)) && within(month, 1..=12) && within(day, 1..=31)
    };
    let numbered = |text: &str| text.strip_prefix("7.").is_some_and(|minor| digits(minor, 1, 2));
    preview_is_good && (numbered(stable) || dated(stable))
}

/// Decodes percent signs once.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let pair = digit(bytes.next())? * 16 + digit(bytes.next())?;
            decoded.push(u8::try_from(pair).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    fn action(method: &Method, path: &str) -> Result<Action, NoRoute> {
        find(method, path).map(|target| target.action)
    }

    #[test]
    fn every_shape_that_an_sdk_writes_is_routed() {
        let with_version = format!("/secrets/a/{VERSION}");
        for (method, path, expected) in [
            (Method::GET, "/secrets", Action::ListSecrets),
            (Method::GET, "/secrets/", Action::ListSecrets),
            (Method::GET, "//secrets", Action::ListSecrets),
            (Method::GET, "/secrets/a", Action::GetSecret),
            (Method::GET, "/secrets/a/", Action::GetSecret),
            (Method::GET, "//secrets/a/", Action::GetSecret),
            (Method::GET, "/Secrets/A/", Action::GetSecret),
            (Method::GET, &with_version, Action::GetSecret),
            (Method::GET, "/secrets/a/versions", Action::ListSecretVersions),
            (Method::GET, "/secrets/a/Versions", Action::ListSecretVersions),
            (Method::GET, "/secrets/a/versions/", Action::ListSecretVersions),
            (Method::GET, "/secrets/versions", Action::GetSecret),
            (
                Method::GET,
                "/secrets/secrets/versions",
                Action::ListSecretVersions,
            ),
            (Method::PUT, "/secrets/a", Action::SetSecret),
            (Method::PUT, "/secrets/a/", Action::SetSecret),
            (Method::PATCH, "/secrets/a/", Action::UpdateSecret),
            (Method::PATCH, "/secrets/a", Action::UpdateSecret),
            (Method::PATCH, &with_version, Action::UpdateSecret),
            (Method::DELETE, "/secrets/a", Action::DeleteSecret),
            (Method::DELETE, "/SECRETS/a/", Action::DeleteSecret),
            (Method::POST, "/secrets/a/backup", Action::BackupSecret),
            (Method::POST, "/secrets/a/Backup/", Action::BackupSecret),
            (Method::POST, "/secrets/restore", Action::RestoreSecret),
            (Method::POST, "/Secrets/Restore/", Action::RestoreSecret),
            (Method::GET, "/secrets/restore", Action::GetSecret),
            (Method::GET, "/deletedsecrets", Action::ListDeletedSecrets),
            (Method::GET, "/DeletedSecrets/a", Action::GetDeletedSecret),
            (Method::GET, "/deletedsecrets/a/", Action::GetDeletedSecret),
            (Method::DELETE, "/deletedsecrets/a", Action::PurgeSecret),
            (Method::POST, "/deletedsecrets/a/recover", Action::RecoverSecret),
            (Method::POST, "//deletedsecrets/a/Recover/", Action::RecoverSecret),
        ] {
            assert_eq!(action(&method, path), Ok(expected), "{method} {path}");
        }
    }

    #[test]
    fn an_empty_version_is_the_newest_and_a_name_keeps_its_case() {
        let target = find(&Method::GET, "/secrets/Db-Password/").unwrap();
        assert_eq!(target.version, None);
        assert_eq!(target.name.unwrap().as_written(), "Db-Password");
        let pinned = find(&Method::GET, &format!("/secrets/a/{VERSION}")).unwrap();
        assert_eq!(pinned.version, Version::parse(VERSION).ok());
    }

    #[test]
    fn a_path_with_a_second_reading_is_refused() {
        for path in [
            "/secrets/..",
            "/secrets/../x",
            "/secrets/.",
            "/%2e%2e/secrets",
            "/secrets/%61",
            "/secrets/a%00",
            "/secrets/a%2Fb",
            "/secrets/a;b",
            "/secrets\\a",
            "/secrets/a\0",
            "/secrets/a b",
            "/secrets//a",
            "/secrets/a//",
            "/secrets//",
            "/secrets//versions",
            "*",
        ] {
            assert_eq!(action(&Method::GET, path), Err(NoRoute::Malformed), "{path}");
        }
    }

    #[test]
    fn names_and_versions_in_paths_are_held_to_azures_rules() {
        let long = format!("/secrets/{}", "a".repeat(128));
        assert_eq!(action(&Method::GET, &long), Err(NoRoute::BadName));
        assert_eq!(
            action(&Method::GET, "/secrets/a/notaversion"),
            Err(NoRoute::BadVersion)
        );
        assert_eq!(
            action(&Method::PATCH, "/secrets/a/versions"),
            Err(NoRoute::BadVersion)
        );
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        for path in [
            "",
            "/",
            "//",
            "/keys",
            "/operate/ensure-vault",
            "/projection",
            "/secrets/a/b/c",
            "/deletedsecrets/a/b",
            "/a/b/c/d/e/f",
        ] {
            assert_eq!(action(&Method::GET, path), Err(NoRoute::Unknown), "{path}");
        }
        for (method, path, allow) in [
            (Method::HEAD, "/secrets", "GET"),
            (Method::POST, "/secrets/a", "DELETE, GET, PATCH, PUT"),
            (Method::OPTIONS, "/secrets/a/versions", "GET"),
            (Method::PUT, "/deletedsecrets/a", "DELETE, GET"),
            (Method::GET, "/deletedsecrets/a/recover", "POST"),
            (
                Method::DELETE,
                "/secrets/a/0123456789abcdef0123456789abcdef",
                "GET, PATCH",
            ),
        ] {
            assert_eq!(
                action(&method, path),
                Err(NoRoute::Method(allow)),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn the_allow_header_is_what_the_route_table_says() {
        for row in ROUTES {
            let segments = row.path.iter().map(|segment| match segment {
                Word(word) => *word,
                Name => "a",
                Segment::Version => VERSION,
            });
            let path = format!("/{}", segments.collect::<Vec<_>>().join("/"));
            let methods = [
                Method::DELETE,
                Method::GET,
                Method::PATCH,
                Method::POST,
                Method::PUT,
            ];
            let served: Vec<_> = methods
                .iter()
                .filter(|method| find(method, &path).is_ok())
                .collect();
            assert!(served.contains(&&row.method), "{path}");
            let served = served
                .iter()
                .map(|method| method.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            let Err(NoRoute::Method(allow)) = find(&Method::TRACE, &path) else {
                panic!("{path}");
            };
            assert_eq!(allow, served, "{path}");
        }
    }

    #[test]
    fn every_published_api_version_is_served() {
        for version in [
            "2016-10-01",
            "7.0",
            "7.1",
            "7.2",
            "7.3",
            "7.4",
            "7.5",
            "7.6-preview.2",
            "7.6",
            "2025-06-01-preview",
            "2025-07-01",
            "2026-01-01-preview",
            "2026-03-01-preview",
            "2026-04-01",
            "2026-05-01-preview",
            "2026-07-01-preview",
            "2031-12-31",
        ] {
            let read = query(&format!("api-version={version}")).map(|query| query.api_version);
            assert_eq!(read.as_deref(), Ok(version));
        }
        for bad in [
            "",
            "7",
            "7.",
            "6.0",
            "7.x",
            "7.4.1",
            "latest",
            "2025-13-01",
            "2025-1-1",
            "7.4-beta",
            "7.4%00",
            "٧.4",
        ] {
            assert_eq!(
                query(&format!("api-version={bad}")),
                Err(BadQuery::ApiVersion),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_query_is_read_as_sdks_write_it() {
        let read = query("api%2Dversion=7.4&maxresults=7&%24skiptoken=abc%2Ddef&other=1&&flag").unwrap();
        assert_eq!(
            (read.api_version.as_str(), read.max_results()),
            ("7.4", NonZeroU8::new(7))
        );
        assert_eq!(read.page().skip_token.as_deref(), Some("abc-def"));
        assert_eq!(query("API-Version=7.4").unwrap().page().limit.get(), 25);
    }

    #[test]
    fn a_wrong_query_says_what_is_wrong_with_it() {
        for (text, expected) in [
            ("", BadQuery::NoApiVersion),
            ("maxresults=1", BadQuery::NoApiVersion),
            ("api-version=7.4&API-VERSION=7.4", BadQuery::Twice),
            ("api-version=7.4&maxresults=0", BadQuery::MaxResults),
            ("api-version=7.4&maxresults=26", BadQuery::MaxResults),
            ("api-version=7.4&maxresults=-1", BadQuery::MaxResults),
            ("api-version=7.4&maxresults=x", BadQuery::MaxResults),
            (
                "api-version=7.4&outContentType=application/x-pem-file",
                BadQuery::OutContentType,
            ),
            ("api-version=7.4&%zz=1", BadQuery::Encoding),
            ("api-version=7.4&$skiptoken=%ff", BadQuery::Encoding),
            ("api-version=%", BadQuery::Encoding),
        ] {
            assert_eq!(query(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_path_and_no_query_make_the_reader_panic(path in "[/a-zA-Z0-9%.;-]{0,80}", text in ".{0,120}") {
            let _ = find(&Method::GET, &path);
            let _ = find(&Method::GET, &text);
            let _ = query(&text);
        }
    }
}
