//! Answers as tables: numbers aligned, shares as bars.

use serde_json::Value;

/// Cells a bar may take.
const BAR_CELLS: usize = 24;
/// Eighths of a cell.
const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

const DIM: &str = "\x1b[2m";
const BLUE: &str = "\x1b[34m";
const PLAIN: &str = "\x1b[0m";

#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub is_colored: bool,
}

impl Style {
    fn paint(self, color: &str, text: &str) -> String {
        match self.is_colored && !text.is_empty() {
            true => format!("{color}{text}{PLAIN}"),
            false => text.to_owned(),
        }
    }
}

/// Rows under a heading; texts to the left, numbers to the right, a bar at the end.
#[derive(Debug, Default)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<(Vec<Cell>, Option<f64>)>,
}

#[derive(Debug, PartialEq)]
enum Cell {
    Text(String),
    Number(String),
}

impl Cell {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

/// The answer to any question; its members tell which.
pub fn of(answer: &Value) -> Table {
    let list = |name: &str| answer[name].as_array();
    if let Some(counts) = answer["counts"].as_object() {
        let items =
            counts.iter().map(|(name, count)| serde_json::json!({"type": name, "count": count}));
        return Table::shares(&items.collect::<Vec<_>>(), &["type", "count"], "count");
    }
    if let Some(cohorts) = list("cohorts") {
        return Table::matrix(cohorts);
    }
    if let Some(steps) = list("steps") {
        return Table::steps(steps);
    }
    let items = list("series").or_else(|| list("items")).map_or(&[][..], Vec::as_slice);
    let has = |name: &str| items.first().is_some_and(|it| !it[name].is_null());
    let columns = ["day", "start", "by", "type", "objectType", "objectId", "count", "users"];
    let columns: Vec<&str> = columns.into_iter().filter(|it| has(it)).collect();
    Table::shares(items, &columns, if has("count") { "count" } else { "users" })
}

impl Table {
    /// A bar shows each row's share of the largest.
    fn shares(items: &[Value], columns: &[&str], of: &str) -> Self {
        let largest = items.iter().filter_map(|it| it[of].as_f64()).fold(0.0, f64::max);
        let row = |item: &Value| {
            let cells = columns.iter().map(|name| cell(&item[*name])).collect();
            (cells, item[of].as_f64().filter(|_| largest > 0.0).map(|it| it / largest))
        };
        let heading = columns.iter().map(|it| (*it).to_owned()).collect();
        Self { heading, rows: items.iter().map(row).collect() }
    }

    /// Of each cohort, how many per cent came back.
    fn matrix(cohorts: &[Value]) -> Self {
        let columns = |it: &Value| it["retained"].as_array().map_or(0, Vec::len);
        let width = cohorts.iter().map(columns).max().unwrap_or(0);
        let mut heading = vec!["day".to_owned(), "size".to_owned()];
        heading.extend((0..width).map(|n| format!("+{n}")));
        let row = |cohort: &Value| {
            let size = cohort["size"].as_f64().unwrap_or(0.0);
            let mut cells = vec![cell(&cohort["day"]), cell(&cohort["size"])];
            for retained in cohort["retained"].as_array().into_iter().flatten() {
                cells.push(Cell::Number(percent(retained.as_f64().unwrap_or(0.0), size)));
            }
            (cells, None)
        };
        Self { heading, rows: cohorts.iter().map(row).collect() }
    }

    /// Of those who took the first step, how many per cent got to each.
    fn steps(steps: &[Value]) -> Self {
        let first = steps.first().and_then(|it| it["users"].as_f64()).unwrap_or(0.0);
        let row = |step: &Value| {
            let users = step["users"].as_f64().unwrap_or(0.0);
            let share = Cell::Number(percent(users, first));
            let bar = (first > 0.0).then(|| users / first);
            (vec![cell(&step["type"]), cell(&step["users"]), share], bar)
        };
        let heading = ["type", "users", "of the first"].map(str::to_owned).to_vec();
        Self { heading, rows: steps.iter().map(row).collect() }
    }

    pub fn render(&self, style: Style) -> String {
        if self.rows.is_empty() {
            return "nothing happened\n".to_owned();
        }
        let mut widths: Vec<usize> = self.heading.iter().map(|it| it.chars().count()).collect();
        for (cells, _) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.text().chars().count().max(*width);
            }
        }
        let is_number = |at: usize| matches!(self.rows[0].0.get(at), Some(Cell::Number(_)));
        let heading = self.heading.iter().enumerate().map(|(at, name)| {
            let is_number = is_number(at) || at >= self.rows[0].0.len();
            aligned(name, widths[at], is_number)
        });
        let heading: Vec<_> = heading.collect();
        let mut out = style.paint(DIM, heading.join("  ").trim_end());
        out.push('\n');
        for (cells, share) in &self.rows {
            let cells = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| aligned(cell.text(), *width, matches!(cell, Cell::Number(_))));
            let mut line = cells.collect::<Vec<_>>().join("  ");
            if let Some(share) = share {
                line.push_str("  ");
                line.push_str(&style.paint(BLUE, &bar(*share)));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Number(number) => Cell::Number(grouped(&number.to_string())),
        Value::String(text) => Cell::Text(visible(text)),
        _ => Cell::Text(String::new()),
    }
}

/// Names come from anywhere: none may move the cursor or change the colours.
fn visible(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}

fn aligned(text: &str, width: usize, is_number: bool) -> String {
    match is_number {
        true => format!("{text:>width$}"),
        false => format!("{text:<width$}"),
    }
}

fn bar(share: f64) -> String {
    let eighths = (share * (BAR_CELLS * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

fn percent(part: f64, whole: f64) -> String {
    match whole > 0.0 {
        true => format!("{:.1}%", 100.0 * part / whole),
        false => "–".to_owned(),
    }
}

/// With commas between thousands.
fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(answer: &Value) -> String {
        of(answer).render(Style { is_colored: false })
    }

    #[test]
    fn numbers_are_aligned_and_bars_show_shares() {
        let answer = json!({"items": [
            {"type": "view", "count": 1_234_567, "users": 9}, {"type": "purchase", "count": 617_284, "users": 10},
        ]});
        let expected = [
            "type          count  users",
            "view      1,234,567      9  ████████████████████████",
            "purchase    617,284     10  ████████████",
            "",
        ];
        assert_eq!(plain(&answer), expected.join("\n"));
    }

    #[test]
    fn retention_is_a_triangle_of_per_cents() {
        let answer = json!({"cohorts": [
            {"day": "2026-11-01", "size": 3, "retained": [3, 1]}, {"day": "2026-11-02", "size": 0, "retained": [0]},
        ]});
        let expected = [
            "day         size      +0     +1",
            "2026-11-01     3  100.0%  33.3%",
            "2026-11-02     0       –",
            "",
        ];
        assert_eq!(plain(&answer), expected.join("\n"));
    }

    #[test]
    fn color_is_for_terminals_and_names_are_made_harmless() {
        let answer =
            json!({"steps": [{"type": "a\u{1b}[2J", "users": 2}, {"type": "b", "users": 1}]});
        assert!(!plain(&answer).contains('\u{1b}'));
        assert!(plain(&answer).contains("50.0%"));
        assert!(of(&answer).render(Style { is_colored: true }).contains(BLUE));
        assert_eq!(plain(&json!({"series": []})), "nothing happened\n");
        assert!(plain(&json!({"counts": {"like": 7}})).contains("like      7  █"));
    }
}
