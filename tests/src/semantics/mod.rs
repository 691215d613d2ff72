//! What the engine promises, case by case: the B rows (behaviour to match) and the X rows (behaviour to better).

mod breakers;
mod budgets;
mod calls;
mod depth;
mod failures;
mod further;
mod history;
mod interrupts;
mod planning;
mod spending;
mod subgraphs;
mod track_records;
