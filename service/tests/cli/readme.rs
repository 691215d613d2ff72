//! What README.md shows of a terminal and of graph files is true.

use super::stage::Stage;

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap()
}

/// The text of the fenced blocks with this word behind the fence.
fn blocks(text: &str, word: &str) -> Vec<String> {
    let open = format!("```{word}");
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            Some(lines) if line == "```" => found.push(std::mem::take(lines)),
            Some(lines) => lines.extend([line, "\n"]),
            None if line == open => block = Some(String::new()),
            None => {}
        }
        if line == "```" {
            block = None;
        }
    }
    found
}

/// Whether a printed line is the shown one; `[..]` stands for anything.
fn fits(shown: &str, printed: &str) -> bool {
    let parts: Vec<&str> = shown.trim_end().split("[..]").collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    if parts.len() == 1 {
        return shown.trim_end() == printed.trim_end();
    }
    let Some(mut rest) = printed.trim_end().strip_prefix(first) else { return false };
    for part in &parts[1..parts.len() - 1] {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Splits `a --b '{"c": 1}'` as a shell would.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

#[test]
fn the_terminal_sessions_are_real() {
    let text = readme();
    let graphs = blocks(&text, "yaml");
    let stage = Stage::new();
    stage.write("triage.yaml", graphs.iter().find(|graph| graph.starts_with("graph: triage")).unwrap());
    let mut n_commands = 0;
    for block in blocks(&text, "console") {
        for session in block.split("$ interlock ").skip(1) {
            let (command, shown) = session.split_once('\n').unwrap();
            let args = words(command);
            let ran = stage.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
            let printed = ran.stdout.lines().collect::<Vec<_>>();
            for (at, line) in shown.lines().enumerate() {
                let there = printed.get(at).copied().unwrap_or("");
                assert!(fits(line, there), "`interlock {command}`\nshown:   {line}\nprinted: {there}\n{}", ran.stderr);
            }
            n_commands += 1;
        }
    }
    assert!(n_commands >= 5, "README.md shows only {n_commands} commands");
}

#[test]
fn the_graphs_are_good_ones() {
    let stage = Stage::new();
    let graphs: Vec<String> =
        blocks(&readme(), "yaml").into_iter().filter(|block| block.starts_with("graph: ")).collect();
    assert!(graphs.len() >= 2, "README.md shows only {} graphs", graphs.len());
    for graph in graphs {
        stage.write("shown.yaml", graph.clone());
        let ran = stage.run(&["check", "shown.yaml"]);
        assert_eq!(ran.code, 0, "{graph}\n{}", ran.stderr);
    }
}

#[test]
fn a_line_that_differs_does_not_fit() {
    assert!(fits("a [..] c", "a b c") && fits("a", "a ") && fits("[..]", "anything"));
    assert!(!fits("a [..] c", "a b d") && !fits("a", "b") && !fits("x[..]", "y"));
}
