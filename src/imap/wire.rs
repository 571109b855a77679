//! Octets ↔ lines and streamed literals.
