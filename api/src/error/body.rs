//! The body of an error, in the form the client asked for.
//!
//! Clients match these bodies: glanceclient needs HTML for `*/*`, because it expects other JSON than
//! Glance sends; Tempest accepts no content type but these three.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// The form of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Nothing else matches.
    Plain,
    /// The client named HTML.
    Html,
    /// The client takes anything, which for errors means HTML.
    Anything,
    /// The client prefers JSON.
    Json,
}

impl Format {
    /// The best form for a request with these headers; HTML wins a tie.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let Some(accept) = headers.get(header::ACCEPT) else { return Self::Plain };
        if accept == "*/*" {
            return Self::Anything;
        }
        let Ok(accept) = accept.to_str() else { return Self::Plain };
        let (mut html, mut json) = (Offer::default(), Offer::default());
        for range in accept.split(',') {
            html.consider(range, "text/html", "text/*");
            json.consider(range, "application/json", "application/*");
        }
        if html.quality > 0 && html.quality >= json.quality {
            if html.precision == 1 { Self::Anything } else { Self::Html }
        } else if json.quality > 0 {
            Self::Json
        } else {
            Self::Plain
        }
    }
}

/// How well an `Accept` header fits one media type. The most precise range decides.
#[derive(Default)]
struct Offer {
    precision: u8,
    quality: u16,
}

impl Offer {
    fn consider(&mut self, range: &str, exact: &str, family: &str) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let precision = if name.eq_ignore_ascii_case(exact) {
            3
        } else if name.eq_ignore_ascii_case(family) {
            2
        } else if name == "*/*" {
            1
        } else {
            return;
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, quality);
        if precision > self.precision {
            (self.precision, self.quality) = (precision, quality);
        }
    }
}

/// A weight from 0 to 1 in thousandths; what is not one counts as 0.
fn quality(text: &str) -> u16 {
    let weight = text.trim().parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
    (weight * 1000.0) as u16
}

/// An error response without headers of its own.
pub(super) fn render(status: StatusCode, message: &str, format: Format) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let line = format!("{} {title}", status.as_u16());
    let (content_type, text) = match format {
        Format::Plain => ("text/plain; charset=UTF-8", format!("{line}\n\n{message}\n")),
        Format::Html | Format::Anything => {
            let message = escaped(message);
            let page = format!(
                "<html>\n <head>\n  <title>{line}</title>\n </head>\n <body>\n  <h1>{line}</h1>\n  \
                 {message}<br /><br />\n\n\n\n </body>\n</html>"
            );
            ("text/html; charset=UTF-8", page)
        }
        Format::Json => {
            let body = serde_json::json!({"message": message, "code": line, "title": title});
            ("application/json", body.to_string())
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#x27;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(accept: &str) -> Format {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        Format::accepted(&headers)
    }

    #[test]
    fn the_accept_header_decides_the_form() {
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Plain);
        for (accept, wanted) in [
            ("", Format::Plain),
            ("text/plain", Format::Plain),
            ("image/png", Format::Plain),
            ("*/*", Format::Anything),
            ("text/html", Format::Html),
            ("text/*", Format::Html),
            ("application/json", Format::Json),
            ("application/json, */*;q=0.5", Format::Json),
            ("application/json, */*", Format::Anything),
            ("application/json, text/html", Format::Html),
            ("text/html;q=0.2, application/json;q=0.4", Format::Json),
            ("text/html;q=0, application/json;q=0", Format::Plain),
            ("text/html;q=nonsense", Format::Plain),
        ] {
            assert_eq!(format(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn markup_in_a_message_is_only_text_in_html() {
        assert_eq!(escaped("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#x27;");
    }
}
