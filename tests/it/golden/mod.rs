//! Goldens: for every API and every version of it, what a client asks, what becomes of it on the way to the brokers, what
//! they answer, and what becomes of that on the way back. They lie in `tests/golden/api`, one file per API; versions in
//! which all of it reads the same share a block.
//!
//! `KAFKA_CUTOVER_BLESS=1 cargo test --test it -- golden` writes the files anew: `git diff` then shows what changes for
//! clients. A new case is a few lines in `cases`; without a case for each of its versions an API fails the test.

mod case;
mod cases;
mod cut;
mod made;
mod run;
mod shape;
mod stands;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use kafka_cutover::api::{Entry, TABLE};

use self::case::Case;
use self::run::{Run, run};
use crate::guards::none;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/api")
}

/// Every case at every version, run once for all tests.
pub(crate) fn runs() -> &'static [Run] {
    static RUNS: LazyLock<Vec<Run>> = LazyLock::new(|| {
        let versions = |case: Case| case.versions.clone().map(move |version| run(&case, version, false));
        cases::all().into_iter().flat_map(versions).collect()
    });
    &RUNS
}

/// The file of an API, as it is to be.
fn golden(entry: &Entry) -> String {
    let mut out = stands::LEGEND.to_owned();
    let mut runs = runs().iter().filter(|r| r.request.key == entry.key as i16).peekable();
    while let Some(first) = runs.next() {
        let mut last = first;
        while let Some(same) = runs.next_if(|next| next.title == first.title && next.text == first.text) {
            last = same;
        }
        let (from, to) = (first.request.version, last.request.version);
        let versions = if from == to { format!("v{from}") } else { format!("v{from} to v{to}") };
        out.push_str(&format!("\n=== {} {versions}, {}\n\n{}", entry.name, first.title, first.text));
    }
    out
}

/// Where two texts part, with what stands around it.
fn difference(was: &str, is: &str) -> String {
    const AROUND: usize = 6;
    let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    let at = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
    let title = was.iter().take(at + 1).rev().find(|l| l.starts_with("===")).unwrap_or(&"");
    let part = |sign: &str, lines: &[&str]| {
        let shown = lines.iter().skip(at).take(AROUND).map(|line| format!("{sign} {line}\n"));
        shown.collect::<String>()
    };
    let before: String = was.iter().take(at).skip(at.saturating_sub(AROUND)).map(|l| format!("  {l}\n")).collect();
    format!("{title}, line {}\n{before}{}{}", at + 1, part("-", &was), part("+", &is))
}

#[test]
fn what_becomes_of_every_request_and_answer() {
    let bless = std::env::var_os("KAFKA_CUTOVER_BLESS").is_some_and(|v| v == "1");
    let mut wrong = vec![];
    for entry in TABLE {
        let (path, is) = (folder().join(format!("{}.txt", entry.name)), golden(entry));
        let was = std::fs::read_to_string(&path).unwrap_or_default();
        if was == is {
            continue;
        }
        if bless {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, is).unwrap();
        } else {
            wrong.push(format!("tests/golden/api/{}.txt: {}", entry.name, difference(&was, &is)));
        }
    }
    none("goldens (KAFKA_CUTOVER_BLESS=1 writes them anew)", &wrong);
    let there = std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let known: BTreeSet<String> = TABLE.iter().map(|e| format!("{}.txt", e.name)).collect();
    none("goldens of no API", &there.filter(|f| !known.contains(f)).collect::<Vec<_>>());
}

/// Versions of an API that no case runs, cases beyond its versions.
fn missing(entry: &Entry, cases: &[Case]) -> Option<String> {
    let run: BTreeSet<i16> = cases.iter().filter(|c| c.key == entry.key).flat_map(|c| c.versions.clone()).collect();
    let missing: Vec<i16> = (entry.versions.min..=entry.versions.max).filter(|v| !run.contains(v)).collect();
    let name = entry.name;
    (!missing.is_empty()).then(|| format!("{name}: versions {missing:?}; cases are in tests/it/golden/cases"))
}

#[test]
fn every_version_of_every_api_has_a_golden() {
    let cases = cases::all();
    none("without a golden", &TABLE.iter().filter_map(|entry| missing(entry, &cases)).collect::<Vec<_>>());
    let none_at_all = TABLE.iter().filter_map(|entry| missing(entry, &[])).count();
    assert_eq!(none_at_all, TABLE.len(), "what is missing is found");
}

#[test]
fn where_texts_part_is_shown() {
    let shown = difference("a\n=== title\nb\nc\nd\n", "a\n=== title\nb\nx\nd\n");
    assert_eq!(shown, "=== title, line 4\n  a\n  === title\n  b\n- c\n- d\n+ x\n+ d\n");
}

#[test]
fn a_broker_that_answers_nothing_breaks_nothing() {
    for case in &cases::all() {
        for version in case.versions.clone() {
            let lost = run(case, version, true);
            assert!(lost.answers.is_empty(), "{:?} v{version}", case.key);
        }
    }
}
