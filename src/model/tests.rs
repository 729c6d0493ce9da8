//! What timm, PyTorch and `torch.save` say, from `tests/python/model_fixtures.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use tch::{Device, Tensor};

use super::architecture::Design;
use super::import::{imagenet, load_bytes, load_file, with_timm_names};
use super::weights::Array;
use super::*;
use crate::config::{Architecture, Layers, Resize};
use crate::dataset::{decode::decode, view};
use crate::error::Kind;

/// The same numbers as `tests/python/formula.py`.
fn fractions(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = name.bytes().fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    (0..count as u32).map(move |index| {
        let mut x = index.wrapping_mul(2_654_435_761).wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        f64::from((x ^ (x >> 16)) >> 8) / f64::from(1 << 24)
    })
}

fn formula(name: &str, shape: &[usize]) -> Array {
    let count = shape.iter().product();
    let inputs: usize = shape.iter().skip(1).product();
    let values = fractions(name, count).map(|u| match shape.len() {
        0 => 0.0,
        1 if name.ends_with("running_var") || name.ends_with(".weight") => (0.5 + u) as f32,
        1 => (u - 0.5) as f32,
        _ => ((2.0 * u - 1.0) * (3.0 / inputs as f64).sqrt()) as f32,
    });
    Array { shape: shape.to_vec(), values: values.collect() }
}

/// One picture `[1, 3, height, width]` in `[0, 1)`.
pub(super) fn formula_images(height: i64, width: i64) -> Tensor {
    images(height, width)
}

fn images(height: i64, width: i64) -> Tensor {
    let values: Vec<f32> = fractions("images", (3 * height * width) as usize).map(|u| u as f32).collect();
    Tensor::from_slice(&values).view([1, 3, height, width])
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model").join(name)
}

fn json<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Logits {
    height: i64,
    width: i64,
    values: Vec<f32>,
}

#[derive(Deserialize)]
struct Reference {
    tensors: Vec<(String, Vec<usize>, String)>,
    logits: Vec<Logits>,
}

fn reference(architecture: Architecture) -> Reference {
    json::<BTreeMap<String, Reference>>("timm.json").remove(&architecture.to_string()).unwrap()
}

const TIMM: [Architecture; 3] = [Architecture::TfEfficientnetLite0, Architecture::Resnet18, Architecture::Resnet50];

fn timm_weights(architecture: Architecture) -> Weights {
    let tensors = reference(architecture).tensors;
    tensors.into_iter().map(|(name, shape, _)| (name.clone(), formula(&name, &shape))).collect()
}

fn spec(architecture: Architecture, classes: usize) -> ModelSpec {
    let Design { mean, std, .. } = Design::of(architecture);
    let classes = (0..classes).map(|i| format!("class {i}")).collect();
    ModelSpec { architecture, classes, input_size: 64, resize: Resize::Squash, mean, std }
}

fn assert_logits(architecture: Architecture, folded: &Weights, expected: &Logits) {
    let spec = spec(architecture, expected.values.len());
    let logits = Network::load(&spec, folded, Device::Cpu).unwrap().logits(&images(expected.height, expected.width));
    let difference = (logits.get(0) - Tensor::from_slice(&expected.values)).abs().max().double_value(&[]);
    assert!(difference < 1e-4, "{architecture} at {}x{}: off by {difference}", expected.height, expected.width);
}

#[test]
fn folded_networks_give_timms_logits() {
    for architecture in TIMM {
        let folded = fold(architecture, &timm_weights(architecture)).unwrap();
        for expected in reference(architecture).logits {
            assert_logits(architecture, &folded, &expected);
        }
    }
}

#[test]
fn imported_imagenet_weights_give_timms_logits() {
    let architecture = Architecture::TfEfficientnetLite0;
    let folded = fold(architecture, &imagenet(architecture).unwrap()).unwrap();
    assert_logits(architecture, &folded, &json("imagenet.json"));
}

/// What PyTorch sees is from `tests/python/imagenet_reference.py`.
#[test]
#[cfg_attr(not(imagenet_photos), ignore = "HARDY_IMAGENET_PHOTOS named no folder when this was compiled")]
fn real_photos_are_classified_as_pytorch_does() {
    let folder = PathBuf::from(std::env::var_os("HARDY_IMAGENET_PHOTOS").expect("HARDY_IMAGENET_PHOTOS"));
    let (spec, weights) = load_model(Path::new("imagenet")).unwrap();
    let network = Network::load(&spec, &weights, Device::Cpu).unwrap();
    let limits = Layers::new().unwrap().resolve().unwrap().settings.data;
    let reference: BTreeMap<String, i64> = json("imagenet_photos.json");
    assert_eq!(reference.len(), 64);
    for (file, class) in reference {
        let photo = decode(&std::fs::read(folder.join(&file)).unwrap(), &limits).unwrap();
        let view = view::plain(&photo, spec.input_size, spec.resize);
        let logits = tch::no_grad(|| network.logits(&super::images::tensor([&view])));
        assert_eq!(logits.argmax(1, false).int64_value(&[0]), class, "{file}");
    }
}

