//! From where a vault may be called: pods inside and outside of rules, their volumes, and who may write rules.

use std::time::{Duration, Instant};

use crate::e2e::harness::{Said, Tenant, eventually, kubectl, pod, tenant};

const SOON: Duration = Duration::from_secs(5);

fn rule(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: strongroom.dev/v1alpha1\nkind: NetworkRule\nmetadata: {{name: {name}}}\nspec: {{vaultRef: demo, {spec}}}\n"
    )
}

fn close(tenant: &Tenant, network: &str) {
    let patch = format!(r#"{{"spec":{{"network":{network}}}}}"#);
    tenant
        .kubectl(&["patch", "vault", "demo", "--type=merge", "-p", &patch])
        .ok();
}

const DENY: &str = r#"{"defaultAction":"Deny"}"#;

/// What a pod hears when it reads the secret: its value, or the error.
fn reads(tenant: &Tenant, pod: &str) -> String {
    let program = "from azure.core.exceptions import HttpResponseError\n\
                   try:\n    print(client.get_secret('db').value)\n\
                   except HttpResponseError as e:\n    print(e.status_code, e.response.json()['error']['innererror']['code'])\n    \
                   print(e.response.json()['error']['message'])\n";
    tenant.python(pod, program).ok()
}

fn condition(tenant: &Tenant, rule: &str) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}: {.status.conditions[?(@.type==\"Ready\")].message}";
    tenant.kubectl(&["get", "networkrule", rule, "-o", path]).ok()
}

#[track_caller]
fn says(tenant: &Tenant, rule: &str, expected: &str) {
    eventually(
        &format!("rule {rule} says {expected}"),
        Duration::from_secs(20),
        || condition(tenant, rule).starts_with(expected).then_some(()),
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_pod_outside_every_rule_is_refused_and_gets_in_within_seconds_of_one() {
    let tenant = tenant("a_pod_outside_every_rule_is_refused");
    tenant.vault(&["get", "set"]);
    tenant
        .apply(&(pod("web", "app", None) + &pod("db", "app", None)))
        .ok();
    for name in ["web", "db"] {
        tenant
            .kubectl(&[
                "wait",
                "--for=condition=Ready",
                "--timeout=45s",
                &format!("pod/{name}"),
            ])
            .ok();
    }
    tenant.python("web", "client.set_secret('db', 'kept')").ok();
    close(&tenant, DENY);
    let refused = eventually("the vault is closed", SOON, || {
        let said = reads(&tenant, "web");
        said.starts_with("403 ForbiddenByFirewall").then_some(said)
    });
    let address = tenant
        .kubectl(&["get", "pod", "web", "-o", "jsonpath={.status.podIP}"])
        .ok();
    for part in [
        "Client address is not authorized and caller is not a trusted service.",
        &format!("Client address: {address}"),
        &format!("Caller: system:serviceaccount:{}:app", tenant.namespace),
        &format!("Vault: demo;location={}", tenant.namespace),
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }

    tenant
        .apply(&rule("web", "pods: [{podSelector: {matchLabels: {app: web}}}]"))
        .ok();
    let began = Instant::now();
    eventually("the pod's label lets it in", SOON, || {
        (reads(&tenant, "web") == "kept\n").then_some(())
    });
    println!("in {:.1} s after the rule", began.elapsed().as_secs_f64());
    says(&tenant, "web", "InForce: 0 CIDRs and 1 entries of pods");
    assert!(reads(&tenant, "db").starts_with("403 ForbiddenByFirewall"));

    tenant.kubectl(&["delete", "networkrule", "web"]).ok();
    eventually("without the rule it is out", SOON, || {
        reads(&tenant, "web").starts_with("403 ").then_some(())
    });
    tenant
        .apply(&rule("address", &format!("cidrs: [{address}]")))
        .ok();
    eventually("the pod's address lets it in", SOON, || {
        (reads(&tenant, "web") == "kept\n").then_some(())
    });
    assert!(reads(&tenant, "db").starts_with("403 ForbiddenByFirewall"));

    // Labels count as they are now.
    tenant
        .apply(&rule(
            "labelled",
            "pods: [{podSelector: {matchLabels: {in: 'yes'}}}]",
        ))
        .ok();
    tenant.kubectl(&["label", "pod", "db", "in=yes"]).ok();
    eventually("the pod's new label lets it in", SOON, || {
        (reads(&tenant, "db") == "kept\n").then_some(())
    });
    let namespace = &tenant.namespace;
    tenant.kubectl(&["delete", "networkrule", "labelled"]).ok();
    tenant
        .apply(&rule(
            "team",
            "pods: [{namespaceSelector: {matchLabels: {team: shop}}}]",
        ))
        .ok();
    eventually("without its rule it is out again", SOON, || {
        reads(&tenant, "db").starts_with("403 ").then_some(())
    });
    kubectl(&["label", "namespace", namespace, "team=shop"], None).ok();
    eventually("the namespace's new label lets it in", SOON, || {
        (reads(&tenant, "db") == "kept\n").then_some(())
    });
}

#[test]
#[ignore = "needs a cluster"]
fn a_volume_outside_every_rule_says_so_in_the_pods_events_and_mounts_once_it_may() {
    let tenant = tenant("a_volume_outside_every_rule_says_so");
    tenant.vault(&["get"]);
    tenant
        .apply("apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {name: db}\nspec: {vaultRef: demo, generate: {}}\n")
        .ok();
    tenant.ready("vaultsecrets.strongroom.dev/db");
    close(&tenant, DENY);
    // It may be called from the pods' addresses, which a pod that mounts does not have yet.
    tenant
        .apply(&rule("addresses", "cidrs: [0.0.0.0/0, '::/0']"))
        .ok();
    says(&tenant, "addresses", "InForce");
    tenant.apply(&pod("web", "app", Some("- secret: db"))).ok();
    eventually("the event says why", Duration::from_secs(30), || {
        let events = tenant
            .kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"])
            .ok();
        (events.contains("Client address is not authorized")
            && events.contains("that of the pod, for a volume"))
        .then_some(())
    });
    tenant.apply(&rule("pods", "pods: [{podSelector: {}}]")).ok();
    let began = Instant::now();
    tenant
        .kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/web"])
        .ok();
    println!(
        "mounted and ready {:.1} s after the rule",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(tenant.exec("web", "wc -c < /secrets/db").ok().trim(), "32");

    tenant.kubectl(&["delete", "networkrule", "--all"]).ok();
    close(&tenant, r#"{"defaultAction":"Deny","bypass":"Volumes"}"#);
    tenant.pod("other", "app", Some("- secret: db"));
    assert!(
        reads(&tenant, "other").starts_with("403 ForbiddenByFirewall"),
        "the bypass is for volumes alone"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_rule_says_how_it_stands() {
    let tenant = tenant("a_rule_says_how_it_stands");
    tenant.apply(&rule("office", "cidrs: [203.0.113.0/24]")).ok();
    says(&tenant, "office", "VaultNotFound");
    tenant.vault(&["get"]);
    says(
        &tenant,
        "office",
        "NoEffect: the default action of vault 'demo' is not Deny",
    );
    close(&tenant, DENY);
    says(&tenant, "office", "InForce: 1 CIDRs and 0 entries of pods");
    tenant.apply(&rule("odd", "cidrs: [203.0.113.1/24]")).ok();
    says(
        &tenant,
        "odd",
        "NotUnderstood: this version of Strongroom does not understand spec.cidrs[0]",
    );
    close(&tenant, r#"{"defaultAction":"Allow"}"#);
    says(&tenant, "office", "NoEffect");
    println!("{}", tenant.kubectl(&["get", "nr", "-o", "wide"]).ok());
}

#[test]
#[ignore = "needs a cluster"]
fn who_may_not_grant_decides_neither_by_rules_nor_by_the_vault_from_where_it_is_called() {
    let tenant = tenant("who_may_not_grant_decides_neither");
    tenant
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: dev}\nrules:\n\
             - {apiGroups: [strongroom.dev], resources: [vaults, networkrules], verbs: [get, list, create, update, patch, delete, deletecollection]}\n\
             - {apiGroups: [strongroom.dev], resources: [vaults], verbs: [grant], resourceNames: [mine]}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: dev}\n\
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}\n\
             subjects: [{kind: User, name: dev, apiGroup: rbac.authorization.k8s.io}]\n",
        )
        .ok();
    let vault = |name: &str, spec: &str| {
        format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let on = |name: &str, vault: &str| rule(name, "cidrs: [10.0.0.0/8]").replace("demo", vault);
    tenant
        .apply(&vault("theirs", "{network: {defaultAction: Deny}}"))
        .ok();
    tenant.apply(&on("theirs", "theirs")).ok();
    let dev = |arguments: &[&str], input: Option<&str>| -> Said {
        let mut all = vec!["--namespace", tenant.namespace.as_str(), "--as=dev"];
        all.extend(arguments);
        kubectl(&all, input)
    };
    let apply = |yaml: &str| dev(&["apply", "-f", "-"], Some(yaml));
    let patch = |name: &str, patch: &str| dev(&["patch", "vault", name, "--type=json", "-p", patch], None);
    eventually("the role counts", Duration::from_secs(10), || {
        apply(&on("mine", "mine")).success.then_some(())
    });
    // What is his he may close and open, and a vault that says nothing takes no more than RBAC.
    apply(&vault("mine", "{network: {defaultAction: Deny}}")).ok();
    apply(&vault("mine", "{network: {defaultAction: Allow}}")).ok();
    apply(&vault("silent", "{}")).ok();
    dev(&["annotate", "vault", "theirs", "note=x"], None).ok();
    let attempts = [
        ("a rule of another vault", apply(&on("new", "theirs"))),
        ("moving one's own rule there", apply(&on("mine", "theirs"))),
        ("taking a rule away", apply(&on("theirs", "mine"))),
        ("deleting a rule", dev(&["delete", "networkrule", "theirs"], None)),
        (
            "deleting all rules",
            dev(&["delete", "networkrules", "--all"], None),
        ),
        ("a rule of a vault that isn't there", apply(&on("new", "nowhere"))),
        (
            "opening a vault",
            patch(
                "theirs",
                r#"[{"op":"replace","path":"/spec/network/defaultAction","value":"Allow"}]"#,
            ),
        ),
        (
            "letting volumes through",
            patch(
                "theirs",
                r#"[{"op":"add","path":"/spec/network/bypass","value":"Volumes"}]"#,
            ),
        ),
        (
            "taking what it says away",
            patch("theirs", r#"[{"op":"remove","path":"/spec/network"}]"#),
        ),
        (
            "closing one that said nothing",
            patch(
                "silent",
                r#"[{"op":"add","path":"/spec/network","value":{"defaultAction":"Deny"}}]"#,
            ),
        ),
        (
            "a new one that says something",
            apply(&vault("another", "{network: {defaultAction: Allow}}")),
        ),
        (
            "an empty one is said too",
            apply(&vault("another", "{network: {}}")),
        ),
    ];
    for (what, said) in attempts {
        let refused = said.refused();
        assert!(refused.contains("takes the verb 'grant' on"), "{what}: {refused}");
    }

    // He may delete it and make it anew, and opens nothing by it: its head keeps what was said.
    let default_action = || {
        let path = "jsonpath={.status.network.defaultAction}";
        tenant.kubectl(&["get", "vault", "theirs", "-o", path]).ok()
    };
    eventually("the head has what was said", Duration::from_secs(20), || {
        (default_action() == "Deny").then_some(())
    });
    let deletes = |name: &str| dev(&["delete", "vault", name, "--wait=false"], None);
    deletes("theirs").ok();
    apply(&vault("theirs", "{}")).ok();
    tenant.ready("vault/theirs");
    eventually("it is closed as before", Duration::from_secs(20), || {
        (default_action() == "Deny").then_some(())
    });

    // Before the head has it, what was said would go with the resource. The head is quick, so one of several is hit.
    let refused: Vec<String> = (0..5)
        .map(|turn| format!("young-{turn}"))
        .filter_map(|name| {
            tenant
                .apply(&vault(&name, "{network: {defaultAction: Deny}}"))
                .ok();
            let said = deletes(&name);
            (!said.success).then(|| said.refused())
        })
        .collect();
    let told = "while status.network does not say yet what spec.network says takes the verb 'grant' on it";
    assert!(!refused.is_empty(), "no deletion was quicker than the head");
    for said in refused {
        assert!(said.contains(told), "{said}");
    }
}
