//! What a volume asks for: the `objects` attribute of a pod's volume, parsed by `serve` alone.

use serde::Deserialize;

use super::files::{FileMode, FilePath, FilePlan, InvalidPlan, check_overlap};
use crate::model::{InvalidName, Kind, ObjectName, Version};

/// Longest `objects` text that anybody accepts, in bytes.
pub const MAX_OBJECTS_BYTES: usize = 64 * 1024;

/// Why an `objects` text is refused, for the person who wrote the pod. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObjects {
    /// Longer than [`MAX_OBJECTS_BYTES`].
    #[error("objects is longer than {MAX_OBJECTS_BYTES} bytes")]
    TooLong,
    /// Not YAML, or not of the right shape.
    #[error(
        "objects is not a YAML list of items with secret and, where wanted, version, path and mode (line {line}, column {column})"
    )]
    Yaml {
        /// Counted from 1; 0 where it is not known.
        line: u64,
        /// Counted from 1; 0 where it is not known.
        column: u64,
    },
    /// Nothing is asked for.
    #[error("objects names no secret")]
    Empty,
    /// More items than a volume may have files.
    #[error("objects has more than {} items", FilePlan::MAX_FILES)]
    TooMany,
    /// A name or version in an item.
    #[error("item {item} of objects: {reason}")]
    Name {
        /// Counted from 1.
        item: usize,
        /// The rule that it breaks.
        reason: InvalidName,
    },
    /// A path or mode in an item.
    #[error("item {item} of objects: {reason}")]
    File {
        /// Counted from 1.
        item: usize,
        /// The rule that it breaks.
        reason: InvalidPlan,
    },
    /// Items whose files get into each other's way.
    #[error("objects: two items have the same path, or one lies where the other needs a folder")]
    Overlap,
}

impl InvalidObjects {
    /// Always [`Kind::Invalid`].
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// One item: a secret, and the file that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedSecret {
    /// Which secret.
    pub secret: ObjectName,
    /// A pinned version; none follows the newest.
    pub version: Option<Version>,
    /// Its file; the secret's name as written unless `path` says otherwise.
    pub path: FilePath,
    /// The file's mode.
    pub mode: FileMode,
}

/// The items of one volume: 1 to [`FilePlan::MAX_FILES`], with files that can lie beside each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectList(Vec<RequestedSecret>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawItem {
    secret: String,
    version: Option<String>,
    path: Option<String>,
    mode: Option<String>,
}

impl ObjectList {
    /// Parses the attribute's text: a YAML list of `{secret, version?, path?, mode?}`.
    ///
    /// # Errors
    /// [`InvalidObjects`], each for a person.
    pub fn parse(text: &str) -> Result<Self, InvalidObjects> {
        if text.len() > MAX_OBJECTS_BYTES {
            return Err(InvalidObjects::TooLong);
        }
        if text.trim().is_empty() {
            return Err(InvalidObjects::Empty);
        }
        let items: Vec<RawItem> = serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            InvalidObjects::Yaml { line, column }
        })?;
        if items.is_empty() {
            return Err(InvalidObjects::Empty);
        }
        if items.len() > FilePlan::MAX_FILES {
            return Err(InvalidObjects::TooMany);
        }
        let items: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(at, raw)| parse_item(at.saturating_add(1), raw))
            .collect::<Result<_, _>>()?;
        check_overlap(items.iter().map(|item| &item.path)).map_err(|_| InvalidObjects::Overlap)?;
        Ok(Self(items))
    }

    /// The items, in the order in which they were written.
    #[must_use]
    pub fn items(&self) -> &[RequestedSecret] {
        &self.0
    }
}

fn parse_item(item: usize, raw: &RawItem) -> Result<RequestedSecret, InvalidObjects> {
    let name = |reason| InvalidObjects::Name { item, reason };
    let file = |reason| InvalidObjects::File { item, reason };
    let secret = ObjectName::parse(&raw.secret).map_err(name)?;
    let version = raw
        .version
        .as_deref()
        .map(Version::parse)
        .transpose()
        .map_err(name)?;
    let path = FilePath::parse(raw.path.as_deref().unwrap_or_else(|| secret.as_written())).map_err(file)?;
    let mode = raw
        .mode
        .as_deref()
        .map(FileMode::parse)
        .transpose()
        .map_err(file)?
        .unwrap_or_default();
    Ok(RequestedSecret {
        secret,
        version,
        path,
        mode,
    })
}

