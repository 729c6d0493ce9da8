//! An attack on exported images, to be set beside those of other projects: benches/peers/attacks.py runs both.
//! Arguments: the model's folder, the images' folder (<class>/<key>.png at the network's size), the file to write,
//! epsilon, the attacks with commas between, the number of images (0 = all; taken from every class in turn), the
//! batch size (32), the number of threads (1), the seed (1). A query is an image that the network looks at.

#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hardy::attack::{Attack, Goal, Noise};
use hardy::config::Epsilon;
use hardy::model::{Network, images, load_model};
use hardy::seed::Purpose;
use serde_json::json;
use tch::{Device, Tensor};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [model, folder, out, epsilon, attacks] = &arguments[..5.min(arguments.len())] else {
        println!("attacks: nothing to do without MODEL IMAGES OUT EPSILON ATTACKS [COUNT [BATCH [THREADS [SEED]]]]");
        return;
    };
    let number = |i: usize, default: usize| arguments.get(i).map_or(default, |text| text.parse().unwrap());
    let (count, batch, threads, seed) = (number(5, 0), number(6, 32), number(7, 1), number(8, 1) as u64);
    tch::set_num_threads(threads as i32);
    let (spec, weights) = load_model(Path::new(model)).unwrap();
    let network = Network::load(&spec, &weights, Device::Cpu).unwrap().frozen();
    let queries = Cell::new(0);
    let logits = |x: &Tensor| {
        queries.set(queries.get() + x.size()[0]);
        network.logits(x)
    };
    let epsilon: Epsilon = epsilon.parse().unwrap();

    let files = files(Path::new(folder), &spec.classes, count);
    let pictures: Vec<_> = files.iter().map(|(_, path)| image::open(path).unwrap().to_rgb8()).collect();
    let predict = |x: &Tensor| Vec::<i64>::try_from(tch::no_grad(|| logits(x)).argmax(1, false)).unwrap();
    let clean: Vec<i64> = pictures.chunks(batch).flat_map(|part| predict(&images::tensor(part))).collect();
    let key = |path: &Path| path.with_extension("").strip_prefix(folder).unwrap().to_str().unwrap().to_string();
    let keys: Vec<String> = files.iter().map(|(_, path)| key(path)).collect();
    let right: Vec<usize> = (0..files.len()).filter(|&i| clean[i] == files[i].0).collect();
    println!("{} images, {} classified correctly, epsilon {epsilon}", files.len(), right.len());

    let mut measured = Vec::new();
    for name in attacks.split(',') {
        let attack: Attack = name.parse().unwrap();
        let (mut predicted, mut seconds) = (clean.clone(), 0.0);
        queries.set(0);
        for part in right.chunks(batch) {
            let x = images::tensor(part.iter().map(|&i| &pictures[i]));
            let labels = Tensor::from_slice(&part.iter().map(|&i| files[i].0).collect::<Vec<_>>());
            let keys = part.iter().map(|&i| keys[i].as_str()).collect();
            let noise = Noise { seed, purpose: Purpose::Attack, round: 0, keys };
            let began = Instant::now();
            let attempt = attack.attempt(&logits, &x, &Goal::Away(&labels), epsilon.value(), &noise);
            seconds += began.elapsed().as_secs_f64();
            for (&i, class) in part.iter().zip(Vec::<i64>::try_from(attempt.predicted).unwrap()) {
                predicted[i] = class;
            }
        }
        let robust = right.iter().filter(|&&i| predicted[i] == files[i].0).count();
        println!("{:>14}: {robust:>5} robust, {seconds:.1} s", attack.to_string());
        measured.push(json!({ "attack": attack.to_string(), "seconds": seconds, "queries": queries.get(), "predicted": predicted }));
        // Written after each: a long run that is cut off is not lost.
        let entries = keys.iter().zip(&files).zip(&clean);
        let entries: Vec<_> =
            entries.map(|((key, (label, _)), clean)| json!({ "key": key, "label": label, "clean": clean })).collect();
        let all = json!({
            "epsilon": epsilon, "batch": batch, "threads": threads, "images": entries, "attacks": measured,
        });
        std::fs::write(out, serde_json::to_vec_pretty(&all).unwrap()).unwrap();
    }
}

/// The pictures with their labels, a picture of each class in turn.
fn files(folder: &Path, classes: &[String], count: usize) -> Vec<(i64, PathBuf)> {
    let of_class = |class: &String| {
        let entries = std::fs::read_dir(folder.join(class)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let by_class: Vec<Vec<PathBuf>> = classes.iter().map(of_class).collect();
    let longest = by_class.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| {
        let labels = 0i64..;
        labels.zip(&by_class).filter_map(move |(label, paths)| Some((label, paths.get(turn)?.clone())))
    });
    turns.take(if count == 0 { usize::MAX } else { count }).collect()
}
