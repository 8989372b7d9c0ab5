use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::audit::fixtures::{CANARY, caller, get, moment, name, now, permit, set, vault};
use crate::model::{
    Kind, Namespace, ObjectName, OperationName, PodRef, ServiceAccountCaller, Uid, UnixSeconds, VaultName,
    Version,
};

fn about() -> About<'static> {
    About {
        peer: Some("::ffff:10.0.0.7".parse().unwrap()),
        reached: Some(true),
        host: Some("demo.shop.svc".into()),
        api_version: Some("7.6".into()),
        client_request_id: Some("6b4c0f0e-8e7c-11f0".into()),
        request_id: Some("ours".into()),
        user_agent: Some("azsdk-python-keyvault-secrets/4.9.0 Python/3.13.5".into()),
    }
}

const ID: RecordId = RecordId {
    process: 0xab,
    number: 7,
};

fn parsed(line: &[u8]) -> Value {
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(line.last(), Some(&b'\n'));
    serde_json::from_slice(line).unwrap()
}

#[test]
fn a_read_is_one_line_with_azures_fields_and_ours() {
    let permit = permit(get("Db-Password"));
    let asked = Asked::of(permit.operation());
    let (caller, vault, about) = (caller(), vault(), about());
    let version = Version([0x11; 16]);
    let line = Record {
        id: ID,
        stage: Stage::Complete,
        at: now(),
        took: Some(Duration::from_micros(83)),
        about: &about,
        caller: Some(&caller),
        vault: Some(&vault.id),
        asked: &asked,
        rule: Some(permit.rule()),
        generation: Some(permit.generation()),
        end: End::Known(&Outcome::success(Some(version))),
        not_shown: None,
    }
    .to_line();
    assert_eq!(
        parsed(&line),
        json!({
            "time": "2023-11-14T22:13:20.1234567Z",
            "resourceId": "/NAMESPACES/SHOP/PROVIDERS/STRONGROOM.DEV/VAULTS/DEMO",
            "category": "AuditEvent",
            "operationName": "SecretGet",
            "operationVersion": "7.6",
            "resultType": "Success",
            "resultSignature": "OK",
            "durationMs": 0.083,
            "callerIpAddress": "10.0.0.7",
            "correlationId": "6b4c0f0e-8e7c-11f0",
            "identity": {"claim": {"oid": "uid-of-shopper", "appid": "system:serviceaccount:shop:shopper"}},
            "properties": {
                "clientInfo": "azsdk-python-keyvault-secrets/4.9.0 Python/3.13.5",
                "id": "https://demo.shop.svc/secrets/Db-Password/11111111111111111111111111111111",
                "httpStatusCode": 200,
                "isAccessPolicyMatch": true,
                "isAddressAuthorized": true,
            },
            "recordId": "00000000000000ab-7",
            "stage": "Complete",
            "namespace": "shop",
            "vault": "demo",
            "serviceAccount": "shop/shopper",
            "pod": "web-0",
            "podUid": "uid-of-web-0",
            "node": "node-1",
            "rule": "AccessPolicy/web-reads",
            "generation": 42,
        })
    );
}

fn ended(end: End<'_>, stage: Stage) -> Value {
    let permit = permit(set("db-password"));
    let asked = Asked::of(permit.operation());
    let (caller, vault, about) = (caller(), vault(), About::default());
    let line = Record {
        id: ID,
        stage,
        at: now(),
        took: None,
        about: &about,
        caller: Some(&caller),
        vault: Some(&vault.id),
        asked: &asked,
        rule: Some(permit.rule()),
        generation: Some(42),
        end,
        not_shown: None,
    }
    .to_line();
    assert!(!String::from_utf8_lossy(&line).contains(CANARY));
    parsed(&line)
}

#[test]
fn how_an_operation_ended_is_told_in_azures_words() {
    let denied = Outcome::failure(Kind::Denied, "ForbiddenByPolicy");
    let conflict = Outcome::failure(Kind::Conflict, "ObjectIsDeletedButRecoverable");
    let made = Outcome::success(None);
    let purged = Outcome::gone();
    // (end, resultType, resultSignature, resultDescription, httpStatusCode)
    for (end, result, signature, description, status) in [
        (End::NotYet, "Intent", json!(null), json!(null), json!(null)),
        (End::Known(&made), "Success", json!("OK"), json!(null), json!(200)),
        (
            End::Known(&purged),
            "Success",
            json!("No Content"),
            json!(null),
            json!(204),
        ),
        (
            End::Known(&denied),
            "Failure",
            json!("Forbidden"),
            json!("ForbiddenByPolicy"),
            json!(403),
        ),
        (
            End::Known(&conflict),
            "Failure",
            json!("Conflict"),
            json!("ObjectIsDeletedButRecoverable"),
            json!(409),
        ),
        (
            End::NotBegun,
            "Failure",
            json!("Service Unavailable"),
            json!("Abandoned before it began: nothing was done"),
            json!(503),
        ),
        (
            End::Unknown,
            "Unknown",
            json!(null),
            json!("Abandoned: its outcome was not told"),
            json!(null),
        ),
    ] {
        let line = ended(end, Stage::Outcome);
        assert_eq!(line["resultType"], result);
        assert_eq!(line["resultSignature"], signature, "{result}");
        assert_eq!(line["resultDescription"], description, "{result}");
        assert_eq!(line["properties"]["httpStatusCode"], status, "{result}");
    }
}

