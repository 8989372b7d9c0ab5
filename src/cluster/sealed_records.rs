//! The cluster's own etcd as a store: one `SealedRecord` resource a record.
//!
//! # Why
//! The API server gives what the store asks for: compare-and-swap by UID and resourceVersion, quorum reads (a read without
//! a resourceVersion), consistent lists and ordered watches. What it cannot give is a clear answer always, so every error
//! is told apart by one question: may the change have been made? Only where it surely was not is that said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream};
use http::Method;
use k8s_openapi::ByteString;
use kube::core::Resource;
use serde::{Deserialize, Serialize};

use crate::crd;
use crate::model::{Namespace, Uid};
use crate::store::{MAX_ENVELOPE, Record, RecordName, SealedStore, Stamp, StoreError, StoreEvent};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::StoreWrite;

use super::api::{Api, ApiError, Ask, JSON, Reason};
use super::wire::{Object, Page, Told, WatchBody, list_pages, revision, told};

/// Records a page of a list: as many of the largest as stay within the limit of an answer.
pub(crate) const PAGE: u32 = 60;
/// How often a list is begun anew when its snapshot went away while it was read.
const LIST_ATTEMPTS: usize = 3;
/// How long a watch runs before it is renewed inside the stream.
const WATCH_SECONDS: u32 = 60;

/// Sealed records in the custom resources of the release namespace.
#[derive(Debug, Clone)]
pub struct KubernetesStore {
    api: Api,
    collection: String,
    metrics: Arc<Metrics>,
}

impl KubernetesStore {
    /// The store in this namespace, over this connection. Nothing is sent yet.
    #[must_use]
    pub fn new(api: Api, namespace: &Namespace, metrics: Arc<Metrics>) -> Self {
        Self {
            api,
            collection: collection(namespace),
            metrics,
        }
    }

    fn path(&self, name: &RecordName) -> String {
        format!("{}/{name}", self.collection)
    }

