//! The chart and the program agree.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::env::var_os;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use strongroom::config::Cli;
use strongroom::gate::Rates;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/strongroom")
}

fn templates(folder: &str) -> Vec<PathBuf> {
    fs::read_dir(chart().join("templates").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// The variables that templates set: the names in `{name: STRONGROOM_…, value…}`.
fn set_by(folder: &str) -> BTreeSet<String> {
    templates(folder)
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.match_indices("name: STRONGROOM_")
                .map(|(at, _)| text[at + "name: ".len()..].split(',').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn each_role_is_given_every_setting_under_the_name_that_it_reads() {
    let command = Cli::command();
    for role in ["serve", "operate", "node"] {
        let read: BTreeSet<_> = command
            .find_subcommand(role)
            .unwrap()
            .get_arguments()
            .filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned))
            .collect();
        assert!(read.len() > 5, "{role}: {read:?}");
        assert_eq!(
            set_by(role),
            read,
            "what the chart sets, and what `strongroom {role}` reads"
        );
    }
}

#[test]
fn the_limits_of_requests_are_the_same_everywhere() {
    let values = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: serde_json::Value = serde_saphyr::from_str(&values).unwrap();
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let Rates {
        address,
        caller,
        vault,
        vault_creates,
    } = Rates::DEFAULT;
    for (value, argument, limit) in [
        ("address", "rate_address", address),
        ("caller", "rate_caller", caller),
        ("vault", "rate_vault", vault),
        ("vaultCreates", "rate_vault_creates", vault_creates),
    ] {
        let argument = serve.get_arguments().find(|it| it.get_id() == argument).unwrap();
        assert_eq!(
            argument.get_default_values(),
            [limit.to_string().as_str()],
            "{value}"
        );
        assert_eq!(values["rateLimits"][value], limit, "{value}");
    }
}

#[test]
fn the_operator_knows_every_guard() {
    let helpers = fs::read_to_string(chart().join("templates/_helpers.tpl")).unwrap();
    let (_, list) = helpers
        .split_once("{{- define \"strongroom.guards\" -}}\n")
        .unwrap();
    let known: BTreeSet<_> = list.lines().next().unwrap().split(' ').collect();
    let paths = templates("guards");
    let there: BTreeSet<_> = paths
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(known, there, "the list in _helpers.tpl, and the files in guards/");
    for path in &paths {
        let (name, text) = (
            path.file_stem().unwrap().to_str().unwrap(),
            fs::read_to_string(path).unwrap(),
        );
        for part in [
            format!("{{{{- define \"strongroom.guard.{name}\" }}}}\nspec:"),
            format!("{{{{- include \"strongroom.guard\" (dict \"name\" \"{name}\" \"root\" $) }}}}"),
        ] {
            let text = text
                .lines()
                .filter(|line| !line.starts_with("{{- $"))
                .collect::<Vec<_>>()
                .join("\n");
            assert!(text.contains(&part), "{} has no {part}", path.display());
        }
        assert!(
            !text.contains("\nkind:"),
            "{}: a guard is made by its template alone",
            path.display()
        );
    }
    let (_, made) = helpers.split_once("{{- define \"strongroom.guard\" }}").unwrap();
    assert!(
        made.contains("helm.sh/resource-policy: keep"),
        "an uninstall keeps guards"
    );
}

#[test]
fn an_uninstall_keeps_the_definitions() {
    for path in templates("crds") {
        let text = fs::read_to_string(&path).unwrap();
        let objects = text.lines().filter(|line| line.starts_with("kind: ")).count();
        let kept = text.matches("helm.sh/resource-policy: keep").count();
        assert!(
            objects > 0 && objects == kept,
            "{}: {objects} objects, {kept} kept",
            path.display()
        );
    }
}

/// What `helm template` makes of the chart with these values; none, and said loudly, where there is no helm: neither on the
/// PATH nor among the cluster's tools.
fn rendered(values: &str) -> Option<Output> {
    let cache = var_os("STRONGROOM_CACHE").map(PathBuf::from).or_else(|| {
        let of_the_user = var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let folder = of_the_user.or_else(|| Some(PathBuf::from(var_os("HOME")?).join(".cache")))?;
        Some(folder.join("strongroom"))
    });
    let ours = cache.map(|cache| cache.join("bin/helm"));
    let helms = [Some(PathBuf::from("helm")), ours];
    let spawned = helms.into_iter().flatten().find_map(|helm| {
        Command::new(helm)
            .args([
                "template",
                "strongroom",
                "--namespace",
                "strongroom-system",
                "--kube-version",
                "v1.34.0",
                "--values",
                "-",
            ])
            .arg(chart())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()
    });
    let Some(mut helm) = spawned else {
        println!("SKIPPED: this needs helm, and there is none; `make cluster` brings one");
        return None;
    };
    helm.stdin.take().unwrap().write_all(values.as_bytes()).unwrap();
    Some(helm.wait_with_output().unwrap())
}

const IN_A_FILE: &str = "rootKey: {provider: File, file: {volume: {hostPath: {path: /etc/strongroom, type: Directory}}, path: keys/root}}";

#[test]
fn with_the_root_key_in_a_file_serve_mounts_it_and_nothing_of_its_secret_is_installed() {
    let (Some(secret), Some(file)) = (rendered("{}"), rendered(IN_A_FILE)) else {
        return;
    };
    let text = |output: Output| {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (secret, file) = (text(secret), text(file));
    // RBAC, the guard of our accounts, the guard against destruction; both guards again for the operator to compare.
    assert!(secret.matches("strongroom-root-key").count() >= 5);
    assert!(secret.contains("resources: [secrets, configmaps]"));
    for (part, there) in [
        ("strongroom-root-key", false),
        (" secrets]", false),
        ("[secrets", false),
        ("'/secrets'", false),
        ("resources: [configmaps]", true),
        ("name: STRONGROOM_ROOT_KEY_PROVIDER, value: \"File\"", true),
        (
            "name: STRONGROOM_ROOT_KEY_FILE, value: \"/etc/strongroom/root-key/keys/root\"",
            true,
        ),
        (
            "{name: root-key, mountPath: /etc/strongroom/root-key, readOnly: true}",
            true,
        ),
        (
            "      - name: root-key\n        hostPath:\n          path: /etc/strongroom\n",
            true,
        ),
    ] {
        assert_eq!(file.contains(part), there, "{part}");
    }
    for part in ["STRONGROOM_ROOT_KEY_FILE", "mountPath: /etc/strongroom/root-key"] {
        assert!(!secret.contains(part), "{part}");
    }
}

#[test]
fn values_of_an_older_chart_are_refused_where_this_one_needs_more() {
    let values = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: serde_json::Value = serde_saphyr::from_str(&values).unwrap();
    for name in values.as_object().unwrap().keys() {
        let Some(output) = rendered(&format!("{name}: null")) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name}");
        assert!(said.contains(&format!("missing property '{name}'")), "{said}");
    }
}

#[test]
fn values_that_name_no_file_of_a_volume_are_refused() {
    for (values, refused) in [
        (IN_A_FILE, false),
        ("rootKey: {provider: File, file: {volume: {emptyDir: {}}}}", false),
        ("rootKey: {provider: File}", true),
        ("rootKey: {provider: Vault}", true),
        (
            "rootKey: {provider: File, file: {volume: {emptyDir: {}, hostPath: {path: /etc}}}}",
            true,
        ),
        ("rootKey: {provider: File, file: {volume: {name: keys}}}", true),
        (
            "rootKey: {provider: File, file: {volume: {emptyDir: {}}, path: ../key}}",
            true,
        ),
        (
            "rootKey: {provider: File, file: {volume: {emptyDir: {}}, path: keys/../../key}}",
            true,
        ),
        (
            "rootKey: {provider: File, file: {volume: {emptyDir: {}}, path: /key}}",
            true,
        ),
        (
            "rootKey: {provider: File, file: {volume: {emptyDir: {}}, path: \"\"}}",
            true,
        ),
        (
            "rootKey: {provider: File, file: {volume: {emptyDir: {}}, path: .key}}",
            false,
        ),
    ] {
        let Some(output) = rendered(values) else { return };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(!output.status.success(), refused, "{values}: {said}");
        assert!(!refused || said.contains("rootKey"), "{values}: {said}");
    }
}
