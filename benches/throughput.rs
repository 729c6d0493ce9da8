//! Images per second of processor time of what a job spends its time on, on one thread: `cargo bench --bench
//! throughput`. On an idle machine that is images per second; on a busy one it errs less than the clock does.
//! Arguments: the batch size (32), the number of threads (1). Weights are random; speed does not depend on them.

#![allow(clippy::unwrap_used, missing_docs)]

use hardy::attack::{Attack, Noise, Objective};
use hardy::config::{Adversary, Architecture, Epsilon, Layers, Resize, Settings};
use hardy::model::{ModelSpec, Network, fresh};
use hardy::seed::Purpose;
use hardy::task::StepAdversary;
use hardy::train::{AdamW, Batch, RoundPlan, round};
use tch::{Device, Kind, Tensor};

const STEPS: u32 = 4;
const REPEATS: usize = 3;

fn main() {
    let numbers: Vec<i32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let batch = numbers.first().copied().unwrap_or(32);
    let threads = numbers.get(1).copied().unwrap_or(1);
    tch::set_num_threads(threads);
    println!("batch {batch}, {threads} thread(s), load {}", load());
    println!("{:>22} {:>5} {:>9} {:>9} {:>9}", "images/s", "px", "fgsm", "n-fgsm+t", "clean t");
    for architecture in [Architecture::TfEfficientnetLite0, Architecture::HardySmall] {
        for side in [128, 160, 224] {
            let bench = Bench::new(architecture, side, batch);
            let (fgsm, hard, clean) = (bench.fgsm(), bench.training(true), bench.training(false));
            println!("{:>22} {side:>5} {fgsm:>9.1} {hard:>9.1} {clean:>9.1}", architecture.to_string());
        }
    }
    println!("load {}", load());
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(1).collect()
}

/// Of this process, in user and system mode, to a hundredth (proc(5): fields 14 and 15 of stat, in ticks).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

struct Bench {
    network: Network,
    images: Tensor,
    labels: Tensor,
    keys: Vec<String>,
    settings: Settings,
}

impl Bench {
    fn new(architecture: Architecture, side: u32, batch: i32) -> Self {
        let classes = ["a", "b", "c", "d", "e"].map(String::from).to_vec();
        let (mean, std) = ([0.5; 3], [0.5; 3]);
        let weights = fresh(architecture, classes.len(), 1);
        let spec = ModelSpec { architecture, classes, input_size: side, resize: Resize::Squash, mean, std };
        let images = Tensor::rand([i64::from(batch), side.into(), side.into(), 3], (Kind::Float, Device::Cpu));
        Self {
            network: Network::load(&spec, &weights, Device::Cpu).unwrap(),
            images: images.permute([0, 3, 1, 2]),
            labels: Tensor::arange(i64::from(batch), (Kind::Int64, Device::Cpu)).remainder(5),
            keys: (0..batch).map(|i| i.to_string()).collect(),
            settings: Layers::new().unwrap().resolve().unwrap().settings,
        }
    }

    fn fgsm(&self) -> f64 {
        let frozen = self.network.frozen();
        let keys = self.keys.iter().map(String::as_str).collect();
        let noise = Noise { seed: 1, purpose: Purpose::Attack, round: 0, keys };
        self.fastest(|| {
            for _ in 0..STEPS {
                let objective = Objective::CrossEntropy(&self.labels);
                let _ = Attack::FGSM.craft(&|x| frozen.logits(x), &self.images, &objective, 4.0 / 255.0, &noise);
            }
        })
    }

    fn training(&self, hard: bool) -> f64 {
        let epsilon = Epsilon::new(4.0 / 255.0).unwrap();
        let adversary = StepAdversary { method: Adversary::NFgsm, epsilon, step: 1.0, noise: 2.0 };
        let plan = RoundPlan {
            round: 0,
            first_step: STEPS, // beyond the ramp
            total_steps: 2 * STEPS,
            steps: STEPS,
            rate: 1e-6,
            seed: 1,
            adversary: hard.then_some(adversary),
            train: &self.settings.train,
            ramp: &self.settings.adversary,
        };
        let mut optimizer = AdamW::new(self.network.leaves(), &self.settings.train);
        self.fastest(|| {
            let batch = || {
                let (images, labels) = (self.images.shallow_clone(), self.labels.shallow_clone());
                Ok(Batch { images, adversarial: None, labels, keys: self.keys.clone() })
            };
            round(&self.network, &mut optimizer, &mut std::iter::repeat_with(batch), &plan, &|_| ()).unwrap();
        })
    }

    /// Images per second of the fastest of some repeats, after one to warm up.
    fn fastest(&self, mut work: impl FnMut()) -> f64 {
        work();
        let seconds = (0..REPEATS).map(|_| {
            let start = processor_seconds();
            work();
            processor_seconds() - start
        });
        f64::from(STEPS) * self.keys.len() as f64 / seconds.fold(f64::INFINITY, f64::min)
    }
}
