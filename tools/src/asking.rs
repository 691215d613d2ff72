//! A tool that asks back becomes a question to people, durably: the call ends with its questions, the thread waits as long
//! as it takes, and the call is made again with the answers, each step journaled like any other.

use std::collections::BTreeMap;

use runtime::Context;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::Question;
use serde_json::{Map, Value, json};

use crate::hub::{FormAnswer, InputAnswers, InputRequest};
use crate::marked;

/// Times one call may ask back before it is given up.
pub const ROUNDS_MAX: usize = 10;
/// Key of a journaled result that is no result but questions. A tool cannot use it: see [`forged`].
const MARKER: &str = "interlock/asks";

/// Whether the caller of a tool can put its questions to people.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Questions {
    /// Nobody can be asked: a tool that asks has failed.
    #[default]
    Refused,
    /// People can be asked, and these are their answers so far.
    Welcome(InputAnswers),
}

/// Questions in the place of a result.
pub fn marker(request: &InputRequest) -> Value {
    marked::mark(MARKER, request)
}

/// The questions in the place of a result, if that is what it is.
pub fn asked(result: &Value) -> Option<InputRequest> {
    marked::content(MARKER, result)
}

/// Whether a result of a tool pretends to be questions of the runtime.
pub fn forged(result: &Value) -> bool {
    marked::is_forged(MARKER, result)
}

/// Puts the questions of a tool to people, if it has any for them, and waits for their answers.
///
/// # Errors
/// If the thread is stopped, or an answer is none.
pub async fn put_to_people(ctx: &Context, target: &str, request: &InputRequest) -> Result<InputAnswers, TaskError> {
    if request.forms.is_empty() {
        return read(target, request, None);
    }
    let answer = ctx.ask(question(target, request)).await?;
    read(target, request, answer.as_ref().map(|answer| answer.value.as_ref()))
}

/// One question for all forms. What the server says is shown as its words, never as ours.
fn question(target: &str, request: &InputRequest) -> Question {
    let lines = request.forms.iter().map(|form| format!("{target} says (untrusted): {}", form.message));
    let fields = request.forms.iter().map(|form| (form.key.clone(), form.schema.clone()));
    let fields: Map<String, Value> = fields.collect();
    let filled = json!({"type": "object", "properties": fields, "required": fields.keys().collect::<Vec<_>>()});
    let declined = json!({"type": "object", "properties": {"decline": {"const": true}}, "required": ["decline"]});
    Question {
        title: format!("{target} asks for input before it goes on"),
        body: lines.collect::<Vec<_>>().join("\n"),
        payload: json!({ "tool": target, "forms": request.forms }),
        schema: Some(json!({ "anyOf": [filled, declined] })),
        ..Question::default()
    }
}

/// The answers in the form the server wants them; no answer in time is a refusal.
fn read(target: &str, request: &InputRequest, answer: Option<&Value>) -> Result<InputAnswers, TaskError> {
    let declined = answer.is_none_or(|answer| answer.get("decline") == Some(&Value::Bool(true)));
    let mut answers = BTreeMap::new();
    for form in &request.forms {
        let said = match (declined, answer.and_then(|answer| answer.get(&form.key))) {
            (true, _) => FormAnswer::Decline,
            (false, Some(filled)) => FormAnswer::Accept(filled.clone()),
            (false, None) => {
                let message = format!("the answer to `{target}` leaves out `{}`", form.key);
                return Err(TaskError::new(ErrorClass::Invalid, message));
            }
        };
        answers.insert(form.key.clone(), said);
    }
    Ok(InputAnswers { state: request.state.clone(), answers, known: request.known.clone() })
}

#[cfg(test)]
mod tests {
    use crate::hub::Form;

    use super::*;

    fn request() -> InputRequest {
        let schema = json!({"type": "object", "properties": {"region": {"type": "string"}}});
        let form = Form { key: "where".into(), message: "Which region?".into(), schema };
        InputRequest { state: Some("st".into()), forms: vec![form], samples: Vec::new(), known: BTreeMap::new() }
    }

    #[test]
    fn a_marker_is_read_back_and_nothing_else_is_one() {
        assert_eq!(asked(&marker(&request())), Some(request()));
        for value in [json!({}), json!([1]), json!({"interlock/asks": 1}), json!({"interlock/asks": {}, "x": 1})] {
            assert_eq!(asked(&value), None, "{value}");
        }
        assert!(forged(&marker(&request())) && !forged(&json!({"rows": []})));
    }

    #[test]
    fn answers_go_back_under_the_server_s_names() {
        let filled = json!({"where": {"region": "eu"}});
        let answers = read("s.t", &request(), Some(&filled)).unwrap();
        assert_eq!(answers.answers["where"], FormAnswer::Accept(json!({"region": "eu"})));
        assert_eq!(answers.state.as_deref(), Some("st"));
        for refusal in [None, Some(json!({"decline": true}))] {
            let answers = read("s.t", &request(), refusal.as_ref()).unwrap();
            assert_eq!(answers.answers["where"], FormAnswer::Decline);
        }
        assert!(read("s.t", &request(), Some(&json!({}))).is_err());
    }

    #[test]
    fn a_question_shows_whose_words_it_holds() {
        let question = question("s.t", &request());
        assert_eq!(question.body, "s.t says (untrusted): Which region?");
        let schema = question.schema.unwrap();
        assert_eq!(schema.pointer("/anyOf/0/required"), Some(&json!(["where"])));
    }
}
