//! Answers for people: tables and lines. Pure; whether there is colour is the caller's to know.

use comfy_table::{Cell, Color, Table, presets};

use super::protocol::{
    ClusterStatus, MigrationStatus, MirrorStatus, MirrorStopped, Outcome, Refusal, SkippedPart, Status, Translation,
};
use crate::ids::Side;

/// Transactions of one migration.
const MOST_SHOWN: usize = 20;

pub fn status(status: &Status, only: Option<&str>, colour: bool) -> String {
    let ready = if status.proxy.ready { "ready" } else { "not ready" };
    let mut text = format!("kafka-cutover {}, {ready}\n", status.proxy.version);
    text.push_str(&cluster("source", &status.clusters.source));
    text.push_str(&cluster("target", &status.clusters.target));
    let shown: Vec<_> = status.migrations.iter().filter(|m| only.is_none_or(|name| m.name == name)).collect();
    if shown.is_empty() {
        text.push_str("\nno migration\n");
        return text;
    }
    let mut table = table(colour);
    table.set_header(["migration", "scheme", "step", "next", "topics", "partitions", "held", "stragglers"]);
    for m in &shown {
        let mut stragglers = Cell::new(m.stragglers);
        if colour && m.stragglers > 0 {
            stragglers = stragglers.fg(Color::Red);
        }
        table.add_row([
            Cell::new(&m.name),
            Cell::new(m.scheme),
            Cell::new(&m.step),
            next(m, colour),
            Cell::new(m.topics.len()),
            Cell::new(m.partitions),
            Cell::new(m.hold_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))),
            stragglers,
        ]);
    }
    text.push_str(&format!("\n{table}\n"));
    for m in &shown {
        if let (Some(next), Some(reason), false) = (&m.next, &m.guard.reason, m.guard.ok) {
            text.push_str(&format!("{}: {next} waits: {reason}\n", m.name));
        }
    }
    for m in &shown {
        let Some(mirror) = &m.mirror else { continue };
        let MirrorStatus { from, partitions, caught_up, lag, records, .. } = mirror;
        let name = &m.name;
        text.push_str(&format!(
            "{name}: the mirror copies the {from}: {caught_up} of {partitions} partitions have caught up, {lag} offsets to go, {records} records copied\n"
        ));
        for stopped in mirror.stopped.iter().take(MOST_SHOWN) {
            let MirrorStopped { why, what_to_do, .. } = stopped;
            text.push_str(&format!("{name}: the mirror stands still: {}; {}\n", printable(why), printable(what_to_do)));
        }
    }
    for m in &shown {
        if let Some(late) = &m.late_seam {
            text.push_str(&format!("{}: producers switched at {}; readers wait for the seam\n", m.name, late.since));
            for group in late.waits_for.groups.iter().take(MOST_SHOWN) {
                text.push_str(&format!("{}: group {} moves first\n", m.name, printable(group)));
            }
            for open in late.waits_for.open.iter().take(MOST_SHOWN) {
                text.push_str(&format!(
                    "{}: transaction of {} is open since {}\n",
                    m.name,
                    printable(&open.id),
                    open.since
                ));
            }
        }
    }
    for m in &shown {
        if let Some(since) = &m.consumers_held_since {
            let name = &m.name;
            text.push_str(&format!(
                "{name}: consumers are held at the seam since {since}: `kafka-cutover switch {name} consumers` lets them go on\n"
            ));
        }
    }
    for m in &shown {
        let waiting = m.groups.iter().filter(|g| g.behind != Some(0) && g.waived.is_none()).count();
        if waiting > 0 {
            let groups = m.groups.len();
            text.push_str(&format!("{}: {waiting} of {groups} groups have not read up to the seam\n", m.name));
        }
        for unheard in &m.groups_not_heard {
            text.push_str(&format!("{}: {}\n", m.name, printable(unheard)));
        }
    }
    for m in &shown {
        if !m.unprepared.is_empty() {
            let topics = m.unprepared.join(", ");
            text.push_str(&format!("{}: not prepared, so they stay on the source: {topics}\n", m.name));
        }
        for lost in &m.truncated {
            let (topic, partition, side, from, end) = (&lost.topic, lost.partition, lost.side, lost.from, lost.end);
            text.push_str(&format!("{}: {topic}-{partition} on the {side} HAS LOST records {from} to {end}\n", m.name));
        }
    }
    if only.is_some() {
        shown.iter().for_each(|m| text.push_str(&details(m, colour)));
    }
    text
}

