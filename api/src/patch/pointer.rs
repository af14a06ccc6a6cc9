//! JSON pointers as Glance reads them: stricter than RFC 6901 about slashes.

use super::PatchProblem;

/// The unescaped, trimmed segments of a pointer.
pub(super) fn parse(pointer: &str) -> Result<Vec<String>, PatchProblem> {
    let broken = |rule| {
        // A message need not repeat a megabyte.
        let pointer = pointer.chars().take(255).collect();
        Err(PatchProblem::Pointer { pointer, rule })
    };
    let Some(rest) = pointer.strip_prefix('/') else { return broken("does not start with \"/\"") };
    // One slash too many at the start is forgiven.
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    if rest.trim().is_empty() {
        return broken("contains no token");
    }
    if rest.ends_with('/') {
        return broken("ends with \"/\"");
    }
    let segments: Vec<&str> = rest.split('/').map(str::trim).collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return broken("contains adjacent \"/\"");
    }
    let unescaped: Option<Vec<String>> = segments.into_iter().map(unescape).collect();
    unescaped.map_or_else(|| broken("contains \"~\" not part of a recognised escape sequence"), Ok)
}

fn unescape(segment: &str) -> Option<String> {
    let mut text = String::with_capacity(segment.len());
    let mut characters = segment.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_unescaped_and_trimmed() {
        for (pointer, segments) in [
            ("/a", vec!["a"]),
            ("//a", vec!["a"]),
            ("/ a ", vec!["a"]),
            ("/a~1b~0c", vec!["a/b~c"]),
            ("/~01", vec!["~1"]),
            ("/locations/-", vec!["locations", "-"]),
            ("/trait:X", vec!["trait:X"]),
        ] {
            assert_eq!(parse(pointer).unwrap(), segments, "{pointer}");
        }
    }

    #[test]
    fn malformed_pointers_are_refused() {
        for pointer in ["", "a", "/", "//", "/ ", "/a/", "/a//b", "/a/ /b", "///a", "/~", "/~2", "/a~"] {
            assert!(parse(pointer).is_err(), "{pointer}");
        }
    }
}
