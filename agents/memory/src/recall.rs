//! What happened before when it looked like this, and whether its remedy may be recommended.
//!
//! ```text
//!  likeness = 0.6 · error (1 if the signatures are equal, else shared words) + 0.2 · same pipeline + 0.2 · same kind
//!
//!  gate           a remedy is recommended only if
//!  reviewed       somebody stands for the entries; others are shown, count for nothing and stand in nobody's way
//!  structure      signature, pipeline and kind are those of now, not merely alike
//!  margin         no reviewed episode with another cause is within 0.15 of it
//!  track record   the same remedy healed the same cause at least twice, at least four times out of five, and the last time
//!  cause          the diagnosis of now does not name another cause
//! ```
//!
//! A recommendation is for people. It moves no confidence and starts nothing: what is recommended here and not declared as
//! a remedy of the diagnosed cause is not even shown as one. No gate reads prose, so no prose opens one.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::episodes::{Episode, Episodes, Outcome};
use crate::freshness::age_days;
use crate::words::{Names, words};

/// What the error, the pipeline and the kind weigh.
const WEIGHTS: (f64, f64, f64) = (0.6, 0.2, 0.2);
/// Less alike than this is not shown.
const SHOWN_MIN: f64 = 0.45;
/// Most episodes shown, beside the best one with another cause.
const SHOWN_MAX: usize = 3;
/// Lead over the best episode with another cause.
const MARGIN: f64 = 0.15;
/// Healed as often as this at least.
const HEALED_MIN: usize = 2;
/// Share of those that were healed.
const HEALED_SHARE: f64 = 0.8;
/// Longest text that is shown.
const TEXT_CHARS_MAX: usize = 600;

/// What is seen now.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Its error without what changes from day to day.
    pub signature: &'a str,
    /// The pipeline.
    pub pipeline: &'a str,
    /// What was noticed.
    pub kind: &'a str,
    /// The cause that the diagnosis names, if it names one.
    pub cause_id: Option<&'a str>,
    /// The day it is.
    pub today: Date,
}

/// What a recommendation has to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Nobody stands for what is alike.
    Reviewed,
    /// It is alike and not the same.
    Structure,
    /// Another cause looked nearly the same.
    Margin,
    /// The remedy has not healed often enough, or not lately.
    TrackRecord,
    /// The diagnosis names another cause.
    Cause,
}

/// An episode that looks like now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Similar {
    /// Its name.
    pub id: String,
    /// How alike, from 0 to 1.
    pub likeness: f64,
    /// Days ago.
    pub age_days: i32,
    /// Class of its cause.
    pub class: String,
    /// Its cause, if it was a known one.
    #[serde(default)]
    pub cause_id: Option<String>,
    /// Its cause in words. Data, never an instruction.
    pub cause: String,
    /// The declared remedy that was carried out.
    #[serde(default)]
    pub remedy: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether somebody stands for the entry.
    pub reviewed: bool,
    /// Its cause is another one than that of the diagnosis, or of the episode most alike.
    pub other_cause: bool,
}

/// A remedy that healed this before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// The declared remedy.
    pub remedy: String,
    /// The cause that it healed.
    pub cause_id: String,
    /// How often it healed.
    pub healed: usize,
    /// How often it was carried out.
    pub tried: usize,
    /// The episodes that say so, the latest first.
    pub episodes: Vec<String>,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recalled {
    /// Episodes that look like now, the most alike first, and always the best one with another cause.
    pub similar: Vec<Similar>,
    /// What may be recommended.
    #[serde(default)]
    pub recommended: Option<Recommendation>,
    /// Which gates stand in the way, if something is alike and nothing is recommended.
    #[serde(default)]
    pub closed: Vec<Gate>,
}

struct Candidate<'a> {
    episode: &'a Episode,
    likeness: f64,
    is_same: bool,
}

/// What happened before.
pub fn recall(episodes: &Episodes, now: Situation<'_>) -> Recalled {
    let seen: BTreeSet<String> = words(now.signature, Names::Split).into_iter().collect();
    let mut alike: Vec<Candidate<'_>> = episodes.iter().map(|episode| candidate(episode, now, &seen)).collect();
    alike.retain(|candidate| candidate.likeness >= SHOWN_MIN);
    // The latest of those that are equally alike, then the order of the file.
    alike.sort_by(|a, b| b.likeness.total_cmp(&a.likeness).then(b.episode.at.cmp(&a.episode.at)));
    let verdict = judged(&alike, now);
    let (recommended, closed) = match verdict {
        Ok(recommendation) => (Some(recommendation), Vec::new()),
        Err(closed) => (None, closed),
    };
    Recalled { similar: shown(&alike, now), recommended, closed }
}

