//! What a test expects against what it saw.

use runtime_core::record::{Interrupt, Outcome};
use runtime_core::stream::show_interrupt;
use serde_json::{Map, Value};

use super::Seen;

/// Longest value shown in a message.
const SHOWN_CHARS_MAX: usize = 400;

/// Everything that did not come out as expected.
pub(super) fn problems(expect: &Value, seen: &Seen) -> Vec<String> {
    let empty = Map::new();
    let expect = expect.as_object().unwrap_or(&empty);
    let mut problems = Vec::new();
    status(expect, seen, &mut problems);
    for (channel, wanted) in expect.get("state").and_then(Value::as_object).into_iter().flatten() {
        let found = seen.values.get(channel).unwrap_or(&Value::Null);
        if !same(wanted, found) {
            problems.push(difference(format!("state.{channel}"), wanted, found));
        }
    }
    for (key, found) in [("path", &seen.path), ("calls", &seen.calls)] {
        let Some(wanted) = expect.get(key).map(names) else { continue };
        if wanted != *found {
            problems.push(format!("{key}: expected {}, found {}", wanted.join(" → "), found.join(" → ")));
        }
    }
    arguments(expect, seen, &mut problems);
    for node in expect.get("visited").map(names).unwrap_or_default() {
        if !seen.visited.contains(&node) {
            problems.push(format!("visited: `{node}` did not run; what ran is {}", seen.visited.join(", ")));
        }
    }
    for node in expect.get("not_visited").map(names).unwrap_or_default() {
        if seen.visited.contains(&node) {
            problems.push(format!("not_visited: `{node}` ran"));
        }
    }
    if let Some(wanted) = expect.get("interrupts") {
        interrupts(wanted, &seen.open, &mut problems);
    }
    problems
}

/// Each expected call must be found behind the one before it.
fn arguments(expect: &Map<String, Value>, seen: &Seen, problems: &mut Vec<String>) {
    let mut made = seen.calls.iter().zip(&seen.arguments);
    for wanted in expect.get("arguments").and_then(Value::as_array).into_iter().flatten() {
        let tool = wanted.get("tool").and_then(Value::as_str).unwrap_or_default();
        let args = wanted.get("args").unwrap_or(&Value::Null);
        if !made.any(|(called, given)| called == tool && covers(args, given)) {
            let given: Vec<String> =
                seen.calls.iter().zip(&seen.arguments).map(|(c, a)| format!("{c} {}", shown(a))).collect();
            problems.push(format!(
                "arguments: no such call of `{tool}` with {}; made were {}",
                shown(args),
                given.join(", ")
            ));
        }
    }
}

/// Without a word about the status, a failure is still a failure.
fn status(expect: &Map<String, Value>, seen: &Seen, problems: &mut Vec<String>) {
    let (found, why) = match &seen.outcome {
        Some(Outcome::Success) => ("success", String::new()),
        Some(Outcome::Failed(error)) => ("failed", format!(": {} ({})", error.message, error.class.word())),
        Some(Outcome::Interrupted) => {
            let asked: Vec<&str> = seen.open.iter().map(|question| question.title.as_str()).collect();
            ("interrupted", if asked.is_empty() { String::new() } else { format!(": {}", asked.join("; ")) })
        }
        Some(Outcome::Waiting) => ("interrupted", ": it waits for a signal".to_owned()),
        Some(_) | None => ("unfinished", String::new()),
    };
    let wanted = expect.get("status").and_then(Value::as_str);
    match wanted {
        Some(wanted) if wanted != found => problems.push(format!("status: expected {wanted}, found {found}{why}")),
        None if found == "failed" => problems.push(format!("status: it failed{why}")),
        _ => {}
    }
}

fn interrupts(wanted: &Value, open: &[Interrupt], problems: &mut Vec<String>) {
    let list: Vec<Value> = match wanted {
        Value::Array(items) => items.clone(),
        single => vec![single.clone()],
    };
    if list.len() != open.len() {
        let titles: Vec<&str> = open.iter().map(|question| question.title.as_str()).collect();
        problems.push(format!("interrupts: expected {}, found {}: {}", list.len(), open.len(), titles.join("; ")));
        return;
    }
    for wanted in &list {
        let fits = |question: &&Interrupt| match wanted {
            Value::String(text) => *text == *question.node || question.title.contains(text.as_str()),
            other => covers(other, &show_interrupt(question)),
        };
        if !open.iter().any(|question| fits(&question)) {
            problems.push(format!("interrupts: nothing that is asked fits {}", shown(wanted)));
        }
    }
}

fn names(list: &Value) -> Vec<String> {
    match list {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(one) => vec![one.clone()],
        _ => Vec::new(),
    }
}

/// Whether every key of `wanted` is in `found` with that value.
fn covers(wanted: &Value, found: &Value) -> bool {
    match wanted {
        Value::Object(map) => map.iter().all(|(key, value)| found.get(key).is_some_and(|found| covers(value, found))),
        _ => same(wanted, found),
    }
}

/// Equality by value: 1 equals 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

