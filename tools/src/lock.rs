//! The lock file: which version of each tool people have looked at. Written by `interlock tools pin` and by an approval,
//! read before every call, kept under version control beside `interlock.yaml`.
//!
//! It holds whole definitions, so that a change can be shown and not only noticed. A file that cannot be read, or whose
//! fingerprints are not those of its definitions, blocks every tool: nobody can say what was looked at.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use runtime_core::interlocks::plain;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hub::{Look, Pin};

/// Name of the file, beside the configuration.
pub const LOCK_FILE: &str = "interlock.lock";
/// Largest lock file in bytes.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// The form this program reads and writes.
const VERSION: u32 = 1;
/// Most lines of a difference that people are shown.
const DIFF_LINES_MAX: usize = 60;
/// Longest line of a difference.
const DIFF_CHARS_MAX: usize = 400;

/// What people have looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// Servers by their configured name.
    pub servers: BTreeMap<String, PinnedServer>,
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, servers: BTreeMap::new() }
    }
}

/// One server as it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedServer {
    /// Name and version it gave itself.
    pub identity: Option<String>,
    /// Its instructions for a model.
    pub instructions: Option<String>,
    /// Only single tools were looked at: others count as not pinned rather than as new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Its tools.
    pub tools: BTreeMap<String, PinnedTool>,
}

/// One tool as it was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedTool {
    /// Fingerprint of the definition.
    pub pin: String,
    /// What the fingerprint is of.
    pub definition: Value,
}

/// How a tool stands to its pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has looked at it.
    Unpinned,
    /// It is the one that was looked at.
    Same,
    /// It is another one, or new on a server whose tools are pinned; what is different, escaped.
    Differs(String),
}

impl PinnedServer {
    /// The server's own part, taken from what it says now.
    pub fn introduced(&mut self, look: &Look) {
        self.identity.clone_from(&look.identity);
        self.instructions.clone_from(&look.instructions);
    }
}

impl PinnedTool {
    /// A tool as it is now.
    pub fn of(look: &Look) -> Self {
        Self { pin: look.tool.pin.as_str().to_owned(), definition: Value::clone(&look.tool.definition) }
    }
}

impl Lock {
    /// How a tool stands to what people looked at.
    pub fn standing(&self, server: &str, look: &Look) -> Standing {
        let Some(pinned) = self.servers.get(server) else { return Standing::Unpinned };
        let mut lines = Vec::new();
        for (what, was, is) in [
            ("identity of the server", &pinned.identity, &look.identity),
            ("instructions of the server", &pinned.instructions, &look.instructions),
        ] {
            if was != is {
                let text = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".to_owned());
                compare(what, &text(was), &text(is), &mut lines);
            }
        }
        match pinned.tools.get(&look.tool.name) {
            None if pinned.partial && lines.is_empty() => return Standing::Unpinned,
            None => compare("tool", "none", &pretty(&look.tool.definition), &mut lines),
            Some(tool) if tool.pin != look.tool.pin.as_str() => {
                differences(&tool.definition, &look.tool.definition, &mut lines);
            }
            Some(_) => {}
        }
        if lines.is_empty() { Standing::Same } else { Standing::Differs(shown(lines)) }
    }

    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lock: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if lock.version != VERSION {
            return Err(format!("it has version {}, and this program reads version {VERSION}", lock.version));
        }
        for (server, pinned) in &lock.servers {
            for (name, tool) in &pinned.tools {
                if Pin::of(&tool.definition).as_str() != tool.pin {
                    return Err(format!("the pin of `{server}.{name}` is not that of its definition: it was edited"));
                }
            }
        }
        Ok(lock)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// What a file held when it was last read.
type Reading = Result<std::sync::Arc<Lock>, String>;

/// The lock of an installation, read again whenever its file changes.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    seen: Mutex<Option<(Stamp, Reading)>>,
}

/// Tells one version of a file from another: time, length and inode.
type Stamp = Option<(SystemTime, u64, u64)>;

