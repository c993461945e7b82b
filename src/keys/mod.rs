pub mod place;
pub mod transit;
