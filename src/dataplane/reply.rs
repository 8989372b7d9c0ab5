//! Answers as Azure writes them: into one buffer of the right size.

use std::num::NonZeroU8;

use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use zeroize::Zeroizing;

use super::host::Address;
use crate::json::{self, Key, Members, key};
use crate::model::{
    Attributes, Backup, DeletedItem, DeletedSecret, ObjectName, Page, Reply, Secret, SecretItem, Tags,
    UnixSeconds, Version,
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
        Reply::Secret(secret) => {
            let value = text(secret)?;
            let size = size(secret, address);
            Some(bytes(size, |o| write_secret(o, address, secret, value)))
        }
        Reply::Deleted(deleted) => {
            let secret = without_value(deleted)?;
            Some(bytes(2 * size(secret, address), |o| {
                write_deletion(o, address, &secret.name, deleted.deleted, deleted.scheduled_purge);
                write_secret(o, address, secret, None);
            }))
        }
        Reply::Page(page) => Some(write_page(page, SECRETS, address, link, |o, item| {
            write_item(o, address, item);
        })),
        Reply::DeletedPage(page) => Some(write_page(page, DELETED, address, link, |o, deleted| {
            let DeletedItem {
                item,
                deleted,
                scheduled_purge,
            } = deleted;
            write_deletion(o, address, &item.name, *deleted, *scheduled_purge);
            write_item(o, address, item);
        })),
        Reply::Purged => Some(Bytes::new()),
        Reply::Backup(backup) => Some(write_backup(backup)),
        Reply::VaultReady | Reply::VaultDeleted | Reply::NotDue | Reply::Owned(_) => None,
    }
}

/// The value, if there is one; none if it is no text.
fn text(secret: &Secret) -> Option<Option<&str>> {
    let value = secret
        .value
        .as_ref()
        .map(|value| std::str::from_utf8(value.expose()));
    value.transpose().ok()
}

/// A blob as clients hand it back: base64url without padding.
fn write_backup(Backup(blob): &Backup) -> Bytes {
    bytes(blob.len().div_ceil(3) * 4 + 16, |o| {
        o.shown(key!("value"), Base64Display::new(blob, &URL_SAFE_NO_PAD));
    })
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
fn size(secret: &Secret, address: &Address) -> usize {
    let length = |text: &[u8]| json::escaped_len(text) + 4;
    let value = secret.value.as_ref().map_or(0, |value| length(value.expose()));
    let content_type = secret
        .content_type
        .as_ref()
        .map_or(0, |text| length(text.as_bytes()));
    let tags = secret.tags.iter();
    let tags: usize = tags
        .map(|(name, value)| length(name.as_bytes()) + length(value.as_bytes()))
        .sum();
    // The rest is the words that are the same in every answer, with the greatest numbers.
    value + content_type + tags + address.as_str().len() + secret.name.as_written().len() + 384
}

fn bytes(size: usize, fill: impl FnOnce(&mut Members<'_>)) -> Bytes {
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    json::object(&mut out, fill);
    Bytes::from_owner(Wiped(out))
}

/// Wiped when the connection has sent it.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn write_secret(o: &mut Members<'_>, address: &Address, secret: &Secret, value: Option<&str>) {
    o.some_text(key!("value"), value);
    write_id(
        o,
        key!("id"),
        address,
        SECRETS,
        &secret.name,
        Some(secret.version),
    );
    write_attributes(o, &secret.attributes);
    write_labels(o, secret.content_type.as_deref(), &secret.tags);
}

fn write_item(o: &mut Members<'_>, address: &Address, item: &SecretItem) {
    write_id(o, key!("id"), address, SECRETS, &item.name, item.version);
    write_attributes(o, &item.attributes);
    write_labels(o, item.content_type.as_deref(), &item.tags);
}

/// Where and until when a deleted secret can be recovered.
fn write_deletion(
    o: &mut Members<'_>,
    address: &Address,
    name: &ObjectName,
    deleted: UnixSeconds,
    scheduled_purge: UnixSeconds,
) {
    write_id(o, key!("recoveryId"), address, DELETED, name, None);
    o.number(key!("deletedDate"), deleted.0);
    o.number(key!("scheduledPurgeDate"), scheduled_purge.0);
}

/// `https://{host}/{collection}/{name}[/{version}]`.
fn write_id(
    o: &mut Members<'_>,
    key: Key,
    address: &Address,
    collection: &str,
    name: &ObjectName,
    version: Option<Version>,
) {
    let hex = version.map(Version::to_hex);
    let (slash, version) = hex.as_ref().map_or(("", ""), |hex| ("/", hex.as_str()));
    let (host, name) = (address.as_str(), name.as_written());
    // Hosts and names that were parsed are plain.
    o.plain(key, |out| {
        for part in ["https://", host, "/", collection, "/", name, slash, version] {
            out.extend_from_slice(part.as_bytes());
        }
    });
}

fn write_attributes(o: &mut Members<'_>, attributes: &Attributes) {
    o.object(key!("attributes"), |o| {
        o.truth(key!("enabled"), attributes.enabled);
        o.some_number(key!("nbf"), attributes.not_before.map(|at| at.0));
        o.some_number(key!("exp"), attributes.expires.map(|at| at.0));
        o.number(key!("created"), attributes.created.0);
        o.number(key!("updated"), attributes.updated.0);
        o.word(key!("recoveryLevel"), attributes.recovery_level.as_str());
        o.number(key!("recoverableDays"), attributes.recoverable_days.into());
    });
}

fn write_labels(o: &mut Members<'_>, content_type: Option<&str>, tags: &Tags) {
    o.some_text(key!("contentType"), content_type);
    if !tags.is_empty() {
        o.texts(key!("tags"), tags.iter().map(|(name, value)| (&**name, &**value)));
    }
}

fn write_page<T>(
    page: &Page<T>,
    collection: &str,
    address: &Address,
    link: &PageLink<'_>,
    line: impl Fn(&mut Members<'_>, &T),
) -> Bytes {
    bytes(page.items.len() * 640 + 512, |o| {
        o.list(key!("value"), &page.items, line);
        match &page.next {
            Some(token) => write_next_link(o, collection, address, link, token),
            // On the last page, as Azure has it.
            None => o.null(key!("nextLink")),
        }
    })
}

/// Where the next page is: on the same host, with the same version and page size.
fn write_next_link(
    o: &mut Members<'_>,
    collection: &str,
    address: &Address,
    link: &PageLink<'_>,
    token: &str,
) {
    let host = address.as_str();
    let (of, versions) = link
        .versions_of
        .map_or(("", ""), |name| (name.as_written(), "/versions"));
    let slash = if of.is_empty() { "" } else { "/" };
    let (most, digits) = link
        .max_results
        .map_or(("", String::new()), |most| ("&maxresults=", most.to_string()));
    let path = ["https://", host, "/", collection, slash, of, versions];
    let query = [
        "?api-version=",
        link.api_version,
        "&$skiptoken=",
        token,
        most,
        &digits,
    ];
    o.text(key!("nextLink"), &[path.as_slice(), query.as_slice()].concat());
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
        let backup = Reply::Backup(Backup(vec![0xfb, 0xff, 0xfe, 0]));
        assert_eq!(text(&backup, &NO_LINK), r#"{"value":"-__-AA"}"#);
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
            let most = size(&secret, &address());
            let written = text(&Reply::Secret(secret), &NO_LINK);
            assert!(written.len() <= most, "{} of {most}", written.len());
        }
    }
}
