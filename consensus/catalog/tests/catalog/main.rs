//! Properties of the whole catalog: any order of commands, any query.

mod lifecycle;
mod lists;
mod replicas;
