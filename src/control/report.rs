//! A certificate for people: text for a terminal, a page that needs nothing else. Pure.

use super::protocol::{Report, ReportResult, ReportedGroup, ReportedPartition, ReportedSegment};
use super::render::printable;
use crate::monitor::page::escape;
use crate::store::{CheckResult, GroupPosition};

/// One row of a table.
type Row = Vec<String>;

struct Section {
    title: &'static str,
    /// What is said where it has no row.
    none: &'static str,
    header: &'static [&'static str],
    rows: Vec<Row>,
}

const UNKNOWN: &str = "-";

pub fn text(report: &Report) -> String {
    let mut out = format!("{}\n", title(report));
    for (name, value) in facts(report) {
        out.push_str(&format!("{name}: {}\n", printable(&value)));
    }
    for section in sections(report) {
        out.push_str(&format!("\n{}\n", section.title));
        if section.rows.is_empty() {
            out.push_str(&format!("{}\n", section.none));
            continue;
        }
        let mut table = super::render::table(false);
        table.set_header(section.header.iter().copied());
        for row in section.rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        out.push_str(&format!("{table}\n"));
    }
    out.push_str(&format!("\n{}: {}\n", result(report.result), report.promise));
    out
}

pub fn html(report: &Report) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body{{font:15px/1.4 sans-serif;margin:2em}}table{{border-collapse:collapse;margin:.5em 0 1.5em}}\
         td,th{{border:1px solid #bbb;padding:.2em .6em;text-align:left}}.failed{{color:#b00}}</style>\n\
         <h1>{title}</h1>\n<p class=\"{class}\"><b>{result}</b>: {promise}</p>\n<table>\n",
        title = escape(&title(report)),
        class = result(report.result).replace(' ', "-"),
        result = result(report.result),
        promise = escape(&report.promise),
    );
    for (name, value) in facts(report) {
        out.push_str(&format!("<tr><th>{name}<td>{}</tr>\n", escape(&value)));
    }
    out.push_str("</table>\n");
    for section in sections(report) {
        out.push_str(&format!("<h2>{}</h2>\n", section.title));
        if section.rows.is_empty() {
            out.push_str(&format!("<p>{}</p>\n", section.none));
            continue;
        }
        out.push_str("<table>\n<tr>");
        section.header.iter().for_each(|name| out.push_str(&format!("<th>{name}")));
        out.push_str("</tr>\n");
        for row in section.rows {
            out.push_str("<tr>");
            row.iter().for_each(|cell| out.push_str(&format!("<td>{}", escape(cell))));
            out.push_str("</tr>\n");
        }
        out.push_str("</table>\n");
    }
    out.push_str("</html>\n");
    out
}

fn title(report: &Report) -> String {
    format!("Migration {}: certificate", report.migration)
}

fn result(result: ReportResult) -> &'static str {
    match result {
        ReportResult::Ok => "ok",
        ReportResult::Failed => "failed",
        ReportResult::NotCompleted => "not completed",
    }
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let or = |value: &Option<String>| value.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    vec![
        ("scheme", report.scheme.clone()),
        ("step", report.step.clone()),
        ("source", or(&report.source)),
        ("target", or(&report.target)),
        ("sealed at", or(&report.sealed_at)),
        ("produce was held for", report.hold_ms.map_or_else(|| UNKNOWN.to_owned(), |ms| format!("{ms} ms"))),
        ("completed at", or(&report.completed_at)),
    ]
}

fn sections(report: &Report) -> [Section; 5] {
    let check = |result: CheckResult| match result {
        CheckResult::Ok => "ok",
        CheckResult::Waived => "waived",
        CheckResult::Failed => "failed",
    };
    let checks = report.checks.iter().map(|c| vec![c.name.clone(), check(c.result).to_owned(), c.detail.clone()]);
    let waived = report.waived.iter().map(|w| vec![w.kind.to_string(), w.name.clone(), w.why.clone(), w.at.clone()]);
    let skipped = report.skipped.iter().map(|s| {
        let (topic, partition) = (s.topic.clone(), s.partition.to_string());
        vec![topic, partition, s.side.to_string(), s.from.to_string(), s.to.to_string(), s.why.clone(), s.at.clone()]
    });
    [
        Section {
            title: "Checks",
            none: "none: they are made when the migration is completed",
            header: &["check", "result", "what was found"],
            rows: checks.collect(),
        },
        Section {
            title: "Waived",
            none: "nothing was waived",
            header: &["what", "name", "why", "at"],
            rows: waived.collect(),
        },
        Section {
            title: "Skipped",
            none: "nothing was skipped",
            header: &["topic", "partition", "side", "from virtual", "to virtual", "why", "at"],
            rows: skipped.collect(),
        },
        Section {
            title: "Partitions",
            none: "no partition",
            header: &["topic", "partition", "side", "virtual", "native", "sealed at native"],
            rows: report.partitions.iter().flat_map(partition).collect(),
        },
        Section {
            title: "Groups",
            none: "no group has moved",
            header: &["group", "home", "when", "topic", "partition", "virtual", "source", "target"],
            rows: report.groups.iter().flat_map(group).collect(),
        },
    ]
}

fn partition(p: &ReportedPartition) -> Vec<Row> {
    let row = |s: &ReportedSegment| {
        let end = s.length.map_or_else(|| "open".to_owned(), |length| (s.native_start.0 + length).to_string());
        let (topic, partition) = (p.topic.clone(), p.partition.to_string());
        vec![topic, partition, s.side.to_string(), s.virtual_start.to_string(), s.native_start.to_string(), end]
    };
    p.segments.iter().map(row).collect()
}

fn group(g: &ReportedGroup) -> Vec<Row> {
    let moved = g.moved_at.as_deref().unwrap_or(UNKNOWN);
    let row = |when: &str, at: Option<&GroupPosition>| {
        let native = |n: Option<i64>| n.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
        let mut row = vec![g.id.clone(), g.home.to_string(), when.to_owned()];
        row.extend(match at {
            None => std::array::from_fn(|_| UNKNOWN.to_owned()),
            Some(p) => {
                let (topic, partition) = (p.topic.to_string(), p.partition.to_string());
                [topic, partition, p.at.to_string(), native(p.source), native(p.target)]
            }
        });
        row
    };
    let when = format!("moved {moved}");
    let before = g.before.iter().map(|p| row(&when, Some(p)));
    let mut rows: Vec<Row> = before.chain(g.after.iter().map(|p| row("completed", Some(p)))).collect();
    if rows.is_empty() {
        rows.push(row(&when, None));
    }
    rows
}
