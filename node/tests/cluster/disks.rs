//! What happens to a node's directory while it is stopped.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Lab;

impl Lab {
    pub(crate) fn copy_disk(&self, node: usize) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.places[node].dir.path(), copy.path());
        copy
    }

    pub(crate) fn put_back_disk(&self, node: usize, copy: &TempDir) {
        clear(self.places[node].dir.path(), &[]);
        copy_tree(copy.path(), self.places[node].dir.path());
    }

    pub(crate) fn wipe_but_the_key(&self, node: usize) {
        clear(self.places[node].dir.path(), &["node.key"]);
    }
}

fn clear(dir: &Path, but: &[&str]) {
    for entry in fs::read_dir(dir).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if but.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
