//! The tools as a table.

use std::sync::OnceLock;

use super::error::GitError;
use super::{Repositories, look, revert, suspect};
use crate::servers::table::{self, acts, reads};

pub use crate::servers::table::ToolEffect;

/// One tool.
pub type ToolSpec = table::ToolSpec<Repositories, GitError>;

/// Every tool there is.
pub fn all_tools() -> &'static [ToolSpec] {
    static TOOLS: OnceLock<Vec<ToolSpec>> = OnceLock::new();
    TOOLS.get_or_init(|| {
        vec![
            reads(
                ("get_branch", "Where the deployed branch stands, and whether its work tree lacks exactly one commit that was taken back."),
                look::get_branch,
            ),
            reads(
                ("recent_commits", "The newest commits of the deployed branch, all or those that touch one file."),
                look::recent_commits,
            ),
            reads(("show_commit", "One commit with its message, files and diff, cut."), look::show_commit),
            reads(
                (
                    "find_break",
                    "The one commit that changed a file since it worked, how it touched the name or line of the error, and whether it can be taken back. None when there are several.",
                ),
                suspect::find_break,
            ),
            reads(
                ("preview_revert", "What taking one commit back would change, without changing anything."),
                revert::preview_revert,
            ),
            acts(
                (
                    "revert_commit",
                    "Takes one commit back by another on top, if the branch still is where the caller saw it, and lets the work tree follow. Never rewrites history.",
                ),
                ToolEffect::Replaces,
                revert::revert_commit,
            ),
        ]
    })
}
