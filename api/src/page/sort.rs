//! Both spellings of a sort order.

use peerglass_catalog::{Direction, ImageQuery, SortKey};

use super::{Parameters, QueryProblem};

type Order = Vec<(SortKey, Direction)>;

/// The complete order a request asks for. Keys that cannot decide anything any more are dropped.
pub(super) fn parse(parameters: &Parameters<'_>) -> Result<Order, QueryProblem> {
    let values = |wanted: &str| -> Vec<&str> {
        let all = parameters.iter().filter(|(key, _)| key == wanted);
        all.map(|(_, value)| value.as_ref()).collect()
    };
    let (sort, keys, directions) = (values("sort"), values("sort_key"), values("sort_dir"));
    match sort.last() {
        Some(_) if !(keys.is_empty() && directions.is_empty()) => Err(QueryProblem::SortMixed),
        Some(sort) => Ok(completed(combined(sort)?, None)),
        None => separate(&keys, &directions),
    }
}

/// `sort=key[:dir][,key[:dir]...]`
fn combined(sort: &str) -> Result<Order, QueryProblem> {
    let item = |item: &str| {
        let (key, word) = item.split_once(':').unwrap_or((item, "desc"));
        Ok((sort_key(key.trim())?, direction(word.trim())?))
    };
    sort.split(',').map(item).collect()
}

/// `sort_key=...&sort_dir=...`
fn separate(keys: &[&str], words: &[&str]) -> Result<Order, QueryProblem> {
    let keys: Vec<SortKey> = keys.iter().map(|key| sort_key(key)).collect::<Result<_, _>>()?;
    let keys = if keys.is_empty() { vec![SortKey::CreatedAt] } else { keys };
    let directions: Vec<Direction> = words.iter().map(|word| direction(word)).collect::<Result<_, _>>()?;
    match directions.as_slice() {
        [] => Ok(completed(with(&keys, Direction::Descending), None)),
        [one] => Ok(completed(with(&keys, *one), Some(*one))),
        several if several.len() == keys.len() => {
            Ok(completed(keys.into_iter().zip(several.iter().copied()).collect(), None))
        }
        _ => Err(QueryProblem::SortCount),
    }
}

fn with(keys: &[SortKey], direction: Direction) -> Order {
    keys.iter().map(|key| (*key, direction)).collect()
}

/// The order made total; ties follow `tie` if one direction was given for all keys.
fn completed(order: Order, tie: Option<Direction>) -> Order {
    let mut distinct: Order = Vec::new();
    for (key, direction) in order {
        if !distinct.iter().any(|(present, _)| *present == key) {
            distinct.push((key, direction));
        }
    }
    if let Some(tie) = tie {
        for key in [SortKey::CreatedAt, SortKey::Id] {
            if !distinct.iter().any(|(present, _)| *present == key) {
                distinct.push((key, tie));
            }
        }
    }
    ImageQuery::sort_with_tie_break(distinct)
}

fn sort_key(word: &str) -> Result<SortKey, QueryProblem> {
    match word {
        "name" => Ok(SortKey::Name),
        "status" => Ok(SortKey::Status),
        "container_format" => Ok(SortKey::ContainerFormat),
        "disk_format" => Ok(SortKey::DiskFormat),
        "size" => Ok(SortKey::Size),
        "id" => Ok(SortKey::Id),
        "created_at" => Ok(SortKey::CreatedAt),
        "updated_at" => Ok(SortKey::UpdatedAt),
        _ => Err(QueryProblem::SortKey(word.to_owned())),
    }
}

fn direction(word: &str) -> Result<Direction, QueryProblem> {
    match word {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(QueryProblem::SortDirection(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Ascending, Descending};

    fn order(pairs: &[(&'static str, &'static str)]) -> Result<Order, QueryProblem> {
        parse(&pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn both_spellings_mean_the_same() {
        let wanted =
            vec![(SortKey::Name, Ascending), (SortKey::CreatedAt, Ascending), (SortKey::Id, Ascending)];
        assert_eq!(order(&[("sort", "name:asc")]).unwrap(), wanted);
        assert_eq!(order(&[("sort_key", "name"), ("sort_dir", "asc")]).unwrap(), wanted);
    }

    #[test]
    fn one_direction_is_for_all_keys_and_for_ties() {
        let keys = [("sort_key", "name"), ("sort_key", "size"), ("sort_dir", "asc")];
        assert!(order(&keys).unwrap().iter().all(|(_, direction)| *direction == Ascending));
        let mixed = order(&[("sort", "name:asc,size")]).unwrap();
        assert_eq!(mixed[1], (SortKey::Size, Descending));
        assert_eq!(mixed[2], (SortKey::CreatedAt, Descending));
    }

    #[test]
    fn defaults_are_newest_first() {
        let newest = vec![(SortKey::CreatedAt, Descending), (SortKey::Id, Descending)];
        assert_eq!(order(&[]).unwrap(), newest);
        assert_eq!(order(&[("sort_dir", "asc")]).unwrap()[0], (SortKey::CreatedAt, Ascending));
    }

    #[test]
    fn what_makes_no_order_is_refused() {
        for pairs in [
            &[("sort", "")][..],
            &[("sort", "name,")],
            &[("sort", "name:up")],
            &[("sort", "owner")],
            &[("sort", "name"), ("sort_dir", "asc")],
            &[("sort", "name"), ("sort_key", "id")],
            &[("sort_key", "tags")],
            &[("sort_key", "")],
            &[("sort_dir", "ASC")],
            &[("sort_key", "name"), ("sort_dir", "asc"), ("sort_dir", "asc")],
        ] {
            assert!(order(pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn repeating_a_key_changes_nothing() {
        let many = ["name"; 100].join(",");
        let pairs = vec![("sort".into(), many.into())];
        assert_eq!(parse(&pairs).unwrap().len(), 3);
    }
}
