//! The program `processor`.

use std::ffi::{CStr, c_char};
use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// A batch is thousands of small pieces that one thread makes and another lets go: glibc's allocator spends a
/// quarter of our time on them. librdkafka's go through this one too.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Few arenas and quick decay: with its defaults it holds a third more memory, for no more speed (measured). Much
/// quicker, and pages that the next batch wants again have gone back to the kernel: 4 % of a drain's CPU was faults.
const SETTINGS: &CStr = c"narenas:2,dirty_decay_ms:2000,muzzy_decay_ms:0";

/// The name under which jemalloc looks for its settings.
// SAFETY: a text that is never freed; nothing else has this name, which is jemalloc's for this very use.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
static malloc_conf: Option<&'static c_char> = Some(unsafe { &*SETTINGS.as_ptr() });

fn main() -> ExitCode {
    processor::main()
}
