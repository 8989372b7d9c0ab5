//! Lists and watches as the API server writes them.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::{DeserializeGuard, Resource, WatchEvent};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api::{Api, ApiError, Ask};

/// The longest line of a watch that is taken: several times the largest object that etcd holds.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// An object of a list or watch.
pub(crate) trait Object: DeserializeOwned + Send + 'static {
    /// Its `resourceVersion`, as written.
    fn resource_version(&self) -> &str;
}

impl<K> Object for DeserializeGuard<K>
where
    K: Resource + DeserializeOwned + Send + 'static,
{
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or("")
    }
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    /// Of the whole list.
    pub metadata: PageMetadata,
    /// The objects. Go writes an empty list as null.
    #[serde(default = "Option::default")]
    pub items: Option<Vec<T>>,
}

/// What a page says about its list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMetadata {
    /// The revision that the list shows.
    pub resource_version: String,
    /// Token of the next page; empty or absent on the last.
    pub r#continue: Option<String>,
}

impl PageMetadata {
    /// The token of the next page.
    pub(crate) fn next(&self) -> Option<&str> {
        self.r#continue.as_deref().filter(|token| !token.is_empty())
    }
}

/// Reads a whole list in pages of at most `limit` objects, hands each page on, and hands back the revision that the list shows.
/// Without a revision asked for, the API server answers by quorum.
pub(crate) async fn list_pages<T: DeserializeOwned>(
    api: &Api,
    collection: &str,
    limit: u32,
    accept: &'static str,
    mut take: impl FnMut(Vec<T>) -> Result<(), ApiError>,
) -> Result<u64, ApiError> {
    let mut path = format!("{collection}?limit={limit}");
    loop {
        let ask = Ask {
            accept,
            ..Ask::get(&path)
        };
        let page: Page<T> = api.read(ask).await?;
        take(page.items.unwrap_or_default())?;
        match page.metadata.next() {
            // Tokens are base64 of the URL-safe alphabet.
            Some(token) => path = format!("{collection}?limit={limit}&continue={token}"),
            None => return revision(&page.metadata.resource_version),
        }
    }
}

/// How far the store is, by quorum, as a list of one object of this collection says.
pub(crate) async fn current_revision(
    api: &Api,
    collection: &str,
    accept: &'static str,
) -> Result<u64, ApiError> {
    #[derive(Deserialize)]
    struct Head {
        metadata: PageMetadata,
    }
    let path = format!("{collection}?limit=1");
    let ask = Ask {
        accept,
        ..Ask::get(&path)
    };
    let head: Head = api.read(ask).await?;
    revision(&head.metadata.resource_version)
}

/// A revision as a number, as etcd makes it.
pub(crate) fn revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| ApiError::Malformed)
}

/// One line of a watch.
#[derive(Debug)]
pub(crate) enum Told<T> {
    /// An object was made or changed.
    Put(T),
    /// An object was removed; its revision is that of the removal.
    Gone(T),
    /// Everything up to this revision was told.
    Bookmark(u64),
}

impl<T: Object> Told<T> {
    /// Up to which revision everything was told with this.
    pub(crate) fn revision(&self) -> Result<u64, ApiError> {
        match self {
            Self::Put(object) | Self::Gone(object) => revision(object.resource_version()),
            Self::Bookmark(revision) => Ok(*revision),
        }
    }
}

/// Reads one line of a watch. An error that the API server tells inside the stream is told as if it were the answer's.
pub(crate) fn told<T: Object>(line: &[u8]) -> Result<Told<T>, ApiError> {
    match serde_json::from_slice(line).map_err(|_| ApiError::Malformed)? {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => Ok(Told::Put(object)),
        WatchEvent::Deleted(object) => Ok(Told::Gone(object)),
        WatchEvent::Bookmark(bookmark) => revision(&bookmark.metadata.resource_version).map(Told::Bookmark),
        WatchEvent::Error(status) => {
            let code =
                http::StatusCode::from_u16(status.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
            Err(ApiError::Refused(super::api::judge(code, Some(&status), None)))
        }
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line end.
    searched: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        if self.buffer.len().saturating_add(bytes.len()) > MAX_LINE {
            return Err(ApiError::Malformed);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn next(&mut self) -> Option<Bytes> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(found) = rest.iter().position(|b| *b == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + found).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

/// The lines of a watch's body.
pub(crate) struct WatchBody {
    body: Body,
    lines: Lines,
}

impl WatchBody {
    /// Reads from `body`.
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            lines: Lines::default(),
        }
    }

    /// The next line; none at the end. A line cut off by the end was not told.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some(line) = self.lines.next() {
                return Ok(Some(line));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame.map_err(|_| ApiError::NoAnswer)?.into_data() {
                self.lines.push(&data)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::api::Reason;
    use proptest::prelude::*;

    #[derive(Debug, Deserialize)]
    struct Thing {
        metadata: Meta,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        resource_version: String,
    }

    impl Object for Thing {
        fn resource_version(&self) -> &str {
            &self.metadata.resource_version
        }
    }

    #[test]
    fn every_line_of_a_watch_is_understood() {
        let put =
            told::<Thing>(br#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"12"}}}"#).unwrap();
        assert!(matches!(&put, Told::Put(_)) && put.revision() == Ok(12));
        let gone =
            told::<Thing>(br#"{"type":"DELETED","object":{"metadata":{"resourceVersion":"13"}}}"#).unwrap();
        assert!(matches!(&gone, Told::Gone(_)) && gone.revision() == Ok(13));
        let bookmark = told::<Thing>(
            br#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"14","creationTimestamp":null}}}"#,
        )
        .unwrap();
        assert!(matches!(bookmark, Told::Bookmark(14)));
        let expired = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (2)","reason":"Expired","code":410}}"#;
        assert!(told::<Thing>(expired).unwrap_err().is(Reason::Expired));
        for garbled in [
            &b""[..],
            b"{",
            b"null",
            br#"{"type":"OTHER","object":{}}"#,
            br#"{"type":"ADDED"}"#,
        ] {
            assert_eq!(told::<Thing>(garbled).unwrap_err(), ApiError::Malformed);
        }
        let odd =
            told::<Thing>(br#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"1x"}}}"#).unwrap();
        assert_eq!(odd.revision(), Err(ApiError::Malformed));
    }

    #[test]
    fn a_list_without_items_is_empty() {
        for text in [
            r#"{"metadata":{"resourceVersion":"5","continue":""},"items":null}"#,
            r#"{"metadata":{"resourceVersion":"5"}}"#,
        ] {
            let page: Page<Thing> = serde_json::from_str(text).unwrap();
            assert!(page.items.is_none() && page.metadata.next().is_none());
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            lines in prop::collection::vec("[a-z]{0,20}", 0..10),
            cuts in prop::collection::vec(1_usize..7, 0..60),
        ) {
            let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
            let (mut rest, mut cutter, mut found) = (text.as_bytes(), Lines::default(), Vec::new());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                cutter.push(now).unwrap();
                found.extend(std::iter::from_fn(|| cutter.next()));
            }
            prop_assert_eq!(found, lines);
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = told::<Thing>(&line);
        }
    }
}
