//! Records ↔ octets, versioned.
