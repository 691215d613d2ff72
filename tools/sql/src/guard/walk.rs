//! The walk over the whole tree: what each node may be, what each name leads to, what the statement does.

use std::collections::BTreeMap;

use pg_query::protobuf::SubLinkType;

use super::conditions::chooses;
use super::joins::{Joins, is_one_row};
use super::kinds::{self, Statement};
use super::names::{self, FunctionEffect};
use super::role::{Environment, ProductionWrites, Role};
use super::tree::Tree;
use super::{Decision, Effect, Facts, RelationName, Verdict};

/// What was found against a statement, or what must be asked about it.
struct Finding {
    verdict: Verdict,
    rule: &'static str,
    reason: String,
}

/// Judges a parsed statement.
pub(crate) fn judge(statement: &Tree, role: &Role, environment: Environment, facts: &Facts) -> Decision {
    let mut walk = Walk {
        role,
        names: Names { facts, ctes: Vec::new(), aliases: aliases(statement) },
        findings: Vec::new(),
        effect: Effect::Reads,
        plan_only: false,
        explained: false,
    };
    walk.top(statement);
    let Walk { mut findings, effect, explained, .. } = walk;
    if role.select_only && (effect == Effect::Writes || explained) {
        let reason = "the role is limited to SELECT (SELECT_ONLY)".to_owned();
        findings.push(Finding { verdict: Verdict::Deny, rule: "select-only", reason });
    }
    if effect == Effect::Writes && environment == Environment::Production {
        let (verdict, words) = match role.production_writes {
            ProductionWrites::Deny => (Verdict::Deny, "the connection leads to production, which this role only reads"),
            ProductionWrites::Approval => (Verdict::NeedsApproval, "it changes production"),
        };
        findings.push(Finding { verdict, rule: "production-write", reason: words.to_owned() });
    }
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Allow);
    match findings.into_iter().find(|finding| finding.verdict == worst) {
        Some(Finding { verdict, rule, reason }) => Decision { verdict, rule, reason, effect },
        None => {
            let reason = "within the role's limits".to_owned();
            Decision { verdict: Verdict::Allow, rule: "role", reason, effect }
        }
    }
}

/// Name of a WITH query.
#[derive(Debug, Clone)]
pub(crate) struct Cte {
    name: String,
    /// It can only be one row.
    pub(crate) one_row: bool,
}

/// Where names lead.
pub(crate) struct Names<'a> {
    pub(crate) facts: &'a Facts,
    ctes: Vec<Cte>,
    /// Relations by the name they have in the statement; nothing where one name means several things.
    aliases: BTreeMap<String, Option<RelationName>>,
}

impl Names<'_> {
    /// The WITH query that a name means, which only an unqualified one can.
    pub(crate) fn cte(&self, schema: &str, table: &str) -> Option<&Cte> {
        self.ctes.iter().rev().find(|cte| schema.is_empty() && cte.name == table)
    }

    /// Columns of a relation, where they are known.
    pub(crate) fn columns(&self, schema: &str, table: &str) -> Option<&[String]> {
        self.facts.of(schema, table)?.columns.as_deref()
    }

    fn rows(&self, schema: &str, table: &str) -> Option<u64> {
        self.facts.of(schema, table)?.rows
    }
}

/// What a statement does with a relation it names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Reads,
    Changes,
    Creates,
}

struct Walk<'a> {
    role: &'a Role,
    names: Names<'a>,
    findings: Vec<Finding>,
    effect: Effect,
    /// Inside an EXPLAIN that does not execute.
    plan_only: bool,
    explained: bool,
}

impl<'a> Walk<'a> {
    fn deny(&mut self, rule: &'static str, reason: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Deny, rule, reason: reason.into() });
    }

    fn ask(&mut self, rule: &'static str, reason: impl Into<String>) {
        if !self.plan_only {
            self.findings.push(Finding { verdict: Verdict::NeedsApproval, rule, reason: reason.into() });
        }
    }

    fn writes(&mut self) {
        if !self.plan_only {
            self.effect = Effect::Writes;
        }
    }

