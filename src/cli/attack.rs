//! `hardy attack`: breaks a photo, or a folder of them, on purpose.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::meter::{Meter, Unit};
use super::model::{ScriptArgs, surrogate};
use super::run::{JobArgs, Request, keep_apart, perform};
use crate::attack::Attack;
use crate::config::Settings;
use crate::coordinator::Program;
use crate::dataset::{decode::decode, view};
use crate::error::{Context, Error, Kind, Result};
use crate::lab::{
    self, Budgets, Finding, Guess, Labelled, Models, Plan, Record, SUMMARY_FILE, Specimen, State, Subject, Summary,
};
use crate::model::{self, Brought, Classifier, write_whole};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hardy attack labrador.jpg                                   # FGSM at 0.01 on ImageNet weights
  hardy attack labrador.jpg --epsilon 0.01,0.15,0.2 --label \"Labrador retriever\"
  hardy attack labrador.jpg --min-epsilon --method pgd20
  hardy attack labrador.jpg --target \"tabby\" --method pgd40 --epsilon 4/255 --out broken
  hardy attack photos --model flowers-run/model --method pgd20 --epsilon 2/255 --out broken
  hardy attack photos --model resnet18.pt --input-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \\
    --classes imagenet --out broken

Of a photo: <stem>.adversarial.png (8 bits, within the ball of whole levels, decoded again and scored),
<stem>.comparison.png and <stem>.json; with several epsilons <stem>.EPSILON.adversarial.png and so on.
Of a folder: the same beside the place of each photo, and attack.json with the counts. The same command goes on
where an interrupted one stopped. In a folder of class folders these are the labels.")]
pub(super) struct AttackArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The photo, or a folder of photos.
    #[arg(value_name = "IMAGE|FOLDER")]
    photos: PathBuf,
    /// A model's folder or file, TorchScript too, or `imagenet`. Default: job.model.
    #[arg(long)]
    model: Option<PathBuf>,
    #[command(flatten)]
    script: ScriptArgs,
    /// The true class, name or number. Default: its folder's class, else what the model sees.
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    label: Option<String>,
    /// The class to reach, name or number. Default: any but the true one.
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    target: Option<String>,
    /// Make the images against this model and see whether they transfer; `imagenet`, a folder or a file.
    #[arg(long, value_name = "MODEL")]
    from: Option<String>,
    /// The attack. Default: attack.method, or the usual one of --norm.
    #[arg(long)]
    method: Option<String>,
    /// How far a value may move on the pixel scale [0, 1], or in l2 how long the whole change may be; several with
    /// commas.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, conflicts_with = "min_epsilon")]
    epsilon: Vec<String>,
    /// The norm that epsilon is in; must be the method's.
    #[arg(long, value_parser = ["linf", "l2", "l0"])]
    norm: Option<String>,
    /// Seek the smallest k/255 that works on the saved picture.
    #[arg(long)]
    min_epsilon: bool,
    /// Where the results go. Default for a photo: here.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(mut args: AttackArgs, as_json: bool, quiet: bool) -> Result<()> {
    let settings = settings(&args)?;
    if !args.photos.exists() {
        return Err(Error::not_found(format!("there is no photo or folder {}", args.photos.display())));
    }
    let model = args.model.take().unwrap_or_else(|| settings.job.model.clone().into());
    let brought = args.script.bring(&model)?;
    let surrogate = surrogate(&settings, &brought.spec)?;
    let settings = brought.spec.fit(settings);
    let plan = Plan::new(&settings.attack, brought.spec.classes())?;
    if let Budgets::Each(epsilons) = &plan.budgets
        && let Some(small) = epsilons.iter().find(|e| lab::norm_name(plan.attack.norm()) == "linf" && e.levels() == 0)
    {
        eprintln!("hardy: epsilon {small} is less than one of 255 levels: the saved picture will be the original");
    }
    if args.photos.is_dir() {
        let out = args.out.ok_or_else(|| Error::usage("a folder of photos needs --out FOLDER for its results"))?;
        keep_apart(&out, &args.photos)?;
        let mut request = Request::of(Program::Attack, settings, &args.photos, brought);
        request.models.surrogate = surrogate;
        perform(request, &out, as_json, quiet)?;
        return tell(&out, as_json);
    }
    let out = args.out.unwrap_or_else(|| ".".into());
    one(&args.photos, &out, &settings, (&brought, surrogate.as_ref()), &plan, (as_json, quiet))
}

