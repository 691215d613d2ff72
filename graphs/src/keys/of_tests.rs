//! The keys of the tests that a graph file carries.

use super::{Shape, Table, key, required};

pub(crate) static TEST: Table = Table {
    what: "a test",
    id: "Test",
    keys: &[
        required("name", Shape::Text, "The test's name."),
        key("input", Shape::Any, "The thread's input."),
        key("tools", Shape::Object, "Scripted tool results."),
        key("agents", Shape::Object, "Scripted agent outputs by node."),
        key("functions", Shape::Object, "Scripted function results."),
        key("answers", Shape::ListOf(&ANSWER), "Answers to approvals, in order."),
        key("start_state", Shape::Object, "Channels to start with."),
        key("expect", Shape::Table(&EXPECT), "What must come out."),
    ],
};

pub(crate) static ANSWER: Table = Table {
    what: "an answer",
    id: "Answer",
    keys: &[
        key("node", Shape::Name, "The approval node it answers."),
        key("title", Shape::Text, "The title it answers."),
        key("choice", Shape::Name, "The choice."),
        key("expires", Shape::Flag, "In place of a choice: nobody answers, and the question expires."),
        key("by", Shape::Name, "Who answers."),
        key("reason", Shape::Text, "Why."),
        key("args", Shape::Any, "Edited arguments."),
    ],
};

pub(crate) static CALLED: Table = Table {
    what: "a call that is expected",
    id: "Called",
    keys: &[
        required("tool", Shape::Text, "`server.tool`."),
        required("args", Shape::Object, "Arguments it is called with; others may be there too."),
    ],
};

pub(crate) static EXPECT: Table = Table {
    what: "`expect`",
    id: "Expect",
    keys: &[
        key("status", Shape::Word(&["success", "failed", "interrupted"]), "How the run ends."),
        key("state", Shape::Object, "Values of channels."),
        key("path", Shape::Names, "The nodes that run, in order."),
        key("visited", Shape::Names, "Nodes that run."),
        key("not_visited", Shape::Names, "Nodes that do not run."),
        key("calls", Shape::Names, "Tools that are called, in order."),
        key("arguments", Shape::ListOf(&CALLED), "Calls that are made with at least these arguments, in order."),
        key("interrupts", Shape::Any, "The questions that are open."),
    ],
};
