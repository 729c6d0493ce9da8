//! Where tensors live: `auto`, `cpu`, `cuda` or `cuda:N`.

use std::sync::OnceLock;

use tch::{Cuda, Device};

use crate::config::ModelSettings;
use crate::error::{Error, Result};

/// The device that `text` asks for; `auto` is the first GPU where there is one. Call it before the first tensor
/// is made: libtorch learns of GPUs only until then.
///
/// # Errors
/// When `text` is none of the choices, or asks for a GPU that is not there.
pub fn device(text: &str) -> Result<Device> {
    let index = match text {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if gpus() > 0 { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => Some(0),
        _ => text.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()),
    };
    let Some(index) = index else {
        let message = format!("model.device = \"{text}\" is not a device: allowed are auto, cpu, cuda and cuda:N");
        return Err(Error::usage(message));
    };
    match gpus() {
        0 => Err(Error::usage(format!("model.device = \"{text}\", but libtorch finds no CUDA device{}", absence()))),
        count if index >= count => {
            Err(Error::usage(format!("model.device = \"{text}\", but there are only {count} CUDA devices")))
        }
        _ => Ok(Device::Cuda(index)),
    }
}

/// Whether what the settings ask for is there, before anything is done.
///
/// # Errors
/// As [`device`], and for bf16 without a GPU.
pub fn check_device(settings: &ModelSettings) -> Result<()> {
    match device(&settings.device)? {
        Device::Cpu if settings.bf16 => Err(bf16_needs_cuda()),
        _ => Ok(()),
    }
}

pub(super) fn bf16_needs_cuda() -> Error {
    Error::usage("model.bf16 = true needs a CUDA device, and this is a CPU: allowed here is false")
}

/// The version of libtorch that this program was built with.
pub fn libtorch_version() -> &'static str {
    option_env!("HARDY_LIBTORCH_VERSION").unwrap_or("unknown")
}

/// The widest instruction set that libtorch can use here. Results may differ between two of them.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX512";
        } else if is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
    }
    "default"
}

fn gpus() -> usize {
    if cuda_library().is_err() { 0 } else { usize::try_from(Cuda::device_count()).unwrap_or(0) }
}

fn absence() -> String {
    cuda_library().err().map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// Loads libtorch's CUDA half, which registers its devices, once.
fn cuda_library() -> std::result::Result<(), &'static str> {
    static LOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    match LOADED.get_or_init(open_cuda_library) {
        Ok(()) => Ok(()),
        Err(reason) => Err(reason),
    }
}

#[expect(unsafe_code, reason = "loading a library runs its initialisers: here libtorch's own, which are safe to run")]
fn open_cuda_library() -> std::result::Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    // It stays for good: the devices it registers point into it.
    library.map(std::mem::forget).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_documented() {
        assert_eq!(device("cpu").unwrap(), Device::Cpu);
        for wrong in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            let error = device(wrong).unwrap_err().to_string();
            assert!(error.contains("allowed are auto, cpu, cuda and cuda:N"), "{error}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_and_auto_makes_do() {
        if gpus() == 0 {
            assert_eq!(device("auto").unwrap(), Device::Cpu);
            assert!(device("cuda").unwrap_err().to_string().contains("no CUDA device"));
        } else {
            assert_eq!(device("auto").unwrap(), Device::Cuda(0));
            assert!(device("cuda:999").unwrap_err().to_string().contains("CUDA devices"));
        }
    }

    #[test]
    fn the_version_of_libtorch_is_known() {
        assert!(libtorch_version().starts_with("2.11."), "{}", libtorch_version());
    }
}
