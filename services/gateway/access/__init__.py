"""Who may call the gateway, for what, and how much: keys, scopes, limits."""
