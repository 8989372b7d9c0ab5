//! Secrets as files, and how soon a new version is there.

use std::time::Duration;

use crate::e2e::harness::{eventually, pod, tenant};

#[test]
#[ignore = "needs a cluster"]
fn a_write_is_in_the_running_pods_file_within_a_second() {
    let tenant = tenant("a_write_is_in_the_running_pods_file");
    tenant.vault(&["get", "set"]);
    tenant.apply(SECRET).ok();
    tenant.ready("vaultsecrets/db-password");
    tenant.pod(
        "client",
        "app",
        Some("- secret: db-password\n- secret: db-password\n  path: keys/api\n  mode: \"0400\""),
    );
    let generated = tenant.exec("client", "cat /secrets/db-password").ok();
    assert_eq!(
        generated.len(),
        32,
        "the generated value has the length asked for"
    );
    let modes = tenant
        .exec("client", "stat -Lc %a /secrets/db-password; ls /secrets")
        .ok();
    assert!(modes.starts_with("644\n"), "{modes}");
    assert!(modes.contains("ca.crt"), "{modes}");
    let said = tenant.python("client", WRITES).ok();
    println!("write to file: {said}");
    let worst: f64 = said.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(worst < 1000.0, "{said}");
}

const SECRET: &str = "
apiVersion: strongroom.dev/v1alpha1
kind: Secret
metadata: {name: db-password}
spec:
  vaultRef: demo
  generate: {length: 32, alphabet: Alphanumeric}
";

const WRITES: &str = r#"
took = []
for n in range(20):
    value = f"written-{n}"
    client.set_secret("db-password", value)
    answered = time.monotonic()
    while open("/secrets/db-password").read() != value:
        assert time.monotonic() - answered < 10, "not in the file after 10 s"
        time.sleep(0.001)
    took.append((time.monotonic() - answered) * 1000)
    assert open("/secrets/db-password").read() == value
took.sort()
print(f"median {took[10]:.1f} worst {took[-1]:.1f} ms of {len(took)}")
"#;

#[test]
#[ignore = "needs a cluster"]
fn no_container_ever_starts_on_an_empty_or_half_written_folder() {
    let tenant = tenant("no_container_ever_starts_on_an_empty");
    tenant.vault(&["get", "set"]);
    tenant.apply(SECRET).ok();
    tenant.ready("vaultsecrets/db-password");
    let look = "set -eu; test -s /secrets/db-password; test -s /secrets/second; test -s /secrets/ca.crt; echo whole; sleep infinity";
    let mut yaml = String::new();
    for n in 0..20 {
        let one = pod(
            &format!("p{n}"),
            "app",
            Some("- secret: db-password\n- secret: db-password\n  path: second"),
        );
        yaml.push_str(&one.replace(
            "command: [sleep, infinity]",
            &format!("command: [sh, -c, \"{look}\"]"),
        ));
        yaml = yaml.replace(
            "  serviceAccountName: app\n",
            "  serviceAccountName: app\n  restartPolicy: Never\n",
        );
        yaml = yaml.replace(
            "  restartPolicy: Never\n  restartPolicy: Never\n",
            "  restartPolicy: Never\n",
        );
    }
    tenant.apply(&yaml).ok();
    eventually("all 20 pods ran", Duration::from_secs(50), || {
        let phases = tenant
            .kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.phase}"])
            .ok();
        assert!(
            !phases.contains("Failed"),
            "a container saw an unfinished folder: {phases}"
        );
        (phases.matches("Running").count() == 20).then_some(())
    });
    for n in 0..20 {
        assert_eq!(tenant.kubectl(&["logs", &format!("p{n}")]).ok().trim(), "whole");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn when_access_is_taken_away_the_files_stay_and_the_pod_says_why() {
    let tenant = tenant("when_access_is_taken_away_the_files_stay");
    tenant.vault(&["get", "set"]);
    tenant.pod("writer", "app", None);
    tenant
        .python("writer", "client.set_secret('api-key', 'kept')")
        .ok();
    tenant.pod("reader", "app", Some("- secret: api-key"));
    tenant.kubectl(&["delete", "accesspolicy", "app"]).ok();
    let event = eventually("an event on the pod", Duration::from_secs(10), || {
        let arguments = [
            "get",
            "events",
            "--field-selector=involvedObject.name=reader,reason=Denied",
            "-o",
            "jsonpath={.items[*].message}",
        ];
        let said = tenant.kubectl(&arguments).ok();
        (!said.is_empty()).then_some(said)
    });
    println!("the pod's event: {event}");
    let caller = format!("system:serviceaccount:{}:app", tenant.namespace);
    for part in [
        caller.as_str(),
        "secrets get permission",
        "'demo'",
        "stay at their last value",
    ] {
        assert!(event.contains(part), "the event should say {part}: {event}");
    }
    assert_eq!(event.matches("stay at").count(), 1, "told once");
    assert_eq!(tenant.exec("reader", "cat /secrets/api-key").ok(), "kept");
}

#[test]
#[ignore = "needs a cluster"]
fn a_pinned_version_stays_and_the_latest_moves() {
    let tenant = tenant("a_pinned_version_stays");
    tenant.vault(&["get", "set"]);
    tenant.pod("writer", "app", None);
    let version = tenant
        .python(
            "writer",
            "print(client.set_secret('api-key', 'pinned').properties.version)",
        )
        .ok();
    tenant
        .python("writer", "client.set_secret('api-key', 'newer')")
        .ok();
    let objects = format!(
        "- secret: api-key\n- secret: api-key\n  version: {}\n  path: pinned/api-key",
        version.trim()
    );
    tenant.pod("reader", "app", Some(&objects));
    assert_eq!(
        tenant
            .exec("reader", "cat /secrets/api-key /secrets/pinned/api-key")
            .ok(),
        "newerpinned"
    );
    tenant
        .python("writer", "client.set_secret('api-key', 'newest')")
        .ok();
    eventually("the newest value", Duration::from_secs(2), || {
        (tenant
            .exec("reader", "cat /secrets/api-key /secrets/pinned/api-key")
            .ok()
            == "newestpinned")
            .then_some(())
    });
}
