//! The official Azure SDK for Python, with default options, from a pod.

use crate::e2e::harness::{policy, tenant};

#[test]
#[ignore = "needs a cluster"]
fn the_azure_sdk_sets_reads_lists_updates_and_deletes_with_default_options() {
    let tenant = tenant("the_azure_sdk_sets_reads_lists_updates_and_deletes");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let said = tenant.python("client", SDK).ok();
    assert!(said.trim_end().ends_with("everything held"), "{said}");
}

const SDK: &str = r#"
from datetime import datetime, timezone, timedelta
from azure.core.exceptions import ResourceNotFoundError, ResourceExistsError, HttpResponseError
one = client.set_secret("Db-Password", "first", content_type="text/plain", tags={"team": "shop"})
assert one.id.startswith(url + "/secrets/"), one.id
assert len(one.properties.version) == 32
assert one.properties.recovery_level == "Recoverable+Purgeable" and one.properties.recoverable_days == 90
two = client.set_secret("db-password", "second \u00e4\U0001F511 \"quoted\" \\ \n")
assert client.get_secret("DB-PASSWORD").value == "second \u00e4\U0001F511 \"quoted\" \\ \n"
assert client.get_secret("db-password", one.properties.version).value == "first"
assert client.get_secret("db-password", one.properties.version).properties.content_type == "text/plain"
for n in range(60):
    client.set_secret(f"many-{n:03d}", str(n))
names = [p.name.lower() for p in client.list_properties_of_secrets()]
assert len(names) == 61 and names == sorted(names), names
versions = {p.version for p in client.list_properties_of_secret_versions("db-password")}
assert versions == {one.properties.version, two.properties.version}, versions
assert list(client.list_properties_of_secret_versions("never-was")) == []
for n in range(30):
    client.set_secret("often", str(n))
assert len(list(client.list_properties_of_secret_versions("often", max_page_size=7))) == 30
updated = client.update_secret_properties("db-password", tags={"a": "b"}, content_type="x")
assert updated.tags == {"a": "b"} and updated.content_type == "x"
assert client.get_secret("db-password").value.startswith("second")
client.update_secret_properties("db-password", enabled=False)
def refused(status, inner, call):
    try:
        call()
    except HttpResponseError as e:
        body = json.loads(e.response.text())["error"]
        got = (e.status_code, (body.get("innererror") or {}).get("code", body["code"]))
        assert got == (status, inner), (got, body)
        return e
    raise AssertionError("not refused: " + inner)
refused(403, "SecretDisabled", lambda: client.get_secret("db-password"))
client.update_secret_properties("db-password", enabled=True)
assert client.get_secret("db-password").value.startswith("second")
now = datetime.now(timezone.utc)
client.set_secret("early", "x", not_before=now + timedelta(hours=1))
client.set_secret("late", "x", expires_on=now - timedelta(hours=1))
for name in ("early", "late"):
    try:
        client.get_secret(name)
        raise AssertionError(name)
    except HttpResponseError as e:
        assert e.status_code == 403, e
