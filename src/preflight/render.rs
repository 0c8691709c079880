//! Findings for people. Pure; whether there is colour is the caller's to know.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use super::{Findings, Severity};

/// A table and a line that sums it up.
pub fn table(found: &Findings, colour: bool) -> String {
    let (errors, all) = (found.errors(), found.findings.len());
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let sum = format!("{}, {}\n", count(errors, "error"), count(all - errors, "warning"));
    if all == 0 {
        return sum;
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if !colour {
        table.force_no_tty();
    }
    table.set_header(["", "where", "found", "what to do"]);
    for finding in &found.findings {
        let (word, paint) = match finding.severity {
            Severity::Error => ("error", Color::Red),
            Severity::Warning => ("warning", Color::Yellow),
        };
        let word = if colour { Cell::new(word).fg(paint) } else { Cell::new(word) };
        let message = format!("{} ({})", finding.message, finding.code);
        table.add_row([word, Cell::new(&finding.where_), Cell::new(message), Cell::new(&finding.action)]);
    }
    format!("{table}\n{sum}")
}
