//! Files that are made from the code are what the code says. `make generate` (`UPDATE=1`) writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const HEADER: &str = "# Generated from src/crd by `make generate`. Do not edit.\n";

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `<plural>.yaml` for each kind.
fn files(prepare: impl Fn(&mut CustomResourceDefinition)) -> Vec<(String, String)> {
    strongroom::crd::all()
        .into_iter()
        .map(|mut crd| {
            prepare(&mut crd);
            let text = serde_saphyr::to_string(&crd).unwrap();
            (
                format!("{}.yaml", crd.spec.names.plural),
                format!("{HEADER}{text}"),
            )
        })
        .collect()
}

fn check(folder: &Path, expected: &[(String, String)]) {
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(folder).unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, text) in expected {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let there: BTreeSet<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted: BTreeSet<_> = expected.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(
        there,
        wanted,
        "{} has other files than the code makes: run `make generate`",
        folder.display()
    );
    for (name, text) in expected {
        let path = folder.join(name);
        assert!(
            fs::read_to_string(&path).unwrap() == *text,
            "{} is stale: run `make generate`",
            path.display()
        );
    }
}

#[test]
fn crds_are_what_the_types_say() {
    check(&folder("crds"), &files(|_| ()));
}

#[test]
fn the_chart_has_the_same_crds_and_keeps_them_on_uninstall() {
    let keep = |crd: &mut CustomResourceDefinition| {
        let annotations = crd.metadata.annotations.get_or_insert_default();
        annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    };
    let expected = files(keep);
    for (name, text) in &expected {
        assert!(!text.contains("{{"), "{name} has what Helm takes for a template");
    }
    check(&folder("charts/strongroom/templates/crds"), &expected);
}
