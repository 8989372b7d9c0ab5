//! A namespace's administrator against another namespace's vault, with everything that he may write: he cannot read it,
//! write it, find out about it, or stand in anybody's way there.
//!
//! `mallory` has Kubernetes' own ClusterRole `admin` in his namespace, `grant` on every vault there, and nothing elsewhere.
//! His victim has a vault `demo` with a secret `db`, which the victim's `app` may read.

use std::time::Duration;

use crate::e2e::harness::{Said, Tenant, eventually, kubectl, pod, policy, tenant};

/// Two namespaces, and who is who in them.
struct Crime {
    victim: Tenant,
    mallory: Tenant,
}

impl Crime {
    fn scene(test: &'static str, of_mallory: &'static str) -> Self {
        let scene = Self {
            victim: tenant(test),
            mallory: tenant(of_mallory),
        };
        let namespace = &scene.mallory.namespace;
        scene
            .mallory
            .apply(&format!(
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: mallory}}\n\
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}}\n\
                 subjects: [{{kind: User, name: {namespace}, apiGroup: rbac.authorization.k8s.io}}]\n---\n\
                 apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: grants}}\n\
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: strongroom-grant}}\n\
                 subjects: [{{kind: User, name: {namespace}, apiGroup: rbac.authorization.k8s.io}}]\n"
            ))
            .ok();
        scene.victim.vault(&["get", "set"]);
        scene
            .victim
            .apply("apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {name: db}\nspec: {vaultRef: demo, generate: {}}\n")
            .ok();
        scene.victim.ready("vaultsecrets.strongroom.dev/db");
        eventually("mallory rules his namespace", Duration::from_secs(10), || {
            scene
                .as_mallory(&["auth", "can-i", "create", "pods"], None)
                .success
                .then_some(())
        });
        scene
    }

    /// kubectl as mallory, in his namespace unless the arguments say another.
    fn as_mallory(&self, arguments: &[&str], input: Option<&str>) -> Said {
        let user = format!("--as={}", self.mallory.namespace);
        let mut all = vec![user.as_str()];
        if !arguments
            .iter()
            .any(|argument| argument.starts_with("--namespace="))
        {
            all.extend(["--namespace", self.mallory.namespace.as_str()]);
        }
        all.extend(arguments);
        kubectl(&all, input)
    }

    fn apply(&self, yaml: &str) -> Said {
        self.as_mallory(&["apply", "-f", "-"], Some(yaml))
    }

    /// A pod of mallory's, under an account of the name that the victim's has.
    fn pod(&self, name: &str) {
        let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: app}\n";
        self.apply(&(account.to_owned() + &pod(name, "app", None))).ok();
        self.mallory
            .kubectl(&[
                "wait",
                "--for=condition=Ready",
                "--timeout=45s",
                &format!("pod/{name}"),
            ])
            .ok();
    }

    /// What a program in mallory's pod prints. It finds `ask(host, path, method, body, sni)`, which gives status and body.
    fn tries(&self, pod: &str, program: &str) -> String {
        let victim = &self.victim.namespace;
        self.mallory
            .python(pod, &format!("victim = '{victim}'\n{ASK}\n{program}"))
            .ok()
    }

    /// The victim's application goes on as ever.
    fn the_victim_is_well(&self) {
        self.victim.pod("client", "app", Some("- secret: db"));
        let said = self
            .victim
            .python("client", "print(len(client.get_secret('db').value))");
        assert_eq!(said.ok().trim(), "32");
        assert_eq!(
            self.victim.exec("client", "wc -c < /secrets/db").ok().trim(),
            "32"
        );
    }
}

const ASK: &str = r#"
import http.client, socket, ssl
def ask(host, path, method="GET", body=None, sni=None, bearer=None):
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    raw = socket.create_connection(("strongroom.strongroom-system.svc", 443), timeout=10)
    c = http.client.HTTPSConnection(host)
    c.sock = context.wrap_socket(raw, server_hostname=sni or host)
    headers = {"Host": host, "Authorization": "Bearer " + (bearer or token()), "Content-Type": "application/json"}
    c.request(method, path + "?api-version=7.4", body=body, headers=headers)
    answer = c.getresponse()
    return answer.status, answer.read().decode()
