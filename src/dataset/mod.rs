//! Photos: found, checked, split, packed into shards, and seen by the network.
//!
//! Nothing here knows the store, the queue or libtorch: bytes and pixels in, bytes and pixels out.

pub mod decode;
pub mod drift;
pub mod duplicates;
pub mod fetch;
#[cfg(test)]
mod fixtures;
pub mod folder;
pub mod grow;
pub mod import;
pub mod manifest;
pub mod pack;
pub mod plan;
pub mod scan;
pub mod shard;
mod staging;
pub mod synth;
pub mod view;

pub use staging::STAGED;

use serde::{Deserialize, Serialize};

/// A side of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Trained on.
    Train,
    /// Kept back from the training side: early stopping, the guard, every other choice.
    Held,
    /// Measured once, at the end.
    Val,
    /// Measured once, at the end, in place of `Val` where it exists.
    Test,
}

impl Split {
    /// Its folder name.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Held => "held",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

/// A photo as the listing of its source shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Photo {
    /// Its path in the source: `[split/]class/name`.
    pub path: String,
    /// Its class, the folder's name.
    pub class: String,
    /// Its side, where the source is split already (`train`, `val` or `validation`, `test`).
    pub split: Option<Split>,
    /// Its size in bytes.
    pub size: u64,
    /// Another one means that it was written again; none where its source does not say, or nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
}

/// A photo that has been decoded once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// The photo.
    pub photo: Photo,
    /// What was found.
    pub finding: Finding,
}

/// What an inspection finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// The photo can be used.
    Usable {
        /// SHA-256 of the file, hexadecimal.
        sha256: String,
        /// Perceptual hash, 64 bits.
        phash: u64,
        /// Width in pixels, upright.
        width: u32,
        /// Height in pixels, upright.
        height: u32,
        /// Mean brightness (BT.601 luma) in thousandths of the range from black to white.
        #[serde(default)]
        brightness: u16,
    },
    /// It cannot, for this reason (one sentence for a person).
    Unusable(String),
    /// Nobody has looked at it, for this reason; another job may.
    Unseen(String),
}

/// One photo on its way into a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Unique in the data set and free of dots and slashes: the WebDataset key.
    pub key: String,
    /// Index into the classes.
    pub label: usize,
    /// Where the photo came from, in the source.
    pub path: String,
    /// SHA-256 of the file as it was inspected, hexadecimal.
    pub sha256: String,
}

/// The photos of one shard, to be read and packed by a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlan {
    /// The side all its photos are on.
    pub split: Split,
    /// Its number among the shards of that side.
    pub index: usize,
    /// Its photos, in order.
    pub samples: Vec<Sample>,
}

/// A photo that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its path in the source.
    pub path: String,
    /// Why, in one sentence.
    pub reason: String,
}

/// A photo that was dropped since it is (nearly) the same as one that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The photo that was dropped.
    pub path: String,
    /// The photo that was kept.
    pub of: String,
    /// True when the files are the same byte for byte.
    pub identical: bool,
}

/// What the coordinator decides once all photos are inspected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Class names, sorted; a label is an index into them.
    pub classes: Vec<String>,
    /// The shards to be made, ordered by split and index. The number of `Train` shards is a multiple
    /// of the number of replicas, their sizes differ by at most one, and classes are spread evenly.
    pub shards: Vec<ShardPlan>,
    /// Photos set aside.
    pub quarantined: Vec<Quarantined>,
    /// Photos dropped.
    pub duplicates: Vec<Duplicate>,
}
