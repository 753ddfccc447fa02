//! Digests of names and paths: sets of millions of them in eight bytes each.
//!
//! Two names may have the same digest, about once in 2^64 pairs. Wherever a digest decides, such an accident lets a file live.

use super::path::RelPath;

/// A key that is the state's own, so that nobody outside can choose names whose digests are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestKey(pub u64);

impl DigestKey {
    /// The key of a state.
    #[must_use]
    pub fn of(state: &str) -> Self {
        Self(Self(0).digest(state.as_bytes()))
    }

    /// The digest of a name: FNV-1a over its bytes from the key on, then the finaliser of splitmix64.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> u64 {
        let start = 0xcbf2_9ce4_8422_2325 ^ self.0;
        let mut z = bytes.iter().fold(start, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        z = (z ^ self.0.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How many names a folder holds, and the sum of their digests: two folders with the same sum hold the same names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FolderSum {
    /// How many.
    pub names: u64,
    /// The sum, modulo 2^64.
    pub sum: u64,
}

impl FolderSum {
    /// Counts one more name.
    pub fn add(&mut self, digest: u64) {
        self.names = self.names.wrapping_add(1);
        self.sum = self.sum.wrapping_add(digest);
    }

    /// Counts one name less.
    pub fn remove(&mut self, digest: u64) {
        self.names = self.names.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(digest);
    }
}

/// A set of paths that may hold a path too many, about once in 2^64, and never one too few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathSet {
    key: u64,
    digests: Vec<u64>,
}

impl PathSet {
    /// The set of these paths.
    #[must_use]
    pub fn new(key: DigestKey, paths: impl Iterator<Item = RelPath>) -> Self {
        let mut digests: Vec<u64> = paths.map(|path| key.digest(path.as_bytes())).collect();
        digests.sort_unstable();
        digests.dedup();
        Self { key: key.0, digests }
    }

    /// Whether it holds a path.
    #[must_use]
    pub fn contains(&self, path: &RelPath) -> bool {
        !self.digests.is_empty() && self.digests.binary_search(&DigestKey(self.key).digest(path.as_bytes())).is_ok()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// How many paths it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// This set and all of another, which bears the same key.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        if self.digests.is_empty() {
            self.key = other.key;
        }
        self.digests.extend_from_slice(&other.digests);
        self.digests.sort_unstable();
        self.digests.dedup();
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(texts: &[String]) -> impl Iterator<Item = RelPath> + '_ {
        texts.iter().filter_map(|text| RelPath::new(text.as_bytes()).ok())
    }

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in_and_nothing_else(texts in proptest::collection::vec("[a-z/]{1,8}", 0..40), key: u64) {
            let (inside, outside) = texts.split_at(texts.len() / 2);
            let set = PathSet::new(DigestKey(key), paths(inside));
            let known: std::collections::BTreeSet<RelPath> = paths(inside).collect();
            for path in paths(inside).chain(paths(outside)) {
                prop_assert_eq!(set.contains(&path), known.contains(&path));
            }
        }

        #[test]
        fn folders_with_the_same_names_have_the_same_sum_in_any_order(mut names in proptest::collection::vec("[0-9a-z.-]{1,20}", 1..40)) {
            let key = DigestKey::of("state");
            let sum = |names: &[String]| {
                let mut sum = FolderSum::default();
                names.iter().for_each(|name| sum.add(key.digest(name.as_bytes())));
                sum
            };
            let before = sum(&names);
            names.reverse();
            prop_assert_eq!(before, sum(&names));
            let last = names.pop().unwrap_or_default();
            let mut less = before;
            less.remove(key.digest(last.as_bytes()));
            prop_assert_eq!(less, sum(&names));
            prop_assert_ne!(less, before);
        }
    }
}
