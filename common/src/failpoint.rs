//! Places where a test may kill this process; nothing at all without the feature `failpoints`.

/// Dies like a lost machine (SIGKILL: no destructor, no flush) when `TALLYMAN_KILL_AT` names this
/// point: `name` dies at the first pass, `name:3` at the third.
#[cfg(feature = "failpoints")]
pub fn kill_point(name: &'static str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Ok(plan) = std::env::var("TALLYMAN_KILL_AT") else { return };
    let (point, pass) = plan.split_once(':').unwrap_or((&plan, "1"));
    if point == name && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == pass.parse().unwrap_or(1) {
        let myself = std::process::id().to_string();
        let _dead = std::process::Command::new("kill").args(["-KILL", &myself]).status();
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn kill_point(_name: &'static str) {}