/// All layers of settings, the flags of this command last.
fn settings(args: &AttackArgs) -> Result<Settings> {
    let mut layers = args.job.layers()?;
    let text = |text: &String| Value::String(text.clone());
    let mut flags = vec![("attack.label", args.label.as_ref().map(text), "--label")];
    flags.push(("attack.target", args.target.as_ref().map(text), "--target"));
    flags.push(("attack.from", args.from.as_ref().map(text), "--from"));
    let usual = args.norm.as_ref().map(|norm| match norm.as_str() {
        "l2" => "cw",
        "l0" => "one-pixel",
        _ => "fgsm",
    });
    let method = args.method.as_deref().or(usual).map(|method| Value::String(method.into()));
    flags.push(("attack.method", method, "--method"));
    let epsilons = (!args.epsilon.is_empty()).then(|| args.epsilon.iter().map(text).collect());
    flags.push(("attack.epsilons", epsilons, "--epsilon"));
    flags.push(("attack.smallest", args.min_epsilon.then_some(Value::Bool(true)), "--min-epsilon"));
    for (key, value, flag) in flags {
        if let Some(value) = value {
            layers = layers.flag(key, value, flag)?;
        }
    }
    let settings = layers.resolve()?.settings;
    if let Some(norm) = &args.norm {
        let attack: Attack = settings.attack.method.parse()?;
        let own = lab::norm_name(attack.norm());
        if own != norm {
            return Err(Error::usage(format!("--norm {norm} does not fit --method {attack}, an attack in {own}")));
        }
    }
    Ok(settings)
}

/// Prints the counts of a folder.
fn tell(out: &Path, as_json: bool) -> Result<()> {
    let path = out.join(SUMMARY_FILE);
    let text =
        std::fs::read_to_string(&path).context(Kind::Storage, || format!("{} cannot be read", path.display()))?;
    if as_json {
        println!("{}", text.trim());
        return Ok(());
    }
    let summary: Summary =
        serde_json::from_str(&text).context(Kind::Data, || format!("{} holds no counts", path.display()))?;
    print!("{}", summary.table());
    println!("\npictures, records and {SUMMARY_FILE} in {}", out.display());
    Ok(())
}

