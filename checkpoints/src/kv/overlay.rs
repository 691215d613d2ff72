//! Recent writes over older data: a map that shadows what is below it.

use std::ops::Bound;

use super::{KeyRange, KvError, Order, Page, Reader, Value, WriteMap};

/// `map` over `below`; a key of the map wins, also when it deletes.
pub(crate) struct Layer<'a> {
    pub(crate) map: &'a WriteMap,
    pub(crate) below: &'a dyn Reader,
}

impl Reader for Layer<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, KvError> {
        match self.map.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page, KvError> {
        if self.map.is_empty() {
            return self.below.scan(range, order, limit);
        }
        let mut page = Page::default();
        let mut rest = range.clone();
        // Each round takes a page from below and all of the map that lies before its end; bounded by the range.
        while !rest.is_empty() {
            let lower = self.below.scan(&rest, order, limit - page.entries.len())?;
            let next = lower.entries.last().filter(|_| lower.more).map(|(last, _)| rest.rest(last, order));
            let covered = covered(&rest, lower.entries.last().filter(|_| lower.more).map(|(k, _)| &k[..]), order);
            let upper = (self.map, &covered, order);
            let all = merge(upper, lower.entries, limit, &mut page.entries);
            page.more = !all || next.is_some();
            match next {
                Some(next) if all && page.entries.len() < limit => rest = next,
                _ => break,
            }
        }
        Ok(page)
    }
}

/// The part of `rest` that a page ending at `last` has looked at.
fn covered(rest: &KeyRange, last: Option<&[u8]>, order: Order) -> KeyRange {
    match (last, order) {
        (None, _) => rest.clone(),
        (Some(last), Order::Forward) => {
            let mut end = last.to_vec();
            end.push(0);
            KeyRange { start: rest.start.clone(), end: Some(end) }
        }
        (Some(last), Order::Reverse) => KeyRange { start: last.to_vec(), end: rest.end.clone() },
    }
}

/// Merges a part of the map (map, range, order) with `lower` into `out` up to `limit`; false if something was left over.
fn merge(
    upper: (&WriteMap, &KeyRange, Order),
    lower: Vec<(Vec<u8>, Value)>,
    limit: usize,
    out: &mut Vec<(Vec<u8>, Value)>,
) -> bool {
    let (map, range, order) = upper;
    let mut upper = map_range(map, range, order).peekable();
    let mut lower = lower.into_iter().peekable();
    loop {
        let take_upper = match (upper.peek(), lower.peek()) {
            (None, None) => return true,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((above, _)), Some((below, _))) => match order {
                Order::Forward => *above <= below,
                Order::Reverse => *above >= below,
            },
        };
        if take_upper {
            let Some((key, value)) = upper.next() else { return true };
            if value.is_some() && out.len() == limit {
                return false;
            }
            lower.next_if(|(below, _)| below == key);
            if let Some(value) = value {
                out.push((key.clone(), value.clone()));
            }
        } else {
            if out.len() == limit {
                return false;
            }
            out.extend(lower.next());
        }
    }
}

type Entry<'a> = (&'a Vec<u8>, &'a Option<Value>);

/// The entries of `map` in `range`, in `order`.
pub(crate) fn map_range<'a>(
    map: &'a WriteMap,
    range: &KeyRange,
    order: Order,
) -> Box<dyn Iterator<Item = Entry<'a>> + 'a> {
    if range.is_empty() {
        return Box::new(std::iter::empty());
    }
    let start = Bound::Included(range.start.as_slice());
    let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let entries = map.range::<[u8], _>((start, end));
    match order {
        Order::Forward => Box::new(entries),
        Order::Reverse => Box::new(entries.rev()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Nothing;

    impl Reader for Nothing {
        fn get(&self, _: &[u8]) -> Result<Option<Value>, KvError> {
            Ok(None)
        }

        fn scan(&self, _: &KeyRange, _: Order, _: usize) -> Result<Page, KvError> {
            Ok(Page::default())
        }
    }

    fn walk(reader: &dyn Reader, range: KeyRange, order: Order, limit: usize) -> Vec<(Vec<u8>, Value)> {
        let mut rest = range;
        let mut all = Vec::new();
        loop {
            let page = reader.scan(&rest, order, limit).unwrap();
            assert!(page.entries.len() <= limit);
            let last = page.entries.last().map(|(k, _)| k.clone());
            all.extend(page.entries);
            match last {
                Some(last) if page.more => rest = rest.rest(&last, order),
                _ => return all,
            }
        }
    }

    fn write_map() -> impl Strategy<Value = WriteMap> {
        let value = proptest::option::of(any::<u8>().prop_map(|b| Value::from(vec![b])));
        proptest::collection::btree_map(proptest::collection::vec(0u8..4, 0..3), value, 0..30)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn layers_read_like_one_map(
            old in write_map(), mid in write_map(), new in write_map(),
            start in proptest::collection::vec(0u8..4, 0..2),
            end in proptest::option::of(proptest::collection::vec(0u8..4, 0..2)),
            reverse in any::<bool>(), limit in 1usize..7,
        ) {
            let mut flat = old.clone();
            flat.extend(mid.clone());
            flat.extend(new.clone());
            let order = if reverse { Order::Reverse } else { Order::Forward };
            let range = KeyRange { start, end };
            let expected: Vec<_> = map_range(&flat, &range, order)
                .filter_map(|(k, v)| v.clone().map(|v| (k.clone(), v)))
                .collect();
            let bottom = Layer { map: &old, below: &Nothing };
            let middle = Layer { map: &mid, below: &bottom };
            let top = Layer { map: &new, below: &middle };
            prop_assert_eq!(walk(&top, range, order, limit), expected);
            for key in flat.keys() {
                prop_assert_eq!(top.get(key).unwrap(), flat[key].clone());
            }
        }
    }
}
