//! What was measured, as one Markdown table with the facts of the machine.

use std::fmt::Write;
use std::fs;

use crate::LoadConfig;
use crate::usage::Used;

/// One line of the table.
#[derive(Debug, Default)]
pub struct Row {
    pub what: String,
    pub rate: String,
    /// What it is compared with in the same run, and the ratio.
    pub against: String,
    /// p50 and p99, where there are requests.
    pub latency: String,
    pub usage: Vec<(&'static str, Used)>,
}

/// All the lines so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    /// A section to paste: the machine, the load, the table.
    pub fn markdown(&self, load: &LoadConfig) -> String {
        let LoadConfig { events, seconds, connections, seed, .. } = load;
        let mut out = format!(
            "{}\n\n{} events a drain, {seconds} s and {connections} connections an HTTP load, seed {seed}.\n\n",
            machine(),
            grouped(f64::from(*events)),
        );
        out.push_str("| What | Rate | Against | p50 / p99 | CPU seconds (peak memory) |\n");
        out.push_str("|---|---:|---|---:|---|\n");
        for row in &self.rows {
            // Writing to a String cannot fail.
            let _infallible = writeln!(out, "{}", line(row));
        }
        out
    }
}

fn line(row: &Row) -> String {
    let usage = row
        .usage
        .iter()
        .map(|(name, used)| format!("{name} {:.1} s ({:.0} MiB)", used.cpu_seconds, used.peak_mib));
    let usage: Vec<_> = usage.collect();
    let Row { what, rate, against, latency, .. } = row;
    format!("| {what} | {rate} | {against} | {latency} | {} |", usage.join(", "))
}

/// Cores, processor, memory, how busy it was before, and the day.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    format!(
        "{cores} cores of {cpu}, {:.0} GiB, everything on this machine; {date}; \
         load average at the end {}.",
        kib / f64::from(1 << 20),
        load.join(" ")
    )
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A whole number with commas between thousands.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub fn percent(part: f64, whole: f64) -> String {
    format!("{:.0} %", 100.0 * part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }
}
