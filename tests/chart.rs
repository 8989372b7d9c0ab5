//! The chart and the program agree.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use strongroom::config::Cli;

fn templates(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("charts/strongroom/templates")
        .join(folder);
    fs::read_dir(folder)
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
fn an_uninstall_keeps_the_definitions_and_the_guards() {
    for path in templates("crds").iter().chain(&templates("guards")) {
        let text = fs::read_to_string(path).unwrap();
        let objects = text.lines().filter(|line| line.starts_with("kind: ")).count();
        let kept = text.matches("helm.sh/resource-policy: keep").count();
        assert!(
            objects > 0 && objects == kept,
            "{}: {objects} objects, {kept} kept",
            path.display()
        );
    }
}
