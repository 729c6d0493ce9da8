//! `hardy nightly simulate`: two weeks of nights on synthetic flowers, each a process of its own, one of
//! which is killed.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::jobs::print_json;
use crate::config::Layers;
use crate::coordinator::Outcome;
use crate::dataset::synth::Arrivals;
use crate::error::{Context, Error, Kind, Result};
use crate::registry::{Happening, Registry};
use crate::report::{self, Trend};
use crate::store::{LocalStore, Store};
use crate::task::ModelName;

/// The settings of the nights.
const SETTINGS: &str = include_str!("../../configs/simulation.toml");

/// Photos of each class in the first night, in an ordinary one, with shuffled labels, and broken.
const FIRST: u32 = 100;
const USUAL: u32 = 16;
const SHUFFLED: u32 = 100;
const BROKEN: u32 = 2;

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// How many nights.
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=365))]
    nights: u32,
    /// Where photos, store and pages go; must be empty or not exist.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The seed of the photos.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// One more setting of the nights; may be given again.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Threads of work.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

/// What is special about a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Event {
    First,
    PhotosCame,
    NoNewPhotos,
    LabelsShuffled,
    Killed,
    BrokenPhotos,
}

impl Event {
    fn words(self) -> &'static str {
        match self {
            Event::First => "the first night",
            Event::PhotosCame => "photos came",
            Event::NoNewPhotos => "no new photos",
            Event::LabelsShuffled => "POISONED: labels shuffled",
            Event::Killed => "photos came, KILLED, started again",
            Event::BrokenPhotos => "broken photos came",
        }
    }
}

/// A night as the table shows it.
#[derive(Debug, Serialize)]
struct Row {
    night: String,
    event: Event,
    outcome: Happening,
    reason: String,
    clean: Option<f64>,
    robust: Option<f64>,
    current: Option<String>,
    new: u64,
    removed: u64,
    seconds: f64,
}

pub(super) fn run(args: SimulateArgs, json: bool, quiet: bool) -> Result<()> {
    if std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::storage(format!("folder {} is not empty", args.out.display())));
    }
    std::fs::create_dir_all(&args.out)
        .context(Kind::Storage, || format!("folder {} cannot be made", args.out.display()))?;
    let play = Play::new(&args)?;
    let mut photos = Arrivals::new(&play.photos, 64, args.seed);
    let mut rows: Vec<Row> = Vec::new();
    let mut wrong: Vec<PathBuf> = Vec::new();
    if !quiet && !json {
        println!("{}", header());
    }
    for (number, event) in script(args.nights).into_iter().enumerate() {
        // In the morning somebody takes away what should not have come.
        for file in wrong.drain(..) {
            std::fs::remove_file(&file).context(Kind::Storage, || format!("cannot remove {}", file.display()))?;
        }
        match event {
            Event::First => photos.photos(FIRST)?,
            Event::PhotosCame | Event::Killed => photos.photos(USUAL)?,
            Event::NoNewPhotos => {}
            Event::LabelsShuffled => wrong = photos.mislabelled(SHUFFLED)?,
            Event::BrokenPhotos => {
                photos.photos(USUAL)?;
                wrong = photos.broken(BROKEN)?;
            }
        }
        let row = play.night(number, event)?;
        if !quiet && !json {
            println!("{}", line(&row));
        }
        rows.push(row);
    }
    let summary = play.summary(&rows)?;
    if json {
        return print_json(&serde_json::json!({ "nights": rows, "summary": summary })).and(summary.verdict());
    }
    println!("{}", summary.text());
    println!("history: {}", args.out.join("history.html").display());
    summary.verdict()
}

/// What happens each night: the special ones at about a third, a half, seven and nine tenths; where nights are few, in
/// the next free one, if there is one.
fn script(nights: u32) -> Vec<Event> {
    let mut events = vec![Event::PhotosCame; nights as usize];
    let special = [Event::NoNewPhotos, Event::LabelsShuffled, Event::Killed, Event::BrokenPhotos];
    events[0] = Event::First;
    for (event, tenths) in special.into_iter().zip([3, 5, 7, 9]) {
        let place = (nights as usize * tenths) / 10;
        if let Some(free) = events.iter_mut().skip(place).find(|there| **there == Event::PhotosCame) {
            *free = event;
        }
    }
    events
}

/// Where everything is.
struct Play {
    photos: PathBuf,
    store: PathBuf,
    out: PathBuf,
    arguments: Vec<String>,
    epsilon: f64,
    drops: (f64, f64),
    model: ModelName,
}