#[test]
fn a_projection_is_recorded_under_the_vaults_own_address() {
    let line = ended(End::NotYet, Stage::Intent);
    assert_eq!(
        line["properties"]["id"],
        "https://demo.shop.svc/secrets/db-password"
    );
    assert_eq!(line.get("callerIpAddress"), None);
    assert_eq!(line.get("correlationId"), None);
}

#[test]
fn what_strangers_send_cannot_change_a_records_shape() {
    let evil = "x\",\"resultType\":\"Success\"}\n{\"a\":\"\u{0}\u{2028}";
    let about = About {
        peer: None,
        reached: None,
        host: Some(evil.into()),
        api_version: Some(evil.into()),
        client_request_id: Some(evil.into()),
        request_id: None,
        user_agent: Some(evil.into()),
    };
    let asked = Asked {
        operation: OperationName::SecretGet,
        object: Some(name("db")),
        version: None,
    };
    let outcome = Outcome::failure(Kind::Denied, "ForbiddenByPolicy");
    let (caller, vault) = (caller(), vault());
    let line = Record {
        id: ID,
        stage: Stage::Complete,
        at: moment(1_700_000_000, 0),
        took: None,
        about: &about,
        caller: Some(&caller),
        vault: Some(&vault.id),
        asked: &asked,
        rule: None,
        generation: None,
        end: End::Known(&outcome),
        not_shown: None,
    }
    .to_line();
    let line = parsed(&line);
    assert_eq!(line["resultType"], "Failure");
    assert_eq!(line["time"], "2023-11-14T22:13:20.0000000Z");
    assert_eq!(line["properties"]["isAccessPolicyMatch"], false);
    assert_eq!(
        line["properties"]["clientInfo"],
        "x_,_resultType_:_Success_____a_:___"
    );
    assert_eq!(
        line["properties"]["id"],
        "https://x___resultType_:_Success_____a_:___/secrets/db"
    );
}

#[test]
fn the_longest_names_there_are_make_no_line_too_long() {
    let longest = |text: &str, bytes: usize| text.repeat(bytes);
    let caller = Caller::ServiceAccount(ServiceAccountCaller {
        namespace: Namespace::parse(&longest("n", 63)).unwrap(),
        name: longest("a", 253).into(),
        uid: Uid::new(&longest("u", 36)),
        pod: Some(PodRef {
            name: longest("p", 253).into(),
            uid: Uid::new(&longest("u", 36)),
            node: Some(longest("k", 253).into()),
        }),
        expires: UnixSeconds(0),
        address: None,
    });
    let vault = VaultId {
        namespace: Namespace::parse(&longest("n", 63)).unwrap(),
        name: VaultName::parse(&longest("v", 24)).unwrap(),
    };
    let text = longest("ä", 100_000);
    let about = About {
        peer: Some("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()),
        reached: Some(false),
        host: Some(text.as_str().into()),
        api_version: Some(text.as_str().into()),
        client_request_id: Some(text.as_str().into()),
        request_id: None,
        user_agent: Some(text.as_str().into()),
    };
    let asked = Asked {
        operation: OperationName::SecretListVersions,
        object: Some(ObjectName::parse(&longest("o", 127)).unwrap()),
        version: Some(Version([0xff; 16])),
    };
    let permit = permit(get("db"));
    let line = Record {
        id: RecordId {
            process: u64::MAX,
            number: u64::MAX,
        },
        stage: Stage::Outcome,
        at: moment(i64::MAX, u32::MAX),
        took: Some(Duration::MAX),
        about: &about,
        caller: Some(&caller),
        vault: Some(&vault),
        asked: &asked,
        rule: Some(permit.rule()),
        generation: Some(u64::MAX),
        end: End::Unknown,
        not_shown: Some(u64::MAX),
    }
    .to_line();
    // The rule's name here is 16 bytes; it may have 266.
    assert!(line.len() + 266 < LONGEST, "{}", line.len());
    assert_eq!(parsed(&line)["operationName"], "SecretListVersions");
}
