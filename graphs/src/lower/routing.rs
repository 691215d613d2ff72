//! Routing: `then`, `start` and the routes of bands.

use crate::checks::g006_wrong_type as g006;
use crate::keys;
use crate::lower::Lower;
use crate::lower::fields::Field;
use crate::spec::{RouteSpec, RoutingSpec};
use crate::yaml::{Data, Yaml};

impl Lower<'_> {
    /// `name`, `[names]` or a list of routes.
    pub(crate) fn routing(&mut self, field: Field<'_>) -> RoutingSpec {
        match &field.value.data {
            Data::Text(_) => self.name(field).map_or(RoutingSpec::Broken, |name| RoutingSpec::Goto(vec![name])),
            Data::List(items) if items.is_empty() => {
                let what = format!("`{}`", field.key);
                self.findings.push(g006::wrong_type(field.value.span, &what, "at least one target", "an empty list"));
                RoutingSpec::Broken
            }
            Data::List(items) if items.iter().all(|item| matches!(item.data, Data::Map(_))) => {
                let routes: Vec<Option<RouteSpec>> = items.iter().map(|item| self.route(item)).collect();
                routes.into_iter().collect::<Option<Vec<_>>>().map_or(RoutingSpec::Broken, RoutingSpec::Routes)
            }
            Data::List(items) => {
                let n_items = items.len();
                let names = self.names(field).unwrap_or_default();
                if names.len() == n_items { RoutingSpec::Goto(names) } else { RoutingSpec::Broken }
            }
            _ => {
                self.wrong_type(field, "a node, a list of nodes, or a list of `{ when, to }` routes");
                RoutingSpec::Broken
            }
        }
    }

    fn route(&mut self, item: &Yaml) -> Option<RouteSpec> {
        let fields = self.fields(item, &keys::ROUTE, item.span)?;
        let when = fields.get("when").map(|field| self.expression(field));
        let to = fields.get("to").and_then(|field| self.names(field))?;
        if to.is_empty() {
            let place = fields.get("to").map_or(item.span, |field| field.value.span);
            self.findings.push(g006::wrong_type(place, "`to`", "at least one target", "an empty list"));
            return None;
        }
        let span = fields.get("when").or(fields.get("to")).map_or(item.span, |field| field.key_span);
        match when {
            Some(None) => None,
            Some(Some(when)) => Some(RouteSpec { when: Some(when), to, span }),
            None => Some(RouteSpec { when: None, to, span }),
        }
    }
}
