//! Cartesian joins: relations in one FROM that nothing connects.

use std::collections::BTreeSet;

use super::conditions::{Weight, qualifier, weigh};
use super::tree::Tree;
use super::walk::Names;

/// Relations of one FROM clause and what connects them.
pub(crate) struct Joins<'a> {
    names: &'a Names<'a>,
    leaves: Vec<Leaf<'a>>,
    /// Number of the group a leaf belongs to; the first one is the outer statement's.
    group: Vec<usize>,
    conditions: Vec<&'a Tree>,
    /// A join without condition that says so.
    pub(crate) explicit_cross: bool,
}

/// What stands at one place of a FROM.
struct Leaf<'a> {
    name: &'a str,
    columns: Option<&'a [String]>,
    /// Multiplies the rows of the others if nothing connects it.
    multiplies: bool,
    /// What it refers to by itself, such as the arguments of a function.
    inner: Option<&'a Tree>,
}

/// Stands for everything outside this FROM.
const OUTER: usize = 0;

impl<'a> Joins<'a> {
    /// The relations of a FROM clause.
    pub(crate) fn of(from: impl Iterator<Item = &'a Tree>, names: &'a Names<'a>) -> Self {
        let outer = Leaf { name: "", columns: Some(&[]), multiplies: false, inner: None };
        let mut joins =
            Self { names, leaves: vec![outer], group: vec![OUTER], conditions: Vec::new(), explicit_cross: false };
        for item in from {
            joins.add(item);
        }
        joins
    }

    /// Adds one item; the answer is the leaves it has.
    pub(crate) fn add(&mut self, item: &'a Tree) -> Vec<usize> {
        let alias = item.message("alias").map_or("", |alias| alias.text("aliasname"));
        match item.kind {
            "JoinExpr" => return self.join(item, alias),
            "RangeTableSample" => return item.message("relation").map_or_else(Vec::new, |inner| self.add(inner)),
            "RangeVar" => {
                let (schema, table) = (item.text("schemaname"), item.text("relname"));
                let cte = self.names.cte(schema, table);
                let columns = if cte.is_some() { None } else { self.names.columns(schema, table) };
                let multiplies = cte.is_none_or(|cte| !cte.one_row);
                let name = if alias.is_empty() { table } else { alias };
                self.leaves.push(Leaf { name, columns, multiplies, inner: None });
            }
            "RangeSubselect" => {
                let multiplies = item.message("subquery").is_some_and(|q| !is_one_row(q) && reads(q));
                self.leaves.push(Leaf { name: alias, columns: None, multiplies, inner: Some(item) });
            }
            // A function makes its own rows; the row and time limits are what bounds it.
            _ => self.leaves.push(Leaf { name: alias, columns: None, multiplies: false, inner: Some(item) }),
        }
        self.group.push(self.leaves.len() - 1);
        vec![self.leaves.len() - 1]
    }

    fn join(&mut self, item: &'a Tree, alias: &'a str) -> Vec<usize> {
        let mut left = item.message("larg").map_or_else(Vec::new, |inner| self.add(inner));
        let right = item.message("rarg").map_or_else(Vec::new, |inner| self.add(inner));
        let first = (left.first().copied(), right.first().copied());
        let named = item.flag("is_natural") || item.list("using_clause").next().is_some();
        match item.message("quals") {
            Some(condition) => self.conditions.push(condition),
            None => {
                self.explicit_cross |= !named;
                if let (Some(a), Some(b)) = first {
                    self.connect(a, b);
                }
            }
        }
        left.extend(right);
        if !alias.is_empty() {
            for at in &left {
                if let Some(leaf) = self.leaves.get_mut(*at) {
                    leaf.name = alias;
                    leaf.columns = None;
                }
            }
        }
        left
    }

