//! A TorchScript network on a device.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::{CModule, Device, Kind, TchError, Tensor};

use super::brought::ScriptSpec;
use crate::error::{Context, Error, Result};

/// Every message about a file begins like one of these.
const ABOUT: &str = "the TorchScript file";
const ABOUT_GRADIENT: &str = "the model's gradient";

/// A traced or scripted network with the pixel scale in front of it.
#[derive(Debug)]
pub struct Script {
    module: CModule,
    /// For messages.
    file: String,
    classes: i64,
    mean: Tensor,
    std: Tensor,
    device: Device,
    differentiable: bool,
    looks: Arc<AtomicU64>,
}

impl Script {
    /// Loads the file in `bytes` and tries it, there and back, on batches of one and of three grey pictures.
    ///
    /// The file is a program, which libtorch's interpreter runs: it must come from people who are
    /// trusted. The interpreter's optimiser is turned off: it would respecialise for every batch size
    /// and change the last bits between the first calls and later ones.
    ///
    /// # Errors
    /// When the file is damaged, does not take such pictures, or does not give a logit for each class.
    pub fn load(spec: &ScriptSpec, bytes: &[u8], device: Device) -> Result<Self> {
        tch::jit::set_graph_executor_optimize(false);
        let module = CModule::load_data_on_device(&mut &bytes[..], device);
        let damaged = || format!("{ABOUT} {} is damaged", spec.file);
        let mut module = module.context(crate::error::Kind::Model, damaged)?;
        module.set_eval();
        // Else every step would pay for gradients that nobody reads.
        for (_, parameter) in module.named_parameters().unwrap_or_default() {
            let _ = parameter.set_requires_grad(false);
        }
        let channels = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(device);
        let (mean, std) = (channels(spec.mean), channels(spec.std));
        let (file, classes, looks) = (spec.file.clone(), spec.classes.len() as i64, Arc::default());
        let mut script = Self { module, file, classes, mean, std, device, differentiable: false, looks };
        let side = i64::from(spec.input_size);
        for count in [1, 3] {
            let pictures = Tensor::full([count, 3, side, side], 0.5, (Kind::Float, device)).set_requires_grad(true);
            let logits = script.attempt(&pictures)?;
            let back = || Tensor::f_run_backward(&[logits.sum(Kind::Float)], &[&pictures], false, false);
            script.differentiable = logits.requires_grad() && back().is_ok();
        }
        Ok(script)
    }

    /// The same network counting in `looks` how often it is shown images.
    pub fn counted(self, looks: Arc<AtomicU64>) -> Self {
        Self { looks, ..self }
    }

    /// Logits `[N, K]` of `images`: `[N, 3, H, W]`, f32 in `[0, 1]`. Differentiable in `images` where
    /// [`is_differentiable`](Self::is_differentiable).
    ///
    /// # Panics
    /// When the program in the file fails on images unlike those it was tried on: without a word, up to [`caught`] or
    /// to whoever else catches it, who is given the message.
    pub fn logits(&self, images: &Tensor) -> Tensor {
        // `no_grad` around it would leave gradients off for good; `with_grad` leaves them on in the same way.
        self.attempt(images).unwrap_or_else(|e| tch::with_grad(|| resume_unwind(Box::new(e.chain()))))
    }

    fn attempt(&self, images: &Tensor) -> Result<Tensor> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let input = (images - &self.mean) / &self.std;
        let (file, count, classes) = (&self.file, images.size()[0], self.classes);
        let logits = self.module.forward_ts(&[input]).map_err(|e| {
            let side = images.size()[2];
            Error::model(format!("{ABOUT} {file} does not take these {count} pictures of {side}x{side} pixels"))
                .because(first_line(&e))
        })?;
        let expected = [count, classes];
        if logits.size() != expected {
            let given = logits.size();
            return Err(Error::model(format!(
                "{ABOUT} {file} gives {given:?} for {count} pictures and {classes} classes; needed is {expected:?}"
            )));
        }
        Ok(logits.to_kind(Kind::Float))
    }

    /// Whether gradients reach the images.
    pub fn is_differentiable(&self) -> bool {
        self.differentiable
    }

    /// The device it is on.
    pub fn device(&self) -> Device {
        self.device
    }
}

/// Ends the work under way because a model that gave logits fails on the way back, up to [`caught`].
pub fn no_gradient(error: &TchError) -> ! {
    resume_unwind(Box::new(format!("{ABOUT_GRADIENT} cannot be computed: {}", first_line(error))))
}

/// Runs `work`. That a TorchScript file fails in it is an error, though attacks know of none.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| match panic.downcast_ref::<String>() {
        Some(said) if [ABOUT, ABOUT_GRADIENT].iter().any(|about| said.starts_with(about)) => {
            Err(Error::model(said.as_str()))
        }
        _ => resume_unwind(panic),
    })
}

/// libtorch's messages go on with a trace of its own stack.
fn first_line(error: &TchError) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("frame #"));
    let mut telling = lines.filter(|line| line.contains("Error") || line.contains("rror:"));
    telling.next_back().or(text.lines().next()).unwrap_or_default().to_string()
}
