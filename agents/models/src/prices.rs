//! What a call costs, in whole millionths of a dollar, and at most would cost. A model without a price is an error.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::request::{ModelRequest, ToolChoice};
use crate::response::Usage;

/// The table that ships.
const SHIPPED: &str = include_str!("../prices.yaml");
/// Longest price file.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Tokens that a price is for.
const MILLION: u128 = 1_000_000;
/// A factor of one.
const WHOLE_PERMILLE: u64 = 1000;
/// Highest price of a million tokens, in dollars: beyond it a point was forgotten.
const DOLLARS_MAX: f64 = 100_000.0;
/// Names farther apart than this are no slips of the pen.
const SLIPS_MAX: usize = 6;

/// Money and tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Millionths of a US dollar.
    pub usd_micros: u64,
    /// Tokens, in and out.
    pub tokens: u64,
}

impl Amounts {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            usd_micros: self.usd_micros.saturating_add(other.usd_micros),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }
}

/// Prices of a million tokens, in millionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from the prompt cache.
    pub cache_read: u64,
    /// Put into the prompt cache.
    pub cache_write: u64,
}

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Where the prices were read.
    pub source: String,
    /// When.
    pub date: String,
    /// Its prices.
    pub rates: Rates,
    /// Its prices when the prompt has more than so many tokens.
    pub long_prompt: Option<(u64, Rates)>,
    /// Factor of the batch interface, in thousandths.
    pub batch_permille: u64,
    /// Tokens of prompt and answer together.
    pub context: u64,
    /// Tokens of a prompt, where that is less.
    pub max_input: Option<u64>,
    /// Tokens of an answer.
    pub max_output: u64,
    /// Whether it takes sampling settings.
    pub temperature: bool,
    /// Whether it can be made to call a tool.
    pub forced_tools: bool,
    /// Where it would stand in a ladder of three.
    pub tier: Option<String>,
}

/// Prices of models by `provider/model` or by `model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceTable {
    cards: BTreeMap<String, ModelCard>,
}

/// A model that has no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no price for model `{model}` of provider `{provider}`{}; a call of unknown price is not made: add it under `models.prices`",
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
)]
pub struct UnknownModel {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// A known name that is close.
    pub nearest: Option<String>,
}

/// A price as people write it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CardFile {
    #[serde(default)]
    source: String,
    #[serde(default)]
    date: String,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    batch: Option<f64>,
    long_prompt: Option<LongFile>,
    context: u64,
    max_input: Option<u64>,
    max_output: u64,
    #[serde(default = "yes")]
    temperature: bool,
    #[serde(default = "yes")]
    forced_tools: bool,
    tier: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongFile {
    above: u64,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

fn yes() -> bool {
    true
}

fn micros(dollars: f64) -> Result<u64, String> {
    if !(0.0..=DOLLARS_MAX).contains(&dollars) {
        return Err(format!("{dollars} dollars for a million tokens cannot be: 0 to {DOLLARS_MAX} can"));
    }
    Ok((dollars * 1_000_000.0).round() as u64)
}

fn rates(input: f64, output: f64, cache_read: Option<f64>, cache_write: Option<f64>) -> Result<Rates, String> {
    let (input, output) = (micros(input)?, micros(output)?);
    let or_input = |price: Option<f64>| price.map_or(Ok(input), micros);
    Ok(Rates { input, output, cache_read: or_input(cache_read)?, cache_write: or_input(cache_write)? })
}

impl CardFile {
    pub(crate) fn card(&self) -> Result<ModelCard, String> {
        let batch = self.batch.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&batch) {
            return Err(format!("batch: {batch} is no factor from 0 to 1"));
        }
        if self.max_output == 0 || self.max_output > self.context {
            return Err("max_output must be at least 1 and fit the context".to_owned());
        }
        let long = |long: &LongFile| {
            Ok::<_, String>((long.above, rates(long.input, long.output, long.cache_read, long.cache_write)?))
        };
        Ok(ModelCard {
            source: self.source.clone(),
            date: self.date.clone(),
            rates: rates(self.input, self.output, self.cache_read, self.cache_write)?,
            long_prompt: self.long_prompt.as_ref().map(long).transpose()?,
            batch_permille: (batch * 1000.0).round() as u64,
            context: self.context,
            max_input: self.max_input,
            max_output: self.max_output,
            temperature: self.temperature,
            forced_tools: self.forced_tools,
            tier: self.tier.clone(),
        })
    }
}