    /// Sends a change and counts how it ended.
    async fn change(
        &self,
        kind: StoreWrite,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, StoreError> {
        let began = Instant::now();
        let answer = self.api.call(Ask::write(method, path, body)).await;
        let answer = answer.map_err(|error| meaning(&error));
        let outcome = answer.as_ref().err().map(StoreError::kind);
        self.metrics.store_write(kind, outcome, began.elapsed());
        answer
    }

    async fn write(
        &self,
        kind: StoreWrite,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Stamp, StoreError> {
        let answer = self.change(kind, method, path, body).await?;
        // It was done, but under which stamp is not known.
        let object: RecordObject = serde_json::from_slice(&answer).map_err(|_| StoreError::Unknown)?;
        object.stamp().map_err(|_| StoreError::Unknown)
    }

    async fn read(&self, name: &RecordName) -> Result<Option<Record>, StoreError> {
        match self.api.read::<RecordObject>(Ask::get(&self.path(name))).await {
            Ok(object) => object
                .record()
                .ok()
                .flatten()
                .ok_or(StoreError::Unavailable)
                .map(Some),
            Err(error) if error.is(Reason::NotFound) => Ok(None),
            Err(error) => Err(unread(&error)),
        }
    }

    async fn pages(&self) -> Result<(Vec<Record>, u64), ApiError> {
        let mut records = Vec::new();
        let take = |objects: Vec<RecordObject>| {
            for object in objects {
                records.extend(object.record()?);
            }
            Ok(())
        };
        let revision = list_pages(&self.api, &self.collection, PAGE, JSON, take).await?;
        Ok((records, revision))
    }

    async fn all(&self) -> Result<(Vec<Record>, u64), StoreError> {
        for _ in 1..LIST_ATTEMPTS {
            match self.pages().await {
                Err(error) if error.is(Reason::Expired) => {}
                other => return other.map_err(|error| unread(&error)),
            }
        }
        self.pages().await.map_err(|error| unread(&error))
    }
}

/// Whether any record exists, of whatever installation and key.
pub(crate) async fn any_record(api: &Api, namespace: &Namespace) -> Result<bool, ApiError> {
    let path = format!("{}?limit=1", collection(namespace));
    let page: Page<RecordObject> = api.read(Ask::get(&path)).await?;
    Ok(page.items.is_some_and(|items| !items.is_empty()))
}

/// The path of the collection.
pub(crate) fn collection(namespace: &Namespace) -> String {
    crd::SealedRecord::url_path(&(), Some(namespace.as_str()))
}

impl SealedStore for KubernetesStore {
    fn create<'a>(
        &'a self,
        name: &'a RecordName,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
        async move {
            let body = manifest(name, None, envelope)?;
            let made = self.write(StoreWrite::Create, Method::POST, &self.collection, body);
            match made.await {
                // The quota's object, not ours: a creation expects nothing that could have changed.
                Err(StoreError::Conflict) => Err(StoreError::Unavailable),
                Err(StoreError::NotFound) => Err(StoreError::Unavailable),
                other => other,
            }
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
        async move {
            let body = manifest(name, Some(expected), envelope)?;
            let path = self.path(name);
            match self.write(StoreWrite::Update, Method::PUT, &path, body).await {
                // The API server writes nothing where nothing differs, so that another update under the same stamp could
                // succeed as well. Envelopes never repeat; if one does, its writer is to look again.
                Ok(stamp) if stamp == *expected => Err(StoreError::Conflict),
                other => other,
            }
        }
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let revision = expected.revision.to_string();
            let options = DeleteOptions {
                api_version: "v1",
                kind: "DeleteOptions",
                preconditions: Preconditions {
                    uid: expected.uid.as_str(),
                    resource_version: &revision,
                },
            };
            // Such values always serialise.
            let body = serde_json::to_vec(&options).map_err(|_| StoreError::Unavailable)?;
            let path = self.path(name);
            let removed = self.change(StoreWrite::Delete, Method::DELETE, &path, body);
            removed.await.map(drop)
        }
        .boxed()
    }

    fn get<'a>(&'a self, name: &'a RecordName) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        self.read(name).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<(Vec<Record>, u64), StoreError>> {
        self.all().boxed()
    }

    fn watch(&self, from: u64) -> BoxStream<'static, Result<StoreEvent, StoreError>> {
        let watching = Watching {
            api: self.api.clone(),
            collection: self.collection.clone(),
            at: from,
            body: None,
        };
        stream::try_unfold(watching, Watching::next).boxed()
    }
}

struct Watching {
    api: Api,
    collection: String,
    at: u64,
    body: Option<WatchBody>,
}

impl Watching {
    async fn next(mut self) -> Result<Option<(StoreEvent, Self)>, StoreError> {
        loop {
            let mut body = match self.body.take() {
                Some(body) => body,
                None => Self::open(&self.api, &self.collection, self.at)
                    .await
                    .map_err(|error| unread(&error))?,
            };
            let wait = Duration::from_secs(u64::from(WATCH_SECONDS) + 5);
            let line = tokio::time::timeout(wait, body.next())
                .await
                .map_err(|_| StoreError::Unavailable)?;
            let Some(line) = line.map_err(|error| unread(&error))? else {
                // It ran its time: go on where it was.
                continue;
            };
            self.body = Some(body);
            let told = told::<RecordObject>(&line).map_err(|error| unread(&error))?;
            if let Some(event) = event(told).map_err(|error| unread(&error))? {
                self.at = event.revision();
                return Ok(Some((event, self)));
            }
        }
    }

    async fn open(api: &Api, collection: &str, at: u64) -> Result<WatchBody, ApiError> {
        let path = format!(
            "{collection}?watch=1&allowWatchBookmarks=true&resourceVersion={at}&timeoutSeconds={WATCH_SECONDS}"
        );
        api.stream(Ask::get(&path)).await.map(WatchBody::new)
    }
}