impl Play {
    fn new(args: &SimulateArgs) -> Result<Self> {
        let config = args.out.join("simulation.toml");
        std::fs::write(&config, SETTINGS).context(Kind::Storage, || format!("cannot write {}", config.display()))?;
        let settings = Layers::new()?.file(&config)?.set(&args.set)?.resolve()?.settings;
        let mut arguments = vec!["--config".into(), config.display().to_string()];
        arguments.extend(args.set.iter().flat_map(|s| ["--set".to_string(), s.clone()]));
        arguments.extend(args.workers.iter().flat_map(|n| ["--workers".to_string(), n.to_string()]));
        Ok(Self {
            photos: args.out.join("photos"),
            store: args.out.join("store"),
            out: args.out.clone(),
            arguments,
            epsilon: settings.gate.epsilon.value(),
            drops: (settings.gate.clean_drop, settings.gate.robust_drop),
            model: settings.job.name.parse()?,
        })
    }

    fn start(&self, night: &str) -> Result<Child> {
        let program =
            std::env::current_exe().context(Kind::Internal, || "the path of this program is unknown".into())?;
        let mut command = Command::new(program);
        command.args(["--json", "nightly", "run", "--night", night]).args(&self.arguments);
        command.arg("--data").arg(&self.photos).arg("--store").arg(&self.store);
        // Settings of the caller's environment are meant for something else.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HARDY_") && name.contains("__")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context(Kind::Internal, || "a night cannot be started".into())
    }

    fn night(&self, number: usize, event: Event) -> Result<Row> {
        let began = Instant::now();
        let night = format!("night-{:02}", number + 1);
        if event == Event::Killed {
            kill_in_training(self.start(&night)?)?;
        }
        let (ended, said) = finish(self.start(&night)?)?;
        let seconds = began.elapsed().as_secs_f64();
        let share = |f: Option<report::Figure>| f.map(|f| f.accuracy);
        Ok(match ended {
            Some(o) => Row {
                night,
                event,
                outcome: o.outcome,
                reason: o.reason,
                clean: share(o.clean),
                robust: share(o.robust),
                current: o.current.map(|c| c.0),
                new: o.new,
                removed: o.removed,
                seconds,
            },
            None => Row {
                night,
                event,
                outcome: Happening::Failed,
                reason: said,
                clean: None,
                robust: None,
                current: self.trend()?.current,
                new: 0,
                removed: 0,
                seconds,
            },
        })
    }

    fn trend(&self) -> Result<Trend> {
        super::cluster::block_on(async {
            let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(LocalStore::open(&self.store)?);
            Registry::new(store, &self.model).trend(self.epsilon).await
        })
    }

    /// Writes the page, and checks what two weeks of nights must have brought.
    fn summary(&self, rows: &[Row]) -> Result<Summary> {
        let trend = self.trend()?;
        let page = report::history_page(&trend)?;
        crate::model::write_whole(&self.out.join("history.html"), page.as_bytes())?;
        let mut wrong: Vec<String> = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        for row in rows {
            let is = |outcome| row.outcome == outcome;
            match row.event {
                Event::LabelsShuffled => {
                    expect(is(Happening::Rejected), format!("{}, poisoned, was not rejected", row.night))
                }
                Event::NoNewPhotos => {
                    expect(is(Happening::Skipped), format!("{}, without photos, was not skipped", row.night))
                }
                Event::BrokenPhotos => {
                    expect(is(Happening::Failed), format!("{}, with broken photos, did not fail", row.night))
                }
                Event::First => expect(is(Happening::Promoted), format!("{}, the first, was not promoted", row.night)),
                Event::Killed | Event::PhotosCame => {
                    expect(!is(Happening::Failed), format!("{} failed: {}", row.night, row.reason));
                }
            }
        }
        let line: Vec<(f64, f64)> = trend.nights.iter().filter_map(|n| n.current_clean.zip(n.current_robust)).collect();
        let below = |figure: fn(&(f64, f64)) -> f64| {
            let mut best = f64::MIN;
            let mut below = 0.0_f64;
            for value in line.iter().map(figure) {
                best = best.max(value);
                below = below.max(100.0 * (best - value));
            }
            below
        };
        let worst = (below(|f| f.0), below(|f| f.1));
        expect(
            worst.0 <= self.drops.0 + 1e-9 && worst.1 <= self.drops.1 + 1e-9,
            format!("the current model was {:.1} and {:.1} points below its best", worst.0, worst.1),
        );
        let ends = |f: fn(&(f64, f64)) -> f64| [line.first().map_or(0.0, f), line.last().map_or(0.0, f)];
        Ok(Summary {
            clean: ends(|f| f.0),
            robust: ends(|f| f.1),
            below_best: [worst.0, worst.1],
            seconds: rows.iter().map(|r| r.seconds).sum(),
            wrong,
        })
    }
}