"#;

#[test]
#[ignore = "needs a cluster"]
fn what_he_makes_under_the_same_names_opens_nothing_of_anothers() {
    let crime = Crime::scene(
        "what_he_makes_under_the_same_names",
        "mallory_makes_the_same_names",
    );
    // Vault, policy, rule, secret, account: all named as the victim's are, and all his own.
    crime
        .apply(&format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {{name: demo}}\nspec: {{network: {{defaultAction: Allow}}}}\n---\n\
             apiVersion: strongroom.dev/v1alpha1\nkind: NetworkRule\nmetadata: {{name: all}}\nspec: {{vaultRef: demo, cidrs: [0.0.0.0/0]}}\n---\n\
             apiVersion: strongroom.dev/v1alpha1\nkind: Secret\nmetadata: {{name: db}}\nspec: {{vaultRef: demo, generate: {{length: 64}}}}\n{}",
            policy("app", "app", &["all"])
        ))
        .ok();
    crime.pod("pod");
    crime.mallory.ready("vaultsecrets.strongroom.dev/db");
    let said = crime.tries(
        "pod",
        "print(len(client.get_secret('db').value))\n\
         for method, path, body in [('GET', '/secrets/db', None), ('GET', '/secrets', None), ('GET', '/secrets/db/versions', None),\n\
             ('PUT', '/secrets/db', '{\"value\":\"his\"}'), ('PATCH', '/secrets/db', '{\"tags\":{}}'), ('DELETE', '/secrets/db', None)]:\n    \
             status, text = ask(f'demo.{victim}.svc', path, method, body)\n    \
             print(method, path, status, json.loads(text)['error']['innererror']['code'])",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "64", "his own is his own");
    assert_eq!(lines.len(), 7, "{said}");
    for line in &lines[1..] {
        assert!(line.ends_with("403 ForbiddenByPolicy"), "{line}");
    }
    crime.as_mallory(&["delete", "vault", "demo"], None).ok();
    crime.the_victim_is_well();
}

#[test]
#[ignore = "needs a cluster"]
fn no_reference_of_his_reaches_beyond_his_namespace() {
    let crime = Crime::scene("no_reference_of_his_reaches_beyond", "mallory_refers_to_anothers");
    let victim = &crime.victim.namespace;
    let resource = |kind: &str, name: &str, rest: &str| {
        format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {rest}\n"
        )
    };
    for vault in [
        format!("{victim}/demo"),
        format!("demo.{victim}"),
        format!("demo.{victim}.svc"),
        "../demo".to_owned(),
        "demo/".to_owned(),
        "DEMO".to_owned(),
    ] {
        let subject = "subjects: [{kind: ServiceAccount, name: app}], permissions: {secrets: [get]}";
        for (kind, rest) in [
            ("AccessPolicy", format!("{{vaultRef: {vault}, {subject}}}")),
            (
                "NetworkRule",
                format!("{{vaultRef: {vault}, cidrs: [0.0.0.0/0]}}"),
            ),
            ("Secret", format!("{{vaultRef: {vault}, generate: {{}}}}")),
        ] {
            let refused = crime.apply(&resource(kind, "abc", &rest)).refused();
            assert!(
                refused.contains("is invalid") && refused.contains("spec.vaultRef"),
                "{kind} {vault}: {refused}"
            );
        }
    }
    let elsewhere = "{vaultRef: demo, subjects: [{kind: ServiceAccount, name: app, namespace: other}], permissions: {secrets: [get]}}";
    let said = crime.apply(&resource("AccessPolicy", "abc", elsewhere));
    assert!(said.refused().contains("unknown field"));
    crime.the_victim_is_well();
}

