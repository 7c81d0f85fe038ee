//! Folders and zips of cell images: index, decode, cache, split, augment, batch, phantom, fetch.