impl Rates {
    /// Rounded up, so that many small calls do not cost nothing.
    fn price(&self, usage: &Usage, permille: u64) -> u64 {
        let parts = [
            (usage.input, self.input),
            (usage.output, self.output),
            (usage.cache_read, self.cache_read),
            (usage.cache_write, self.cache_write),
        ];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
        let whole = sum.saturating_mul(u128::from(permille)).div_ceil(MILLION * u128::from(WHOLE_PERMILLE));
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    fn dearest_prompt(&self) -> u64 {
        self.input.max(self.cache_read).max(self.cache_write)
    }
}

impl ModelCard {
    /// What a call cost.
    pub fn cost(&self, usage: &Usage) -> Amounts {
        self.amounts(usage, WHOLE_PERMILLE)
    }

    /// What a call in a batch cost.
    pub fn batch_cost(&self, usage: &Usage) -> Amounts {
        self.amounts(usage, self.batch_permille)
    }

    /// What a call costs at most: every token read at the dearest price, and an answer as long as it may be.
    pub fn worst_case(&self, prompt: u64, max_output: u64) -> Amounts {
        self.dearest(prompt, max_output, WHOLE_PERMILLE)
    }

    /// The same in a batch.
    pub fn batch_worst_case(&self, prompt: u64, max_output: u64) -> Amounts {
        self.dearest(prompt, max_output, self.batch_permille)
    }

    fn dearest(&self, prompt: u64, max_output: u64, permille: u64) -> Amounts {
        let output = max_output.min(self.max_output);
        let at = |rates: &Rates| {
            let dearest = Rates { input: rates.dearest_prompt(), ..*rates };
            dearest.price(&Usage { input: prompt, output, ..Usage::default() }, permille)
        };
        // The estimate may lie on the wrong side of the step.
        let usd_micros = self.long_prompt.iter().filter(|(above, _)| prompt > *above).map(|(_, rates)| at(rates));
        let usd_micros = usd_micros.fold(at(&self.rates), u64::max);
        Amounts { usd_micros, tokens: prompt.saturating_add(output) }
    }

    fn amounts(&self, usage: &Usage, permille: u64) -> Amounts {
        let long = self.long_prompt.as_ref().filter(|(above, _)| usage.prompt() > *above);
        let rates = long.map_or(&self.rates, |(_, rates)| rates);
        Amounts { usd_micros: rates.price(usage, permille), tokens: usage.total() }
    }

    /// Whether a prompt of so many tokens leaves room for the answer.
    pub fn fits(&self, prompt: u64, max_output: u64) -> bool {
        let output = max_output.min(self.max_output);
        prompt.saturating_add(output) <= self.context && self.max_input.is_none_or(|max| prompt <= max)
    }

    /// The request as this model takes it: what it refuses is left out, and what it cannot reach is lowered.
    pub fn adapt(&self, model: &str, request: &ModelRequest) -> ModelRequest {
        let mut request = request.clone();
        model.clone_into(&mut request.model);
        request.max_output_tokens = request.max_output_tokens.min(self.max_output);
        request.temperature = request.temperature.filter(|_| self.temperature);
        if !self.forced_tools && matches!(request.tool_choice, ToolChoice::Any | ToolChoice::Tool(_)) {
            request.tool_choice = ToolChoice::Auto;
        }
        request
    }
}

impl PriceTable {
    /// The table that ships.
    ///
    /// # Errors
    /// Never for a released build: a test reads the file.
    pub fn shipped() -> Result<Self, String> {
        Self::parse(SHIPPED)
    }

