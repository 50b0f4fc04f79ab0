//! `landfall-host` on one host: how it gets there, and what is said to it over one SSH channel. It must not decide what is to be done.

mod image;

pub use image::{Image, Images};