    /// A relation that nothing connects with the others, if there is one.
    pub(crate) fn unconnected(mut self, condition: Option<&'a Tree>) -> Option<String> {
        self.conditions.extend(condition);
        let mut parts = Vec::new();
        let mut open: Vec<&Tree> = self.conditions.clone();
        while let Some(tree) = open.pop() {
            if tree.kind == "BoolExpr" && tree.number("boolop") == 1 {
                open.extend(tree.list("args"));
            } else if weigh(tree, None) == Weight::Row {
                parts.push(tree);
            }
        }
        for part in parts {
            let leaves = self.mentioned(part);
            self.connect_all(&leaves);
        }
        for at in 0..self.leaves.len() {
            if let Some(inner) = self.leaves.get(at).and_then(|leaf| leaf.inner) {
                let mut leaves = self.mentioned(inner);
                // A sub-select that refers to nobody here is on its own.
                leaves.remove(&OUTER);
                leaves.insert(at);
                self.connect_all(&leaves);
            }
        }
        let multiplying: Vec<usize> =
            (0..self.leaves.len()).filter(|at| self.leaves.get(*at).is_some_and(|leaf| leaf.multiplies)).collect();
        let (first, rest) = multiplying.split_first()?;
        let alone = rest.iter().find(|at| self.group.get(**at) != self.group.get(*first))?;
        self.leaves.get(*alone).map(|leaf| leaf.name.to_owned())
    }

    /// The leaves that an expression may refer to.
    fn mentioned(&self, tree: &Tree) -> BTreeSet<usize> {
        let mut sure = BTreeSet::new();
        let mut perhaps = BTreeSet::new();
        let mut unsure = BTreeSet::new();
        for column in tree.all().into_iter().filter(|t| t.kind == "ColumnRef") {
            let name = column.names("fields").last().copied().unwrap_or_default();
            if let Some(qualifier) = qualifier(column) {
                let here: Vec<usize> = self.matching(|leaf| leaf.name == qualifier);
                // A name that is not here is one of the outer statement.
                sure.extend(if here.is_empty() { vec![OUTER] } else { here });
                continue;
            }
            let candidates = self.matching(|leaf| leaf.columns.is_none_or(|columns| columns.iter().any(|c| c == name)));
            match candidates.as_slice() {
                [one] => _ = sure.insert(*one),
                [] => _ = sure.insert(OUTER),
                several => {
                    unsure.insert(name.to_owned());
                    perhaps.extend(several.iter().copied());
                }
            }
        }
        if sure.len() + unsure.len() >= 2 {
            sure.extend(perhaps);
        }
        sure
    }

    fn matching(&self, fits: impl Fn(&Leaf<'_>) -> bool) -> Vec<usize> {
        self.leaves.iter().enumerate().skip(1).filter(|(_, leaf)| fits(leaf)).map(|(at, _)| at).collect()
    }

    fn connect_all(&mut self, leaves: &BTreeSet<usize>) {
        if let Some(first) = leaves.first().copied() {
            leaves.iter().for_each(|other| self.connect(first, *other));
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let (Some(keep), Some(merge)) = (self.group.get(a).copied(), self.group.get(b).copied()) else { return };
        for group in &mut self.group {
            if *group == merge {
                *group = keep;
            }
        }
    }
}

/// Functions that make one row of many.
const AGGREGATES: &[&str] =
    &["count", "sum", "min", "max", "avg", "bool_and", "bool_or", "every", "array_agg", "string_agg"];

/// Whether a SELECT can only return one row.
pub(crate) fn is_one_row(select: &Tree) -> bool {
    if select.kind != "SelectStmt" || select.number("op") > 1 {
        return false;
    }
    let limit = select.message("limit_count").and_then(|limit| limit.message("val"));
    let limited = limit.is_some_and(|value| value.kind == "Integer" && value.number("ival") <= 1);
    let grouped = select.list("group_clause").next().is_some();
    let aggregate = |target: &Tree| {
        target.all().into_iter().any(|call| {
            call.kind == "FuncCall"
                && call.message("over").is_none()
                && call.names("funcname").last().is_some_and(|name| AGGREGATES.contains(name))
        })
    };
    let mut targets = select.list("target_list").peekable();
    limited || (!grouped && targets.peek().is_some() && targets.all(aggregate))
}

/// Whether a SELECT has the rows of something that it reads. One without a FROM has one, whatever its expressions look up; a
/// function in it makes its own rows, as in a FROM.
fn reads(select: &Tree) -> bool {
    let lists = select.number("op") <= 1 && select.list("from_clause").next().is_none();
    !lists && select.all().into_iter().any(|tree| tree.kind == "RangeVar")
}
