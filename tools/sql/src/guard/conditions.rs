//! Whether a condition chooses rows, or holds for all of them whatever they contain.

use pg_query::protobuf::{AExprKind, BoolExprType, NullTestType};

use super::tree::Tree;

/// What a condition depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It holds for every row.
    Always,
    /// It holds for none.
    Never,
    /// It says nothing about the rows in question: constants, calls without columns, other tables.
    Unrelated,
    /// It looks at the rows.
    Row,
}

/// The relation whose rows are meant, by the names it has in the statement. Any relation if absent.
pub(crate) type Subject<'a> = Option<&'a [&'a str]>;

/// Whether a condition is there and looks at the rows (or holds for none, which harms nobody).
pub(crate) fn chooses(condition: Option<&Tree>, subject: Subject<'_>) -> bool {
    condition.is_some_and(|tree| matches!(weigh(tree, subject), Weight::Row | Weight::Never))
}

/// What a condition depends on.
pub(crate) fn weigh(tree: &Tree, subject: Subject<'_>) -> Weight {
    match tree.kind {
        "AConst" => constant(tree),
        "BoolExpr" => boolean(tree, subject),
        "AExpr" if always_holds(tree) => Weight::Always,
        // Whether a column is null says something of a row; whether a condition is null hardly does.
        "NullTest" if tree.message("arg").is_none_or(|arg| arg.kind != "ColumnRef") => Weight::Unrelated,
        "BooleanTest" => tree.message("arg").map_or(Weight::Unrelated, |arg| weigh(arg, subject)),
        "CoalesceExpr" => all_choose(tree.list("args"), subject),
        "CaseExpr" => {
            let results = tree.list("args").filter_map(|when| when.message("result"));
            all_choose(results.chain(tree.message("defresult")), subject)
        }
        "SubLink" => sublink(tree, subject),
        _ if mentions(tree, subject) => Weight::Row,
        _ => Weight::Unrelated,
    }
}

fn constant(tree: &Tree) -> Weight {
    match tree.message("val") {
        _ if tree.flag("isnull") => Weight::Never,
        Some(value) if value.kind == "Boolean" && value.flag("boolval") => Weight::Always,
        Some(value) if value.kind == "Boolean" => Weight::Never,
        _ => Weight::Unrelated,
    }
}

fn boolean(tree: &Tree, subject: Subject<'_>) -> Weight {
    let parts: Vec<&Tree> = tree.list("args").collect();
    let weights: Vec<Weight> = parts.iter().map(|part| weigh(part, subject)).collect();
    let has = |weight| weights.contains(&weight);
    let op = tree.number("boolop");
    if op == i64::from(BoolExprType::NotExpr as i32) {
        return match weights.first() {
            Some(Weight::Always) => Weight::Never,
            Some(Weight::Never) => Weight::Always,
            Some(other) => *other,
            None => Weight::Unrelated,
        };
    }
    if op == i64::from(BoolExprType::AndExpr as i32) {
        return match () {
            () if has(Weight::Never) => Weight::Never,
            () if has(Weight::Row) => Weight::Row,
            () if has(Weight::Unrelated) => Weight::Unrelated,
            () => Weight::Always,
        };
    }
    let opposed = parts.iter().enumerate().any(|(i, a)| parts.iter().skip(i + 1).any(|b| are_opposed(a, b)));
    match () {
        () if has(Weight::Always) || opposed => Weight::Always,
        () if has(Weight::Unrelated) => Weight::Unrelated,
        () if has(Weight::Row) => Weight::Row,
        () => Weight::Never,
    }
}

/// Each of several possible results must look at the rows, or hold for none.
fn all_choose<'a>(results: impl Iterator<Item = &'a Tree>, subject: Subject<'_>) -> Weight {
    let weights: Vec<Weight> = results.map(|result| weigh(result, subject)).collect();
    match () {
        () if weights.iter().any(|w| matches!(w, Weight::Always | Weight::Unrelated)) => Weight::Unrelated,
        () if weights.contains(&Weight::Row) => Weight::Row,
        () => Weight::Never,
    }
}

