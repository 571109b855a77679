//! docs/servers.md names a test for each thing that servers do.
