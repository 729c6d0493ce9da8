//! Kills at random while a job runs. `HARDY_CHAOS=full` (make chaos) does what the short form does, longer.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

use crate::scene::{Cluster, has_ended};
use crate::small;

struct Plan {
    workers: usize,
    leaders: usize,
    brokers: usize,
    stores: usize,
    store_down: Duration,
    rounds: &'static str,
}

const SHORT: Plan = Plan {
    workers: 5,
    leaders: 2,
    brokers: 1,
    stores: 1,
    store_down: Duration::from_secs(5),
    rounds: "train.rounds=8",
};
const FULL: Plan = Plan {
    workers: 20,
    leaders: 5,
    brokers: 3,
    stores: 1,
    store_down: Duration::from_secs(30),
    rounds: "train.rounds=90",
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Blow {
    Worker,
    Leader,
    Broker,
    Connections,
    Store,
}

#[test]
fn the_result_survives_random_kills() {
    let full = std::env::var("HARDY_CHAOS").is_ok_and(|v| v == "full");
    let plan = if full { FULL } else { SHORT };
    let seed = std::env::var("HARDY_CHAOS_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("HARDY_CHAOS_SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);

    let mut cluster = Cluster::start();
    let alone = cluster.scene.path("alone");
    cluster.scene.run(&alone, 2, &[plan.rounds]);
    for what in ["coordinator", "coordinator", "worker", "worker", "worker"] {
        cluster.start_process(what);
    }
    cluster.submit("storm", &[plan.rounds]);
    let mut blows: Vec<Blow> = [
        (Blow::Worker, plan.workers),
        (Blow::Leader, plan.leaders),
        (Blow::Broker, plan.brokers),
        (Blow::Connections, plan.brokers),
        (Blow::Store, plan.stores),
    ]
    .into_iter()
    .flat_map(|(blow, count)| std::iter::repeat_n(blow, count))
    .collect();
    rand::seq::SliceRandom::shuffle(&mut blows[..], &mut chance);
    let began = Instant::now();
    let mut struck = Vec::new();
    for blow in blows {
        std::thread::sleep(Duration::from_millis(chance.random_range(200..2500)));
        if cluster.status("storm").is_some_and(|s| has_ended(&s)) {
            break;
        }
        println!("{:6.1} s  {blow:?}", began.elapsed().as_secs_f64());
        strike(&mut cluster, blow, &plan, &mut chance);
        struck.push(blow);
    }
    cluster.finished("storm");
    println!("done after {:.1} s and {} blows: {struck:?}", began.elapsed().as_secs_f64(), struck.len());
    let blows = plan.workers + plan.leaders + 2 * plan.brokers + plan.stores;
    let enough = if full { blows } else { 2 };
    assert!(struck.len() >= enough, "the job was over after {} blows: give it more rounds", struck.len());
    let (undisturbed, survived) = (small::outputs(&alone), cluster.outputs("storm"));
    let differ = undisturbed.keys().chain(survived.keys()).filter(|k| undisturbed.get(*k) != survived.get(*k));
    assert_eq!(differ.collect::<Vec<_>>(), [] as [&String; 0], "these differ from an undisturbed run, or are missing");
    let out = cluster.scene.path("survived");
    cluster.ok(&["fetch", "storm", "--out", out.to_str().unwrap()]);
    assert_eq!(small::report(&out)["results"], small::report(&alone)["results"]);
    cluster.assert_no_orphans("storm");
}

fn strike(cluster: &mut Cluster, blow: Blow, plan: &Plan, chance: &mut StdRng) {
    match blow {
        Blow::Worker => {
            let victim = cluster.names("worker").choose(chance).unwrap().clone();
            cluster.kill(&victim);
            cluster.start_process("worker");
        }
        Blow::Leader => {
            let leader = cluster.status("storm").and_then(|s| s["coordinator"].as_str().map(str::to_string));
            let all = cluster.names("coordinator");
            // Between two leaders nobody leads.
            let victim = leader.filter(|l| all.contains(l)).unwrap_or_else(|| all[0].clone());
            cluster.kill(&victim);
            cluster.start_process("coordinator");
        }
        Blow::Broker => {
            cluster.broker.kill();
            cluster.broker.restart();
        }
        Blow::Connections => {
            cluster.broker.ctl(&["close_all_connections", "the administrator closes all connections"]);
        }
        Blow::Store => {
            cluster.s3.stop();
            std::thread::sleep(plan.store_down);
            cluster.s3.restart();
        }
    }
}
