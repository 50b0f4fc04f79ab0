//! What users write and read: the kinds, their validation, and the contract of every status.

mod examples;
mod fuzz;
mod kstatus;
mod refusals;
mod specs;