client.update_secret_properties("late", expires_on=now + timedelta(hours=1))
assert client.get_secret("late").value == "x"
e = refused(404, "SecretNotFound", lambda: client.get_secret("never-was"))
assert isinstance(e, ResourceNotFoundError)
refused(404, "SecretNotFound", lambda: client.get_secret("db-password", "0" * 32))
refused(400, "BadParameter", lambda: client.set_secret("bad_name", "x"))
refused(400, "BadParameter", lambda: client.set_secret("big", "x" * (25 * 1024 + 1)))
assert client.set_secret("big", "x" * (25 * 1024)).properties.version
refused(400, "BadParameter", lambda: client.set_secret("tags", "x", tags={str(n): "" for n in range(16)}))
client.set_secret("gone", "x")
import requests
deleted = requests.delete(url + "/secrets/gone?api-version=7.4", headers={"Authorization": "Bearer " + token()}, verify=ca)
body = deleted.json()
assert deleted.status_code == 200 and body["recoveryId"] == url + "/deletedsecrets/gone", body
assert body["scheduledPurgeDate"] - body["deletedDate"] == 90 * 86400, body
refused(404, "SecretNotFound", lambda: client.get_secret("gone"))
e = refused(409, "ObjectIsDeletedButRecoverable", lambda: client.set_secret("gone", "y"))
assert isinstance(e, ResourceExistsError)
assert "gone" not in [p.name for p in client.list_properties_of_secrets()]
assert list(client.list_properties_of_secret_versions("gone")) == []
assert client.get_deleted_secret("gone").recovery_id == url + "/deletedsecrets/gone"
page = requests.get(url + "/secrets?api-version=7.4&maxresults=3", headers={"Authorization": "Bearer " + token()}, verify=ca).json()
assert len(page["value"]) == 3 and page["nextLink"].startswith(url), page["nextLink"]
before, mark, rest = page["nextLink"].partition("skiptoken=")
assert mark, page["nextLink"]
tampered = before + mark + rest[:9] + ("A" if rest[9] != "A" else "B") + rest[10:]
bad = requests.get(tampered, headers={"Authorization": "Bearer " + token()}, verify=ca)
assert bad.status_code == 400, bad.text
for version in ("7.0", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"):
    assert requests.get(url + "/secrets/big?api-version=" + version, headers={"Authorization": "Bearer " + token()}, verify=ca).status_code == 200
print("everything held")
"#;

#[test]
#[ignore = "needs a cluster"]
fn the_azure_sdk_deletes_recovers_and_purges_with_default_options() {
    let tenant = tenant("the_azure_sdk_deletes_recovers_and_purges");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let said = tenant.python("client", DELETED).ok();
    assert!(said.trim_end().ends_with("everything held"), "{said}");
}

const DELETED: &str = r#"
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ResourceExistsError
from datetime import timedelta
def refused(kind, call):
    try:
        call()
    except kind as e:
        return e
    raise AssertionError("not refused")
first = client.set_secret("Pw", "first", tags={"team": "shop"})
client.set_secret("pw", "second")
poller = client.begin_delete_secret("pw")
poller.wait()
deleted = poller.result()
assert deleted.recovery_id == url + "/deletedsecrets/Pw", deleted.recovery_id
assert deleted.scheduled_purge_date - deleted.deleted_date == timedelta(days=90)
refused(ResourceNotFoundError, lambda: client.get_secret("pw"))
seen = client.get_deleted_secret("PW")
assert seen.name == "Pw" and seen.deleted_date == deleted.deleted_date, seen
refused(ResourceExistsError, lambda: client.set_secret("pw", "x"))
poller = client.begin_recover_deleted_secret("pw")
poller.wait()
assert poller.result().name == "Pw"
assert client.get_secret("pw").value == "second"
assert client.get_secret("pw", first.properties.version).properties.tags == {"team": "shop"}
refused(ResourceNotFoundError, lambda: client.get_deleted_secret("pw"))
for n in range(30):
    client.set_secret(f"gone-{n:02d}", "x")
for n in range(30):
    client.begin_delete_secret(f"gone-{n:02d}").wait()
names = [d.name for d in client.list_deleted_secrets()]
assert names == [f"gone-{n:02d}" for n in range(30)], names
assert len(list(client.list_deleted_secrets(max_page_size=7))) == 30
assert [p.name for p in client.list_properties_of_secrets()] == ["Pw"]
assert client.purge_deleted_secret("gone-00") is None
refused(ResourceNotFoundError, lambda: client.get_deleted_secret("gone-00"))
refused(ResourceNotFoundError, lambda: client.purge_deleted_secret("gone-00"))
refused(ResourceNotFoundError, lambda: client.purge_deleted_secret("pw"))
# The name is free, on whichever replica answers.
for n in range(5):
    assert client.set_secret("gone-00", f"life {n}").value == f"life {n}"
    assert client.get_secret("gone-00").value == f"life {n}"
    assert len(list(client.list_properties_of_secret_versions("gone-00"))) == 1
    client.begin_delete_secret("gone-00").wait()
    client.purge_deleted_secret("gone-00")
blob = client.backup_secret("pw")
assert type(blob) is bytes and b"second" not in blob
refused(ResourceExistsError, lambda: client.restore_secret_backup(blob))
versions = {p.version for p in client.list_properties_of_secret_versions("pw")}
client.begin_delete_secret("pw").wait()
refused(ResourceExistsError, lambda: client.restore_secret_backup(blob))
client.purge_deleted_secret("pw")
back = client.restore_secret_backup(blob)
assert back.name == "Pw" and back.version in versions, back
assert {p.version for p in client.list_properties_of_secret_versions("pw")} == versions
assert client.get_secret("pw").value == "second"
assert client.get_secret("pw", first.properties.version).value == "first"
e = refused(HttpResponseError, lambda: client.restore_secret_backup(blob[:-1] + bytes([blob[-1] ^ 1])))
assert e.status_code == 400 and "Malformed backup blob" in e.message, e
print("everything held")
"#;

#[test]
#[ignore = "needs a cluster"]
fn a_vault_becomes_what_its_resource_says_and_never_loses_its_protection() {
    let tenant = tenant("a_vault_becomes_what_its_resource_says");
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let patch = |spec: &str| {
        let patch = format!("{{\"spec\":{spec}}}");
        tenant
            .kubectl(&["patch", "vault", "demo", "--type=merge", "-p", &patch])
            .ok();
    };
    tenant.python("client", EXPIRED).ok();
    tenant
        .python("client", &format!("{UNTIL}\nassert read() == 403"))
        .ok();
    patch(r#"{"outsideValidity":"Allow","purgeProtection":true}"#);
    let said = tenant.python("client", &format!("{UNTIL}\n{RULES}")).ok();
    assert!(said.trim_end().ends_with("everything held"), "{said}");
    patch(r#"{"outsideValidity":"Deny"}"#);
    tenant
        .python("client", &format!("{UNTIL}\nuntil(lambda: read() == 403)"))
        .ok();
}

const EXPIRED: &str = r#"
from datetime import datetime, timezone, timedelta
client.set_secret("late", "x", expires_on=datetime.now(timezone.utc) - timedelta(hours=1))
"#;

const UNTIL: &str = r#"
from azure.core.exceptions import HttpResponseError
def read():
    try:
        client.get_secret("late")
        return 200
    except HttpResponseError as e:
        return e.status_code
def until(holds):
    for _ in range(100):
        if holds():
            return
        time.sleep(0.2)
    raise AssertionError("not within 20 s")
"#;

const RULES: &str = r#"
until(lambda: read() == 200)
until(lambda: client.get_secret("late").properties.recovery_level == "Recoverable")
client.set_secret("kept", "x")
client.begin_delete_secret("kept").wait()
try:
    client.purge_deleted_secret("kept")
    raise AssertionError("purged")
except HttpResponseError as e:
    assert e.status_code == 403 and "purge protection" in e.message, e
client.begin_recover_deleted_secret("kept").wait()
print("everything held")
"#;

#[test]
#[ignore = "needs a cluster"]
fn a_permission_is_enough_for_its_operations_and_no_other() {
    let tenant = tenant("a_permission_is_enough_for_its_operations");
    tenant.vault(&["all"]);
    let mut yaml = String::new();
    for permission in PERMISSIONS {
        yaml.push_str(&format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: only-{permission}}}\n{}",
            policy(
                &format!("only-{permission}"),
                &format!("only-{permission}"),
                &[permission]
            )
        ));
        yaml.push_str(&crate::e2e::harness::pod(
            &format!("only-{permission}"),
            &format!("only-{permission}"),
            None,
        ));
    }
    tenant.apply(&yaml).ok();
    tenant
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=45s", "pod", "--all"])
        .ok();
    tenant.pod("client", "app", None);
    tenant.python("client", SHARED).ok();
    for permission in PERMISSIONS {
        let said = tenant.python(&format!("only-{permission}"), ONE_PERMISSION).ok();
        assert_eq!(
            said.trim(),
            permission,
            "what a caller with only {permission} could do"
        );
    }
}