fn sublink(tree: &Tree, subject: Subject<'_>) -> Weight {
    let (test, select) = (tree.message("testexpr"), tree.message("subselect"));
    let Some(names) = subject else {
        return if mentions(tree, None) { Weight::Row } else { Weight::Unrelated };
    };
    // `id IN (SELECT id FROM orders)` on orders itself holds for every row.
    let whole = select.is_some_and(|s| {
        let reads_itself =
            s.list("from_clause").any(|from| from.kind == "RangeVar" && names.contains(&from.text("relname")));
        reads_itself && !chooses(s.message("where_clause"), None) && s.message("limit_count").is_none()
    });
    let tests = test.is_some_and(|t| mentions(t, subject)) && !whole;
    let correlated =
        select.is_some_and(|s| s.all().into_iter().any(|c| qualifier(c).is_some_and(|q| names.contains(&q))));
    if tests || correlated { Weight::Row } else { Weight::Unrelated }
}

/// A comparison of something with itself, or a pattern that fits everything.
fn always_holds(tree: &Tree) -> bool {
    let kind = tree.number("kind");
    let is = |expected: AExprKind| kind == i64::from(expected as i32);
    let (Some(left), Some(right)) = (tree.message("lexpr"), tree.message("rexpr")) else { return false };
    let op = tree.names("name").last().copied().unwrap_or_default();
    let reflexive = is(AExprKind::AexprOp) && ["=", "<=", ">="].contains(&op);
    if reflexive || is(AExprKind::AexprNotDistinct) {
        return left.same_as(right);
    }
    if is(AExprKind::AexprIn) && op == "=" || is(AExprKind::AexprBetween) || is(AExprKind::AexprBetweenSym) {
        let items: Vec<&Tree> = right.list("items").collect();
        let itself = |item: &&Tree| item.same_as(left);
        let between = !is(AExprKind::AexprIn);
        return if between { items.iter().all(itself) } else { items.iter().any(itself) };
    }
    let pattern = right.message("val").map(|value| value.text("sval"));
    (is(AExprKind::AexprLike) || is(AExprKind::AexprIlike))
        && ["~~", "~~*"].contains(&op)
        && pattern.is_some_and(|p| !p.is_empty() && p.chars().all(|c| c == '%'))
}

/// Two conditions of which one always holds.
fn are_opposed(a: &Tree, b: &Tree) -> bool {
    let negates = |a: &Tree, b: &Tree| {
        a.kind == "BoolExpr"
            && a.number("boolop") == i64::from(BoolExprType::NotExpr as i32)
            && a.list("args").next().is_some_and(|inner| inner.same_as(b))
    };
    let null_tests = || {
        let (null, not_null) = (i64::from(NullTestType::IsNull as i32), i64::from(NullTestType::IsNotNull as i32));
        let types = [a.number("nulltesttype"), b.number("nulltesttype")];
        a.kind == "NullTest"
            && b.kind == "NullTest"
            && types.contains(&null)
            && types.contains(&not_null)
            && a.message("arg").zip(b.message("arg")).is_some_and(|(a, b)| a.same_as(b))
    };
    let comparisons = || {
        let side = |name| a.message(name).zip(b.message(name)).is_some_and(|(a, b)| a.same_as(b));
        let ops = (a.names("name").last().copied(), b.names("name").last().copied());
        let pair = |x, y| ops == (Some(x), Some(y)) || ops == (Some(y), Some(x));
        a.kind == "AExpr"
            && b.kind == "AExpr"
            && side("lexpr")
            && side("rexpr")
            && (pair("=", "<>") || pair("<", ">=") || pair(">", "<="))
    };
    negates(a, b) || negates(b, a) || null_tests() || comparisons()
}

/// The name before the column of a qualified reference.
pub(crate) fn qualifier(tree: &Tree) -> Option<&str> {
    if tree.kind != "ColumnRef" {
        return None;
    }
    let fields: Vec<&Tree> = tree.list("fields").collect();
    fields.len().checked_sub(2).and_then(|at| fields.get(at)).map(|field| field.text("sval"))
}

/// Whether an expression refers to a column of the subject. What is inside sub-selects has its own columns.
fn mentions(tree: &Tree, subject: Subject<'_>) -> bool {
    if tree.kind == "ColumnRef" {
        return match (subject, qualifier(tree)) {
            (Some(names), Some(qualifier)) => names.contains(&qualifier),
            _ => true,
        };
    }
    if tree.kind == "SubLink" && subject.is_some() {
        return sublink(tree, subject) == Weight::Row;
    }
    tree.children().any(|(_, child)| mentions(child, subject))
}
