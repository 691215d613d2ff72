//! Past incidents: what failed, why, what was done, how it ended, and who has looked at the entry.
//!
//! One JSON object a line, so that a review is a diff of one line. Entries of other systems (`date`, `dag_id`, `symptom`,
//! `root_cause`) are read as they are; without an outcome and a review they are shown and recommend nothing.

use std::io::Write;
use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::document::{Broken, Document, Kind, is_name, one_line};

/// Largest file of episodes in bytes.
pub const EPISODES_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most episodes.
const EPISODES_MAX: usize = 20_000;
/// Longest text of an episode, in characters.
const TEXT_CHARS_MAX: usize = 4_000;
/// Most pieces of evidence.
const EVIDENCE_MAX: usize = 16;

/// How an incident ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The remedy was carried out, and a check said that it helped.
    Healed,
    /// The remedy was carried out and did not help.
    NotHealed,
    /// People solved it by other means.
    ByHand,
    /// Nobody wrote it down.
    #[default]
    Unknown,
}

/// Somebody has looked at an entry and stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// Who.
    pub by: String,
    /// When.
    pub at: Date,
}

/// A past incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Episode {
    /// Its name in citations.
    pub id: String,
    /// The day.
    #[serde(alias = "date")]
    pub at: Date,
    /// The pipeline.
    #[serde(alias = "dag_id")]
    pub pipeline: String,
    /// Identity of the incident, as its monitor computed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// What was noticed (`run_failed`, `volume_drop`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its error text without what changes from day to day.
    #[serde(alias = "symptom")]
    pub signature: String,
    /// Class of the cause.
    pub class: String,
    /// The known cause, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause_id: Option<String>,
    /// The cause in words.
    #[serde(alias = "root_cause")]
    pub cause: String,
    /// The declared remedy that was carried out, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What was done, in words.
    #[serde(default)]
    pub resolution: String,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// What showed the cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The thread that worked on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The runbook that was followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes_to_resolve: Option<u32>,
    /// Who stands for this entry; nobody yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed: Option<Review>,
}

impl Episode {
    /// Whether it is within its bounds.
    fn check(&self) -> Result<(), String> {
        let named = [Some(&self.id), self.cause_id.as_ref(), self.remedy.as_ref()];
        if let Some(bad) = named.into_iter().flatten().find(|name| !is_name(name)) {
            return Err(format!("`{}` is no name: use letters, digits, `-`, `_` and `.`", one_line(bad)));
        }
        let texts = [&self.pipeline, &self.signature, &self.class, &self.cause, &self.resolution];
        if texts.into_iter().chain(&self.evidence).any(|text| text.chars().count() > TEXT_CHARS_MAX) {
            return Err(format!("a text has more than {TEXT_CHARS_MAX} characters"));
        }
        if self.evidence.len() > EVIDENCE_MAX {
            return Err(format!("more than {EVIDENCE_MAX} pieces of evidence"));
        }
        if self.reviewed.as_ref().is_some_and(|review| review.by.trim().is_empty()) {
            return Err("`reviewed.by` names nobody".to_owned());
        }
        Ok(())
    }

    /// The episode as something that is searched; `line` is where it stands in its file.
    fn document(&self, line: usize) -> Document {
        let words = [self.signature.as_str(), &self.cause, &self.resolution];
        let text = words.iter().filter(|text| !text.is_empty()).map(|text| one_line(text)).collect::<Vec<_>>();
        Document {
            id: self.id.clone(),
            kind: Kind::Incident,
            title: one_line(&format!("{}: {}", self.pipeline, self.cause)),
            // One line of the file, whatever it holds.
            text: text.join(" · "),
            first_line: line,
            version: self.at.to_string(),
            updated: Some(self.at),
            deprecated: false,
            tags: std::iter::once(&self.class).chain(&self.cause_id).chain(&self.remedy).cloned().collect(),
        }
    }
}

/// Past incidents, in the order of their file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Episodes {
    known: Vec<(usize, Episode)>,
    /// Lines that cannot be used.
    pub broken: Vec<Broken>,
}

