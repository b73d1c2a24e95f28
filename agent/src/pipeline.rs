//! The composition root: the only file that imports every stage.
