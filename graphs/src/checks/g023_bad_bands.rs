//! The bands of a gate leave a score without a place, or a band that no score reaches.
//!
//! Bands are read from the top: the first whose `at_least` the score reaches is taken. So they must go down, and
//! the last must have no `at_least`, to take whatever is left.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { gate: input.score, bands: [{ at_least: 0.5, then: end }, { at_least: 0.9, then: end }] }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::{BandSpec, KindSpec, NodeSpec};

pub(crate) const CODE: &str = "G023";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    for node in &cx.spec.nodes {
        if let KindSpec::Gate { bands, .. } = &node.kind {
            check_bands(node, bands, findings);
        }
    }
}

fn check_bands(node: &NodeSpec, bands: &[BandSpec], findings: &mut Vec<Finding>) {
    let name = &node.name.text;
    let Some(last) = bands.last() else {
        findings.push(Finding::error(CODE, node.name.span, format!("the gate `{name}` has no bands")));
        return;
    };
    if let Some(lowest) = last.at_least {
        let message = format!("a score under {lowest} has no band in the gate `{name}`");
        findings.push(Finding::error(CODE, last.span, message).help("end with a band without `at_least`"));
    }
    for (upper, lower) in bands.iter().zip(bands.iter().skip(1)) {
        let problem = match (upper.at_least, lower.at_least) {
            (None, _) => format!("this band of `{name}` is never reached: the one above it takes every score"),
            (Some(upper), Some(lower)) if lower >= upper => {
                format!("this band of `{name}` is never reached: {lower} is not lower than {upper} above it")
            }
            _ => continue,
        };
        findings.push(Finding::error(CODE, lower.span, problem).help("order the bands from the highest to the lowest"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn order_and_end() {
        check_error(
            "graph: g\nnodes:\n  a: { gate: input.score, bands: [{ at_least: 0.5, then: b }, { at_least: 0.9, then: b }] }\n  b: { gate: input.score, bands: [] }\nstart: a\n",
            expect![[r#"
                error[G023]: a score under 0.9 has no band in the gate `a`
                 --> g.yaml:3:75
                  |
                3 |   a: { gate: input.score, bands: [{ at_least: 0.5, then: b }, { at_least: 0.9, then: b }] }
                  |                                                                           ^^^
                  = help: end with a band without `at_least`

                error[G023]: this band of `a` is never reached: 0.9 is not lower than 0.5 above it
                 --> g.yaml:3:75
                  |
                3 |   a: { gate: input.score, bands: [{ at_least: 0.5, then: b }, { at_least: 0.9, then: b }] }
                  |                                                                           ^^^
                  = help: order the bands from the highest to the lowest

                error[G023]: the gate `b` has no bands
                 --> g.yaml:4:3
                  |
                4 |   b: { gate: input.score, bands: [] }
                  |   ^

            "#]],
        );
    }
}
