//! Guards that keep prose and promises honest: what STYLE, README, Cargo.toml and heads of files say is compared with
//! what the files hold. Every scan is shown a planted sample that it has to find.

use std::path::{Path, PathBuf};

use clap::Parser;
use kafka_cutover::cli::Cli;
use kafka_cutover::crash;

// ---------------------------------------------------------------------------------------------- reading the tree

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

struct Source {
    /// From the root on, with slashes.
    path: String,
    text: String,
}

impl Source {
    fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// What the compiler sees of each line, numbered from 1: comments and the insides of literals are gone.
    fn code(&self) -> Vec<(usize, String)> {
        stripped(&self.text).lines().enumerate().map(|(i, line)| (i + 1, line.to_owned())).collect()
    }

    /// `path:line` of every line of code with one of `words` in it.
    fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let found = |(n, line): (usize, String)| {
            words.iter().find(|w| line.contains(**w)).map(|w| format!("{}:{n}: {w}", self.path))
        };
        self.code().into_iter().filter_map(found).collect()
    }
}

/// Every Rust file of src.
fn sources() -> Vec<Source> {
    let sources = rust_files("src");
    assert!(sources.len() > 80, "only {} files: the scan looks in the wrong place", sources.len());
    sources
}

fn rust_files(folder: &str) -> Vec<Source> {
    let mut found = vec![];
    walk(&root().join(folder), &mut found);
    found.retain(|p| p.extension().is_some_and(|e| e == "rs"));
    found.sort();
    found.iter().map(|p| Source { path: relative(p), text: std::fs::read_to_string(p).unwrap() }).collect()
}

/// Every text that git holds; where git cannot say, every file that is there.
fn tracked() -> Vec<Source> {
    let git = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let found: Vec<PathBuf> = match git {
        Ok(listed) if listed.status.success() && !listed.stdout.is_empty() => {
            let listed = String::from_utf8(listed.stdout).unwrap();
            listed.split_terminator('\0').map(|path| root().join(path)).collect()
        }
        _ => {
            let mut found = vec![];
            walk(root(), &mut found);
            found
        }
    };
    let text = |p: PathBuf| Some(Source { path: relative(&p), text: std::fs::read_to_string(&p).ok()? });
    let tracked: Vec<Source> = found.into_iter().filter_map(text).collect();
    assert!(tracked.iter().any(|s| s.path == "README.md") && tracked.iter().any(|s| s.path == "tests/run"));
    tracked
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let generated = path.file_name().is_some_and(|n| n == "__pycache__" || n == "target" || n == ".git");
        match path.is_dir() {
            true if !generated => walk(&path, found),
            true => {}
            false => found.push(path),
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// Rust without comments and without what stands between quotes; every line stays on its line.
fn stripped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |i| i + 2)
        } else if let Some(length) = raw_string(rest, &out) {
            length
        } else if c == '"' {
            string(rest)
        } else if c == '\'' {
            character(rest)
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
        out.push(' ');
        rest = &rest[skipped..];
    }
    out
}

/// The length of `r"…"`, `r#"…"#` and so on, if one begins here.
fn raw_string(text: &str, before: &str) -> Option<usize> {
    let in_a_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !before.ends_with('b');
    let hashes = text.strip_prefix('r')?.chars().take_while(|&c| c == '#').count();
    if in_a_word || !text[1 + hashes..].starts_with('"') {
        return None;
    }
    let begin = 2 + hashes;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[begin..].find(&end).map_or(text.len(), |i| begin + i + end.len()))
}

/// The length of the string that begins here.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the character literal that begins here, or of the quote alone if it begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(text.len(), |(i, _)| i + 1),
        (Some(_), Some((i, '\''))) => i + 1,
        _ => 1,
    }
}

#[test]
fn the_scan_sees_code_and_only_code() {
    let text = concat!(
        "// x.unwrap() in a comment\n",
        "let a = \"panic! \\\" .await\"; b.await; // todo!\n",
        "let c = r#\"unwrap() \" \"#; let d = '\"'; let e: &'static str = b'\\'' ;\n",
        "/* .await\n.await */ fn f<'a>() {} for_r(\"x\");",
    );
    let code = stripped(text);
    assert_eq!(code.lines().count(), text.lines().count());
    let source = Source::planted("src/x.rs", text);
    assert_eq!(source.lines_with(&[".await", "unwrap", "panic!", "todo!"]), ["src/x.rs:2: .await"]);
    assert!(code.contains("fn f<") && code.contains("for_r("), "{code}");
}