/// In an order in which none takes away what a later one needs.
const PERMISSIONS: [&str; 8] = [
    "get", "list", "set", "backup", "delete", "recover", "purge", "restore",
];

const SHARED: &str = r#"
for name in ("shared", "back", "gone"):
    client.set_secret(name, "x")
for name in ("back", "gone"):
    client.begin_delete_secret(name).wait()
"#;

const ONE_PERMISSION: &str = r#"
import requests
h = {"Authorization": "Bearer " + token()}
v = "?api-version=7.4"
could = []
def attempt(name, response):
    if response.ok:
        could.append(name)
    else:
        e = response.json()["error"]
        assert (response.status_code, e["code"], e["innererror"]["code"]) == (403, "Forbidden", "ForbiddenByPolicy"), e
attempt("get", requests.get(url + "/secrets/shared" + v, headers=h, verify=ca))
attempt("list", requests.get(url + "/secrets" + v, headers=h, verify=ca))
attempt("set", requests.put(url + "/secrets/made-here" + v, headers=h, json={"value": "y"}, verify=ca))
attempt("backup", requests.post(url + "/secrets/shared/backup" + v, headers=h, verify=ca))
attempt("delete", requests.delete(url + "/secrets/shared" + v, headers=h, verify=ca))
attempt("recover", requests.post(url + "/deletedsecrets/back/recover" + v, headers=h, verify=ca))
attempt("purge", requests.delete(url + "/deletedsecrets/gone" + v, headers=h, verify=ca))
restored = requests.post(url + "/secrets/restore" + v, headers=h, json={"value": "AAAA"}, verify=ca)
if restored.status_code == 400:
    could.append("restore")
else:
    attempt("restore", restored)
print(" ".join(could))
"#;
