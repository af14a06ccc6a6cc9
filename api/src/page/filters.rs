//! The conditions of a list request.
//!
//! Every parameter that is not a known one is the name of a custom property. The known text fields
//! take operators, so a plain value that contains a colon has to be written `eq:a:b`.

use peerglass_catalog::{
    Comparison, Filter, NumberField, TextField, TimeField, Visibility, VisibilityFilter,
};

use super::{Parameters, QueryProblem, time};

/// What a list request is restricted to.
#[derive(Debug)]
pub(super) struct Filters {
    pub(super) visibility: VisibilityFilter,
    pub(super) hidden: bool,
    pub(super) filters: Vec<Filter>,
}

/// An operator word before a colon, and the rest.
struct Operator<'a> {
    word: &'a str,
    operand: &'a str,
}

impl<'a> Operator<'a> {
    /// Split `value`. A time has colons of its own and no operator.
    fn of(value: &'a str) -> Self {
        match value.split_once(':') {
            Some((word, operand)) if time::parse(value).is_none() => Self { word, operand },
            Some(_) | None => Self { word: "eq", operand: value },
        }
    }
}

pub(super) fn parse(parameters: &Parameters<'_>) -> Result<Filters, QueryProblem> {
    let mut found = Filters { visibility: VisibilityFilter::Default, hidden: false, filters: Vec::new() };
    let mut seen = std::collections::BTreeSet::new();
    // From the end, because the last occurrence of a parameter that counts once is the one meant.
    for (key, value) in parameters.iter().rev() {
        if matches!(key.as_ref(), "tag" | "tags") {
            found.filters.push(Filter::Tag(value.clone().into_owned()));
        } else if seen.insert(key.as_ref()) {
            condition(key, value, &mut found)?;
        }
    }
    Ok(found)
}

fn condition(key: &str, value: &str, found: &mut Filters) -> Result<(), QueryProblem> {
    match key {
        "limit" | "marker" | "sort" | "sort_key" | "sort_dir" | "deleted" => {}
        "changes-since" => return Err(QueryProblem::ChangesSince),
        "name" => found.filters.push(text_or_list(key, TextField::Name, value)?),
        "id" => found.filters.push(text_or_list(key, TextField::Id, value)?),
        "status" => found.filters.push(text_or_list(key, TextField::Status, value)?),
        "container_format" => found.filters.push(text_or_list(key, TextField::ContainerFormat, value)?),
        "disk_format" => found.filters.push(text_or_list(key, TextField::DiskFormat, value)?),
        "owner" => found.filters.push(text(TextField::Owner, value)),
        "checksum" => found.filters.push(text(TextField::Checksum, value)),
        "os_hash_algo" => found.filters.push(text(TextField::OsHashAlgo, value)),
        "os_hash_value" => found.filters.push(text(TextField::OsHashValue, value)),
        "created_at" => found.filters.push(moment(key, TimeField::CreatedAt, value)?),
        "updated_at" => found.filters.push(moment(key, TimeField::UpdatedAt, value)?),
        "protected" => found.filters.push(Filter::Protected(truth("protected", value)?)),
        "os_hidden" => found.hidden = truth("os_hidden", value)?,
        "visibility" if value.is_empty() => found.filters.push(nothing()),
        "visibility" => found.visibility = visibility(value)?,
        // Only matters for images shared with the caller's project.
        "member_status" => member_status(value)?,
        _ => match number_field(key) {
            Some((field, bound)) => found.filters.extend(number(key, field, bound, value)?),
            None => {
                found.filters.push(Filter::Property { name: key.to_owned(), value: value.to_owned() });
            }
        },
    }
    Ok(())
}

/// A condition that no image meets.
fn nothing() -> Filter {
    Filter::Text { field: TextField::Id, any_of: Vec::new() }
}

fn text(field: TextField, value: &str) -> Filter {
    Filter::Text { field, any_of: vec![value.to_owned()] }
}

fn text_or_list(key: &str, field: TextField, value: &str) -> Result<Filter, QueryProblem> {
    let Operator { word, operand } = Operator::of(value);
    match word {
        "eq" => Ok(text(field, operand)),
        "in" => Ok(Filter::Text { field, any_of: items(operand)? }),
        _ => Err(QueryProblem::Operator { key: key.to_owned(), operator: word.to_owned() }),
    }
}