pub fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

// ---------------------------------------------------------------------------------------------- pure machines, thin drivers

/// Where waiting needs no word at the head: a broker, a story and a judge are not on the proxy's path.
const MAY_WAIT: &[(&str, &str)] = &[
    ("src/embedded/", "the in-memory cluster is a broker: it waits as one; clocks and sockets are in server.rs alone"),
    ("src/demo/", "the story plays operator and client; it is not on the proxy's path"),
    ("src/upstream/ask/", "one question to a broker per file, for the control thread; the clock is in ask.rs alone"),
    ("src/main.rs", "hands the command over to a runtime"),
];
const IO: &[&str] = &[
    ".await",
    "Instant::now(",
    "SystemTime::now(",
    "TcpStream::connect",
    "TcpListener::bind",
    "UnixStream::connect",
    "UnixListener::bind",
    "UdpSocket::",
    "tokio::spawn(",
    "spawn_local(",
    "thread::spawn(",
    "thread::sleep(",
    "time::sleep(",
    "std::fs::",
    "tokio::fs::",
    "File::open(",
    "File::create(",
    "OpenOptions::new(",
    "block_on(",
];

fn says_io(source: &Source) -> bool {
    let head = source.text.lines().take_while(|l| l.starts_with("//") || l.starts_with("#!") || l.is_empty());
    head.filter(|l| l.starts_with("#![")).any(|l| l.contains("reason = \"io:"))
}

fn silent_io(source: &Source) -> Vec<String> {
    let known = says_io(source) || MAY_WAIT.iter().any(|(path, _)| source.path.starts_with(path));
    if known { vec![] } else { source.lines_with(IO) }
}

#[test]
fn what_does_io_says_so_at_its_head() {
    let found: Vec<String> = sources().iter().flat_map(silent_io).collect();
    none("IO in a file whose head has no `reason = \"io: …\"`", &found);
}

#[test]
fn io_without_a_word_is_found() {
    let body = "fn f() { let now = Instant::now(); }\nasync fn g() { h().await }\n";
    assert_eq!(silent_io(&Source::planted("src/offsets/map.rs", body)).len(), 2);
    let late = format!("//! A file.\n\nuse x;\n#![expect(x, reason = \"io: late\")]\n{body}");
    assert_eq!(silent_io(&Source::planted("src/offsets/map.rs", &late)).len(), 2, "below the head is too late");
    let said = format!("//! A file.\n#![expect(clippy::disallowed_methods, reason = \"io: looks\")]\n\n{body}");
    assert!(silent_io(&Source::planted("src/offsets/map.rs", &said)).is_empty());
}

#[test]
fn no_exception_is_left_over() {
    let all = sources();
    for (path, reason) in MAY_WAIT {
        let used = all.iter().any(|s| s.path.starts_with(path) && !says_io(s) && !s.lines_with(IO).is_empty());
        assert!(used, "{path} ({reason}) needs no exception any more");
    }
    for (path, _) in LONG {
        let long = all.iter().any(|s| s.path == *path && s.text.lines().count() > MOST_LINES);
        assert!(long, "{path} is not long any more");
    }
}

// ---------------------------------------------------------------------------------------------- one decoder

const DECODER: &str = "src/wire/decode.rs";

/// Calls of a `kafka-protocol` decoder. Its messages and `RequestKind` may be used everywhere; its `Decodable` and its
/// header and record decoders nowhere, since each of them allocates what a count on the wire asks for.
fn decodes(source: &Source) -> Vec<String> {
    let mut words = vec!["Decodable", "RecordBatchDecoder", "RequestHeader::decode", "ResponseHeader::decode"];
    if source.path != DECODER {
        words.extend(["RequestKind::decode", "ResponseKind::decode"]);
    }
    let mut found = source.lines_with(&words);
    // `decode(…)` of one message, imported under its own name.
    found.extend(source.code().into_iter().filter_map(|(n, line)| {
        let (before, _) = line.split_once("::decode(")?;
        let name = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        let ours =
            ["ProduceRequest", "ProduceResponse", "FetchRequest", "FetchResponse", "RequestKind", "ResponseKind"];
        let theirs = name.ends_with("Request") || name.ends_with("Response");
        (theirs && !ours.contains(&name)).then(|| format!("{}:{n}: {name}::decode", source.path))
    }));
    // Ours have the names of theirs: whoever imports theirs for Produce or Fetch cannot decode with them, as the trait
    // is needed for that.
    found
}

