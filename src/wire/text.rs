//! How single values are written, in CBOR and in JSON.

/// Secret bytes as a CBOR byte string.
pub(super) mod secret {
    use minicbor::{Decoder, Encoder};

    use crate::model::SecretBytes;

    pub(in crate::wire) fn encode<C, W: minicbor::encode::Write>(
        value: &SecretBytes,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(value.expose())?.ok()
    }

    pub(in crate::wire) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<SecretBytes, minicbor::decode::Error> {
        Ok(SecretBytes::new(d.bytes()?.to_vec()))
    }
}

/// Bytes that are UTF-8, as a CBOR text.
pub(super) mod secret_text {
    use minicbor::{Decoder, Encoder};

    use crate::model::SecretBytes;

    pub(in crate::wire) fn encode<C, W: minicbor::encode::Write>(
        value: &SecretBytes,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match std::str::from_utf8(value.expose()) {
            Ok(text) => e.str(text)?.ok(),
            Err(_) => Err(minicbor::encode::Error::message("text")),
        }
    }

    pub(in crate::wire) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<SecretBytes, minicbor::decode::Error> {
        Ok(SecretBytes::new(d.str()?.as_bytes().to_vec()))
    }
}

/// A kind of failure by its label; one that this release does not know is a defect to it.
pub(super) mod kind {
    use minicbor::{Decoder, Encoder};
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::Kind;

    fn known(label: &str) -> Kind {
        Kind::from_label(label).unwrap_or(Kind::Internal)
    }

    pub(in crate::wire) fn encode<C, W: minicbor::encode::Write>(
        kind: &Kind,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(kind.label())?.ok()
    }

    pub(in crate::wire) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Kind, minicbor::decode::Error> {
        d.str().map(known)
    }

    pub(in crate::wire) fn serialize<S: Serializer>(kind: &Kind, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(kind.label())
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Kind, D::Error> {
        String::deserialize(d).map(|label| known(&label))
    }
}

/// A name as the JSON string that its parser takes.
macro_rules! name_as_text {
    ($module:ident, $type:ident, $parse:expr, $show:expr) => {
        pub(super) mod $module {
            use serde::{Deserialize, Deserializer, Serializer};

            use crate::model::$type;

            pub(in crate::wire) fn serialize<S: Serializer>(name: &$type, s: S) -> Result<S::Ok, S::Error> {
                let show: fn(&$type) -> String = $show;
                s.serialize_str(&show(name))
            }

            pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<$type, D::Error> {
                let parse: fn(&str) -> Result<$type, crate::model::InvalidName> = $parse;
                parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_as_text!(namespace, Namespace, Namespace::parse, |name| name
    .as_str()
    .to_owned());
name_as_text!(vault_name, VaultName, VaultName::parse, |name| name
    .as_str()
    .to_owned());
name_as_text!(object_name, ObjectName, ObjectName::parse, |name| name
    .as_written()
    .to_owned());
name_as_text!(version, Version, Version::parse, ToString::to_string);
name_as_text!(uid, Uid, |text| Ok(Uid::new(text)), |uid| uid.as_str().to_owned());
