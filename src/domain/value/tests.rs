//! The types together; replaced below by cases a type at a time.
