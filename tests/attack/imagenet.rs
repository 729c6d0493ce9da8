//! The network that is attacked by default, with the ImageNet weights that `make setup` brings in.

use serde_json::Value;

use crate::scene::{Scene, program, refused, text};

#[test]
fn a_photo_is_attacked_as_imagenet_sees_it() {
    let scene = Scene::new();
    let photos = scene.path("photos");
    let mut draw = program();
    draw.args(["dataset", "synth", "--per-class", "1", "--val-per-class", "0", "--size", "256", "--out"]).arg(&photos);
    assert!(draw.output().unwrap().status.success());
    let photo = photos.join("daisy/daisy-00000.jpg");
    let attack = |more: &[&str]| {
        let mut command = program();
        command.arg("attack").arg(&photo).arg("--out").arg(scene.path("out")).args(more);
        command
    };
    let record = |more: &[&str]| -> Value {
        let output = attack(more).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };

    let found = record(&["--epsilon", "0.01,0.15,0.2"]);
    assert_eq!((&found["attack"], &found["labelled"], &found["size"]), (&"fgsm".into(), &"model".into(), &224.into()));
    assert_eq!(found["clean"][0]["name"], found["label"]["name"]);
    let findings = found["findings"].as_array().unwrap();
    for (finding, (epsilon, levels)) in findings.iter().zip([(0.01, 2), (0.15, 38), (0.2, 51)]) {
        let (float, saved) = (&finding["float"], &finding["saved"]);
        assert!((float["linf"].as_f64().unwrap() - epsilon).abs() < 1e-6, "{float}");
        assert_eq!((&saved["levels"], saved["top"].as_array().unwrap().len()), (&levels.into(), 5), "{saved}");
    }
    assert_eq!(findings.len(), 3);

    let bee = record(&["--target", "bee", "--method", "pgd40", "--epsilon", "4/255"]);
    assert_eq!((&bee["target"]["index"], &bee["findings"][0]["saved"]["top"][0]["name"]), (&309.into(), &"bee".into()));

    let wrong = record(&["--label", "Labrador retriever"]);
    assert_eq!((&wrong["label"]["index"], &wrong["state"]), (&208.into(), &"misclassified".into()));
    let (code, said) = refused(attack(&["--label", "labrador retreiver"]));
    assert!(code == 2 && said.contains("did you mean 'Labrador retriever' (208)"), "{said}");
    let (code, said) = refused(attack(&["--label", "1000"]));
    assert!(code == 2 && said.contains("out of range"), "{said}");
}
