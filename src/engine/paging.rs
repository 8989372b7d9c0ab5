//! Lists, a page at a time. The token of the next page holds the position, sealed for its vault and list, so no replica has to
//! remember a list.

use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::decide::{deleted_item, item, live};
use super::index::{Object, Vault};
use super::seals::Seals;
use super::{Error, limits};
use crate::model::{DeletedItem, ObjectName, Page, PageRequest, SecretItem, VaultUuid};

/// Names that one page looks at: among many deleted secrets a page may be short, but it does not take long.
const MAX_LOOKED_AT: usize = 1_000;
/// Longer than any token that is made here.
const MAX_TOKEN: usize = 1_024;

const SECRETS: &str = "secrets";
const DELETED: &str = "deletedsecrets";

/// `GET /secrets`: live secrets in the order of their names in lower case, each with its newest version's attributes.
pub(super) fn secrets(
    seals: &Seals,
    vault: &Vault,
    request: &PageRequest,
) -> Result<Page<SecretItem>, Error> {
    by_name(seals, vault, SECRETS, request, |object| {
        let secret = object.head.live_secret()?;
        let newest = secret.versions.newest();
        Some(item(&object.head.name, newest, None, vault.head.rules))
    })
}

/// `GET /deletedsecrets`: those that can still be recovered, in the same order.
pub(super) fn deleted(
    seals: &Seals,
    vault: &Vault,
    request: &PageRequest,
) -> Result<Page<DeletedItem>, Error> {
    by_name(seals, vault, DELETED, request, |object| {
        let (secret, deleted) = object.head.deleted_secret()?;
        Some(deleted_item(&object.head.name, secret, deleted, vault.head.rules))
    })
}

/// What `line` makes of the vault's objects, in the order of their names in lower case.
fn by_name<T>(
    seals: &Seals,
    vault: &Vault,
    list: &str,
    request: &PageRequest,
    line: impl Fn(&Object) -> Option<T>,
) -> Result<Page<T>, Error> {
    limits::check_page(request)?;
    let uuid = vault.head.uuid;
    let position = open(seals, uuid, list, request)?;
    let after = position
        .as_deref()
        .map(std::str::from_utf8)
        .transpose()
        .map_err(|_| Error::SkipTokenInvalid)?;
    let limit = usize::from(request.limit.get());
    let mut items = Vec::with_capacity(limit);
    let mut last: Option<&str> = None;
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    for (looked_at, (name, object)) in vault
        .objects
        .range::<_, str>((start, Bound::Unbounded))
        .enumerate()
    {
        let item = line(object).filter(|_| object.damage.is_none());
        let full = looked_at == MAX_LOOKED_AT || (item.is_some() && items.len() == limit);
        if full {
            let next = last
                .map(|last| seal(seals, uuid, list, last.as_bytes()))
                .transpose()?;
            return Ok(Page { items, next });
        }
        last = Some(name);
        items.extend(item);
    }
    Ok(Page { items, next: None })
}

/// `GET /secrets/{name}/versions`, from the newest to the oldest.
pub(super) fn versions(
    seals: &Seals,
    vault: &Vault,
    name: &ObjectName,
    request: &PageRequest,
) -> Result<Page<SecretItem>, Error> {
    limits::check_page(request)?;
    let uuid = vault.head.uuid;
    let list = format!("versions/{}", name.folded());
    let position = open(seals, uuid, &list, request)?;
    let before = position
        .map(|position| position.try_into().map(u64::from_be_bytes))
        .transpose()
        .map_err(|_| Error::SkipTokenInvalid)?;
    let object = vault.object(name.folded())?;
    let (head, secret) = live(object.map(|object| &object.head), name)?;
    let limit = usize::from(request.limit.get());
    let mut entries = secret.versions.before(before)?.peekable();
    let mut items = Vec::with_capacity(limit);
    let mut last = None;
    for entry in entries.by_ref().take(limit) {
        items.push(item(&head.name, entry, Some(entry.id), vault.head.rules));
        last = Some(entry.order);
    }
    let next = match (entries.peek(), last) {
        (Some(_), Some(order)) => Some(seal(seals, uuid, &list, &order.to_be_bytes())?),
        _ => None,
    };
    Ok(Page { items, next })
}

fn seal(seals: &Seals, vault: VaultUuid, list: &str, position: &[u8]) -> Result<String, Error> {
    seals
        .seal_position(vault, list, position)
        .map(|token| URL_SAFE_NO_PAD.encode(token))
}

fn open(
    seals: &Seals,
    vault: VaultUuid,
    list: &str,
    request: &PageRequest,
) -> Result<Option<Vec<u8>>, Error> {
    let Some(token) = &request.skip_token else {
        return Ok(None);
    };
    if token.len() > MAX_TOKEN {
        return Err(Error::SkipTokenInvalid);
    }
    let token = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| Error::SkipTokenInvalid)?;
    // A position is a name or a number: nothing secret.
    seals
        .open_position(vault, list, &token)
        .map(|position| Some(position.expose().to_vec()))
}