impl Episodes {
    /// Reads lines of JSON. What cannot be used is named by its line, the rest is used.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for (ix, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = ix + 1;
            let read = serde_json::from_str::<Episode>(line).map_err(|error| error.to_string());
            let read = read.and_then(|episode| episode.check().map(|()| episode)).and_then(|episode| {
                match found.get(&episode.id) {
                    _ if found.known.len() >= EPISODES_MAX => Err(format!("more than {EPISODES_MAX} episodes")),
                    Some(_) => Err(format!("an earlier line has the id `{}`", episode.id)),
                    None => Ok(episode),
                }
            });
            match read {
                Ok(episode) => found.known.push((number, episode)),
                Err(why) => found.broken.push(Broken::new(format!("line {number}"), why)),
            }
        }
        found
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Episode> {
        self.known.iter().map(|(_, episode)| episode)
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Episode> {
        self.iter().find(|episode| episode.id == id)
    }

    /// Those that somebody stands for, as documents: what nobody has looked at is not read to anybody as knowledge.
    pub fn documents(&self) -> Vec<Document> {
        let reviewed = self.known.iter().filter(|(_, episode)| episode.reviewed.is_some());
        reviewed.map(|(line, episode)| episode.document(*line)).collect()
    }

    /// Adds an episode to the file, or replaces the one of its id, in one step: a reader sees the old file or the new one.
    /// Other lines stay as they are, also those that cannot be used. Whether anything changed.
    ///
    /// # Errors
    /// The episode is not within its bounds, or the file cannot be read or written.
    pub fn learn(path: &Path, episode: &Episode) -> Result<bool, String> {
        episode.check()?;
        let failed = |error: &std::io::Error| format!("{}: {}", path.display(), error.kind());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Two who learn at once wait for each other; the lock is beside the file, which is replaced.
        let lock = std::fs::File::create(path.with_extension("lock")).map_err(|error| failed(&error))?;
        lock.lock().map_err(|error| failed(&error))?;
        let before = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(&error)),
        };
        let line = serde_json::to_string(episode).map_err(|error| format!("an episode cannot be written: {error}"))?;
        let is_same = |line: &str| serde_json::from_str::<Episode>(line).is_ok_and(|known| known.id == episode.id);
        let mut lines: Vec<&str> = before.lines().collect();
        match lines.iter_mut().find(|line| is_same(line)) {
            Some(old) if *old == line => return Ok(false),
            Some(old) => *old = &line,
            None => lines.push(&line),
        }
        let text = lines.join("\n") + "\n";
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > EPISODES_BYTES_MAX {
            return Err(format!("{}: more than {EPISODES_BYTES_MAX} bytes; begin a new file", path.display()));
        }
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all()).map_err(|error| failed(&error))?;
        if let Ok(known) = std::fs::metadata(path) {
            new.as_file().set_permissions(known.permissions()).map_err(|error| failed(&error))?;
        }
        new.persist(path).map_err(|error| failed(&error.error))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIT: &str = r#"{"id":"INC-0412","date":"2026-03-12","dag_id":"sales_etl","symptom":"permission denied for table fact_sales","root_cause":"a review script revoked INSERT","class":"configuration","resolution":"GRANT INSERT after approval","minutes_to_resolve":38,"runbook":"RB-002"}"#;

    #[test]
    fn entries_of_other_systems_are_read_and_stand_for_nothing() {
        let found = Episodes::parse(KIT);
        let episode = found.get("INC-0412").unwrap();
        assert_eq!((episode.outcome, &episode.reviewed, &episode.remedy), (Outcome::Unknown, &None, &None));
        assert_eq!(episode.pipeline, "sales_etl");
        assert!(found.documents().is_empty());
    }

    #[test]
    fn broken_lines_are_named_and_the_rest_is_used() {
        let twice = KIT;
        let bad_remedy =
            KIT.replace("INC-0412", "b").replace("\"class\"", "\"remedy\":\"grant all; rm -rf /\",\"class\"");
        let unknown = KIT.replace("INC-0412", "c").replace("\"class\"", "\"recommend\":true,\"class\"");
        let nobody = KIT
            .replace("INC-0412", "d")
            .replace("\"class\"", "\"reviewed\":{\"by\":\" \",\"at\":\"2026-01-01\"},\"class\"");
        let long = KIT.replace("INC-0412", "e").replace("a review script", &"x".repeat(TEXT_CHARS_MAX));
        let found = Episodes::parse(&[KIT, twice, &bad_remedy, &unknown, &nobody, &long, "{", ""].join("\n"));
        assert_eq!(found.iter().count(), 1);
        let places: Vec<&str> = found.broken.iter().map(|broken| broken.place.as_str()).collect();
        assert_eq!(places, ["line 2", "line 3", "line 4", "line 5", "line 6", "line 7"]);
    }

    #[test]
    fn learning_is_one_step_keeps_other_lines_and_twice_is_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("episodes.jsonl");
        let other = "{ what nobody can read";
        std::fs::write(&file, format!("{other}\n{KIT}\n")).unwrap();
        let mut episode = Episodes::parse(KIT).get("INC-0412").unwrap().clone();
        episode.outcome = Outcome::Healed;
        assert_eq!(Episodes::learn(&file, &episode), Ok(true));
        assert_eq!(Episodes::learn(&file, &episode), Ok(false));
        episode.id = "new".to_owned();
        assert_eq!(Episodes::learn(&file, &episode), Ok(true));
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().next(), Some(other));
        let ids: Vec<String> = Episodes::parse(&text).iter().map(|episode| episode.id.clone()).collect();
        assert_eq!(ids, ["INC-0412", "new"]);
        episode.remedy = Some("no name".to_owned());
        assert!(Episodes::learn(&file, &episode).is_err());
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
    }

    #[test]
    fn ten_who_learn_at_once_all_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("episodes.jsonl");
        std::thread::scope(|scope| {
            for n in 0..10 {
                let file = &file;
                scope.spawn(move || {
                    let mut episode = Episodes::parse(KIT).get("INC-0412").unwrap().clone();
                    episode.id = format!("e{n}");
                    assert_eq!(Episodes::learn(file, &episode), Ok(true));
                });
            }
        });
        assert_eq!(Episodes::parse(&std::fs::read_to_string(&file).unwrap()).iter().count(), 10);
    }
}
