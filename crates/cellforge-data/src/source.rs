//! stub
/// stub
#[derive(Debug)]
pub struct Source;