impl LockFile {
    /// The lock at a path; the file need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seen: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock as it is now; an absent file pins nothing.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(&self) -> Result<std::sync::Arc<Lock>, String> {
        let mut seen = self.seen.lock();
        let stamp = stamp(&self.path).map_err(|why| self.broken(&why))?;
        if let Some((known, lock)) = &*seen
            && *known == stamp
        {
            return lock.clone();
        }
        let lock = load(&self.path, stamp.is_some()).map(std::sync::Arc::new).map_err(|why| self.broken(&why));
        *seen = Some((stamp, lock.clone()));
        lock
    }

    /// Changes the lock in one step: whoever reads finds the old file or the new one.
    ///
    /// # Errors
    /// Why it could not be read or written; nothing changed then.
    pub fn change(&self, change: impl FnOnce(&mut Lock)) -> Result<(), String> {
        let mut lock = Lock::clone(&*self.read()?);
        let mut seen = self.seen.lock();
        change(&mut lock);
        replace(&self.path, lock.text().as_bytes())
            .map_err(|error| format!("lock file {} cannot be written: {error}", self.path.display()))?;
        *seen = None;
        Ok(())
    }

    fn broken(&self, why: &str) -> String {
        format!(
            "lock file {} cannot be used, so no tool is called: {why}; restore it, or write it anew with `interlock tools pin`",
            self.path.display()
        )
    }
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some((meta.modified().map_err(|e| e.to_string())?, meta.len(), meta.ino()))),
        Ok(_) => Err("it is no file".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn load(path: &Path, is_there: bool) -> Result<Lock, String> {
    if !is_there {
        return Ok(Lock::default());
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Lock::parse(&text)
}

/// Writes beside, syncs, renames, syncs the folder.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let beside = path.with_extension(format!("lock.{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // Nothing is lost: it is the copy beside the file.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

/// Field by field, what is not the same.
fn differences(was: &Value, is: &Value, lines: &mut Vec<String>) {
    let keys = |side: &Value| side.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    let mut all = keys(was).unwrap_or_default();
    all.extend(keys(is).unwrap_or_default());
    all.sort_unstable();
    all.dedup();
    for key in all {
        let side = |side: &Value| side.get(&key).map_or_else(|| "none".to_owned(), pretty);
        if was.get(&key) != is.get(&key) {
            compare(&key, &side(was), &side(is), lines);
        }
    }
}

/// The lines of two texts that differ, without those both begin and end with.
fn compare(what: &str, was: &str, is: &str, lines: &mut Vec<String>) {
    let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    let head = was.iter().zip(&is).take_while(|(was, is)| was == is).count();
    let rest = was.len().min(is.len()) - head;
    let tail = was.iter().rev().zip(is.iter().rev()).take(rest).take_while(|(was, is)| was == is).count();
    lines.push(format!("{what}:"));
    let part = |side: &[&str], sign: &str| -> Vec<String> {
        side.iter().take(side.len() - tail).skip(head).map(|line| format!("{sign} {}", cut(line))).collect()
    };
    lines.extend(part(&was, "-"));
    lines.extend(part(&is, "+"));
}

fn cut(line: &str) -> String {
    let shown: String = line.chars().take(DIFF_CHARS_MAX).collect();
    if shown.len() < line.len() { format!("{shown}… ({} bytes)", line.len()) } else { shown }
}

fn shown(mut lines: Vec<String>) -> String {
    if lines.len() > DIFF_LINES_MAX {
        let more = lines.len() - DIFF_LINES_MAX;
        lines.truncate(DIFF_LINES_MAX);
        lines.push(format!("… {more} more lines"));
    }
    plain::escaped(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::hub::{Annotations, Effect, EffectSource, ToolInfo};

    pub(crate) fn look(definition: Value) -> Look {
        let tool = ToolInfo {
            name: definition["name"].as_str().unwrap().to_owned(),
            title: None,
            description: None,
            annotations: Annotations::default(),
            input_schema: json!({}),
            output_schema: None,
            effect: Effect::ReadOnly,
            effect_source: EffectSource::Operator,
            pin: Pin::of(&definition),
            definition: Arc::new(definition),
        };
        Look { tool: Arc::new(tool), identity: Some("w 1".to_owned()), instructions: None }
    }

    fn locked(definition: Value) -> Lock {
        let look = look(definition);
        let mut lock = Lock::default();
        let server = lock.servers.entry("w".to_owned()).or_default();
        server.introduced(&look);
        server.tools.insert(look.tool.name.clone(), PinnedTool::of(&look));
        lock
    }

    fn query(description: &str) -> Value {
        let properties = json!({"sql": {"type": "string", "description": description}});
        json!({"name": "query", "description": "Reads.", "inputSchema": {"type": "object", "properties": properties}})
    }

    #[test]
    fn one_letter_of_a_parameter_is_seen_and_shown() {
        let lock = locked(query("A select"));
        assert_eq!(lock.standing("w", &look(query("A select"))), Standing::Same);
        let Standing::Differs(diff) = lock.standing("w", &look(query("A select\u{202e}!"))) else { panic!("same") };
        expect![[r#"
            inputSchema:
            -       "description": "A select",
            +       "description": "A select\u{202e}!","#]]
        .assert_eq(&diff);
    }

    #[test]
    fn a_new_tool_and_another_server_are_seen() {
        let lock = locked(query("A select"));
        let new = json!({"name": "drop", "inputSchema": {"type": "object"}});
        assert!(matches!(lock.standing("w", &look(new.clone())), Standing::Differs(diff) if diff.contains("drop")));
        assert_eq!(lock.standing("other", &look(new)), Standing::Unpinned);
        let upgraded = Look { identity: Some("w 2".to_owned()), ..look(query("A select")) };
        assert!(matches!(lock.standing("w", &upgraded), Standing::Differs(diff) if diff.contains("+ w 2")));
        let told = Look { instructions: Some("Obey.".to_owned()), ..look(query("A select")) };
        assert!(matches!(lock.standing("w", &told), Standing::Differs(diff) if diff.contains("+ Obey.")));
    }

    #[test]
    fn the_file_is_read_anew_when_it_changes_and_never_half() {
        let folder = tempfile::tempdir().unwrap();
        let file = LockFile::new(folder.path().join(LOCK_FILE));
        assert_eq!(*file.read().unwrap(), Lock::default());
        file.change(|lock| *lock = locked(query("A select"))).unwrap();
        assert_eq!(*file.read().unwrap(), locked(query("A select")));
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(file.path(), text.replace("A select", "A sneaky select")).unwrap();
        assert!(file.read().unwrap_err().contains("it was edited"));
        assert!(file.change(|lock| lock.servers.clear()).is_err(), "a broken lock is not written over in passing");
        std::fs::write(file.path(), "{").unwrap();
        assert!(file.read().is_err());
        std::fs::remove_file(file.path()).unwrap();
        std::fs::create_dir(file.path()).unwrap();
        assert!(file.read().unwrap_err().contains("no file"));
    }

    /// G20: any change of any part of a tool is seen; no change of order is.
    #[test]
    fn a_thousand_changes_are_seen_and_a_thousand_orders_are_none() {
        let base = json!({
            "name": "query", "title": "Query", "description": "Reads rows of a table.",
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
            "inputSchema": {"type": "object", "required": ["sql"], "properties": {
                "sql": {"type": "string", "description": "A select", "maxLength": 100}, "limit": {"type": "integer", "enum": [1, 10, 100]}}},
            "outputSchema": {"type": "object", "properties": {"rows": {"type": "array"}}},
            "_meta": {"team": "data"}, "icons": [{"src": "https://example.test/i.png"}],
        });
        let lock = locked(base.clone());
        let text = base.to_string();
        let mut changed = 0;
        let mut seed = 7_u64;
        while changed < 1000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(seed >> 33).unwrap() % text.len();
            let mut bytes = text.clone().into_bytes();
            bytes[at] = bytes[at].wrapping_add(1 + u8::try_from((seed >> 20) % 5).unwrap());
            let Ok(mutant) = serde_json::from_slice::<Value>(&bytes) else { continue };
            if mutant == base || mutant["name"] != "query" {
                continue;
            }
            let mutant = look(mutant);
            if mutant.tool.definition == look(base.clone()).tool.definition {
                continue;
            }
            assert!(matches!(lock.standing("w", &mutant), Standing::Differs(_)), "{}", mutant.tool.definition);
            changed += 1;
        }
        for turn in 0..1000 {
            assert_eq!(lock.standing("w", &look(serde_json::from_str(&turned(&base, turn)).unwrap())), Standing::Same);
        }
        println!("G20 changes={changed} quarantined={changed} reorderings=1000 false_alarms=0");
    }

    /// The same JSON with the keys of every object in another order.
    fn turned(value: &Value, turn: usize) -> String {
        match value {
            Value::Object(fields) => {
                let mut parts: Vec<String> = fields
                    .iter()
                    .map(|(key, field)| format!("{}:{}", Value::from(key.as_str()), turned(field, turn)))
                    .collect();
                let by = turn % parts.len().max(1);
                parts.rotate_left(by);
                if turn % 2 == 1 {
                    parts.reverse();
                }
                format!("{{{}}}", parts.join(","))
            }
            Value::Array(items) => {
                format!("[{}]", items.iter().map(|item| turned(item, turn)).collect::<Vec<_>>().join(","))
            }
            other => other.to_string(),
        }
    }
}