fn cluster(name: &str, cluster: &ClusterStatus) -> String {
    let id = cluster.id.as_deref().unwrap_or("unknown");
    let reachable = if cluster.reachable { "reachable" } else { "NOT REACHABLE" };
    format!("{name}  {id}  {reachable}\n")
}

fn next(m: &MigrationStatus, colour: bool) -> Cell {
    let cell = Cell::new(m.next.as_deref().unwrap_or("-"));
    match (&m.next, m.guard.ok) {
        (Some(_), true) if colour => cell.fg(Color::Green),
        (Some(_), false) if colour => cell.fg(Color::Yellow),
        _ => cell,
    }
}

fn details(m: &MigrationStatus, colour: bool) -> String {
    let mut text = format!("topics: {}\n", m.topics.join(", "));
    if let Some(at) = &m.sealed_at {
        text.push_str(&format!("sealed at: {at}\n"));
    }
    if !m.groups.is_empty() {
        let mut table = table(colour);
        table.set_header(["group", "home", "state", "behind the seam", ""]);
        for g in &m.groups {
            let behind = g.behind.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let note = match (&g.waived, g.uncommitted) {
                (Some(why), _) => format!("waived: {why}"),
                (None, 0) => String::new(),
                (None, n) => format!("no position on {n} partitions"),
            };
            let cells = [g.id.clone(), g.home.to_string(), g.state.clone(), behind, note];
            table.add_row(cells.map(|cell| printable(&cell)));
        }
        text.push_str(&format!("{table}\n"));
    }
    for g in &m.groups {
        for p in &g.partitions {
            let position = p.position.map_or_else(|| "no position".to_owned(), |v| format!("at {v}"));
            let behind = p.behind.map_or_else(|| "not known how far".to_owned(), |n| n.to_string());
            let (id, topic, partition) = (printable(&g.id), &p.topic, p.partition);
            text.push_str(&format!("group {id}: {topic}-{partition} {position}, {behind} behind the seam\n"));
        }
    }
    for w in &m.waived {
        let (kind, name, why) = (w.kind, printable(&w.name), printable(&w.why));
        text.push_str(&format!("waived at {}: {kind} {name}: {why}\n", w.at));
    }
    for s in &m.skipped {
        let SkippedPart { topic, partition, side, from, to, at, .. } = s;
        let why = printable(&s.why);
        text.push_str(&format!("skipped at {at}: {topic}-{partition} from {from} to {to} on the {side}: {why}\n"));
    }
    text
}

/// Group ids come from clients, and a terminal does what control characters say.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(super) fn table(colour: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

pub fn outcome(outcome: &Outcome) -> String {
    let mut text = String::new();
    for line in &outcome.done {
        text.push_str(line);
        text.push('\n');
    }
    let held = outcome.hold_ms.map_or_else(String::new, |ms| format!(", produce held for {ms} ms"));
    if outcome.dry_run {
        text.push_str(&format!("{}: dry run, nothing changed; at step `{}`\n", outcome.migration, outcome.step));
    } else {
        text.push_str(&format!("{}: at step `{}`{held}\n", outcome.migration, outcome.step));
    }
    text
}

/// Where it lies; what it is on the other side; what else must be known.
pub fn translation(t: &Translation) -> String {
    let Translation { topic, partition, at, native, segment, read_up_to, .. } = t;
    let (side, start) = (segment.side, segment.virtual_start);
    let reach = match segment.length {
        Some(length) => format!("virtual {start} to {}", start.0.saturating_add(length - 1)),
        None => format!("open since virtual {start}"),
    };
    let number = segment.number;
    let mut text = format!("{topic}-{partition}: virtual {at} is {side} {native}, in segment {number} ({reach})\n");
    if t.migration.is_none() {
        text.push_str("no migration has prepared it: all of it is on the source, at the same offsets\n");
        return text;
    }
    let other = side.other();
    let there = if other == Side::Source { t.source } else { t.target };
    text.push_str(&match there {
        Some(there) => format!("who reads the {other} alone goes on at {other} {}\n", there.native),
        None => format!("the {other} has no part of it\n"),
    });
    if read_up_to < at {
        text.push_str(&format!(
            "who stands at {side} {native} and knows the {side} alone has read up to virtual {read_up_to}: \
             what lies between is on the {other}\n"
        ));
    }
    text
}

/// One line, with what to do.
pub fn refusal(refusal: &Refusal) -> String {
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    if refusal.hint.is_empty() {
        line(&refusal.message)
    } else {
        format!("{}; {}", line(&refusal.message), line(&refusal.hint))
    }
}
