//! Every possible no.

use serde::{Deserialize, Serialize};

use crate::image::{ImageId, Status};

/// A command the catalog will not carry out. It changed nothing.
///
/// A refusal is part of the replicated result: every replica refuses the same command for the same
/// reason. Each variant names one rule and carries the facts a caller needs to explain it; wording
/// for clients and status codes belong to the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The id is taken, now or by an image deleted before.
    #[error("image {0} already exists or existed before")]
    ImageExists(ImageId),
    /// No such image, or it was deleted.
    #[error("image {0} does not exist")]
    NoSuchImage(ImageId),
    /// The life cycle does not allow this step.
    #[error("image {image} is {}, which does not allow this", is.name())]
    WrongStatus {
        /// Which image.
        image: ImageId,
        /// The status it has.
        is: Status,
    },
    /// Bytes cannot be accepted before both formats are known.
    #[error("image {0} has no disk_format or no container_format")]
    FormatsUnset(ImageId),
    /// Another upload holds the image, or this one was given up.
    #[error("image {0} is not held by this upload")]
    UploadSuperseded(ImageId),
    /// `protected` is set.
    #[error("image {0} is protected")]
    Protected(ImageId),
    /// Formats may change only while the image has no bytes.
    #[error("the formats of image {image} cannot change while it is {}", is.name())]
    FormatsFrozen {
        /// Which image.
        image: ImageId,
        /// The status it has.
        is: Status,
    },
    /// The edit wanted a custom property that is not there.
    #[error("property {name:?} does not exist")]
    NoSuchProperty {
        /// The property's name.
        name: String,
    },
    /// The edit wanted to create a custom property that is there.
    #[error("property {name:?} already exists")]
    PropertyExists {
        /// The property's name.
        name: String,
    },
    /// The edit wanted a tag that is not there.
    #[error("tag {tag:?} does not exist")]
    NoSuchTag {
        /// The tag.
        tag: String,
    },
    /// More custom properties than the quota allows.
    #[error("{count} properties, at most {max} are allowed")]
    TooManyProperties {
        /// How many there would be.
        count: u32,
        /// How many may be.
        max: u32,
    },
    /// No such join token was issued, or it expired long ago.
    #[error("no such join token")]
    NoSuchToken,
    /// The join token came too late.
    #[error("the join token has expired")]
    TokenExpired,
    /// Another node joined with this token.
    #[error("the join token was used before")]
    TokenUsed,
    /// So many tokens wait to be used that nobody can mean it.
    #[error("{max} join tokens are waiting to be used; let some expire first")]
    TooManyTokens {
        /// How many may wait.
        max: u32,
    },
    /// More tags than the quota allows.
    #[error("{count} tags, at most {max} are allowed")]
    TooManyTags {
        /// How many there would be.
        count: u32,
        /// How many may be.
        max: u32,
    },
    /// Its name, tags and custom properties would together be longer than any record may be.
    #[error("name, tags and custom properties of {bytes} bytes, at most {max} are allowed")]
    RecordTooLarge {
        /// Bytes there would be.
        bytes: u32,
        /// Bytes there may be.
        max: u32,
    },
    /// The image is pinned to as many sites as it may be.
    #[error("image {image} is pinned to {max} sites, which is all that are allowed")]
    TooManyPins {
        /// Which image.
        image: ImageId,
        /// How many there may be.
        max: u32,
    },
    /// The image is not pinned to this site.
    #[error("image {image} is not pinned to site {site:?}")]
    NoSuchPin {
        /// Which image.
        image: ImageId,
        /// Which site.
        site: String,
    },
}
