//! The chart and the program agree.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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