/// A line of a watch as the store tells it; none for an object that is no record.
pub(crate) fn event(told: Told<RecordObject>) -> Result<Option<StoreEvent>, ApiError> {
    Ok(match told {
        Told::Put(object) => object.record()?.map(StoreEvent::Put),
        Told::Gone(object) => {
            let stamp = object.stamp()?;
            object.name().map(|name| StoreEvent::Deleted { name, stamp })
        }
        Told::Bookmark(revision) => Some(StoreEvent::Bookmark(revision)),
    })
}

/// What a failed write means to the store.
fn meaning(error: &ApiError) -> StoreError {
    let meaning = match error {
        ApiError::NotSent | ApiError::Configuration => StoreError::Unavailable,
        ApiError::NoAnswer | ApiError::Malformed => StoreError::Unknown,
        ApiError::Refused(refusal) => match refusal.reason {
            Reason::Conflict => StoreError::Conflict,
            Reason::AlreadyExists => StoreError::AlreadyExists,
            Reason::NotFound => StoreError::NotFound,
            Reason::TooLarge => StoreError::TooLarge,
            Reason::Full => StoreError::Full,
            Reason::Unclear => StoreError::Unknown,
            Reason::Forbidden | Reason::Invalid | Reason::Expired | Reason::TooMany | Reason::NotNow => {
                StoreError::Unavailable
            }
        },
    };
    if matches!(
        meaning,
        StoreError::Unavailable | StoreError::Unknown | StoreError::Full
    ) {
        tracing::warn!(%error, %meaning, "a sealed record could not be written");
    }
    meaning
}

/// What a failed read means to the store: nothing was to be done, so nothing is unknown.
fn unread(error: &ApiError) -> StoreError {
    if error.is(Reason::Expired) {
        return StoreError::Expired;
    }
    tracing::warn!(%error, "sealed records could not be read");
    StoreError::Unavailable
}

/// A `SealedRecord` as read: what of it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordObject {
    metadata: RecordMetadata,
    sealed: Option<ByteString>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordMetadata {
    name: String,
    uid: String,
    resource_version: String,
}