/// What all nights together brought.
#[derive(Debug, Serialize)]
struct Summary {
    /// Clean accuracy of the current model after the first and the last night.
    clean: [f64; 2],
    /// Its robust accuracy, likewise.
    robust: [f64; 2],
    /// The most points by which it ever lay below its best, clean and robust.
    below_best: [f64; 2],
    seconds: f64,
    /// What went otherwise than it must.
    wrong: Vec<String>,
}

impl Summary {
    fn text(&self) -> String {
        let percent = |[from, to]: [f64; 2]| format!("{:.1} % -> {:.1} %", 100.0 * from, 100.0 * to);
        format!(
            "\ncurrent model: clean {}, robust {}; never more than {:.1} and {:.1} points below its best; {:.0} s in all",
            percent(self.clean),
            percent(self.robust),
            self.below_best[0],
            self.below_best[1],
            self.seconds
        )
    }

    fn verdict(&self) -> Result<()> {
        match self.wrong.is_empty() {
            true => Ok(()),
            false => Err(Error::job(format!("the nights went otherwise than they must: {}", self.wrong.join("; ")))),
        }
    }
}

/// Ends a night without warning once it has trained a round.
fn kill_in_training(mut child: Child) -> Result<()> {
    let lines = child.stderr.take().map(BufReader::new);
    let mut rounds = 0;
    for text in lines.into_iter().flat_map(|l| l.lines()).map_while(std::result::Result::ok) {
        rounds += usize::from(text.contains("\"event\":\"round\""));
        if rounds == 2 {
            break;
        }
    }
    child.kill().context(Kind::Internal, || "a night cannot be killed".into())?;
    child.wait().context(Kind::Internal, || "a night cannot be waited for".into())?;
    Ok(())
}

/// Waits for the end of a night: its outcome, or what it said last.
fn finish(mut child: Child) -> Result<(Option<Outcome>, String)> {
    let mut stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stderr) = &mut stderr {
            // What is no text is not worth telling either.
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });
    let output = child.wait_with_output().context(Kind::Internal, || "a night cannot be waited for".into())?;
    let said = reader.join().unwrap_or_default();
    let last = said.lines().rev().find(|l| l.starts_with("hardy: ")).unwrap_or("it said nothing");
    Ok((serde_json::from_slice(&output.stdout).ok(), last.trim_start_matches("hardy: ").to_string()))
}

fn header() -> String {
    format!(
        "{:<9} {:<35} {:>5} {:>8} {:>8} {:>8}  {:<9} {:>5}  REASON",
        "NIGHT", "WHAT HAPPENED", "NEW", "REMOVED", "CLEAN", "ROBUST", "OUTCOME", "S"
    )
}

fn line(row: &Row) -> String {
    let percent = |share: Option<f64>| share.map_or("-".into(), |s| format!("{:.1} %", 100.0 * s));
    let outcome = match row.outcome {
        Happening::Promoted => "promoted",
        Happening::Rejected => "REJECTED",
        Happening::Skipped => "skipped",
        _ => "FAILED",
    };
    format!(
        "{:<9} {:<35} {:>5} {:>8} {:>8} {:>8}  {:<9} {:>5.0}  {}",
        row.night,
        row.event.words(),
        row.new,
        row.removed,
        percent(row.clean),
        percent(row.robust),
        outcome,
        row.seconds,
        row.reason
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_have_every_kind_of_night() {
        let nights = script(14);
        assert_eq!(nights.len(), 14);
        for event in [Event::First, Event::NoNewPhotos, Event::LabelsShuffled, Event::Killed, Event::BrokenPhotos] {
            assert_eq!(nights.iter().filter(|e| **e == event).count(), 1, "{event:?}");
        }
        assert_eq!(script(1), [Event::First]);
        assert_eq!(script(3), [Event::First, Event::NoNewPhotos, Event::LabelsShuffled]);
        assert_eq!(script(4), [Event::First, Event::NoNewPhotos, Event::LabelsShuffled, Event::Killed]);
        let five = [Event::NoNewPhotos, Event::LabelsShuffled, Event::Killed, Event::BrokenPhotos];
        assert_eq!(script(5)[1..], five);
    }
}
