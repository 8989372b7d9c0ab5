//! The admission policies: what nobody may do, whatever their roles say.

use std::time::Duration;

use crate::e2e::harness::{RELEASE, Said, Tenant, eventually, kubectl, policy, tenant};

const SERVE: &str = "--as=system:serviceaccount:strongroom-system:strongroom-serve";
const OPERATE: &str = "--as=system:serviceaccount:strongroom-system:strongroom-operate";
const NODE: &str = "--as=system:serviceaccount:strongroom-system:strongroom-node";

/// kubectl in the tenant's namespace, as somebody.
fn acting(tenant: &Tenant, who: &str, arguments: &[&str], input: Option<&str>) -> Said {
    let mut all = vec!["--namespace", tenant.namespace.as_str(), who];
    all.extend(arguments);
    kubectl(&all, input)
}

#[test]
#[ignore = "needs a cluster"]
fn handing_out_access_takes_the_verb_grant_on_the_old_and_the_new_vault() {
    let tenant = tenant("handing_out_access_takes_the_verb_grant");
    let on = |name: &str, vault: &str| policy(name, "app", &["get"]).replace("demo", vault);
    tenant
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: dev}\nrules:\n\
             - {apiGroups: [strongroom.dev], resources: [accesspolicies], verbs: ['*']}\n\
             - {apiGroups: [strongroom.dev], resources: [vaults], verbs: [grant], resourceNames: [mine]}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: dev}\n\
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}\n\
             subjects: [{kind: User, name: dev, apiGroup: rbac.authorization.k8s.io}]\n",
        )
        .ok();
    tenant.apply(&on("theirs", "theirs")).ok();
    let dev = |arguments: &[&str], input: Option<&str>| acting(&tenant, "--as=dev", arguments, input);
    let apply = |yaml: &str| dev(&["apply", "-f", "-"], Some(yaml));
    eventually("the grant counts", Duration::from_secs(10), || {
        apply(&on("mine", "mine")).success.then_some(())
    });
    apply(&policy("mine", "app", &["get", "set"]).replace("demo", "mine")).ok();
    let refusals = [
        ("a policy of another vault", apply(&on("new", "theirs"))),
        ("moving one's own to another vault", apply(&on("mine", "theirs"))),
        ("taking another vault's policy over", apply(&on("theirs", "mine"))),
        (
            "a policy of a vault that isn't there",
            apply(&on("new", "nowhere")),
        ),
        (
            "deleting another vault's policy",
            dev(&["delete", "accesspolicy", "theirs"], None),
        ),
        ("deleting all", dev(&["delete", "accesspolicies", "--all"], None)),
    ];
    for (what, said) in refusals {
        let refused = said.refused();
        assert!(
            refused.contains("takes the verb 'grant' on the vault"),
            "{what}: {refused}"
        );
    }
    dev(&["annotate", "accesspolicy", "theirs", "note=x"], None).ok();
}

#[test]
#[ignore = "needs a cluster"]
fn saying_that_expired_secrets_are_read_takes_the_verb_grant() {
    let tenant = tenant("saying_that_expired_secrets_are_read");
    tenant
        .apply(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: dev}\nrules:\n\
             - {apiGroups: [strongroom.dev], resources: [vaults], verbs: [get, list, create, update, patch, delete]}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: dev}\n\
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}\n\
             subjects: [{kind: User, name: dev, apiGroup: rbac.authorization.k8s.io}]\n",
        )
        .ok();
    let vault = |name: &str, spec: &str| {
        let yaml = format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        );
        acting(&tenant, "--as=dev", &["apply", "-f", "-"], Some(&yaml))
    };
    eventually("the role counts", Duration::from_secs(10), || {
        vault("mine", "{}").success.then_some(())
    });
    vault("mine", "{purgeProtection: true}").ok();
    for (name, spec) in [
        ("mine", "{purgeProtection: true, outsideValidity: Allow}"),
        ("mine", "{purgeProtection: true, outsideValidity: Deny}"),
        ("new", "{outsideValidity: Allow}"),
    ] {
        let refused = vault(name, spec).refused();
        assert!(
            refused.contains("takes the verb 'grant' on it"),
            "{name} {spec}: {refused}"
        );
    }
    tenant
        .kubectl(&[
            "patch",
            "vault",
            "mine",
            "--type=merge",
            "-p",
            r#"{"spec":{"outsideValidity":"Allow"}}"#,
        ])
        .ok();
    // What is there already may be applied again.
    vault("mine", "{purgeProtection: true, outsideValidity: Allow}").ok();
    let refused = vault("mine", "{purgeProtection: true}").refused();
    assert!(refused.contains("takes the verb 'grant' on it"), "{refused}");
}