/// Attacks one photo here and now.
fn one(
    photo: &Path,
    out: &Path,
    settings: &Settings,
    (brought, surrogate): (&Brought, Option<&Brought>),
    plan: &Plan,
    (as_json, quiet): (bool, bool),
) -> Result<()> {
    let subject = subject(photo, settings, brought, plan)?;
    let device = model::device(&settings.model.device)?;
    let load = |model: &Brought| Classifier::load(&model.spec, &model.bytes, device);
    let (classifier, surrogate) = (load(brought)?, surrogate.map(load).transpose()?);
    let meter = Meter::new("seek", Unit::Things("levels"), quiet || plan.budgets != Budgets::Smallest);
    let step = |level: u8, _: usize| meter.show(level.into(), Some(u8::MAX.into()));
    let with = (settings.job.seed, settings.attack.comparisons);
    let models = Models { attacked: &classifier, surrogate: surrogate.as_ref(), classes: brought.spec.classes() };
    let found = lab::examine(&models, std::slice::from_ref(&subject), plan, with, &step)?;
    drop(meter);
    let Some(mut specimen) = found.into_iter().next() else {
        return Err(Error::internal("the lab lost a photo"));
    };
    if specimen.record.state == State::Target {
        let target = &specimen.record.label;
        return Err(Error::usage(format!(
            "the target '{}' ({}) is what the model sees already: there is nothing to do",
            target.name, target.index
        )));
    }
    let written = write(&mut specimen, &subject.stem, out, quiet)?;
    if as_json {
        let text = serde_json::to_string(&specimen.record).context(Kind::Internal, || "a record has no JSON".into())?;
        println!("{text}");
    } else {
        print!("{}", describe(&specimen.record, &brought.spec.architecture(), plan));
        for path in written {
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

fn subject(photo: &Path, settings: &Settings, brought: &Brought, plan: &Plan) -> Result<Subject> {
    let unusable = |reason: String| Error::data(format!("{}: {reason}", photo.display()));
    let bytes = std::fs::read(photo).map_err(|e| unusable(format!("cannot be read: {e}")))?;
    let decoded = decode(&bytes, &settings.data).map_err(unusable)?;
    let size = brought.spec.input_size();
    let enlarged = view::is_small(decoded.dimensions(), size);
    if enlarged {
        let (width, height) = decoded.dimensions();
        eprintln!(
            "hardy: {} has {width}x{height} pixels, less than the {size}x{size} of the model: it is enlarged",
            photo.display()
        );
    }
    let name = photo.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Subject {
        image: photo.to_string_lossy().into_owned(),
        stem: photo.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        key: name,
        view: view::plain(&decoded, size, brought.spec.resize()),
        enlarged,
        label: plan.label.map(|label| (label, Labelled::Given)),
    })
}

/// Writes the files of a photo, the record last: where it is, everything is. Those of an older run go first.
fn write(specimen: &mut Specimen, stem: &str, out: &Path, quiet: bool) -> Result<Vec<PathBuf>> {
    let json = out.join(format!("{stem}.json"));
    if let Ok(old) = std::fs::read(&json) {
        let Ok(old) = serde_json::from_slice::<Record>(&old) else {
            return Err(Error::usage(format!(
                "{} is there already and is not of an attack; choose another --out or remove it",
                json.display()
            )));
        };
        if !quiet {
            eprintln!("hardy: the older results of {stem} in {} are replaced", out.display());
        }
        let names = old.findings.iter().flat_map(|f| [&f.saved.picture, &f.saved.comparison]);
        // Names only: a record that was tampered with must not reach beyond its folder.
        for name in names.filter(|name| Path::new(name).file_name().is_some_and(|file| file == name.as_str())) {
            let _ = std::fs::remove_file(out.join(name));
        }
        std::fs::remove_file(&json).context(Kind::Storage, || format!("{} cannot be removed", json.display()))?;
    }
    let mut written = Vec::new();
    for (finding, pictures) in specimen.record.findings.iter_mut().zip(&specimen.pictures) {
        let saved = &mut finding.saved;
        write_whole(&out.join(&saved.picture), &pictures.adversarial)?;
        written.push(out.join(&saved.picture));
        match &pictures.comparison {
            Some(comparison) => {
                write_whole(&out.join(&saved.comparison), comparison)?;
                written.push(out.join(&saved.comparison));
            }
            None => saved.comparison.clear(),
        }
    }
    let record =
        serde_json::to_vec_pretty(&specimen.record).context(Kind::Internal, || "a record has no JSON".into())?;
    write_whole(&json, &record)?;
    written.push(json);
    Ok(written)
}

/// The record of a photo for a person.
fn describe(record: &Record, architecture: &str, plan: &Plan) -> String {
    let source = match record.labelled {
        Labelled::Given => "as given",
        Labelled::Folder => "by its folder",
        Labelled::Model => "as the model sees it",
    };
    let towards = record.target.as_ref().map(|t| format!(" towards '{}' ({})", t.name, t.index)).unwrap_or_default();
    let mut text = format!(
        "{}: '{}' ({}) {source}; {}{towards} on {architecture} at {size}x{size} pixels\n",
        record.image,
        record.label.name,
        record.label.index,
        record.attack,
        size = record.size
    );
    text.push_str(&format!("  before    {}\n", guesses(&record.clean)));
    if record.state == State::Misclassified {
        text.push_str("  the model is wrong about it already: not attacked, and not counted as broken\n");
        return text;
    }
    for finding in &record.findings {
        text.push_str(&result(finding, &record.norm));
    }
    if record.findings.is_empty() && plan.budgets == Budgets::Smallest {
        text.push_str("  no epsilon up to 255/255 works on the saved picture\n");
    }
    text
}

fn result(finding: &Finding, norm: &str) -> String {
    let Finding { epsilon, float, saved, survival } = finding;
    let word = |broken: bool| if broken { "broken" } else { "holds" };
    let mut text = format!("  epsilon {} in {norm}", lab::shown(*epsilon, norm));
    if norm == "linf" {
        text.push_str(&format!(" = {:.2}/255, saved within {}/255", 255.0 * epsilon.value(), saved.ball));
    }
    text.push('\n');
    text.push_str(&format!("    float   {:6} {}\n", word(float.broken), guesses(&float.top)));
    text.push_str(&format!("    saved   {:6} {}\n", word(saved.broken), guesses(&saved.top)));
    let psnr = saved.psnr.map_or("nothing changed".into(), |psnr| format!("PSNR {psnr:.1} dB"));
    let ssim = saved.ssim.map(|ssim| format!(", SSIM {ssim:.4}")).unwrap_or_default();
    text.push_str(&format!(
        "            at most {} of 255 levels, L2 {:.3} (float {:.3}), {} pixels; {psnr}{ssim}\n",
        saved.levels, saved.l2, float.l2, saved.pixels
    ));
    for way in survival {
        let seen = format!("{} {:.1} %", way.adversarial.name, 100.0 * way.adversarial.confidence);
        let original = &way.original.name;
        text.push_str(&format!("    after {}: {} {seen}; the original: {original}\n", way.after, word(way.broken)));
    }
    text
}

fn guesses(top: &[Guess]) -> String {
    let each = top.iter().map(|guess| format!("{} {:.1} %", guess.name, 100.0 * guess.confidence));
    each.collect::<Vec<_>>().join(", ")
}