#[test]
fn the_exported_file_has_exactly_timms_tensors() {
    for architecture in TIMM {
        let folded = fold(architecture, &timm_weights(architecture)).unwrap();
        let bytes = checkpoint::write(&export(architecture, &folded).unwrap()).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut ours: Vec<(String, Vec<usize>, String)> = Vec::new();
        for (name, view) in file.tensors() {
            let kind = if view.dtype() == safetensors::Dtype::I64 { "torch.int64" } else { "torch.float32" };
            ours.push((name, view.shape().to_vec(), kind.to_string()));
        }
        let mut timms = reference(architecture).tensors;
        ours.sort();
        timms.sort();
        assert_eq!(ours, timms, "{architecture}");
    }
}

#[test]
fn exporting_and_folding_again_changes_nothing() {
    for architecture in TIMM.into_iter().chain([Architecture::HardySmall]) {
        let folded = fresh(architecture, 5, 3);
        let again = fold(architecture, &export(architecture, &folded).unwrap()).unwrap();
        assert_eq!(folded.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
        for (name, array) in &folded {
            for (a, b) in array.values.iter().zip(&again[name].values) {
                assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "{architecture} {name}: {a} became {b}");
            }
        }
    }
}

#[test]
fn a_saved_model_is_loaded_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let architecture = Architecture::HardySmall;
    let (spec, folded) = (spec(architecture, 5), fresh(architecture, 5, 3));
    let metrics = serde_json::json!({ "clean": 0.9 });
    save_model(folder.path(), &spec, &folded, metrics, serde_json::json!({ "name": "j" })).unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join(WEIGHTS_FILE)] {
        assert_eq!(load_model(&path).unwrap(), (spec.clone(), folded.clone()));
    }
    let description: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join(SPEC_FILE)).unwrap()).unwrap();
    assert_eq!(description["architecture"], "hardy_small");
    assert_eq!(description["metrics"]["clean"], 0.9);

    let fewer = ModelSpec { classes: spec.classes[..4].to_vec(), ..spec };
    let text = serde_json::to_vec(&fewer).unwrap();
    std::fs::write(folder.path().join(SPEC_FILE), text).unwrap();
    let error = load_model(folder.path()).unwrap_err();
    assert!(error.to_string().contains("names 4 classes") && error.to_string().contains("tells 5 apart"), "{error}");
    assert_eq!(load_model(&folder.path().join("absent")).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn imagenet_is_a_model_with_a_thousand_classes() {
    let (spec, weights) = load_model("imagenet".as_ref()).unwrap();
    assert_eq!((spec.classes.len(), spec.classes[208].as_str()), (1000, "Labrador retriever"));
    assert_eq!(weights["classifier.weight"].shape, [1000, 1280]);
}

#[test]
fn errors_name_the_tensor_and_both_shapes() {
    let architecture = Architecture::Resnet18;
    let refusal = |change: &dyn Fn(&mut Weights)| {
        let mut weights = timm_weights(architecture);
        change(&mut weights);
        fold(architecture, &weights).unwrap_err().to_string()
    };
    let misshapen =
        refusal(&|w| drop(w.insert("layer1.0.conv1.weight".into(), Array::filled(vec![64, 32, 3, 3], 0.0))));
    assert!(misshapen.contains("'layer1.0.conv1.weight' has shape [64, 32, 3, 3]"), "{misshapen}");
    assert!(misshapen.contains("resnet18 needs [64, 64, 3, 3]"), "{misshapen}");
    let missing = refusal(&|w| drop(w.remove("layer4.1.bn2.running_var")));
    assert!(missing.contains("'layer4.1.bn2.running_var' is missing") && missing.contains("[512]"), "{missing}");
    let extra = refusal(&|w| drop(w.insert("aux.weight".into(), Array::filled(vec![2, 3], 0.0))));
    assert!(extra.contains("'aux.weight' of shape [2, 3] is not part of resnet18"), "{extra}");
    let headless = refusal(&|w| drop(w.remove("fc.weight")));
    assert!(headless.contains("'fc.weight' is missing") && headless.contains("[classes, 512]"), "{headless}");

    let other = fold(Architecture::Resnet50, &timm_weights(architecture)).unwrap_err().to_string();
    assert!(other.contains("these are resnet18's weights, not resnet50's"), "{other}");
}

#[test]
fn a_new_head_leaves_the_body_alone() {
    let architecture = Architecture::HardySmall;
    let before = fresh(architecture, 5, 1);
    let after = new_head(&before, architecture, 7, 2);
    assert_eq!(after["head.weight"].shape, [7, 96]);
    assert_eq!(after["head.bias"].shape, [7]);
    assert!(before.iter().filter(|(name, _)| !name.starts_with("head")).all(|(name, array)| after[name] == *array));
    assert_eq!(after, new_head(&before, architecture, 7, 2));
    assert_ne!(after, new_head(&before, architecture, 7, 3));
}

#[derive(Deserialize, PartialEq, Debug)]
struct Plain {
    shape: Vec<usize>,
    values: Vec<f64>,
}

#[test]
fn torch_files_hold_what_torch_put_into_them() {
    let expected: BTreeMap<String, Plain> = json("files.json");
    for name in ["zip.pth", "legacy.pth", "wrapped.pth"] {
        let found = load_file(&fixture(name)).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        for (tensor, array) in found {
            assert_eq!(array.shape, expected[&tensor].shape, "{name}: {tensor}");
            let values: Vec<f32> = expected[&tensor].values.iter().map(|&v| v as f32).collect();
            assert_eq!(array.values, values, "{name}: {tensor}");
        }
    }
    let module = load_file(&fixture("module.pth")).unwrap();
    assert_eq!(module["0.weight"].shape, [1, 2]);
    assert_eq!(module["1.num_batches_tracked"].values, [0.0]);
}

#[test]
fn a_pickle_that_asks_for_anything_but_tensors_is_refused_by_name() {
    for name in ["malicious_zip.pth", "malicious_legacy.pth", "malicious.pkl"] {
        let error = load_file(&fixture(name)).unwrap_err();
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.chain().contains("asks to run posix.system"), "{name}: {}", error.chain());
    }
    let error = load_file(&fixture("whole_module.pth")).unwrap_err().chain();
    assert!(error.contains("asks to run torch.nn.modules.linear.Linear"), "{error}");
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    for name in ["zip.pth", "legacy.pth"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for length in [0, 1, 2, 20, bytes.len() / 2, bytes.len() - 1] {
            assert_eq!(load_bytes(&bytes[..length]).unwrap_err().kind(), Kind::Model, "{name} cut to {length}");
        }
    }
    assert_eq!(load_file(&fixture("absent.pth")).unwrap_err().kind(), Kind::NotFound);
    assert!(load_bytes(b"\x89PNG\r\n\x1a\n and so on").unwrap_err().to_string().contains("neither safetensors nor"));
}