#[test]
fn one_file_calls_the_codecs_decoders() {
    let all = sources();
    none("decoders are called in wire/decode.rs only", &all.iter().flat_map(decodes).collect::<Vec<_>>());
    let decoder = all.iter().find(|s| s.path == DECODER).unwrap();
    assert_eq!(decoder.lines_with(&["RequestKind::decode", "ResponseKind::decode"]).len(), 2, "the scan is blind");
}

#[test]
fn another_decoder_is_found() {
    for bad in [
        "let r = RequestKind::decode(key, &mut body, 1);",
        "let r = MetadataRequest::decode(&mut body, 1)?;",
        "use kafka_protocol::protocol::{Decodable, Encodable};",
        "let h = RequestHeader::decode(&mut body, 1)?;",
    ] {
        assert!(!decodes(&Source::planted("src/api/metadata.rs", bad)).is_empty(), "{bad}");
    }
    assert!(decodes(&Source::planted("src/api/produce.rs", "ProduceRequest::decode(body, 9)")).is_empty());
}

// ---------------------------------------------------------------------------------------------- README

/// The `kafka-cutover …` lines of the fenced blocks, as typed: `\` joins lines, `…`, `$ ` and comments are dropped.
fn commands(markdown: &str) -> Vec<Vec<String>> {
    let mut found = vec![];
    for block in markdown.split("```").skip(1).step_by(2) {
        let body = block.split_once('\n').map_or("", |(_, body)| body).replace("\\\n", " ");
        for line in body.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim().trim_start_matches("$ ");
            let line = line.split('|').next().unwrap_or_default().trim_end_matches(['&', ' ']);
            let words: Vec<&str> = line.split_whitespace().collect();
            let ours = words.iter().position(|w| *w == "kafka-cutover" || w.ends_with("/kafka-cutover"));
            // `docker compose exec proxy kafka-cutover status` counts, `cp target/release/kafka-cutover /usr/bin` not.
            if let Some(i) = ours
                && (i == 0 || words[0] == "docker")
            {
                let words = words[i + 1..].iter().map(|w| w.trim_matches(['\'', '"']).to_owned());
                found.push([vec!["kafka-cutover".to_owned()], words.collect()].concat());
            }
        }
    }
    found
}

/// What clap says of each command that it would refuse.
fn refused(commands: &[Vec<String>]) -> Vec<String> {
    let refuse = |words: &Vec<String>| {
        let error = Cli::try_parse_from(words).err()?;
        let shown =
            matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
        (!shown).then(|| format!("{}: {}", words.join(" "), error.to_string().lines().next().unwrap_or_default()))
    };
    commands.iter().filter_map(refuse).collect()
}

#[test]
fn readme_commands_exist() {
    let readme = read("README.md");
    let typed = commands(&readme);
    none("README has commands that do not exist", &refused(&typed));
    for needed in ["demo", "sandbox", "run", "check", "prepare", "switch", "status", "cutover", "canary", "offsets"] {
        assert!(typed.iter().any(|words| words.get(1).is_some_and(|w| w == needed)), "README never shows `{needed}`");
    }
}

#[test]
fn a_wrong_command_is_found() {
    let markdown = "```\nkafka-cutover switch orders producers # move\n$ kafka-cutover demo --nonsense\n```\n\
                    kafka-cutover prose\n```bash\ndocker compose exec proxy kafka-cutover rollback x\nkafka-cutover \\\n run\n```";
    let typed = commands(markdown);
    assert_eq!(typed.len(), 4);
    assert_eq!(refused(&typed).len(), 3, "{:?}", refused(&typed));
}

/// The two commands that set everything up: one to build and try it, one to test it.
#[test]
fn readme_has_the_set_up() {
    let readme = read("README.md");
    for needed in ["cargo run --release -- demo", "tests/run --install"] {
        assert!(commands_contain(&readme, needed), "README has no line `{needed}`");
    }
    assert!(!commands_contain("cargo build --release\n", "cargo build --release"), "prose is no command");
}

fn commands_contain(markdown: &str, command: &str) -> bool {
    let is = |line: &str| line.trim().split(" #").next().is_some_and(|l| l.trim() == command);
    markdown.split("```").skip(1).step_by(2).any(|block| block.lines().any(is))
}

/// Links to files of the project lead somewhere.
#[test]
fn links_lead_somewhere() {
    let markdown = |s: &Source| s.path.ends_with(".md");
    let found: Vec<String> = tracked().iter().filter(|s| markdown(s)).flat_map(dead_links).collect();
    none("dead links", &found);
    assert_eq!(
        dead_links(&Source::planted("README.md", "[a](src/lib.rs) [b](nowhere.md) [c](https://x.org)")).len(),
        1
    );
}

