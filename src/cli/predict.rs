//! `hardy predict`: what a model says of photos.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use image::RgbImage;
use serde::Serialize;

use super::SettingsArgs;
use super::model::ScriptArgs;
use crate::config::DataSettings;
use crate::dataset::{decode::decode, folder, view};
use crate::error::{Context, Error, Kind, Result};
use crate::model::predict::{predict, top};
use crate::model::{self, Classifier, Described};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy predict --model flowers-run/model rose.jpg tulip.png
  hardy predict --model imagenet holiday/ --top 5
  curl -s https://example.org/daisy.jpg | hardy predict --model flowers-run/model -
  hardy predict --model flowers-run/model my-photos --json | jq .accuracy

In a folder, a photo in a folder named like a class of the model is one of that class: then the accuracy is
printed too. A photo that cannot be read is named; the others are predicted, and the exit code is 3.")]
pub(super) struct PredictArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// A model's folder or file, TorchScript too, or `imagenet`.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    script: ScriptArgs,
    /// How many classes to print for each photo.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Photos and folders of them; `-` is a photo on standard input.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

/// A photo to look at.
#[derive(Debug, PartialEq)]
struct Photo {
    path: PathBuf,
    /// The class whose folder it lies in.
    class: Option<usize>,
}

#[derive(Debug, Default, Serialize)]
struct Answers {
    photos: Vec<Answer>,
    unreadable: Vec<Unreadable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Accuracy>,
}

#[derive(Debug, Serialize)]
struct Answer {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    predictions: Vec<Prediction>,
}

#[derive(Debug, Serialize)]
struct Prediction {
    class: String,
    confidence: f32,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    path: String,
    reason: String,
}

/// Of the photos whose class is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Accuracy {
    n: usize,
    correct: usize,
}

pub(super) fn run(args: PredictArgs, json: bool) -> Result<()> {
    let settings = args.settings.resolve()?.settings;
    let brought = args.script.bring(&args.model)?;
    let spec = &brought.spec;
    let photos = find(&args.images, spec.classes())?;
    let classifier = Classifier::load(spec, &brought.bytes, model::device(&settings.model.device)?)?;
    let mut answers = Answers::default();
    let mut output = std::io::stdout().lock();
    for photos in photos.chunks(settings.evaluate.batch.max(1)) {
        let before = answers.photos.len();
        answer(&classifier, spec, photos, &settings.data, args.top.into(), &mut answers);
        if !json {
            let text: String = answers.photos[before..].iter().map(line).collect();
            write(&mut output, &text)?;
        }
    }
    if json {
        let text = serde_json::to_string(&answers).context(Kind::Internal, || "the answers have no JSON".into())?;
        write(&mut output, &(text + "\n"))?;
    } else if let Some(Accuracy { n, correct }) = answers.accuracy {
        write(&mut output, &format!("{correct} of {n} right, {:.1} %\n", 100.0 * correct as f64 / n as f64))?;
    }
    for Unreadable { path, reason } in &answers.unreadable {
        eprintln!("hardy: {path}: {reason}");
    }
    match answers.unreadable.len() {
        0 => Ok(()),
        count => Err(Error::data(format!("{count} of {} photos cannot be used", photos.len()))),
    }
}

fn write(output: &mut impl Write, text: &str) -> Result<()> {
    match output.write_all(text.as_bytes()) {
        // Whoever reads the pipe has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context(Kind::Storage, || "the output cannot be written".into()),
    }
}

/// The photos that `images` name. A folder gives all files below it whose names are those of pictures.
fn find(images: &[PathBuf], classes: &[String]) -> Result<Vec<Photo>> {
    let mut photos = Vec::new();
    for path in images {
        if path.is_dir() {
            let before = photos.len();
            for (name, _) in folder::list(path)? {
                let hidden = name.split('/').any(|part| part.starts_with('.'));
                if !hidden && image::ImageFormat::from_path(&name).is_ok() {
                    photos.push(Photo { class: class(&name, classes), path: path.join(name) });
                }
            }
            if photos.len() == before {
                return Err(Error::data(format!("folder {} holds no photos", path.display())));
            }
        } else if path.as_os_str() == "-" || path.exists() {
            photos.push(Photo { path: path.clone(), class: None });
        } else {
            return Err(Error::not_found(format!("there is no photo {}", path.display())));
        }
    }
    Ok(photos)
}

/// The class that the innermost folder of `name` with the name of a class stands for.
fn class(name: &str, classes: &[String]) -> Option<usize> {
    name.split('/').rev().skip(1).find_map(|part| classes.iter().position(|class| class == part))
}

