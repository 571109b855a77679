//! Worlds in which the product once lost, doubled or altered something, reduced.
