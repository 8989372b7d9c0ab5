//! What a stranger gets: nothing, and a clear text.

use std::time::Duration;

use crate::e2e::harness::{eventually, policy, tenant};

#[test]
#[ignore = "needs a cluster"]
fn another_service_account_gets_azures_403_and_another_namespace_nothing() {
    let tenant = tenant("another_service_account_gets_azures");
    tenant.vault(&["get", "set"]);
    tenant
        .apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: stranger}\n")
        .ok();
    tenant.pod("stranger", "stranger", None);
    let said = tenant.python("stranger", STRANGER).ok();
    println!("{said}");
    let elsewhere = crate::e2e::harness::tenant("another_namespace_gets_nothing");
    elsewhere.vault(&["all"]);
    elsewhere.pod("app", "app", None);
    let program = STRANGER.replace("{url}", &format!("https://demo.{}.svc", tenant.namespace));
    elsewhere.python("app", &program).ok();
    let never = STRANGER
        .replace("{url}", &format!("https://never.{}.svc", tenant.namespace))
        .replace("SEND_TO", "url");
    elsewhere.python("app", &never).ok();
}

const STRANGER: &str = r#"
import requests, socket, ssl
target = "{url}" if not "{url}".startswith("{") else url
host = target.removeprefix("https://")
context = ssl.create_default_context(cafile=ca)
def ask(token):
    raw = socket.create_connection(("strongroom.strongroom-system.svc", 443))
    with context.wrap_socket(raw, server_hostname=host) as tls:
        auth = f"Authorization: Bearer {token}\r\n" if token else ""
        tls.sendall(f"GET /secrets/db-password?api-version=7.4 HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: close\r\n\r\n".encode())
        data = b""
        while chunk := tls.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode(), json.loads(body)["error"]
head, error = ask(None)
assert " 401 " in head.splitlines()[0], head
suffix = host.split(".", 1)[1]
challenge = [l for l in head.splitlines() if l.lower().startswith("www-authenticate:")][0]
assert f'resource="https://{suffix}"' in challenge and 'authorization="https://strongroom-token.strongroom-system.svc/' in challenge, challenge
head, error = ask(token())
assert " 403 " in head.splitlines()[0], head
assert error["code"] == "Forbidden" and error["innererror"]["code"] == "ForbiddenByPolicy", error
print(error["message"])
"#;

#[test]
#[ignore = "needs a cluster"]
fn whoever_may_edit_a_vault_but_not_grant_gives_nobody_access() {
    let tenant = tenant("whoever_may_edit_a_vault_but_not_grant");
    tenant.vault(&["get"]);
    let namespace = tenant.namespace.as_str();
    tenant
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: editor}\n\
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}\n\
             subjects: [{kind: User, name: editor, apiGroup: rbac.authorization.k8s.io}]\n",
        )
        .ok();
    let as_editor = |yaml: &str| {
        crate::e2e::harness::kubectl(
            &["--namespace", namespace, "--as=editor", "apply", "-f", "-"],
            Some(yaml),
        )
    };
    // Aggregation of the roles takes the controller manager a moment.
    eventually("the editor may edit vaults", Duration::from_secs(10), || {
        tenant
            .kubectl(&[
                "auth",
                "can-i",
                "create",
                "accesspolicies.strongroom.dev",
                "--as=editor",
            ])
            .success
            .then_some(())
    });
    let refused = as_editor(&policy("mine", "app", &["all"])).refused();
    println!("{refused}");
    assert!(refused.contains("grant"), "{refused}");
    as_editor("apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {name: made-by-editor}\nspec:\n  vaultRef: demo\n  generate: {length: 20}\n").ok();
    let read = crate::e2e::harness::kubectl(
        &["--as=editor", "-n", "strongroom-system", "get", "sealedrecords"],
        None,
    );
    assert!(
        !read.success,
        "an editor of a tenant's namespace reads no sealed record"
    );
    tenant
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: granter}\n\
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: strongroom-grant}\n\
             subjects: [{kind: User, name: editor, apiGroup: rbac.authorization.k8s.io}]\n",
        )
        .ok();
    eventually("with the verb grant it passes", Duration::from_secs(10), || {
        as_editor(&policy("mine", "app", &["all"])).success.then_some(())
    });
}
