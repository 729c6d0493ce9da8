//! The Python of the test set-up.

use std::path::{Path, PathBuf};

/// Where it is: in `.deps`, or where `HARDY_TEST_PYTHON` says.
pub fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = std::env::var_os("HARDY_TEST_PYTHON").map_or_else(|| root.join(".deps/python/bin/python"), Into::into);
    assert!(
        found.exists(),
        "{} does not exist: `make test` sets it up from tests/python/requirements-test.txt, or set HARDY_TEST_PYTHON to a \
         Python that has the packages named there",
        found.display()
    );
    found
}
