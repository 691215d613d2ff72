//! The known-issue base: which causes there are, and which of them explains what was seen.
//!
//! Pure: facts in, diagnosis out. Expressions of the base are the graph language's, so what a log line says is data to
//! them and never code.

use graphs::Expr;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::confidence::{FLOOR, UNKNOWN, combine, with_margin};
use crate::diagnosis::{Class, Diagnosis, Possible, Status, transience};
use crate::estate::render_text;
use crate::facts::Facts;
use crate::incident::{Evidence, Kind};
use crate::yaml::{Broken, read};

/// Most causes of one base.
const CAUSES_MAX: usize = 5_000;
/// Other causes that a diagnosis names.
const POSSIBLE_MAX: usize = 3;
/// Most of an error's text in a cause that nobody knows.
const ERROR_CHARS_MAX: usize = 500;
/// File of the base in messages.
const FILE: &str = "causes";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    ruled_out: Vec<RuledOutText>,
    causes: Vec<CauseText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuledOutText {
    source: String,
    holds: String,
    claim: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CauseText {
    id: String,
    class: Class,
    kinds: Vec<Kind>,
    #[serde(default)]
    tasks: Vec<String>,
    #[serde(default)]
    signature: Option<String>,
    prior: f64,
    summary: String,
    cause: String,
    evidence: Vec<CheckText>,
    #[serde(default)]
    params: std::collections::BTreeMap<String, String>,
    remedies: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckText {
    source: String,
    holds: String,
    #[serde(default)]
    shows: Option<String>,
    weight: f64,
    claim: String,
    #[serde(default)]
    required: bool,
}

/// The base, compiled.
#[derive(Debug, Clone)]
pub struct Knowledge {
    causes: Vec<Cause>,
    ruled_out: Vec<Check>,
}

/// One known cause.
#[derive(Debug, Clone)]
struct Cause {
    id: String,
    class: Class,
    kinds: Vec<Kind>,
    tasks: Vec<String>,
    signature: Option<Regex>,
    prior: f64,
    summary: String,
    cause: String,
    evidence: Vec<Check>,
    params: Vec<(String, Expr)>,
    remedies: Vec<String>,
}

/// Something to look at.
#[derive(Debug, Clone)]
struct Check {
    source: String,
    holds: Expr,
    shows: Option<Expr>,
    weight: f64,
    claim: String,
    required: bool,
}

impl Knowledge {
    /// Reads a base from YAML.
    ///
    /// # Errors
    /// If the text is no YAML, has unknown keys, or an entry cannot mean what it says.
    pub fn from_yaml(text: &str) -> Result<Self, Broken> {
        let file: File = read(FILE, text)?;
        if file.causes.len() > CAUSES_MAX {
            return Err(Broken::new(FILE, format!("{} causes; at most {CAUSES_MAX} are allowed", file.causes.len())));
        }
        let mut ids = std::collections::BTreeSet::new();
        if let Some(twice) = file.causes.iter().find(|cause| !ids.insert(cause.id.clone())) {
            return Err(Broken::new(FILE, format!("two causes have the id `{}`", twice.id)));
        }
        let ruled_out = file.ruled_out.into_iter().map(|out| {
            compile_check(
                "ruled_out",
                CheckText {
                    source: out.source,
                    holds: out.holds,
                    shows: None,
                    weight: 0.0,
                    claim: out.claim,
                    required: false,
                },
            )
        });
        Ok(Self {
            ruled_out: ruled_out.collect::<Result<_, _>>()?,
            causes: file.causes.into_iter().map(compile).collect::<Result<_, _>>()?,
        })
    }

    /// The base that ships.
    ///
    /// # Errors
    /// Never with the file that ships.
    pub fn shipped() -> Result<Self, Broken> {
        Self::from_yaml(include_str!("../knowledge/causes.yaml"))
    }

    /// Every remedy that a cause names, with the cause.
    pub fn remedies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.causes.iter().flat_map(|cause| cause.remedies.iter().map(|remedy| (cause.id.as_str(), remedy.as_str())))
    }

    /// Every source that evidence names, with the cause.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        let of_causes =
            self.causes.iter().flat_map(|cause| cause.evidence.iter().map(|check| (cause.id.as_str(), check)));
        let ruled_out = self.ruled_out.iter().map(|check| ("ruled_out", check));
        of_causes.chain(ruled_out).map(|(cause, check)| (cause, check.source.as_str()))
    }

    /// The cause that explains the facts best, or "unknown" with what was ruled out.
    pub fn diagnose(&self, facts: &Facts) -> Diagnosis {
        let mut found: Vec<Candidate<'_>> =
            self.causes.iter().filter_map(|cause| Candidate::of(cause, facts)).collect();
        found.retain(|candidate| candidate.confidence >= FLOOR);
        // Stable: of two that are equally likely the one declared first stands first, and the margin lowers both.
        found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let Some((best, others)) = found.split_first() else { return self.unknown(facts) };
        let confidence = with_margin(best.confidence, others.first().map(|next| next.confidence));
        let mut diagnosis = best.diagnosis(facts, confidence);
        let possible = others.iter().take(POSSIBLE_MAX);
        diagnosis.also_possible =
            possible.map(|c| Possible { cause: c.cause.id.clone(), confidence: c.confidence }).collect();
        diagnosis
    }

    /// Whether there is a cause of this id.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.causes.iter().any(|cause| cause.id == id)
    }

    /// Id, class and text of every cause of incidents of this kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&str, Class, &str)> {
        let fitting = self.causes.iter().filter(move |cause| cause.kinds.contains(&kind));
        fitting.map(|cause| (cause.id.as_str(), cause.class, cause.cause.as_str()))
    }

    /// The diagnosis of this very cause, if the facts allow it at all.
    pub(crate) fn diagnose_as(&self, id: &str, facts: &Facts) -> Option<Diagnosis> {
        let cause = self.causes.iter().find(|cause| cause.id == id)?;
        let candidate = Candidate::of(cause, facts).filter(|candidate| candidate.confidence >= FLOOR)?;
        Some(candidate.diagnosis(facts, candidate.confidence))
    }

    fn unknown(&self, facts: &Facts) -> Diagnosis {
        let incident = &facts.incident;
        let mut evidence: Vec<Evidence> = Vec::new();
        for check in &self.ruled_out {
            if facts.has(&check.source)
                && check.holds.eval_bool(&facts.names) == Ok(true)
                && let Some(shown) = check.evidence(facts, &facts.names)
            {
                evidence.push(shown);
            }
        }
        let what = match &incident.error {
            Some(error) => error.chars().take(ERROR_CHARS_MAX).collect::<String>(),
            None => incident.symptoms.join("; "),
        };
        let gaps = facts.gaps.clone();
        Diagnosis {
            class: Class::Unknown,
            cause_id: None,
            cause: format!("No known cause explains this: {what}"),
            summary: "unknown cause".to_owned(),
            confidence: UNKNOWN,
            transience: transience(Class::Unknown),
            evidence_status: Status::Insufficient,
            evidence,
            gaps,
            also_possible: Vec::new(),
            remedies: Vec::new(),
            params: facts.params.clone(),
            blast_radius: facts.blast_radius(),
            tiers: Vec::new(),
            runbooks: Vec::new(),
            similar: Vec::new(),
            recommended: None,
            noted: Vec::new(),
        }
    }
}

