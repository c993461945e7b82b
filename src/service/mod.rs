//! Placeholder: replaced by the commit that builds this module.