/// A list of small maps needs none of YAML's powers: no anchors, no merging, one document, little depth.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_depth: 4,
            flow_nesting_limit: 4,
            max_documents: 1,
            max_nodes: 2_000,
            max_events: 8_000,
            max_merge_keys: 0,
        },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Vec<(String, bool, String, u16)> {
        let list = ObjectList::parse(text).unwrap();
        let show = |item: &RequestedSecret| {
            (
                item.secret.to_string(),
                item.version.is_some(),
                item.path.to_string(),
                item.mode.bits(),
            )
        };
        list.items().iter().map(show).collect()
    }

    #[test]
    fn a_list_as_users_write_it() {
        let text = "- secret: db-password\n- secret: Api-Key\n  version: 4f9a0000000000000000000000000001\n  path: keys/api\n  mode: \"0400\"\n";
        assert_eq!(
            shown(text),
            [
                ("db-password".into(), false, "db-password".into(), 0o644),
                ("Api-Key".into(), true, "keys/api".into(), 0o400)
            ]
        );
    }

    #[test]
    fn numbers_without_quotes_mean_what_was_written() {
        assert_eq!(
            shown("- {secret: a, mode: 0440, version: 00000000000000000000000000000012, path: 007}"),
            [("a".into(), true, "007".into(), 0o440)]
        );
        assert_eq!(
            shown("- secret: 12345\n  mode: 400"),
            [("12345".into(), false, "12345".into(), 0o400)]
        );
        assert_eq!(
            shown("[{\"secret\": \"a\", \"mode\": \"0o400\"}]"),
            [("a".into(), false, "a".into(), 0o400)]
        );
    }

    #[test]
    fn one_secret_may_be_two_files() {
        let text = "- secret: a\n- secret: a\n  path: old\n  version: 4f9a0000000000000000000000000001\n";
        assert_eq!(shown(text).len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_never_repeated() {
        let many = "- secret: a\n".repeat(65);
        let long = "#".repeat(MAX_OBJECTS_BYTES + 1);
        let cases: [(&str, InvalidObjects); 15] = [
            ("", InvalidObjects::Empty),
            ("  \n", InvalidObjects::Empty),
            ("[]", InvalidObjects::Empty),
            (&long, InvalidObjects::TooLong),
            (&many, InvalidObjects::TooMany),
            (
                "- secret: a_b",
                InvalidObjects::Name {
                    item: 1,
                    reason: InvalidName::Object,
                },
            ),
            (
                "- secret: a\n- secret: ''",
                InvalidObjects::Name {
                    item: 2,
                    reason: InvalidName::Object,
                },
            ),
            (
                "- secret: a\n  version: latest",
                InvalidObjects::Name {
                    item: 1,
                    reason: InvalidName::Version,
                },
            ),
            (
                "- secret: a\n  path: ../../etc/shadow",
                InvalidObjects::File {
                    item: 1,
                    reason: InvalidPlan::Path,
                },
            ),
            (
                "- secret: a\n  path: /etc/shadow",
                InvalidObjects::File {
                    item: 1,
                    reason: InvalidPlan::Path,
                },
            ),
            (
                "- secret: a\n  path: ..data",
                InvalidObjects::File {
                    item: 1,
                    reason: InvalidPlan::Path,
                },
            ),
            (
                "- secret: a\n  path: \"a\\0b\"",
                InvalidObjects::File {
                    item: 1,
                    reason: InvalidPlan::Path,
                },
            ),
            (
                "- secret: a\n  mode: '04755'",
                InvalidObjects::File {
                    item: 1,
                    reason: InvalidPlan::Mode,
                },
            ),
            ("- secret: a\n- secret: a", InvalidObjects::Overlap),
            ("- secret: a\n- secret: b\n  path: a/b", InvalidObjects::Overlap),
        ];
        for (text, error) in cases {
            assert_eq!(ObjectList::parse(text), Err(error.clone()), "{text:.60}");
            assert!(!error.to_string().contains("shadow"));
        }
        for bad in [
            "secret: a",
            "- a",
            "- secret: a\n  sceret: b",
            "- secret: [a]",
            "- version: 4f9a0000000000000000000000000001",
            "- secret: a\n  secret: b",
            "- &x {secret: a}\n- *x",
            "- secret: a\n--- \n- secret: b",
            "[[[[[[[[[[",
            "- secret: \"a",
        ] {
            let parsed = ObjectList::parse(bad);
            assert!(
                matches!(parsed, Err(InvalidObjects::Yaml { .. })),
                "{bad}: {parsed:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-&*!|>{}\\[\\]:,#a-z\"'\n \t\\PC]{0,200}") {
            let _ = ObjectList::parse(&text);
        }

        #[test]
        fn every_good_item_survives_being_written(
            names in prop::collection::btree_set("[a-z][a-z0-9-]{0,20}", 1..20), bits in 0u16..=0o777,
        ) {
            let text: String =
                names.iter().map(|name| format!("- secret: {name}x\n  path: d/{name}x\n  mode: \"{bits:04o}\"\n")).collect();
            let list = ObjectList::parse(&text).unwrap();
            prop_assert_eq!(list.items().len(), names.len());
            prop_assert!(list.items().iter().all(|item| item.mode.bits() == bits));
        }
    }
}
