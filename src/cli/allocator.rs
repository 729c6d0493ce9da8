//! The allocator's settings, which glibc reads before `main`.

use std::os::unix::process::CommandExt;
use std::process::Command;

const VARIABLE: &str = "GLIBC_TUNABLES";

/// Keeps freed memory, in huge pages where there are any, instead of handing every large tensor back
/// to the kernel to be cleared again: FGSM is about a third faster so (`make bench`).
const SETTINGS: &str = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=4294967296:\
                        glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=67108864";

/// Starts the program over with these settings, once, unless the caller has settings of its own.
/// Where that fails the program goes on as it is, only slower.
pub(super) fn keep_memory() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let mut again = Command::new(program);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        let refused = again.args(arguments).env(VARIABLE, SETTINGS).exec();
        tracing::debug!("the allocator keeps its defaults: {refused}");
    }
}
