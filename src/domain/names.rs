//! The names that configuration gives, each its own type so that they cannot be mixed up.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as it was given.
            #[must_use]
            pub fn new(name: &str) -> Self {
                Self(name.into())
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a volume: its mount point, unless configuration names it.
    VolumeId
);
name!(
    /// The name of a tree.
    TreeId
);
name!(
    /// The name of a stream within its tree: `app/stream`, or the layout's equivalent.
    StreamId
);
name!(
    /// The name of a catalogue.
    CatalogueId
);
name!(
    /// The name of an archive.
    ArchiveId
);
name!(
    /// The name of a media server: the id that it bears in its hooks and in a platform's rows.
    MediaServerId
);
