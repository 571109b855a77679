//! The supervisor of all accounts, host budgets, sockets, signals, systemd notification.
