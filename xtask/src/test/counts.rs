//! How many tests ran, read from the closing lines of the test runners.

/// Sums over the tests of a stage or of all stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    /// One check that held or not.
    pub(crate) fn one(success: bool) -> Self {
        Self { passed: usize::from(success), failed: usize::from(!success), skipped: 0 }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }

    /// For a stage's line.
    pub(crate) fn describe(self) -> String {
        match (self.failed, self.skipped) {
            (0, 0) => format!("{} passed", self.passed),
            (0, skipped) => format!("{} passed, {skipped} skipped", self.passed),
            (failed, _) => format!("{} passed, {failed} failed", self.passed),
        }
    }

    /// The plain line that CI reads; tests that a later stage runs are not counted as skipped.
    pub(crate) fn closing_line(self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

/// Counts of a runner's output: nextest's summary and each `test result:` of the standard harness.
///
/// A runner that succeeded without running a test proves nothing, so that counts as a failure; one that failed before
/// its first test counts as one failure.
pub(crate) fn of_tests(output: &str, success: bool) -> Counts {
    let counts = output.lines().map(plain).filter_map(|line| of_line(&line)).fold(Counts::default(), Counts::plus);
    if success && counts.passed > 0 || counts.failed > 0 { counts } else { counts.plus(Counts::one(false)) }
}

fn of_line(line: &str) -> Option<Counts> {
    let line = line.trim();
    let rest = if let Some(rest) = line.strip_prefix("test result:") {
        rest
    } else {
        line.strip_prefix("Summary [").and_then(|rest| rest.split_once("run:"))?.1
    };
    let mut counts = Counts::default();
    for part in rest.split([',', ';', '.']) {
        let mut words = part.split_whitespace();
        let (Some(Ok(n)), Some(what)) = (words.next().map(str::parse::<usize>), words.next()) else { continue };
        match what {
            "passed" => counts.passed += n,
            "failed" | "exec" | "timed" => counts.failed += n,
            "skipped" | "ignored" => counts.skipped += n,
            _ => {}
        }
    }
    Some(counts)
}

/// Without colours: they come when CARGO_TERM_COLOR asks for them.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // An escape sequence ends with its first letter.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, success: bool, passed: usize, failed: usize, skipped: usize) {
        assert_eq!(of_tests(output, success), Counts { passed, failed, skipped }, "{output}");
    }

    #[test]
    fn closing_lines_of_the_runners_are_read() {
        check("     Summary [   0.015s] 16 tests run: 16 passed, 4 skipped\n", true, 16, 0, 4);
        check("Summary [ 1.5s] 9 tests run: 6 passed (1 slow), 2 failed, 1 timed out, 3 skipped", false, 6, 3, 3);
        check("Summary [ 1.5s] 5/9 tests run: 4 passed, 1 exec failed, 0 skipped", false, 4, 1, 0);
        check(
            "\u{1b}[32;1m     Summary\u{1b}[0m [   0.015s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m",
            true,
            2,
            0,
            0,
        );
        check(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n",
            false,
            4,
            2,
            1,
        );
    }

    #[test]
    fn no_test_is_no_proof() {
        check("warning: nothing to do\n", true, 0, 1, 0);
        check("error: could not compile\n", false, 0, 1, 0);
        check("Summary [ 0.0s] 0 tests run: 0 passed, 12 skipped", true, 0, 1, 12);
    }
}
