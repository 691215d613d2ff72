//! A storm is one incident: symptoms that lie downstream of another one, near in time, are its consequences.
//!
//! A symptom is a consequence of one whose pipeline or table is upstream of its own, if both were seen within a span. Each
//! is given to one root, the most upstream of those it can be a consequence of, so two independent failures stay two even where
//! something lies below both. What shares an upstream that itself is well is *not* put together: it would hide a failure behind
//! a neighbour's; watch the upstream instead.
//!
//! No symptom is lost: each is a root, a consequence of one, or the repetition of another with the same fingerprint.

use std::collections::{BTreeMap, BTreeSet};

use crate::lineage::Lineage;

/// Most symptoms that are compared with each other; what comes after them stays alone.
pub const SYMPTOMS_MAX: usize = 1_000;

/// What was noticed where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symptom {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Pipeline.
    pub pipeline: String,
    /// What it is called.
    pub kind: String,
    /// Identity: the same symptom noticed again has the same one.
    pub fingerprint: String,
    /// Tables that the pipeline writes, and whatever else the lineage knows it by.
    pub tables: Vec<String>,
}

/// One root with what follows from it, as places in the list that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The most upstream one.
    pub root: usize,
    /// What lies downstream of it, in order of time and name.
    pub consequences: Vec<usize>,
    /// The same ones again.
    pub repetitions: Vec<usize>,
}

/// Groups symptoms by lineage and time; the order in which they are given does not matter.
pub fn correlate(symptoms: &[Symptom], lineage: &Lineage, span_s: i64) -> Vec<Group> {
    let mut order: Vec<usize> = (0..symptoms.len()).collect();
    order.sort_by_key(|at| symptoms.get(*at));
    let (firsts, repeated) = deduplicated(symptoms, &order);
    let compared = firsts.get(..SYMPTOMS_MAX).unwrap_or(&firsts);
    let above = uppers(symptoms, compared, lineage, span_s);
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (rank, at) in firsts.iter().enumerate() {
        let root = firsts.get(root_of(rank, &above)).copied().unwrap_or(*at);
        let group =
            groups.entry(root).or_insert_with(|| Group { root, consequences: Vec::new(), repetitions: Vec::new() });
        if *at != root {
            group.consequences.push(*at);
        }
        group.repetitions.extend(repeated.get(at).into_iter().flatten());
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| symptoms.get(group.root));
    groups
}

/// The first of each fingerprint in order, and the others by the first.
fn deduplicated(symptoms: &[Symptom], order: &[usize]) -> (Vec<usize>, BTreeMap<usize, Vec<usize>>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut firsts, mut repeated) = (Vec::new(), BTreeMap::<usize, Vec<usize>>::new());
    for at in order {
        let Some(symptom) = symptoms.get(*at) else { continue };
        match seen.get(symptom.fingerprint.as_str()) {
            Some(first) => repeated.entry(*first).or_default().push(*at),
            None => {
                seen.insert(&symptom.fingerprint, *at);
                firsts.push(*at);
            }
        }
    }
    (firsts, repeated)
}

/// For each symptom, by rank, those upstream of it that are near in time.
fn uppers(symptoms: &[Symptom], firsts: &[usize], lineage: &Lineage, span_s: i64) -> Vec<Vec<usize>> {
    let known: Vec<&Symptom> = firsts.iter().filter_map(|at| symptoms.get(*at)).collect();
    let names = |symptom: &'_ Symptom| -> Vec<String> {
        [&symptom.pipeline].into_iter().chain(&symptom.tables).cloned().collect()
    };
    let own: Vec<Vec<String>> = known.iter().map(|symptom| names(symptom)).collect();
    // A table of its own that is upstream of another of its own says nothing about a neighbour.
    let far: Vec<BTreeSet<&str>> = own
        .iter()
        .map(|own| {
            let mut above = lineage.above(own.iter().map(String::as_str));
            above.retain(|name| !own.iter().any(|own| own == name));
            above
        })
        .collect();
    let reaches = |low: usize, high: usize| {
        let (Some(far), Some(high)) = (far.get(low), own.get(high)) else { return false };
        high.iter().any(|name| far.contains(name.as_str()))
    };
    let is_near = |a: &Symptom, b: &Symptom| a.at.abs_diff(b.at) <= span_s.unsigned_abs();
    let is_above = |high: usize, low: usize| {
        let (Some(upper), Some(lower)) = (known.get(high), known.get(low)) else { return false };
        let is_same = upper.pipeline == lower.pipeline;
        // Of one pipeline, or where each feeds the other, the earlier one is the upper.
        let mutual = is_same || (reaches(low, high) && reaches(high, low));
        is_near(upper, lower) && if mutual { high < low } else { reaches(low, high) }
    };
    (0..known.len()).map(|low| (0..known.len()).filter(|high| *high != low && is_above(*high, low)).collect()).collect()
}

