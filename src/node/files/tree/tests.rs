//! One volume's folder, on any file system.

use std::collections::BTreeMap as Map;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::SecretBytes;
use crate::wire::{FileMode, PlannedFile};

const STAMP: &str = "2026_11_22_10_00_00";

fn tree(folder: &TempDir) -> Tree {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    Tree::new(
        rustix::fs::open(folder.path(), flags, Mode::empty()).unwrap(),
        None,
    )
}

fn file(path: &str, mode: u16, content: &[u8]) -> PlannedFile {
    PlannedFile {
        path: FilePath::parse(path).unwrap(),
        mode: FileMode::new(mode).unwrap(),
        content: SecretBytes::new(content.to_vec()),
    }
}

fn plan(files: Vec<PlannedFile>) -> FilePlan {
    FilePlan::new(files, "bundle").unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a pod sees: every file that is reached by a name without leading dots.
fn seen(folder: &Path, prefix: &str, into: &mut Map<String, (u32, Vec<u8>)>) {
    for name in names(folder).into_iter().filter(|name| !name.starts_with("..")) {
        let (path, shown) = (folder.join(&name), format!("{prefix}{name}"));
        let meta = std::fs::metadata(&path).unwrap();
        if meta.is_dir() {
            seen(&path, &format!("{shown}/"), into);
        } else {
            into.insert(shown, (meta.mode() & 0o7777, std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn files_lie_as_in_the_kubelets_own_volumes() {
    let folder = TempDir::new().unwrap();
    let tree = tree(&folder);
    assert!(!tree.is_written());
    let plan = plan(vec![file("a", 0o400, b"1"), file("keys/deep/b", 0o644, b"2")]);
    assert_eq!(tree.write(&plan, STAMP), Ok(Written::Changed));
    assert!(tree.is_written());
    let first = "..2026_11_22_10_00_00.0000000001";
    assert_eq!(names(folder.path()), [first, "..data", "a", "ca.crt", "keys"]);
    let link = |name: &str| {
        std::fs::read_link(folder.path().join(name))
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (link("..data").as_str(), link("a").as_str(), link("keys").as_str()),
        (first, "..data/a", "..data/keys")
    );
    let mut there = Map::new();
    seen(folder.path(), "", &mut there);
    let expected = [
        ("a", 0o400, &b"1"[..]),
        ("ca.crt", 0o644, b"bundle"),
        ("keys/deep/b", 0o644, b"2"),
    ];
    assert!(
        there
            .iter()
            .map(|(path, (mode, content))| (path.as_str(), *mode, content.as_slice()))
            .eq(expected)
    );
}

#[test]
fn a_plan_that_is_shown_already_touches_nothing() {
    let folder = TempDir::new().unwrap();
    let tree = tree(&folder);
    let files = || vec![file("a", 0o600, b"1"), file("k/b", 0o644, b"2")];
    tree.write(&plan(files()), STAMP).unwrap();
    let before = names(folder.path());
    assert_eq!(tree.write(&plan(files()), STAMP), Ok(Written::Same));
    assert_eq!(names(folder.path()), before);
    for (what, other) in [
        (
            "content",
            plan(vec![file("a", 0o600, b"2"), file("k/b", 0o644, b"2")]),
        ),
        (
            "length",
            plan(vec![file("a", 0o600, b"11"), file("k/b", 0o644, b"2")]),
        ),
        (
            "mode",
            plan(vec![file("a", 0o400, b"1"), file("k/b", 0o644, b"2")]),
        ),
        (
            "one more",
            plan(vec![
                file("a", 0o600, b"1"),
                file("k/b", 0o644, b"2"),
                file("c", 0o644, b""),
            ]),
        ),
        ("one less", plan(vec![file("a", 0o600, b"1")])),
        (
            "moved",
            plan(vec![file("a", 0o600, b"1"), file("k/c", 0o644, b"2")]),
        ),
        ("bundle", FilePlan::new(files(), "other").unwrap()),
    ] {
        tree.write(&plan(files()), STAMP).unwrap();
        assert_eq!(tree.write(&other, STAMP), Ok(Written::Changed), "{what}");
    }
}

#[test]
fn replaced_files_stay_for_a_moment_and_are_swept() {
    let folder = TempDir::new().unwrap();
    let tree = tree(&folder);
    // The clock goes back all the time; the order holds.
    for n in 0..20 {
        tree.write(
            &plan(vec![file("a", 0o644, format!("{n}").as_bytes())]),
            &format!("{:02}", 90 - n),
        )
        .unwrap();
    }
    let ours = || {
        names(folder.path())
            .into_iter()
            .filter(|name| is_ours(name))
            .count()
    };
    assert_eq!(ours(), KEPT + 1);
    assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "19");
    tree.sweep().unwrap();
    assert_eq!(ours(), 1);
    assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "19");
}

#[test]
fn what_a_process_that_died_left_half_done_is_cleared() {
    let folder = TempDir::new().unwrap();
    let tree = tree(&folder);
    tree.write(
        &plan(vec![file("a", 0o644, b"1"), file("gone", 0o644, b"1")]),
        STAMP,
    )
    .unwrap();
    let half = folder.path().join(format!("..{STAMP}.0000000002"));
    std::fs::create_dir_all(half.join("deep/er")).unwrap();
    std::fs::write(half.join("deep/er/half"), "x").unwrap();
    symlink("nowhere", folder.path().join(DATA_NEW)).unwrap();
    tree.write(&plan(vec![file("a", 0o644, b"2")]), STAMP).unwrap();
    tree.sweep().unwrap();
    assert_eq!(
        names(folder.path()),
        ["..2026_11_22_10_00_00.0000000002", "..data", "a", "ca.crt"]
    );
    assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "2");
}

#[test]
fn links_that_somebody_laid_lead_nowhere() {
    let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    std::fs::write(outside.path().join("a"), "precious").unwrap();
    std::fs::create_dir(outside.path().join("k")).unwrap();
    let tree = tree(&folder);
    // Each name that the next write uses, laid as a link to somewhere else.
    for name in [
        format!("..{STAMP}.0000000001"),
        DATA.to_owned(),
        DATA_NEW.to_owned(),
    ] {
        symlink(outside.path(), folder.path().join(name)).unwrap();
    }
    assert!(!tree.is_written());
    tree.write(
        &plan(vec![file("a", 0o644, b"1"), file("k/b", 0o644, b"2")]),
        STAMP,
    )
    .unwrap();
    assert_eq!(names(outside.path()), ["a", "k"]);
    assert!(names(&outside.path().join("k")).is_empty());
    assert_eq!(
        std::fs::read_to_string(outside.path().join("a")).unwrap(),
        "precious"
    );
    assert_eq!(std::fs::read_to_string(folder.path().join("k/b")).unwrap(), "2");

    // And in the folder that is shown: it is not read through, so the plan is written anew.
    let shown = folder.path().join("..data/a");
    std::fs::remove_file(&shown).unwrap();
    symlink(outside.path().join("a"), &shown).unwrap();
    let again = plan(vec![file("a", 0o644, b"precious"), file("k/b", 0o644, b"2")]);
    assert_eq!(tree.write(&again, STAMP), Ok(Written::Changed));
    tree.sweep().unwrap();
    assert_eq!(
        std::fs::read_to_string(outside.path().join("a")).unwrap(),
        "precious"
    );
}

#[test]
fn readers_never_see_an_empty_or_mixed_folder_while_it_changes_a_thousand_times() {
    let folder = TempDir::new().unwrap();
    let writer = tree(&folder);
    let both = |n: usize| {
        let value = format!("{n:05}");
        plan(vec![
            file("a", 0o644, value.as_bytes()),
            file("k/b", 0o644, value.as_bytes()),
        ])
    };
    writer.write(&both(0), STAMP).unwrap();
    let (done, reads, overtaken) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let state = || {
        let name = std::fs::read_link(folder.path().join(DATA)).expect("there always is a state");
        sequence_of(name.to_str().unwrap()).unwrap()
    };
    // A reader who holds the folder has all files of one state; one who goes by name has a whole file.
    let one_read = || -> std::io::Result<(String, String, String)> {
        let data = std::fs::File::open(folder.path().join(DATA))?;
        let held = |path: &str| {
            let (_, content) = read(data.as_fd(), path, 100)?;
            Ok::<_, std::io::Error>(String::from_utf8(content.to_vec()).unwrap())
        };
        Ok((
            held("a")?,
            held("k/b")?,
            std::fs::read_to_string(folder.path().join("a"))?,
        ))
    };
    let reader = || {
        let mut last = String::new();
        while !done.load(Ordering::Relaxed) {
            // A breath for the others on this machine.
            std::thread::park_timeout(Duration::from_micros(20));
            let before = state();
            match one_read() {
                Ok((a, b, named)) => {
                    assert_eq!(a, b, "mixed");
                    assert!(named.len() == 5 && named >= a && a >= last, "{last} {a} {named}");
                    last = named;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    // This machine let the reader stand while more changes went by than are kept.
                    let behind = state() - before;
                    assert!(behind > 4, "{error} after {behind} changes");
                    overtaken.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    let written = std::thread::scope(|scope| {
        scope.spawn(reader);
        scope.spawn(reader);
        let written = (1..=1_000).try_for_each(|n| {
            #[allow(
                clippy::disallowed_methods,
                reason = "25 times the pace at which a volume changes at most"
            )]
            std::thread::sleep(Duration::from_millis(2));
            writer.write(&both(n), STAMP).map(|_| ())
        });
        done.store(true, Ordering::Relaxed);
        written
    });
    assert_eq!(written, Ok(()));
    let (reads, overtaken) = (reads.into_inner(), overtaken.into_inner());
    eprintln!("{reads} whole reads during 1,000 changes, {overtaken} overtaken");
    assert!(reads > 1_000 && overtaken < reads / 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_came_before_the_last_plan_is_what_is_seen(
        plans in prop::collection::vec(
            prop::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,2}", ("[x-z]{0,5}", 0u16..=0o777), 0..6), 1..6,
        ),
    ) {
        let folder = TempDir::new().unwrap();
        let tree = tree(&folder);
        let mut expected = None;
        for files in plans {
            let list = files.iter().map(|(path, (content, mode))| file(path, *mode | 0o400, content.as_bytes()));
            // A list in which files get into each other's way is no plan.
            if let Ok(plan) = FilePlan::new(list.collect(), "bundle") {
                tree.write(&plan, STAMP).unwrap();
                expected = Some(files);
            }
        }
        if let Some(files) = expected {
            let mut there = Map::new();
            seen(folder.path(), "", &mut there);
            prop_assert_eq!(there.remove("ca.crt").map(|(_, content)| content), Some(b"bundle".to_vec()));
            let wanted: Map<_, _> = files
                .into_iter()
                .map(|(path, (content, mode))| (path, (u32::from(mode | 0o400), content.into_bytes())))
                .collect();
            prop_assert_eq!(there, wanted);
        }
    }
}
