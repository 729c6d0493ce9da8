//! A TorchScript file where a model of Hardy's own could stand.

use serde_json::Value;

use crate::scene::{Scene, fixture, program, text};

#[test]
fn predict_and_evaluate_take_a_traced_and_a_scripted_file_alike() {
    let scene = Scene::new();
    let photos = scene.photos(5);
    let names = scene.path("names.txt");
    std::fs::write(&names, "reddish\ngreenish\nbluish\n").unwrap();
    let run = |command: &str, model: &str, more: &[&str]| -> Value {
        let mut run = program();
        run.args(["--json", command, "--model"]).arg(fixture(model)).args(more);
        if model == "scripted.pt" {
            run.args(["--input-size", "32", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]);
            run.arg("--classes").arg(&names);
        }
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let photos = photos.to_str().unwrap();
    for model in ["traced.pt", "scripted.pt"] {
        let seen = run("predict", model, &[photos]);
        assert_eq!(seen["accuracy"], serde_json::json!({ "n": 15, "correct": 15 }), "{model}");
    }
    let with =
        ["--data", photos, "--set", "evaluate.attacks=[\"fgsm\", \"pgd5\"]", "--set", "evaluate.epsilons=[\"16/255\"]"];
    let (traced, scripted) = (run("evaluate", "traced.pt", &with), run("evaluate", "scripted.pt", &with));
    let correct = |rows: &Value| -> Vec<u64> {
        rows["results"].as_array().unwrap().iter().map(|row| row["correct"].as_u64().unwrap()).collect()
    };
    assert_eq!(correct(&traced), correct(&scripted));
    let of = |attack: &str| -> u64 {
        let rows = traced["results"].as_array().unwrap();
        rows.iter().find(|row| row["attack"] == attack).unwrap()["correct"].as_u64().unwrap()
    };
    let (clean, fgsm, pgd) = (of("clean"), of("fgsm"), of("pgd5"));
    assert!(clean == 15 && fgsm < 15 && pgd <= fgsm, "{traced}");
}

#[test]
fn the_input_size_can_be_another_one() {
    let scene = Scene::new();
    let photo = scene.picture("a.png", 2, 1);
    let record = scene.attacked(&photo, "out", &["--input-size", "48"]);
    assert_eq!((&record["size"], &record["label"]["name"]), (&48.into(), &"bluish".into()));
}
