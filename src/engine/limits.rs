//! What one request may ask for (Azure Key Vault: "service limits", "about secrets").

use super::Error;
use crate::model::{EnsureGeneratedSecret, PageRequest, SetSecret, Tags, UpdateSecret};

/// Bytes of a secret's value.
pub const MAX_VALUE: usize = 25 * 1024;
/// Characters of a content type.
pub const MAX_CONTENT_TYPE: usize = 255;
/// Tags of a version.
pub const MAX_TAGS: usize = 15;
/// Characters of a tag's name and of its value.
pub const MAX_TAG: usize = 512;
/// Items of a page.
pub const MAX_PAGE: u8 = 25;
/// Versions of an object that is backed up.
pub const MAX_BACKUP_VERSIONS: usize = 500;
/// Bytes of a backup: 500 versions with values and attributes of the greatest common size.
pub const MAX_BACKUP: usize = 14 * 1024 * 1024;

pub(super) fn check_set(set: &SetSecret) -> Result<(), Error> {
    if set.value.len() > MAX_VALUE {
        return Err(Error::ValueTooLarge);
    }
    check_content_type(set.content_type.as_deref())?;
    check_tags(&set.tags)
}

pub(super) fn check_update(update: &UpdateSecret) -> Result<(), Error> {
    check_content_type(update.content_type.as_deref())?;
    update.tags.as_ref().map_or(Ok(()), check_tags)
}

pub(super) fn check_generated(ensure: &EnsureGeneratedSecret) -> Result<(), Error> {
    if !(16..=1024).contains(&ensure.length) {
        return Err(Error::GeneratedLength);
    }
    check_content_type(ensure.content_type.as_deref())
}

pub(super) const fn check_page(page: &PageRequest) -> Result<(), Error> {
    if page.limit.get() > MAX_PAGE {
        Err(Error::PageSize)
    } else {
        Ok(())
    }
}

fn check_content_type(content_type: Option<&str>) -> Result<(), Error> {
    let long = content_type.is_some_and(|text| text.chars().count() > MAX_CONTENT_TYPE);
    if long {
        Err(Error::ContentTypeTooLong)
    } else {
        Ok(())
    }
}

fn check_tags(tags: &Tags) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Error::TooManyTags);
    }
    let long = tags
        .iter()
        .flat_map(|(name, value)| [name, value])
        .any(|side| side.chars().count() > MAX_TAG);
    if long { Err(Error::TagTooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttributesChange, ObjectName, SecretBytes};

    fn set(value: usize, content_type: Option<String>, tags: Tags) -> Result<(), Error> {
        check_set(&SetSecret {
            name: ObjectName::parse("a").unwrap(),
            value: SecretBytes::new(vec![b'x'; value]),
            content_type,
            tags,
            attributes: AttributesChange::default(),
        })
    }

    fn tags(count: usize, name: usize, value: usize) -> Tags {
        (0..count)
            .map(|i| (format!("{i:0>name$}"), "ä".repeat(value)))
            .collect()
    }

    #[test]
    fn limits_are_azures_and_count_characters() {
        let cases = [
            (set(MAX_VALUE, None, Tags::new()), Ok(())),
            (set(0, None, Tags::new()), Ok(())),
            (set(MAX_VALUE + 1, None, Tags::new()), Err(Error::ValueTooLarge)),
            (set(1, Some("ä".repeat(255)), Tags::new()), Ok(())),
            (
                set(1, Some("a".repeat(256)), Tags::new()),
                Err(Error::ContentTypeTooLong),
            ),
            (set(1, None, tags(15, 512, 512)), Ok(())),
            (set(1, None, tags(16, 2, 1)), Err(Error::TooManyTags)),
            (set(1, None, tags(1, 513, 1)), Err(Error::TagTooLong)),
            (set(1, None, tags(1, 1, 513)), Err(Error::TagTooLong)),
        ];
        for (i, (found, expected)) in cases.into_iter().enumerate() {
            assert_eq!(found, expected, "case {i}");
        }
    }
}
