//! YAML documents -> custom resources, for roles without an API server.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::crd;

/// The custom resources of a text, in its order.
#[derive(Debug, Default)]
pub struct Documents {
    /// Vaults.
    pub vaults: Vec<crd::Vault>,
    /// Access policies.
    pub policies: Vec<crd::AccessPolicy>,
    /// Network rules.
    pub rules: Vec<crd::NetworkRule>,
    /// Secrets.
    pub secrets: Vec<crd::Secret>,
    /// How many documents were of other API groups, such as pods, and were passed over.
    pub others: usize,
}

/// Why a text holds no usable documents. Never what it says: manifests may hold values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocuments {
    /// No YAML.
    #[error("it is no YAML at line {line}, column {column}")]
    Yaml {
        /// From 1; 0 where unknown.
        line: u64,
        /// From 1; 0 where unknown.
        column: u64,
    },
    /// A document of our API group that this version does not have.
    #[error("document {0} is of a kind or version of {group} that is not known here", group = crd::GROUP)]
    UnknownKind(usize),
    /// A document that does not have its kind's shape.
    #[error("document {0} does not have the shape of its kind")]
    Shape(usize),
}

/// Reads YAML documents, separated by `---`. What an API server would add is added: namespace `default`, and
/// `<namespace>/<name>` as the UID.
///
/// # Errors
/// [`InvalidDocuments`]; documents are counted from 1.
pub fn documents(text: &str) -> Result<Documents, InvalidDocuments> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        let location = error.location();
        InvalidDocuments::Yaml {
            line: location.map_or(0, |location| location.line()),
            column: location.map_or(0, |location| location.column()),
        }
    })?;
    let mut documents = Documents::default();
    for (number, mut value) in (1..).zip(values) {
        let api_version = value
            .get("apiVersion")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned();
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        if api_version.is_empty() || kind.is_empty() {
            return Err(InvalidDocuments::Shape(number));
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        if group != crd::GROUP {
            documents.others += 1;
            continue;
        }
        identify(&mut value).ok_or(InvalidDocuments::Shape(number))?;
        match (version, kind.as_str()) {
            (crd::VERSION, "Vault") => documents.vaults.push(typed(value, number)?),
            (crd::VERSION, "AccessPolicy") => documents.policies.push(typed(value, number)?),
            (crd::VERSION, "NetworkRule") => documents.rules.push(typed(value, number)?),
            (crd::VERSION, "Secret") => documents.secrets.push(typed(value, number)?),
            _ => return Err(InvalidDocuments::UnknownKind(number)),
        }
    }
    Ok(documents)
}

fn typed<T: DeserializeOwned>(value: Value, number: usize) -> Result<T, InvalidDocuments> {
    serde_json::from_value(value).map_err(|_| InvalidDocuments::Shape(number))
}

fn identify(value: &mut Value) -> Option<()> {
    let metadata = value.get_mut("metadata")?.as_object_mut()?;
    let name = metadata.get("name")?.as_str()?.to_owned();
    let namespace = metadata
        .entry("namespace")
        .or_insert_with(|| "default".into())
        .as_str()?
        .to_owned();
    metadata
        .entry("uid")
        .or_insert_with(|| format!("{namespace}/{name}").into());
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VAULT: &str =
        "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: demo}\nspec: {}\n";

    #[test]
    fn a_file_of_several_documents_gives_each_and_passes_over_pods() {
        let text = format!(
            "{VAULT}---\napiVersion: strongroom.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  \
             vaultRef: demo\n  subjects: [{{kind: ServiceAccount, name: web}}]\n  permissions: {{secrets: [get]}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\n---\n"
        );
        let documents = documents(&text).unwrap();
        assert_eq!(
            (
                documents.vaults.len(),
                documents.policies.len(),
                documents.secrets.len()
            ),
            (1, 1, 0)
        );
        assert_eq!(documents.others, 1);
        let metadata = &documents.vaults[0].metadata;
        assert_eq!(
            (metadata.namespace.as_deref(), metadata.uid.as_deref()),
            (Some("default"), Some("default/demo"))
        );
        assert_eq!(documents.policies[0].metadata.namespace.as_deref(), Some("shop"));
    }

    #[test]
    fn a_bad_file_is_told_by_place_and_never_by_content() {
        let cases = [
            ("a: [hunter2".to_owned(), "it is no YAML"),
            (VAULT.replace("Vault", "Valut"), "document 1 is of a kind"),
            (VAULT.replace("v1alpha1", "v9"), "document 1 is of a kind"),
            (
                format!("{VAULT}---\nkind: hunter2\n"),
                "document 2 does not have the shape",
            ),
            (
                VAULT.replace("{name: demo}", "{}"),
                "document 1 does not have the shape",
            ),
            (
                VAULT.replace("spec: {}", "spec: hunter2"),
                "document 1 does not have the shape",
            ),
        ];
        for (text, expected) in cases {
            let told = documents(&text).map(|_| ()).unwrap_err().to_string();
            assert!(
                told.starts_with(expected) && !told.contains("hunter2"),
                "{text}: {told}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,300}") {
            let _ = documents(&text);
        }
    }
}
