//! What is made of what: pipelines and tables with what they read, free of cycles.

use std::collections::{BTreeMap, BTreeSet};

/// Most names.
pub const NAMES_MAX: usize = 5_000;
/// Most edges.
pub const EDGES_MAX: usize = 20_000;

/// Pipelines and tables, each with what it is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    upstream: BTreeMap<String, Vec<String>>,
}

/// Why declared edges are no lineage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLineage {
    /// Something is made of itself.
    #[error("{} is a cycle: nothing is made of itself; leave one of these out", path.join(" ← "))]
    Cycle {
        /// From a name back to it.
        path: Vec<String>,
    },
    /// More than are followed.
    #[error("{names} names and {edges} edges, at most {NAMES_MAX} and {EDGES_MAX} are followed")]
    TooMany {
        /// Names with something upstream.
        names: usize,
        /// Edges.
        edges: usize,
    },
}

impl Lineage {
    /// A lineage of these edges, each name with what it is made of.
    ///
    /// # Errors
    /// If there are too many, or they have a cycle, which is named.
    pub fn new(upstream: BTreeMap<String, Vec<String>>) -> Result<Self, NoLineage> {
        let (names, edges) = (upstream.len(), upstream.values().map(Vec::len).sum());
        if names > NAMES_MAX || edges > EDGES_MAX {
            return Err(NoLineage::TooMany { names, edges });
        }
        let lineage = Self { upstream };
        match lineage.cycle() {
            Some(path) => Err(NoLineage::Cycle { path }),
            None => Ok(lineage),
        }
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.upstream.is_empty()
    }

    fn direct(&self, name: &str) -> &[String] {
        self.upstream.get(name).map_or(&[], Vec::as_slice)
    }

    /// Everything upstream of these names, near and far.
    pub fn above<'a>(&'a self, names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = names.into_iter().collect();
        // Each name is opened once, so the walk ends.
        while let Some(name) = open.pop() {
            open.extend(self.direct(name).iter().map(String::as_str).filter(|upper| found.insert(*upper)));
        }
        found
    }

    /// The first cycle in order of names: a name that is above itself, and the way back to it.
    fn cycle(&self) -> Option<Vec<String>> {
        let start = self.on_a_cycle()?;
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = std::collections::VecDeque::from([start]);
        while let Some(name) = open.pop_front() {
            for upper in self.direct(name) {
                if upper == start {
                    return Some(way_back(start, name, &came_from));
                }
                if !came_from.contains_key(upper.as_str()) {
                    came_from.insert(upper, name);
                    open.push_back(upper);
                }
            }
        }
        None
    }

    /// A name on a cycle: names whose upstream is all taken away are taken away, until none is left or each has one.
    fn on_a_cycle(&self) -> Option<&str> {
        let mut waits: BTreeMap<&str, usize> =
            self.upstream.iter().map(|(name, uppers)| (name.as_str(), uppers.len())).collect();
        let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, uppers) in &self.upstream {
            for upper in uppers {
                below.entry(upper.as_str()).or_default().push(name);
            }
        }
        let roots = below.keys().copied().filter(|upper| self.direct(upper).is_empty());
        let mut free: Vec<&str> = roots.collect();
        while let Some(upper) = free.pop() {
            for name in below.get(upper).into_iter().flatten() {
                let Some(left) = waits.get_mut(name) else { continue };
                *left -= 1;
                if *left == 0 {
                    free.push(name);
                }
            }
        }
        // What waits may only be below a cycle; one of them is above itself.
        let waiting = waits.into_iter().filter(|(_, left)| *left > 0);
        waiting.map(|(name, _)| name).find(|name| self.above([*name]).contains(name))
    }
}

fn way_back(start: &str, last: &str, came_from: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut path = vec![start.to_owned()];
    let mut at = last;
    // Each step is nearer to the start, and there are as many as names.
    for _ in 0..=came_from.len() {
        path.push(at.to_owned());
        if at == start {
            break;
        }
        at = came_from.get(at).copied().unwrap_or(start);
    }
    path.reverse();
    if path.len() == 1 {
        path.push(start.to_owned());
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lineage(edges: &[(&str, &[&str])]) -> Result<Lineage, NoLineage> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Lineage::new(edges.iter().map(|(name, uppers)| ((*name).to_owned(), own(uppers))).collect())
    }

    #[test]
    fn what_is_upstream_is_found_near_and_far() {
        let found = lineage(&[("report", &["sales", "customers"]), ("sales", &["orders"])]).unwrap();
        assert_eq!(found.above(["report"]).into_iter().collect::<Vec<_>>(), ["customers", "orders", "sales"]);
        assert!(found.above(["orders"]).is_empty());
    }

    #[test]
    fn a_cycle_is_named() {
        let told = |edges| lineage(edges).unwrap_err().to_string();
        assert_eq!(
            told(&[("report", &["a"]), ("a", &["b", "x"]), ("b", &["c"]), ("c", &["a"])]),
            "a ← b ← c ← a is a cycle: nothing is made of itself; leave one of these out"
        );
        assert!(told(&[("a", &["a"])]).starts_with("a ← a is"));
        assert!(lineage(&[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a"])]).is_ok(), "two ways are no cycle");
        assert!(lineage(&[("d", &["b", "b"]), ("b", &["a"])]).is_ok(), "nor is a name that is written twice");
    }

    proptest! {
        #[test]
        fn edges_to_smaller_numbers_have_no_cycle_and_one_back_closes_it(edges in prop::collection::vec((1..40_u32, 0..40_u32), 1..80)) {
            let mut upstream: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (name, upper) in &edges {
                upstream.entry(name.to_string()).or_default().push((upper % name).to_string());
            }
            let free = Lineage::new(upstream.clone()).unwrap();
            let (name, upper) = (edges[0].0.to_string(), (edges[0].1 % edges[0].0).to_string());
            prop_assert!(free.above([name.as_str()]).contains(upper.as_str()));
            upstream.entry(upper).or_default().push(name);
            let is_cycle = matches!(Lineage::new(upstream), Err(NoLineage::Cycle { path }) if path.len() >= 3 && path.first() == path.last());
            prop_assert!(is_cycle);
        }
    }
}
