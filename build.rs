//! Lets the programs and the tests find libtorch where it was at build time, and remembers its version; has the test on
//! ImageNet's photos run where `HARDY_IMAGENET_PHOTOS` names a folder with them.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=HARDY_IMAGENET_PHOTOS");
    println!("cargo:rustc-check-cfg=cfg(imagenet_photos)");
    if std::env::var_os("HARDY_IMAGENET_PHOTOS").is_some_and(|folder| Path::new(&folder).is_dir()) {
        println!("cargo:rustc-cfg=imagenet_photos");
    }
    if std::env::var_os("CARGO_FEATURE_COMPUTE").is_none() {
        return;
    }
    let Ok(libtorch) = std::env::var("LIBTORCH") else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    if let Some(version) = version(Path::new(&libtorch)) {
        println!("cargo:rustc-env=HARDY_LIBTORCH_VERSION={version}");
    }
}

/// The wheel says it in `version.py`, the archive for C++ in `build-version`.
fn version(libtorch: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(libtorch.join("version.py")) {
        let line = text.lines().find_map(|line| line.strip_prefix("__version__ = '"))?;
        return line.split('\'').next().map(str::to_string);
    }
    std::fs::read_to_string(libtorch.join("build-version")).ok().map(|text| text.trim().to_string())
}
