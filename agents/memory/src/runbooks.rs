//! Runbooks and schemas from a folder of Markdown with YAML in front.
//!
//! ```text
//!  ---
//!  id: RB-002
//!  title: Permission denied on a warehouse table
//!  applies_to: [any]                      also: pipelines, causes, symptoms, tags, class
//!  version: 3                             else the head of the content's hash
//!  updated: 2026-03-01
//!  status: active                         draft and active are used; deprecated, obsolete, retired, superseded are not
//!  ---
//! ```
//!
//! Other keys are other people's. A file that cannot be used is named, and the rest is used.

use std::path::Path;

use jiff::civil::Date;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::document::{Broken, Document, Kind, TAGS_MAX, is_name, one_line};

/// Most files of a folder.
const FILES_MAX: usize = 1_000;
/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Largest folder in bytes.
const FOLDER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Digits of the hash that stand for a version that nobody declared.
const VERSION_DIGITS: usize = 8;
/// Words of a status that take a runbook out of use.
const OUT_OF_USE: [&str; 4] = ["deprecated", "obsolete", "retired", "superseded"];
/// Words of a status that do not.
const IN_USE: [&str; 2] = ["active", "draft"];

/// What a folder gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Folder {
    /// The documents, by file name.
    pub documents: Vec<Document>,
    /// Files that cannot be used.
    pub broken: Vec<Broken>,
}

#[derive(Debug, Deserialize)]
struct Front {
    id: String,
    title: String,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    version: Option<Scalar>,
    #[serde(default)]
    updated: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    deprecated: bool,
    #[serde(default)]
    superseded_by: Option<String>,
    #[serde(default)]
    class: Option<String>,
    #[serde(default)]
    applies_to: OneOrMany,
    #[serde(default)]
    pipelines: OneOrMany,
    #[serde(default)]
    causes: OneOrMany,
    #[serde(default)]
    symptoms: OneOrMany,
    #[serde(default)]
    tags: OneOrMany,
}

/// People write `version: 3` and `version: 1.2b`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Whole(u64),
    Decimal(f64),
    Text(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn list(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Reads the `.md` files of a folder, in the order of their names.
///
/// # Errors
/// The folder cannot be read, or has more files than are allowed.
pub fn read_folder(folder: &Path) -> Result<Folder, String> {
    let failed = |error: &std::io::Error| format!("{}: {}", folder.display(), error.kind());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(format!("{}: more than {FILES_MAX} runbooks; split the folder", folder.display()));
        }
    }
    paths.sort();
    let mut found = Folder::default();
    let mut n_bytes = 0_usize;
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let document = read_file(&path).and_then(|text| {
            n_bytes += text.len();
            if n_bytes > FOLDER_BYTES_MAX {
                return Err(format!("the folder has more than {FOLDER_BYTES_MAX} bytes; split it"));
            }
            parse(&text)
        });
        let document = document.and_then(|document| match found.documents.iter().find(|d| d.id == document.id) {
            Some(_) => Err(format!("another file has the id `{}`; give each its own", document.id)),
            None => Ok(document),
        });
        match document {
            Ok(document) => found.documents.push(document),
            Err(why) => found.broken.push(Broken::new(name, why)),
        }
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| error.kind().to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.kind().to_string())?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes; split it"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// One file.
pub(crate) fn parse(text: &str) -> Result<Document, String> {
    let (front, body, first_line) =
        split(text).ok_or("it does not begin with `---`, keys such as `id` and `title`, and `---`")?;
    // Only what is wrong and where: the place is seen from the first line of the front.
    let front: Front = serde_saphyr::from_str(front)
        .map_err(|error| error.without_snippet().to_string().lines().next().unwrap_or("no YAML").to_owned())?;
    if !is_name(&front.id) {
        return Err("`id` must be short, of letters, digits, `-`, `_` and `.`".to_owned());
    }
    let version = match front.version {
        None => hex::encode(Sha256::digest(text.as_bytes())).chars().take(VERSION_DIGITS).collect(),
        Some(Scalar::Whole(number)) => number.to_string(),
        Some(Scalar::Decimal(number)) => number.to_string(),
        Some(Scalar::Text(text)) if is_name(&text) => text,
        Some(Scalar::Text(_)) => return Err("`version` must be short, of letters, digits, `-`, `_` and `.`".to_owned()),
    };
    let updated = match front.updated.as_deref() {
        None => None,
        Some(text) => Some(text.trim().parse::<Date>().map_err(|_| "`updated` is no day, as in 2026-03-01")?),
    };
    let status = front.status.as_deref().map(str::trim).unwrap_or("active");
    if !OUT_OF_USE.contains(&status) && !IN_USE.contains(&status) {
        let (used, not) = (IN_USE.join(", "), OUT_OF_USE.join(", "));
        return Err(format!("`status: {}` is not known; use {used}, or {not}", one_line(status)));
    }
    let deprecated = front.deprecated || front.superseded_by.is_some() || OUT_OF_USE.contains(&status);
    let lists = [front.applies_to, front.pipelines, front.causes, front.symptoms, front.tags];
    let tags = lists.into_iter().flat_map(OneOrMany::list).chain(front.class);
    Ok(Document {
        kind: front.kind.unwrap_or(Kind::Runbook),
        title: one_line(&front.title),
        text: body.to_owned(),
        first_line,
        version,
        updated,
        deprecated,
        tags: tags.take(TAGS_MAX).map(|tag| one_line(&tag)).collect(),
        id: front.id,
    })
}