    /// A table from YAML.
    ///
    /// # Errors
    /// What cannot be read, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > FILE_BYTES_MAX {
            return Err(format!("the price table is larger than {FILE_BYTES_MAX} bytes"));
        }
        let files: BTreeMap<String, CardFile> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let mut table = Self { cards: BTreeMap::new() };
        table.add(&files)?;
        Ok(table)
    }

    /// Adds entries, or replaces those of the same name.
    pub(crate) fn add(&mut self, files: &BTreeMap<String, CardFile>) -> Result<(), String> {
        for (name, file) in files {
            let card = file.card().map_err(|why| format!("price of `{name}`: {why}"))?;
            self.cards.insert(name.clone(), card);
        }
        Ok(())
    }

    /// Names that have a price.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.cards.keys().map(String::as_str)
    }

    /// What is known of a model: by `provider/model`, by `model`, or by the model without the date at its end.
    ///
    /// # Errors
    /// There is no price; says which known name is close.
    pub fn card(&self, provider: &str, model: &str) -> Result<&ModelCard, UnknownModel> {
        let names = [format!("{provider}/{model}"), model.to_owned(), undated(model).to_owned()];
        if let Some(card) = names.iter().find_map(|name| self.cards.get(name)) {
            return Ok(card);
        }
        // Of two that are as close the longer one: it says more.
        let near = self.names().map(|name| (slips(name, model), Reverse(name.len()), name));
        let near = near.filter(|(slips, ..)| *slips <= SLIPS_MAX).min();
        Err(UnknownModel {
            provider: provider.to_owned(),
            model: model.to_owned(),
            nearest: near.map(|(.., name)| name.to_owned()),
        })
    }
}

/// `claude-haiku-4-5-20251001` and `gpt-6-sol-2026-09-22` are their models on a day.
fn undated(model: &str) -> &str {
    for form in ["-dddddddd", "-dddd-dd-dd"] {
        let Some(at) = model.len().checked_sub(form.len()) else { continue };
        let Some((name, end)) = model.split_at_checked(at) else { continue };
        let fits = |(form, byte): (u8, u8)| if form == b'd' { byte.is_ascii_digit() } else { byte == form };
        if form.bytes().zip(end.bytes()).all(fits) {
            return name;
        }
    }
    model
}