#[test]
#[ignore = "needs a cluster"]
fn nobody_but_the_operator_writes_a_status() {
    let tenant = tenant("nobody_but_the_operator_writes_a_status");
    tenant.vault(&["get"]);
    for kind in ["vault/demo", "accesspolicy/app"] {
        let patch = r#"{"status":{"conditions":[]}}"#;
        let refused = tenant
            .kubectl(&["patch", kind, "--subresource=status", "--type=merge", "-p", patch])
            .refused();
        assert!(refused.contains("written by its operator alone"), "{refused}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn sealed_records_are_out_of_everybodys_reach() {
    let record = |name: &str| {
        format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: SealedRecord\nmetadata: {{name: {name}}}\nsealed: aGVsbG8=\n"
        )
    };
    let release = |arguments: &[&str], input: Option<&str>| {
        let mut all = vec!["--namespace", RELEASE];
        all.extend(arguments);
        kubectl(&all, input)
    };
    let names = release(&["get", "sealedrecords", "-o", "name"], None).ok();
    let one = names
        .lines()
        .next()
        .expect("an installation has records")
        .to_owned();
    let finalizer = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    let refusals = [
        release(&["create", "-f", "-"], Some(&record("by-hand"))),
        release(&[OPERATE, "create", "-f", "-"], Some(&record("by-hand"))),
        release(
            &["patch", &one, "--type=merge", "-p", r#"{"sealed":"aGVsbG8="}"#],
            None,
        ),
        release(&["patch", &one, "--type=merge", "-p", finalizer], None),
        release(&["delete", &one, "--wait=false"], None),
        release(&["delete", "sealedrecords", "--all", "--wait=false"], None),
    ];
    for said in refusals {
        let refused = said.refused();
        assert!(refused.to_lowercase().contains("forbidden"), "{refused}");
    }
    assert_eq!(
        release(&["get", "sealedrecords", "-o", "name"], None)
            .ok()
            .lines()
            .next(),
        Some(one.as_str())
    );
}

#[test]
#[ignore = "needs a cluster"]
fn our_own_accounts_write_nothing_that_is_not_on_their_list_even_as_administrators() {
    let tenant = tenant("our_own_accounts_write_nothing");
    tenant.vault(&["get"]);
    tenant
        .apply("apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {name: made}\nspec: {vaultRef: demo, generate: {}}\n")
        .ok();
    tenant.ready("vaultsecrets.strongroom.dev/made");
    tenant
        .kubectl(&[
            "create",
            "service",
            "externalname",
            "mine",
            "--external-name=x.example",
        ])
        .ok();
    let too_much = [
        "create",
        "rolebinding",
        "too-much",
        "--clusterrole=cluster-admin",
        "--serviceaccount=strongroom-system:strongroom-serve",
        "--serviceaccount=strongroom-system:strongroom-operate",
        "--serviceaccount=strongroom-system:strongroom-node",
    ];
    tenant.kubectl(&too_much).ok();
    eventually("the binding counts", Duration::from_secs(10), || {
        let said = acting(&tenant, NODE, &["auth", "can-i", "create", "secrets"], None);
        said.success.then_some(())
    });
    let service = |name: &str, target: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, labels: {{app.kubernetes.io/managed-by: strongroom, \
             strongroom.dev/vault: {name}}}}}\nspec: {{type: ExternalName, externalName: {target}}}\n"
        )
    };
    let ours = "strongroom.strongroom-system.svc.cluster.local";
    let forced = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let event = |kind: &str, reporter: &str| {
        format!(
            "apiVersion: events.k8s.io/v1\nkind: Event\nmetadata: {{name: told}}\neventTime: '2026-01-01T00:00:00.000000Z'\n\
             reportingController: {reporter}\nreportingInstance: x\naction: Deliver\nreason: Denied\ntype: Warning\nnote: x\n\
             regarding: {{kind: {kind}, namespace: {namespace}, name: x}}\n",
            namespace = tenant.namespace
        )
    };
    let attempts: [(&str, &str, &[&str], Option<String>); 14] = [
        ("node: a ConfigMap", NODE, &["create", "configmap", "x"], None),
        (
            "serve: a Secret",
            SERVE,
            &["create", "secret", "generic", "x"],
            None,
        ),
        (
            "serve: a ConfigMap",
            SERVE,
            &["create", "configmap", "strongroom-ca"],
            None,
        ),
        (
            "serve: a token of somebody else",
            SERVE,
            &["create", "token", "default"],
            None,
        ),
        (
            "serve: an event that is not about a pod",
            SERVE,
            &["create", "-f", "-"],
            Some(event("Service", "strongroom-serve")),
        ),
        (
            "serve: an event in another's name",
            SERVE,
            &["create", "-f", "-"],
            Some(event("Pod", "kubelet")),
        ),
        (
            "serve: deletes a vault",
            SERVE,
            &["delete", "vault", "demo"],
            None,
        ),
        (
            "operate: a Secret",
            OPERATE,
            &["create", "secret", "generic", "x"],
            None,
        ),
        (
            "operate: another ConfigMap",
            OPERATE,
            &["create", "configmap", "x"],
            None,
        ),
        (
            "operate: a Service to elsewhere",
            OPERATE,
            &forced,
            Some(service("demo", "evil.example")),
        ),
        (
            "operate: a Service that is not ours",
            OPERATE,
            &forced,
            Some(service("mine", ours)),
        ),
        (
            "operate: deletes a Service",
            OPERATE,
            &["delete", "service", "mine"],
            None,
        ),
        (
            "operate: a policy",
            OPERATE,
            &[
                "patch",
                "accesspolicy",
                "app",
                "--type=merge",
                "-p",
                r#"{"spec":{"permissions":{"secrets":["all"]}}}"#,
            ],
            None,
        ),
        (
            "operate: the spec of a Secret",
            OPERATE,
            &[
                "patch",
                "vaultsecret",
                "made",
                "--type=merge",
                "-p",
                r#"{"spec":{"deletionPolicy":"Delete"}}"#,
            ],
            None,
        ),
    ];
    for (what, who, arguments, input) in attempts {
        let refused = acting(&tenant, who, arguments, input.as_deref()).refused();
        assert!(
            refused.contains("strongroom-accounts") && refused.contains("denied request"),
            "{what}: {refused}"
        );
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_namespace_with_all_our_kinds_is_deleted_without_help() {
    let tenant = tenant("a_namespace_with_all_our_kinds_is_deleted");
    tenant.vault(&["get"]);
    tenant
        .apply(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {name: made}\n\
             spec: {vaultRef: demo, generate: {}, deletionPolicy: Delete}\n",
        )
        .ok();
    tenant.ready("vaultsecrets.strongroom.dev/made");
    let began = std::time::Instant::now();
    kubectl(&["delete", "namespace", &tenant.namespace, "--timeout=40s"], None).ok();
    println!(
        "the namespace was gone after {:.1} s",
        began.elapsed().as_secs_f64()
    );
}