/// A cause that fits, and how well.
struct Candidate<'a> {
    cause: &'a Cause,
    names: Map<String, Value>,
    confidence: f64,
    agreeing: Vec<&'a Check>,
    contradicting: Vec<&'a Check>,
    gaps: Vec<String>,
}

impl<'a> Candidate<'a> {
    fn of(cause: &'a Cause, facts: &Facts) -> Option<Self> {
        let fits_kind = cause.kinds.contains(&facts.incident.kind);
        let fits_task =
            cause.tasks.is_empty() || facts.task().is_some_and(|task| cause.tasks.iter().any(|t| t == task));
        if !fits_kind || !fits_task {
            return None;
        }
        let found = captures(cause.signature.as_ref(), facts.signature())?;
        let mut names = facts.names.clone();
        names.insert("found".to_owned(), found);
        let mut candidate =
            Self { cause, names, confidence: 0.0, agreeing: Vec::new(), contradicting: Vec::new(), gaps: Vec::new() };
        for check in &cause.evidence {
            candidate.weigh(check, facts)?;
        }
        let weights = |checks: &[&Check]| checks.iter().map(|check| check.weight).collect::<Vec<_>>();
        candidate.confidence = combine(cause.prior, &weights(&candidate.agreeing), &weights(&candidate.contradicting));
        Some(candidate)
    }

    /// `None` when required evidence speaks against the cause.
    fn weigh(&mut self, check: &'a Check, facts: &Facts) -> Option<()> {
        if !facts.has(&check.source) {
            self.gaps.push(format!("{} could not be read: {}", check.source, facts.why_not(&check.source)));
            // What must be seen and was not seen is not assumed.
            return if check.required { self.miss(check) } else { Some(()) };
        }
        match check.holds.eval_bool(&self.names) {
            Ok(true) => self.agreeing.push(check),
            Ok(false) if check.required => return None,
            Ok(false) => self.contradicting.push(check),
            Err(_) if check.required => return None,
            Err(error) => self.gaps.push(format!("`{}` could not be judged: {}", error.expression, error.message)),
        }
        Some(())
    }

    fn miss(&mut self, check: &'a Check) -> Option<()> {
        self.contradicting.push(check);
        Some(())
    }

