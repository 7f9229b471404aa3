//! The TLS of every crate in a process: rustls with ring, as Redis' client brings it.

use rustls::crypto::ring;

/// Chooses it, once for the process and before its first TLS: crates that bring no choice of their own
/// panic without one.
pub fn choose() {
    let _chosen_before = ring::default_provider().install_default();
}
