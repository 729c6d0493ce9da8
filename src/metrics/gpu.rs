//! GPUs as NVIDIA's own tool sees them. Its driver brings it along; where it is missing there is no GPU.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// One GPU. What it does not tell is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Its number among the GPUs of this machine.
    pub device: String,
    /// Bytes in use.
    pub memory: Option<u64>,
    /// In `[0, 1]`.
    pub utilisation: Option<f64>,
}

impl Gpu {
    /// All GPUs of this machine that answer now; `None` where there is nothing to ask. Blocks for up to a second or so.
    pub fn all() -> Option<Vec<Self>> {
        ask("nvidia-smi")
    }
}

fn ask(tool: &str) -> Option<Vec<Gpu>> {
    let output = Command::new(tool)
        .args(["--query-gpu=index,memory.used,utilization.gpu", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Some(parse(&String::from_utf8_lossy(&output.stdout))),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        // It may fare better the next time.
        _ => Some(Vec::new()),
    }
}

/// Lines such as `0, 1234, 56`: number, MiB, percent.
fn parse(text: &str) -> Vec<Gpu> {
    let line = |line: &str| {
        let mut fields = line.split(',').map(str::trim);
        let device: u32 = fields.next()?.parse().ok()?;
        let mebibytes: Option<u64> = fields.next()?.parse().ok();
        let percent: Option<f64> = fields.next()?.parse().ok();
        let memory = mebibytes.and_then(|m| m.checked_mul(1 << 20));
        Some(Gpu { device: device.to_string(), memory, utilisation: percent.map(|p| p / 100.0) })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_tool_prints() {
        let found = parse("0, 1024, 37\n1, [N/A], 5\n2, 0, 100\n3, 2048, [N/A]\n\nNo devices were found\n");
        let gpu = |device: &str, memory, utilisation| Gpu { device: device.into(), memory, utilisation };
        let wanted = [
            gpu("0", Some(1 << 30), Some(0.37)),
            gpu("1", None, Some(0.05)),
            gpu("2", Some(0), Some(1.0)),
            gpu("3", Some(1 << 31), None),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_tool_that_fails_is_asked_again_and_one_that_is_missing_is_not() {
        assert_eq!(ask("false"), Some(Vec::new()));
        assert_eq!(ask("no-such-tool-of-nvidia"), None);
    }
}
