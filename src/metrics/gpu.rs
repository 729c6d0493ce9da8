//! GPUs as NVIDIA's own tool sees them. Its driver brings it along; where it is missing there is no GPU.

use std::process::{Command, Stdio};

/// One GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Its number among the GPUs of this machine.
    pub device: String,
    /// Bytes in use.
    pub memory: u64,
    /// In `[0, 1]`.
    pub utilisation: f64,
}

impl Gpu {
    /// All GPUs of this machine; none where there is no driver. Blocks for up to a second or so.
    pub fn all() -> Vec<Self> {
        let output = Command::new("nvidia-smi")
            .args(["--query-gpu=index,memory.used,utilization.gpu", "--format=csv,noheader,nounits"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => parse(&String::from_utf8_lossy(&output.stdout)),
            _ => Vec::new(),
        }
    }
}

/// Lines such as `0, 1234, 56`: number, MiB, percent. A figure that a GPU does not tell makes it left out.
fn parse(text: &str) -> Vec<Gpu> {
    let line = |line: &str| {
        let mut fields = line.split(',').map(str::trim);
        let device = fields.next()?.to_owned();
        let mebibytes: u64 = fields.next()?.parse().ok()?;
        let percent: f64 = fields.next()?.parse().ok()?;
        Some(Gpu { device, memory: mebibytes.checked_mul(1 << 20)?, utilisation: percent / 100.0 })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_tool_prints() {
        let found = parse("0, 1024, 37\n1, [N/A], 5\n2, 0, 100\n\nNo devices were found\n");
        let gpu = |device: &str, memory, utilisation| Gpu { device: device.into(), memory, utilisation };
        assert_eq!(found, [gpu("0", 1 << 30, 0.37), gpu("2", 0, 1.0)]);
    }
}
