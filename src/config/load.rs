//! Reads the config: the file, then the environment over it (`KAFKA_CUTOVER_SOURCE__BOOTSTRAP=a:9094,b:9094`).
#![expect(clippy::disallowed_methods, reason = "io: reads the config file")]

use std::path::Path;

use schemars::schema_for;

use super::problem::{Place, Problem, Problems};
use super::tree::{Node, Step, Value, path_text};
use super::{Config, validate};

const PREFIX: &str = "KAFKA_CUTOVER_";

/// Variables with our prefix that are for the command line or for tests.
const NOT_KEYS: [&str; 6] = ["SOCKET", "LOG", "LOG_FORMAT", "CONFIG", "CRASH_AT", "NO_GATE"];

/// The config of a file and of this process's environment, checked.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let origin = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &origin, std::env::vars_os().filter_map(utf8)),
        Err(e) => {
            let list = vec![Problem::new("", format!("cannot be read: {e}"))];
            Err(Problems { origin, list, text: String::new() })
        }
    }
}

fn utf8((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

/// The same from text. `origin` is the name shown in front of a line number.
pub fn parse(
    text: &str,
    origin: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, Problems> {
    let (config, tree, mut list) = read(text, environment);
    // What follows from a mistake that is listed already is not listed again.
    let known: Vec<String> = list.iter().map(|p| p.key.clone()).collect();
    let repeated = |key: &str| known.iter().any(|k| within(key, k) || within(k, key));
    for mut problem in validate::problems(&config) {
        if !repeated(&problem.key) {
            problem.place = tree.place_of(&problem.key);
            list.push(problem);
        }
    }
    if list.is_empty() { Ok(config) } else { Err(Problems { origin: origin.to_owned(), list, text: text.to_owned() }) }
}

/// Whether a key is `outer` or lies below it.
fn within(key: &str, outer: &str) -> bool {
    let rest = key.strip_prefix(outer);
    rest.is_some_and(|r| outer.is_empty() || r.is_empty() || r.starts_with(['.', '[']))
}

/// Without the checks of `validate`: what the text says, and what in it has no meaning.
pub fn read(text: &str, environment: impl IntoIterator<Item = (String, String)>) -> (Config, Node, Vec<Problem>) {
    let mut list = Vec::new();
    let mut tree = Node::parse(text).unwrap_or_else(|problem| {
        list.push(problem);
        Node::default()
    });
    let mut environment: Vec<_> = environment.into_iter().collect();
    environment.sort();
    for (name, value) in environment {
        if let Err(problem) = overlay(&mut tree, &name, &value) {
            list.push(problem);
        }
    }
    let (config, problems) = tree.clone().read();
    list.extend(problems);
    (config, tree, list)
}

/// Sets one key from one variable.
fn overlay(tree: &mut Node, name: &str, value: &str) -> Result<(), Problem> {
    let Some(key) = name.strip_prefix(PREFIX) else { return Ok(()) };
    if NOT_KEYS.contains(&key) || of_a_service(key) {
        return Ok(());
    }
    let path: Vec<Step> = key
        .split("__")
        .map(|part| part.parse().map_or_else(|_| Step::Key(part.to_ascii_lowercase()), Step::Index))
        .collect();
    let wrong = |message: String| Problem { key: path_text(&path), message, place: Place::Env(name.to_owned()) };
    if let [Step::Key(first), ..] = path.as_slice()
        && !top_level_keys().contains(first)
    {
        return Err(wrong(format!("unknown key; known here: {}", top_level_keys().join(", "))));
    }
    let mut node = match value.trim() {
        "" => Node::default(),
        // A list or a map may be given as in YAML; `[::1]:9092` is none.
        flow if (flow.starts_with('[') && flow.ends_with(']')) || (flow.starts_with('{') && flow.ends_with('}')) => {
            Node::parse(flow).map_err(|p| wrong(p.message))?
        }
        text => Node { value: Value::Text(text.to_owned()), place: Place::Nowhere },
    };
    came_from(&mut node, name);
    match tree.at_or_made(&path) {
        Some(at) => *at = node,
        None => return Err(wrong("lists are counted from 0, without gaps".to_owned())),
    }
    Ok(())
}

fn came_from(node: &mut Node, name: &str) {
    node.place = Place::Env(name.to_owned());
    match &mut node.value {
        Value::List(list) => list.iter_mut().for_each(|n| came_from(n, name)),
        Value::Map(map) => map.iter_mut().for_each(|(_, n)| came_from(n, name)),
        Value::Null | Value::Gone | Value::Text(_) => {}
    }
}

/// Kubernetes gives every pod `KAFKA_CUTOVER_SERVICE_HOST` and the like once a Service is named kafka-cutover.
fn of_a_service(key: &str) -> bool {
    key == "PORT" || key.starts_with("PORT_") || key.starts_with("SERVICE_")
}

fn top_level_keys() -> Vec<String> {
    let schema = schema_for!(Config);
    let properties = schema.get("properties").and_then(|p| p.as_object());
    properties.map(|p| p.keys().cloned().collect()).unwrap_or_default()
}
