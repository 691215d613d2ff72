//! The node types that the guard knows. A type that is not here is denied, whatever it means.

use pg_query::protobuf::{AlterTableType, ObjectType, ReindexObjectType};

use super::tree::Tree;

/// Nodes of expressions, names and clauses: what may stand inside a statement.
const PARTS: &[&str] = &[
    "Integer",
    "Float",
    "Boolean",
    "String",
    "BitString",
    "List",
    "AConst",
    "Alias",
    "RangeVar",
    "IntoClause",
    "NamedArgExpr",
    "BoolExpr",
    "SubLink",
    "CaseExpr",
    "CaseWhen",
    "RowExpr",
    "CoalesceExpr",
    "MinMaxExpr",
    "SqlValueFunction",
    "XmlExpr",
    "XmlSerialize",
    "NullTest",
    "BooleanTest",
    "SetToDefault",
    "JoinExpr",
    "TypeName",
    "ColumnRef",
    "ParamRef",
    "AExpr",
    "TypeCast",
    "CollateClause",
    "FuncCall",
    "AStar",
    "AIndices",
    "AIndirection",
    "AArrayExpr",
    "ResTarget",
    "MultiAssignRef",
    "SortBy",
    "WindowDef",
    "RangeSubselect",
    "RangeFunction",
    "RangeTableFunc",
    "RangeTableFuncCol",
    "RangeTableSample",
    "GroupingSet",
    "GroupingFunc",
    "WithClause",
    "CommonTableExpr",
    "CteSearchClause",
    "CteCycleClause",
    "DefElem",
    "ReturningClause",
    "ReturningOption",
    // JSON as the standard writes it.
    "JsonFormat",
    "JsonReturning",
    "JsonValueExpr",
    "JsonIsPredicate",
    "JsonBehavior",
    "JsonOutput",
    "JsonArgument",
    "JsonFuncExpr",
    "JsonTablePathSpec",
    "JsonTable",
    "JsonTableColumn",
    "JsonKeyValue",
    "JsonParseExpr",
    "JsonScalarExpr",
    "JsonSerializeExpr",
    "JsonObjectConstructor",
    "JsonArrayConstructor",
    "JsonArrayQueryConstructor",
    "JsonAggConstructor",
    "JsonObjectAgg",
    "JsonArrayAgg",
    // Of writing statements.
    "OnConflictClause",
    "InferClause",
    "IndexElem",
    "MergeWhenClause",
    "MergeSupportFunc",
    "ColumnDef",
    "Constraint",
    "TableLikeClause",
    "PartitionSpec",
    "PartitionElem",
    "PartitionBoundSpec",
    "PartitionRangeDatum",
    // Of statements that need an approval.
    "AlterTableCmd",
    "VacuumRelation",
    "PartitionCmd",
    "ObjectWithArgs",
];