/// Front, body, and the line that the body begins at.
fn split(text: &str) -> Option<(&str, &str, usize)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (first, rest) = text.split_once('\n')?;
    if first.trim_end() != "---" {
        return None;
    }
    let mut at = 0;
    for (number, line) in rest.split_inclusive('\n').enumerate() {
        if line.trim_end() == "---" {
            // One line before the front, one after it, and lines count from one.
            return Some((rest.get(..at)?, rest.get(at + line.len()..)?, number + 3));
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runbook_is_read_with_its_lines_and_tags() {
        let text = "---\nid: RB-1\ntitle: Locks\napplies_to: [any]\nsymptoms: [lock timeout]\nclass: resource\nversion: 3\nupdated: 2026-03-01\n---\nFirst.\n";
        let found = parse(text).unwrap();
        assert_eq!((found.first_line, found.text.as_str(), found.version.as_str()), (10, "First.\n", "3"));
        assert_eq!(text.lines().nth(found.first_line - 1), Some("First."));
        assert_eq!((found.tags.join(" | ").as_str(), found.deprecated), ("any | lock timeout | resource", false));
        assert_eq!(found.updated, Some(jiff::civil::date(2026, 3, 1)));
    }

    #[test]
    fn a_version_that_nobody_declared_is_that_of_the_text() {
        let of = |body: &str| parse(&format!("---\nid: a\ntitle: t\n---\n{body}")).unwrap().version;
        assert_eq!(of("x").len(), VERSION_DIGITS);
        assert_ne!(of("x"), of("y"));
    }

    #[test]
    fn what_is_out_of_use_is_marked_however_it_is_said() {
        for (key, expected) in [
            ("status: deprecated", true),
            ("status: superseded", true),
            ("deprecated: true", true),
            ("superseded_by: RB-2", true),
            ("status: active", false),
            ("owner: somebody", false),
        ] {
            let found = parse(&format!("---\nid: a\ntitle: t\n{key}\n---\nx")).unwrap();
            assert_eq!(found.deprecated, expected, "{key}");
        }
    }

    #[test]
    fn broken_files_are_named_and_the_rest_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.md", b"---\nid: a\ntitle: t\n---\nx");
        write("b.md", b"no front");
        write("c.md", b"---\nid: c\ntitle: [\n---\n");
        write("d.md", b"---\nid: a\ntitle: twice\n---\n");
        write("e.md", b"---\nid: e\ntitle: t\nstatus: maybe\n---\n");
        write("f.md", &vec![b'x'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]);
        write("g.md", &[b'-', 0xff]);
        write("h.md", b"---\nid: h h\ntitle: t\n---\n");
        write("i.txt", b"not Markdown");
        let found = read_folder(folder.path()).unwrap();
        assert_eq!(found.documents.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(), ["a"]);
        let broken: Vec<&str> = found.broken.iter().map(|broken| broken.place.as_str()).collect();
        assert_eq!(broken, ["b.md", "c.md", "d.md", "e.md", "f.md", "g.md", "h.md"]);
        assert!(read_folder(&folder.path().join("none")).is_err());
    }
}