/// Adds what the model says of `photos` to `answers`.
fn answer(
    classifier: &Classifier,
    spec: &Described,
    photos: &[Photo],
    limits: &DataSettings,
    count: usize,
    answers: &mut Answers,
) {
    let mut readable = Vec::new();
    let mut views = Vec::new();
    for photo in photos {
        match read(&photo.path, limits) {
            Ok(image) => {
                views.push(view::plain(&image, spec.input_size(), spec.resize()));
                readable.push(photo);
            }
            Err(reason) => answers.unreadable.push(Unreadable { path: shown(&photo.path), reason }),
        }
    }
    for (photo, confidence) in readable.into_iter().zip(predict(classifier, &views)) {
        let best = top(&confidence, count);
        if let Some(class) = photo.class {
            let accuracy = answers.accuracy.get_or_insert(Accuracy { n: 0, correct: 0 });
            accuracy.n += 1;
            accuracy.correct += usize::from(best.first() == Some(&class));
        }
        let name = |class: usize| spec.classes()[class].clone();
        let predictions = best.into_iter().map(|i| Prediction { class: name(i), confidence: confidence[i] }).collect();
        answers.photos.push(Answer { path: shown(&photo.path), class: photo.class.map(name), predictions });
    }
}

fn read(path: &Path, limits: &DataSettings) -> std::result::Result<RgbImage, String> {
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(|e| format!("cannot be opened: {e}"))?)
    };
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to be refused.
    input.take(limits.max_file_bytes + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    decode(&bytes, limits)
}

/// `path` on one line, whatever it holds.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn line(answer: &Answer) -> String {
    let predictions = answer.predictions.iter();
    let classes: Vec<String> = predictions.map(|p| format!("{} {:.1} %", p.class, 100.0 * p.confidence)).collect();
    format!("{}: {}\n", answer.path, classes.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Layers, Resize};
    use crate::model::{ModelSpec, Network};

    fn spec() -> ModelSpec {
        ModelSpec {
            architecture: Architecture::HardySmall,
            classes: ["daisy", "rose", "tulip"].map(String::from).to_vec(),
            input_size: 32,
            resize: Resize::Squash,
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }

    fn answers(folder: &Path) -> Answers {
        let weights = model::fresh(Architecture::HardySmall, 3, 1);
        let network = Network::load(&spec(), &weights, tch::Device::Cpu).unwrap();
        let described = Described::Network(spec());
        let settings = Layers::new().unwrap().resolve().unwrap().settings;
        let photos = find(&[folder.to_path_buf()], described.classes()).unwrap();
        let mut answers = Answers::default();
        answer(&network.into(), &described, &photos, &settings.data, 2, &mut answers);
        answers
    }

    #[test]
    fn a_folder_of_class_folders_has_an_accuracy_and_unreadable_photos_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, level) in [("daisy/a.png", 10), ("val/rose/b c.png", 200), ("rose/deep/d.png", 90), ("e.png", 0)] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(40, 30, image::Rgb([level, 80, 255 - level])).save(&path).unwrap();
        }
        std::fs::write(folder.path().join("rose/broken.jpg"), b"not a photo").unwrap();
        std::fs::write(folder.path().join("README.md"), b"# notes").unwrap();
        let answers = answers(folder.path());

        let classes: Vec<Option<&str>> = answers.photos.iter().map(|a| a.class.as_deref()).collect();
        assert_eq!(classes, [Some("daisy"), None, Some("rose"), Some("rose")]);
        assert_eq!(answers.unreadable.len(), 1);
        assert!(answers.unreadable[0].path.ends_with("rose/broken.jpg"));
        let right = answers.photos.iter().filter(|a| a.class.as_ref() == Some(&a.predictions[0].class)).count();
        assert_eq!(answers.accuracy, Some(Accuracy { n: 3, correct: right }));
        for answer in &answers.photos {
            let [first, second] = &answer.predictions[..] else { panic!("two classes were asked for") };
            assert!(first.confidence >= second.confidence && first.confidence + second.confidence <= 1.0 + 1e-6);
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_before_anything_is_computed() {
        let folder = tempfile::tempdir().unwrap();
        let missing = find(&[folder.path().join("absent.jpg")], &[]).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        assert_eq!(find(&[folder.path().to_path_buf()], &[]).unwrap_err().kind(), Kind::Data);
    }

    #[test]
    fn a_name_stays_on_its_line() {
        assert_eq!(shown(Path::new("a\nb\u{1b}[2J ü.jpg")), "a\\nb\\u{1b}[2J ü.jpg");
    }
}
