//! CPU seconds and peak memory of processes, as /proc tells them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

/// /proc counts in hundredths of a second on every Linux.
const TICKS_A_SECOND: f64 = 100.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// A program that is watched: a process with all its descendants.
#[derive(Debug, Clone)]
pub struct Watched {
    pub name: &'static str,
    pub pid: u32,
}

/// What a program has used while it was watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    pub cpu_seconds: f64,
    pub peak_mib: f64,
}

/// Watches programs from its start until [`Meter::read`].
pub struct Meter {
    watched: Vec<Watched>,
    cpu_before: Vec<f64>,
    peaks: Arc<Mutex<Vec<f64>>>,
    _sampler: JoinSet<()>,
}

impl Meter {
    pub fn start(watched: Vec<Watched>) -> anyhow::Result<Self> {
        for it in &watched {
            // Peaks before this moment do not count; where that is not allowed, samples tell.
            let _not_ours = fs::write(format!("/proc/{}/clear_refs", it.pid), "5");
        }
        let processes = Processes::now();
        let cpu_before = watched.iter().map(|it| processes.cpu_seconds(it.pid)).collect();
        let peaks = Arc::new(Mutex::new(vec![0.0; watched.len()]));
        let mut sampler = JoinSet::new();
        sampler.spawn(sample(watched.clone(), peaks.clone()));
        Ok(Self { watched, cpu_before, peaks, _sampler: sampler })
    }

    /// What each program has used since the start.
    pub fn read(&self) -> Vec<(&'static str, Used)> {
        let mut peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        let programs = self.watched.iter().zip(&self.cpu_before).zip(peaks.iter_mut());
        let processes = Processes::now();
        programs
            .map(|((it, before), peak)| {
                *peak = peak.max(processes.memory_mib(it.pid));
                let cpu_seconds = processes.cpu_seconds(it.pid) - before;
                (it.name, Used { cpu_seconds, peak_mib: *peak })
            })
            .collect()
    }
}

async fn sample(watched: Vec<Watched>, peaks: Arc<Mutex<Vec<f64>>>) {
    loop {
        let processes = Processes::now();
        raise(&peaks, watched.iter().map(|it| processes.memory_mib(it.pid)).collect());
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

fn raise(peaks: &Mutex<Vec<f64>>, now: Vec<f64>) {
    let mut peaks = peaks.lock().unwrap_or_else(PoisonError::into_inner);
    for (peak, now) in peaks.iter_mut().zip(now) {
        *peak = peak.max(now);
    }
}

/// Who descends from whom: read once for all that are watched, since once for each of them was a hundredth
/// of the CPU of a drain.
struct Processes {
    children: HashMap<u32, Vec<u32>>,
}

impl Processes {
    fn now() -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in pids() {
            if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Self { children }
    }

    /// The process and all its descendants.
    fn family(&self, root: u32) -> Vec<u32> {
        let mut family = vec![root];
        let mut at = 0;
        while let Some(pid) = family.get(at) {
            family.extend(self.children.get(pid).into_iter().flatten());
            at += 1;
        }
        family
    }

    /// A process alone: its high-water mark. One with children (Postgres): the anonymous memory of
    /// all, and what they share once.
    fn memory_mib(&self, root: u32) -> f64 {
        let family = self.family(root);
        let statuses: Vec<_> = family.iter().filter_map(|pid| status(*pid)).collect();
        let kib = |status: &String, field| status_kib(status, field).unwrap_or(0.0);
        let sum = match statuses.as_slice() {
            [alone] => kib(alone, "VmHWM"),
            family => {
                let own: f64 = family.iter().map(|it| kib(it, "RssAnon")).sum();
                own + family.iter().map(|it| kib(it, "RssShmem")).fold(0.0, f64::max)
            }
        };
        sum / 1_024.0
    }

    /// With the children it has waited for; those alive are counted by themselves.
    fn cpu_seconds(&self, root: u32) -> f64 {
        let ticks = self.family(root).into_iter().filter_map(|pid| {
            let fields = stat(pid)?;
            // utime, stime, cutime and cstime, counted from the state behind the name.
            Some((11..=14).filter_map(|at| fields.get(at)?.parse::<f64>().ok()).sum::<f64>())
        });
        ticks.sum::<f64>() / TICKS_A_SECOND
    }
}

fn status(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

fn status_kib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The fields of /proc/PID/stat behind the name, which may itself hold spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The process that listens on a port of this machine.
pub fn listener(port: u16) -> anyhow::Result<u32> {
    let inodes: Vec<_> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| listening_inodes(Path::new(table), port))
        .collect();
    ensure!(!inodes.is_empty(), "nobody listens on port {port}");
    let holds = |pid: &u32| {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut links = open.filter_map(|it| fs::read_link(it.ok()?.path()).ok());
        links.any(|link| inodes.iter().any(|it| link.as_os_str() == it.as_str()))
    };
    // The parent of those that inherited the socket has the smallest id.
    let mut holders: Vec<_> = pids().into_iter().filter(holds).collect();
    let processes = Processes::now();
    holders.sort_by_key(|pid| processes.family(*pid).len());
    holders.pop().with_context(|| format!("who listens on port {port} cannot be seen"))
}

fn listening_inodes(table: &Path, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit(':').next()?;
        let listens = u16::from_str_radix(local, 16) == Ok(port) && fields.get(3) == Some(&LISTEN);
        listens.then(|| Some(format!("socket:[{}]", fields.get(9)?)))?
    };
    text.lines().skip(1).filter_map(inode).collect()
}
