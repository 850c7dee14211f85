//! Special functions and distributions, written for tails and for large parameters.
//!
//! Every function is accurate to about 10⁻¹⁰ relative for degrees of freedom up to 10¹² and beta parameters up to 10⁹,
//! takes a bounded number of steps, and computes the smaller tail directly instead of as one minus the larger.

pub mod beta;
pub mod binomial;
pub mod chi_squared;
pub mod gamma;
pub mod lambert;
pub mod noncentral_t;
pub mod normal;
pub(crate) mod quadrature;
pub(crate) mod root;
pub mod student_t;
