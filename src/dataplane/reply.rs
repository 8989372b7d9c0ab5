//! Answers as Azure writes them: typed, into one buffer of the right size.

use std::fmt;
use std::num::NonZeroU8;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::host::Address;
use crate::model::{
    Attributes, DeletedItem, DeletedSecret, ObjectName, Page, Reply, Secret, SecretItem, Tags, Version,
};

/// The collections that ids and links name.
const SECRETS: &str = "secrets";
const DELETED: &str = "deletedsecrets";

/// What the links of a page are made of.
pub(super) struct PageLink<'a> {
    /// The `api-version` of the request.
    pub(super) api_version: &'a str,
    /// The versions of this secret; none for the lists of secrets.
    pub(super) versions_of: Option<&'a ObjectName>,
    /// The page size that was asked for.
    pub(super) max_results: Option<NonZeroU8>,
}

/// Writes a reply; one without content is empty. None if it is not one of the vaults' listener, or a value is no text.
pub(super) fn write(reply: &Reply, address: &Address, link: &PageLink<'_>) -> Option<Bytes> {
    match reply {
        Reply::Secret(secret) => to_bytes(&WireSecret::new(secret, address)?, size(secret)),
        Reply::Deleted(deleted) => {
            let wire = WireDeleted {
                recovery_id: Id::deleted(address, &deleted.secret.name),
                deleted_date: deleted.deleted.0,
                scheduled_purge_date: deleted.scheduled_purge.0,
                secret: WireSecret::new(without_value(deleted)?, address)?,
            };
            to_bytes(&wire, size(&deleted.secret) + 256)
        }
        Reply::Page(page) => {
            let line = |item| WireItem::new(item, address);
            let wire = WirePage::new(page, SECRETS, address, link, line);
            to_bytes(&wire, page.items.len() * 512 + 512)
        }
        Reply::DeletedPage(page) => {
            let line = |item| WireDeletedItem::new(item, address);
            let wire = WirePage::new(page, DELETED, address, link, line);
            to_bytes(&wire, page.items.len() * 640 + 512)
        }
        Reply::Purged => Some(Bytes::new()),
        Reply::VaultReady | Reply::Owned(_) => None,
    }
}

/// A deleted secret has no value on the wire, whatever the engine says.
const fn without_value(deleted: &DeletedSecret) -> Option<&Secret> {
    if deleted.secret.value.is_some() {
        None
    } else {
        Some(&deleted.secret)
    }
}

/// The buffer never grows while a value is written into it: growing would leave a copy behind.
fn size(secret: &Secret) -> usize {
    let escaped = secret.value.as_ref().map_or(0, |value| {
        value
            .expose()
            .iter()
            .map(|byte| {
                if *byte < 0x20 {
                    6
                } else {
                    1 + usize::from(matches!(byte, b'"' | b'\\'))
                }
            })
            .sum()
    });
    let tags: usize = secret
        .tags
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    escaped + tags + 1_024
}

fn to_bytes(wire: &impl Serialize, size: usize) -> Option<Bytes> {
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    serde_json::to_writer(&mut *out, wire).ok()?;
    Some(Bytes::from_owner(Wiped(out)))
}

/// Wiped when the connection has sent it.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// `https://{host}/{collection}/{name}[/{version}]`.
struct Id<'a> {
    address: &'a Address,
    collection: &'static str,
    name: &'a ObjectName,
    version: Option<Version>,
}