#[test]
fn an_old_file_without_counters_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    let mut old = timm_weights(Architecture::Resnet18);
    old.retain(|name, _| !name.ends_with("num_batches_tracked"));
    std::fs::write(&path, checkpoint::write(&old).unwrap()).unwrap();
    for named in [Some(Architecture::Resnet18), None] {
        let (architecture, read) = import::timm_weights(named, &path).unwrap();
        assert_eq!((architecture, read), (Architecture::Resnet18, timm_weights(Architecture::Resnet18)));
    }
}

#[test]
fn the_ports_names_become_timms() {
    let ours = timm_weights(Architecture::TfEfficientnetLite0);
    let renamed = |name: &str| {
        let weights = Weights::from([
            ("_conv_stem.weight".to_string(), Array::filled(vec![], 0.0)),
            (name.to_string(), Array::filled(vec![], 0.0)),
        ]);
        with_timm_names(Architecture::TfEfficientnetLite0, weights)
    };
    for (theirs, timms) in [
        ("_bn0.running_mean", "bn1.running_mean"),
        ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
        ("_blocks.15._bn0.weight", "blocks.6.0.bn1.weight"),
        ("_blocks.1._project_conv.weight", "blocks.1.0.conv_pwl.weight"),
        ("_bn1.weight", "bn2.weight"),
        ("_fc.bias", "classifier.bias"),
    ] {
        assert!(ours.contains_key(timms) && renamed(theirs).contains_key(timms), "{theirs}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn changed_files_never_panic(which in 0usize..3, changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let name = ["zip.pth", "legacy.pth", "wrapped.pth"][which];
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = load_bytes(&bytes);
    }

    #[test]
    fn changed_pickles_never_panic(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut bytes = std::fs::read(fixture("legacy.pth")).unwrap();
        // Past the magic number, where the tensors are described.
        for (at, value) in changes {
            let at = 40 + at % 1100;
            bytes[at] = value;
        }
        let _ = load_bytes(&bytes);
    }
}