#[test]
#[ignore = "needs a cluster"]
fn no_volume_of_his_has_anothers_files_whatever_its_attributes_say() {
    let crime = Crime::scene(
        "no_volume_of_his_has_anothers_files",
        "mallory_mounts_anothers_files",
    );
    let victim = &crime.victim.namespace;
    crime
        .apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: app}\n")
        .ok();
    let mut all = String::new();
    let attempts = [
        ("slash", format!("{victim}/demo"), String::new()),
        ("dot", format!("demo.{victim}"), String::new()),
        ("same-name", "demo".to_owned(), String::new()),
        (
            "bent",
            "demo".to_owned(),
            format!(
                "        csi.storage.k8s.io/pod.namespace: {victim}\n        csi.storage.k8s.io/serviceAccount.name: app\n        \
                 csi.storage.k8s.io/pod.name: client\n        namespace: {victim}\n"
            ),
        ),
    ];
    for (name, vault, more) in &attempts {
        let yaml = pod(name, "app", Some("- secret: db"))
            .replace("vault: demo\n", &format!("vault: {vault}\n"))
            .replace("        objects: |\n", &format!("{more}        objects: |\n"));
        all.push_str(&yaml);
    }
    crime.apply(&all).ok();
    for (name, ..) in &attempts {
        let event = eventually(&format!("{name} says why"), Duration::from_secs(40), || {
            let of = format!("--field-selector=involvedObject.name={name},reason=FailedMount");
            let events = crime
                .mallory
                .kubectl(&["get", "events", &of, "-o", "jsonpath={.items[*].message}"])
                .ok();
            // Of a driver, and not of what every pod mounts.
            events.contains("rpc error").then_some(events)
        });
        println!("{name}: {event}");
        let phase = crime
            .mallory
            .kubectl(&["get", "pod", name, "-o", "jsonpath={.status.phase}"])
            .ok();
        assert_eq!(phase, "Pending", "{name}");
    }
    crime.the_victim_is_well();
}

#[test]
#[ignore = "needs a cluster"]
fn he_cannot_tell_anothers_vault_or_secret_from_one_that_is_not_there() {
    let crime = Crime::scene("he_cannot_tell_anothers_vault", "mallory_finds_out");
    // Closed to all addresses, which makes no difference to him either.
    crime
        .victim
        .apply(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: closed}\nspec: {network: {defaultAction: Deny}}\n",
        )
        .ok();
    crime.victim.ready("vaults.strongroom.dev/closed");
    crime.pod("pod");
    let said = crime.tries(
        "pod",
        "for path in ['/secrets/db', '/secrets/none', '/secrets', '/secrets/db/versions']:\n    \
             answers = set()\n    \
             for vault in ['demo', 'closed', 'nowhere']:\n        \
                 status, text = ask(f'{vault}.{victim}.svc', path)\n        \
                 answers.add((status, text.replace(vault, 'it')))\n    \
             print(path, len(answers), answers)",
    );
    assert_eq!(said.lines().count(), 4, "{said}");
    for line in said.lines() {
        assert!(line.contains(" 1 {(403,"), "{line}");
    }
    for what in [
        "vaults",
        "accesspolicies",
        "networkrules",
        "vaultsecrets",
        "events",
        "sealedrecords",
    ] {
        let of_victim = format!("--namespace={}", crime.victim.namespace);
        crime.as_mallory(&["get", what, &of_victim], None).refused();
    }
    for what in ["vaults", "vaultsecrets", "deletedvaults"] {
        crime
            .as_mallory(&["get", what, "--all-namespaces", "--namespace="], None)
            .refused();
    }
    crime.the_victim_is_well();
}