    fn top(&mut self, statement: &'a Tree) {
        if statement.kind != "ExplainStmt" {
            return self.node(statement, statement, "");
        }
        self.explained = true;
        self.plan_only = !self.executes(statement);
        let Some(query) = statement.message("query") else {
            return self.deny("unknown-statement", "EXPLAIN of nothing");
        };
        const EXPLAINED: &[&str] =
            &["SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CreateTableAsStmt"];
        if !EXPLAINED.contains(&query.kind) {
            return self.deny("unknown-statement", format!("EXPLAIN of {} is not possible here", query.kind));
        }
        self.node(query, statement, "query");
    }

    /// Whether an EXPLAIN runs its statement; in doubt it does.
    fn executes(&mut self, explain: &'a Tree) -> bool {
        let mut executes = false;
        for option in explain.list("options") {
            let name = option.text("defname");
            if !names::EXPLAIN_OPTIONS.contains(&name) {
                self.deny("unknown-node", format!("EXPLAIN has no option {name:?} here"));
            }
            if name == "analyze" {
                let off = option.message("arg").is_some_and(|value| match value.kind {
                    "Boolean" => !value.flag("boolval"),
                    "Integer" => value.number("ival") == 0,
                    _ => ["false", "off"].contains(&value.text("sval").to_lowercase().as_str()),
                });
                executes |= !off;
            }
        }
        executes
    }

    fn node(&mut self, tree: &'a Tree, parent: &'a Tree, field: &'static str) {
        match kinds::statement(tree) {
            Some(meaning) => self.statement(tree, meaning),
            None if kinds::is_part(tree.kind) => self.part(tree, parent, field),
            None => self.deny(
                "unknown-node",
                format!("the guard does not know {} and lets nothing unknown through", tree.kind),
            ),
        }
    }

    fn children(&mut self, tree: &'a Tree) {
        for (field, child) in tree.children() {
            if child.kind != "WithClause" {
                self.node(child, tree, field);
            }
        }
    }

    fn statement(&mut self, tree: &'a Tree, meaning: Statement) {
        let before = self.names.ctes.len();
        if let Some(with) = tree.message("with_clause") {
            self.with(with);
        }
        match meaning {
            Statement::Select => self.select(tree),
            Statement::Explain => self.deny("unknown-statement", "EXPLAIN stands only at the beginning"),
            Statement::Write => {
                self.writes();
                self.written(tree);
            }
            Statement::Destructive(what) => {
                self.writes();
                self.ask("destructive", format!("{}: it {what}", tree.kind));
                self.dropped(tree);
            }
            Statement::Never(rule, reason) => {
                self.effect = Effect::Writes;
                self.deny(rule, reason);
            }
        }
        self.children(tree);
        self.names.ctes.truncate(before);
    }

    /// The WITH queries of a statement. In a recursive WITH each sees all, otherwise those before it.
    fn with(&mut self, with: &'a Tree) {
        let ctes: Vec<&Tree> = with.list("ctes").collect();
        let named = |cte: &Tree| Cte {
            name: cte.text("ctename").to_owned(),
            one_row: cte.message("ctequery").is_some_and(is_one_row),
        };
        if with.flag("recursive") {
            self.names.ctes.extend(ctes.iter().map(|cte| named(cte)));
        }
        for cte in ctes {
            self.children(cte);
            if !with.flag("recursive") {
                self.names.ctes.push(named(cte));
            }
        }
    }

    fn select(&mut self, tree: &'a Tree) {
        if tree.list("locking_clause").next().is_some() {
            self.deny("row-lock", "FOR UPDATE and FOR SHARE stop other writers");
        }
        if tree.message("into_clause").is_some() {
            self.writes();
        }
        if self.plan_only || tree.list("from_clause").next().is_none() {
            return;
        }
        let condition = tree.message("where_clause");
        let mut tables = Vec::new();
        tree.list("from_clause").for_each(|item| tables_of(item, &mut tables));
        for table in &tables {
            let (schema, name) = (table.text("schemaname"), table.text("relname"));
            let rows = self.names.rows(schema, name).filter(|_| self.names.cte(schema, name).is_none()).unwrap_or(0);
            if rows > self.role.unfiltered_rows_max && !chooses(condition, None) {
                let max = self.role.unfiltered_rows_max;
                self.deny("where-required", format!("{name} has about {rows} rows; above {max} a WHERE is needed"));
            }
        }
        self.star(tree, &tables);
        let names = Names { facts: self.names.facts, ctes: self.names.ctes.clone(), aliases: BTreeMap::new() };
        let joins = Joins::of(tree.list("from_clause"), &names);
        self.cartesian(joins, condition);
    }

