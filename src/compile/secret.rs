//! `Secret` -> what `operate` asks `serve` for.

use super::{Unusable, exact_vault_name, namespace};
use crate::crd;
use crate::model::{Alphabet, EnsureGeneratedSecret, ObjectName, Owner, Uid, VaultId};

/// Characters of a generated value where the resource gives no number.
const DEFAULT_LENGTH: u16 = 32;

/// What becomes of the object when its resource is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// It stays.
    Retain,
    /// It is soft-deleted.
    Delete,
}

/// What a `Secret` wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// In which vault.
    pub vault: VaultId,
    /// The object.
    pub ensure: EnsureGeneratedSecret,
    /// What comes after it.
    pub on_delete: OnDelete,
}

/// What a `Secret` wants; also of one that is being deleted. `namespace_uid` is the UID of its namespace.
///
/// # Errors
/// [`Unusable`]: nothing is made.
pub fn secret(secret: &crd::Secret, namespace_uid: &Uid) -> Result<Wanted, Unusable> {
    let namespace = namespace(secret.metadata.namespace.as_deref())?;
    let resource = secret
        .metadata
        .name
        .as_deref()
        .ok_or(Unusable::Missing("metadata.name"))?;
    let spec = &secret.spec;
    let name = match spec.object_name.as_deref() {
        Some(name) => object_name("spec.objectName", name),
        None => object_name("metadata.name", resource),
    }?;
    let length = match spec.generate.length {
        None => DEFAULT_LENGTH,
        Some(length) => u16::try_from(length)
            .ok()
            .filter(|length| (16..=1024).contains(length))
            .ok_or(Unusable::Value {
                field: "spec.generate.length",
                allowed: "16 to 1024",
            })?,
    };
    let alphabet = match spec.generate.alphabet.as_deref() {
        None | Some("Alphanumeric") => Alphabet::Alphanumeric,
        Some("Hex") => Alphabet::Hex,
        Some("Ascii") => Alphabet::Ascii,
        Some(_) => {
            return Err(Unusable::Value {
                field: "spec.generate.alphabet",
                allowed: "Alphanumeric, Hex or Ascii",
            });
        }
    };
    let on_delete = match spec.deletion_policy.as_deref() {
        None | Some("Retain") => OnDelete::Retain,
        Some("Delete") => OnDelete::Delete,
        Some(_) => {
            return Err(Unusable::Value {
                field: "spec.deletionPolicy",
                allowed: "Retain or Delete",
            });
        }
    };
    if spec
        .content_type
        .as_ref()
        .is_some_and(|text| text.chars().count() > 255)
    {
        return Err(Unusable::Value {
            field: "spec.contentType",
            allowed: "at most 255 characters",
        });
    }
    Ok(Wanted {
        vault: VaultId {
            namespace: namespace.clone(),
            name: exact_vault_name("spec.vaultRef", &spec.vault_ref)?,
        },
        ensure: EnsureGeneratedSecret {
            name,
            length,
            alphabet,
            content_type: spec.content_type.clone(),
            owner: Owner {
                namespace,
                namespace_uid: namespace_uid.clone(),
                resource: resource.to_owned(),
            },
        },
        on_delete,
    })
}

fn object_name(field: &'static str, text: &str) -> Result<ObjectName, Unusable> {
    ObjectName::parse(text).map_err(|_| Unusable::Name {
        field,
        reason: "the name of an object in a vault has 1 to 127 characters of 0-9, a-z, A-Z and '-'",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::documents;

    fn compiled(name: &str, spec: &str) -> Result<Wanted, Unusable> {
        let yaml = format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}"
        );
        secret(&documents(&yaml).unwrap().secrets.remove(0), &Uid::new("n1"))
    }

    #[test]
    fn a_secret_that_says_little_gets_32_letters_and_digits_under_its_own_name_and_stays() {
        let wanted = compiled("db-password", "{vaultRef: demo, generate: {}}").unwrap();
        assert_eq!(wanted.vault.to_string(), "shop/demo");
        assert_eq!(wanted.ensure.name.as_written(), "db-password");
        assert_eq!(
            (wanted.ensure.length, wanted.ensure.alphabet),
            (32, Alphabet::Alphanumeric)
        );
        assert_eq!(wanted.ensure.owner.resource, "db-password");
        assert_eq!(wanted.ensure.owner.namespace_uid.as_str(), "n1");
        assert_eq!(wanted.on_delete, OnDelete::Retain);
    }

    #[test]
    fn a_secret_gets_what_it_says() {
        let wanted = compiled(
            "db.password",
            "{vaultRef: demo, objectName: Db-Password, contentType: text/plain, deletionPolicy: Delete, \
             generate: {length: 1024, alphabet: Hex}}",
        )
        .unwrap();
        assert_eq!(wanted.ensure.name.as_written(), "Db-Password");
        assert_eq!(
            (wanted.ensure.length, wanted.ensure.alphabet),
            (1024, Alphabet::Hex)
        );
        assert_eq!(wanted.ensure.content_type.as_deref(), Some("text/plain"));
        assert_eq!(wanted.ensure.owner.resource, "db.password");
        assert_eq!(wanted.on_delete, OnDelete::Delete);
    }

    #[test]
    fn what_the_schema_would_have_refused_makes_nothing() {
        let long = format!(
            "{{vaultRef: demo, generate: {{}}, contentType: {}}}",
            "x".repeat(256)
        );
        for (name, spec) in [
            ("a.b", "{vaultRef: demo, generate: {}}"),
            ("ab", "{vaultRef: Demo, generate: {}}"),
            ("ab", "{vaultRef: demo, generate: {length: 15}}"),
            ("ab", "{vaultRef: demo, generate: {length: 1025}}"),
            ("ab", "{vaultRef: demo, generate: {length: -32}}"),
            ("ab", "{vaultRef: demo, generate: {alphabet: Emoji}}"),
            ("ab", "{vaultRef: demo, generate: {}, deletionPolicy: Purge}"),
            ("ab", "{vaultRef: demo, generate: {}, objectName: a/b}"),
            ("ab", long.as_str()),
        ] {
            let wanted = compiled(name, spec);
            assert!(
                wanted
                    .as_ref()
                    .is_err_and(|error| error.kind() == crate::model::Kind::Invalid),
                "{spec}"
            );
        }
    }
}