/// What a statement node means, wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// Reads, unless something inside writes.
    Select,
    /// Runs or plans what is inside.
    Explain,
    /// Changes rows, or adds a relation.
    Write,
    /// Takes something away or does something that cannot be seen through; the words say what.
    Destructive(&'static str),
    /// Never; rule and words.
    Never(&'static str, String),
}

/// Whether a node may stand inside a statement.
pub(crate) fn is_part(kind: &str) -> bool {
    PARTS.contains(&kind)
}

/// What a statement node means; `None` for a node that is no statement.
pub(crate) fn statement(tree: &Tree) -> Option<Statement> {
    let destructive = |what| Some(Statement::Destructive(what));
    match tree.kind {
        "SelectStmt" => Some(Statement::Select),
        "ExplainStmt" => Some(Statement::Explain),
        "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" | "CreateStmt" | "CreateTableAsStmt" | "IndexStmt" => {
            Some(Statement::Write)
        }
        "ViewStmt" if tree.flag("replace") => destructive("replaces the definition of a view"),
        "ViewStmt" => Some(Statement::Write),
        "DropStmt" => Some(drop(tree)),
        "AlterTableStmt" => Some(alter_table(tree)),
        "RenameStmt" => Some(rename(tree)),
        "AlterObjectSchemaStmt" if is_relation(tree.number("object_type")) => destructive("moves a relation"),
        "AlterSeqStmt" => destructive("changes a sequence"),
        "TruncateStmt" => destructive("empties a table"),
        "CallStmt" => destructive("runs a procedure, whose body nobody can see here"),
        "RefreshMatViewStmt" => destructive("computes a materialized view anew"),
        "VacuumStmt" => destructive("locks and rewrites tables or their statistics"),
        // Schema, database and system wide ones reach beyond the role's tables.
        "ReindexStmt" if tree.message("relation").is_some() => destructive("locks a table while it builds its index"),
        kind if kind.ends_with("Stmt") => Some(never(kind)),
        _ => None,
    }
}

fn never(kind: &str) -> Statement {
    let (rule, words) = match kind {
        "TransactionStmt" => ("transaction-control", "transactions are opened and ended by the server"),
        "VariableSetStmt" | "VariableShowStmt" | "DiscardStmt" | "ConstraintsSetStmt" => {
            ("session", "settings of the session belong to the server")
        }
        "PrepareStmt" | "ExecuteStmt" | "DeallocateStmt" | "DeclareCursorStmt" | "FetchStmt" | "ClosePortalStmt" => {
            ("session", "prepared statements and cursors hide what runs later")
        }
        "ListenStmt" | "UnlistenStmt" | "NotifyStmt" => ("session", "signals reach other sessions"),
        "LockStmt" => ("row-lock", "locks stop other sessions"),
        "CopyStmt" => ("copy", "COPY goes round the limits, and reaches files and programs of the server"),
        "DoStmt"
        | "CreateFunctionStmt"
        | "AlterFunctionStmt"
        | "CreateTrigStmt"
        | "CreateEventTrigStmt"
        | "RuleStmt"
        | "CreatePLangStmt"
        | "LoadStmt"
        | "CreateExtensionStmt"
        | "AlterExtensionStmt"
        | "AlterExtensionContentsStmt" => ("code", "code on the server cannot be judged here"),
        "GrantStmt"
        | "GrantRoleStmt"
        | "AlterDefaultPrivilegesStmt"
        | "CreateRoleStmt"
        | "AlterRoleStmt"
        | "AlterRoleSetStmt"
        | "DropRoleStmt"
        | "AlterOwnerStmt"
        | "DropOwnedStmt"
        | "ReassignOwnedStmt"
        | "CreatePolicyStmt"
        | "AlterPolicyStmt"
        | "SecLabelStmt" => ("privileges", "privileges change only through grant_privilege and revoke_privilege"),
        _ => ("unknown-statement", "the guard knows no rule that allows this kind of statement"),
    };
    Statement::Never(rule, format!("{kind}: {words}"))
}

/// Relations, and what belongs to one.
const RELATIONS: &[ObjectType] = &[
    ObjectType::ObjectTable,
    ObjectType::ObjectView,
    ObjectType::ObjectMatview,
    ObjectType::ObjectIndex,
    ObjectType::ObjectSequence,
];

fn is_relation(object_type: i64) -> bool {
    RELATIONS.iter().any(|known| i64::from(*known as i32) == object_type)
}

/// Whether a statement is about an index or a sequence, which is named without its table.
pub(crate) fn is_by_name(tree: &Tree) -> bool {
    let what = match tree.kind {
        "DropStmt" => tree.number("remove_type"),
        "RenameStmt" => tree.number("rename_type"),
        "AlterTableStmt" => tree.number("objtype"),
        "ReindexStmt" => return tree.number("kind") == i64::from(ReindexObjectType::ReindexObjectIndex as i32),
        kind => return kind == "AlterSeqStmt",
    };
    [ObjectType::ObjectIndex, ObjectType::ObjectSequence].iter().any(|known| i64::from(*known as i32) == what)
}

fn drop(tree: &Tree) -> Statement {
    let what = tree.number("remove_type");
    if is_relation(what) || what == i64::from(ObjectType::ObjectSchema as i32) {
        Statement::Destructive("drops something for good")
    } else {
        Statement::Never(
            "code",
            "DropStmt: only tables, views, indexes, sequences and schemas are dropped here".to_owned(),
        )
    }
}

fn rename(tree: &Tree) -> Statement {
    let what = tree.number("rename_type");
    let inside = [ObjectType::ObjectColumn, ObjectType::ObjectTabconstraint];
    if is_relation(what) || inside.iter().any(|known| i64::from(*known as i32) == what) {
        Statement::Destructive("renames something that others use by name")
    } else {
        Statement::Never("unknown-statement", "RenameStmt: only relations and their parts are renamed here".to_owned())
    }
}

/// Changes to the shape and storage of a table. Owners, triggers, rules and row security are not among them.
const ALTERATIONS: &[AlterTableType] = &[
    AlterTableType::AtAddColumn,
    AlterTableType::AtColumnDefault,
    AlterTableType::AtDropNotNull,
    AlterTableType::AtSetNotNull,
    AlterTableType::AtSetExpression,
    AlterTableType::AtDropExpression,
    AlterTableType::AtSetStatistics,
    AlterTableType::AtSetStorage,
    AlterTableType::AtSetCompression,
    AlterTableType::AtDropColumn,
    AlterTableType::AtAddConstraint,
    AlterTableType::AtAlterConstraint,
    AlterTableType::AtValidateConstraint,
    AlterTableType::AtAddIndexConstraint,
    AlterTableType::AtDropConstraint,
    AlterTableType::AtAlterColumnType,
    AlterTableType::AtClusterOn,
    AlterTableType::AtDropCluster,
    AlterTableType::AtSetLogged,
    AlterTableType::AtSetUnLogged,
    AlterTableType::AtSetRelOptions,
    AlterTableType::AtResetRelOptions,
    AlterTableType::AtAddInherit,
    AlterTableType::AtDropInherit,
    AlterTableType::AtAttachPartition,
    AlterTableType::AtDetachPartition,
    AlterTableType::AtDetachPartitionFinalize,
    AlterTableType::AtAddIdentity,
    AlterTableType::AtSetIdentity,
    AlterTableType::AtDropIdentity,
];

fn alter_table(tree: &Tree) -> Statement {
    let known = |cmd: &Tree| {
        let subtype = cmd.number("subtype");
        ALTERATIONS.iter().any(|known| i64::from(*known as i32) == subtype)
    };
    if is_relation(tree.number("objtype")) && tree.list("cmds").all(known) {
        Statement::Destructive("changes the shape of a relation")
    } else {
        Statement::Never(
            "privileges",
            "AlterTableStmt: owners, triggers, rules and row security stay as they are".to_owned(),
        )
    }
}
