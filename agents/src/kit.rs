//! The declared knowledge of an installation, read once.

use crate::estate::Estate;
use crate::knowledge::Knowledge;
use crate::remedies::Remedies;
use crate::yaml::Broken;

/// Estate, known causes and remedies, checked against each other.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The pipelines.
    pub estate: Estate,
    /// Known causes.
    pub knowledge: Knowledge,
    /// Declared remedies.
    pub remedies: Remedies,
}

impl Kit {
    /// A kit whose causes name only remedies that exist.
    ///
    /// # Errors
    /// If a cause names a remedy or a source that is not declared.
    pub fn new(estate: Estate, knowledge: Knowledge, remedies: Remedies) -> Result<Self, Broken> {
        let unknown = knowledge.remedies().find(|(_, remedy)| !remedies.has(remedy));
        if let Some((cause, remedy)) = unknown {
            let why = format!(
                "cause `{cause}` names remedy `{remedy}`, which is not declared; declared are {}",
                remedies.names()
            );
            return Err(Broken::new("causes", why));
        }
        let declared = |source: &str| estate.sources.iter().any(|known| known.name == source);
        if let Some((cause, source)) = knowledge.sources().find(|(_, source)| !declared(source)) {
            let known: Vec<&str> = estate.sources.iter().map(|source| source.name.as_str()).collect();
            let why = format!("cause `{cause}`: there is no source `{source}`; sources are {}", known.join(", "));
            return Err(Broken::new("causes", why));
        }
        Ok(Self { estate, knowledge, remedies })
    }

    /// A kit from the three files of an installation.
    ///
    /// # Errors
    /// If one of them cannot be used, or they do not belong together.
    pub fn from_yaml(estate: &str, causes: &str, remedies: &str) -> Result<Self, Broken> {
        Self::new(Estate::from_yaml(estate)?, Knowledge::from_yaml(causes)?, Remedies::from_yaml(remedies)?)
    }

    /// What ships with the runtime.
    ///
    /// # Errors
    /// Never with the files that ship.
    pub fn shipped() -> Result<Self, Broken> {
        Self::new(Estate::shipped()?, Knowledge::shipped()?, Remedies::shipped()?)
    }
}
