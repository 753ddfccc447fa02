//! Streams with what they are promised, and what becomes of one recording.

use super::hub::Hub;
use crate::domain::path::RelPath;
use crate::domain::promise::{Standing, sort, standings};
use crate::server::Refusal;
use crate::server::shapes::StreamStanding;

impl Hub {
    /// The streams of a tree, or of all, the worst first.
    ///
    /// # Errors
    /// 404 if there is no such tree.
    pub fn streams(&self, tree: Option<&str>) -> Result<Vec<StreamStanding>, Refusal> {
        if let Some(tree) = tree {
            self.policy(tree)?;
        }
        let (now, live) = (self.now(), self.live.streams());
        let views = self.views();
        let trees = views.iter().flat_map(|volume| &volume.trees);
        let wanted = trees.filter(|view| tree.is_none_or(|name| view.policy.tree.as_str() == name));
        let mut all: Vec<Standing> = self.with_history(|history| {
            wanted.flat_map(|view| standings(&view.policy, &view.survey, history, now)).collect()
        });
        all.iter_mut().for_each(|one| one.live |= live.of_stream(&one.stream).is_some());
        sort(&mut all);
        Ok(all.iter().map(StreamStanding::from).collect())
    }

    /// Why a recording goes or stays and when it will go, in a few sentences for each tree that has it.
    ///
    /// # Errors
    /// 400 if `path` is no path below a tree, 404 if no scan found a recording there.
    pub fn explain(&self, path: &str, encoded: bool) -> Result<Vec<String>, Refusal> {
        let wanted = RelPath::parse(path, encoded).map_err(|error| {
            Refusal::bad_request(
                "bad_path",
                format!("`{path}` {error}; a recording is named by its path below its tree"),
            )
        })?;
        let now = self.now();
        let views = self.views();
        let found: Vec<String> =
            self.with_history(|history| views.iter().flat_map(|view| view.explain(&wanted, history, now)).collect());
        if found.is_empty() {
            let message = format!(
                "the last scan found no recording `{path}` in a tree that can be judged: it is not there, not of the tree's layout, or behind a link or another mount"
            );
            return Err(Refusal::not_found(message));
        }
        Ok(found)
    }
}
