//! Declares a section of the settings once, and gets the struct, its defaults and its part of the
//! sample file from that.

/// A section: `"name", struct, { /// why, field: type = default as TOML => default }`.
///
/// The documentation of each field is what `peerglass config print` shows, so the two cannot drift.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:literal => $section:ident {
            $( $(#[doc = $doc:literal])* $field:ident : $type:ty = $default:expr, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $section {
            /// This section of the sample settings file.
            pub fn sample() -> String {
                let defaults = Self::default();
                let mut text = String::new();
                $( text.push_str(concat!("#", $about, "\n")); )*
                text.push_str(concat!("[", $name, "]\n"));
                $(
                    $( text.push_str(concat!("#", $doc, "\n")); )*
                    let value = toml::Value::try_from(&defaults.$field)
                        .expect("a default is a plain value, which TOML can hold");
                    text.push_str(&format!("{} = {value}\n", stringify!($field)));
                )*
                text
            }
        }
    };
}

pub(crate) use section;
