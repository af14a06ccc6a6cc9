//! Who may do what.
//!
//! [`check`] is the only place that decides, and every route of the URL table names its [`Rule`], so
//! a route without one does not compile. The rules are Glance's defaults: they look at roles and at
//! whose image it is; whether a caller may know of an image at all is decided before, by visibility.

use peerglass_catalog::{Image, Visibility};

use crate::auth::Caller;

/// A rule, by the name operators know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Any caller who signed in.
    Anybody,
    /// List images.
    GetImages,
    /// Read one image's record.
    GetImage,
    /// Create a record.
    AddImage,
    /// Change a record.
    ModifyImage,
    /// Delete an image.
    DeleteImage,
    /// Send an image's bytes.
    UploadImage,
    /// Fetch an image's bytes.
    DownloadImage,
    /// Stop downloads.
    Deactivate,
    /// Allow downloads again.
    Reactivate,
    /// Show an image to everybody.
    PublicizeImage,
    /// Offer an image to everybody who asks for community images.
    CommunitizeImage,
    /// Look at the cluster.
    GetCluster,
    /// Change who is in the cluster.
    ManageCluster,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Nothing in particular: the caller's own project.
    Service,
    /// Something that would belong to this project.
    Project(Option<&'a str>),
    /// An image the caller can see.
    Image(&'a Image),
}

/// A rule said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Which rule.
    pub(crate) rule: Rule,
    /// The caller may not even know the image, which must look absent.
    pub(crate) hidden: bool,
}

impl Rule {
    /// Its name in policy files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anybody => "default",
            Self::GetImages => "get_images",
            Self::GetImage => "get_image",
            Self::AddImage => "add_image",
            Self::ModifyImage => "modify_image",
            Self::DeleteImage => "delete_image",
            Self::UploadImage => "upload_image",
            Self::DownloadImage => "download_image",
            Self::Deactivate => "deactivate",
            Self::Reactivate => "reactivate",
            Self::PublicizeImage => "publicize_image",
            Self::CommunitizeImage => "communitize_image",
            Self::GetCluster => "peerglass_get_cluster",
            Self::ManageCluster => "peerglass_manage_cluster",
        }
    }
}

/// Whether `caller` may do what `rule` guards to `target`.
pub(crate) fn check(rule: Rule, caller: &Caller, target: Target<'_>) -> Result<(), Denied> {
    if allows(rule, caller, target) {
        return Ok(());
    }
    let is_image = matches!(target, Target::Image(_));
    Err(Denied { rule, hidden: is_image && !allows(Rule::GetImage, caller, target) })
}

fn allows(rule: Rule, caller: &Caller, target: Target<'_>) -> bool {
    caller.is_admin()
        || match rule {
            Rule::Anybody => true,
            Rule::GetImages => caller.is_reader(),
            Rule::GetImage => caller.is_reader() && may_use(caller, target),
            Rule::DownloadImage => caller.is_member() && may_use(caller, target),
            Rule::AddImage
            | Rule::ModifyImage
            | Rule::DeleteImage
            | Rule::UploadImage
            | Rule::Deactivate
            | Rule::Reactivate
            | Rule::CommunitizeImage => caller.is_member() && owns(caller, target),
            Rule::PublicizeImage | Rule::GetCluster | Rule::ManageCluster => false,
        }
}

/// The caller's own, or open to others. A shared image reaches this point only if it was visible.
fn may_use(caller: &Caller, target: Target<'_>) -> bool {
    let open = match target {
        Target::Service | Target::Project(_) => false,
        Target::Image(image) => match image.visibility {
            Visibility::Public | Visibility::Community => true,
            Visibility::Shared => image.owner.is_some(),
            Visibility::Private => false,
        },
    };
    open || owns(caller, target)
}

fn owns(caller: &Caller, target: Target<'_>) -> bool {
    let owner = match target {
        Target::Service => caller.project(),
        Target::Project(project) => project,
        Target::Image(image) => image.owner.as_deref(),
    };
    owner.is_some() && owner == caller.project()
}