impl<'a> Id<'a> {
    const fn deleted(address: &'a Address, name: &'a ObjectName) -> Self {
        Self {
            address,
            collection: DELETED,
            name,
            version: None,
        }
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // In one piece, not by formatting: every answer has one.
        let hex = self.version.map(Version::to_hex);
        let (slash, version) = hex.as_ref().map_or(("", ""), |hex| ("/", hex.as_str()));
        let host = self.address.as_str();
        let name = self.name.as_written();
        let id = ["https://", host, "/", self.collection, "/", name, slash, version].concat();
        serializer.serialize_str(&id)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSecret<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    id: Id<'a>,
    attributes: WireAttributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    tags: &'a Tags,
}

impl<'a> WireSecret<'a> {
    fn new(secret: &'a Secret, address: &'a Address) -> Option<Self> {
        let value = secret
            .value
            .as_ref()
            .map(|value| std::str::from_utf8(value.expose()))
            .transpose()
            .ok()?;
        Some(Self {
            value,
            id: Id {
                address,
                collection: SECRETS,
                name: &secret.name,
                version: Some(secret.version),
            },
            attributes: WireAttributes::new(&secret.attributes),
            content_type: secret.content_type.as_deref(),
            tags: &secret.tags,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireAttributes {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    created: i64,
    updated: i64,
    recovery_level: &'static str,
    recoverable_days: u16,
}

impl WireAttributes {
    fn new(attributes: &Attributes) -> Self {
        Self {
            enabled: attributes.enabled,
            nbf: attributes.not_before.map(|at| at.0),
            exp: attributes.expires.map(|at| at.0),
            created: attributes.created.0,
            updated: attributes.updated.0,
            recovery_level: attributes.recovery_level.as_str(),
            recoverable_days: attributes.recoverable_days,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireDeleted<'a> {
    recovery_id: Id<'a>,
    deleted_date: i64,
    scheduled_purge_date: i64,
    #[serde(flatten)]
    secret: WireSecret<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireItem<'a> {
    id: Id<'a>,
    attributes: WireAttributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    tags: &'a Tags,
}

impl<'a> WireItem<'a> {
    fn new(item: &'a SecretItem, address: &'a Address) -> Self {
        Self {
            id: Id {
                address,
                collection: SECRETS,
                name: &item.name,
                version: item.version,
            },
            attributes: WireAttributes::new(&item.attributes),
            content_type: item.content_type.as_deref(),
            tags: &item.tags,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireDeletedItem<'a> {
    recovery_id: Id<'a>,
    deleted_date: i64,
    scheduled_purge_date: i64,
    #[serde(flatten)]
    item: WireItem<'a>,
}

impl<'a> WireDeletedItem<'a> {
    fn new(deleted: &'a DeletedItem, address: &'a Address) -> Self {
        Self {
            recovery_id: Id::deleted(address, &deleted.item.name),
            deleted_date: deleted.deleted.0,
            scheduled_purge_date: deleted.scheduled_purge.0,
            item: WireItem::new(&deleted.item, address),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WirePage<'a, L> {
    value: Vec<L>,
    /// Null on the last page, as Azure has it.
    next_link: Option<NextLink<'a>>,
}

impl<'a, L> WirePage<'a, L> {
    fn new<T>(
        page: &'a Page<T>,
        collection: &'static str,
        address: &'a Address,
        link: &'a PageLink<'a>,
        line: impl Fn(&'a T) -> L,
    ) -> Self {
        Self {
            value: page.items.iter().map(line).collect(),
            next_link: page.next.as_deref().map(|token| NextLink {
                address,
                collection,
                link,
                token,
            }),
        }
    }
}

/// Where the next page is: on the same host, with the same version and page size.
struct NextLink<'a> {
    address: &'a Address,
    collection: &'static str,
    link: &'a PageLink<'a>,
    token: &'a str,
}

impl fmt::Display for NextLink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/{}", self.address, self.collection)?;
        if let Some(name) = self.link.versions_of {
            write!(f, "/{name}/versions")?;
        }
        write!(
            f,
            "?api-version={}&$skiptoken={}",
            self.link.api_version, self.token
        )?;
        self.link
            .max_results
            .map_or(Ok(()), |most| write!(f, "&maxresults={most}"))
    }
}

impl Serialize for NextLink<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{RecoveryLevel, SecretBytes, UnixSeconds};

    fn address() -> Address {
        Address::parse("demo.team.svc:8443").unwrap()
    }

    fn attributes() -> Attributes {
        Attributes {
            enabled: true,
            not_before: Some(UnixSeconds(5)),
            expires: None,
            created: UnixSeconds(1),
            updated: UnixSeconds(2),
            recoverable_days: 90,
            recovery_level: RecoveryLevel::RecoverablePurgeable,
        }
    }

    fn secret(value: Option<&str>) -> Secret {
        Secret {
            name: ObjectName::parse("Db-Password").unwrap(),
            version: Version([0xab; 16]),
            value: value.map(|value| SecretBytes::new(value.as_bytes().to_vec())),
            content_type: Some("text/plain".into()),
            attributes: attributes(),
            tags: Arc::new(Tags::from([("a".to_owned(), "\"1\"".to_owned())])),
        }
    }

    fn text(reply: &Reply, link: &PageLink<'_>) -> String {
        String::from_utf8(write(reply, &address(), link).unwrap().to_vec()).unwrap()
    }

    const NO_LINK: PageLink<'static> = PageLink {
        api_version: "7.4",
        versions_of: None,
        max_results: None,
    };

    #[test]
    fn a_secret_reads_as_azures() {
        assert_eq!(
            text(&Reply::Secret(secret(Some("s3\"cret\n\u{1}"))), &NO_LINK),
            concat!(
                r#"{"value":"s3\"cret\n\u0001","id":"https://demo.team.svc:8443/secrets/Db-Password/abababababababababababababababab","#,
                r#""attributes":{"enabled":true,"nbf":5,"created":1,"updated":2,"recoveryLevel":"Recoverable+Purgeable","#,
                r#""recoverableDays":90},"contentType":"text/plain","tags":{"a":"\"1\""}}"#,
            )
        );
        assert!(!text(&Reply::Secret(secret(None)), &NO_LINK).contains("value"));
    }

    #[test]
    fn a_deleted_secret_says_where_and_until_when_it_can_be_recovered() {
        let deleted = DeletedSecret {
            secret: secret(None),
            deleted: UnixSeconds(7),
            scheduled_purge: UnixSeconds(9),
        };
        let json: serde_json::Value =
            serde_json::from_str(&text(&Reply::Deleted(deleted), &NO_LINK)).unwrap();
        assert_eq!(
            json["recoveryId"],
            "https://demo.team.svc:8443/deletedsecrets/Db-Password"
        );
        assert_eq!(
            (json["deletedDate"].as_i64(), json["scheduledPurgeDate"].as_i64()),
            (Some(7), Some(9))
        );
        assert_eq!(json["attributes"]["recoverableDays"], 90);
        let leaky = DeletedSecret {
            secret: secret(Some("x")),
            deleted: UnixSeconds(7),
            scheduled_purge: UnixSeconds(9),
        };
        assert!(write(&Reply::Deleted(leaky), &address(), &NO_LINK).is_none());
    }

    #[test]
    fn deleted_secrets_are_listed_with_their_dates_and_link_to_their_own_next_page() {
        let item = SecretItem {
            name: ObjectName::parse("a").unwrap(),
            version: None,
            attributes: attributes(),
            content_type: None,
            tags: Arc::default(),
        };
        let page = Page {
            items: vec![DeletedItem {
                item,
                deleted: UnixSeconds(7),
                scheduled_purge: UnixSeconds(9),
            }],
            next: Some("token".to_owned()),
        };
        let json: serde_json::Value =
            serde_json::from_str(&text(&Reply::DeletedPage(page), &NO_LINK)).unwrap();
        let line = &json["value"][0];
        assert_eq!(line["id"], "https://demo.team.svc:8443/secrets/a");
        assert_eq!(line["recoveryId"], "https://demo.team.svc:8443/deletedsecrets/a");
        assert_eq!(
            (line["deletedDate"].as_i64(), line["scheduledPurgeDate"].as_i64()),
            (Some(7), Some(9))
        );
        assert_eq!(line["attributes"]["recoverableDays"], 90);
        assert_eq!(
            json["nextLink"],
            "https://demo.team.svc:8443/deletedsecrets?api-version=7.4&$skiptoken=token"
        );
        assert_eq!(text(&Reply::Purged, &NO_LINK), "");
    }

    #[test]
    fn pages_link_to_the_next_on_the_same_host() {
        let item = |version| SecretItem {
            name: ObjectName::parse("a").unwrap(),
            version,
            attributes: attributes(),
            content_type: None,
            tags: Arc::default(),
        };
        let last = text(
            &Reply::Page(Page {
                items: vec![item(None)],
                next: None,
            }),
            &NO_LINK,
        );
        assert!(
            last.starts_with(r#"{"value":[{"id":"https://demo.team.svc:8443/secrets/a","attributes""#),
            "{last}"
        );
        assert!(last.ends_with(r#""nextLink":null}"#), "{last}");
        let name = ObjectName::parse("a").unwrap();
        let link = PageLink {
            api_version: "2025-07-01",
            versions_of: Some(&name),
            max_results: NonZeroU8::new(2),
        };
        let page = Page {
            items: vec![item(Some(Version([1; 16])))],
            next: Some("tok-en_1".to_owned()),
        };
        let json: serde_json::Value = serde_json::from_str(&text(&Reply::Page(page), &link)).unwrap();
        assert_eq!(
            json["nextLink"],
            "https://demo.team.svc:8443/secrets/a/versions?api-version=2025-07-01&$skiptoken=tok-en_1&maxresults=2"
        );
        assert_eq!(
            json["value"][0]["id"],
            "https://demo.team.svc:8443/secrets/a/01010101010101010101010101010101"
        );
    }

    #[test]
    fn the_buffer_is_large_enough_from_the_start() {
        for value in [
            "x".repeat(25 * 1024),
            "\u{1}".repeat(25 * 1024),
            "\"\\\n".repeat(8_000),
            "é😀".repeat(4_000),
        ] {
            let secret = secret(Some(&value));
            let most = size(&secret);
            let written = text(&Reply::Secret(secret), &NO_LINK);
            assert!(written.len() <= most, "{} of {most}", written.len());
        }
    }
}