    /// `*` and `t.*` over a large table; `EXISTS (SELECT * …)` reads no column.
    fn star(&mut self, tree: &'a Tree, tables: &[&'a Tree]) {
        for target in tree.list("target_list").filter_map(|target| target.message("val")) {
            if target.kind != "ColumnRef" || !target.list("fields").any(|field| field.kind == "AStar") {
                continue;
            }
            let qualifier = super::conditions::qualifier(target).unwrap_or_default().to_owned();
            for table in tables {
                let (schema, name) = (table.text("schemaname"), table.text("relname"));
                let alias = table.message("alias").map_or(name, |alias| alias.text("aliasname"));
                let meant = qualifier.is_empty() || qualifier == alias;
                let rows =
                    self.names.rows(schema, name).filter(|_| self.names.cte(schema, name).is_none()).unwrap_or(0);
                if meant && rows > self.role.star_rows_max {
                    let max = self.role.star_rows_max;
                    self.deny("star", format!("{name} has about {rows} rows; above {max} the columns must be named"));
                }
            }
        }
    }

    fn cartesian(&mut self, joins: Joins<'_>, condition: Option<&Tree>) {
        if joins.explicit_cross && self.role.no_cross_join {
            self.deny("cartesian-join", "CROSS JOIN is not for this role (NO_CROSS_JOIN)");
        }
        if let Some(alone) = joins.unconnected(condition) {
            let advice = "add the condition that joins it, or write CROSS JOIN if every pair is meant";
            self.deny("cartesian-join", format!("nothing connects {alone:?} with the other relations; {advice}"));
        }
    }

    fn written(&mut self, tree: &'a Tree) {
        let target = tree.message("relation");
        let name = target.map_or("", |var| var.text("relname"));
        let alias = target.and_then(|var| var.message("alias")).map_or(name, |alias| alias.text("aliasname"));
        let subject = [name, alias];
        // With an alias the bare name means nothing any more.
        let subject = if alias == name { &subject[..1] } else { &subject[1..] };
        match tree.kind {
            "UpdateStmt" | "DeleteStmt" => {
                if !chooses(tree.message("where_clause"), Some(subject)) {
                    let what = if tree.kind == "UpdateStmt" { "UPDATE" } else { "DELETE" };
                    self.ask(
                        "whole-table",
                        format!("{what} without a WHERE that chooses rows of {name} changes all of it"),
                    );
                }
            }
            "MergeStmt" if !chooses(tree.message("join_condition"), Some(subject)) => {
                self.ask("whole-table", format!("MERGE whose ON does not choose rows of {name} changes all of it"));
            }
            _ => {}
        }
    }

    /// Names that DROP gives as lists of words.
    fn dropped(&mut self, tree: &'a Tree) {
        if tree.kind != "DropStmt" {
            return;
        }
        for object in tree.list("objects") {
            if object.kind == "String" {
                if names::is_system_schema(object.text("sval")) {
                    self.deny("sensitive-catalog", "schemas of the system stay");
                }
                continue;
            }
            // The text does not say of which table an index is; that its schema is the connection's must do.
            let usage = if kinds::is_by_name(tree) { Use::Creates } else { Use::Changes };
            match object.names("items").as_slice() {
                [table] => self.relation("", table, usage),
                [schema, table] => self.relation(schema, table, usage),
                _ => self.deny("table-list", "names of another database are not possible"),
            }
        }
    }

    fn part(&mut self, tree: &'a Tree, parent: &'a Tree, field: &'static str) {
        match tree.kind {
            "RangeVar" => self.range_var(tree, parent, field),
            "FuncCall" if parent.kind != "CallStmt" => self.function(tree),
            "AExpr" => self.operator(&tree.names("name")),
            "SubLink" => {
                self.operator(&tree.names("oper_name"));
                return self.sublink(tree);
            }
            "SortBy" => self.operator(&tree.names("use_op")),
            "TypeName" => self.type_name(tree),
            "RangeTableSample" if !is_builtin(&tree.names("method"), |name| names::SAMPLING.contains(&name)) => {
                self.deny("function-list", "tables are sampled with SYSTEM or BERNOULLI here");
            }
            "IndexElem" if !is_builtin(&tree.names("opclass"), |_| true) => {
                self.deny("operator", "operator classes of user schemas run user functions");
            }
            "Constraint" if tree.list("exclusions").next().is_some() => {
                self.deny("operator", "EXCLUDE constraints run operators that the guard does not follow");
            }
            "ColumnRef" => self.column(tree),
            "AIndirection" => self.selection(tree),
            _ => {}
        }
        self.children(tree);
    }

    /// `EXISTS (SELECT * …)`: no column is read, so `*` costs nothing.
    fn sublink(&mut self, tree: &'a Tree) {
        let exists = tree.number("sub_link_type") == i64::from(SubLinkType::ExistsSublink as i32);
        let before = self.findings.len();
        self.children(tree);
        if exists && let Some(select) = tree.message("subselect") {
            let own = select.list("target_list").filter_map(|t| t.message("val")).any(|v| v.kind == "ColumnRef");
            let mut at = 0;
            self.findings.retain(|finding| {
                at += 1;
                at <= before || !(own && finding.rule == "star")
            });
        }
    }

    fn range_var(&mut self, tree: &'a Tree, parent: &'a Tree, field: &'static str) {
        let (schema, table) = (tree.text("schemaname"), tree.text("relname"));
        if !tree.text("catalogname").is_empty() {
            return self.deny("table-list", "names of another database are not possible");
        }
        let usage = match (parent.kind, field) {
            _ if kinds::is_by_name(parent) => Use::Creates,
            ("CreateStmt", "relation") | ("IntoClause", "rel") | ("ViewStmt", "view") => Use::Creates,
            ("SelectStmt" | "JoinExpr" | "RangeTableSample", _) | ("UpdateStmt", "from_clause") => Use::Reads,
            ("DeleteStmt", "using_clause") | ("MergeStmt", "source_relation") => Use::Reads,
            ("Constraint" | "TableLikeClause", _) | ("CreateStmt", "inh_relations") => Use::Reads,
            _ => Use::Changes,
        };
        match usage {
            Use::Creates if tree.text("relpersistence") == "t" => {}
            Use::Reads if self.names.cte(schema, table).is_some() => {}
            usage => self.relation(schema, table, usage),
        }
    }

    fn relation(&mut self, schema: &str, table: &str, usage: Use) {
        let facts = self.names.facts;
        let schema = if schema.is_empty() && table.starts_with("pg_") { "pg_catalog" } else { schema };
        let first = facts.search_path.first().map(String::as_str).into_iter().collect();
        let places = match usage {
            Use::Creates if schema.is_empty() => first,
            _ => facts.places(schema, table),
        };
        if places.is_empty() {
            return self.deny("table-list", format!("{table} is in no schema of this connection"));
        }
        for place in places {
            if names::is_system_schema(place) {
                if usage != Use::Reads || !names::is_open_catalog(place, table) {
                    self.deny("sensitive-catalog", format!("{place}.{table} is not for agents"));
                }
            } else if usage == Use::Creates {
                if !facts.search_path.iter().any(|s| s == place) {
                    self.deny(
                        "table-list",
                        format!("new relations belong into a schema of the connection, not into {place}"),
                    );
                }
            } else if !self.role.may_use(place, table) {
                self.deny("table-list", format!("{place}.{table} is not among the role's tables"));
            }
        }
    }

    fn function(&mut self, tree: &'a Tree) {
        let name = tree.names("funcname");
        let effect = match name.as_slice() {
            [name] | ["pg_catalog", name] => names::function(name),
            _ => FunctionEffect::Unknown,
        };
        let listed = match name.as_slice() {
            [name] => self.names.facts.search_path.iter().any(|schema| self.role.may_call(schema, name)),
            [schema, name] => self.role.may_call(schema, name),
            _ => false,
        };
        match effect {
            FunctionEffect::Computes => {}
            FunctionEffect::Advances => self.writes(),
            FunctionEffect::Rewinds => {
                self.writes();
                self.ask("sequence", "setval moves a sequence: later rows may collide");
            }
            FunctionEffect::Unknown if listed => {}
            FunctionEffect::Unknown => {
                self.deny("function-list", format!("the function {} is not on the list of safe ones", name.join(".")));
            }
        }
    }

    fn operator(&mut self, name: &[&str]) {
        let built_in = match name {
            [] => true,
            [symbol] | ["pg_catalog", symbol] => names::is_operator(symbol),
            _ => false,
        };
        if !built_in {
            self.deny("operator", format!("the operator {} is not built in", name.join(".")));
        }
    }

    fn type_name(&mut self, tree: &'a Tree) {
        let schemas = &self.names.facts.search_path;
        match tree.names("names").as_slice() {
            [_] | ["pg_catalog", _] | [] => {}
            [schema, _] if schemas.iter().any(|known| known == schema) => {}
            other => self.deny("type", format!("the type {} is of no schema of this connection", other.join("."))),
        }
    }

    /// `o.field` is a call of `field(o)` where o has no such column. Seen where the columns are known.
    fn column(&mut self, tree: &'a Tree) {
        let parts = tree.names("fields");
        if let [qualifier, field] = parts.as_slice()
            && names::function(field) == FunctionEffect::Unknown
            && self.is_hidden_call(qualifier, field)
        {
            self.deny(
                "field-function",
                format!("{qualifier} has no column {field}; as a function it is not on the list"),
            );
        }
    }

    /// `(o).field`: the same.
    fn selection(&mut self, tree: &'a Tree) {
        let selected = tree.names("indirection");
        let Some(arg) = tree.message("arg") else { return };
        let of_row = arg.kind == "RowExpr" || arg.kind == "SubLink";
        let whole = arg.kind == "ColumnRef" && arg.names("fields").len() == 1;
        for field in selected {
            let hidden = whole && arg.names("fields").first().is_some_and(|name| self.is_hidden_call(name, field));
            if of_row || hidden {
                self.deny(
                    "field-function",
                    format!("the field {field} may be a function here; name a column of a table"),
                );
            }
        }
    }

    fn is_hidden_call(&self, qualifier: &str, field: &str) -> bool {
        const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];
        let known = self.names.aliases.get(qualifier).cloned().flatten();
        let columns = known.and_then(|(schema, table)| self.names.columns(&schema, &table).map(<[String]>::to_vec));
        columns.is_some_and(|columns| !columns.iter().any(|c| c == field) && !SYSTEM_COLUMNS.contains(&field))
    }
}