    fn diagnosis(&self, facts: &Facts, confidence: f64) -> Diagnosis {
        let cause = self.cause;
        let text = |what: &str, template: &str| {
            let names = Value::Object(self.names.clone());
            render_text(what, template, &names).unwrap_or_else(|_| cause.id.replace('-', " "))
        };
        let mut params = facts.params.clone();
        for (name, expr) in &cause.params {
            // A parameter that cannot be found is absent, and a remedy that needs it is not applicable.
            if let Ok(value) = expr.eval(&self.names) {
                params.insert(name.clone(), value);
            }
        }
        let mut gaps = self.gaps.clone();
        for check in &self.contradicting {
            gaps.push(format!("against it: `{}` does not hold", check.holds.source()));
        }
        gaps.sort();
        gaps.dedup();
        let unread = self.contradicting.iter().any(|check| check.required);
        let evidence_status = match (unread, confidence) {
            (false, p) if p >= 0.85 => Status::Confirmed,
            (false, p) if p >= 0.70 => Status::Hypothesis,
            _ => Status::Insufficient,
        };
        Diagnosis {
            class: cause.class,
            cause_id: Some(cause.id.clone()),
            cause: text("cause", &cause.cause),
            summary: text("summary", &cause.summary),
            confidence,
            transience: transience(cause.class),
            evidence_status,
            evidence: self.agreeing.iter().filter_map(|check| check.evidence(facts, &self.names)).collect(),
            gaps,
            also_possible: Vec::new(),
            remedies: cause.remedies.clone(),
            params,
            blast_radius: facts.blast_radius(),
            tiers: Vec::new(),
            runbooks: Vec::new(),
            similar: Vec::new(),
            recommended: None,
            noted: Vec::new(),
        }
    }
}

impl Check {
    /// The claim with the call it rests on; `None` for a source that no call gave.
    fn evidence(&self, facts: &Facts, names: &Map<String, Value>) -> Option<Evidence> {
        let answer = facts.source(&self.source)?;
        let claim = render_text("claim", &self.claim, &Value::Object(names.clone())).ok()?;
        let excerpt =
            self.shows.as_ref().and_then(|shows| shows.eval(names).ok()).unwrap_or_else(|| json!(self.holds.source()));
        Some(Evidence::new(claim, answer, excerpt))
    }
}

/// Named parts of the signature; an empty object without a signature; `None` when it does not match. `column2` is `column` in
/// another wording: a regular expression cannot have a name twice.
fn captures(signature: Option<&Regex>, text: &str) -> Option<Value> {
    let Some(regex) = signature else { return Some(json!({})) };
    let captured = regex.captures(text)?;
    let named = regex.capture_names().flatten();
    let found = named.filter_map(|name| {
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
        Some((plain.to_owned(), Value::from(captured.name(name)?.as_str())))
    });
    Some(Value::Object(found.collect()))
}

fn compile(text: CauseText) -> Result<Cause, Broken> {
    let broken = |why: String| Broken::new(FILE, format!("cause `{}`: {why}", text.id));
    if !(0.0..=1.0).contains(&text.prior) {
        return Err(broken(format!("prior {} is no probability", text.prior)));
    }
    let no_proof = text.signature.is_none() && !text.evidence.iter().any(|check| check.required);
    if no_proof {
        return Err(broken(
            "without a signature it needs required evidence, or it would explain everything".to_owned(),
        ));
    }
    let signature = text.signature.as_deref().map(Regex::new).transpose().map_err(|error| broken(error.to_string()))?;
    let params = text.params.iter().map(|(name, source)| {
        Expr::parse(source).map(|expr| (name.clone(), expr)).map_err(|error| broken(error.to_string()))
    });
    Ok(Cause {
        params: params.collect::<Result<_, _>>()?,
        evidence: text.evidence.into_iter().map(|check| compile_check(&text.id, check)).collect::<Result<_, _>>()?,
        signature,
        id: text.id,
        class: text.class,
        kinds: text.kinds,
        tasks: text.tasks,
        prior: text.prior,
        summary: text.summary,
        cause: text.cause,
        remedies: text.remedies,
    })
}

fn compile_check(of: &str, text: CheckText) -> Result<Check, Broken> {
    let broken = |why: String| Broken::new(FILE, format!("cause `{of}`: {why}"));
    if !(0.0..1.0).contains(&text.weight) {
        return Err(broken(format!("weight {} must be at least 0 and below 1", text.weight)));
    }
    let parse = |source: &str| Expr::parse(source).map_err(|error| broken(error.to_string()));
    Ok(Check {
        holds: parse(&text.holds)?,
        shows: text.shows.as_deref().map(parse).transpose()?,
        source: text.source,
        weight: text.weight,
        claim: text.claim,
        required: text.required,
    })
}

#[cfg(test)]
mod tests;
