//! The page at `/`: the status, for a browser. No scripts, nothing from elsewhere.

use crate::control::protocol::{ClusterStatus, Status};

pub fn html(status: &Status) -> String {
    let mut rows = String::new();
    for m in &status.migrations {
        let cells = [
            m.name.clone(),
            m.scheme.to_string(),
            m.step.clone(),
            m.next.clone().unwrap_or_default(),
            if m.guard.ok { String::new() } else { m.guard.reason.clone().unwrap_or_default() },
            m.topics.len().to_string(),
            m.partitions.to_string(),
            m.hold_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            m.stragglers.to_string(),
        ];
        rows.push_str("<tr>");
        rows.extend(cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))));
        rows.push_str("</tr>\n");
    }
    let ready = if status.proxy.ready { "ready" } else { "not ready" };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
         <title>kafka-cutover</title><style>body{{font:16px sans-serif;margin:2em}}td,th{{text-align:left;\
         padding:.2em 1em .2em 0}}</style></head><body>\n<h1>kafka-cutover {version}: {ready}</h1>\n\
         <p>source {source}<br>target {target}</p>\n<table><tr><th>migration<th>scheme<th>step<th>next<th>waits for\
         <th>topics<th>partitions<th>held<th>stragglers</tr>\n{rows}</table>\n\
         <p><a href=\"/metrics\">metrics</a> <a href=\"/readyz\">readiness</a></p>\n</body></html>\n",
        version = escape(&status.proxy.version),
        source = cluster(&status.clusters.source),
        target = cluster(&status.clusters.target),
    )
}

fn cluster(cluster: &ClusterStatus) -> String {
    let id = escape(cluster.id.as_deref().unwrap_or("unknown"));
    format!("{id}, {}", if cluster.reachable { "reachable" } else { "<b>not reachable</b>" })
}

/// Topic and group names come from clients.
/// For HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
