//! The page as it is used: a real portal, a real daemon, real servers.

mod browser;
mod errors;
mod guarding;
mod https;
mod provisioning;
mod returning;
mod screen;
mod site;
#[path = "../../../../tests/support/mod.rs"]
mod support;
mod timing;
mod visitor;
mod ways;