#[test]
#[ignore = "needs a cluster"]
fn neither_hosts_nor_tokens_nor_services_of_his_lead_to_anothers_vault() {
    let crime = Crime::scene("neither_hosts_nor_tokens_nor_services", "mallory_bends_hosts");
    crime
        .apply(&format!(
            "apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {{name: demo}}\nspec: {{}}\n{}",
            policy("app", "app", &["all"])
        ))
        .ok();
    crime.mallory.ready("vaults.strongroom.dev/demo");
    crime.pod("pod");
    // A Service of his that leads to the victim's name, and one that leads to the data plane itself.
    let service = |name: &str, target: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: {target}}}\n"
        )
    };
    crime
        .apply(
            &(service(
                "alias",
                &format!("demo.{}.svc.cluster.local", crime.victim.namespace),
            ) + &service("straight", "strongroom.strongroom-system.svc.cluster.local")),
        )
        .ok();
    let said = crime.tries(
        "pod",
        "mine = f'demo.{namespace}.svc'\ntheirs = f'demo.{victim}.svc'\n\
         print('sni mine, host theirs', ask(theirs, '/secrets/db', sni=mine)[0])\n\
         print('sni theirs, host mine', ask(mine, '/secrets/db', sni=theirs)[0])\n\
         print('absolute', ask(mine, f'https://{theirs}/secrets/db')[0])\n\
         for name in ['alias', 'straight']:\n    print(name, ask(f'{name}.{namespace}.svc', '/secrets/db')[0])",
    );
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "sni mine, host theirs 421",
            "sni theirs, host mine 421",
            "absolute 400",
            "alias 404",
            "straight 404"
        ]
    );
    // Tokens that he may have made: his accounts', for our audience and others, bound and unbound.
    let unbound = crime
        .as_mallory(&["create", "token", "app", "--audience=strongroom.dev"], None)
        .ok();
    let internal = crime
        .as_mallory(
            &["create", "token", "app", "--audience=internal.strongroom.dev"],
            None,
        )
        .ok();
    for (token, status) in [(unbound, "403"), (internal, "401")] {
        let said = crime.tries(
            "pod",
            &format!(
                "print(ask(f'demo.{{victim}}.svc', '/secrets/db', bearer='{}')[0])",
                token.trim()
            ),
        );
        assert_eq!(said.trim(), status);
    }
    let of_victim = format!("--namespace={}", crime.victim.namespace);
    crime
        .as_mallory(
            &["create", "token", "app", "--audience=strongroom.dev", &of_victim],
            None,
        )
        .refused();
    crime.the_victim_is_well();
}

#[test]
#[ignore = "needs a cluster"]
fn what_is_not_his_to_write_he_does_not_write() {
    let crime = Crime::scene("what_is_not_his_to_write", "mallory_writes_what_is_not_his");
    let of_victim = format!("--namespace={}", crime.victim.namespace);
    let record =
        "apiVersion: strongroom.dev/v1alpha1\nkind: SealedRecord\nmetadata: {name: his}\nsealed: aGVsbG8=\n";
    crime
        .apply("apiVersion: strongroom.dev/v1alpha1\nkind: Vault\nmetadata: {name: mine}\nspec: {}\n")
        .ok();
    let status = r#"{"status":{"conditions":[],"uri":"https://evil.example"}}"#;
    let attempts: [(&str, Said); 9] = [
        ("a sealed record of his own", crime.apply(record)),
        (
            "a sealed record where they lie",
            crime.as_mallory(
                &["create", "--namespace=strongroom-system", "-f", "-"],
                Some(record),
            ),
        ),
        (
            "a policy of the victim's vault",
            crime.as_mallory(
                &["create", &of_victim, "-f", "-"],
                Some(&policy("his", "app", &["all"])),
            ),
        ),
        (
            "the victim's policy",
            crime.as_mallory(&["delete", "accesspolicy", "app", &of_victim], None),
        ),
        (
            "the victim's vault",
            crime.as_mallory(&["delete", "vault", "demo", &of_victim], None),
        ),
        (
            "a Service of the vault's name",
            crime.as_mallory(&["delete", "service", "demo", &of_victim], None),
        ),
        (
            "a vault's status",
            crime.as_mallory(
                &[
                    "patch",
                    "vault",
                    "mine",
                    "--subresource=status",
                    "--type=merge",
                    "-p",
                    status,
                ],
                None,
            ),
        ),
        (
            "the address of a pod",
            crime.as_mallory(&["auth", "can-i", "patch", "pods", "--subresource=status"], None),
        ),
        (
            "the labels of his namespace",
            crime.as_mallory(
                &[
                    "label",
                    "namespace",
                    &crime.mallory.namespace,
                    "team=shop",
                    "--namespace=",
                ],
                None,
            ),
        ),
    ];
    for (what, said) in attempts {
        assert!(!said.success, "{what}: {}", said.stdout);
        let forbidden = said.stderr.contains("orbidden") || said.stdout.trim() == "no";
        assert!(
            forbidden,
            "{what}, for another reason: {}{}",
            said.stdout, said.stderr
        );
    }
    // His own trust bundle he may spoil, for himself alone.
    crime
        .as_mallory(&["delete", "configmap", "strongroom-ca", "--wait=false"], None)
        .ok();
    crime.the_victim_is_well();
}