/// Whether a name is empty, or a built-in one that fits.
fn is_builtin(name: &[&str], fits: impl Fn(&str) -> bool) -> bool {
    match name {
        [] => true,
        [name] | ["pg_catalog", name] => fits(name),
        _ => false,
    }
}

/// The relations that a FROM item reads by name.
fn tables_of<'a>(item: &'a Tree, found: &mut Vec<&'a Tree>) {
    match item.kind {
        "RangeVar" => found.push(item),
        "JoinExpr" | "RangeTableSample" => item.children().for_each(|(_, child)| tables_of(child, found)),
        _ => {}
    }
}

/// What each name of a row means, wherever it is given.
fn aliases(statement: &Tree) -> BTreeMap<String, Option<RelationName>> {
    let mut found: BTreeMap<String, Option<RelationName>> = BTreeMap::new();
    let mut add = |name: &str, means: Option<RelationName>| {
        found
            .entry(name.to_owned())
            .and_modify(|known| *known = known.take().filter(|k| Some(k) == means.as_ref()))
            .or_insert(means);
    };
    for tree in statement.all() {
        let alias = tree.message("alias").map_or("", |alias| alias.text("aliasname"));
        match tree.kind {
            "RangeVar" => {
                let (schema, table) = (tree.text("schemaname"), tree.text("relname"));
                add(if alias.is_empty() { table } else { alias }, Some((schema.to_owned(), table.to_owned())));
            }
            "CommonTableExpr" => add(tree.text("ctename"), None),
            _ if !alias.is_empty() => add(alias, None),
            _ => {}
        }
    }
    found
}