/// Comma-separated items; one in double quotes may contain commas, and quotes written `\"`.
fn items(list: &str) -> Result<Vec<String>, QueryProblem> {
    let malformed = || QueryProblem::Quotes(list.to_owned());
    let mut items = Vec::new();
    let mut rest = list;
    loop {
        let (item, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_item(quoted).ok_or_else(malformed)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if !rest.starts_with('"') && item.contains('"') {
            return Err(malformed());
        }
        items.push(item);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(items),
            None => return Err(malformed()),
        }
    }
}

/// What stands before the closing quote, and what follows it.
fn quoted_item(text: &str) -> Option<(String, &str)> {
    let mut item = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((item, &text[at + 1..])),
            '\\' if text[at + 1..].starts_with('"') => {
                characters.next();
                item.push('"');
            }
            other => item.push(other),
        }
    }
    None
}

fn moment(key: &str, field: TimeField, value: &str) -> Result<Filter, QueryProblem> {
    let Operator { word, operand } = Operator::of(value);
    let comparison = match word {
        "eq" => Comparison::Equal,
        "neq" => Comparison::NotEqual,
        "gt" => Comparison::Greater,
        "gte" => Comparison::GreaterOrEqual,
        "lt" => Comparison::Less,
        "lte" => Comparison::LessOrEqual,
        _ => return Err(QueryProblem::Operator { key: key.to_owned(), operator: word.to_owned() }),
    };
    let at = time::parse(operand)
        .ok_or_else(|| QueryProblem::Time { key: key.to_owned(), value: operand.to_owned() })?;
    Ok(Filter::Time { field, comparison, at })
}

#[derive(Clone, Copy)]
enum Bound {
    Exact,
    Min,
    Max,
}

fn number_field(key: &str) -> Option<(NumberField, Bound)> {
    let (name, bound) = match (key.strip_suffix("_min"), key.strip_suffix("_max")) {
        (Some(name), _) => (name, Bound::Min),
        (None, Some(name)) => (name, Bound::Max),
        (None, None) => (key, Bound::Exact),
    };
    let field = match name {
        "size" => NumberField::Size,
        "virtual_size" => NumberField::VirtualSize,
        "min_ram" => NumberField::MinRam,
        "min_disk" => NumberField::MinDisk,
        _ => return None,
    };
    Some((field, bound))
}

/// At most one condition: no number is below zero, so some bounds say nothing.
fn number(key: &str, field: NumberField, bound: Bound, value: &str) -> Result<Option<Filter>, QueryProblem> {
    // Wider than any size, so that a bound beyond them keeps its meaning.
    let parsed = value.trim().parse::<i128>();
    let with = |comparison, value| Some(Filter::Number { field, comparison, value });
    match (bound, parsed) {
        (Bound::Exact, Err(_)) => Ok(Some(nothing())),
        (Bound::Min | Bound::Max, Err(_)) => {
            Err(QueryProblem::Integer { key: key.to_owned(), value: value.to_owned() })
        }
        (Bound::Exact, Ok(value)) => {
            Ok(u64::try_from(value).map_or_else(|_| Some(nothing()), |value| with(Comparison::Equal, value)))
        }
        (Bound::Min, Ok(value)) if value > i128::from(u64::MAX) => Ok(Some(nothing())),
        // Even a bound of zero asks for images whose number is known.
        (Bound::Min, Ok(value)) => {
            Ok(with(Comparison::GreaterOrEqual, u64::try_from(value).unwrap_or_default()))
        }
        (Bound::Max, Ok(value)) if value < 0 => Ok(Some(nothing())),
        (Bound::Max, Ok(value)) => {
            Ok(with(Comparison::LessOrEqual, u64::try_from(value).unwrap_or(u64::MAX)))
        }
    }
}

fn truth(key: &'static str, value: &str) -> Result<bool, QueryProblem> {
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(QueryProblem::Choice { key, value: value.to_owned(), expected: "true, false" })
    }
}

fn visibility(value: &str) -> Result<VisibilityFilter, QueryProblem> {
    if value == "all" {
        return Ok(VisibilityFilter::All);
    }
    Visibility::from_name(value).map(VisibilityFilter::Only).ok_or_else(|| QueryProblem::Choice {
        key: "visibility",
        value: value.to_owned(),
        expected: "public, private, shared, community, all",
    })
}

fn member_status(value: &str) -> Result<(), QueryProblem> {
    if matches!(value, "accepted" | "pending" | "rejected" | "all") {
        return Ok(());
    }
    let expected = "accepted, pending, rejected, all";
    Err(QueryProblem::Choice { key: "member_status", value: value.to_owned(), expected })
}

#[cfg(test)]
mod tests;