/// The most upstream one that this one can be a consequence of: among all above, one that has none above; the earliest.
fn root_of(rank: usize, above: &[Vec<usize>]) -> usize {
    let upper = |rank: usize| above.get(rank).map_or(&[][..], Vec::as_slice);
    let (mut seen, mut open) = (BTreeSet::from([rank]), vec![rank]);
    while let Some(next) = open.pop() {
        open.extend(upper(next).iter().copied().filter(|above| seen.insert(*above)));
    }
    // Where everything has something above, tables of several pipelines lie in a ring: its first one then.
    let roots = seen.iter().copied().filter(|rank| upper(*rank).is_empty());
    roots.min().or(seen.first().copied()).unwrap_or(rank)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_S: i64 = 3_600;

    fn symptom(pipeline: &str, at: i64) -> Symptom {
        Symptom {
            at,
            pipeline: pipeline.to_owned(),
            kind: "stale".to_owned(),
            fingerprint: format!("{pipeline}@{at}"),
            tables: vec![format!("t_{pipeline}")],
        }
    }

    fn lineage(edges: &[(&str, &str)]) -> Lineage {
        let mut upstream: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, upper) in edges {
            upstream.entry((*name).to_owned()).or_default().push((*upper).to_owned());
        }
        Lineage::new(upstream).unwrap()
    }

    fn shown(symptoms: &[Symptom], lineage: &Lineage) -> Vec<String> {
        let name = |at: &usize| symptoms[*at].pipeline.as_str();
        let line = |group: Group| {
            let rest: Vec<&str> = group.consequences.iter().map(name).collect();
            format!("{} ← [{}] +{}", name(&group.root), rest.join(" "), group.repetitions.len())
        };
        correlate(symptoms, lineage, HOUR_S).into_iter().map(line).collect()
    }

    #[test]
    fn a_storm_is_one_incident_with_the_most_upstream_as_root() {
        let edges = lineage(&[("b", "t_a"), ("c", "b"), ("d", "t_c"), ("t_c", "c")]);
        // The root is noticed last, and twice.
        let storm = [symptom("d", 10), symptom("c", 20), symptom("b", 30), symptom("a", 40), symptom("a", 40)];
        assert_eq!(shown(&storm, &edges), ["a ← [d c b] +1"]);
        // What lies between and is well does not part them.
        assert_eq!(shown(&[symptom("d", 0), symptom("a", 1)], &edges), ["a ← [d] +0"]);
    }

    #[test]
    fn what_is_not_connected_or_far_in_time_stays_apart() {
        let edges = lineage(&[("b", "a"), ("c", "a")]);
        assert_eq!(shown(&[symptom("a", 0), symptom("b", HOUR_S + 1)], &edges), ["a ← [] +0", "b ← [] +0"]);
        assert_eq!(
            shown(&[symptom("b", 0), symptom("c", 0)], &edges),
            ["b ← [] +0", "c ← [] +0"],
            "their upstream is well"
        );
        assert_eq!(shown(&[symptom("a", 0), symptom("x", 0)], &edges), ["a ← [] +0", "x ← [] +0"]);
    }

    #[test]
    fn two_roots_stay_two_and_share_no_consequence() {
        let edges = lineage(&[("c", "a"), ("c", "b"), ("d", "b")]);
        let symptoms = [symptom("a", 0), symptom("b", 5), symptom("c", 9), symptom("d", 9)];
        assert_eq!(shown(&symptoms, &edges), ["a ← [c] +0", "b ← [d] +0"]);
    }

    #[test]
    fn tables_in_a_ring_of_pipelines_are_one_group() {
        // No lineage has a cycle, but pipelines may write tables on both ends of each other.
        let edges = lineage(&[("t_b", "t_a"), ("u_a", "u_b")]);
        let with =
            |name: &str, more: &str| Symptom { tables: vec![format!("t_{name}"), more.to_owned()], ..symptom(name, 0) };
        assert_eq!(shown(&[with("b", "u_b"), with("a", "u_a")], &edges), ["a ← [b] +0"]);
    }

    fn anything() -> impl Strategy<Value = (Vec<Symptom>, Lineage)> {
        let symptoms = prop::collection::vec((0..12_u32, 0..3 * HOUR_S), 0..24)
            .prop_map(|drawn| drawn.into_iter().map(|(name, at)| symptom(&name.to_string(), at)).collect());
        let edges = prop::collection::vec((1..12_u32, 0..12_u32), 0..24).prop_map(|drawn| {
            let named: Vec<(String, String)> =
                drawn.into_iter().map(|(name, upper)| (name.to_string(), (upper % name).to_string())).collect();
            lineage(&named.iter().map(|(name, upper)| (name.as_str(), upper.as_str())).collect::<Vec<_>>())
        });
        (symptoms, edges)
    }

    proptest! {
        #[test]
        fn no_symptom_is_lost_or_told_twice((symptoms, edges) in anything()) {
            let groups = correlate(&symptoms, &edges, HOUR_S);
            let mut all: Vec<usize> = groups.iter()
                .flat_map(|group| [group.root].into_iter().chain(group.consequences.iter().copied()).chain(group.repetitions.iter().copied()))
                .collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..symptoms.len()).collect::<Vec<_>>());
        }

        #[test]
        fn order_does_not_matter((symptoms, edges) in anything(), turn in 0..24_usize) {
            let mut turned = symptoms.clone();
            turned.rotate_left(turn.min(symptoms.len()));
            turned.reverse();
            prop_assert_eq!(shown(&symptoms, &edges), shown(&turned, &edges));
        }

        #[test]
        fn without_lineage_only_one_pipeline_s_own_are_together((symptoms, _) in anything()) {
            for group in correlate(&symptoms, &Lineage::default(), HOUR_S) {
                let is_own = |at: &usize| symptoms[*at].pipeline == symptoms[group.root].pipeline;
                prop_assert!(group.consequences.iter().all(is_own));
            }
        }
    }
}
