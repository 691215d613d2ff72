//! What the ledger of a killed process must show, read in the order of events.

use std::collections::BTreeMap;

/// How far a once-only call got, in the order of G3's boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Phase {
    /// Nothing of it yet, or it is over.
    #[default]
    Idle,
    /// Asked for; no intent that anybody was told of.
    Wanted,
    /// Its intent is durable; it has not been made.
    Permitted,
    /// It happened; the answer is on its way.
    Made,
    /// The answer is here; its record may not be durable.
    Told,
}

/// Calls that a kill caught at each boundary.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Boundaries {
    pub(crate) before_intent: u64,
    pub(crate) after_intent: u64,
    pub(crate) during_call: u64,
    pub(crate) before_persist: u64,
}

/// What a ledger adds up to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) acks: u64,
    pub(crate) calls: u64,
    /// Calls with an unknown outcome that people were asked about.
    pub(crate) surfaced: u64,
    /// Kills that caught at least one call at the boundary.
    pub(crate) kills_at: Boundaries,
}

/// What is known about one thread.
#[derive(Default)]
struct Seen {
    acked: u64,
    keys: BTreeMap<(String, u64), String>,
    made: BTreeMap<u64, u32>,
    step: u64,
    phase: Phase,
    /// An earlier life began this call; whether it happened is for people to say.
    unknown: bool,
}

impl Seen {
    /// The process died. Returns where its once-only call was.
    fn died(&mut self) -> Phase {
        self.unknown = self.unknown || self.phase >= Phase::Permitted;
        let was = self.phase;
        if self.phase == Phase::Wanted {
            self.phase = Phase::Idle;
        }
        was
    }

    fn moved(&mut self, step: u64, phase: Phase) {
        (self.step, self.phase) = (step, phase);
    }

    /// A step that was acknowledged may not rest on an outcome that nobody knew.
    fn acknowledged(&mut self, step: u64) -> Result<(), String> {
        if self.unknown && self.step == step && matches!(self.phase, Phase::Permitted | Phase::Made) {
            return Err(format!("step {step} was acknowledged although nobody knew how its call ended"));
        }
        if step > self.acked {
            (self.acked, self.phase, self.unknown) = (step, Phase::Idle, false);
        }
        Ok(())
    }

    fn called(&mut self, word: &str, step: u64, key: &str) -> Result<(), String> {
        let known = self.keys.entry((word.to_owned(), step)).or_insert_with(|| key.to_owned());
        if *known != key {
            return Err(format!("step {step} had key {known} and then {key}"));
        }
        if word == "once" {
            self.moved(step, Phase::Made);
            let count = self.made.entry(step).or_default();
            *count += 1;
            if *count > 1 {
                return Err(format!("the once-only call of step {step} was made twice"));
            }
        }
        Ok(())
    }

    fn line(&mut self, word: &str, step: u64, key: &str) -> Result<(), String> {
        match word {
            "load" if step < self.acked => {
                Err(format!("superstep {} was acknowledged and is gone ({step} loaded)", self.acked))
            }
            "load" => {
                // What the last life finished durably without being able to say so is over too.
                if step > self.acked {
                    self.acknowledged(step)?;
                }
                Ok(())
            }
            "ack" => self.acknowledged(step),
            "run" | "want" | "permit" | "idem" | "once" if step <= self.acked => {
                Err(format!("step {step} ran again after it was acknowledged"))
            }
            "want" if !self.unknown => {
                self.moved(step, Phase::Wanted);
                Ok(())
            }
            "permit" if self.unknown && self.step == step => {
                Err(format!("the call of step {step} was begun again without asking how it ended"))
            }
            "permit" => {
                self.moved(step, Phase::Permitted);
                Ok(())
            }
            "told" => {
                self.moved(step, Phase::Told);
                Ok(())
            }
            "doubt" => {
                (self.phase, self.unknown) = (Phase::Idle, false);
                Ok(())
            }
            "idem" | "once" => self.called(word, step, key),
            _ => Ok(()),
        }
    }
}

/// Reads a ledger; the first violation is the error.
pub(crate) fn check(text: &str) -> Result<Figures, String> {
    let mut threads: BTreeMap<u64, Seen> = BTreeMap::new();
    let mut figures = Figures::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let word = fields.first().copied().unwrap_or("");
        match word {
            "life" => {
                let phases: Vec<Phase> = threads.values_mut().map(Seen::died).collect();
                figures.kills_at.count(&phases);
                continue;
            }
            "once" | "idem" => figures.calls += 1,
            "doubt" => figures.surfaced += 1,
            _ => {}
        }
        let seen = threads.entry(number(1)).or_default();
        // Every superstep counts once, however many listen.
        figures.acks += u64::from(word == "ack" && number(2) > seen.acked);
        let key = fields.get(3).copied().unwrap_or("");
        seen.line(word, number(2), key).map_err(|why| format!("thread {}: {why}: {line}", number(1)))?;
    }
    Ok(figures)
}

impl Boundaries {
    /// One kill; a boundary counts once however many calls were at it.
    fn count(&mut self, phases: &[Phase]) {
        let at = |phase| u64::from(phases.contains(&phase));
        self.before_intent += at(Phase::Wanted);
        self.after_intent += at(Phase::Permitted);
        self.during_call += at(Phase::Made);
        self.before_persist += at(Phase::Told);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.before_intent += other.before_intent;
        self.after_intent += other.after_intent;
        self.during_call += other.during_call;
        self.before_persist += other.before_persist;
    }

    pub(crate) fn least(&self) -> u64 {
        self.before_intent.min(self.after_intent).min(self.during_call).min(self.before_persist)
    }
}
