//! What is measured: one cell is one process of one side with its flags.

/// The side that is this engine.
pub(super) const OURS: &str = "interlock";

/// One process to run and time.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Who: this engine, or a peer by the name of its runner.
    pub(super) side: &'static str,
    pub(super) workload: &'static str,
    pub(super) backend: &'static str,
    /// What tells cells of the same side, workload and backend apart.
    pub(super) variant: &'static str,
    /// Flags after `--workload` and `--backend`.
    pub(super) flags: &'static str,
}

impl Cell {
    pub(super) fn is_ours(&self) -> bool {
        self.side == OURS
    }

    /// `side workload backend variant`: how results name the cell.
    pub(super) fn name(&self) -> String {
        let parts = [self.side, self.workload, self.backend, self.variant];
        parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
    }

    /// Whether the disk's own limit is measured beside it.
    pub(super) fn is_bound_by_sync(&self) -> bool {
        self.is_ours() && self.backend != "memory" && matches!(self.workload, "W1" | "W2")
    }
}

/// Stores of ours that live on disk.
const ON_DISK: &[&str] = &["sled", "fjall"];

/// (workload, variant, flags) of ours on every store.
const OURS_EVERYWHERE: &[(&str, &str, &str)] = &[
    ("W1", "", "--durability sync --n 1000"),
    ("W2", "", "--durability sync --n 200 --steps 20"),
    ("W3", "1000", "--durability sync --n 1000 --rounds 5"),
    ("MCP", "", "--durability sync --n 2000"),
];

/// (workload, variant, flags) of ours that need a disk.
const OURS_ON_DISK: &[(&str, &str, &str)] = &[
    ("W4", "", "--durability sync --n 500 --size 500"),
    ("W5", "", "--durability sync --n 10000 --sample 500"),
    ("W6", "", "--durability sync --repeat 5"),
    ("W7", "sync", "--durability sync --n 100 --steps 50"),
    ("W7", "async", "--durability async --n 100 --steps 50"),
    ("W7", "exit", "--durability exit --n 100 --steps 50"),
];

/// (side, workload, backend, variant, flags) of the peers, as their own matrix runs them.
const PEERS: &[(&str, &str, &str, &str, &str)] = &[
    ("langgraph", "W1", "memory", "sync api", "--durability sync --api sync --n 1000"),
    ("langgraph", "W1", "memory", "async api", "--durability sync --api async --n 1000"),
    ("langgraph", "W1", "sqlite", "sync api", "--durability sync --api sync --n 1000"),
    ("langgraph", "W1", "sqlite", "async api", "--durability sync --api async --n 1000"),
    ("langgraph", "W2", "memory", "", "--durability sync"),
    ("langgraph", "W2", "sqlite", "", "--durability sync"),
    ("langgraph", "W3", "memory", "1000", "--durability sync --n 1000 --rounds 3"),
    ("langgraph", "W3", "sqlite", "1000", "--durability sync --n 1000 --rounds 3"),
    ("langgraph", "W4", "sqlite", "full", "--durability sync --api sync --channel full"),
    ("langgraph", "W4", "sqlite", "delta", "--durability sync --api sync --channel delta"),
    ("langgraph", "W5", "sqlite", "", "--n 5000"),
    ("langgraph", "W6", "sqlite", "", "--repeat 3"),
    ("langgraph", "W7", "sqlite", "sync", "--durability sync"),
    ("langgraph", "W7", "sqlite", "async", "--durability async"),
    ("langgraph", "W7", "sqlite", "exit", "--durability exit"),
    ("restate", "W1", "", "", ""),
    ("restate", "W2", "", "", ""),
    ("restate", "W3", "", "1000", "--n 1000"),
    ("restate", "W4", "", "", "--channel delta"),
    ("restate", "W5", "", "", ""),
    ("restate", "W7", "", "", "--kill both"),
    ("lgrs", "W1", "none", "", "--n 1000"),
    ("lgrs", "W1", "memory", "", "--n 1000"),
    ("lgrs", "W1", "sqlite", "", "--n 1000"),
    ("lgrs", "W2", "sqlite", "", "--steps 20"),
    ("lgrs", "W3", "memory", "1000", "--n 1000"),
    ("lgrs", "W3", "sqlite", "1000", "--n 1000 --rounds 3"),
    ("lgrs", "W4", "sqlite", "", ""),
    ("lgrs", "W5", "sqlite", "", "--n 10000"),
    ("lgrs", "W6", "sqlite", "", "--repeat 5"),
    ("lgrs", "W7", "sqlite", "", ""),
    ("adk", "W1", "none", "", "--n 1000"),
    ("adk", "W1", "memory", "", "--n 1000"),
    ("adk", "W2", "sqlite", "", "--steps 5"),
    ("adk", "W6", "sqlite", "", "--repeat 5"),
    ("juncture", "W1", "none", "", "--n 1000"),
    ("juncture", "W1", "memory", "", "--n 1000"),
    ("juncture", "W2", "sqlite", "", "--steps 5"),
    ("juncture", "W3", "memory", "1000", "--n 1000"),
    ("juncture", "W3", "sqlite", "1000", "--n 1000 --rounds 1"),
    ("juncture", "W6", "sqlite", "", "--repeat 5"),
];

/// Every cell there is, by workload; ours before the peers.
pub(super) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (workload, variant, flags) in OURS_EVERYWHERE {
        for backend in ["memory"].iter().chain(ON_DISK) {
            cells.push(Cell { side: OURS, workload, backend, variant, flags });
        }
    }
    for (workload, variant, flags) in OURS_ON_DISK {
        cells.extend(ON_DISK.iter().map(|backend| Cell { side: OURS, workload, backend, variant, flags }));
    }
    cells.extend(PEERS.iter().map(|(side, workload, backend, variant, flags)| Cell {
        side,
        workload,
        backend,
        variant,
        flags,
    }));
    // Stable: within a workload the sides stay together, and the slow parking comes last.
    cells.sort_by_key(|cell| (cell.workload == "W5", cell.workload));
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cells_have_names_of_their_own() {
        let cells = all();
        let names: BTreeSet<_> = cells.iter().map(Cell::name).collect();
        assert_eq!(names.len(), cells.len());
        assert!(names.contains("interlock W7 fjall exit") && names.contains("restate W1"));
    }
}