fn dead_links(source: &Source) -> Vec<String> {
    let folder = root().join(&source.path);
    let folder = folder.parent().unwrap();
    let targets = source.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|t| !t.contains("://") && !t.starts_with('#'));
    let dead = local.filter(|t| !folder.join(t.split('#').next().unwrap_or_default()).exists());
    dead.map(|t| format!("{}: {t}", source.path)).collect()
}

// ---------------------------------------------------------------------------------------------- crash points

/// `crash_point!("…")` of a text, by name.
fn placed(source: &Source) -> Vec<String> {
    let names = source.text.split("crash_point!(\"").skip(1);
    names.filter_map(|rest| Some(rest.split_once("\")")?.0.to_owned())).collect()
}

#[test]
fn the_default_build_has_no_crash_points() {
    let own = read("src/crash.rs");
    let expansion = own.split("#[cfg(not(feature = \"crash-points\"))]").nth(1).unwrap();
    let expansion: String = expansion.split("#[cfg(").next().unwrap().split_whitespace().collect();
    assert!(expansion.starts_with("#[macro_export]macro_rules!crash_point{($name:literal)=>{};}"), "{expansion}");
    // What names the variable or can end the process is behind the feature.
    let armed = own.find("#[cfg(feature = \"crash-points\")]\nmod armed {").unwrap();
    for needle in ["KAFKA_CUTOVER_CRASH_AT\"", "abort()", "env::var"] {
        assert!(own.find(needle).is_some_and(|at| at > armed), "{needle} is not behind the feature");
    }
    let cargo = read("Cargo.toml");
    let default = cargo.lines().find(|l| l.starts_with("default = [")).unwrap();
    assert!(!default.contains("crash-points"), "{default}");
    let named = |s: &Source| s.path != "src/crash.rs" && s.text.contains("KAFKA_CUTOVER_CRASH_AT");
    assert!(!sources().iter().any(named), "only src/crash.rs reads KAFKA_CUTOVER_CRASH_AT");
}

#[test]
fn every_crash_point_is_listed_and_in_its_place() {
    let mut found: Vec<String> = sources().iter().filter(|s| s.path != "src/crash.rs").flat_map(placed).collect();
    found.sort();
    let mut listed: Vec<String> = [crash::SEAL, crash::MOVE, crash::COMPLETE, crash::CROSSING, crash::MIRROR]
        .concat()
        .iter()
        .map(|p| (*p).to_owned())
        .collect();
    listed.sort();
    assert_eq!(found, listed, "placed in src, listed in crash.rs");
    assert_eq!(placed(&Source::planted("src/seal/run.rs", "crash_point!(\"seal.held\");\n")), ["seal.held"]);
}

// ---------------------------------------------------------------------------------------------- shape

const MOST_LINES: usize = 600;
const LONG: &[(&str, &str)] = &[];
const EMPTY_NAMES: &[&str] = &["manager", "handler", "helper", "util", "common", "types"];

fn misshapen(source: &Source) -> Vec<String> {
    let mut found = vec![];
    let lines = source.text.lines().count();
    if lines > MOST_LINES && !LONG.iter().any(|(path, _)| *path == source.path) {
        found.push(format!("{}: {lines} lines", source.path));
    }
    // A folder's name counts as its files'.
    let words = source.path.trim_end_matches(".rs").split(['/', '_']);
    let empty = words.filter(|w| EMPTY_NAMES.iter().any(|e| *w == *e || *w == format!("{e}s")));
    found.extend(empty.map(|w| format!("{}: `{w}` says nothing", source.path)));
    let first = source.text.lines().find(|l| !l.is_empty() && !l.starts_with("#!["));
    if first.is_some_and(|l| !l.starts_with("//!")) {
        found.push(format!("{}: no head comment that says what the file is", source.path));
    }
    found
}

#[test]
fn files_are_small_and_named_after_the_field() {
    none("shape", &sources().iter().flat_map(misshapen).collect::<Vec<_>>());
    let long = format!("//! x\n{}", "x\n".repeat(MOST_LINES));
    assert_eq!(misshapen(&Source::planted("src/api/utils.rs", &long)).len(), 2);
    assert_eq!(misshapen(&Source::planted("src/helper/mod.rs", "fn f() {}")).len(), 2);
    assert!(misshapen(&Source::planted("src/api/connection_handlers.rs", "//! x")).len() == 1);
}