/// The first place where two values differ, and what stands there; of texts the first line that differs.
fn difference<'v>(mut place: String, mut wanted: &'v Value, mut found: &'v Value) -> String {
    while let Some((step, inner_wanted, inner_found)) = first_within(wanted, found) {
        place.push_str(&step);
        (wanted, found) = (inner_wanted, inner_found);
    }
    if let (Some(a), Some(b)) = (wanted.as_str(), found.as_str())
        && (a.contains('\n') || b.contains('\n'))
    {
        let same = a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count();
        let line = |text: &str| text.lines().nth(same).map_or("the end".to_owned(), |line| shown(&line.into()));
        return format!("{place}, line {}: expected {}, found {}", same + 1, line(a), line(b));
    }
    format!("{place}: expected {}, found {}", shown(wanted), shown(found))
}

/// The first part that differs of two objects with the same keys or two lists of the same length.
fn first_within<'v>(wanted: &'v Value, found: &'v Value) -> Option<(String, &'v Value, &'v Value)> {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() && a.keys().all(|key| b.contains_key(key)) => {
            let parts = a.iter().filter_map(|(key, value)| Some((format!(".{key}"), value, b.get(key)?)));
            parts.into_iter().find(|(_, wanted, found)| !same(wanted, found))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let parts = a.iter().zip(b).enumerate().map(|(ix, (a, b))| (format!("[{ix}]"), a, b));
            parts.into_iter().find(|(_, wanted, found)| !same(wanted, found))
        }
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use runtime_core::error::{ErrorClass, TaskError};
    use serde_json::json;

    use super::*;

    fn check_problems(wanted: Value, seen: &Seen, expected: Expect) {
        expected.assert_eq(&problems(&wanted, seen).join("\n"));
    }

    fn seen() -> Seen {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Seen {
            outcome: Some(Outcome::Success),
            values: json!({"n": 1.0, "log": ["a"]}),
            path: names(&["a", "b"]),
            visited: names(&["a", "b", "inner"]),
            calls: names(&["w.q"]),
            arguments: vec![json!({"sql": "select 1", "limit": 1})],
            open: Vec::new(),
        }
    }

    #[test]
    fn what_came_out_as_expected_is_no_problem() {
        let wanted = json!({
            "status": "success", "state": {"n": 1, "log": ["a"], "gone": null}, "path": ["a", "b"], "visited": ["inner"],
            "not_visited": ["c"], "calls": ["w.q"], "interrupts": [],
        });
        check_problems(wanted, &seen(), expect![""]);
    }

    #[test]
    fn everything_else_is_told() {
        let wanted = json!({
            "status": "failed", "state": {"n": 2, "log": []}, "path": ["a"], "visited": ["c"],
            "not_visited": ["inner"], "calls": [], "interrupts": ["ask"],
        });
        check_problems(
            wanted,
            &seen(),
            expect![[r#"
                status: expected failed, found success
                state.log: expected [], found ["a"]
                state.n: expected 2, found 1.0
                path: expected a, found a → b
                calls: expected , found w.q
                visited: `c` did not run; what ran is a, b, inner
                not_visited: `inner` ran
                interrupts: expected 1, found 0: "#]],
        );
    }

    #[test]
    fn calls_are_looked_for_with_their_arguments_and_in_their_order() {
        let call = |args: Value| json!({"tool": "w.q", "args": args});
        check_problems(json!({"arguments": [call(json!({"limit": 1.0}))]}), &seen(), expect![""]);
        check_problems(
            json!({"arguments": [call(json!({"limit": 1})), call(json!({"limit": 1}))]}),
            &seen(),
            expect![[
                r#"arguments: no such call of `w.q` with {"limit":1}; made were w.q {"limit":1,"sql":"select 1"}"#
            ]],
        );
        check_problems(
            json!({"arguments": [call(json!({"limit": 2}))]}),
            &seen(),
            expect![[
                r#"arguments: no such call of `w.q` with {"limit":2}; made were w.q {"limit":1,"sql":"select 1"}"#
            ]],
        );
    }

    #[test]
    fn a_difference_is_shown_where_it_is() {
        let seen = Seen { values: json!({"page": "# A\n\nb\n", "list": [{"a": 1, "b": [1, 2]}]}), ..seen() };
        check_problems(
            json!({"state": {"page": "# A\n\nc\n", "list": [{"a": 1.0, "b": [1, 3]}]}}),
            &seen,
            expect![[r#"
                state.list[0].b[1]: expected 3, found 2
                state.page, line 3: expected "c", found "b""#]],
        );
        check_problems(
            json!({"state": {"page": "# A", "list": []}}),
            &seen,
            expect![[r#"
                state.list: expected [], found [{"a":1,"b":[1,2]}]
                state.page, line 2: expected the end, found """#]],
        );
    }

    #[test]
    fn a_failure_nobody_expected_is_a_problem() {
        let outcome = Some(Outcome::Failed(TaskError::new(ErrorClass::Denied, "no")));
        check_problems(json!({}), &Seen { outcome, ..seen() }, expect!["status: it failed: no (denied)"]);
    }
}
