//! What the workers of one process count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Gpu, Real, Tasks};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabel {
    device: String,
}

/// The figures of a process of workers. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct WorkerMetrics {
    tasks: Tasks,
    images: Counter,
    threads: Gauge,
    busy: Gauge,
    memory: Family<DeviceLabel, Gauge>,
    utilisation: Family<DeviceLabel, Real>,
}

impl WorkerMetrics {
    /// Names everything to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry;
        r.register("hardy_worker_tasks", "Tasks that this process has tried, by outcome", self.tasks.outcomes.clone());
        r.register("hardy_worker_task_duration_seconds", "Seconds per task", self.tasks.seconds.clone());
        r.register("hardy_worker_images", "Images that this process has dealt with", self.images.clone());
        r.register("hardy_worker_threads", "Worker threads of this process", self.threads.clone());
        r.register("hardy_worker_busy", "Worker threads that have a task", self.busy.clone());
        r.register("hardy_gpu_memory_bytes", "Memory of the GPU in use by all programs", self.memory.clone());
        r.register("hardy_gpu_utilisation_ratio", "Share of time in which the GPU computed", self.utilisation.clone());
    }

    /// There are so many threads.
    pub fn threads(&self, count: usize) {
        self.threads.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A thread has a task from now until what is returned is dropped.
    pub fn busy(&self) -> Busy {
        self.busy.inc();
        Busy(self.busy.clone())
    }

    /// A task of `kind` came to its end as `done` or `failed`, or was `handed_back`.
    pub fn ended(&self, kind: &'static str, outcome: &'static str, seconds: f64, images: u64) {
        self.tasks.ended(kind, outcome);
        self.tasks.took(kind, seconds);
        self.images.inc_by(images);
    }

    /// How the GPUs are; those that do not answer any more are forgotten.
    pub fn gpus(&self, found: &[Gpu]) {
        self.memory.clear();
        self.utilisation.clear();
        for gpu in found {
            let label = DeviceLabel { device: gpu.device.clone() };
            if let Some(bytes) = gpu.memory {
                self.memory.get_or_create(&label).set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            if let Some(share) = gpu.utilisation {
                self.utilisation.get_or_create(&label).set(share);
            }
        }
    }
}

/// See [`WorkerMetrics::busy`].
#[derive(Debug)]
pub struct Busy(Gauge);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::text;

    #[test]
    fn a_gpu_is_told_of_as_far_as_it_tells_of_itself() {
        let (metrics, mut registry) = (WorkerMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let of_gpus = || -> Vec<String> {
            let text = text(&registry).unwrap();
            text.lines().filter(|l| l.starts_with("hardy_gpu_")).map(String::from).collect()
        };
        metrics.gpus(&[Gpu { device: "0".into(), memory: Some(5), utilisation: None }]);
        assert_eq!(of_gpus(), ["hardy_gpu_memory_bytes{device=\"0\"} 5"]);
        metrics.gpus(&[]);
        assert_eq!(of_gpus(), [""; 0]);
    }
}