// ---------------------------------------------------------------------------------------------- nothing a peer can make panic

fn may_panic(source: &Source) -> Vec<String> {
    match source.path.starts_with("src/embedded/") {
        true => vec![],
        false => source.lines_with(&[".unwrap()", "panic!(", "todo!(", "unimplemented!(", "unwrap_err()"]),
    }
}

#[test]
fn nothing_panics_at_will() {
    none("src must not panic", &sources().iter().flat_map(may_panic).collect::<Vec<_>>());
    let bad = "fn f() { x.unwrap(); }\nfn g() { panic!(\"no\") }\nfn h() { todo!() }\n// y.unwrap()\n";
    assert_eq!(may_panic(&Source::planted("src/api/fetch.rs", bad)).len(), 3);
}

// ---------------------------------------------------------------------------------------------- tests wait for the event

/// A pause between two looks at what no event tells (`eventually`, with its deadline) is named as one.
fn sleeps(source: &Source) -> Vec<String> {
    let found = source.lines_with(&["::sleep(", " sleep(", "sleep_until("]);
    let pauses = source.lines_with(&["sleep(LOOK_AGAIN)"]).len();
    if pauses == found.len() { vec![] } else { found }
}

#[test]
fn tests_never_sleep() {
    let tests: Vec<Source> = rust_files("tests/it");
    none("a test waits for what it waits for", &tests.iter().flat_map(sleeps).collect::<Vec<_>>());
    assert_eq!(
        sleeps(&Source::planted("tests/it/x.rs", "fn f() { std::thread::sleep(second); } // sleep(1)\n")).len(),
        1
    );
}

/// What is too long for every run has a small form; what is left out tells nobody that it fails.
#[test]
fn no_test_is_left_out() {
    let out = |source: &Source| source.lines_with(&["#[ignore", "cfg_attr(ignore"]);
    none("a test that does not run", &rust_files("tests/it").iter().flat_map(out).collect::<Vec<_>>());
    assert_eq!(out(&Source::planted("tests/it/x.rs", "#[ignore = \"slow\"]\nfn f() {}\n")).len(), 1);
}

// ---------------------------------------------------------------------------------------------- at home on every machine

/// Where files were written is nobody's business, and where packages come from is the tool's own setting.
/// Spelt in pieces, so that this file does not find itself.
const NOT_HERE: &[&[&str]] = &[
    &["/wo", "rk/"],
    &["/tmp", "/wt"],
    &["/tmp", "/t-"],
    &["/ro", "ot/"],
    &["/ho", "me/"],
    &["crates", ".io/"],
    &["static.cra", "tes.io"],
    &["index.cra", "tes.io"],
    &["repo.ma", "ven.apache.org"],
    &["repo1.ma", "ven.org"],
    &["py", "pi.org"],
    &["registry.np", "mjs.org"],
    &["proxy.gol", "ang.org"],
];

fn of_one_machine(source: &Source) -> Vec<String> {
    if source.path == "Cargo.lock" {
        return vec![];
    }
    let mut found = vec![];
    for pieces in NOT_HERE {
        let needle = pieces.concat();
        let lines = source.text.lines().enumerate().filter(|(_, line)| line.contains(&needle));
        found.extend(lines.map(|(i, _)| format!("{}:{}: {needle}", source.path, i + 1)));
    }
    found
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    none("not for every machine", &tracked().iter().flat_map(of_one_machine).collect::<Vec<_>>());
    let bad = format!("cd {}here\nget https://{}/x", NOT_HERE[0].concat(), NOT_HERE[9].concat());
    assert_eq!(of_one_machine(&Source::planted("tests/x", &bad)).len(), 2);
}

// ---------------------------------------------------------------------------------------------- dependencies

/// Lines of Cargo.toml that bring something in, without a word on why.
fn unexplained(cargo: &str) -> Vec<String> {
    let mut found = vec![];
    let mut section = "";
    for line in cargo.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && !line.is_empty()
            && !line.starts_with('#')
            && line.rsplit_once(" # ").is_none_or(|(_, why)| why.trim().is_empty())
        {
            found.push(line.to_owned());
        }
    }
    found
}

#[test]
fn every_dependency_has_its_reason() {
    none("dependencies without a comment", &unexplained(&read("Cargo.toml")));
    let bad =
        "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb = \"1\" # does b\n[dev-dependencies]\nc = \"1\"  #\n";
    assert_eq!(unexplained(bad), ["a = \"1\"", "c = \"1\"  #"]);
}
