//! What the tests of this room are made of.

use std::sync::Arc;
use std::time::Instant;

use crate::model::{
    AttributesChange, Caller, Moment, Namespace, ObjectName, Operation, PodRef, SecretBytes,
    ServiceAccountCaller, SetSecret, Tags, Uid, UnixSeconds, VaultEntry, VaultId, VaultName, VaultSettings,
};
use crate::policy::{Entry, Index, Permissions, Permit, Subject, VaultPolicy};

/// What may stand in no line.
pub(super) const CANARY: &str = "canary-4711";

pub(super) fn moment(wall: i64, nanos: u32) -> Moment {
    Moment {
        wall: UnixSeconds(wall),
        nanos,
        monotonic: Instant::now(),
    }
}

pub(super) fn now() -> Moment {
    moment(1_700_000_000, 123_456_789)
}

pub(super) fn vault() -> Arc<VaultEntry> {
    Arc::new(VaultEntry {
        id: VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse("demo").unwrap(),
        },
        uid: Uid::new("uid-of-demo"),
        namespace_uid: Uid::new("uid-of-shop"),
        settings: VaultSettings::default(),
    })
}

pub(super) fn caller() -> Arc<Caller> {
    Arc::new(Caller::ServiceAccount(ServiceAccountCaller {
        namespace: Namespace::parse("shop").unwrap(),
        name: "shopper".into(),
        uid: Uid::new("uid-of-shopper"),
        pod: Some(PodRef {
            name: "web-0".into(),
            uid: Uid::new("uid-of-web-0"),
            node: Some("node-1".into()),
        }),
        expires: UnixSeconds(1_700_000_600),
        address: Some("10.0.0.7".parse().unwrap()),
    }))
}

pub(super) fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

pub(super) fn get(secret: &str) -> Operation {
    Operation::GetSecret {
        name: name(secret),
        version: None,
    }
}

pub(super) fn set(secret: &str) -> Operation {
    Operation::SetSecret(SetSecret {
        name: name(secret),
        value: SecretBytes::new(CANARY.as_bytes().to_vec()),
        content_type: Some(CANARY.to_owned()),
        tags: Tags::from([(CANARY.to_owned(), CANARY.to_owned())]),
        attributes: AttributesChange::default(),
    })
}

pub(super) fn permit(operation: Operation) -> Permit {
    let mut index = Index::default();
    let subject = Subject {
        namespace: Namespace::parse("shop").unwrap(),
        name: "shopper".into(),
    };
    let all = Entry {
        policy: "web-reads".to_owned(),
        subject,
        secrets: Permissions::parse("all").unwrap(),
        allow_unbound: false,
    };
    index.set(vault().id.clone(), Arc::new(VaultPolicy::new([all])));
    index.decide(&caller(), &vault(), operation, 42).unwrap()
}