impl Object for RecordObject {
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl RecordObject {
    fn stamp(&self) -> Result<Stamp, ApiError> {
        Ok(Stamp {
            uid: Uid::new(&self.metadata.uid),
            revision: revision(&self.metadata.resource_version)?,
        })
    }

    /// None for an object that somebody made under a name that no record has.
    fn name(&self) -> Option<RecordName> {
        let name = RecordName::parse(&self.metadata.name);
        if name.is_err() {
            tracing::warn!("a SealedRecord has a name that Strongroom never gives; it is left alone");
        }
        name.ok()
    }

    /// The record. One without content is handed on empty: whoever opens it says that it is damaged.
    pub(crate) fn record(self) -> Result<Option<Record>, ApiError> {
        let stamp = self.stamp()?;
        Ok(self.name().map(|name| Record {
            name,
            stamp,
            envelope: self
                .sealed
                .map_or_else(Bytes::new, |sealed| Bytes::from(sealed.0)),
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: ManifestMetadata<'a>,
    sealed: ByteString,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestMetadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeleteOptions<'a> {
    api_version: &'a str,
    kind: &'a str,
    preconditions: Preconditions<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Preconditions<'a> {
    uid: &'a str,
    resource_version: &'a str,
}

/// The object to be written: under `expected`, or to be made.
fn manifest(name: &RecordName, expected: Option<&Stamp>, envelope: Bytes) -> Result<Vec<u8>, StoreError> {
    if envelope.len() > MAX_ENVELOPE {
        return Err(StoreError::TooLarge);
    }
    let manifest = Manifest {
        api_version: &crd::SealedRecord::api_version(&()),
        kind: &crd::SealedRecord::kind(&()),
        metadata: ManifestMetadata {
            name: name.as_str(),
            uid: expected.map(|stamp| stamp.uid.as_str()),
            resource_version: expected.map(|stamp| stamp.revision.to_string()),
        },
        sealed: ByteString(envelope.into()),
    };
    // Such values always serialise.
    serde_json::to_vec(&manifest).map_err(|_| StoreError::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::api::Refusal;

    fn name() -> RecordName {
        RecordName::parse("0123abc").unwrap()
    }

    fn refused(reason: Reason) -> ApiError {
        ApiError::Refused(Refusal {
            status: 500,
            reason,
            retry_after: None,
            permission: None,
        })
    }

    #[test]
    fn a_write_is_unknown_unless_it_was_surely_not_done() {
        let table = [
            (ApiError::NotSent, StoreError::Unavailable),
            (ApiError::NoAnswer, StoreError::Unknown),
            (ApiError::Malformed, StoreError::Unknown),
            (refused(Reason::Conflict), StoreError::Conflict),
            (refused(Reason::AlreadyExists), StoreError::AlreadyExists),
            (refused(Reason::NotFound), StoreError::NotFound),
            (refused(Reason::TooLarge), StoreError::TooLarge),
            (refused(Reason::Full), StoreError::Full),
            (refused(Reason::TooMany), StoreError::Unavailable),
            (refused(Reason::NotNow), StoreError::Unavailable),
            (refused(Reason::Forbidden), StoreError::Unavailable),
            (refused(Reason::Unclear), StoreError::Unknown),
        ];
        for (error, expected) in table {
            assert_eq!(meaning(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn a_record_goes_out_as_the_resource_that_it_is_and_comes_back_whole() {
        let stamp = Stamp {
            uid: Uid::new("u-1"),
            revision: 42,
        };
        let envelope = Bytes::from_static(&[0, 255, 7]);
        let made: crd::SealedRecord =
            serde_json::from_slice(&manifest(&name(), None, envelope.clone()).unwrap()).unwrap();
        assert_eq!(made.metadata.uid, None);
        assert_eq!(made.metadata.resource_version, None);
        let body = manifest(&name(), Some(&stamp), envelope.clone()).unwrap();
        let changed: crd::SealedRecord = serde_json::from_slice(&body).unwrap();
        assert_eq!(changed.metadata.uid.as_deref(), Some("u-1"));
        assert_eq!(changed.metadata.resource_version.as_deref(), Some("42"));
        let read: RecordObject = serde_json::from_slice(&body).unwrap();
        let expected = Record {
            name: name(),
            stamp,
            envelope,
        };
        assert_eq!(read.record().unwrap(), Some(expected));
    }

    #[test]
    fn the_largest_envelope_is_what_the_resources_schema_allows() {
        let definition = serde_json::to_value(crd::all()).unwrap();
        let properties = |crd: &serde_json::Value| {
            crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/sealed/maxLength")
                .cloned()
        };
        let allowed: Vec<_> = definition
            .as_array()
            .unwrap()
            .iter()
            .filter_map(properties)
            .collect();
        assert_eq!(allowed, [serde_json::json!(MAX_ENVELOPE.div_ceil(3) * 4)]);
    }

    #[test]
    fn a_page_of_the_largest_records_is_still_taken() {
        let record = MAX_ENVELOPE.div_ceil(3) * 4 + 4096;
        assert!(record * usize::try_from(PAGE).unwrap() < crate::cluster::api::MAX_ANSWER);
    }

    #[test]
    fn an_envelope_beyond_the_limit_is_never_sent() {
        let huge = Bytes::from(vec![0; MAX_ENVELOPE + 1]);
        assert_eq!(manifest(&name(), None, huge), Err(StoreError::TooLarge));
    }

    #[test]
    fn a_foreign_object_among_the_records_is_left_alone() {
        let object: RecordObject = serde_json::from_str(
            r#"{"metadata":{"name":"a.b","uid":"u","resourceVersion":"1"},"sealed":"AA=="}"#,
        )
        .unwrap();
        assert_eq!(object.record().unwrap(), None);
        let empty: RecordObject =
            serde_json::from_str(r#"{"metadata":{"name":"ab","uid":"u","resourceVersion":"1"}}"#).unwrap();
        assert_eq!(empty.record().unwrap().unwrap().envelope.len(), 0);
    }
}
