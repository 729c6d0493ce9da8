//! A folder that is built beside its final place: what bears the final name is whole.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::error::{Context, Error, Kind, Result};
use crate::signal::{self, Orderly};

/// How the names of folders in the making begin.
pub const STAGED: &str = ".hardy-";

/// A folder in the making, gone unless published, also after a signal.
pub struct Staged(TempDir, #[allow(dead_code, reason = "held")] Orderly);

impl Staged {
    /// For `out`, which must be empty or not exist.
    pub fn beside(out: &Path) -> Result<Self> {
        let failed = || cannot_write(out);
        if out.exists() && std::fs::read_dir(out).context(Kind::Storage, failed)?.next().is_some() {
            return Err(Error::storage(format!("folder {} is not empty", out.display())));
        }
        let orderly = Orderly::begin();
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).context(Kind::Storage, failed)?;
        let folder = tempfile::Builder::new().prefix(STAGED).tempdir_in(parent).context(Kind::Storage, failed)?;
        Ok(Self(folder, orderly))
    }

    /// Where it is for now.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Creates the file `path` of the folder. `written` is when `content` was, where that is known: by this time a night
    /// tells photos that were written again.
    ///
    /// # Errors
    /// Of kind `Data` where `content` cannot be read, `Storage` where the file cannot be written, `Interrupted` after a
    /// signal.
    pub fn write(&self, path: &Path, mut content: impl Read, written: Option<SystemTime>) -> Result<()> {
        let target = self.path().join(path);
        let failed = || cannot_write(&target);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).context(Kind::Storage, failed)?;
        }
        let mut file = File::create(&target).context(Kind::Storage, failed)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            signal::check()?;
            let read = content.read(&mut buffer).context(Kind::Data, || "cannot be read".into())?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).context(Kind::Storage, failed)?;
        }
        written.map_or(Ok(()), |time| file.set_modified(time)).context(Kind::Storage, failed)
    }

    /// Creates the file `path` of the folder with the content of the file `source`.
    pub fn copy(&self, source: &Path, path: &Path) -> Result<()> {
        let file = File::open(source).context(Kind::Storage, || format!("cannot read {}", source.display()))?;
        let written = file.metadata().and_then(|meta| meta.modified()).ok();
        self.write(path, file, written)
    }

    /// Gives `root`, the folder or one inside it, the name `out`.
    pub fn publish(self, root: &Path, out: &Path) -> Result<()> {
        let failed = || cannot_write(out);
        if out.exists() {
            std::fs::remove_dir(out).context(Kind::Storage, failed)?;
        }
        // Temporary folders are for their owner's eyes only; a data set need not be.
        std::fs::set_permissions(root, Permissions::from_mode(0o755)).context(Kind::Storage, failed)?;
        std::fs::rename(root, out).context(Kind::Storage, failed)
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
