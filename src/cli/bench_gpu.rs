//! `hardy bench-gpu`, hidden: what `benches/gpu.sh` runs. Checks a GPU against the CPU and measures it.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;
use tch::{Cuda, Device, Kind, Tensor};

use super::SettingsArgs;
use crate::attack::{Attack, Noise, Objective};
use crate::config::{Adversary, Epsilon, Settings};
use crate::error::{Error, Result};
use crate::model::{self, ModelSpec, Network, Weights};
use crate::seed::Purpose;
use crate::task::StepAdversary;
use crate::train::{AdamW, Batch, RoundPlan, round};

const EPSILON: f64 = 4.0 / 255.0;
/// Steps that are timed, after as many that are not.
const STEPS: u32 = 10;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// A model's folder or file, or `imagenet`.
    #[arg(long, default_value = "imagenet")]
    model: PathBuf,
    /// cuda or cuda:N.
    #[arg(long, default_value = "cuda")]
    device: String,
    /// Side of the pictures in pixels.
    #[arg(long, default_value_t = 128)]
    side: u32,
    /// Batch sizes.
    #[arg(long, value_delimiter = ',', default_value = "64,128,256,512,1024")]
    batches: Vec<i64>,
    /// Only compare with the CPU.
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: BenchArgs) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let (spec, weights) = model::load_model(&args.model)?;
    let device = model::device(&args.device)?;
    let Device::Cuda(index) = device else {
        return Err(Error::usage(format!("--device {} is no GPU: allowed are cuda and cuda:N", args.device)));
    };
    if args.check {
        return check(&spec, &weights, device, args.side);
    }
    for bf16 in [false, true] {
        for &batch in &args.batches {
            let mut network = Network::load(&spec, &weights, device)?;
            if bf16 {
                network = network.in_bf16()?;
            }
            let bench = Bench::new(network, index as i64, batch, args.side, &settings);
            let (fgsm, train) = (bench.fgsm()?, bench.training()?);
            let precision = if bf16 { "bf16" } else { "fp32" };
            println!("{}", json!({ "batch": batch, "precision": precision, "fgsm": fgsm, "n_fgsm_training": train }));
        }
    }
    Ok(())
}

/// Prints how far the GPU's logits are from the CPU's, and how many pixels FGSM moves alike.
fn check(spec: &ModelSpec, weights: &Weights, device: Device, side: u32) -> Result<()> {
    let images = pictures(16, side);
    let on = |device: Device| -> Result<(Tensor, Tensor)> {
        let network = Network::load(spec, weights, device)?.frozen();
        let images = images.to_device(device);
        let logits = tch::no_grad(|| network.logits(&images));
        let labels = logits.argmax(1, false);
        let (objective, noise) = (Objective::CrossEntropy(&labels), noise(&[]));
        let moved = Attack::FGSM.craft(&|x| network.logits(x), &images, &objective, EPSILON, &noise) - &images;
        Ok((logits.to_device(Device::Cpu), moved.sign().to_device(Device::Cpu)))
    };
    let ((cpu, cpu_signs), (gpu, gpu_signs)) = (on(Device::Cpu)?, on(device)?);
    let number = |tensor: Tensor| tensor.double_value(&[]);
    let line = json!({
        "logits_max_difference": number((&cpu - gpu).abs().max()),
        "logits_max": number(cpu.abs().max()),
        "fgsm_signs_alike": number(cpu_signs.eq_tensor(&gpu_signs).to_kind(Kind::Float).mean(Kind::Float)),
    });
    println!("{line}");
    Ok(())
}

/// Smooth colours in `[0, 1]`, `[count, 3, side, side]`, no two alike.
fn pictures(count: i64, side: u32) -> Tensor {
    let side = i64::from(side);
    let at = Tensor::arange(count * side * side * 3, (Kind::Double, Device::Cpu)).view([count, side, side, 3]);
    ((at * 0.0137).sin() * 0.5 + 0.5).to_kind(Kind::Float).permute([0, 3, 1, 2])
}

fn noise<'a>(keys: &'a [String]) -> Noise<'a> {
    let keys = keys.iter().map(String::as_str).collect();
    Noise { seed: 1, purpose: Purpose::Attack, round: 0, keys }
}

struct Bench<'a> {
    network: Network,
    index: i64,
    images: Tensor,
    labels: Tensor,
    keys: Vec<String>,
    settings: &'a Settings,
}

impl<'a> Bench<'a> {
    fn new(network: Network, index: i64, batch: i64, side: u32, settings: &'a Settings) -> Self {
        let device = network.device();
        let labels = Tensor::arange(batch, (Kind::Int64, device)).remainder(5);
        let keys = (0..batch).map(|i| i.to_string()).collect();
        Self { network, index, images: pictures(batch, side).to_device(device), labels, keys, settings }
    }

    fn fgsm(&self) -> Result<f64> {
        let frozen = self.network.frozen();
        self.rate(|| {
            for _ in 0..STEPS {
                let objective = Objective::CrossEntropy(&self.labels);
                let _ =
                    Attack::FGSM.craft(&|x| frozen.logits(x), &self.images, &objective, EPSILON, &noise(&self.keys));
            }
            Ok(())
        })
    }

    fn training(&self) -> Result<f64> {
        let epsilon = Epsilon::new(EPSILON).unwrap_or(Epsilon::ZERO);
        let adversary = StepAdversary { method: Adversary::NFgsm, epsilon, step: 1.0, noise: 2.0 };
        let plan = RoundPlan {
            round: 0,
            first_step: STEPS, // beyond the ramp
            total_steps: 2 * STEPS,
            steps: STEPS,
            rate: 1e-6,
            seed: 1,
            adversary: Some(adversary),
            train: &self.settings.train,
            ramp: &self.settings.adversary,
        };
        let mut optimizer = AdamW::new(self.network.leaves(), &self.settings.train);
        self.rate(|| {
            let batch = || {
                let (images, labels) = (self.images.shallow_clone(), self.labels.shallow_clone());
                Ok(Batch { images, adversarial: None, labels, keys: self.keys.clone() })
            };
            round(&self.network, &mut optimizer, &mut std::iter::repeat_with(batch), &plan, &|_| ()).map(drop)
        })
    }

    /// Images per second of `work`, which takes [`STEPS`] batches.
    fn rate(&self, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        work()?;
        Cuda::synchronize(self.index);
        let start = Instant::now();
        work()?;
        Cuda::synchronize(self.index);
        Ok(f64::from(STEPS) * self.keys.len() as f64 / start.elapsed().as_secs_f64())
    }
}