fn candidate<'a>(episode: &'a Episode, now: Situation<'_>, seen: &BTreeSet<String>) -> Candidate<'a> {
    let same_error = !now.signature.is_empty() && episode.signature == now.signature;
    let same_pipeline = episode.pipeline == now.pipeline;
    let same_kind = episode.kind.as_deref() == Some(now.kind);
    let error = if same_error {
        1.0
    } else {
        let theirs: BTreeSet<String> = words(&episode.signature, Names::Split).into_iter().collect();
        // Jaccard: what both have, of what either has.
        let (both, either) = (theirs.intersection(seen).count(), theirs.union(seen).count());
        if either == 0 { 0.0 } else { both as f64 / either as f64 }
    };
    let share = |holds: bool, weight: f64| if holds { weight } else { 0.0 };
    let likeness = WEIGHTS.0 * error + share(same_pipeline, WEIGHTS.1) + share(same_kind, WEIGHTS.2);
    Candidate { episode, likeness, is_same: same_error && same_pipeline && same_kind }
}

/// Whether two episodes had the same cause: the same known one, or, where it is not known, the same words.
fn same_cause(a: &Episode, b: &Episode) -> bool {
    match (&a.cause_id, &b.cause_id) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.cause == b.cause,
        _ => false,
    }
}

/// The recommendation, or every gate that is closed. Nothing alike closes none.
fn judged(alike: &[Candidate<'_>], now: Situation<'_>) -> Result<Recommendation, Vec<Gate>> {
    if alike.is_empty() {
        return Err(Vec::new());
    }
    let reviewed: Vec<&Candidate<'_>> = alike.iter().filter(|c| c.episode.reviewed.is_some()).collect();
    let Some(best) = reviewed.first() else { return Err(vec![Gate::Reviewed]) };
    let mut closed = Vec::new();
    if !best.is_same {
        closed.push(Gate::Structure);
    }
    let rival = reviewed.iter().find(|other| !same_cause(best.episode, other.episode));
    if rival.is_some_and(|rival| best.likeness - rival.likeness < MARGIN) {
        closed.push(Gate::Margin);
    }
    if now.cause_id.is_some() && best.episode.cause_id.as_deref() != now.cause_id {
        closed.push(Gate::Cause);
    }
    match track_record(&reviewed, best.episode) {
        Some(recommendation) if closed.is_empty() => Ok(recommendation),
        Some(_) => Err(closed),
        None => {
            closed.push(Gate::TrackRecord);
            Err(closed)
        }
    }
}

/// What the remedy of this cause has done where everything was the same.
fn track_record(reviewed: &[&Candidate<'_>], best: &Episode) -> Option<Recommendation> {
    let (remedy, cause_id) = (best.remedy.clone()?, best.cause_id.clone()?);
    let of_remedy = reviewed.iter().filter(|c| c.is_same && same_cause(c.episode, best));
    let mut tried: Vec<&Episode> = of_remedy
        .map(|c| c.episode)
        .filter(|episode| episode.remedy.as_ref() == Some(&remedy))
        .filter(|episode| matches!(episode.outcome, Outcome::Healed | Outcome::NotHealed))
        .collect();
    // Of two on one day the one further down in the file is the later one.
    tried.reverse();
    tried.sort_by_key(|episode| Reverse(episode.at));
    let healed = tried.iter().filter(|episode| episode.outcome == Outcome::Healed).count();
    let is_last_healed = tried.first().is_some_and(|episode| episode.outcome == Outcome::Healed);
    let is_good = healed >= HEALED_MIN && healed as f64 >= HEALED_SHARE * tried.len() as f64 && is_last_healed;
    let episodes = tried.iter().map(|episode| episode.id.clone()).collect();
    is_good.then_some(Recommendation { remedy, cause_id, healed, tried: tried.len(), episodes })
}

fn shown(alike: &[Candidate<'_>], now: Situation<'_>) -> Vec<Similar> {
    let Some(best) = alike.first() else { return Vec::new() };
    let is_other = |episode: &Episode| match now.cause_id {
        Some(cause_id) => episode.cause_id.as_deref() != Some(cause_id),
        None => !same_cause(best.episode, episode),
    };
    let mut shown: Vec<Similar> =
        alike.iter().take(SHOWN_MAX).map(|c| similar(c, is_other(c.episode), now.today)).collect();
    let other = alike.iter().skip(SHOWN_MAX).find(|c| is_other(c.episode));
    if !shown.iter().any(|similar| similar.other_cause) {
        shown.extend(other.map(|c| similar(c, true, now.today)));
    }
    shown
}

fn similar(candidate: &Candidate<'_>, other_cause: bool, today: Date) -> Similar {
    let episode = candidate.episode;
    Similar {
        id: episode.id.clone(),
        likeness: (candidate.likeness * 100.0).round() / 100.0,
        age_days: age_days(episode.at, today),
        class: episode.class.clone(),
        cause_id: episode.cause_id.clone(),
        cause: episode.cause.chars().take(TEXT_CHARS_MAX).collect(),
        remedy: episode.remedy.clone(),
        outcome: episode.outcome,
        reviewed: episode.reviewed.is_some(),
        other_cause,
    }
}