/// Letters to change, add or drop between two names.
fn slips(a: &str, b: &str) -> usize {
    const NAME_CHARS_MAX: usize = 64;
    let b: Vec<char> = b.chars().take(NAME_CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().take(NAME_CHARS_MAX).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn card(name: &str) -> ModelCard {
        PriceTable::shipped().unwrap().card("any", name).unwrap().clone()
    }

    #[test]
    fn the_shipped_table_is_whole_and_says_where_it_comes_from() {
        let table = PriceTable::shipped().unwrap();
        assert!(table.names().count() >= 9);
        for (name, card) in &table.cards {
            assert!(card.source.starts_with("https://"), "{name}");
            assert!(card.date.parse::<jiff::civil::Date>().is_ok(), "{name}: {}", card.date);
            assert!(card.rates.output > card.rates.input && card.rates.cache_read < card.rates.input, "{name}");
            assert_eq!(card.batch_permille, 500, "{name}");
        }
    }

    #[test]
    fn every_kind_of_token_has_its_price_to_the_micro() {
        let usage = Usage { input: 1_000_000, output: 100_000, cache_read: 2_000_000, cache_write: 10_000 };
        // 4 + 2 + 0.40 + 0.05 dollars.
        let opus = card("claude-opus-5-5");
        assert_eq!(opus.cost(&usage), Amounts { usd_micros: 6_450_000, tokens: 3_110_000 });
        assert_eq!(opus.batch_cost(&usage).usd_micros, 3_225_000, "half the price in a batch");
        let one = Usage { input: 1, ..Usage::default() };
        assert_eq!(card("claude-haiku-5-5").cost(&one).usd_micros, 1, "a tenth of a micro is not nothing");
        assert_eq!(card("claude-haiku-5-5").cost(&Usage::default()).usd_micros, 0);
    }

    #[test]
    fn a_long_prompt_is_dearer_as_a_whole() {
        let haiku = card("claude-haiku-5-5");
        let usage = |input, cache_read| Usage { input, output: 10_000, cache_read, cache_write: 0 };
        assert_eq!(haiku.cost(&usage(100_000, 0)).usd_micros, 15_000);
        // 60,000 at 0.50, 40,001 read from the cache at 0.05, 10,000 written at 2.50.
        assert_eq!(haiku.cost(&usage(60_000, 40_001)).usd_micros, 30_000 + 2001 + 25_000);
    }

    #[test]
    fn an_unknown_model_is_an_error_that_knows_the_nearest_name() {
        let table = PriceTable::shipped().unwrap();
        let unknown = table.card("anthropic", "claude-opus-55").unwrap_err();
        assert_eq!(unknown.nearest.as_deref(), Some("claude-opus-5-5"));
        assert!(unknown.to_string().contains("did you mean `claude-opus-5-5`?"), "{unknown}");
        assert_eq!(table.card("x", "llama-something-else").unwrap_err().nearest, None);
        assert_eq!(table.card("x", "claude-haiku-4-5-20251001").unwrap().context, 200_000);
        assert_eq!(table.card("x", "gpt-6.2-sol-2026-11-17").unwrap().max_input, Some(922_000));
        assert!(table.card("x", "claude-haiku-4-5-2025").is_err());
    }

    #[test]
    fn a_price_that_cannot_be_is_refused_and_an_own_one_wins() {
        let entry = |input: &str| format!("m: {{ input: {input}, output: 2, context: 10, max_output: 5 }}");
        assert!(PriceTable::parse(&entry("-1")).is_err());
        assert!(PriceTable::parse(&entry("1e9")).is_err());
        assert!(PriceTable::parse("m: { input: 1, output: 2, context: 10, max_output: 5, colour: red }").is_err());
        let free = PriceTable::parse(&entry("0")).unwrap();
        assert_eq!(
            free.card("local", "m").unwrap().rates.cache_write,
            0,
            "without a price of its own it is charged like input"
        );
        let own = "local/m: { input: 3, output: 2, context: 10, max_output: 5 }\nm: { input: 1, output: 2, context: 10, max_output: 5 }";
        assert_eq!(PriceTable::parse(own).unwrap().card("local", "m").unwrap().rates.input, 3_000_000);
    }

    #[test]
    fn a_request_is_made_fit_for_the_model() {
        let mut request = ModelRequest::of_text("x", 1_000_000);
        request.temperature = Some(0.0);
        request.tool_choice = ToolChoice::Any;
        let adapted = card("claude-opus-5-5").adapt("claude-opus-5-5", &request);
        assert_eq!(
            (adapted.max_output_tokens, adapted.temperature, adapted.tool_choice),
            (128_000, None, ToolChoice::Auto)
        );
        let adapted = card("claude-haiku-4-5").adapt("claude-haiku-4-5", &request);
        assert_eq!(
            (adapted.max_output_tokens, adapted.temperature, adapted.tool_choice),
            (64_000, Some(0.0), ToolChoice::Any)
        );
    }

    proptest! {
        #[test]
        fn no_call_within_its_estimate_costs_more_than_the_worst_case(
            parts in (0_u64..400_000, 0_u64..400_000, 0_u64..400_000),
            output in 0_u64..200_000,
            which in 0_usize..9,
        ) {
            let table = PriceTable::shipped().unwrap();
            let card = table.cards.values().nth(which % table.cards.len()).unwrap();
            let (input, cache_read, cache_write) = parts;
            let usage = Usage { input, output: output.min(card.max_output), cache_read, cache_write };
            let worst = card.worst_case(usage.prompt(), output);
            prop_assert!(card.cost(&usage).usd_micros <= worst.usd_micros);
            prop_assert!(card.cost(&usage).tokens <= worst.tokens);
            prop_assert!(card.batch_cost(&usage).usd_micros <= card.cost(&usage).usd_micros);
        }
    }
}
